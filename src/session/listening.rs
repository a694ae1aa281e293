//! When the microphone counts, and for how much: the talk key, hands-free or not, the mute button, half-duplex. Owned by the session
//! thread; pure, time is an argument.

use crate::time::Micros;
use crate::turn::backchannel::Sensitivity;
use std::time::Duration;

/// How long an answer sounds on in devices and room after its last sample was handed over.
const REVERBERATION: Duration = Duration::from_millis(300);

/// What the user chose, and what follows from it.
#[derive(Debug)]
pub struct Listening {
    /// Whether turns are found by listening all the time.
    pub hands_free: bool,
    /// Whether the microphone is off while the answer sounds.
    pub half_duplex: bool,
    /// How easily the user's voice stops an answer.
    pub sensitivity: Sensitivity,
    pub muted: bool,
    /// Whether the talk key is down.
    pub talking: bool,
    sounded: Option<Micros>,
    deaf: bool,
}

impl Listening {
    pub fn new(hands_free: bool) -> Self {
        Listening {
            hands_free,
            half_duplex: false,
            sensitivity: Sensitivity::default(),
            muted: false,
            talking: false,
            sounded: None,
            deaf: false,
        }
    }

    /// Whether what the ear notices begins and ends turns.
    pub fn finds_turns(&self) -> bool {
        self.hands_free && !self.talking
    }

    /// Whether the microphone's sound is to be taken for silence from now on, when that has changed. `sounding`: whether
    /// an answer sounds.
    pub fn deafness(&mut self, sounding: bool, now: Micros) -> Option<bool> {
        if sounding {
            self.sounded = Some(now);
        }
        let reverberates = self.sounded.is_some_and(|at| now.since(at) < REVERBERATION);
        let deaf = self.muted || (self.half_duplex && self.finds_turns() && reverberates);
        (deaf != std::mem::replace(&mut self.deaf, deaf)).then_some(deaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    #[test]
    fn half_duplex_is_deaf_while_the_answer_sounds_and_a_little_longer() {
        let mut l = Listening::new(true);
        l.half_duplex = true;
        assert_eq!(l.deafness(false, at(10_000)), None);
        assert_eq!(l.deafness(true, at(10_010)), Some(true));
        assert_eq!(l.deafness(true, at(12_000)), None);
        assert_eq!(l.deafness(false, at(12_299)), None);
        assert_eq!(l.deafness(false, at(12_300)), Some(false));
        assert_eq!(l.deafness(false, at(12_400)), None);
    }

    #[test]
    fn full_duplex_hears_through_the_answer() {
        let mut l = Listening::new(true);
        assert_eq!(l.deafness(true, at(1)), None);
    }

    #[test]
    fn the_talk_key_is_heard_at_once() {
        let mut l = Listening::new(true);
        l.half_duplex = true;
        assert_eq!(l.deafness(true, at(1000)), Some(true));
        l.talking = true;
        assert!(!l.finds_turns());
        assert_eq!(l.deafness(false, at(1001)), Some(false));
        let mut pushing = Listening::new(false);
        pushing.half_duplex = true;
        assert!(!pushing.finds_turns());
        assert_eq!(
            pushing.deafness(true, at(1000)),
            None,
            "nothing is found by listening, so nothing needs shutting off"
        );
    }

    #[test]
    fn muted_is_deaf_whatever_else() {
        let mut l = Listening::new(false);
        l.muted = true;
        assert_eq!(l.deafness(false, at(1)), Some(true));
        l.talking = true;
        assert_eq!(l.deafness(false, at(2)), None);
        l.muted = false;
        assert_eq!(l.deafness(false, at(3)), Some(false));
    }
}
