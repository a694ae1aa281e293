//! The answer's text on its way to the speech model: whole words only, made speakable, as speech tokens.
//!
//! Owns the words that are not complete yet; lives on the engine thread. Text arrives in pieces that end anywhere; what
//! leaves is cut only where the speech tokenizer would cut too (at spaces and around Chinese characters), so that the
//! tokens are those of the whole text. A number keeps its neighbour: what it counts decides how it is read.
//! Invariant: the units' `text_end` grow to the length of all text given.

use super::tokens::TtsTokens;
use crate::engine::EngineError;

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
    chinese: usize,
    latin: usize,
}

impl WordFeed {
    pub fn new() -> Self {
        Self::default()
    }

    /// More text. Gives the units that are complete now.
    pub fn push(&mut self, piece: &str, tokens: &TtsTokens) -> Result<Vec<Unit>, EngineError> {
        self.chinese += piece.chars().filter(|c| is_chinese(*c)).count();
        self.latin += piece.chars().filter(char::is_ascii_alphabetic).count();
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
        let ids = tokens.encode(&spoken(&text, self.chinese > 0 && self.chinese >= self.latin))?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Unit { ids, text_end: self.given, ends: ends(&text) }])
    }
}

/// Whether a text is Chinese rather than Latin.
pub fn mostly_chinese(text: &str) -> bool {
    let chinese = text.chars().filter(|c| is_chinese(*c)).count();
    chinese > 0 && chinese >= text.chars().filter(char::is_ascii_alphabetic).count()
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Marks that Chinese text sets without a space after them.
fn is_wide_mark(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}' | '…' | '—' | '“' | '”' | '‘' | '’')
}

fn counts(word: &str) -> bool {
    word.chars().any(|c| c.is_numeric() || matches!(c, '$' | '€' | '£' | '¥' | '%' | '￥'))
}

/// The end of the first unit of `text`, if something has come after it that shows it complete.
fn unit_end(text: &str) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start + word_end(&text[start..])?;
        if !counts(&text[start..end]) {
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

/// Text as it is spoken: without signs that are only for the eye, numbers in words.
fn spoken(text: &str, chinese: bool) -> String {
    const CHINESE: [&str; 10] = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
    const ENGLISH: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let mut spoken = String::new();
    for c in text.chars() {
        match c.to_digit(10).map(|d| d as usize) {
            Some(d) if chinese => spoken.push_str(CHINESE[d]),
            Some(d) => {
                spoken.push(' ');
                spoken.push_str(ENGLISH[d]);
                spoken.push(' ');
            }
            None if matches!(c, '*' | '#' | '`' | '_' | '~' | '|') => spoken.push(' '),
            // Emoji, arrows, dingbats, variation selectors.
            None if matches!(c, '\u{2190}'..='\u{2bff}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f000}'..='\u{1faff}') => {}
            None => spoken.push(c),
        }
    }
    spoken
}
