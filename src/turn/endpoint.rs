//! Has the user finished? From speech and silence to onset, pause and end of turn. Pure: counts frames, knows no clock.
//!
//! After a short silence the end-of-turn model is asked (Smart-Turn); where it says that the user has not finished, it is
//! asked again at times, and a longest wait, chosen by the user as eagerness, decides in the end. A question asked of a
//! patient model costs 200 ms; one asked of silence alone costs the longest wait.

/// Silence after which one may wonder, in milliseconds. Below this, pauses lie inside words.
const PAUSE_MS: u32 = 200;
/// While the model says no, it is asked again after each of these silences: what it hears grows with the silence.
const ASK_AGAIN_MS: [u32; 3] = [500, 900, 1500];
/// A model that is this sure ends the turn (the threshold of its authors).
const SURE: f32 = 0.5;

/// How long a silence may last before it ends the turn whatever the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongestWait(pub u32);

/// What follows from a frame or an opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Nothing,
    /// Speech began, or went on after a pause.
    Onset,
    /// Silence for long enough to wonder; the model is to be asked.
    Pause,
    /// The silence goes on; the model is to be asked again.
    AskModel,
    /// The turn is over.
    EndOfTurn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has spoken since the last turn.
    Quiet,
    Speaking,
    /// Silence inside a turn; how often the model was asked.
    Paused {
        asked: usize,
    },
}

/// Follows one microphone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    state: State,
    silence_ms: u32,
    longest_wait: LongestWait,
}

impl Endpoint {
    pub fn new(longest_wait: LongestWait) -> Self {
        Endpoint { state: State::Quiet, silence_ms: 0, longest_wait }
    }

    pub fn set_longest_wait(&mut self, longest_wait: LongestWait) {
        self.longest_wait = longest_wait;
    }

    /// Another microphone, or the turn was ended by other means.
    pub fn reset(&mut self) {
        self.state = State::Quiet;
        self.silence_ms = 0;
    }

    /// The next frame of `frame_ms` milliseconds is speech, or is not.
    pub fn step(&mut self, speech: bool, frame_ms: u32) -> Decision {
        if speech {
            self.silence_ms = 0;
            let before = std::mem::replace(&mut self.state, State::Speaking);
            return if before == State::Speaking { Decision::Nothing } else { Decision::Onset };
        }
        self.silence_ms = self.silence_ms.saturating_add(frame_ms);
        match self.state {
            State::Quiet => Decision::Nothing,
            State::Speaking if self.silence_ms >= PAUSE_MS => {
                self.state = State::Paused { asked: 0 };
                Decision::Pause
            }
            State::Speaking => Decision::Nothing,
            State::Paused { .. } if self.silence_ms >= self.longest_wait.0 => self.end(),
            State::Paused { asked } if ASK_AGAIN_MS.get(asked).is_some_and(|ms| self.silence_ms >= *ms) => {
                self.state = State::Paused { asked: asked + 1 };
                Decision::AskModel
            }
            State::Paused { .. } => Decision::Nothing,
        }
    }

    /// The model was asked: how probable it is that the user has finished, 0 to 1.
    pub fn opinion(&mut self, finished: f32) -> Decision {
        match self.state {
            State::Paused { .. } if finished > SURE => self.end(),
            _ => Decision::Nothing,
        }
    }

    fn end(&mut self) -> Decision {
        self.state = State::Quiet;
        Decision::EndOfTurn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays frames of 20 ms (`#` speech, `.` silence) and lists the decisions with their times; the model answers
    /// `finished` whenever it is asked.
    fn decisions(frames: &str, finished: f32) -> Vec<(usize, Decision)> {
        let mut endpoint = Endpoint::new(LongestWait(1800));
        let mut seen = Vec::new();
        for (i, c) in frames.chars().enumerate() {
            let decision = endpoint.step(c == '#', 20);
            let asked = matches!(decision, Decision::Pause | Decision::AskModel);
            let opinion = if asked { endpoint.opinion(finished) } else { Decision::Nothing };
            for d in [decision, opinion] {
                if d != Decision::Nothing {
                    seen.push(((i + 1) * 20, d));
                }
            }
        }
        seen
    }

    fn script(parts: &[(char, usize)]) -> String {
        parts.iter().flat_map(|(c, ms)| std::iter::repeat_n(*c, ms / 20)).collect()
    }

    #[test]
    fn a_finished_question_waits_200_ms() {
        let heard = decisions(&script(&[('.', 400), ('#', 600), ('.', 4000)]), 0.9);
        let wanted = [(420, Decision::Onset), (1200, Decision::Pause), (1200, Decision::EndOfTurn)];
        assert_eq!(heard, wanted);
    }

    #[test]
    fn an_unfinished_sentence_is_asked_about_again_and_ends_at_the_longest_wait() {
        use Decision::{AskModel, EndOfTurn, Onset, Pause};
        let heard = decisions(&script(&[('#', 600), ('.', 4000)]), 0.1);
        let wanted =
            [(20, Onset), (800, Pause), (1100, AskModel), (1500, AskModel), (2100, AskModel), (2400, EndOfTurn)];
        assert_eq!(heard, wanted);
    }

    #[test]
    fn speech_after_a_pause_goes_on_and_short_gaps_are_no_pauses() {
        use Decision::{EndOfTurn, Onset, Pause};
        let frames = script(&[('#', 600), ('.', 180), ('#', 300), ('.', 400), ('#', 200)]);
        assert_eq!(decisions(&frames, 0.1), [(20, Onset), (1280, Pause), (1500, Onset)]);
        let again = decisions(&script(&[('#', 100), ('.', 500), ('#', 100), ('.', 500)]), 0.9);
        let wanted = [(20, Onset), (300, Pause), (300, EndOfTurn), (620, Onset), (900, Pause), (900, EndOfTurn)];
        assert_eq!(again, wanted);
    }
}
