//! What the microphone gave lately, so that a turn can begin a little before its onset. Owned by the session thread.
//!
//! Invariant: from [`Utterance::open`] on, every frame goes to the engine; what `open` returns and those frames are one
//! gapless stretch of sound.

use crate::engine::HEARING_RATE;
use crate::time::Micros;
use std::collections::VecDeque;

/// Sound kept from before an onset: the detector needs a few frames, and soft first consonants come before it.
const PRE_ROLL: usize = HEARING_RATE as usize * 4 / 10;
/// What [`Utterance::lately`] gives.
const LATELY: usize = HEARING_RATE as usize * 192 / 1000;
/// Sound kept in all while no turn is open: enough for the longest wait between an onset and the decision that it was one.
const KEPT: usize = HEARING_RATE as usize * 5;

/// The ear's frames, remembered for a while.
#[derive(Debug, Default)]
pub struct Utterance {
    recent: VecDeque<f32>,
    /// Samples at the end of `recent` that the next turn begins with.
    owed: usize,
    open: bool,
    onset: bool,
    last_voiced: Option<Micros>,
}

impl Utterance {
    /// Remembers a frame. `end`: when its last sample was captured.
    pub fn hear(&mut self, samples: &[f32], end: Micros, speech: bool) {
        self.recent.extend(samples);
        let surplus = self.recent.len().saturating_sub(KEPT);
        self.recent.drain(..surplus);
        let limit = if self.onset { self.recent.len() } else { PRE_ROLL.min(self.recent.len()) };
        self.owed = (self.owed + samples.len()).min(limit);
        if speech {
            self.last_voiced = Some(end);
        }
    }

    /// The last moment heard (192 ms): first consonants come before an onset.
    pub fn lately(&self) -> Vec<f32> {
        let from = self.recent.len().saturating_sub(LATELY);
        self.recent.range(from..).copied().collect()
    }

    /// Speech began: everything from shortly before now is owed to the next turn.
    pub fn onset(&mut self) {
        self.onset = true;
    }

    /// The talk key went down: what came before it was not meant for the assistant, except the last moment of it.
    pub fn press(&mut self) {
        self.onset = true;
        self.last_voiced = None;
    }

    /// The turn begins or goes on: the owed sound, to be followed by every further frame.
    pub fn open(&mut self) -> Vec<f32> {
        self.open = true;
        let from = self.recent.len() - self.owed.min(self.recent.len());
        self.recent.range(from..).copied().collect()
    }

    /// The turn is over: what follows is owed to the next.
    pub fn close(&mut self) {
        self.open = false;
        self.onset = false;
        self.owed = 0;
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When the last speech frame ended.
    pub fn last_voiced(&self) -> Option<Micros> {
        self.last_voiced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(from: usize, to: usize) -> Vec<f32> {
        (from..to).map(|i| i as f32).collect()
    }

    #[test]
    fn a_turn_begins_400_ms_before_its_onset_and_has_no_gap() {
        let mut u = Utterance::default();
        u.hear(&ramp(0, 20_000), Micros(0), false);
        u.onset();
        u.hear(&ramp(20_000, 21_000), Micros(0), true);
        assert_eq!(u.open(), ramp(20_000 - 6_400, 21_000));
    }

    #[test]
    fn nothing_said_after_the_end_of_turn_is_lost_when_the_turn_goes_on() {
        let mut u = Utterance::default();
        u.onset();
        u.hear(&ramp(0, 8_000), Micros(0), true);
        u.open();
        u.close();
        u.hear(&ramp(8_000, 10_000), Micros(0), false);
        u.onset();
        u.hear(&ramp(10_000, 12_000), Micros(0), true);
        assert_eq!(u.open(), ramp(8_000, 12_000));
    }

    #[test]
    fn what_is_let_go_is_no_part_of_the_next_turn() {
        let mut u = Utterance::default();
        u.onset();
        u.hear(&ramp(0, 20_000), Micros(0), true);
        assert_eq!(u.lately(), ramp(20_000 - 3_072, 20_000));
        u.close();
        u.hear(&ramp(20_000, 30_000), Micros(0), false);
        u.onset();
        assert_eq!(u.open(), ramp(30_000 - 6_400, 30_000));
    }
}
