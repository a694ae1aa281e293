//! English: abbreviations, months, reigns, addresses and symbols as words; numbers are handed to `english_numbers`.
//!
//! Pure. Walks the text once, from left to right; at each place the first rule that fits takes what it understands.

use super::english_numbers::{Number, number};
use super::number_words::{cardinal, digits, ordinal, year};

/// What is written and what is said; the longest that fits at a place wins. With the dot, where there is one.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("Dr.", "Doctor"),
    ("Mr.", "Mister"),
    ("Mrs.", "Missus"),
    ("Ms.", "Miz"),
    ("Prof.", "Professor"),
    ("Jr.", "Junior"),
    ("Sr.", "Senior"),
    ("Gen.", "General"),
    ("Sgt.", "Sergeant"),
    ("Capt.", "Captain"),
    ("Lt.", "Lieutenant"),
    ("Rev.", "Reverend"),
    ("Hon.", "Honorable"),
    ("Mt.", "Mount"),
    ("Ft.", "Fort"),
    ("Ave.", "Avenue"),
    ("Blvd.", "Boulevard"),
    ("Rd.", "Road"),
    ("Inc.", "Incorporated"),
    ("Ltd.", "Limited"),
    ("Co.", "Company"),
    ("Corp.", "Corporation"),
    ("Dept.", "Department"),
    ("vs.", "versus"),
    ("vs", "versus"),
    ("etc.", "et cetera"),
    ("etc", "et cetera"),
    ("e.g.", "for example"),
    ("E.g.", "For example"),
    ("i.e.", "that is"),
    ("I.e.", "That is"),
    ("approx.", "approximately"),
    ("No.", "number"),
    ("Vol.", "Volume"),
    ("Fig.", "Figure"),
    ("Ph.D.", "P H D"),
    ("PhD", "P H D"),
    ("a.m.", "A M"),
    ("p.m.", "P M"),
    ("A.M.", "A M"),
    ("P.M.", "P M"),
    ("w/o", "without"),
    ("w/", "with"),
    ("and/or", "and or"),
    ("et al.", "and others"),
    ("cf.", "compare"),
    ("ca.", "around"),
    ("est.", "established"),
    ("Jan.", "January"),
    ("Feb.", "February"),
    ("Mar.", "March"),
    ("Apr.", "April"),
    ("Aug.", "August"),
    ("Sept.", "September"),
    ("Sep.", "September"),
    ("Oct.", "October"),
    ("Nov.", "November"),
    ("Dec.", "December"),
];

pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// After these a Roman number counts things: "World War two".
const COUNTED: &[&str] = &[
    "War", "Chapter", "Part", "Act", "Volume", "Book", "Section", "Article", "Title", "Phase", "Type", "Bowl", "Scene",
    "Rocky",
];

/// After these it numbers reigns: "Henry the Eighth".
const REIGNS: &[&str] = &[
    "Henry",
    "Louis",
    "Elizabeth",
    "George",
    "Charles",
    "Edward",
    "William",
    "James",
    "Richard",
    "Philip",
    "Paul",
    "Francis",
    "Napoleon",
    "Benedict",
    "Pius",
    "Leo",
    "Alexander",
    "Peter",
    "Catherine",
    "Frederick",
    "Ramesses",
    "Nicholas",
    "Ferdinand",
];

/// Endings that make a dotted word an address.
const DOMAINS: &[&str] = &[
    "com", "org", "net", "edu", "gov", "io", "ai", "dev", "co", "uk", "de", "fr", "cn", "jp", "info", "app", "eu", "us",
];

/// `text`, free of Markdown, in words.
pub fn say(text: &str) -> String {
    let text = text.replace(['‘', '’'], "'").replace(['“', '”'], "\"");
    let mut out = Words { text: String::with_capacity(text.len() * 2) };
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let before = text[..at].chars().next_back();
        let taken = address(rest, before, &mut out)
            .or_else(|| abbreviation(rest, before, &mut out))
            .or_else(|| initials(rest, before, &mut out))
            .or_else(|| month_and_day(rest, before, &mut out))
            .or_else(|| roman(rest, before, &mut out))
            .or_else(|| numeric(rest, &text[..at], &mut out))
            .or_else(|| symbol(rest, &text[..at], &mut out));
        at += match taken {
            Some(n) => n,
            None => {
                let c = rest.chars().next().unwrap_or(' ');
                match c {
                    c if c.is_ascii_digit() => out.word(&digits(&rest[..1])),
                    c => out.text.push(c),
                }
                c.len_utf8()
            }
        };
    }
    out.text
}

/// Spoken text being put together.
pub struct Words {
    text: String,
}

impl Words {
    /// Adds `words`, apart from a word before.
    fn word(&mut self, words: &str) {
        if self.text.ends_with(|c: char| c.is_alphanumeric() || "-,.;:!?)\"".contains(c)) {
            if self.text.ends_with('-') {
                self.text.pop();
            }
            self.text.push(' ');
        }
        self.text.push_str(words);
    }

    fn pause(&mut self) {
        self.text.push_str(", ");
    }
}

fn word_start(before: Option<char>) -> bool {
    !before.is_some_and(|c| c.is_alphanumeric() || c == '\'')
}

fn word_end(rest: &str) -> bool {
    !rest.starts_with(char::is_alphanumeric)
}

/// The letters `rest` begins with.
fn letters(rest: &str) -> &str {
    &rest[..rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len())]
}

fn address(rest: &str, before: Option<char>, out: &mut Words) -> Option<usize> {
    if !word_start(before) || !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let run = rest.split(|c: char| c.is_whitespace() || "\"'()<>,，。".contains(c)).next()?;
    let run = run.trim_end_matches(['.', '!', '?', ':', ';']);
    let bare = run.strip_prefix("https://").or_else(|| run.strip_prefix("http://"));
    let address = bare.unwrap_or(run);
    let address = address.strip_prefix("www.").unwrap_or(address);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let known = host.rsplit_once('.').is_some_and(|(name, end)| {
        DOMAINS.contains(&end)
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._@+".contains(c))
            && !name.is_empty()
    });
    if bare.is_none() && !known {
        return None;
    }
    out.word(&spell(host));
    // A short path is said; a long one is of no use to the ear.
    let path = path.split(['?', '#']).next().unwrap_or("").trim_end_matches('/');
    if !path.is_empty() && !path.contains('/') && path.chars().all(|c| c.is_ascii_alphabetic() || c == '-') {
        out.word("slash");
        out.word(&spell(path));
    }
    Some(run.len())
}

/// An address's name, sign by sign where it has signs.
fn spell(name: &str) -> String {
    let mut out = Words { text: String::new() };
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let run = &rest[..rest
            .find(|d: char| d.is_ascii_digit() != c.is_ascii_digit() || !d.is_alphanumeric())
            .unwrap_or(rest.len())];
        match c {
            '.' => out.word("dot"),
            '@' => out.word("at"),
            '-' => out.word("dash"),
            '_' => out.word("underscore"),
            '+' => out.word("plus"),
            ':' => out.word("colon"),
            c if c.is_ascii_digit() => out.word(&if run.len() > 2 { digits(run) } else { cardinal(run) }),
            c if c.is_alphabetic() => out.word(run),
            _ => {}
        }
        rest = &rest[run.len().max(c.len_utf8())..];
    }
    out.text
}

fn abbreviation(rest: &str, before: Option<char>, out: &mut Words) -> Option<usize> {
    if !word_start(before) || before == Some('.') {
        return None;
    }
    if let Some(after) = rest.strip_prefix("St.") {
        // "Main St." is a street; "St. Louis", after anything but a name, a saint.
        let last = out.text.trim_end().rsplit(' ').next().unwrap_or("");
        let after_name = last.starts_with(char::is_uppercase) && !["The", "In", "At", "On", "And"].contains(&last);
        let before_name = after.trim_start().starts_with(char::is_uppercase);
        out.word(if before_name && !after_name { "Saint" } else { "Street" });
        return Some(3);
    }
    let (written, said) = ABBREVIATIONS
        .iter()
        .filter(|(w, _)| rest.strip_prefix(w).is_some_and(|r| w.ends_with('/') || word_end(r)))
        .max_by_key(|(w, _)| w.len())?;
    let after = &rest[written.len()..];
    // "No." is a number only before one, and a sentence otherwise; months likewise need a day or a year.
    let next_is_digit = after.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let month = MONTHS.contains(said);
    if (*written == "No." || *written == "Mar." || *written == "Fig." || *written == "Vol.") && !next_is_digit {
        return None;
    }
    if month && next_is_digit {
        let full = format!("{said}{after}");
        if let Some(taken) = month_and_day(&full, None, out) {
            return Some(taken - said.len() + written.len());
        }
    }
    out.word(said);
    // The dot of an abbreviation that ends the clause ends the sentence too.
    if written.ends_with('.') && after.trim().is_empty() && before.is_some() {
        out.text.push('.');
    }
    if written.ends_with('/') {
        out.text.push(' ');
    }
    Some(written.len())
}

/// "U.S." and the like: capitals with dots, letter by letter.
fn initials(rest: &str, before: Option<char>, out: &mut Words) -> Option<usize> {
    if !word_start(before) {
        return None;
    }
    let bytes = rest.as_bytes();
    let pairs = bytes.chunks_exact(2).take_while(|p| p[0].is_ascii_uppercase() && p[1] == b'.').count();
    if pairs < 2 {
        return None;
    }
    let said: Vec<String> = bytes[..2 * pairs].iter().step_by(2).map(|b| char::from(*b).to_string()).collect();
    out.word(&said.join(" "));
    if rest[2 * pairs..].trim().is_empty() {
        out.text.push('.');
    }
    Some(2 * pairs)
}

/// "June 5, 2024", "May 3rd", "June 2024".
fn month_and_day(rest: &str, before: Option<char>, out: &mut Words) -> Option<usize> {
    if !word_start(before) {
        return None;
    }
    let name = letters(rest);
    let month = MONTHS.iter().find(|m| **m == name)?;
    let after = rest[name.len()..].strip_prefix(' ')?;
    let run = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let first = run(after);
    let follows = &after[first..];
    let plain_end = word_end(follows)
        && !follows.starts_with([':', '%', '/'])
        && !(follows.starts_with(['.', ',']) && follows[1..].starts_with(|c: char| c.is_ascii_digit()));
    if first == 4 && plain_end {
        out.word(month);
        out.word(&year(&after[..4]));
        return Some(name.len() + 1 + 4);
    }
    let suffix = ["st", "nd", "rd", "th"].iter().find(|s| follows.starts_with(**s)).map_or(0, |s| s.len());
    if !(1..=2).contains(&first)
        || !(plain_end || suffix > 0)
        || !(1..=31).contains(&after[..first].parse::<u32>().ok()?)
    {
        return None;
    }
    out.word(month);
    out.word(&ordinal(&after[..first]));
    let mut taken = name.len() + 1 + first + suffix;
    let behind = &rest[taken..];
    let of_year = behind.strip_prefix(", ").or_else(|| behind.strip_prefix(' ')).unwrap_or("");
    if run(of_year) == 4 && word_end(&of_year[4..]) {
        out.pause();
        out.word(&year(&of_year[..4]));
        taken += behind.len() - of_year.len() + 4;
    }
    Some(taken)
}

fn roman(rest: &str, before: Option<char>, out: &mut Words) -> Option<usize> {
    if before != Some(' ') || !rest.starts_with(['I', 'V', 'X']) {
        return None;
    }
    let numeral = &rest[..rest.find(|c: char| !"IVXL".contains(c)).unwrap_or(rest.len())];
    let after = &rest[numeral.len()..];
    if !word_end(after) || after.starts_with('\'') {
        return None;
    }
    let value = roman_value(numeral)?;
    let last = out.text.trim_end().rsplit(' ').next().unwrap_or("").to_owned();
    if COUNTED.contains(&last.as_str()) {
        out.word(&cardinal(&value.to_string()));
        return Some(numeral.len());
    }
    // "Charles I am" is no king.
    if REIGNS.contains(&last.as_str()) && (value > 1 || !after.starts_with(" a")) {
        out.word(&format!("the {}", ordinal(&value.to_string())));
        return Some(numeral.len());
    }
    None
}

/// The value of a well-formed Roman number up to 89.
fn roman_value(numeral: &str) -> Option<u32> {
    let ones = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"];
    let tens = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX"];
    (1..=89u32).find(|n| format!("{}{}", tens[(n / 10) as usize], ones[(n % 10) as usize]) == numeral)
}

fn numeric(rest: &str, before: &str, out: &mut Words) -> Option<usize> {
    let Number { words, taken } = number(rest, before)?;
    let glued = before.ends_with(char::is_alphabetic);
    if glued {
        out.text.push(' ');
    }
    out.word(&words);
    if rest[taken..].starts_with(char::is_alphabetic) {
        out.text.push(' ');
    }
    Some(taken)
}

fn symbol(rest: &str, before: &str, out: &mut Words) -> Option<usize> {
    let c = rest.chars().next()?;
    let after = &rest[c.len_utf8()..];
    let number_after = after.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '(' || c == '$');
    let number_before = before.trim_end().ends_with(|c: char| c.is_ascii_digit() || c == ')' || c == '%');
    let spaced = before.ends_with(' ') && after.starts_with(' ');
    match c {
        '&' => out.word("and "),
        '@' => out.word("at "),
        '+' if number_after || spaced => out.word("plus "),
        '+' if before.ends_with(char::is_alphanumeric) => out.word("plus"),
        '=' => out.word("equals "),
        '×' => out.word("times "),
        '÷' => out.word("divided by "),
        '±' => out.word("plus or minus "),
        '≈' => out.word("is about "),
        '≠' => out.word("is not equal to "),
        '≤' => out.word("is at most "),
        '≥' => out.word("is at least "),
        '<' if spaced || number_after => out.word("is less than "),
        '>' if spaced || number_after => out.word("is greater than "),
        '√' => out.word("the square root of "),
        'π' => out.word("pi"),
        '∞' => out.word("infinity"),
        '→' | '⇒' => out.word("to "),
        '%' => out.word("percent"),
        '°' => out.word("degrees"),
        '²' => out.word("squared"),
        '³' => out.word("cubed"),
        '^' if number_after => out.word("to the power of "),
        '~' if number_after => out.word("about "),
        '#' if number_after => out.word("number "),
        '-' | '−' if spaced && number_before && number_after => out.word("minus "),
        '/' if spaced && number_before && number_after => out.word("divided by "),
        '/' if before.ends_with(char::is_alphabetic) && after.starts_with(char::is_alphabetic) => out.word("or "),
        '—' | '–' => out.pause(),
        '-' if spaced || before.trim().is_empty() => out.pause(),
        // A hyphen between a word and a number joins them.
        '-' if after.starts_with(|c: char| c.is_ascii_digit()) && before.ends_with(char::is_alphabetic) => {
            out.text.push(' ')
        }
        '(' | ')' | '[' | ']' | '{' | '}' => {
            let at_edge = before.trim().is_empty()
                || after.trim_start().is_empty()
                || after.starts_with(|c: char| c.is_ascii_punctuation());
            let call = c == '(' && after.starts_with(')') || c == ')' && before.ends_with('(');
            if call || at_edge || number_before && c == '(' && before.ends_with(char::is_alphanumeric) {
                out.text.push(' ');
            } else {
                out.pause();
            }
        }
        '…' => out.text.push('.'),
        '.' if after.starts_with(char::is_lowercase) && before.ends_with(char::is_alphanumeric) => out.word("dot "),
        '"' | '#' | '~' | '^' | '+' | '<' | '>' | '•' | '™' | '®' | '©' | '\\' | '/' | '_' => out.text.push(' '),
        c if c.is_control() => out.text.push(' '),
        _ => return None,
    }
    Some(c.len_utf8())
}
