//! Taking Markdown, emoji and code out of a text.
//!
//! Pure, but for the open code fence, which the caller keeps from clause to clause. Marks are removed whether or not they
//! are closed within the clause, since emphasis may span clauses.

/// The words of `text` without its marks. `in_code` tells, and is told, whether a code fence is open.
pub fn strip(text: &str, in_code: &mut bool) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            let closed_on_the_line = trimmed.len() > 3 && trimmed[3..].contains(&trimmed[..3]);
            *in_code ^= !closed_on_the_line;
            continue;
        }
        if *in_code || is_rule(trimmed) {
            continue;
        }
        out.push_str(&inline(block_start(trimmed)));
        if line.ends_with('\n') {
            let ended = out.trim_end().ends_with(|c: char| c.is_ascii_punctuation() || "。！？，；：、".contains(c));
            out.push_str(if ended || out.trim().is_empty() { " " } else { ", " });
        } else if line.ends_with(char::is_whitespace) {
            out.push(' ');
        }
    }
    out
}

/// A line that only draws: `---`, `***`, `===`, a table's `|---|---|`.
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|c| "-*_=|: ".contains(c)) && line.chars().any(|c| "-*_=".contains(c))
}

/// The line without what makes it a heading, a quotation or a list item; an item's number stays.
fn block_start(line: &str) -> &str {
    let mut line = line.trim_start_matches(['>', ' ']);
    let unmarked = line.trim_start_matches('#');
    if line.starts_with('#') && (unmarked.is_empty() || unmarked.starts_with(' ')) {
        line = unmarked.trim_matches([' ', '#']);
    }
    for mark in ["- [ ] ", "- [x] ", "- ", "* ", "+ ", "• ", "– "] {
        if let Some(item) = line.strip_prefix(mark) {
            // "- 5" at the beginning of a clause may be arithmetic; "- word" is an item.
            return if item.starts_with(|c: char| c.is_ascii_digit()) && mark == "+ " { line } else { item };
        }
    }
    line
}

fn inline(line: &str) -> String {
    let line = links(line);
    let chars: Vec<char> = line.chars().collect();
    let mut out = String::with_capacity(line.len());
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let before = i.checked_sub(1).map_or(' ', |j| chars[j]);
        let after = chars.get(i + 1).copied().unwrap_or(' ');
        match c {
            '`' => {}
            '~' if after == '~' || before == '~' => {}
            '*' if after == '*' && chars.get(i + 2).is_some_and(char::is_ascii_digit) && before.is_ascii_digit() => {
                out.push('^');
                i += 1;
            }
            // An asterisk between operands is multiplication; any other is emphasis.
            '*' if operand_left(&chars[..i]) && operand_right(&chars[i + 1..]) => out.push('×'),
            '*' => {}
            '_' if before.is_alphanumeric() && after.is_alphanumeric() => out.push(' '),
            '_' => {}
            '|' => out.push(','),
            '\\' if "()[]".contains(after) => i += 1,
            '\\' if after.is_ascii_alphabetic() => {
                let name: String = chars[i + 1..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
                i += name.len();
                out.push_str(match name.as_str() {
                    "times" | "cdot" => "×",
                    "div" => "÷",
                    "approx" => "≈",
                    "pm" => "±",
                    _ => " ",
                });
            }
            '\\' => {}
            '<' if after == '/' || after.is_ascii_alphabetic() => match chars[i..].iter().position(|&c| c == '>') {
                Some(end) => {
                    i += end;
                    out.push(' ');
                }
                None => out.push(c),
            },
            c if is_emoji(c) => out.push(' '),
            c => out.push(c),
        }
        i += 1;
    }
    out
}

fn operand_left(before: &[char]) -> bool {
    before.iter().rev().find(|c| **c != ' ').is_some_and(|c| c.is_ascii_digit() || *c == ')')
}

fn operand_right(after: &[char]) -> bool {
    after.iter().find(|c| **c != ' ').is_some_and(|c| c.is_ascii_digit() || *c == '(')
}

/// `[text](address)` and `![text](address)` become `text`; `<https://address>` becomes the address.
fn links(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['[', '<', '!']) {
        out.push_str(&rest[..at]);
        let here = &rest[at..];
        let link = here.strip_prefix('!').unwrap_or(here);
        if let Some((text, after)) = link.strip_prefix('[').and_then(|l| l.split_once(']')) {
            if let Some((_, after)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
                out.push_str(text);
                rest = after;
                continue;
            }
            // A footnote or a reference: `[1]`.
            if text.chars().all(|c| c.is_ascii_digit() || c == '^') && !text.is_empty() {
                rest = after;
                continue;
            }
        }
        if let Some((address, after)) = here.strip_prefix('<').and_then(|l| l.split_once('>'))
            && (address.starts_with("http") || address.contains('@'))
        {
            out.push_str(address);
            rest = after;
            continue;
        }
        let first = here.chars().next().map_or(0, char::len_utf8);
        out.push_str(&here[..first]);
        rest = &here[first..];
    }
    out.push_str(rest);
    out
}

/// Pictures, and the invisible marks that join and tint them (Unicode blocks of `emoji-data.txt`).
fn is_emoji(c: char) -> bool {
    matches!(c as u32,
        0x1F000..=0x1FAFF | 0x2600..=0x27BF | 0x2B00..=0x2BFF | 0xFE00..=0xFE0F | 0x200D | 0x20E3 | 0xE0020..=0xE007F | 0x231A..=0x23FF)
}
