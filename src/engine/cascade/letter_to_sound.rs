//! Sounds out words that the lexicon lacks: names, coinages, misspellings. Acronyms are spelt.
//!
//! Pure: a word in, phonemes in Misaki's alphabet out. The rules are the regular part of English spelling and no more:
//! they aim at being understood, not at being right about names. Invariants: never fails, never panics, gives only
//! signs of Misaki's alphabet, and nothing for words without any Latin letter.

/// The names of the letters `a` to `z` in Misaki's alphabet, without stress; the stress goes before the vowel.
const LETTER_NAMES: [(&str, &str); 26] = [
    ("", "A"),
    ("b", "i"),
    ("s", "i"),
    ("d", "i"),
    ("", "i"),
    ("", "ɛf"),
    ("ʤ", "i"),
    ("", "Aʧ"),
    ("", "I"),
    ("ʤ", "A"),
    ("k", "A"),
    ("", "ɛl"),
    ("", "ɛm"),
    ("", "ɛn"),
    ("", "O"),
    ("p", "i"),
    ("kj", "u"),
    ("", "ɑɹ"),
    ("", "ɛs"),
    ("t", "i"),
    ("j", "u"),
    ("v", "i"),
    ("d", "ʌbᵊlju"),
    ("", "ɛks"),
    ("w", "I"),
    ("z", "i"),
];

/// Misaki's signs for vowels.
const VOWELS: &str = "AIOWYæɑɔəɛɜɪiʊuʌᵻ";

/// What may stand beside a group of letters for a rule to hold.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Any,
    /// The beginning or end of the word.
    Edge,
    /// A vowel letter.
    Vowel,
    /// A consonant letter.
    Consonant,
    /// `e`, `i` or `y`, which soften `c` and `g`.
    Front,
    /// One consonant and then a closing `e` (`es`, `ed`), which lengthens the vowel before: "made", "cubes".
    SilentE,
}
use Side::{Any, Consonant, Edge, Front, SilentE, Vowel};

/// Letters, what must stand before and after them, and their sound. The first rule that fits is taken, so longer groups
/// and narrower conditions come first.
const RULES: &[(Side, &str, Side, &str)] = &[
    (Edge, "kn", Any, "n"),
    (Edge, "gn", Any, "n"),
    (Edge, "wr", Any, "ɹ"),
    (Edge, "ps", Any, "s"),
    (Edge, "mc", Any, "mək"),
    (Edge, "x", Any, "z"),
    (Edge, "rh", Any, "ɹ"),
    (Any, "ought", Any, "ɔt"),
    (Any, "aught", Any, "ɔt"),
    (Any, "eigh", Any, "A"),
    (Any, "igh", Any, "I"),
    (Any, "ough", Edge, "O"),
    (Any, "tion", Any, "ʃən"),
    (Any, "ssion", Any, "ʃən"),
    (Vowel, "sion", Any, "ʒən"),
    (Any, "sion", Any, "ʃən"),
    (Any, "cian", Any, "ʃən"),
    (Any, "cious", Any, "ʃəs"),
    (Any, "tious", Any, "ʃəs"),
    (Any, "ture", Edge, "ʧəɹ"),
    (Any, "sure", Edge, "ʒəɹ"),
    (Any, "ious", Any, "iəs"),
    (Any, "ous", Edge, "əs"),
    (Consonant, "le", Edge, "əl"),
    (Consonant, "les", Edge, "əlz"),
    (Any, "ism", Edge, "ɪzəm"),
    (Any, "tch", Any, "ʧ"),
    (Any, "sch", Any, "ʃ"),
    (Any, "chr", Any, "kɹ"),
    (Any, "ch", Any, "ʧ"),
    (Any, "sh", Any, "ʃ"),
    (Any, "th", Any, "θ"),
    (Any, "ph", Any, "f"),
    (Any, "gh", Vowel, "ɡ"),
    (Any, "gh", Any, ""),
    (Any, "wh", Any, "w"),
    (Any, "qu", Any, "kw"),
    (Any, "q", Any, "k"),
    (Any, "dge", Any, "ʤ"),
    (Any, "ck", Any, "k"),
    (Any, "ng", Edge, "ŋ"),
    (Any, "ng", Consonant, "ŋ"),
    (Any, "nk", Any, "ŋk"),
    (Any, "ngs", Edge, "ŋz"),
    (Any, "mb", Edge, "m"),
    (Any, "mn", Edge, "m"),
    (Any, "sci", Vowel, "ʃ"),
    (Any, "sc", Front, "s"),
    (Any, "cc", Front, "ks"),
    (Any, "cz", Any, "ʧ"),
    (Any, "sz", Any, "ʃ"),
    (Any, "zz", Any, "ts"),
    (Any, "dt", Any, "t"),
    (Any, "tz", Any, "ts"),
    (Any, "zh", Any, "ʒ"),
    (Any, "kh", Any, "k"),
    (Any, "bh", Any, "b"),
    (Any, "dh", Any, "d"),
    (Any, "c", Front, "s"),
    (Any, "c", Any, "k"),
    (Any, "g", Front, "ʤ"),
    (Any, "g", Any, "ɡ"),
    (Any, "air", Any, "ɛɹ"),
    (Any, "ear", Edge, "ɪɹ"),
    (Any, "eer", Any, "ɪɹ"),
    (Any, "ier", Edge, "iəɹ"),
    (Any, "our", Any, "ɔɹ"),
    (Any, "oor", Any, "ɔɹ"),
    (Any, "are", Edge, "ɛɹ"),
    (Any, "ire", Edge, "Iəɹ"),
    (Any, "ore", Edge, "ɔɹ"),
    (Any, "ure", Edge, "jʊɹ"),
    (Any, "ar", Vowel, "ɛɹ"),
    (Any, "ar", Any, "ɑɹ"),
    (Any, "or", Any, "ɔɹ"),
    (Any, "er", Vowel, "ɛɹ"),
    (Any, "er", Any, "əɹ"),
    (Any, "ir", Any, "ɜɹ"),
    (Any, "ur", Any, "ɜɹ"),
    (Any, "yr", Consonant, "ɜɹ"),
    (Any, "ai", Any, "A"),
    (Any, "ay", Any, "A"),
    (Any, "au", Any, "ɔ"),
    (Any, "aw", Any, "ɔ"),
    (Any, "aa", Any, "ɑ"),
    (Any, "ae", Any, "A"),
    (Any, "ee", Any, "i"),
    (Any, "ea", Any, "i"),
    (Any, "ei", Any, "I"),
    (Any, "ey", Edge, "i"),
    (Any, "ey", Any, "A"),
    (Any, "ew", Any, "u"),
    (Any, "eu", Any, "u"),
    (Any, "ie", Any, "i"),
    (Any, "oa", Any, "O"),
    (Any, "oe", Any, "O"),
    (Any, "oi", Any, "Y"),
    (Any, "oy", Any, "Y"),
    (Any, "oo", Any, "u"),
    (Any, "ou", Any, "W"),
    (Any, "ow", Edge, "O"),
    (Any, "ow", Any, "W"),
    (Any, "ue", Edge, "u"),
    (Any, "ui", Any, "u"),
    (Any, "ia", Any, "iə"),
    (Any, "io", Any, "iO"),
    (Any, "ua", Any, "wɑ"),
    (Any, "al", Edge, "əl"),
    (Any, "a", SilentE, "A"),
    (Any, "a", Edge, "ə"),
    (Any, "a", Any, "æ"),
    (Consonant, "ed", Edge, "d"),
    (Any, "es", Edge, "z"),
    (Consonant, "e", Edge, ""),
    (Any, "e", SilentE, "i"),
    (Any, "e", Edge, "i"),
    (Any, "e", Any, "ɛ"),
    (Any, "i", SilentE, "I"),
    (Any, "i", Edge, "i"),
    (Any, "i", Vowel, "i"),
    (Any, "i", Any, "ɪ"),
    (Any, "o", SilentE, "O"),
    (Any, "o", Edge, "O"),
    (Any, "o", Vowel, "iO"),
    (Any, "o", Any, "ɑ"),
    (Any, "u", SilentE, "u"),
    (Any, "u", Edge, "u"),
    (Any, "u", Vowel, "u"),
    (Any, "u", Any, "ʌ"),
    (Edge, "y", Any, "j"),
    (Vowel, "y", Vowel, "j"),
    (Any, "y", SilentE, "I"),
    (Any, "y", Edge, "i"),
    (Any, "y", Any, "ɪ"),
    (Any, "b", Any, "b"),
    (Any, "d", Any, "d"),
    (Any, "f", Any, "f"),
    (Vowel, "h", Edge, ""),
    (Vowel, "h", Consonant, ""),
    (Any, "h", Any, "h"),
    (Any, "j", Any, "ʤ"),
    (Any, "k", Any, "k"),
    (Any, "l", Any, "l"),
    (Any, "m", Any, "m"),
    (Any, "n", Any, "n"),
    (Any, "p", Any, "p"),
    (Any, "r", Any, "ɹ"),
    (Vowel, "s", Vowel, "z"),
    (Any, "s", Any, "s"),
    (Any, "t", Any, "t"),
    (Any, "v", Any, "v"),
    (Any, "w", Consonant, ""),
    (Any, "w", Edge, ""),
    (Any, "w", Any, "w"),
    (Any, "x", Any, "ks"),
    (Any, "z", Any, "z"),
];

/// The phonemes of a word the lexicon lacks, in Misaki's alphabet, with one primary stress. Empty when the word has no
/// Latin letter.
pub fn sound_out(word: &str) -> String {
    let letters: Vec<char> = word.chars().filter_map(plain_letter).collect();
    let lower: String = letters.iter().map(char::to_ascii_lowercase).collect();
    if lower.is_empty() {
        return String::new();
    }
    let capitals = letters.iter().filter(|c| c.is_ascii_uppercase()).count();
    let no_vowel = !lower.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    if no_vowel || letters.len() == 1 || (capitals == letters.len() && letters.len() <= 5) {
        return spell(&lower);
    }
    stressed(&sounds(lower.as_bytes()), lower.ends_with(['a', 'i', 'o']))
}

/// Reads the letters one by one; the stress is on the last.
pub fn spell(letters: &str) -> String {
    let names: Vec<&(&str, &str)> = letters
        .bytes()
        .filter_map(|b| LETTER_NAMES.get(usize::from(b.to_ascii_lowercase().wrapping_sub(b'a'))))
        .collect();
    let mut out = String::new();
    for (i, (onset, rest)) in names.iter().enumerate() {
        out.push_str(onset);
        out.push(if i + 1 == names.len() { 'ˈ' } else { 'ˌ' });
        out.push_str(rest);
    }
    out
}

/// A letter without its accent; `None` for what is not a Latin letter.
fn plain_letter(c: char) -> Option<char> {
    Some(match c {
        'a'..='z' | 'A'..='Z' => c,
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ś' | 'š' | 'ş' | 'ß' => 's',
        'ź' | 'ż' | 'ž' => 'z',
        'ł' => 'l',
        'ř' => 'r',
        'ğ' => 'g',
        'À'..='Å' => 'A',
        'Ç' | 'Č' => 'C',
        'È'..='Ë' => 'E',
        'Ì'..='Ï' | 'İ' => 'I',
        'Ñ' => 'N',
        'Ò'..='Ö' | 'Ø' => 'O',
        'Ù'..='Ü' => 'U',
        'Š' | 'Ş' | 'Ś' => 'S',
        'Ž' | 'Ż' => 'Z',
        'Ł' => 'L',
        _ => return None,
    })
}

/// Applies the rules from left to right to lower-case letters.
fn sounds(word: &[u8]) -> Vec<&'static str> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < word.len() {
        let fits = RULES.iter().find(|(left, letters, right, _)| {
            word[at..].starts_with(letters.as_bytes())
                && stands_before(*left, word, at)
                && stands_after(*right, word, at + letters.len())
        });
        match fits {
            Some((_, letters, _, sound)) => {
                out.push(*sound);
                let last = at + letters.len() - 1;
                at += letters.len();
                // A doubled consonant sounds once.
                if word.get(at) == Some(&word[last]) && !is_vowel(word[last]) {
                    at += 1;
                }
            }
            None => at += 1,
        }
    }
    out
}

fn is_vowel(letter: u8) -> bool {
    matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

fn stands_before(side: Side, word: &[u8], at: usize) -> bool {
    let letter = at.checked_sub(1).map(|i| word[i]);
    match side {
        Any => true,
        Edge => letter.is_none(),
        Vowel => letter.is_some_and(is_vowel),
        Consonant => letter.is_some_and(|l| !is_vowel(l)),
        Front | SilentE => false,
    }
}

fn stands_after(side: Side, word: &[u8], at: usize) -> bool {
    let rest = &word[at..];
    match side {
        Any => true,
        Edge => rest.is_empty(),
        Vowel => rest.first().is_some_and(|l| is_vowel(*l)),
        Consonant => rest.first().is_some_and(|l| !is_vowel(*l)),
        Front => rest.first().is_some_and(|l| matches!(l, b'e' | b'i' | b'y')),
        SilentE => match rest {
            [c, b'e'] | [c, b'e', b's' | b'd'] => !is_vowel(*c) && *c != b'x',
            _ => false,
        },
    }
}

/// Joins the sounds and sets the primary stress: on the first of two syllables; of more, on the last but one when the
/// word ends in a full vowel letter ("Kawasaki"), else on the last but two ("Methuselah").
fn stressed(sounds: &[&str], open_end: bool) -> String {
    let text = sounds.concat();
    let mut nuclei = Vec::new();
    for (at, c) in text.char_indices() {
        if VOWELS.contains(c) {
            nuclei.push((at, c));
        }
    }
    let from_end = if open_end { 2 } else { 3 };
    let chosen = if nuclei.len() <= 2 { 0 } else { nuclei.len() - from_end };
    // The schwa of a weak syllable carries no stress when there is another vowel.
    let full = |i: &usize| nuclei.get(*i).is_some_and(|(_, c)| *c != 'ə');
    let Some(index) = Some(chosen).filter(full).or_else(|| (0..nuclei.len()).find(full)).or(Some(0)) else {
        return text;
    };
    match nuclei.get(index) {
        Some((at, _)) => format!("{}ˈ{}", &text[..*at], &text[*at..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cascade::phonemes::tests::edit_distance;
    use proptest::prelude::*;

    /// Phonemes without stress, the small schwa as a schwa, the flap as the t it is written with.
    fn bare(phonemes: &str) -> Vec<char> {
        let plain = |c| match c {
            'ᵊ' | 'ᵻ' => 'ə',
            'T' => 't',
            c => c,
        };
        phonemes.chars().filter(|c| !matches!(c, 'ˈ' | 'ˌ')).map(plain).collect()
    }

    #[test]
    fn words_of_the_lexicon_are_sounded_out_nearly_as_it_has_them() {
        // Every word the lexicon has, pronounced by rule alone, against the lexicon.
        let lexicon = misaki_rs::G2P::new(misaki_rs::Language::EnglishUS);
        let (mut errors, mut total, mut words) = (0, 0, 0);
        for word in include_str!("../../../tests/fixtures/words.txt").lines() {
            let (theirs, tokens) = lexicon.g2p(word).expect("phonemes");
            let simple = word.chars().all(|c| c.is_ascii_lowercase()) && tokens.len() == 1;
            if !simple || theirs.contains(lexicon.unk.as_str()) {
                continue;
            }
            let (ours, theirs) = (bare(&sound_out(word)), bare(&theirs));
            errors += edit_distance(&ours, &theirs);
            total += theirs.len();
            words += 1;
        }
        let rate = errors as f64 / total as f64;
        println!("{words} words: {errors} of {total} phonemes wrong, {rate:.3}");
        assert!(words > 600, "only {words} words were comparable");
        assert!(rate < 0.23, "{rate:.3} of the phonemes are wrong");
    }

    #[test]
    fn regular_spellings_are_sounded_out() {
        for (word, phonemes) in [
            ("cat", "kˈæt"),
            ("made", "mˈAd"),
            ("cubes", "kˈubz"),
            ("light", "lˈIt"),
            ("ship", "ʃˈɪp"),
            ("phone", "fˈOn"),
            ("queen", "kwˈin"),
            ("knock", "nˈɑk"),
            ("boil", "bˈYl"),
            ("bird", "bˈɜɹd"),
            ("sing", "sˈɪŋ"),
        ] {
            assert_eq!(sound_out(word), phonemes, "{word}");
        }
    }

    #[test]
    fn stress_falls_where_english_puts_it_in_names() {
        assert_eq!(sound_out("Zorbano"), "zɔɹbˈænO");
        assert_eq!(sound_out("Gribbleton").matches('ˈ').count(), 1);
        assert_eq!(sound_out("Qwen"), "kwˈɛn");
    }

    #[test]
    fn acronyms_and_words_without_vowels_are_spelt() {
        assert_eq!(sound_out("GPT"), "ʤˌipˌitˈi");
        assert_eq!(sound_out("qzxwv"), "kjˌuzˌiˌɛksdˌʌbᵊljuvˈi");
        assert_eq!(sound_out("LLM"), "ˌɛlˌɛlˈɛm");
    }

    #[test]
    fn other_scripts_and_signs_are_silent_and_accents_are_dropped() {
        assert_eq!(sound_out("天空"), "");
        assert_eq!(sound_out("🙂—3"), "");
        assert_eq!(sound_out("Škoda"), sound_out("Skoda"));
    }

    proptest! {
        #[test]
        fn any_word_gives_known_signs_and_at_most_one_stress(word in "\\PC{0,24}") {
            let out = sound_out(&word);
            let known = "ˈˌAIOWYæɑɔəɛɜɪiʊuʌᵊbdfhjklmnpstvwzðŋɡɹʃʒʤʧθ";
            prop_assert!(out.chars().all(|c| known.contains(c)), "{:?} gave {:?}", word, out);
            prop_assert!(out.matches('ˈ').count() <= 1);
        }
    }
}
