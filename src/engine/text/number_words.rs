//! Numbers as English words: cardinals, ordinals, years, decimals, digits.
//!
//! Pure. Numbers come as strings of decimal digits, so that nothing is lost to rounding; British "and" before tens, as
//! the reference (`tests/fixtures/speakable_numbers.py`) has it, without the commas.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [&str; 8] =
    ["", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion", "sextillion"];
const IRREGULAR: [(&str, &str); 7] = [
    ("one", "first"),
    ("two", "second"),
    ("three", "third"),
    ("five", "fifth"),
    ("eight", "eighth"),
    ("nine", "ninth"),
    ("twelve", "twelfth"),
];

fn below_hundred(n: usize) -> String {
    match (n / 10, n % 10) {
        (0 | 1, _) => SMALL[n % 20].to_owned(),
        (tens, 0) => TENS[tens % 10].to_owned(),
        (tens, ones) => format!("{}-{}", TENS[tens % 10], SMALL[ones]),
    }
}

fn below_thousand(n: usize) -> String {
    match (n / 100, n % 100) {
        (0, rest) => below_hundred(rest),
        (hundreds, 0) => format!("{} hundred", SMALL[hundreds % 20]),
        (hundreds, rest) => format!("{} hundred and {}", SMALL[hundreds % 20], below_hundred(rest)),
    }
}

/// Digits one by one: "one two three".
pub fn digits(text: &str) -> String {
    let words: Vec<&str> = text.bytes().filter(u8::is_ascii_digit).map(|b| SMALL[usize::from(b - b'0')]).collect();
    words.join(" ")
}

/// `text`, decimal digits, as a cardinal; too long a number digit by digit.
pub fn cardinal(text: &str) -> String {
    let text = text.trim_start_matches('0');
    if text.is_empty() {
        return SMALL[0].to_owned();
    }
    let groups: Vec<usize> =
        text.as_bytes().rchunks(3).rev().map(|g| g.iter().fold(0, |n, b| n * 10 + usize::from(b - b'0'))).collect();
    if groups.len() > SCALES.len() {
        return digits(text);
    }
    let mut words = Vec::new();
    for (i, &group) in groups.iter().enumerate() {
        let scale = groups.len() - 1 - i;
        if group == 0 {
            continue;
        }
        if scale == 0 && group < 100 && !words.is_empty() {
            words.push("and".to_owned());
        }
        words.push(below_thousand(group));
        if scale > 0 {
            words.push(SCALES[scale].to_owned());
        }
    }
    words.join(" ")
}

/// `text`, decimal digits, as an ordinal: "twenty-first".
pub fn ordinal(text: &str) -> String {
    let words = cardinal(text);
    let split = words.rfind([' ', '-']).map_or(0, |i| i + 1);
    let (head, last) = words.split_at(split);
    let last = match IRREGULAR.iter().find(|(c, _)| *c == last) {
        Some((_, o)) => (*o).to_owned(),
        None => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    };
    format!("{head}{last}")
}

/// A year of four digits, as it is said: "nineteen eighty-four", "two thousand and five", "nineteen oh-five".
pub fn year(text: &str) -> String {
    let n: usize = text.parse().unwrap_or(0);
    let (century, rest) = (n / 100, n % 100);
    if !(1000..=9999).contains(&n) || century % 10 == 0 && rest < 10 {
        return cardinal(text);
    }
    match rest {
        0 => format!("{} hundred", below_hundred(century)),
        1..=9 => format!("{} oh-{}", below_hundred(century), SMALL[rest]),
        _ => format!("{} {}", below_hundred(century), below_hundred(rest)),
    }
}

/// The plural of the last word: "nineties", "thirds", "halves".
pub fn plural(words: &str) -> String {
    match words.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if words.ends_with("half") => format!("{}halves", &words[..words.len() - 4]),
        None if words.ends_with('x') => format!("{words}es"),
        None => format!("{words}s"),
    }
}

/// `a/b` as a fraction: "three quarters", "one half"; large denominators as "a over b".
pub fn fraction(a: &str, b: &str) -> String {
    let one = a == "1";
    let part = match b {
        "2" => "half".to_owned(),
        "4" => "quarter".to_owned(),
        _ => match b.parse::<u32>() {
            Ok(3..=20 | 100 | 1000) => ordinal(b),
            _ => return format!("{} over {}", cardinal(a), cardinal(b)),
        },
    };
    format!("{} {}", cardinal(a), if one { part } else { plural(&part) })
}

/// A number with an optional fraction: "three point one four"; codes with leading zeros digit by digit.
pub fn decimal(whole: &str, fraction: Option<&str>) -> String {
    let code = whole.len() > 1 && whole.starts_with('0') && fraction.is_none();
    let head = if code { digits(whole) } else { cardinal(whole) };
    match fraction {
        Some(f) => format!("{head} point {}", digits(f)),
        None => head,
    }
}
