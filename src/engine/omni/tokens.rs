//! The two tokenizers and their special tokens, resolved by their strings.
//!
//! Owns the tokenizers; they are read when the model is loaded and used on the engine thread. Invariant: no id of a
//! special token is written into the program; a tokenizer without one of them is an error that names it.

use super::config::TtsConfig;
use crate::engine::EngineError;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// What stands for a character that is not complete yet.
const INCOMPLETE: char = '\u{FFFD}';

fn load(files: &[PathBuf]) -> Result<(Tokenizer, PathBuf), EngineError> {
    let Some(file) = files.iter().find(|f| f.is_file()) else {
        let first = files.first().map(|f| f.display().to_string()).unwrap_or_default();
        return Err(EngineError::Model(format!("the tokenizer {first} is missing: pull the model again")));
    };
    let unreadable = |e: &dyn std::fmt::Display| {
        EngineError::Model(format!("cannot read {} as a tokenizer: {e}; pull the model again", file.display()))
    };
    let bytes = std::fs::read(file).map_err(|e| unreadable(&e))?;
    serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|e| unreadable(&e))?;
    // The tokenizer's own reader panics on some damaged files.
    match std::panic::catch_unwind(|| Tokenizer::from_bytes(&bytes)) {
        Ok(Ok(tokenizer)) => Ok((tokenizer, file.clone())),
        Ok(Err(e)) => Err(unreadable(&e)),
        Err(_) => Err(unreadable(&"it is damaged")),
    }
}

fn special(tokenizer: &Tokenizer, file: &Path, token: &str, below: usize) -> Result<u32, EngineError> {
    match tokenizer.token_to_id(token) {
        Some(id) if (id as usize) < below => Ok(id),
        found => Err(EngineError::Model(format!(
            "the token `{token}` has the id {found:?} in {}, expected one below {below}: pull the model again",
            file.display()
        ))),
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, EngineError> {
    match tokenizer.encode(text, false) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(e) => Err(EngineError::Unsupported(format!("cannot tokenize {text:?}: {e}; use other words"))),
    }
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, EngineError> {
    tokenizer.decode(ids, false).map_err(|e| EngineError::Unsupported(format!("cannot decode tokens {ids:?}: {e}")))
}

/// The language model's tokenizer (byte-level BPE).
pub struct LlmTokens {
    tokenizer: Tokenizer,
    /// Every special string, longest first.
    specials: Vec<String>,
    /// Their ids.
    silent: HashSet<u32>,
    pub turn_start: u32,
    pub turn_end: u32,
    pub text_end: u32,
    /// Stands where audio embeddings go.
    pub placeholder: u32,
    pub audio_start: u32,
    pub audio_end: u32,
    pub speaker_start: u32,
    pub speaker: u32,
    pub speaker_end: u32,
    pub speech_start: u32,
    pub speech_end: u32,
}

/// The string of [`LlmTokens::speech_end`], at which a piece of the answer is cut.
pub const SPEECH_END: &str = "<|tts_eos|>";

impl LlmTokens {
    /// Reads `tokenizer.json` of the checkpoint in `dir`; ids must be below `vocab`.
    pub fn load(dir: &Path, vocab: usize) -> Result<Self, EngineError> {
        let (tokenizer, file) = load(&[dir.join("tokenizer.json"), dir.join("llm_tokenizer/tokenizer.json")])?;
        let id = |token: &str| special(&tokenizer, &file, token, vocab);
        let mut specials: Vec<String> =
            tokenizer.get_added_tokens_decoder().into_values().map(|t| t.content).filter(|t| !t.is_empty()).collect();
        let silent = tokenizer.get_added_tokens_decoder().into_keys().collect();
        specials.sort_by_key(|t| std::cmp::Reverse(t.len()));
        Ok(Self {
            turn_start: id("<|im_start|>")?,
            turn_end: id("<|im_end|>")?,
            text_end: id("<|endoftext|>")?,
            placeholder: id("<unk>")?,
            audio_start: id("<|audio_start|>")?,
            audio_end: id("<|audio_end|>")?,
            speaker_start: id("<|spk_bos|>")?,
            speaker: id("<|spk|>")?,
            speaker_end: id("<|spk_eos|>")?,
            speech_start: id("<|tts_bos|>")?,
            speech_end: id(SPEECH_END)?,
            specials,
            silent,
            tokenizer,
        })
    }

    /// Ids of a prompt; special tokens in it are taken as such.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>, EngineError> {
        encode(&self.tokenizer, prompt)
    }

    /// Text with nothing in it that would be taken as a special token: words of a user must not forge a turn.
    pub fn harmless(&self, text: &str) -> String {
        let mut text = text.to_string();
        for special in self.specials.iter().filter(|s| s.chars().count() > 1) {
            if text.contains(special.as_str()) {
                let first = special.chars().next().map_or(0, char::len_utf8);
                text = text.replace(special.as_str(), &format!("{} {}", &special[..first], &special[first..]));
            }
        }
        text
    }

    /// Text of `ids`, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        decode(&self.tokenizer, ids)
    }

    /// Whether `id` ends an answer.
    pub fn ends(&self, id: u32) -> bool {
        id == self.turn_end || id == self.text_end
    }

    /// Whether `id` is a special token, which has no words.
    pub fn is_silent(&self, id: u32) -> bool {
        self.silent.contains(&id)
    }

    /// How many of `ids` decode to whole characters: the rest waits for what completes it.
    pub fn complete(&self, ids: &[u32]) -> Result<usize, EngineError> {
        let mut end = ids.len();
        while end > 0 && self.decode(&ids[..end])?.ends_with(INCOMPLETE) {
            end -= 1;
        }
        Ok(end)
    }
}

/// The speech model's tokenizer (WordPiece).
pub struct TtsTokens {
    tokenizer: Tokenizer,
    /// Whether decoding takes the spaces before punctuation away (`clean_up_tokenization_spaces`).
    clean_up: bool,
    pub start: u32,
    pub speaker: u32,
    pub text_end: u32,
    pub audio_start: u32,
}

impl TtsTokens {
    /// Reads the tokenizer in `assets/chattts_tokenizer` (or `chattts_tokenizer`) of the checkpoint in `dir`; ids must
    /// be below `vocab`.
    pub fn load(dir: &Path, vocab: usize) -> Result<Self, EngineError> {
        let file = "chattts_tokenizer/tokenizer.json";
        let (tokenizer, file) = load(&[dir.join("assets").join(file), dir.join(file)])?;
        let id = |token: &str| special(&tokenizer, &file, token, vocab);
        let settings = std::fs::read_to_string(file.with_file_name("tokenizer_config.json")).unwrap_or_default();
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap_or_default();
        let clean_up = settings.get("clean_up_tokenization_spaces").and_then(|v| v.as_bool()).unwrap_or(true);
        Ok(Self {
            start: id("[Stts]")?,
            speaker: id("[spk_emb]")?,
            text_end: id("[Etts]")?,
            audio_start: id("[Ptts]")?,
            clean_up,
            tokenizer,
        })
    }

    /// Fails unless the tokenizer and the configuration mean the same special tokens.
    pub fn agree(&self, config: &TtsConfig) -> Result<(), EngineError> {
        let pairs = [
            ("[spk_emb]", self.speaker, "spk_emb_token_id", config.speaker_token),
            ("[Ptts]", self.audio_start, "audio_bos_token_id", config.audio_bos_token),
            ("[Etts]", self.text_end, "text_eos_token_id", config.text_eos_token),
        ];
        match pairs.iter().find(|(_, found, _, expected)| found != expected) {
            None => Ok(()),
            Some((token, found, key, expected)) => Err(EngineError::Model(format!(
                "the speech tokenizer has `{token}` at {found}, but `{key}` in config.json is {expected}: pull the model again"
            ))),
        }
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        encode(&self.tokenizer, text)
    }

    /// Text of `ids`, with spaces between words where the tokenizer's decoder puts them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        let text = decode(&self.tokenizer, ids)?;
        if !self.clean_up {
            return Ok(text);
        }
        let pairs = [
            (" .", "."),
            (" ?", "?"),
            (" !", "!"),
            (" ,", ","),
            (" ' ", "'"),
            (" n't", "n't"),
            (" 'm", "'m"),
            (" 's", "'s"),
            (" 've", "'ve"),
            (" 're", "'re"),
        ];
        Ok(pairs.iter().fold(text, |text, (from, to)| text.replace(from, to)))
    }
}
