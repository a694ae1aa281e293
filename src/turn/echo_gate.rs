//! How loud the microphone's sound must be to count as somebody, while the assistant itself is sounding.
//!
//! The canceller leaves a rest of the echo, more when it has just begun or when something in the room has moved. The
//! gate learns how loud that rest is compared with what was played, and holds back whatever is not clearly louder. Pure;
//! owned by the ear. Time is counted in frames of 16 ms.

use crate::dsp::level::SILENCE_DB;
use std::collections::VecDeque;

/// Frames over which an echo may be spread: 400 ms of devices and room.
const SPREAD: usize = 25;
/// A loudspeaker quieter than this, in dBFS, leaves no echo worth a thought.
const UNHEARD_DB: f32 = -65.0;
/// What is taken for the rest of the echo before anything was learned, in dB above the loudspeaker: a canceller takes
/// out as much at once, of an echo as loud as the loudspeaker itself.
const AT_FIRST_DB: f32 = -20.0;
/// The rest is never believed to be quieter than this, for what is to come.
const LEAST_DB: f32 = -45.0;
/// How much louder than the rest of the echo somebody is, in dB.
const MARGIN_DB: f32 = 6.0;
/// How fast less is learned, and more: dB per frame (10 dB, and 6 dB, a second). What seems to be more may be somebody.
const FALL: f32 = 0.16;
const RISE: f32 = 0.1;

/// The gate of one microphone and one loudspeaker.
#[derive(Clone, Debug)]
pub struct EchoGate {
    /// Levels of the last frames of the loudspeaker, in dBFS.
    far: VecDeque<f32>,
    /// What is left of the echo, in dB above the loudspeaker.
    rest_db: f32,
}

impl Default for EchoGate {
    fn default() -> Self {
        EchoGate { far: VecDeque::with_capacity(SPREAD + 1), rest_db: AT_FIRST_DB }
    }
}

impl EchoGate {
    /// Whether a frame whose level is `clean_db` after the canceller may be somebody, when the loudspeaker played at
    /// `far_db` meanwhile. Both in dBFS.
    pub fn lets_through(&mut self, far_db: f32, clean_db: f32) -> bool {
        if self.far.len() == SPREAD {
            self.far.pop_front();
        }
        self.far.push_back(far_db);
        let loudest = self.far.iter().copied().fold(SILENCE_DB, f32::max);
        if loudest < UNHEARD_DB {
            return true;
        }
        let left = (clean_db - loudest).max(LEAST_DB);
        let lets = left > self.rest_db + MARGIN_DB;
        self.rest_db += (left - self.rest_db).clamp(-FALL, RISE);
        lets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(gate: &mut EchoGate, frames: usize, far_db: f32, clean_db: f32) -> usize {
        (0..frames).filter(|_| gate.lets_through(far_db, clean_db)).count()
    }

    #[test]
    fn a_silent_loudspeaker_holds_nothing_back() {
        let mut gate = EchoGate::default();
        assert_eq!(run(&mut gate, 100, -120.0, -60.0), 100);
        assert_eq!(run(&mut gate, 100, -70.0, -60.0), 100);
    }

    #[test]
    fn what_is_left_of_an_echo_is_held_back_and_somebody_is_not() {
        let mut gate = EchoGate::default();
        // The canceller has just begun, and leaves 18 dB less than was played.
        assert_eq!(run(&mut gate, 20, -20.0, -38.0), 0);
        // Somebody speaks as loudly as the loudspeaker is, from the first second on.
        assert_eq!(run(&mut gate, 20, -20.0, -22.0), 20);
        // After some seconds the canceller leaves 40 dB less, and a whisper is enough.
        assert_eq!(run(&mut gate, 300, -20.0, -60.0), 0);
        assert_eq!(run(&mut gate, 10, -20.0, -45.0), 10);
    }

    #[test]
    fn the_echo_of_a_pause_is_still_echo() {
        let mut gate = EchoGate::default();
        run(&mut gate, 100, -20.0, -45.0);
        // The loudspeaker has fallen silent; the room sounds on for 400 ms.
        assert_eq!(run(&mut gate, SPREAD - 1, -120.0, -45.0), 0);
        assert_eq!(run(&mut gate, 10, -120.0, -45.0), 10);
    }

    #[test]
    fn a_room_that_has_changed_is_learned_anew() {
        let mut gate = EchoGate::default();
        run(&mut gate, 500, -20.0, -65.0);
        let passed = run(&mut gate, 1000, -20.0, -30.0);
        assert!(passed < 400, "{passed} frames of a louder echo passed");
        assert_eq!(run(&mut gate, 10, -20.0, -30.0), 0);
    }
}
