//! How loud the echo of the loudspeaker can be at most, told from levels alone.
//!
//! A canceller takes whatever it does not know yet for echo, and takes it away: over headphones, whose sound the microphone
//! does not hear, that is the user's words. The level of the microphone's own sound tells more: where the loudspeaker was
//! loud and the microphone stayed quiet for as long as an echo could need, no echo is louder than that. What is clearly
//! louder than the loudest possible echo is somebody. Pure; owned by the ear, beside the [gate](super::echo_gate). Time is
//! counted in frames of 16 ms, levels are in dBFS.

use crate::dsp::level::SILENCE_DB;
use std::collections::VecDeque;

/// Frames over which an echo may be spread: 400 ms of devices and room.
const SPREAD: usize = 25;
/// A loudspeaker softer than this leaves no echo worth a thought.
const UNHEARD_DB: f32 = -65.0;
/// A loudspeaker softer than this says nothing about its echo.
const TELLING_DB: f32 = -45.0;
/// What is believed before anything was learned, in dB above the loudspeaker: it stands beside the microphone, and both
/// are turned up.
const AT_FIRST_DB: f32 = 12.0;
/// How fast the bound falls to what is seen, in dB per frame: after half a second of the loudspeaker's sound it is
/// believed, and a device that only begins to sound a little late has not misled it.
const FALL: f32 = 2.0;
/// How fast it rises again, in dB per frame (3 dB a second): the loudspeaker may be turned up.
const RISE: f32 = 0.05;
/// Below this, in dB above the loudspeaker, there is no echo to speak of.
const NONE_DB: f32 = -45.0;
/// How much louder than the bound an echo can be, in dB, when it has more ways than one, or is cut by the frames in
/// another place.
const MARGIN_DB: f32 = 6.0;
/// So many dB above the loudest possible echo, a sound is understood better with that echo than without it.
const CLEAR_DB: f32 = 12.0;
/// For so many frames (128 ms) after it was clear, it is still left alone: words have soft ends.
const HOLD: usize = 8;
/// When a linear filter takes so many dB out of a frame, the loudspeaker explains it: no such filter takes out the words
/// of somebody else.
const EXPLAINED_DB: f32 = 6.0;

/// What a frame of the microphone can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possible {
    /// It is louder than any echo: somebody, whatever cancelling leaves of it.
    pub somebody: bool,
    /// It is best left as it came: there is no echo to speak of, or it is much louder than that.
    pub as_it_came: bool,
}

/// The way from one loudspeaker to one microphone.
#[derive(Clone, Debug)]
pub struct EchoPath {
    /// Levels of the last frames, the newest last.
    far: VecDeque<f32>,
    near: VecDeque<f32>,
    /// The loudest that an echo can be, in dB above the loudspeaker.
    bound_db: f32,
    /// Frames for which the sound still counts as clear.
    clear: usize,
}

impl Default for EchoPath {
    fn default() -> Self {
        let levels = || VecDeque::with_capacity(SPREAD);
        EchoPath { far: levels(), near: levels(), bound_db: AT_FIRST_DB, clear: 0 }
    }
}

impl EchoPath {
    /// The microphone heard a frame at `near_db`, nothing taken from it yet, while the loudspeaker played at `far_db`.
    pub fn hear(&mut self, far_db: f32, near_db: f32) -> Possible {
        for (levels, level) in [(&mut self.far, far_db), (&mut self.near, near_db)] {
            if levels.len() == SPREAD {
                levels.pop_front();
            }
            levels.push_back(level);
        }
        // Whenever the echo of the oldest frame came, it was no louder than the loudest since.
        if self.far.len() == SPREAD && self.far[0] > TELLING_DB {
            let most = loudest(&self.near) - self.far[0];
            self.bound_db = if most < self.bound_db {
                most.max(self.bound_db - FALL)
            } else {
                (self.bound_db + RISE).min(AT_FIRST_DB)
            };
        }
        let (far_db, none) = (loudest(&self.far), self.bound_db < NONE_DB);
        if far_db < UNHEARD_DB {
            self.clear = 0;
            return Possible { somebody: true, as_it_came: none };
        }
        let above = near_db - (far_db + self.bound_db);
        self.clear = if above > CLEAR_DB { HOLD } else { self.clear.saturating_sub(1) };
        Possible { somebody: above > MARGIN_DB, as_it_came: none || self.clear > 0 }
    }

    /// A linear filter took `explained_db` out of the frame that was heard last. If that is much, the frame was an echo,
    /// and the bound has been too low: another loudspeaker sounds at the same device, or it was turned up.
    pub fn explained(&mut self, explained_db: f32) {
        let loudest = loudest(&self.far);
        if let Some(near_db) = self.near.back()
            && explained_db > EXPLAINED_DB
            && loudest > TELLING_DB
        {
            self.bound_db = self.bound_db.max(near_db - loudest).min(AT_FIRST_DB);
            self.clear = 0;
        }
    }
}

fn loudest(levels: &VecDeque<f32>) -> f32 {
    levels.iter().copied().fold(SILENCE_DB, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many frames: how many were somebody, and how many were left as they came.
    fn run(path: &mut EchoPath, frames: usize, far_db: f32, near_db: f32) -> (usize, usize) {
        let heard: Vec<Possible> = (0..frames).map(|_| path.hear(far_db, near_db)).collect();
        (heard.iter().filter(|p| p.somebody).count(), heard.iter().filter(|p| p.as_it_came).count())
    }

    #[test]
    fn an_echo_is_nobody_however_loud() {
        for echo_db in [10.0, 0.0, -6.0, -20.0, -40.0] {
            let mut path = EchoPath::default();
            assert_eq!(run(&mut path, 500, -20.0, -20.0 + echo_db), (0, 0), "{echo_db} dB");
            // The loudspeaker falls silent; the room sounds on for 400 ms.
            assert_eq!(run(&mut path, SPREAD - 1, -120.0, -20.0 + echo_db), (0, 0), "{echo_db} dB, afterwards");
            // And somebody who is 15 dB louder than the echo is heard.
            run(&mut path, 50, -20.0, -20.0 + echo_db);
            assert_eq!(run(&mut path, 10, -20.0, -5.0 + echo_db), (10, 10), "{echo_db} dB, somebody else");
        }
    }

    #[test]
    fn headphones_are_noticed_within_a_second() {
        let mut path = EchoPath::default();
        // A microphone with noise at -70 dBFS, which does not hear the loudspeaker.
        assert_eq!(run(&mut path, 25, -20.0, -70.0), (0, 0), "nothing is known yet");
        let (_, left_alone) = run(&mut path, 37, -20.0, -70.0);
        assert!(left_alone > 0, "after a second there is no echo to speak of");
        assert_eq!(run(&mut path, 20, -20.0, -50.0), (20, 20), "a soft voice, as it came");
    }

    #[test]
    fn a_voice_that_was_there_first_teaches_nothing() {
        let mut path = EchoPath::default();
        // Somebody talks on while the loudspeaker begins: that may as well be an echo.
        assert_eq!(run(&mut path, 200, -20.0, -18.0), (0, 0));
        // A pause for breath, and it is clear that it was not.
        run(&mut path, 60, -20.0, -65.0);
        assert_eq!(run(&mut path, 20, -20.0, -18.0), (20, 20));
    }

    #[test]
    fn an_echo_that_a_filter_explains_is_believed_at_once() {
        let mut path = EchoPath::default();
        run(&mut path, 200, -20.0, -90.0);
        // The headphones are pulled out of their socket: the loudspeaker sounds at the same device.
        assert!(path.hear(-20.0, -32.0).somebody, "nobody can know yet");
        path.explained(2.0);
        assert!(path.hear(-20.0, -32.0).somebody, "2 dB explain nothing");
        path.explained(10.0);
        assert_eq!(run(&mut path, 100, -20.0, -32.0), (0, 0));
    }

    #[test]
    fn a_silent_loudspeaker_teaches_nothing_and_hides_nobody() {
        let mut path = EchoPath::default();
        assert_eq!(run(&mut path, 100, -120.0, -60.0), (100, 0));
        assert_eq!(run(&mut path, 10, -20.0, -20.0), (0, 0), "the bound is where it was at first");
    }
}
