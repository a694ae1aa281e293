//! Turning what a language model writes into what a voice can say.
//!
//! Owns the order of the steps: Markdown and emoji go, then numbers, money, dates, units, abbreviations, symbols and
//! addresses become words, in English or Chinese. Pure functions over one clause at a time; [`Speaker`] carries the one
//! thing that outlives a clause, an open code fence. Invariants: every text gives a result without digits or Markdown
//! marks, never a panic; ordinary words come out as they were.

use super::{chinese, english, markdown};

/// The language whose words numbers and symbols become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    /// The language of `text`: Chinese as soon as it holds a Chinese character.
    pub fn of(text: &str) -> Self {
        if text.chars().any(chinese::is_han) { Language::Chinese } else { Language::English }
    }
}

/// What of one clause is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speakable {
    /// Words and punctuation; empty when nothing of the clause can be said (a rule, an emoji, code).
    pub spoken: String,
}

/// Makes the clauses of one answer speakable, in order.
#[derive(Clone, Debug, Default)]
pub struct Speaker {
    /// Whether the last clause left a code fence open.
    in_code: bool,
    /// The language of the last clause that had words, for clauses that have none (`42.`).
    chinese: bool,
}

impl Speaker {
    /// The next clause of the answer. Cut clauses so that numbers, abbreviations and addresses stay whole.
    pub fn clause(&mut self, written: &str) -> Speakable {
        let plain = markdown::strip(written, &mut self.in_code);
        if plain.chars().any(char::is_alphabetic) {
            self.chinese = Language::of(&plain) == Language::Chinese;
        }
        let language = if self.chinese { Language::Chinese } else { Language::English };
        Speakable { spoken: words(&plain, language) }
    }
}

/// One text on its own, in the language it is written in.
pub fn speakable(written: &str) -> String {
    Speaker::default().clause(written).spoken
}

fn words(plain: &str, language: Language) -> String {
    let spoken = match language {
        Language::English => english::say(plain),
        Language::Chinese => chinese::say(plain),
    };
    tidy(&spoken)
}

/// One space between words, none before punctuation, no punctuation twice or alone.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        match c {
            c if c.is_whitespace() => gap = !out.is_empty(),
            ',' | '.' | '!' | '?' | ';' | ':' | '，' | '。' | '！' | '？' | '、' | '；' | '：' => {
                gap = false;
                let after_pause = out.chars().next_back().is_some_and(|l| ",;:，、；：".contains(l));
                if after_pause {
                    out.pop();
                }
                let after_end = out.chars().next_back().is_some_and(|l| ".!?。！？".contains(l));
                let pause = ",;:，、；：".contains(c);
                if !out.is_empty() && !(after_end && (pause || c == '.' || c == '。')) {
                    out.push(c);
                }
            }
            c => {
                if std::mem::take(&mut gap) {
                    out.push(' ');
                }
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
