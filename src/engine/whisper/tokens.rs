//! Whisper's vocabulary: the special tokens by name, what must never be written, and ids to text. Immutable.

use crate::engine::EngineError;
use std::collections::BTreeSet;
use std::path::Path;
use tokenizers::Tokenizer;

/// The tokenizer and the ids the decoder needs by name.
pub struct Tokens {
    tokenizer: Tokenizer,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) transcribe: u32,
    pub(super) no_timestamps: u32,
    pub(super) no_speech: u32,
    /// Ids of the language tokens, `<|en|>` first; empty for an English-only model.
    pub(super) languages: Vec<u32>,
    /// Never written: signs that stand for sounds or markup rather than words, ascending.
    pub(super) suppressed: Vec<u32>,
    /// A lone space: never first.
    pub(super) blank: u32,
}

impl Tokens {
    pub fn load(path: &Path) -> Result<Self, EngineError> {
        let broken = |why: String| EngineError::Model(format!("{}: {why}; pull the model again", path.display()));
        let tokenizer = Tokenizer::from_file(path).map_err(|e| broken(e.to_string()))?;
        let id = |names: &[&str]| {
            let found = names.iter().find_map(|n| tokenizer.token_to_id(n));
            found.ok_or_else(|| broken(format!("there is no token {}", names.join(" or "))))
        };
        let start = id(&["<|startoftranscript|>"])?;
        let task = id(&["<|translate|>"])?;
        let is_language = |i: &u32| {
            let name = tokenizer.id_to_token(*i).unwrap_or_default();
            name.strip_prefix("<|").and_then(|n| n.strip_suffix("|>")).is_some_and(|n| (2..=3).contains(&n.len()))
        };
        Ok(Self {
            start,
            end: id(&["<|endoftext|>"])?,
            transcribe: id(&["<|transcribe|>"])?,
            no_timestamps: id(&["<|notimestamps|>"])?,
            no_speech: id(&["<|nospeech|>", "<|nocaptions|>"])?,
            languages: (start + 1..task).filter(is_language).collect(),
            suppressed: non_speech(&tokenizer).map_err(broken)?,
            blank: id(&["Ġ"])?,
            tokenizer,
        })
    }

    /// Whether these tokens fit a model with a vocabulary of `size`.
    pub(super) fn check(&self, size: usize) -> Result<(), EngineError> {
        let highest = self.no_timestamps as usize;
        if highest < size {
            return Ok(());
        }
        Err(EngineError::Model(format!(
            "the tokenizer knows {highest} ids and the model {size}: they are of different models; pull both again"
        )))
    }

    /// The text tokens that are never written, ascending.
    pub fn suppressed(&self) -> &[u32] {
        &self.suppressed
    }

    /// The id of a language's token, by its code (`en`).
    pub fn language(&self, code: &str) -> Result<u32, EngineError> {
        let found = self.tokenizer.token_to_id(&format!("<|{code}|>")).filter(|id| self.languages.contains(id));
        found.ok_or_else(|| {
            EngineError::Unsupported(format!(
                "this Whisper model does not know the language '{code}'; use a code like en"
            ))
        })
    }

    /// The code of a language's token: `en`.
    pub fn language_code(&self, id: u32) -> Option<String> {
        let name = self.tokenizer.id_to_token(id)?;
        Some(name.trim_start_matches("<|").trim_end_matches("|>").to_owned())
    }

    /// The text of `ids`, special tokens left out.
    pub fn text(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|e| EngineError::Model(format!("the tokenizer cannot spell {ids:?}: {e}; pull the model again")))
    }
}

/// The tokens Whisper never writes when transcribing: brackets, notes and such, alone or after a space, and a dash or
/// an apostrophe that begins a word (`non_speech_tokens` in OpenAI's tokenizer.py).
fn non_speech(tokenizer: &Tokenizer) -> Result<Vec<u32>, String> {
    const SIGNS: &str = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (' (\" (( )) \
                         ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪";
    const NOTES: &str = "♩ ♪ ♫ ♬ ♭ ♮ ♯";
    let encode = |text: &str| -> Result<Vec<u32>, String> {
        Ok(tokenizer.encode(text, false).map_err(|e| e.to_string())?.get_ids().to_vec())
    };
    let mut found = BTreeSet::new();
    for text in [" -", " '"] {
        found.extend(encode(text)?.first());
    }
    for sign in SIGNS.split_whitespace() {
        for text in [sign.to_owned(), format!(" {sign}")] {
            if let [one] = encode(&text)?[..] {
                found.insert(one);
            }
        }
    }
    for note in NOTES.split_whitespace() {
        for text in [note.to_owned(), format!(" {note}")] {
            found.extend(encode(&text)?.first());
        }
    }
    Ok(found.into_iter().collect())
}
