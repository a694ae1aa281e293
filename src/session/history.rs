//! What was said in this conversation. Owned by the session thread.
//!
//! Invariant: an answer stands here as far as it was heard, not as far as it was made.

use crate::engine::PastTurn;
use serde::{Deserialize, Serialize};

/// What another engine, or the same one opened anew, is told of the past: so many turns and bytes at most, because all of
/// it is computed again before the next answer.
const RECALLED_TURNS: usize = 12;
const RECALLED_BYTES: usize = 4000;
/// Stands for words that were spoken to an engine that writes nothing down.
const UNWRITTEN: &str = "…";

/// One turn, as it stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Counts from 1.
    pub turn: u64,
    /// What the user said, as understood.
    pub heard: String,
    /// What the user heard of the answer.
    pub answer: String,
    /// Whether the answer was broken off.
    pub cut_off: bool,
}

/// The turns so far, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    exchanges: Vec<Exchange>,
}

impl History {
    pub fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// Adds a turn whose answer was heard up to `spoken_bytes`.
    pub fn add(&mut self, turn: u64, heard: &str, answer: &str, spoken_bytes: usize, cut_off: bool) {
        let answer = if cut_off { &answer[..floor_char_boundary(answer, spoken_bytes)] } else { answer };
        let exchange = Exchange { turn, heard: heard.to_owned(), answer: answer.trim().to_owned(), cut_off };
        self.exchanges.push(exchange);
    }

    /// The newest turns as an engine is told them, oldest first.
    pub fn past(&self) -> Vec<PastTurn> {
        let mut bytes = 0;
        let told = |exchange: &Exchange| PastTurn {
            user: if exchange.heard.is_empty() { UNWRITTEN.to_owned() } else { exchange.heard.clone() },
            answer: exchange.answer.clone(),
            cut_off: exchange.cut_off,
        };
        let newest = self.exchanges.iter().rev().filter(|e| !e.heard.is_empty() || !e.answer.is_empty()).map(told);
        let fits = newest.take(RECALLED_TURNS).take_while(|turn| {
            bytes += turn.user.len() + turn.answer.len();
            bytes <= RECALLED_BYTES
        });
        let mut past: Vec<PastTurn> = fits.collect();
        past.reverse();
        past
    }

    pub fn clear(&mut self) {
        self.exchanges.clear();
    }
}

/// The largest position at or below `at` that does not split a character.
pub fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_told_the_newest_turns_in_their_order() {
        let mut history = History::default();
        for turn in 1..=20 {
            history.add(turn, &format!("question {turn}"), "answer", 6, false);
        }
        history.add(21, "", "", 0, true);
        history.add(22, "", "Spoken.", 7, false);
        let past = history.past();
        assert_eq!((past.len(), past[0].user.as_str()), (RECALLED_TURNS, "question 10"));
        assert_eq!((past[11].user.as_str(), past[11].answer.as_str()), (UNWRITTEN, "Spoken."));
        history.add(23, &"long ".repeat(1000), "", 0, false);
        assert!(history.past().is_empty(), "a turn that is too long ends what is told");
    }

    #[test]
    fn a_broken_off_answer_stands_as_far_as_it_was_heard() {
        let mut history = History::default();
        history.add(1, "why", "Because of light. And air.", 17, true);
        history.add(2, "and", "你好世界", 4, true);
        history.add(3, "so", "That is all.", 0, false);
        let answers: Vec<&str> = history.exchanges().iter().map(|e| e.answer.as_str()).collect();
        assert_eq!(answers, ["Because of light.", "你", "That is all."]);
    }
}
