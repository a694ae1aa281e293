//! Collects what happened in one turn, and makes the report and the waterfall of it.
//!
//! Owned by the session thread, one per turn. Knows no clock: every time is an argument.

use super::{Stage, StageMark, StageReport, TurnReport};
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// A stretch of time in which a stage was at work, for the waterfall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub stage: Stage,
    /// Milliseconds since the last voiced sample, as in [`TurnReport`].
    pub start_ms: f64,
    pub end_ms: f64,
}

/// More bars than this in one row cannot be told apart.
const BARS_PER_STAGE: usize = 48;
/// Pauses shorter than this are not seen in a waterfall of seconds.
const INVISIBLE_MS: f64 = 2.0;

/// One turn in the making.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    report: TurnReport,
    marks: Vec<StageMark>,
    last_voiced: Option<Micros>,
    end_of_turn: Option<Micros>,
    first_audible: Option<Micros>,
}

impl Timeline {
    /// The turn with this number (from 1) begins.
    pub fn new(turn: u64) -> Self {
        Timeline { report: TurnReport { turn, ..TurnReport::default() }, ..Timeline::default() }
    }

    pub fn mark(&mut self, mark: StageMark) {
        self.marks.push(mark);
    }

    /// When the last voiced sample of the user was captured, or the typed turn was sent: the zero of all times. Later
    /// calls replace earlier ones; without any, the end of the turn is the zero.
    pub fn last_voiced(&mut self, at: Micros) {
        self.last_voiced = Some(at);
    }

    /// When the turn was taken for ended.
    pub fn end_of_turn(&mut self, at: Micros) {
        self.end_of_turn = Some(at);
    }

    /// When the first audible sample of the answer was handed to the device. Only the first call counts.
    pub fn first_audible(&mut self, at: Micros) {
        self.first_audible.get_or_insert(at);
    }

    /// What was heard so far; replaces.
    pub fn heard(&mut self, text: &str) {
        text.clone_into(&mut self.report.heard);
    }

    /// How long the user spoke; replaces.
    pub fn question(&mut self, seconds: f64) {
        self.report.question_seconds = Some(seconds);
    }

    /// More of the answer's text.
    pub fn answer(&mut self, piece: &str) {
        self.report.answer.push_str(piece);
    }

    /// So many bytes of the answer have been heard.
    pub fn spoken(&mut self, bytes: usize) {
        self.report.spoken_bytes = self.report.spoken_bytes.max(bytes);
    }

    /// More sound of the answer was made.
    pub fn speech(&mut self, samples: usize, rate: u32) {
        self.report.speech_seconds += samples as f64 / f64::from(rate.max(1));
    }

    /// The answer stalled, for so long.
    pub fn starved(&mut self, ms: f64) {
        self.report.starvation_events += 1;
        self.report.starvation_ms += ms;
    }

    pub fn xruns(&mut self, count: u64) {
        self.report.xruns += count;
    }

    /// The reply was dropped before it sounded, and the user goes on with the same turn. The marks stay: the work was
    /// done.
    pub fn retract(&mut self) {
        self.report.answer.clear();
        self.report.spoken_bytes = 0;
        self.report.speech_seconds = 0.0;
        self.end_of_turn = None;
        self.first_audible = None;
    }

    /// The turn is over.
    pub fn finish(mut self, cut_off: bool) -> (TurnReport, Vec<Bar>) {
        let first_mark = self.marks.iter().map(|mark| mark.start).min();
        let zero = self.last_voiced.or(self.end_of_turn).or(first_mark).unwrap_or_default();
        self.marks.sort_by_key(|mark| (mark.stage, mark.start));
        let mut report = self.report;
        report.cut_off = cut_off;
        report.end_of_turn_ms = self.end_of_turn.map(|at| at.ms_since(zero));
        report.ttfa_ms = self.first_audible.map(|at| at.ms_since(zero));
        report.ttfa_compute_ms = report.ttfa_ms.map(|ttfa| ttfa - report.end_of_turn_ms.unwrap_or(0.0));
        if report.speech_seconds > 0.0 {
            report.rtf = Some(making_ms(&self.marks, zero) / 1000.0 / report.speech_seconds);
        }
        let mut bars = Vec::new();
        for marks in self.marks.chunk_by(|a, b| a.stage == b.stage) {
            report.stages.push(summary(marks, zero));
            bars.extend(stage_bars(marks, zero));
        }
        (report, bars)
    }
}

/// The work that makes an answer's sound, as against the work that hears the user or waits for the device.
fn makes_the_answer(stage: Stage) -> bool {
    use Stage::{LlmDecode, LlmPrefill, Seam, TtsDecode, TtsPrefill, Vocoder};
    matches!(stage, LlmPrefill | LlmDecode | TtsPrefill | TtsDecode | Vocoder | Seam)
}

/// Milliseconds after `zero` in which at least one stage worked on the answer. Stages side by side count once; waiting
/// for the listener does not count, nor what was done while the user still spoke.
fn making_ms(marks: &[StageMark], zero: Micros) -> f64 {
    let mut spans: Vec<(Micros, Micros)> = marks
        .iter()
        .filter(|mark| makes_the_answer(mark.stage) && mark.end > zero)
        .map(|mark| (mark.start.max(zero), mark.end))
        .collect();
    spans.sort();
    let mut covered_to = zero;
    let mut busy = 0.0;
    for (start, end) in spans {
        if end > covered_to {
            busy += end.ms_since(start.max(covered_to));
            covered_to = end;
        }
    }
    busy
}

/// `marks`: all of one stage, at least one, by start.
fn summary(marks: &[StageMark], zero: Micros) -> StageReport {
    let last_end = marks.iter().map(|mark| mark.end).max().unwrap_or_default();
    StageReport {
        stage: marks[0].stage,
        total_ms: marks.iter().map(StageMark::ms).sum(),
        count: marks.len() as u64,
        units: marks.iter().map(|mark| u64::from(mark.units)).sum(),
        first_start_ms: marks[0].start.ms_since(zero),
        last_end_ms: last_end.ms_since(zero),
    }
}

/// The marks of one stage, those that touch or nearly touch made one.
fn stage_bars(marks: &[StageMark], zero: Micros) -> Vec<Bar> {
    let mut gap = INVISIBLE_MS;
    loop {
        let mut bars: Vec<Bar> = Vec::new();
        for mark in marks {
            let (start_ms, end_ms) = (mark.start.ms_since(zero), mark.end.ms_since(zero));
            match bars.last_mut() {
                Some(bar) if start_ms - bar.end_ms <= gap => bar.end_ms = bar.end_ms.max(end_ms),
                _ => bars.push(Bar { stage: mark.stage, start_ms, end_ms }),
            }
        }
        if bars.len() <= BARS_PER_STAGE {
            return bars;
        }
        gap *= 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: u64 = 5_000_000;

    fn mark(stage: Stage, start_ms: i64, end_ms: i64, units: u32) -> StageMark {
        let at = |ms: i64| Micros(ZERO.saturating_add_signed(ms * 1000));
        StageMark { epoch: 1, stage, start: at(start_ms), end: at(end_ms), units }
    }

    fn a_turn() -> Timeline {
        let mut turn = Timeline::new(3);
        turn.mark(mark(Stage::LlmPrefill, -100, 50, 40));
        turn.mark(mark(Stage::LlmDecode, 400, 500, 10));
        turn.mark(mark(Stage::TtsDecode, 450, 650, 5));
        turn.mark(mark(Stage::LlmDecode, 501, 600, 9));
        turn.mark(mark(Stage::TtsDecode, 2000, 2100, 5));
        turn.mark(mark(Stage::Stt, 0, 300, 1));
        turn.last_voiced(Micros(ZERO));
        turn.end_of_turn(Micros(ZERO + 350_000));
        turn.first_audible(Micros(ZERO + 700_000));
        turn.first_audible(Micros(ZERO + 900_000));
        turn.heard("what is it");
        turn.answer("It is ");
        turn.answer("so.");
        turn.spoken(9);
        turn.spoken(4);
        turn.speech(36_000, 24_000);
        turn.starved(12.5);
        turn
    }

    #[test]
    fn a_report_has_times_since_the_last_voiced_sample() {
        let (report, _) = a_turn().finish(true);
        assert_eq!((report.turn, report.heard.as_str(), report.answer.as_str()), (3, "what is it", "It is so."));
        assert_eq!((report.spoken_bytes, report.cut_off), (9, true));
        assert_eq!(report.end_of_turn_ms, Some(350.0));
        assert_eq!((report.ttfa_ms, report.ttfa_compute_ms), (Some(700.0), Some(350.0)));
        assert_eq!((report.starvation_events, report.starvation_ms), (1, 12.5));
        // At work on the answer: 0..50 of the prefill, 400..650 decoding side by side, 2000..2100: 400 ms for 1.5 s.
        assert!((report.rtf.unwrap() - 0.4 / 1.5).abs() < 1e-9, "{:?}", report.rtf);
        let names: Vec<_> = report.stages.iter().map(|stage| stage.stage.name()).collect();
        assert_eq!(names, ["stt", "llm_prefill", "llm_decode", "tts_decode"]);
        let decode = &report.stages[2];
        assert_eq!((decode.total_ms, decode.count, decode.units), (199.0, 2, 19));
        assert_eq!((decode.first_start_ms, decode.last_end_ms), (400.0, 600.0));
        assert_eq!(report.stages[1].first_start_ms, -100.0);
    }

    #[test]
    fn bars_join_what_touches_and_keep_what_is_apart() {
        let (_, bars) = a_turn().finish(false);
        let of =
            |stage| bars.iter().filter(|bar| bar.stage == stage).map(|b| (b.start_ms, b.end_ms)).collect::<Vec<_>>();
        assert_eq!(of(Stage::LlmDecode), [(400.0, 600.0)]);
        assert_eq!(of(Stage::TtsDecode), [(450.0, 650.0), (2000.0, 2100.0)]);
    }

    #[test]
    fn a_stage_with_very_many_pieces_still_has_few_bars() {
        let mut turn = Timeline::new(1);
        for i in 0..10_000 {
            turn.mark(mark(Stage::TtsDecode, i * 10, i * 10 + 4, 1));
        }
        turn.last_voiced(Micros(ZERO));
        let (report, bars) = turn.finish(false);
        assert!(bars.len() <= BARS_PER_STAGE);
        assert_eq!(report.stages[0].count, 10_000);
        assert_eq!((bars[0].start_ms, bars[bars.len() - 1].end_ms), (0.0, 99_994.0));
    }

    #[test]
    fn a_retracted_reply_leaves_only_its_work() {
        let mut turn = a_turn();
        turn.retract();
        let (report, _) = turn.finish(false);
        assert_eq!((report.answer.as_str(), report.spoken_bytes, report.rtf), ("", 0, None));
        assert_eq!((report.ttfa_ms, report.ttfa_compute_ms, report.end_of_turn_ms), (None, None, None));
        assert_eq!(report.stages.len(), 4);
    }

    #[test]
    fn an_empty_turn_has_an_empty_report() {
        let (report, bars) = Timeline::new(1).finish(false);
        assert_eq!(report, TurnReport { turn: 1, ..TurnReport::default() });
        assert!(bars.is_empty());
    }
}
