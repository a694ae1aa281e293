//! Text to token ids and back, from what a GGUF file says about its tokenizer.
//!
//! Owns the tokenizer of one language model; pure. Invariants: ordinary text never becomes a control token, whatever it
//! says; the bytes of an answer are the bytes of its tokens in order, so that a piece of text can be traced to a token.
//!
//! Sources: `candle_core::quantized::tokenizer`; the splitting rules by `tokenizer.ggml.pre` are those of llama.cpp
//! (`src/llama-vocab.cpp`); the byte alphabet is GPT-2's (`bytes_to_unicode`).

use crate::engine::EngineError;
use crate::engine::gguf::Gguf;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use std::collections::{HashMap, HashSet};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// How Llama 3 cuts text before merging.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The token types of `tokenizer.ggml.token_type` that stand for no text: unknown, control, user-defined, unused.
const NOT_TEXT: [u64; 4] = [2, 3, 4, 5];

/// The tokenizer of one language model.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    control: HashSet<u32>,
    bytes_of: HashMap<char, u8>,
    end_of_text: Option<u32>,
    begin_of_text: Option<u32>,
}

impl Vocabulary {
    /// Rebuilds the tokenizer of `file`.
    ///
    /// # Errors
    /// When the file has no byte-level BPE tokenizer, or one that cuts text in a way this program does not know.
    pub fn from_gguf(file: &Gguf) -> Result<Self, EngineError> {
        let mut tokenizer = Tokenizer::from_gguf(file.content()).map_err(|e| {
            EngineError::Unsupported(format!(
                "cannot rebuild the tokenizer of {}: {e}; choose a model of the Qwen2 or Llama 3 family",
                file.path().display()
            ))
        })?;
        if let Some(cut) = cutting(file)? {
            tokenizer.with_pre_tokenizer(Some(cut));
        }
        tokenizer.set_encode_special_tokens(true);
        let begin = file.integer("tokenizer.ggml.bos_token_id")?.map(|id| id as u32);
        let adds_begin = matches!(file.content().metadata.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true)));
        Ok(Self {
            tokenizer,
            control: control_ids(file),
            bytes_of: byte_alphabet(),
            end_of_text: file.integer("tokenizer.ggml.eos_token_id")?.map(|id| id as u32),
            begin_of_text: begin.filter(|_| adds_begin),
        })
    }

    /// The ids of ordinary text. Names of control tokens in it are text like any other.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| EngineError::Unsupported(format!("the language model cannot read this text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of the control token called `name`, if there is one.
    pub fn control(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name).filter(|id| self.control.contains(id))
    }

    /// The id with which the model ends, as the file says.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The id every sequence begins with, if the file asks for one.
    pub fn begin_of_text(&self) -> Option<u32> {
        self.begin_of_text
    }

    /// Appends the bytes of `id` to `out`; control tokens have none.
    pub fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        if self.control.contains(&id) {
            return;
        }
        if let Some(token) = self.tokenizer.id_to_token(id) {
            for c in token.chars() {
                match self.bytes_of.get(&c) {
                    Some(&b) => out.push(b),
                    None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
    }
}

/// How to cut text before merging, where `candle` does not know it already.
fn cutting(file: &Gguf) -> Result<Option<PreTokenizerWrapper>, EngineError> {
    let pieces = |parts: Vec<PreTokenizerWrapper>| Some(PreTokenizerWrapper::from(Sequence::new(parts)));
    match file.text("tokenizer.ggml.pre") {
        Some("qwen2" | "deepseek-r1-qwen") => Ok(None),
        Some("llama-bpe" | "llama3" | "llama-v3") => {
            let split = Split::new(SplitPattern::Regex(LLAMA3.into()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| EngineError::Unsupported(format!("cannot build the Llama 3 tokenizer: {e}")))?;
            Ok(pieces(vec![split.into(), ByteLevel::new(false, false, false).into()]))
        }
        Some("smollm") => Ok(pieces(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()])),
        Some("gpt-2" | "default") | None => Ok(pieces(vec![ByteLevel::new(false, true, true).into()])),
        Some(other) => Err(EngineError::Unsupported(format!(
            "{} cuts text into words by the rule `{other}`, which is not supported: choose a model of the Qwen2 or Llama 3 family",
            file.path().display()
        ))),
    }
}

fn control_ids(file: &Gguf) -> HashSet<u32> {
    let Some(Value::Array(types)) = file.content().metadata.get("tokenizer.ggml.token_type") else {
        return HashSet::new();
    };
    let kind = |v: &Value| match *v {
        Value::U32(n) => u64::from(n),
        Value::I32(n) => n.max(0) as u64,
        _ => 0,
    };
    types.iter().enumerate().filter(|(_, v)| NOT_TEXT.contains(&kind(v))).map(|(id, _)| id as u32).collect()
}

/// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for the characters from U+0100 on.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255u8).filter(|&b| !printable(b)).zip(0x100u32..);
    let shifted = others.filter_map(|(b, code)| char::from_u32(code).map(|c| (c, b)));
    (0..=255u8).filter(|&b| printable(b)).map(|b| (char::from(b), b)).chain(shifted).collect()
}

/// Turns bytes that arrive in pieces into text, holding back a character until it is whole.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// The bytes waiting for the rest of their character; push the next ones here.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// The text that is complete. Bytes that can never become a character come out as U+FFFD.
    pub fn take(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.held.clear();
                    return text;
                }
                Err(e) => {
                    let valid = e.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[..valid]));
                    match e.error_len() {
                        Some(bad) => {
                            text.push('\u{FFFD}');
                            self.held.drain(..valid + bad);
                        }
                        None => {
                            self.held.drain(..valid);
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// What is still held, as text, at the end of the stream.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s() {
        let a = byte_alphabet();
        assert_eq!(a.len(), 256);
        // From the published encoder.json: space, newline, NUL, 0x7f, 0xa0, 0xad, and a letter.
        for (c, b) in [('Ġ', b' '), ('Ċ', b'\n'), ('Ā', 0), ('ġ', 0x7f), ('ł', 0xa0), ('Ń', 0xad), ('a', b'a')] {
            assert_eq!(a.get(&c), Some(&b), "{c}");
        }
    }

    #[test]
    fn characters_come_out_whole() {
        let mut s = Utf8Stream::default();
        let bytes = "é北🙂".as_bytes();
        let mut out = Vec::new();
        for b in bytes {
            s.pending().push(*b);
            out.push(s.take());
        }
        assert_eq!(out, ["", "é", "", "", "北", "", "", "", "🙂"]);
        s.pending().extend([b'a', 0xff, b'b', 0xe5]);
        assert_eq!(s.take(), "a\u{FFFD}b");
        assert_eq!(s.finish(), "\u{FFFD}");
        assert_eq!(s.finish(), "");
    }
}
