//! When a pause is the end of a turn. Pure arithmetic on the length of the silence and the end-of-turn model's
//! opinion; used by the ear thread for every frame of silence.

use serde::{Deserialize, Serialize};

/// How soon the assistant takes its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eagerness {
    /// Lets the user think.
    Low,
    #[default]
    Medium,
    /// Answers at the first chance.
    High,
}

/// What to do about a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too early to say.
    Wait,
    /// Ask the end-of-turn model now, and come again with its answer.
    AskModel,
    /// The user's turn is over.
    EndOfTurn,
}

/// The end-of-turn model's last answer within this silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinion {
    /// How long the silence was when the model was asked, in milliseconds.
    pub asked_at_ms: u32,
    /// The probability that the turn is complete.
    pub complete: f32,
}

/// The model is asked when the silence has lasted this long, and again at each later point while it says no. It was
/// trained on pauses of 200 ms.
const ASK_AT_MS: [u32; 5] = [200, 400, 700, 1_100, 1_600];

impl Eagerness {
    /// The silence, in milliseconds, that ends a turn whatever the model says.
    pub const fn longest_wait_ms(self) -> u32 {
        match self {
            Eagerness::Low => 4_000,
            Eagerness::Medium => 2_000,
            Eagerness::High => 1_200,
        }
    }

    /// The silence, in milliseconds, that ends a turn when there is no model to ask.
    pub const fn wait_without_model_ms(self) -> u32 {
        match self {
            Eagerness::Low => 1_200,
            Eagerness::Medium => 800,
            Eagerness::High => 500,
        }
    }

    /// The model's probability from which the turn is taken to be complete; its own threshold is 0.5.
    const fn sure_enough(self) -> f32 {
        match self {
            Eagerness::Low => 0.7,
            Eagerness::Medium => 0.5,
            Eagerness::High => 0.35,
        }
    }
}

/// What to do when the user has been silent for `silence_ms`. `last` is the model's last answer since the user last
/// spoke: forget it when speech comes.
pub fn decide(eagerness: Eagerness, silence_ms: u32, last: Option<Opinion>) -> Verdict {
    if silence_ms >= eagerness.longest_wait_ms() {
        return Verdict::EndOfTurn;
    }
    let asked_at = match last {
        Some(opinion) if opinion.complete > eagerness.sure_enough() => return Verdict::EndOfTurn,
        Some(opinion) => opinion.asked_at_ms,
        None => 0,
    };
    match ASK_AT_MS.into_iter().find(|&at| at > asked_at) {
        Some(next) if silence_ms >= next => Verdict::AskModel,
        _ => Verdict::Wait,
    }
}

/// As [`decide`], when there is no end-of-turn model.
pub fn decide_by_silence(eagerness: Eagerness, silence_ms: u32) -> Verdict {
    if silence_ms >= eagerness.wait_without_model_ms() { Verdict::EndOfTurn } else { Verdict::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lives through a silence in frames of 16 ms; gives when the model was asked and when the turn ended.
    fn live(eagerness: Eagerness, model: impl Fn(u32) -> f32) -> (Vec<u32>, u32) {
        let (mut asked, mut last) = (Vec::new(), None);
        for silence_ms in (0..10_000).step_by(16) {
            let mut verdict = decide(eagerness, silence_ms, last);
            if verdict == Verdict::AskModel {
                asked.push(silence_ms);
                last = Some(Opinion { asked_at_ms: silence_ms, complete: model(silence_ms) });
                verdict = decide(eagerness, silence_ms, last);
                assert_ne!(verdict, Verdict::AskModel, "asked twice at {silence_ms} ms");
            }
            if verdict == Verdict::EndOfTurn {
                return (asked, silence_ms);
            }
        }
        unreachable!("a turn always ends");
    }

    #[test]
    fn a_complete_turn_ends_at_the_first_question() {
        for eagerness in [Eagerness::Low, Eagerness::Medium, Eagerness::High] {
            assert_eq!(live(eagerness, |_| 0.95), (vec![208], 208));
        }
    }

    #[test]
    fn an_incomplete_turn_waits_its_time_and_asks_a_few_times() {
        assert_eq!(live(Eagerness::Medium, |_| 0.1), (vec![208, 400, 704, 1104, 1600], 2000));
        assert_eq!(live(Eagerness::High, |_| 0.1), (vec![208, 400, 704, 1104], 1200));
        assert_eq!(live(Eagerness::Low, |_| 0.1).1, 4000);
    }

    #[test]
    fn the_model_may_change_its_mind() {
        assert_eq!(live(Eagerness::Medium, |ms| if ms < 600 { 0.2 } else { 0.8 }), (vec![208, 400, 704], 704));
    }

    #[test]
    fn eagerness_moves_the_threshold() {
        let at_200 = |e, complete| decide(e, 200, Some(Opinion { asked_at_ms: 200, complete }));
        assert_eq!(at_200(Eagerness::High, 0.4), Verdict::EndOfTurn);
        assert_eq!(at_200(Eagerness::Medium, 0.4), Verdict::Wait);
        assert_eq!(at_200(Eagerness::Medium, 0.6), Verdict::EndOfTurn);
        assert_eq!(at_200(Eagerness::Low, 0.6), Verdict::Wait);
    }

    #[test]
    fn a_late_answer_is_not_asked_for_again_at_once() {
        // The ear was busy: the first question comes at 900 ms, so the next is due at 1100, not at 400.
        let late = Some(Opinion { asked_at_ms: 900, complete: 0.1 });
        assert_eq!(decide(Eagerness::Medium, 916, late), Verdict::Wait);
        assert_eq!(decide(Eagerness::Medium, 1_100, late), Verdict::AskModel);
    }

    #[test]
    fn without_a_model_silence_decides() {
        assert_eq!(decide_by_silence(Eagerness::Medium, 799), Verdict::Wait);
        assert_eq!(decide_by_silence(Eagerness::Medium, 800), Verdict::EndOfTurn);
    }
}
