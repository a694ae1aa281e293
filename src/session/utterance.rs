//! What the microphone gave lately, so that a turn can begin a little before its onset. Owned by the session thread.
//!
//! Invariant: from [`Utterance::open`] on, every frame goes to the engine; what `open` returns and those frames are one
//! gapless stretch of sound.

use crate::engine::HEARING_RATE;
use crate::time::Micros;
use std::collections::VecDeque;
use std::time::Duration;

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
    speech_run: u64,
    silence_run: u64,
}

impl Utterance {
    /// Remembers a frame. `end`: when its last sample was captured.
    pub fn hear(&mut self, samples: &[f32], end: Micros, speech: bool) {
        self.recent.extend(samples);
        let surplus = self.recent.len().saturating_sub(KEPT);
        self.recent.drain(..surplus);
        let limit = if self.onset { self.recent.len() } else { PRE_ROLL.min(self.recent.len()) };
        self.owed = (self.owed + samples.len()).min(limit);
        let n = samples.len() as u64;
        if speech {
            self.last_voiced = Some(end);
            self.speech_run += n;
            self.silence_run = 0;
        } else {
            self.silence_run += n;
            if Micros::of_samples(self.silence_run, HEARING_RATE) >= Duration::from_millis(100) {
                self.speech_run = 0;
            }
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

    /// No speech is under way: of what is heard, the next turn begins with no more than the last moment.
    pub fn settle(&mut self) {
        self.onset = false;
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether speech began that is no turn yet.
    pub fn has_begun(&self) -> bool {
        self.onset && !self.open
    }

    /// When the last speech frame ended.
    pub fn last_voiced(&self) -> Option<Micros> {
        self.last_voiced
    }

    /// When the speech that goes on now, or that was heard last, began.
    pub fn speech_began(&self) -> Option<Micros> {
        self.last_voiced.map(|end| end - self.speech_run())
    }

    /// How long there has been speech, gaps under 100 ms aside.
    pub fn speech_run(&self) -> Duration {
        Micros::of_samples(self.speech_run, HEARING_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::state::{Effect, Input, Phase, Turn};
    use proptest::prelude::*;

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

    #[test]
    fn an_onset_that_came_to_nothing_is_forgotten() {
        let mut u = Utterance::default();
        u.onset();
        u.hear(&ramp(0, 20_000), Micros(0), true);
        u.settle();
        u.hear(&ramp(20_000, 30_000), Micros(0), false);
        u.onset();
        assert_eq!(u.open(), ramp(30_000 - 6_400, 30_000));
    }

    /// What the session does with the user's sound for each effect, and what the engine was given of it.
    #[derive(Default)]
    struct Sound {
        utterance: Utterance,
        now: usize,
        /// Where the sound was last let go: earlier sound was given, or was not meant.
        released: usize,
        /// The next sample that the engine must get, while it gets any.
        next: Option<usize>,
        /// The first sample that the turn which begins must have, once there was an onset.
        wanted: Option<usize>,
    }

    impl Sound {
        fn hear(&mut self, samples: usize) {
            let sound = ramp(self.now, self.now + samples);
            self.now += samples;
            self.utterance.hear(&sound, Micros(0), true);
            if self.utterance.is_open() {
                self.give(&sound);
            }
        }

        fn give(&mut self, sound: &[f32]) {
            let next = self.next.expect("only an open turn is given sound");
            assert_eq!(sound.first().copied(), Some(next as f32), "nothing twice, nothing missing");
            self.next = Some(next + sound.len());
        }

        fn open(&mut self) {
            let sound = self.utterance.open();
            let first = sound[0] as usize;
            let wanted = self.wanted.take().expect("a turn begins with an onset");
            assert_eq!(first, wanted, "from shortly before the onset on");
            assert_eq!(first + sound.len(), self.now);
            self.next = Some(first);
            self.give(&sound);
        }

        fn close(&mut self) {
            self.utterance.close();
            (self.next, self.wanted, self.released) = (None, None, self.now);
        }
    }

    proptest! {
        /// In any order of events, the engine gets every sample of a turn once, from 400 ms before its onset on (or from
        /// where the turn before ended), until the turn is over.
        #[test]
        fn no_word_of_the_user_is_lost(events in proptest::collection::vec((0usize..15, 1usize..4_000), 1..150)) {
            let mut turn = Turn::default();
            let mut sound = Sound::default();
            sound.hear(10_000);
            for (pick, samples) in events {
                sound.hear(samples);
                let epoch = turn.epoch();
                let input = [
                    Input::Onset, Input::Pause, Input::EndOfTurn, Input::Typed, Input::Sustained, Input::NotSustained,
                    Input::FirstAudio { epoch }, Input::Played { epoch }, Input::NothingHeard { epoch }, Input::Interrupt,
                    Input::CardLost, Input::CardBack, Input::EngineFailed, Input::Retry, Input::Onset,
                ][pick];
                // The verdict on a sound is given at most a second after its onset.
                let input = if turn.phase() == Phase::Ducked { Input::Sustained } else { input };
                if input == Input::Onset {
                    sound.utterance.onset();
                    sound.wanted.get_or_insert(sound.released.max(sound.now.saturating_sub(PRE_ROLL)));
                }
                for effect in turn.step(input) {
                    match effect {
                        Effect::Begin => sound.open(),
                        Effect::Resume if !sound.utterance.is_open() => sound.open(),
                        Effect::Respond { .. } | Effect::Discard => sound.close(),
                        _ => {}
                    }
                }
                if input == Input::NotSustained {
                    sound.close();
                }
                if !matches!(turn.phase(), Phase::Capturing | Phase::MaybeDone | Phase::Ducked) {
                    sound.utterance.settle();
                    sound.wanted = None;
                }
            }
        }
    }

    #[test]
    fn runs_of_speech_bridge_short_gaps_only() {
        let mut u = Utterance::default();
        u.hear(&[0.0; 1600], Micros(0), true);
        u.hear(&[0.0; 800], Micros(0), false);
        u.hear(&[0.0; 1600], Micros(0), true);
        assert_eq!(u.speech_run(), Duration::from_millis(200));
        u.hear(&[0.0; 1600], Micros(900_000), true);
        assert_eq!(u.speech_began(), Some(Micros(600_000)));
        u.hear(&[0.0; 1600], Micros(0), false);
        assert_eq!(u.speech_run(), Duration::ZERO);
    }
}
