//! Turns speakable text into the phonemes a Piper voice was trained on, and those into the voice's ids.
//!
//! Misaki's lexicon and tagger give the pronunciation (MIT; no espeak, which is GPL), rules sound out what the lexicon
//! lacks, and a small map rewrites Misaki's signs as the IPA that espeak-ng writes for American English, which is what
//! Piper's voices have learnt. Lives on whichever thread synthesises; holds only read-only tables. Invariants: never
//! panics on any text; what a voice has no id for is left out and counted.

use super::letter_to_sound::sound_out;
use crate::engine::EngineError;
use misaki_rs::fallback::FallbackError;
use misaki_rs::{Fallback, G2P, Language};
use std::collections::{BTreeMap, HashMap};

/// English text to espeak-style IPA.
pub struct Phonemizer {
    g2p: G2P,
}

/// Sounds out what the lexicon lacks.
struct Rules;

impl Fallback for Rules {
    fn phonemize(&self, word: &str) -> Result<String, FallbackError> {
        Ok(word.split(|c: char| !c.is_alphabetic()).map(sound_out).collect())
    }
}

impl Phonemizer {
    /// Reads the built-in lexicon; takes a moment, so make one and keep it.
    pub fn new() -> Self {
        Self { g2p: G2P::with_fallback(Language::EnglishUS, Some(Box::new(Rules))) }
    }

    /// The phonemes of `text`, which the text room has made speakable (numbers, units and signs as words). Words are
    /// one space apart; `, . ? ! ; :` stay, directly after a word. Empty when there is nothing to pronounce.
    pub fn phonemes(&self, text: &str) -> Result<String, EngineError> {
        let (_, tokens) = self
            .g2p
            .g2p(text)
            .map_err(|e| EngineError::Unsupported(format!("no phonemes for {text:?}: {e}; say it in other words")))?;
        let mut out = String::with_capacity(text.len() * 2);
        let mut apart = false;
        for token in &tokens {
            let known = token.phonemes.as_deref().filter(|p| !p.contains(&self.g2p.unk));
            // Spelt-out numbers and acronyms are several words in one token.
            for word in known.map_or_else(|| sound_out(&token.text), str::to_owned).split_whitespace() {
                push_word(&mut out, word, apart);
                apart = true;
            }
            apart |= !token.whitespace.is_empty();
        }
        Ok(out)
    }
}

impl Default for Phonemizer {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends one token: a mark closes the word before it, anything else is a word.
fn push_word(out: &mut String, misaki: &str, apart: bool) {
    let mark = match misaki.chars().next() {
        Some(c @ (',' | '.' | '?' | '!' | ';' | ':')) => Some(c),
        Some('—' | '–' | '…') => Some(','),
        _ => None,
    };
    if let Some(mark) = mark {
        // The first of several marks counts, and a mark needs a word before it.
        if out.chars().last().is_some_and(|c| !is_mark(c)) {
            out.push(mark);
        }
        return;
    }
    let ipa = espeak_ipa(misaki);
    if ipa.is_empty() {
        return;
    }
    if !out.is_empty() && (apart || out.ends_with(is_mark)) {
        // The r of "water" is heard again before the vowel of "every".
        let after_stress = ipa.trim_start_matches(['ˈ', 'ˌ']);
        if out.ends_with('ɚ') && after_stress.starts_with(is_vowel) {
            out.push('ɹ');
        }
        out.push(' ');
    }
    out.push_str(&ipa);
}

fn is_mark(c: char) -> bool {
    matches!(c, ',' | '.' | '?' | '!' | ';' | ':')
}

/// Whether a sign of Misaki's alphabet or of the IPA is a vowel.
fn is_vowel(c: char) -> bool {
    "AIOQWYaeioɚuæɑɐɒɔəɛɜɪʊʌᵊᵻ".contains(c)
}

/// Rewrites one word from Misaki's alphabet in the IPA that espeak-ng writes for American English. Both put the stress
/// mark directly before the vowel.
fn espeak_ipa(word: &str) -> String {
    let signs: Vec<char> = word.chars().collect();
    let at = |i: usize| signs.get(i).copied();
    // The vowel that a sign stands before, looking over a stress mark.
    let vowel_at = |i: usize| match at(i) {
        Some('ˈ' | 'ˌ') => at(i + 1).is_some_and(is_vowel),
        Some(c) => is_vowel(c),
        None => false,
    };
    let vowels = signs.iter().filter(|c| is_vowel(**c)).count();
    let mut out = String::with_capacity(word.len() + 8);
    let mut i = 0;
    while let Some(c) = at(i) {
        let stressed = i > 0 && matches!(signs[i - 1], 'ˈ' | 'ˌ');
        match c {
            'A' => out.push_str("eɪ"),
            'I' => out.push_str("aɪ"),
            'O' => out.push_str("oʊ"),
            'Q' => out.push_str("əʊ"),
            'W' => out.push_str("aʊ"),
            'Y' => out.push_str("ɔɪ"),
            'ʤ' => out.push_str("dʒ"),
            'ʧ' => out.push_str("tʃ"),
            'T' => out.push('ɾ'),
            // "button": a glottal stop and a syllable of n.
            't' if at(i + 1) == Some('n') && i > 0 && is_vowel(signs[i - 1]) && !vowel_at(i + 2) => {
                out.push_str("ʔn\u{329}");
                i += 1;
            }
            'ɑ' => out.push_str("ɑː"),
            'ɔ' => out.push_str("ɔː"),
            'u' => out.push_str("uː"),
            // Long in a stressed syllable or alone in its word, short at the end of "happy" and before a schwa.
            'i' if (stressed || vowels == 1) && at(i + 1) != Some('ə') => out.push_str("iː"),
            // The r after a central vowel is one sound with it, unless it begins the next syllable.
            'ɜ' | 'ə' | 'ᵊ' if at(i + 1) == Some('ɹ') => {
                out.push_str(if c == 'ɜ' { "ɜː" } else { "ɚ" });
                if !vowel_at(i + 2) {
                    i += 1;
                }
            }
            'ɜ' => out.push_str("ɜː"),
            'ə' if i == 0 && signs.len() > 1 => out.push('ɐ'),
            'ᵊ' => out.push('ə'),
            // Quotes and brackets that Misaki passes through.
            '"' | '“' | '”' | '(' | ')' | '\'' | '‘' | '’' => {}
            c => out.push(c),
        }
        i += 1;
    }
    out
}

/// A voice's own numbering of phonemes (`phoneme_id_map` in its configuration).
#[derive(Clone, Debug)]
pub struct PhonemeTable {
    ids: HashMap<char, Vec<i32>>,
    pad: i32,
    begin: i32,
    end: i32,
}

/// Phonemes as a voice wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Begin, then every phoneme with a pad before and after it, then end.
    pub ids: Vec<i32>,
    /// How many signs the voice has no id for; they are left out.
    pub unmapped: usize,
}

impl PhonemeTable {
    /// From `phoneme_id_map`: one sign to its ids. `_`, `^` and `$` are the pad, the beginning and the end.
    pub fn new(map: &BTreeMap<String, Vec<i32>>) -> Result<Self, EngineError> {
        let special = |sign: &str| {
            map.get(sign).and_then(|ids| ids.first()).copied().ok_or_else(|| {
                EngineError::Model(format!(
                    "the voice's phoneme_id_map has no {sign:?}; it is not a Piper voice: pull it again"
                ))
            })
        };
        let (pad, begin, end) = (special("_")?, special("^")?, special("$")?);
        let ids = map
            .iter()
            .filter_map(|(sign, ids)| {
                let mut chars = sign.chars();
                let single = chars.next().filter(|c| chars.next().is_none() && !matches!(c, '_' | '^' | '$'))?;
                Some((single, ids.clone()))
            })
            .collect();
        Ok(Self { ids, pad, begin, end })
    }

    /// The ids of `ipa`, padded as Piper pads them in training.
    pub fn encode(&self, ipa: &str) -> Encoded {
        let mut ids = vec![self.begin, self.pad];
        let mut unmapped = 0;
        for sign in ipa.chars() {
            match self.ids.get(&sign) {
                Some(found) => {
                    for id in found {
                        ids.extend([*id, self.pad]);
                    }
                }
                None => unmapped += 1,
            }
        }
        ids.push(self.end);
        Encoded { ids, unmapped }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static PHONEMIZER: LazyLock<Phonemizer> = LazyLock::new(Phonemizer::new);

    /// The table of a published voice, from its own configuration file.
    static TABLE: LazyLock<PhonemeTable> = LazyLock::new(|| {
        #[derive(serde::Deserialize)]
        struct Config {
            phoneme_id_map: BTreeMap<String, Vec<i32>>,
        }
        let text = include_str!("../../../tests/fixtures/piper_voice.json");
        let config: Config = serde_json::from_str(text).expect("the fixture is valid");
        PhonemeTable::new(&config.phoneme_id_map).expect("the fixture has all special signs")
    });

    /// Levenshtein distance between two strings of signs.
    pub fn edit_distance(a: &[char], b: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = row[j + 1];
                row[j + 1] = next;
            }
        }
        row[b.len()]
    }

    /// Phonemes only: espeak's own output has neither marks nor reliable word joints, and its stress on small words
    /// differs by taste.
    fn bare(ipa: &str) -> Vec<char> {
        ipa.chars().filter(|c| !is_mark(*c) && !matches!(c, ' ' | 'ˈ' | 'ˌ')).collect()
    }

    #[test]
    fn phonemes_agree_with_espeak_ng() {
        let (mut errors, mut total) = (0, 0);
        let mut report = String::new();
        for line in include_str!("../../../tests/fixtures/espeak_ipa.tsv").lines() {
            let (text, theirs) = line.split_once('\t').expect("two columns");
            let ours = PHONEMIZER.phonemes(text).expect("phonemes");
            let wrong = edit_distance(&bare(&ours), &bare(theirs));
            report += &format!("{wrong:3}  {text}\n     {ours}\n     {theirs}\n");
            errors += wrong;
            total += bare(theirs).len();
        }
        let rate = errors as f64 / total as f64;
        println!("{report}{errors} of {total}: {rate:.3}");
        assert!(rate <= 0.05, "phoneme error rate {rate:.3}\n{report}");
    }

    #[test]
    fn a_thousand_words_have_all_their_phonemes_in_the_table() {
        let words: Vec<&str> = include_str!("../../../tests/fixtures/words.txt").lines().collect();
        assert!(words.len() >= 1000);
        for word in words {
            let ipa = PHONEMIZER.phonemes(word).expect("phonemes");
            let encoded = TABLE.encode(&ipa);
            assert_eq!(encoded.unmapped, 0, "{word}: {ipa}");
            assert!(encoded.ids.len() > 5, "{word} became {ipa:?}");
        }
    }

    #[test]
    fn ids_are_framed_and_padded_as_piper_pads_them() {
        // h=20 ə=59 l=24 ˈ=120 o=27 ʊ=100 .=10 in the published table.
        assert_eq!(TABLE.encode("həlˈoʊ.").ids, [1, 0, 20, 0, 59, 0, 24, 0, 120, 0, 27, 0, 100, 0, 10, 0, 2]);
        assert_eq!(TABLE.encode("漢b$").unmapped, 2);
    }

    #[test]
    fn marks_stay_with_their_word_and_brackets_go() {
        assert_eq!(PHONEMIZER.phonemes("Hello, world!").expect("phonemes"), "həlˈoʊ, wˈɜːld!");
        assert_eq!(PHONEMIZER.phonemes("\"Yes\" (no)?!").expect("phonemes"), "jˈɛs nˈoʊ?");
        assert_eq!(PHONEMIZER.phonemes("Wait… — what").expect("phonemes"), "wˈeɪt, wˌʌt");
        assert_eq!(PHONEMIZER.phonemes("  ...  ").expect("phonemes"), "");
    }

    #[test]
    fn unknown_words_are_sounded_out_and_acronyms_spelt() {
        for (text, contains) in
            [("Ask Zorbano today.", "zɔːɹbˈænoʊ"), ("the GPT model", "dʒ"), ("a qzxwv thing", "kjˌuːzˌiː")]
        {
            let ipa = PHONEMIZER.phonemes(text).expect("phonemes");
            assert!(ipa.contains(contains), "{text}: {ipa}");
            assert_eq!(TABLE.encode(&ipa).unmapped, 0, "{text}: {ipa}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_text_gives_ids_without_a_panic(text in "[ -~é–—…“”’天空🙂\\n]{0,60}") {
            let ipa = PHONEMIZER.phonemes(&text).expect("phonemes");
            prop_assert_eq!(TABLE.encode(&ipa).unmapped, 0, "{}", ipa);
        }
    }
}
