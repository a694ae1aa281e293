//! One turn while it is under way: its words and its time line. Owned by the session thread.

use super::history::floor_char_boundary;
use crate::metrics::{Bar, StageMark, Timeline, TurnReport, question};
use crate::time::Micros;
use std::borrow::Cow;

/// Starvation events, starved milliseconds and xruns since the session began.
pub type Counters = (u64, f64, u64);

/// What has happened in the open turn.
#[derive(Debug)]
pub struct TurnRecord {
    pub number: u64,
    pub heard: String,
    /// How long the user spoke; `None` for a typed turn.
    seconds: Option<f64>,
    /// The answer as far as it was made.
    pub answer: String,
    /// Bytes of the answer that have been heard.
    pub spoken: usize,
    began: Micros,
    timeline: Timeline,
    before: Counters,
}

impl TurnRecord {
    /// A turn began at `began`, while the counters stood at `before`.
    pub fn new(number: u64, began: Micros, before: Counters) -> Self {
        let timeline = Timeline::new(number);
        let (heard, answer) = (String::new(), String::new());
        TurnRecord { number, heard, seconds: None, answer, spoken: 0, began, timeline, before }
    }

    /// What was understood of the user; replaces what was understood before.
    pub fn hear(&mut self, text: &str) {
        text.trim().clone_into(&mut self.heard);
        self.timeline.heard(&self.heard);
    }

    /// The user spoke until `last_voiced`; returns for how many seconds.
    pub fn spoke_until(&mut self, last_voiced: Option<Micros>) -> Option<f64> {
        self.seconds = last_voiced.map(|end| end.since(self.began).as_secs_f64());
        self.timeline.question(self.seconds?);
        self.seconds
    }

    /// The question as it stays in the history.
    pub fn question_text(&self) -> Cow<'_, str> {
        question(&self.heard, self.seconds)
    }

    /// The user's turn is over, and its last voiced sample was captured at `last_voiced`.
    pub fn ended(&mut self, last_voiced: Micros, now: Micros) {
        self.timeline.last_voiced(last_voiced);
        self.timeline.end_of_turn(now);
    }

    /// More of the answer's text.
    pub fn answer(&mut self, piece: &str) {
        self.answer.push_str(piece);
        self.timeline.answer(piece);
    }

    /// The first audible sample of the answer was handed to the device.
    pub fn first_audible(&mut self, at: Micros) {
        self.timeline.first_audible(at);
    }

    /// The answer was heard up to `bytes`; returns the new position if it grew.
    pub fn spoken(&mut self, bytes: usize) -> Option<usize> {
        let bytes = floor_char_boundary(&self.answer, bytes);
        (bytes > self.spoken).then(|| {
            self.spoken = bytes;
            self.timeline.spoken(bytes);
            bytes
        })
    }

    /// So much sound was made for the answer.
    pub fn speech(&mut self, samples: usize, rate: u32) {
        self.timeline.speech(samples, rate);
    }

    /// A stage did some work.
    pub fn mark(&mut self, mark: StageMark) {
        self.timeline.mark(mark);
    }

    /// The reply never sounded and is made anew: its words go, what was heard of the user stays.
    pub fn retract(&mut self) {
        self.answer.clear();
        self.spoken = 0;
        self.timeline.retract();
    }

    /// The report, when the turn is over and the counters stand at `now`.
    pub fn finish(mut self, cut_off: bool, now: Counters) -> (TurnReport, Vec<Bar>) {
        self.timeline.xruns(now.2 - self.before.2);
        let (mut report, bars) = self.timeline.finish(cut_off);
        report.starvation_events = now.0 - self.before.0;
        report.starvation_ms = now.1 - self.before.1;
        (report, bars)
    }
}
