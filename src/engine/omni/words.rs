//! The answer's text on its way to the speech model: whole words only, made speakable, as speech tokens.
//!
//! Owns the words that are not complete yet; lives on the engine thread. Text arrives in pieces that end anywhere; what
//! leaves is cut only where the speech tokenizer would cut too (at spaces and around Chinese characters), so that the
//! tokens are those of the whole text. A number keeps its neighbours: what it counts
//! decides how it is read; a link or a piece of code stays whole.
//! Invariant: the units' `text_end` grow to the length of all text given.

use super::tokens::TtsTokens;
use crate::engine::EngineError;
use crate::engine::text::speakable::Speaker;

/// An unclosed link or code span is not waited for beyond this many bytes.
const LONGEST_SPAN: usize = 200;

/// What comes after a unit when it is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    Word,
    Clause,
    Sentence,
}

/// Some whole words as speech tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    pub ids: Vec<u32>,
    /// How many bytes of the answer's text have been spoken with it.
    pub text_end: usize,
    pub ends: Ends,
}

/// Collects text into units.
#[derive(Clone, Debug, Default)]
pub struct WordFeed {
    held: String,
    given: usize,
    speaker: Speaker,
}

impl WordFeed {
    pub fn new() -> Self {
        Self::default()
    }

    /// More text. Gives the units that are complete now.
    pub fn push(&mut self, piece: &str, tokens: &TtsTokens) -> Result<Vec<Unit>, EngineError> {
        self.held.push_str(piece);
        let mut units = Vec::new();
        while let Some(end) = unit_end(&self.held) {
            units.extend(self.take(end, tokens)?);
        }
        Ok(units)
    }

    /// The text is over: gives what was held back.
    pub fn finish(&mut self, tokens: &TtsTokens) -> Result<Vec<Unit>, EngineError> {
        let mut units = self.take(self.held.len(), tokens)?;
        if let Some(last) = units.last_mut() {
            last.ends = Ends::Sentence;
        }
        Ok(units)
    }

    fn take(&mut self, end: usize, tokens: &TtsTokens) -> Result<Vec<Unit>, EngineError> {
        let text: String = self.held.drain(..end).collect();
        self.given += text.len();
        let ids = tokens.encode(&self.speaker.clause(&text).spoken)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Unit { ids, text_end: self.given, ends: ends(&text) }])
    }
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Marks that Chinese text sets without a space after them.
fn is_wide_mark(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}' | '…' | '—' | '“' | '”' | '‘' | '’')
}

fn counts(c: char) -> bool {
    c.is_numeric() || matches!(c, '$' | '€' | '£' | '¥' | '%' | '￥')
}

/// Whether a link or a code span has begun in `text` and not ended.
fn is_open(text: &str) -> bool {
    let link = text.rfind('[').is_some_and(|at| {
        let rest = &text[at..];
        !rest.contains(']') || (rest.contains("](") && !rest.contains(')'))
    });
    text.len() < LONGEST_SPAN && (link || text.matches('`').count() % 2 == 1)
}

/// The end of the first unit of `text`, if something has come after it that shows it complete.
fn unit_end(text: &str) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start + word_end(&text[start..])?;
        let number = text[start..end].contains(counts) || text[end..].starts_with(counts);
        if !number && !is_open(&text[..end]) {
            return Some(end);
        }
        start = end;
    }
}

/// The end of the first word with the marks and spaces that follow it, if anything follows those.
fn word_end(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    let mut in_word = false;
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() && !in_word {
            continue;
        }
        in_word = true;
        let next = chars.peek().map(|&(_, n)| n)?;
        let closes = next.is_whitespace() || is_wide_mark(next);
        let cut = c.is_whitespace()
            || is_wide_mark(c)
            || is_chinese(next)
            || (is_chinese(c) && !(next.is_ascii_punctuation()));
        if cut && !closes {
            return Some(at + c.len_utf8());
        }
    }
    None
}

fn ends(text: &str) -> Ends {
    let quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '”' | '’' | '」' | '）' | '*' | '_');
    match text.trim_end_matches(quotes).chars().next_back() {
        Some('.' | '!' | '?' | '…' | '。' | '！' | '？') => Ends::Sentence,
        _ if text.contains('\n') => Ends::Sentence,
        Some(',' | ';' | ':' | '，' | '、' | '；' | '：' | '-' | '—') => Ends::Clause,
        _ => Ends::Word,
    }
}
