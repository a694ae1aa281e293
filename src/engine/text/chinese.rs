//! Chinese: numbers, dates, times, money, percentages and units as characters.
//!
//! Pure. Latin words inside a Chinese text stay as they are. Readings follow Mandarin usage; the reference for plain
//! numbers is in `tests/fixtures/speakable_numbers.py`.

use super::units;

const DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];

/// Before these a lone 2 is 两.
const COUNTED: &[&str] = &[
    "个", "只", "本", "张", "位", "条", "天", "次", "种", "件", "杯", "倍", "小时", "分钟", "年", "周", "岁", "人",
    "点", "块", "座", "辆", "千克", "公斤", "公里", "米", "元", "美元", "欧元", "英镑", "部", "家", "篇", "秒", "层",
    "句", "步",
];

/// Whether `c` is a Chinese character.
pub fn is_han(c: char) -> bool {
    matches!(c as u32, 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0x20000..=0x2FA1F)
}

/// Digits one by one.
fn one_by_one(text: &str) -> String {
    text.bytes().filter(u8::is_ascii_digit).map(|b| DIGITS[usize::from(b - b'0')]).collect()
}

/// Four digits or fewer, without leading zeros spoken.
fn below_ten_thousand(n: u32) -> String {
    let mut out = String::new();
    let mut skipped = false;
    for (place, name) in [(1000, "千"), (100, "百"), (10, "十"), (1, "")] {
        let digit = n / place % 10;
        if digit == 0 {
            skipped = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut skipped) {
            out.push('零');
        }
        out.push(DIGITS[digit as usize]);
        out.push_str(name);
    }
    out
}

/// `text`, decimal digits, as a number.
pub fn cardinal(text: &str) -> String {
    let text = text.trim_start_matches('0');
    if text.is_empty() {
        return "零".into();
    }
    let groups: Vec<u32> =
        text.as_bytes().rchunks(4).rev().map(|g| g.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'))).collect();
    let names = ["", "万", "亿", "万亿"];
    if groups.len() > names.len() {
        return one_by_one(text);
    }
    let mut out = String::new();
    let mut gap = false;
    for (i, &group) in groups.iter().enumerate() {
        if group == 0 {
            gap = true;
            continue;
        }
        if !out.is_empty() && (gap || group < 1000) {
            out.push('零');
        }
        gap = false;
        out.push_str(&below_ten_thousand(group));
        out.push_str(names[groups.len() - 1 - i]);
    }
    // 一十二 is said 十二.
    match out.strip_prefix("一十") {
        Some(rest) => format!("十{rest}"),
        None => out,
    }
}

fn run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// A figure at the beginning of `text`: words, length, and whether it is a plain whole number.
struct Figure<'a> {
    words: String,
    raw: &'a str,
    len: usize,
    whole: bool,
}

fn figure(text: &str) -> Option<Figure<'_>> {
    let mut len = run(text);
    if len == 0 {
        return None;
    }
    while len <= 11 && text[len..].starts_with(',') && run(&text[len + 1..]) == 3 {
        len += 4;
    }
    let whole = text[..len].replace(',', "");
    let head = if whole.len() > 1 && whole.starts_with('0') { one_by_one(&whole) } else { cardinal(&whole) };
    let point = text[len..].strip_prefix('.').map_or(0, run);
    let words = if point > 0 { format!("{head}点{}", one_by_one(&text[len + 1..len + 1 + point])) } else { head };
    let taken = len + if point > 0 { point + 1 } else { 0 };
    Some(Figure { words, raw: &text[..len], len: taken, whole: point == 0 })
}

/// `text`, free of Markdown, in words.
pub fn say(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let before = &text[..at];
        let (words, taken) = match numeric(rest, before) {
            Some(found) => found,
            None => symbol(rest, before),
        };
        out.push_str(&words);
        at += taken.max(1);
    }
    out
}

fn numeric(rest: &str, before: &str) -> Option<(String, usize)> {
    if before.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let free =
        !before.trim_end().ends_with(|c: char| c.is_ascii_alphanumeric() || is_han(c) || c == ')') || before.is_empty();
    if let Some(unsigned) = rest.strip_prefix(['-', '−']).filter(|_| free || before.ends_with(is_han)) {
        let (words, taken) = figure(unsigned).and_then(|_| numeric(unsigned, ""))?;
        let sign = if words.ends_with("摄氏度") { "零下" } else { "负" };
        return Some((format!("{sign}{words}"), taken + rest.len() - unsigned.len()));
    }
    if let Some((currency, sign)) = units::find_currency(rest, "yuan") {
        let f = figure(rest[sign..].trim_start())?;
        let taken = rest.len() - rest[sign..].trim_start().len() + f.len;
        let (scale, len) = scale(&rest[taken..]);
        return Some((format!("{}{scale}{}", counted(&f, currency.chinese), currency.chinese), taken + len));
    }
    let first = run(rest);
    if first == 0 {
        return None;
    }
    date(rest).or_else(|| time(rest)).or_else(|| telephone(rest)).or_else(|| plain(rest, before))
}

fn scale(rest: &str) -> (&'static str, usize) {
    ["万亿", "亿", "万", "百万", "千"].iter().find(|s| rest.starts_with(**s)).map_or(("", 0), |s| (s, s.len()))
}

fn counted(f: &Figure<'_>, what: &str) -> String {
    if f.whole && f.raw == "2" && COUNTED.iter().any(|c| what.starts_with(c)) { "两".into() } else { f.words.clone() }
}

/// `2024-05-06`, `2024/5/6`, `2024年`.
fn date(rest: &str) -> Option<(String, usize)> {
    let y = run(rest);
    if y == 4 && rest[4..].trim_start().starts_with('年') {
        return Some((one_by_one(&rest[..4]), rest.len() - rest[4..].trim_start().len()));
    }
    let sign = rest[y..].chars().next().filter(|c| y == 4 && matches!(c, '-' | '/'))?;
    let mut parts = rest[5..].splitn(2, sign);
    let (m, d) = (parts.next()?, parts.next()?);
    let d = &d[..run(d)];
    let valid = |s: &str, most: u32| {
        (1..=2).contains(&s.len()) && run(s) == s.len() && s.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n))
    };
    (valid(m, 12) && valid(d, 31))
        .then(|| (format!("{}年{}月{}日", one_by_one(&rest[..4]), cardinal(m), cardinal(d)), 6 + m.len() + d.len()))
}

/// `10:30`.
fn time(rest: &str) -> Option<(String, usize)> {
    let h = run(rest);
    let minutes = rest[h..].strip_prefix([':', '：'])?;
    if !(1..=2).contains(&h) || run(minutes) != 2 || &minutes[..2] >= "60" || rest[..h].parse::<u32>().ok()? > 24 {
        return None;
    }
    let taken = rest.len() - minutes.len() + 2;
    let hour = if rest[..h].trim_start_matches('0') == "2" { "两".to_owned() } else { cardinal(&rest[..h]) };
    let words = match &minutes[..2] {
        "00" => format!("{hour}点"),
        m if m.starts_with('0') => format!("{hour}点零{}分", cardinal(m)),
        m => format!("{hour}点{}分", cardinal(m)),
    };
    Some((words, taken))
}

/// Eleven digits, or groups joined by dashes: one by one, 1 as 幺.
fn telephone(rest: &str) -> Option<(String, usize)> {
    let len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'-').count();
    let text = rest[..len].trim_end_matches('-');
    let groups: Vec<&str> = text.split('-').collect();
    let mobile = groups.len() == 1 && text.len() == 11 && text.starts_with('1');
    let grouped = groups.len() >= 2
        && groups.iter().all(|g| (3..=8).contains(&g.len()))
        && groups.iter().map(|g| g.len()).sum::<usize>() >= 10;
    (mobile || grouped).then(|| (one_by_one(text).replace('一', "幺"), text.len()))
}

fn plain(rest: &str, before: &str) -> Option<(String, usize)> {
    let first = figure(rest)?;
    let follows = &rest[first.len..];
    if let Some(b) = follows.strip_prefix('/').map(run).filter(|b| first.whole && (1..=3).contains(b)) {
        let end = first.len + 1 + b;
        if !rest[end..].starts_with('/') {
            return Some((format!("{}分之{}", cardinal(&rest[first.len + 1..end]), first.words), end));
        }
    }
    if let Some(by) = follows.strip_prefix(['%', '％']) {
        return Some((format!("百分之{}", first.words), rest.len() - by.len()));
    }
    if let Some(second) = follows.strip_prefix(['-', '–', '—', '~', '～']).filter(|_| !before.ends_with(['+', '=']))
    {
        let skipped = follows.len() - second.len();
        if let Some(f) = figure(second) {
            let after = &second[f.len..];
            let taken = first.len + skipped + f.len;
            if after.starts_with(['%', '％']) {
                let sign = after.chars().next().map_or(0, char::len_utf8);
                return Some((format!("百分之{}到百分之{}", first.words, f.words), taken + sign));
            }
            let years = after.starts_with('年') && first.raw.len() == 4 && f.raw.len() == 4;
            let (a, b) =
                if years { (one_by_one(first.raw), one_by_one(f.raw)) } else { (first.words, counted(&f, after)) };
            let (unit, len) = units::find(after).map_or(("", 0), |(u, n)| (u.chinese, n));
            return Some((format!("{a}到{b}{unit}"), taken + len));
        }
    }
    if let Some((unit, len)) = units::find(follows) {
        return Some((format!("{}{}", counted(&first, unit.chinese), unit.chinese), first.len + len));
    }
    if let Some(op) = follows.trim_start().strip_prefix(['x', 'X']).filter(|o| run(o.trim_start()) > 0) {
        return Some((format!("{}乘", first.words), rest.len() - op.trim_start().len()));
    }
    let words = if before.ends_with('第') { first.words } else { counted(&first, follows.trim_start()) };
    Some((words, first.len))
}

fn symbol(rest: &str, before: &str) -> (String, usize) {
    let c = rest.chars().next().unwrap_or(' ');
    let after = rest[c.len_utf8()..].trim_start();
    let figures = before.trim_end().ends_with(|c: char| c.is_ascii_digit() || c == ')')
        && after.starts_with(|c: char| c.is_ascii_digit() || c == '(');
    let said = match c {
        '+' if figures => "加",
        '-' | '−' if figures => "减",
        '×' | '*' if figures => "乘",
        '÷' | '/' if figures => "除以",
        '=' => "等于",
        '≈' => "约等于",
        '<' if figures => "小于",
        '>' if figures => "大于",
        '±' => "正负",
        '&' => "和",
        '°' => "度",
        '%' | '％' => "百分号",
        '—' | '–' | '…' => "，",
        '#' | '*' | '_' | '~' | '^' | '<' | '>' | '/' | '\\' | '"' | '“' | '”' | '(' | ')' | '（' | '）' | '「'
        | '」' | '《' | '》' | '•' => "",
        c if c.is_ascii_digit() => return (one_by_one(&rest[..1]), 1),
        c => return (c.to_string(), c.len_utf8()),
    };
    (said.to_owned(), c.len_utf8())
}
