//! Cuts an answer into clauses while it is still being written, so that the first can sound before the last is thought.
//!
//! Owns the text so far and nothing else: no thread, no clock, no sound. Invariants, each held by a property test: the
//! ranges of the clauses follow each other without gap or overlap and together are the whole text; where the cuts lie
//! does not depend on how the text was handed over.
//!
//! A cut is made only when what follows is known: "3." may become "3.5", "Dr." is followed by a name. In English text
//! a language model's tokens carry their leading space, so this costs no token of waiting in the usual case.

use std::ops::Range;

/// Why a clause ends where it does, which decides the pause after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClauseEnd {
    /// A full stop, a question mark, an exclamation mark.
    Sentence,
    /// A comma, colon, semicolon or dash; an ellipsis inside a sentence.
    Comma,
    /// The end of a line: a heading, an item of a list, a paragraph.
    Line,
    /// No punctuation came in time: cut between two words.
    Run,
    /// The end of the answer without closing punctuation.
    Text,
}

/// A piece of the answer to be spoken in one breath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Where it stands in the whole answer, in bytes. White space between two clauses belongs to the second.
    pub range: Range<usize>,
    pub text: String,
    pub end: ClauseEnd,
}

/// When a clause is long enough to be cut, in words (two Chinese characters count as one word).
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// At the end of a sentence.
    sentence: usize,
    /// At a comma or the like.
    comma: usize,
    /// Before a conjunction, without punctuation.
    conjunction: usize,
    /// Between any two words.
    any: usize,
}

/// The first clause is short because the listener waits for it; the second must be ready when the first has sounded;
/// from then on there is a lead, and longer clauses have better melody.
const LIMITS: [Limits; 3] = [
    Limits { sentence: 2, comma: 3, conjunction: 8, any: 14 },
    Limits { sentence: 2, comma: 5, conjunction: 12, any: 20 },
    Limits { sentence: 2, comma: 8, conjunction: 25, any: 40 },
];

/// Words before which a long run of words may be cut.
const CONJUNCTIONS: [&str; 29] = [
    "and", "but", "or", "nor", "so", "yet", "because", "that", "which", "who", "whose", "when", "while", "where", "if",
    "although", "though", "since", "unless", "until", "after", "before", "with", "without", "from", "into", "through",
    "during", "between",
];

/// Words that end in a full stop which does not end the sentence.
const ABBREVIATIONS: [&str; 45] = [
    "dr", "mr", "mrs", "ms", "prof", "rev", "hon", "gen", "col", "sgt", "capt", "lt", "gov", "sen", "rep", "st", "jr",
    "sr", "vs", "inc", "ltd", "co", "corp", "dept", "est", "approx", "ca", "cf", "al", "ave", "blvd", "mt", "ft",
    "jan", "feb", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "ed",
];

/// Words that are abbreviations only in front of a number: "No. 5", "Fig. 2".
const NUMBER_ABBREVIATIONS: [&str; 7] = ["no", "nos", "fig", "vol", "ch", "p", "pp"];

/// The incremental splitter. Feed it with [`push`](Self::push), take clauses with [`next_clause`](Self::next_clause)
/// until there are none, call [`finish`](Self::finish) when the answer is complete and take the remaining ones.
#[derive(Debug, Default)]
pub struct ClauseSplitter {
    text: String,
    start: usize,
    clauses: usize,
    finished: bool,
}

/// What a position in the text says about a cut there.
enum Verdict {
    /// Cut `len` bytes after the start of the clause.
    Cut(usize, ClauseEnd),
    /// What follows must be seen first.
    Wait,
}

impl ClauseSplitter {
    pub fn new() -> Self {
        Self::default()
    }

    /// More of the answer.
    pub fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// The answer is complete: what is left becomes the last clauses.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The answer so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The next clause whose end is certain, if there is one.
    pub fn next_clause(&mut self) -> Option<Clause> {
        let rest = &self.text[self.start..];
        if rest.is_empty() {
            return None;
        }
        let limits = LIMITS[self.clauses.min(LIMITS.len() - 1)];
        let (mut len, end) = match scan(rest, limits, self.finished) {
            Verdict::Cut(len, end) => (len, end),
            Verdict::Wait if self.finished => (rest.len(), ClauseEnd::Text),
            Verdict::Wait => return None,
        };
        if self.finished && rest[len..].trim().is_empty() {
            len = rest.len();
        }
        let range = self.start..self.start + len;
        self.start = range.end;
        self.clauses += 1;
        Some(Clause { text: self.text[range.clone()].to_owned(), range, end })
    }
}

/// Looks for the first certain cut in `rest`. `whole` says that nothing follows `rest`.
fn scan(rest: &str, limits: Limits, whole: bool) -> Verdict {
    let (mut tokens, mut cjk, mut in_word, mut token_start) = (0usize, 0usize, false, 0usize);
    let mut previous = None;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let words = tokens + cjk.div_ceil(2);
        let after = at + c.len_utf8();
        if c == '\n' && words > 0 {
            return Verdict::Cut(at, ClauseEnd::Line);
        }
        if c.is_whitespace() {
            if in_word && words >= limits.conjunction.min(limits.any) {
                match run_cut(&rest[at..], words, limits, last_word(&rest[..at]), whole) {
                    Some(true) => return Verdict::Cut(at, ClauseEnd::Run),
                    Some(false) => {}
                    None => return Verdict::Wait,
                }
            }
            in_word = false;
            token_start = after;
        } else if is_cjk(c) {
            cjk += 1;
            in_word = false;
            token_start = after;
            // No spaces between words: past the limit any place between two characters will do.
            if words >= limits.any && previous.is_some_and(is_cjk) {
                return Verdict::Cut(at, ClauseEnd::Run);
            }
        } else if c.is_alphanumeric() && !in_word {
            in_word = true;
            tokens += 1;
        }
        if is_mark(c) {
            // Take the whole run ("?!", "...") and the quotes and brackets that close after it.
            let mut end = after;
            let mut run = vec![c];
            while let Some(&(i, n)) = chars.peek() {
                if !(is_mark(n) || is_closer(n)) {
                    break;
                }
                if is_mark(n) {
                    run.push(n);
                }
                end = i + n.len_utf8();
                chars.next();
            }
            let follows = &rest[end..];
            if follows.is_empty() && !whole {
                return Verdict::Wait;
            }
            let Some(next) = follows.chars().find(|n| *n == '\n' || !n.is_whitespace()).or(whole.then_some('\n'))
            else {
                return Verdict::Wait;
            };
            let spaced = follows.chars().next().is_none_or(char::is_whitespace);
            let words = tokens + cjk.div_ceil(2);
            let strength = strength(&run, &rest[..at], &rest[token_start..at], spaced, next, previous);
            match strength {
                Some(ClauseEnd::Sentence) if words >= limits.sentence => {
                    return Verdict::Cut(end, ClauseEnd::Sentence);
                }
                Some(ClauseEnd::Comma) if words >= limits.comma => return Verdict::Cut(end, ClauseEnd::Comma),
                _ => {}
            }
            previous = run.last().copied();
            continue;
        }
        previous = Some(c);
    }
    Verdict::Wait
}

/// How strong a cut a run of marks makes: a sentence's end, a comma's, or none. `before` is the clause up to the marks,
/// `token` its last word, `spaced` whether white space (or nothing) follows, `next` what comes after the white space.
fn strength(
    run: &[char],
    before: &str,
    token: &str,
    spaced: bool,
    next: char,
    previous: Option<char>,
) -> Option<ClauseEnd> {
    let wide = run.iter().any(|c| matches!(c, '。' | '！' | '？' | '，' | '；' | '：' | '、'));
    let dash = run.iter().any(|c| matches!(c, '—' | '–'));
    // Latin marks between Chinese characters need no space; everywhere else one tells "3.5" and "a.b" from an end.
    let between_cjk = previous.is_some_and(is_cjk) && is_cjk(next);
    if !(spaced || wide || dash || between_cjk) {
        return None;
    }
    if run.iter().any(|c| matches!(c, '。' | '！' | '？')) {
        return Some(ClauseEnd::Sentence);
    }
    if run.iter().any(|c| matches!(c, '!' | '?')) {
        // "Why?" she asked.
        return Some(if next.is_lowercase() { ClauseEnd::Comma } else { ClauseEnd::Sentence });
    }
    let dots = run.iter().filter(|c| **c == '.').count();
    if dots > 1 || run.contains(&'…') {
        return Some(if next.is_lowercase() { ClauseEnd::Comma } else { ClauseEnd::Sentence });
    }
    if dots == 1 {
        // A lower-case word, or another dot (". . ."), goes on with the sentence.
        if next == '.' || next.is_lowercase() || is_list_number(before) || is_abbreviation(token, next) {
            return None;
        }
        return Some(ClauseEnd::Sentence);
    }
    if run == ['-'] {
        // A dash between two words, not the hyphen of a word or the mark of a list.
        return (token.is_empty() && !before.trim().is_empty()).then_some(ClauseEnd::Comma);
    }
    Some(ClauseEnd::Comma)
}

/// Whether to cut a run of words at the white space that begins `gap`; `None` when the next word is not complete.
fn run_cut(gap: &str, words: usize, limits: Limits, last: &str, whole: bool) -> Option<bool> {
    let follows = gap.trim_start();
    if words >= limits.any {
        return if follows.is_empty() && !whole { None } else { Some(!follows.is_empty()) };
    }
    let next = follows.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    if next.len() == follows.len() && !whole {
        return None;
    }
    // "three hundred and five" is one number.
    let number = ["hundred", "thousand", "million", "billion"].iter().any(|n| last.eq_ignore_ascii_case(n));
    Some(!number && CONJUNCTIONS.iter().any(|c| next.eq_ignore_ascii_case(c)))
}

/// The last word of `text`.
fn last_word(text: &str) -> &str {
    text.rsplit(char::is_whitespace).next().unwrap_or_default()
}

/// Whether everything in the current line before a full stop is a number, as in "2. Beat the eggs".
fn is_list_number(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    !line.is_empty() && line.chars().all(|c| c.is_ascii_digit())
}

/// Whether the full stop after `token` belongs to the word.
fn is_abbreviation(token: &str, next: char) -> bool {
    let token = token.trim_matches(|c: char| !c.is_alphanumeric() && c != '.');
    let lower = token.to_lowercase();
    // Initials: "J. Smith", but "so do I. Then".
    if token.chars().count() == 1 && token.chars().all(char::is_uppercase) && token != "I" {
        return true;
    }
    // "U.S.", "e.g.", "p.m.", "Ph.D."
    if token.contains('.') && token.split('.').all(|part| part.len() <= 2 && part.chars().all(char::is_alphabetic)) {
        return true;
    }
    if next.is_ascii_digit() && NUMBER_ABBREVIATIONS.contains(&lower.as_str()) {
        return true;
    }
    ABBREVIATIONS.contains(&lower.as_str())
}

/// A mark that may end a clause.
fn is_mark(c: char) -> bool {
    matches!(c, '.' | ',' | '!' | '?' | ';' | ':' | '…' | '—' | '–' | '-')
        || matches!(c, '。' | '！' | '？' | '，' | '；' | '：' | '、')
}

/// A sign that closes what the clause opened, and is therefore still part of it.
fn is_closer(c: char) -> bool {
    matches!(c, ')' | ']' | '}' | '"' | '\'' | '”' | '’' | '»' | '」' | '』' | '）' | '】' | '》' | '*' | '_' | '`')
}

/// A character of a script written without spaces between words.
fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All clauses of `text`, handed over in `pieces` of the given lengths in characters.
    fn split_in(text: &str, lengths: &[usize]) -> Vec<Clause> {
        let chars: Vec<char> = text.chars().collect();
        let mut splitter = ClauseSplitter::new();
        let mut clauses = Vec::new();
        let (mut at, mut turn) = (0, 0);
        while at < chars.len() {
            let n = lengths[turn % lengths.len()].clamp(1, chars.len() - at);
            splitter.push(&chars[at..at + n].iter().collect::<String>());
            while let Some(clause) = splitter.next_clause() {
                clauses.push(clause);
            }
            at += n;
            turn += 1;
        }
        splitter.finish();
        while let Some(clause) = splitter.next_clause() {
            clauses.push(clause);
        }
        assert_eq!(splitter.text(), text);
        clauses
    }

    fn split(text: &str) -> Vec<String> {
        split_in(text, &[1]).into_iter().map(|c| c.text).collect()
    }

    #[test]
    fn the_first_clause_comes_early_and_later_ones_are_longer() {
        let text = "The sky looks blue, because air scatters blue light, which has a short wave. \
                    At sunset, the light has a longer way, so red is left.";
        assert_eq!(
            split(text),
            [
                "The sky looks blue,",
                " because air scatters blue light,",
                " which has a short wave.",
                " At sunset, the light has a longer way,",
                " so red is left."
            ]
        );
    }

    #[test]
    fn a_word_and_a_comma_are_not_worth_a_clause() {
        assert_eq!(split("Yes, it is. Thanks."), ["Yes, it is.", " Thanks."]);
        assert_eq!(split("Sure! Here it is."), ["Sure! Here it is."]);
    }

    #[test]
    fn a_long_run_without_punctuation_is_cut_before_a_conjunction() {
        assert_eq!(
            split("Plants take in light through their green leaves and turn it into sugar for food."),
            ["Plants take in light through their green leaves", " and turn it into sugar for food."]
        );
        // Nothing to cut before: at the hard limit, between words.
        let many = "word ".repeat(30);
        let clauses = split(&many);
        assert_eq!(clauses[0].split_whitespace().count(), 14);
        assert_eq!(clauses[1].split_whitespace().count(), 16);
    }

    #[test]
    fn the_first_clause_does_not_wait_for_more_than_the_next_word() {
        let mut splitter = ClauseSplitter::new();
        splitter.push("It is three o'clock,");
        assert_eq!(splitter.next_clause(), None, "the comma may stand inside a number");
        splitter.push(" so");
        assert_eq!(splitter.next_clause().map(|c| c.range), Some(0..20));
        assert_eq!(splitter.next_clause(), None);
    }

    #[test]
    fn numbers_abbreviations_addresses_and_ellipses_stay_whole() {
        for whole in [
            "Pi is about 3.14159 or 3.1 for short",
            "It costs 1,000 or 12,345.67 dollars",
            "Ask Dr. Smith or Mrs. Jones or J. Doe today",
            "Pick a fruit, e.g. an apple, i.e. no cake",
            "The U.S. Senate met at 10 a.m. Monday",
            "Look at https://example.com/a,b?c=d.e!f now",
            "It is on page No. 5 of Vol. 3 today",
            "Trains leave at 10:30 or 11:45 every day",
            "Well... . . . maybe not",
            "A well-known state-of-the-art twenty-one",
        ] {
            // Only commas with enough words before them may cut here.
            for clause in split(whole) {
                let text = clause.trim();
                assert!(whole.ends_with(text) || text.ends_with(','), "{whole:?} was cut after {text:?}");
            }
        }
        assert_eq!(split("I know the answer is no. But why?"), ["I know the answer is no.", " But why?"]);
        assert_eq!(split("Read example.com. It is good."), ["Read example.com.", " It is good."]);
        assert_eq!(split("That was in 1984. Then it ended."), ["That was in 1984.", " Then it ended."]);
    }

    #[test]
    fn quotes_and_brackets_close_with_their_clause() {
        assert_eq!(
            split("\"It is late!\" They left (at last.) Good night."),
            ["\"It is late!\"", " They left (at last.)", " Good night."]
        );
        assert_eq!(split("**It is late.** They left."), ["**It is late.**", " They left."]);
    }

    #[test]
    fn lines_of_a_list_end_a_clause_and_their_numbers_do_not() {
        let clauses = split_in("Here you go:\n1. Apples\n2. Ripe pears\n- Plums\n\nEnjoy them!", &[3]);
        let texts: Vec<&str> = clauses.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["Here you go:", "\n1. Apples", "\n2. Ripe pears", "\n- Plums", "\n\nEnjoy them!"]);
        assert_eq!(clauses[1].end, ClauseEnd::Line);
        assert_eq!(clauses[4].end, ClauseEnd::Sentence);
    }

    #[test]
    fn chinese_is_cut_at_its_own_punctuation() {
        assert_eq!(
            split("天空是蓝色的，因为空气散射蓝光。你明白吗？好的！"),
            ["天空是蓝色的，", "因为空气散射蓝光。", "你明白吗？", "好的！"]
        );
        assert_eq!(split("天空是蓝色的,因为空气散射蓝光.")[0], "天空是蓝色的,");
        // A run without punctuation still ends.
        let long = "天".repeat(60);
        assert_eq!(split(&long)[0].chars().count(), 27);
    }

    #[test]
    fn ends_say_why() {
        let ends: Vec<ClauseEnd> =
            split_in("One two three, four five six. Seven eight", &[4]).iter().map(|c| c.end).collect();
        assert_eq!(ends, [ClauseEnd::Comma, ClauseEnd::Sentence, ClauseEnd::Text]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn nothing_is_lost_and_the_cuts_do_not_depend_on_the_pieces(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "word", "and", "3.5", "1,000", "Dr.", "e.g.", "U.S.", "no.", "end.", "why?", "wait...", "…", "so,",
                    "this:", "that;", "—", "-", "\n", "\n\n", "1.", "(a", "b)", "\"x.\"", "好的", "，", "。", "天空",
                    "https://a.b/c,d", " ", "\t", "é", "🙂", "I.", "hundred", "*b*",
                ]),
                0..60,
            ),
            spaced in prop::collection::vec(any::<bool>(), 60),
            lengths in prop::collection::vec(1usize..9, 1..6),
        ) {
            let mut text = String::new();
            for (word, space) in words.iter().zip(&spaced) {
                text.push_str(word);
                if *space {
                    text.push(' ');
                }
            }
            let clauses = split_in(&text, &lengths);
            let mut at = 0;
            for clause in &clauses {
                prop_assert_eq!(clause.range.start, at);
                prop_assert!(!clause.range.is_empty());
                prop_assert_eq!(&text[clause.range.clone()], clause.text.as_str());
                at = clause.range.end;
            }
            prop_assert_eq!(at, text.len());
            prop_assert_eq!(&clauses, &split_in(&text, &[text.len().max(1)]));
            prop_assert_eq!(&clauses, &split_in(&text, &[1]));
        }
    }
}
