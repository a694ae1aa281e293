//! Conversations as they are kept: words, times and sound, in files that any program can read.
//!
//! Plain data here; [`archive`] keeps it on disk, [`export`] puts it into other forms. Blocks on the disk: used on a
//! thread of its own, never by the session thread or the window. Knows no engine and no window.
//!
//! On disk, a conversation is a folder `conversations/ID` with
//! - `turns.jsonl`: a header line, then one line of JSON per turn ([`KeptTurn`]), appended when the turn is over;
//! - `0001-user.wav`, `0001-assistant.wav`: the sound of turn 1, 16-bit mono, if sound is kept.

pub mod archive;
pub mod export;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    User,
    Assistant,
}

/// Sound of one side of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptSound {
    /// The file's name in the conversation's folder.
    pub file: String,
    /// When its first sample sounded.
    pub at: Timestamp,
    /// Seconds of it that were heard: less than the file holds when the answer was broken off.
    pub heard_seconds: f64,
}

/// One turn, as one line of `turns.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTurn {
    /// Counts from 1 in its conversation.
    pub turn: u64,
    /// When the turn began.
    pub at: Timestamp,
    /// What the user said, as understood; empty where the engine writes nothing down.
    pub heard: String,
    /// How long the user spoke; not there when the turn was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question_seconds: Option<f64>,
    /// The whole answer, as far as it was made.
    pub answer: String,
    /// How many bytes of the answer were heard.
    pub spoken_bytes: usize,
    /// Whether the answer was broken off.
    pub cut_off: bool,
    /// The engine that answered, by its name on the command line.
    pub engine: String,
    /// Time to first audio in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttfa_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_sound: Option<KeptSound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_sound: Option<KeptSound>,
}

impl KeptTurn {
    /// The answer, parted into what was heard and what was not.
    pub fn answer_parts(&self) -> (&str, &str) {
        self.answer.split_at(self.answer.floor_char_boundary(self.spoken_bytes))
    }

    pub fn sound(&self, side: Side) -> Option<&KeptSound> {
        match side {
            Side::User => self.user_sound.as_ref(),
            Side::Assistant => self.answer_sound.as_ref(),
        }
    }
}

/// A whole conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: String,
    pub began: Timestamp,
    pub turns: Vec<KeptTurn>,
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: String,
    pub began: Timestamp,
    /// The first words of the user, or else of the assistant.
    pub title: String,
    pub turns: usize,
}
