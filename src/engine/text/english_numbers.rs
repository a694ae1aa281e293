//! English: what a number means where it stands. Money, dates, times, telephone numbers, ranges, fractions, units, years.
//!
//! Pure. [`number`] looks at what follows the digits, and a little at what came before, and says how much it took.

use super::english::MONTHS;
use super::number_words::{cardinal, decimal, digits, fraction, ordinal, plural, year};
use super::units;

/// Words for something numeric, and how many bytes of the text they stand for.
pub struct Number {
    pub words: String,
    pub taken: usize,
}

/// Digits as they are written: the whole part without its grouping commas, and what follows the point.
#[derive(Clone, Copy)]
struct Figure<'a> {
    raw: &'a str,
    fraction: Option<&'a str>,
    len: usize,
    grouped: bool,
}

impl Figure<'_> {
    fn whole(&self) -> String {
        self.raw.replace(',', "")
    }

    fn words(&self) -> String {
        decimal(&self.whole(), self.fraction)
    }

    fn is_one(&self) -> bool {
        self.fraction.is_none() && self.raw == "1"
    }

    fn plain(&self) -> bool {
        self.fraction.is_none() && !self.grouped
    }

    /// Whether these digits, standing alone, look like a year.
    fn like_year(&self) -> bool {
        self.plain() && self.raw.len() == 4 && ("1100"..="2099").contains(&self.raw)
    }
}

fn run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn word_end(rest: &str) -> bool {
    !rest.starts_with(char::is_alphanumeric)
}

fn figure(text: &str) -> Option<Figure<'_>> {
    let first = run(text);
    let mut len = first;
    let mut grouped = false;
    if (1..=3).contains(&first) {
        while text[len..].starts_with(',') && run(&text[len + 1..]) == 3 {
            len += 4;
            grouped = true;
        }
    }
    let whole = len;
    let point = text[whole..].strip_prefix('.').map_or(0, run);
    if first == 0 && point == 0 {
        return None;
    }
    let fraction = (point > 0).then(|| &text[whole + 1..whole + 1 + point]);
    Some(Figure { raw: &text[..whole], fraction, len: whole + if point > 0 { 1 + point } else { 0 }, grouped })
}

/// The number at the beginning of `rest`, of which `before` has been read already.
pub fn number(rest: &str, before: &str) -> Option<Number> {
    let after_word = before.ends_with(char::is_alphanumeric);
    let after_letter = before.ends_with(char::is_alphabetic);
    if after_word && !(after_letter && starts_with_digit(rest)) {
        return None;
    }
    if let Some(code) = rest.strip_prefix('\'').filter(|r| run(r) == 2 && r[2..].starts_with('s') && word_end(&r[3..]))
    {
        return Some(Number { words: plural(&cardinal(&code[..2])), taken: 4 });
    }
    let free = before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || "([\"=×".contains(c));
    if let Some(unsigned) = rest.strip_prefix(['-', '−', '+']).filter(|_| free) {
        let sign = if rest.starts_with('+') { "plus" } else { "minus" };
        if sign == "plus"
            && let Some(n) = telephone(rest)
        {
            return Some(n);
        }
        let n = starts_with_digit(unsigned.trim_start_matches(['$', '€', '£', '.']))
            .then(|| number(unsigned, ""))
            .flatten()?;
        return Some(Number { words: format!("{sign} {}", n.words), taken: n.taken + rest.len() - unsigned.len() });
    }
    if let Some(n) = money(rest) {
        return Some(n);
    }
    if let Some(half) = vulgar(rest) {
        return Some(half);
    }
    if after_letter {
        let n = run(rest);
        return Some(Number { words: decimal(&rest[..n], None), taken: n });
    }
    telephone(rest)
        .or_else(|| date(rest))
        .or_else(|| time(rest))
        .or_else(|| ratio_or_fraction(rest))
        .or_else(|| figures(rest, before))
}

/// `½` and its like, alone.
fn vulgar(rest: &str) -> Option<Number> {
    let c = rest.chars().next()?;
    let words = match c {
        '½' => "one half",
        '¼' => "one quarter",
        '¾' => "three quarters",
        '⅓' => "one third",
        '⅔' => "two thirds",
        '⅛' => "one eighth",
        _ => return None,
    };
    Some(Number { words: words.into(), taken: c.len_utf8() })
}

fn scale(rest: &str, letters: bool) -> Option<(&'static str, usize)> {
    const WORDS: [&str; 5] = ["hundred", "thousand", "million", "billion", "trillion"];
    const LETTERS: [(&str, &str); 6] =
        [("bn", "billion"), ("k", "thousand"), ("K", "thousand"), ("M", "million"), ("m", "million"), ("B", "billion")];
    if let Some(word) = rest.strip_prefix(' ') {
        return WORDS.iter().find(|w| word.strip_prefix(**w).is_some_and(word_end)).map(|w| (*w, w.len() + 1));
    }
    let found = LETTERS.iter().find(|(l, _)| rest.strip_prefix(l).is_some_and(word_end))?;
    letters.then_some((found.1, found.0.len()))
}

/// `$5`, `€2.50`, `$5 million`, `$5-10`, `USD 5`.
fn money(rest: &str) -> Option<Number> {
    let (currency, sign) = units::find_currency(rest, "yen")?;
    let gap = usize::from(rest[sign..].starts_with(' '));
    let first = figure(&rest[sign + gap..])?;
    let mut taken = sign + gap + first.len;
    let mut words = first.words();
    let range = rest[taken..].strip_prefix(['-', '–', '—']).and_then(|r| {
        let s = units::find_currency(r, "yen").map_or(0, |(_, s)| s);
        figure(&r[s..]).map(|f| (f, rest[taken..].len() - r.len() + s))
    });
    if let Some((second, skipped)) = range {
        words = format!("{words} to {}", second.words());
        taken += skipped + second.len;
    }
    if let Some((by, len)) = scale(&rest[taken..], true) {
        return Some(Number { words: format!("{words} {by} {}", currency.many), taken: taken + len });
    }
    match first.fraction {
        Some(cents) if range.is_none() && cents.len() == 2 && !currency.cent.is_empty() => {
            let part = |n: &str, one: &str, many: &str| {
                let n = n.trim_start_matches('0');
                format!("{} {}", cardinal(n), if n == "1" { one } else { many })
            };
            let whole = first.whole();
            words = match (whole.as_str(), cents) {
                (w, "00") => part(w, currency.one, currency.many),
                ("0" | "", c) => part(c, currency.cent, currency.cents),
                (w, c) => {
                    format!("{} and {}", part(w, currency.one, currency.many), part(c, currency.cent, currency.cents))
                }
            };
        }
        _ => {
            let one = first.is_one() && range.is_none();
            words = format!("{words} {}", if one { currency.one } else { currency.many });
        }
    }
    Some(Number { words, taken })
}

/// `555-1234`, `(555) 123-4567`, `+1 555 123 4567`: digit by digit, with a breath between the groups.
fn telephone(rest: &str) -> Option<Number> {
    let international = rest.starts_with('+');
    let mut at = usize::from(international);
    let mut groups: Vec<&str> = Vec::new();
    let mut dashes = 0;
    let mut brackets = false;
    loop {
        let open = rest[at..].starts_with('(');
        let from = at + usize::from(open);
        let n = run(&rest[from..]);
        if n == 0 || n > 4 {
            break;
        }
        groups.push(&rest[from..from + n]);
        at = from + n;
        if open {
            if !rest[at..].starts_with(')') {
                return None;
            }
            brackets = true;
            at += 1;
        }
        let gap = rest[at..].chars().take_while(|c| matches!(c, '-' | ' ' | '.')).count();
        let joined = gap == 1 || gap == 0 && open;
        if !joined || !rest[at + gap..].starts_with(|c: char| c.is_ascii_digit() || c == '(') {
            break;
        }
        dashes += usize::from(rest[at..].starts_with('-'));
        at += gap;
    }
    let lengths: Vec<usize> = groups.iter().map(|g| g.len()).collect();
    let total: usize = lengths.iter().sum();
    let american =
        matches!(lengths[..], [3, 4] | [3, 3, 4] | [1, 3, 3, 4]) && dashes + 1 + usize::from(brackets) >= groups.len();
    if !(american || international && (7..=15).contains(&total) && groups.len() >= 2) || !word_end(&rest[at..]) {
        return None;
    }
    let spoken: Vec<String> = groups.iter().map(|g| digits(g)).collect();
    let plus = if international { "plus " } else { "" };
    Some(Number { words: format!("{plus}{}", spoken.join(", ")), taken: at })
}

/// `2024-05-06`, `5/6/2024` (month first, unless that cannot be), `5 June 2024`.
fn date(rest: &str) -> Option<Number> {
    let first = run(rest);
    let name =
        rest[first..].strip_prefix(' ').map_or("", |r| &r[..r.find(|c: char| !c.is_alphabetic()).unwrap_or(r.len())]);
    if MONTHS.contains(&name) && (1..=2).contains(&first) && name != "May" {
        let mut words = format!("the {} of {name}", ordinal(&rest[..first]));
        let mut taken = first + 1 + name.len();
        if let Some(y) = rest[taken..].strip_prefix(' ').filter(|y| run(y) == 4 && word_end(&y[4..])) {
            words = format!("{words}, {}", year(&y[..4]));
            taken += 5;
        }
        return Some(Number { words, taken });
    }
    let sign = rest[first..].chars().next().filter(|c| matches!(c, '-' | '/'))?;
    let mut parts = rest.splitn(3, sign);
    let (a, b, c) = (parts.next()?, parts.next()?, parts.next()?);
    let c = &c[..run(c)];
    let taken = a.len() + b.len() + c.len() + 2;
    let small = |s: &str| (1..=2).contains(&s.len()).then(|| s.parse::<usize>().ok()).flatten();
    let (y, m, d) = match (a.len(), c.len(), sign) {
        (4, _, _) => (a, small(b)?, small(c)?),
        (_, 4, '/') => match (small(a)?, small(b)?) {
            (m, d) if m <= 12 => (c, m, d),
            (d, m) => (c, m, d),
        },
        _ => return None,
    };
    if a.len() == 4 && run(a) != 4 || !(1..=12).contains(&m) || !(1..=31).contains(&d) || !word_end(&rest[taken..]) {
        return None;
    }
    Some(Number { words: format!("{} {}, {}", MONTHS[m - 1], ordinal(&d.to_string()), year(y)), taken })
}

/// `AM`, `p.m.` and the like behind a time, and how many bytes.
fn half_of_day(rest: &str) -> Option<(&'static str, usize)> {
    let trimmed = rest.strip_prefix([' ', '\u{a0}', '\u{202f}']).unwrap_or(rest);
    let gap = rest.len() - trimmed.len();
    let forms = [
        ("a.m.", "A M"),
        ("p.m.", "P M"),
        ("A.M.", "A M"),
        ("P.M.", "P M"),
        ("am", "A M"),
        ("pm", "P M"),
        ("AM", "A M"),
        ("PM", "P M"),
    ];
    let (written, said) = forms.iter().find(|(w, _)| trimmed.strip_prefix(w).is_some_and(word_end))?;
    // Where the sentence ends, the dot stays to end it.
    let dot = usize::from(written.ends_with('.') && trimmed.len() == written.len());
    Some((said, gap + written.len() - dot))
}

/// `10:30`, `5:00 PM`, `5pm`.
fn time(rest: &str) -> Option<Number> {
    let h = run(rest);
    if !(1..=2).contains(&h) {
        return None;
    }
    let hour: u32 = rest[..h].parse().ok()?;
    let minutes = rest[h..].strip_prefix(':').filter(|m| run(m) == 2 && hour <= 24 && m[..2] < *"60");
    let Some(minutes) = minutes else {
        let (half, len) = half_of_day(&rest[h..]).filter(|_| (1..=12).contains(&hour))?;
        return Some(Number { words: format!("{} {half}", cardinal(&rest[..h])), taken: h + len });
    };
    let mut taken = h + 3;
    let seconds = minutes[2..].strip_prefix(':').filter(|s| run(s) == 2);
    if seconds.is_none() && !word_end(&minutes[2..]) && half_of_day(&minutes[2..]).is_none() {
        return None;
    }
    let hour = cardinal(&rest[..h]);
    let mut words = match &minutes[..2] {
        "00" if half_of_day(&rest[taken..]).is_some() => hour,
        "00" if rest[..h].parse::<u32>().is_ok_and(|n| n > 12 || n == 0) => format!("{hour} hundred"),
        "00" => format!("{hour} o'clock"),
        m if m.starts_with('0') => format!("{hour} oh {}", cardinal(m)),
        m => format!("{hour} {}", cardinal(m)),
    };
    if let Some(s) = seconds {
        words = format!("{words} and {} seconds", cardinal(&s[..2]));
        taken += 3;
    }
    if let Some((half, len)) = half_of_day(&rest[taken..]) {
        words = format!("{words} {half}");
        taken += len;
    }
    Some(Number { words, taken })
}

/// `3/4`, `1 1/2`, `1½`, `24/7`, `16:9`.
fn ratio_or_fraction(rest: &str) -> Option<Number> {
    let a = run(rest);
    if a == 0 || a > 3 {
        return None;
    }
    if let Some(part) = vulgar(&rest[a..]) {
        let words = part
            .words
            .strip_prefix("one ")
            .map_or(part.words.clone(), |w| format!("a {w}").replace("a eighth", "an eighth"));
        return Some(Number { words: format!("{} and {words}", cardinal(&rest[..a])), taken: a + part.taken });
    }
    if let Some(mixed) =
        rest[a..].strip_prefix(' ').and_then(slashed).filter(|(n, d, _)| n.len() == 1 && d.len() <= 2 && n < d)
    {
        let (n, d, len) = mixed;
        let part = fraction(n, d);
        let words = part.strip_prefix("one ").map_or(part.clone(), |w| format!("a {w}"));
        return Some(Number { words: format!("{} and {words}", cardinal(&rest[..a])), taken: a + 1 + len });
    }
    if let Some((n, d, len)) = slashed(rest) {
        let words = match (n, d) {
            ("24", "7") => "twenty-four seven".into(),
            ("9", "11") => "nine eleven".into(),
            _ => fraction(n, d),
        };
        return Some(Number { words, taken: len });
    }
    let b = rest[a..].strip_prefix(':').map(run).filter(|b| (1..=3).contains(b))?;
    let end = a + 1 + b;
    (word_end(&rest[end..]) && !rest[end..].starts_with(':'))
        .then(|| Number { words: format!("{} to {}", cardinal(&rest[..a]), cardinal(&rest[a + 1..end])), taken: end })
}

/// `a/b` with nothing numeric around: both parts and the length.
fn slashed(rest: &str) -> Option<(&str, &str, usize)> {
    let a = run(rest);
    let b = rest[a..].strip_prefix('/').map(run)?;
    let end = a + 1 + b;
    let clean = !rest[end..].starts_with(['/', '.', ',']) || !starts_with_digit(&rest[end + 1..]);
    (a > 0 && a <= 3 && (1..=4).contains(&b) && clean && word_end(&rest[end..]))
        .then(|| (&rest[..a], &rest[a + 1..end], end))
}

/// A figure and what gives it its meaning: a range, a unit, a percent sign, an ordinal ending, an operator.
fn figures(rest: &str, before: &str) -> Option<Number> {
    let first = figure(rest)?;
    let mut taken = first.len;
    let follows = &rest[taken..];
    if first.plain() {
        // "21st", and "1990s".
        if let Some(end) = ["st", "nd", "rd", "th"].iter().find(|s| follows.strip_prefix(**s).is_some_and(word_end)) {
            return Some(Number { words: ordinal(first.raw), taken: taken + end.len() });
        }
        let decade = ["s", "'s"].iter().find(|s| follows.strip_prefix(**s).is_some_and(word_end));
        if let Some(end) = decade.filter(|_| first.raw.ends_with('0') && (2..=4).contains(&first.raw.len())) {
            let words = if first.raw.len() == 4 { year(first.raw) } else { cardinal(first.raw) };
            return Some(Number { words: plural(&words), taken: taken + end.len() });
        }
    }
    // "1.2.3", an address or a version.
    let points = follows.split('.').skip(1).take_while(|p| starts_with_digit(p)).count();
    if first.fraction.is_some() && points > 0 {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let version = rest[..end].trim_end_matches('.');
        let parts: Vec<String> = version.split('.').map(cardinal).collect();
        return Some(Number { words: parts.join(" point "), taken: version.len() });
    }

    let mut last = first;
    let mut words = if alone_is_year(&first, follows, before) { year(first.raw) } else { first.words() };
    let bridge = follows
        .strip_prefix(['-', '–', '—'])
        .or_else(|| follows.strip_prefix(" – "))
        .or_else(|| follows.strip_prefix(" — "));
    if let Some(second) = bridge.and_then(figure) {
        let skipped = follows.len() - bridge.map_or(0, str::len);
        let years = first.like_year() && second.plain() && (second.like_year() || second.raw.len() == 2);
        let head = if years { year(first.raw) } else { first.words() };
        let tail = if years && second.raw.len() == 4 { year(second.raw) } else { second.words() };
        words = format!("{head} to {tail}");
        taken += skipped + second.len;
        last = second;
    }
    let one = last.is_one() && taken == first.len;
    let follows = &rest[taken..];
    if let Some(percent) = follows.strip_prefix('%').or_else(|| follows.strip_prefix(" %")) {
        return Some(Number { words: format!("{words} percent"), taken: taken + follows.len() - percent.len() });
    }
    if let Some((by, len)) =
        scale(follows, false).or_else(|| follows.starts_with('k').then(|| scale(follows, true)).flatten())
    {
        return Some(Number { words: format!("{words} {by}"), taken: taken + len });
    }
    if let Some((unit, len)) = units::find(follows) {
        let words = if first.like_year() { first.words() } else { words };
        return Some(Number {
            words: format!("{words} {}", if one { unit.one } else { unit.many }),
            taken: taken + len,
        });
    }
    if let Some((currency, len)) = follows
        .strip_prefix(' ')
        .and_then(|f| units::find_currency(f, "yen"))
        .map(|(c, l)| (c, l + 1))
        .or_else(|| units::find_currency(follows, "yen"))
        .filter(|(_, len)| !starts_with_digit(&follows[*len..]))
    {
        return Some(Number {
            words: format!("{} {}", first.words(), if one { currency.one } else { currency.many }),
            taken: taken + len,
        });
    }
    if let Some(n) = by_or_times(follows) {
        return Some(Number { words: format!("{words} {}", n.words), taken: taken + n.taken });
    }
    Some(Number { words, taken })
}

/// ` x 4`, `x4`, `x faster`: the operator alone, up to the next figure.
fn by_or_times(follows: &str) -> Option<Number> {
    let trimmed = follows.trim_start();
    let after = trimmed.strip_prefix(['x', 'X'])?;
    let spaced = trimmed.len() < follows.len();
    let next = after.trim_start();
    let taken = follows.len() - next.len();
    if starts_with_digit(next) {
        let large = !spaced && run(next) >= 3;
        return Some(Number { words: if large { "by " } else { "times " }.into(), taken });
    }
    (!spaced && word_end(after)).then(|| Number { words: "times".into(), taken: follows.len() - after.len() })
}

/// Whether four digits on their own are a year here: not before things that are counted.
fn alone_is_year(figure: &Figure<'_>, follows: &str, before: &str) -> bool {
    if !figure.like_year() {
        return false;
    }
    if ["+", "=", "×", "÷", "minus", "x"].iter().any(|op| before.trim_end().ends_with(op)) {
        return false;
    }
    let next = follows.strip_prefix(' ').unwrap_or("");
    let word = &next[..next.find(|c: char| !c.is_alphabetic()).unwrap_or(next.len())];
    let verb = ["was", "is", "has", "as", "this", "Olympics", "Games", "us"].contains(&word);
    let counted = word.ends_with('s') && word.starts_with(char::is_lowercase) && !verb;
    let operator = next.starts_with(['+', '-', '=', '×', '÷', '*', '/']);
    !(counted || operator || word == "people")
}
