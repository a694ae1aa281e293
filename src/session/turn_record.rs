//! One turn while it is under way: its words and its time line. Owned by the session thread.

use super::history::floor_char_boundary;
use crate::metrics::{Bar, StageMark, Timeline, TurnReport};
use crate::time::Micros;

/// Starvation events, starved milliseconds and xruns since the session began.
pub type Counters = (u64, f64, u64);

/// What has happened in the open turn.
#[derive(Debug)]
pub struct TurnRecord {
    pub number: u64,
    pub heard: String,
    /// The answer as far as it was made.
    pub answer: String,
    /// Bytes of the answer that have been heard.
    pub spoken: usize,
    timeline: Timeline,
    before: Counters,
}

impl TurnRecord {
    /// A turn begins while the counters stand at `before`.
    pub fn new(number: u64, before: Counters) -> Self {
        let timeline = Timeline::new(number);
        TurnRecord { number, heard: String::new(), answer: String::new(), spoken: 0, timeline, before }
    }

    /// What was understood of the user; replaces what was understood before.
    pub fn hear(&mut self, text: &str) {
        text.trim().clone_into(&mut self.heard);
        self.timeline.heard(&self.heard);
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
