//! What was said in this conversation. Owned by the session thread.
//!
//! Invariant: an answer stands here as far as it was heard, not as far as it was made.

use serde::{Deserialize, Serialize};

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
    fn a_broken_off_answer_stands_as_far_as_it_was_heard() {
        let mut history = History::default();
        history.add(1, "why", "Because of light. And air.", 17, true);
        history.add(2, "and", "你好世界", 4, true);
        history.add(3, "so", "That is all.", 0, false);
        let answers: Vec<&str> = history.exchanges().iter().map(|e| e.answer.as_str()).collect();
        assert_eq!(answers, ["Because of light.", "你", "That is all."]);
    }
}
