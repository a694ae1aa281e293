//! The sound of the open turn, gathered to be kept. Owned by the session thread; only memory, bounded.

use crate::conversation::Side;
use crate::engine::HEARING_RATE;
use crate::time::Micros;
use jiff::Timestamp;
use std::time::Duration;

/// Nobody listens again to more than this of one side.
const LONGEST_SECONDS: u32 = 600;

/// One side of a turn that is over.
#[derive(Debug)]
pub struct Track {
    /// Mono.
    pub samples: Vec<f32>,
    /// Hertz.
    pub rate: u32,
    /// When its first sample sounded.
    pub at: Timestamp,
    /// How much of it was heard.
    pub heard_seconds: f64,
}

/// The sound of a turn that is over, as far as it is to be kept.
#[derive(Debug, Default)]
pub struct FinishedSound {
    user: Option<Track>,
    assistant: Option<Track>,
}

impl FinishedSound {
    pub fn track(&self, side: Side) -> Option<&Track> {
        match side {
            Side::User => self.user.as_ref(),
            Side::Assistant => self.assistant.as_ref(),
        }
    }
}

/// The sound of the open turn.
#[derive(Debug)]
pub struct TurnSound {
    began: Micros,
    user: Vec<f32>,
    /// When the last of the user's samples was captured.
    user_end: Micros,
    answer: Vec<f32>,
    answer_rate: u32,
    answer_at: Option<Micros>,
}

impl TurnSound {
    /// A turn begins at `now`.
    pub fn new(now: Micros) -> Self {
        TurnSound {
            began: now,
            user: Vec::new(),
            user_end: now,
            answer: Vec::new(),
            answer_rate: HEARING_RATE,
            answer_at: None,
        }
    }

    /// More of the user's speech, as the engine hears it; the last sample was captured at about `now`.
    pub fn hear(&mut self, samples: &[f32], now: Micros) {
        if self.user.len() < (LONGEST_SECONDS * HEARING_RATE) as usize {
            self.user.extend_from_slice(samples);
            self.user_end = now;
        }
    }

    /// More of the answer was made.
    pub fn make(&mut self, samples: &[f32], rate: u32) {
        self.answer_rate = rate;
        if self.answer.len() < LONGEST_SECONDS as usize * rate as usize {
            self.answer.extend_from_slice(samples);
        }
    }

    /// The first audible sample of the answer was handed to the device.
    pub fn first_audible(&mut self, at: Micros) {
        self.answer_at.get_or_insert(at);
    }

    /// The answer never sounded and is made anew.
    pub fn retract(&mut self) {
        self.answer.clear();
        self.answer_at = None;
    }

    /// When the turn began, by the wall clock.
    pub fn began(&self, now: Micros) -> Timestamp {
        wall(self.began.min(self.user_start()), now)
    }

    fn user_start(&self) -> Micros {
        self.user_end - Micros::of_samples(self.user.len() as u64, HEARING_RATE)
    }

    /// The turn is over; what was not heard of an answer that was cut off is told apart.
    pub fn finish(self, cut_off: bool, now: Micros) -> FinishedSound {
        let seconds = |samples: usize, rate: u32| samples as f64 / f64::from(rate.max(1));
        let user_at = wall(self.user_start(), now);
        let user = (!self.user.is_empty()).then(|| Track {
            at: user_at,
            heard_seconds: seconds(self.user.len(), HEARING_RATE),
            samples: self.user,
            rate: HEARING_RATE,
        });
        let assistant = self.answer_at.filter(|_| !self.answer.is_empty()).map(|at| {
            let whole = seconds(self.answer.len(), self.answer_rate);
            let heard = if cut_off { now.since(at).as_secs_f64().min(whole) } else { whole };
            Track { at: wall(at, now), heard_seconds: heard, samples: self.answer, rate: self.answer_rate }
        });
        FinishedSound { user, assistant }
    }
}

/// The wall clock's time of `at`, a little before `now`.
fn wall(at: Micros, now: Micros) -> Timestamp {
    let ago = now.since(at).min(Duration::from_secs(86_400));
    Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn each_side_begins_when_it_sounded_and_a_cut_is_told() {
        let mut sound = TurnSound::new(Micros(10 * SECOND));
        sound.hear(&[0.1; 16_000], Micros(10 * SECOND));
        sound.hear(&[0.1; 8_000], Micros(10 * SECOND + SECOND / 2));
        sound.make(&[0.2; 24_000], 24_000);
        sound.make(&[0.2; 24_000], 24_000);
        sound.first_audible(Micros(12 * SECOND));
        let now = Micros(13 * SECOND + SECOND / 2);
        let finished = sound.finish(true, now);
        let (user, answer) = (finished.track(Side::User).unwrap(), finished.track(Side::Assistant).unwrap());
        assert_eq!((user.samples.len(), user.heard_seconds), (24_000, 1.5));
        assert_eq!((answer.samples.len(), answer.rate, answer.heard_seconds), (48_000, 24_000, 1.5));
        let between = answer.at.duration_since(user.at).as_secs_f64();
        assert!((between - 3.0).abs() < 0.5, "{between}");
    }

    #[test]
    fn a_typed_turn_without_an_answer_has_no_sound() {
        let mut sound = TurnSound::new(Micros(0));
        sound.make(&[0.2; 100], 24_000);
        sound.retract();
        let finished = sound.finish(false, Micros(SECOND));
        assert!(finished.track(Side::User).is_none() && finished.track(Side::Assistant).is_none());
    }
}
