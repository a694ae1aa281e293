//! A conversation in other forms: Markdown, JSON, one stereo recording. Pure, but for the sound it is given.

use super::{Conversation, KeptSound, KeptTurn, Side};
use crate::audio::file::Clip;
use crate::dsp::resample;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// Hertz of the stereo recording.
pub const RATE: u32 = 24_000;
/// Stretches in which nobody speaks are cut down to this many seconds.
const LONGEST_PAUSE: f64 = 1.0;

/// The forms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Markdown,
    Json,
    /// User left, assistant right.
    StereoWav,
}

impl Form {
    pub const ALL: [Form; 3] = [Form::Markdown, Form::Json, Form::StereoWav];

    /// The file name's ending.
    pub const fn extension(self) -> &'static str {
        match self {
            Form::Markdown => "md",
            Form::Json => "json",
            Form::StereoWav => "wav",
        }
    }
}

/// The conversation as a text to read. What was not heard of an answer is struck through.
pub fn to_markdown(conversation: &Conversation, zone: &TimeZone) -> String {
    let local = |at: Timestamp, form: &str| at.to_zoned(zone.clone()).strftime(form).to_string();
    let mut text = format!("# Conversation of {}\n", local(conversation.began, "%Y-%m-%d %H:%M"));
    for turn in &conversation.turns {
        let heard = match turn.question_seconds {
            _ if !turn.heard.is_empty() => escape(&turn.heard),
            Some(seconds) => format!("*(spoken, {seconds:.1} s)*"),
            None => "*(spoken)*".to_owned(),
        };
        let (spoken, rest) = turn.answer_parts();
        let rest = rest.trim();
        let unheard = if rest.is_empty() { String::new() } else { format!(" ~~{}~~", escape(rest)) };
        let answer = format!("{}{unheard}", escape(spoken.trim()));
        // Writing into a string cannot fail.
        let _ = write!(text, "\n**You** ({}): {heard}\n", local(turn.at, "%H:%M:%S"));
        if !answer.trim().is_empty() {
            let _ = write!(text, "\n**Antiphon**: {}\n", answer.trim());
        }
    }
    text
}

/// Keeps what was said from being read as Markdown.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '`' | '~' | '#' | '<' | '[' | ']' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The conversation as one JSON document, with the fields of [`Conversation`].
///
/// # Errors
/// None in practice; handed on rather than hidden.
pub fn to_json(conversation: &Conversation) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(conversation)
}

/// Both sides on one clock at [`RATE`]: user, assistant. `load` gives the sound of a file, or `None` when it is gone.
/// Of a broken-off answer only what was heard sounds, and long pauses are shortened.
pub fn to_stereo(
    conversation: &Conversation,
    mut load: impl FnMut(&KeptSound) -> Option<Clip>,
) -> (Vec<f32>, Vec<f32>) {
    let mut pieces: Vec<(f64, Side, Vec<f32>)> = Vec::new();
    let sounds = |turn: &KeptTurn| [Side::User, Side::Assistant].map(|side| (side, turn.sound(side).cloned()));
    for (side, sound) in conversation.turns.iter().flat_map(sounds) {
        let Some(sound) = sound else { continue };
        let Some(clip) = load(&sound) else { continue };
        let heard = (sound.heard_seconds.max(0.0) * f64::from(clip.rate)).round() as usize;
        let Ok(samples) = resample::convert(&clip.samples[..heard.min(clip.samples.len())], clip.rate, RATE) else {
            continue;
        };
        let at = sound.at.duration_since(conversation.began).as_secs_f64();
        pieces.push((at, side, samples));
    }
    pieces.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut user, mut assistant) = (Vec::new(), Vec::new());
    let mut covered_to = pieces.first().map_or(0.0, |first| first.0);
    let mut cut = covered_to;
    for (at, side, samples) in pieces {
        cut += (at - covered_to - LONGEST_PAUSE).max(0.0);
        covered_to = covered_to.max(at + samples.len() as f64 / f64::from(RATE));
        let start = ((at - cut).max(0.0) * f64::from(RATE)).round() as usize;
        let channel = if side == Side::User { &mut user } else { &mut assistant };
        if channel.len() < start + samples.len() {
            channel.resize(start + samples.len(), 0.0);
        }
        for (place, sample) in channel[start..].iter_mut().zip(&samples) {
            *place += sample;
        }
    }
    (user, assistant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn sound(file: &str, ms: i64, heard_seconds: f64) -> Option<KeptSound> {
        Some(KeptSound { file: file.into(), at: at(ms), heard_seconds })
    }

    fn conversation() -> Conversation {
        let turn = |turn, ms, heard: &str, answer: &str, spoken_bytes, user_sound, answer_sound| KeptTurn {
            turn,
            at: at(ms),
            heard: heard.into(),
            question_seconds: None,
            answer: answer.into(),
            spoken_bytes,
            cut_off: spoken_bytes < answer.len(),
            engine: "scripted".into(),
            ttfa_ms: None,
            user_sound,
            answer_sound,
        };
        Conversation {
            id: "c".into(),
            began: at(0),
            turns: vec![
                turn(1, 500, "2 * 3?", "It is six. Or more.", 10, sound("u1", 500, 1.0), sound("a1", 2000, 0.5)),
                turn(2, 60_000, "", "好。", 6, sound("u2", 60_000, 0.5), sound("gone", 61_000, 9.0)),
            ],
        }
    }

    #[test]
    fn markdown_is_readable_and_shows_what_was_not_heard() {
        let text = to_markdown(&conversation(), &TimeZone::UTC);
        let expected = "# Conversation of 2027-01-15 08:00\n\
            \n**You** (08:00:00): 2 \\* 3?\n\n**Antiphon**: It is six. ~~Or more.~~\n\
            \n**You** (08:01:00): *(spoken)*\n\n**Antiphon**: 好。\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_can_be_read_back() {
        let text = to_json(&conversation()).unwrap();
        assert_eq!(serde_json::from_str::<Conversation>(&text).unwrap(), conversation());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["turns"][0]["at"], "2027-01-15T08:00:00.5Z");
    }

    #[test]
    fn each_side_sounds_where_it_sounded_with_long_pauses_cut() {
        // Constant levels, so that each piece can be told by its value.
        let load = |sound: &KeptSound| {
            let (level, rate) = match sound.file.as_str() {
                "u1" => (0.1, 16_000),
                "a1" => (0.2, 24_000),
                "u2" => (0.3, 16_000),
                _ => return None,
            };
            Some(Clip { samples: vec![level; rate as usize], rate })
        };
        let (user, assistant) = to_stereo(&conversation(), load);
        let level = |side: &[f32], seconds: f64| side.get((seconds * 24_000.0) as usize).copied().unwrap_or(0.0);
        // The first user's second begins at 0; the answer 1.5 s later, of which half a second was heard; then 57.5 s of
        // nothing become one.
        for (seconds, left, right) in
            [(0.5, 0.1, 0.0), (1.6, 0.0, 0.2), (1.95, 0.0, 0.2), (2.05, 0.0, 0.0), (3.1, 0.3, 0.0)]
        {
            assert!((level(&user, seconds) - left).abs() < 0.01, "left at {seconds}: {}", level(&user, seconds));
            assert!((level(&assistant, seconds) - right).abs() < 0.01, "right at {seconds}");
        }
        assert!((user.len() as f64 / 24_000.0 - 3.5).abs() < 0.02, "{}", user.len());
    }
}
