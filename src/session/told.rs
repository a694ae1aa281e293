//! What a door is told in sentences: which sentence, and what stands in it. Plain data; made on any thread below a door.
//!
//! A [`Told`] displays as English, for logs and the command line; of an error that is the error's own message. A window
//! words it anew, in its language and for somebody with a mouse, from the key (`assets/words`). Invariant (tested in the
//! window's words): every key made here is a sentence in every language, with the same placeholders.

mod errors;

pub use errors::{file_name, finding};

pub use crate::audio::Direction;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};

/// A sentence for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Empty: the English is said in every language, because it is a name, a path, or somebody else's message.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    key: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<(Cow<'static, str>, Value)>,
    english: String,
}

/// What stands in a sentence's placeholder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Said as it is.
    Text(String),
    /// The key of a word.
    Word(Cow<'static, str>),
    /// A number of bytes.
    Size(u64),
}

impl Told {
    /// The sentence with this key, and its English.
    pub fn new(key: &'static str, english: impl Display) -> Self {
        Told { key: key.into(), values: Vec::new(), english: english.to_string() }
    }

    /// What is known by a name, and called in other languages by `prefix-name`; where a language has no word for it, by
    /// its English.
    pub fn named(prefix: &str, name: &str, english: impl Display) -> Self {
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
        Told { key: format!("{prefix}-{}", name.trim_matches('-')).into(), ..Told::new("", english) }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, text: impl Display) -> Self {
        self.values.push((name.into(), Value::Text(text.to_string())));
        self
    }

    #[must_use]
    pub fn with_word(mut self, name: &'static str, key: &'static str) -> Self {
        self.values.push((name.into(), Value::Word(key.into())));
        self
    }

    #[must_use]
    pub fn with_size(mut self, name: &'static str, bytes: u64) -> Self {
        self.values.push((name.into(), Value::Size(bytes)));
        self
    }

    /// With the reason why the system refused in the placeholder `why`: a word where it is one of the usual ones.
    #[must_use]
    pub fn because(self, refused: &io::Error) -> Self {
        let key = match refused.kind() {
            ErrorKind::NotFound => "because-missing",
            ErrorKind::PermissionDenied => "because-denied",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "because-full",
            ErrorKind::ReadOnlyFilesystem => "because-read-only",
            _ => return self.with("why", refused),
        };
        self.with_word("why", key)
    }

    /// With the kind of device in the placeholder `device`.
    #[must_use]
    pub fn about(self, direction: Direction) -> Self {
        let key = match direction {
            Direction::Input => "told-microphone",
            Direction::Output => "told-loudspeaker",
        };
        self.with_word("device", key)
    }

    /// Whether what was told before is of no use any more: it was the same, or as much of the same device.
    pub fn replaces(&self, before: &Told) -> bool {
        let of_one_device = self.device().is_some() && self.device() == before.device();
        self == before || (of_one_device && self.key == before.key)
    }

    /// The kind of device that it is about, if it is about one.
    pub fn device(&self) -> Option<Direction> {
        let is = |key: &str| self.values.iter().any(|(_, value)| matches!(value, Value::Word(word) if word == key));
        let directions = [(Direction::Input, "told-microphone"), (Direction::Output, "told-loudspeaker")];
        directions.into_iter().find(|(_, key)| is(key)).map(|(direction, _)| direction)
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_ref(), value))
    }

    pub fn is_empty(&self) -> bool {
        self.key.is_empty() && self.english.is_empty()
    }
}

/// In English.
impl Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.english)
    }
}

/// Said as it is, in every language.
impl From<String> for Told {
    fn from(said: String) -> Self {
        Told { english: said, ..Told::default() }
    }
}

/// Likewise.
impl From<&str> for Told {
    fn from(said: &str) -> Self {
        said.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys_and_sentences_keep_their_english() {
        let told = Told::named("loading", "language (GGUF)", "language (GGUF)");
        assert_eq!((told.key(), told.to_string().as_str()), ("loading-language--gguf", "language (GGUF)"));
        let told = Told::new("told-gone", "the microphone went away").about(Direction::Input).with_size("size", 5);
        assert_eq!(told.to_string(), "the microphone went away");
        let values: Vec<_> = told.values().collect();
        assert_eq!(values, [("device", &Value::Word("told-microphone".into())), ("size", &Value::Size(5))]);
        assert!(Told::from("").is_empty() && !told.is_empty());
        assert_eq!((told.device(), Told::from("x").device()), (Some(Direction::Input), None));
        let json = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Told>(&json).unwrap(), told);
        assert_eq!(serde_json::to_string(&Told::from("x")).unwrap(), r#"{"english":"x"}"#);
    }
}
