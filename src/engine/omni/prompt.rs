//! The words around what is heard and said: system prompts, turn headers, audio placeholders.
//!
//! Owns no state; pure functions over strings and counts. Sources: MiniCPM-o 2.6's `get_sys_prompt`,
//! `streaming_prefill`, `streaming_generate` and `MiniCPMOProcessor.get_audio_placeholder`.

use crate::engine::EngineError;
use std::str::FromStr;

/// A second of sound in samples, which is also what one prefill step takes.
pub const UNIT: usize = 16_000;
/// The fewest samples that give a position of the language model: two positions of the encoder.
pub const SHORTEST: usize = 321;
/// Samples per mel frame.
const HOP: usize = 160;

/// Ends the user's turn and begins the answer.
pub const ANSWER: &str = "<|im_end|>\n<|im_start|>assistant\n<|spk_bos|><|spk|><|spk_eos|><|tts_bos|>";
/// Begins an answer straight after the system prompt, to read a voice's speaker embedding off a prompt that holds
/// nothing else.
pub const VOICE_PROBE: &str = "<|im_start|>assistant\n<|spk_bos|><|spk|><|spk_eos|>";

const USER: &str = "<|im_start|>user\n";

/// What the conversation's last answer left behind, which decides how the next turn begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// No answer yet.
    Nothing,
    /// An answer that came to its end; the token that ended it was never fed.
    Finished,
    /// An answer that was broken off.
    BrokenOff,
}

/// The beginning of a user's turn.
pub fn turn_start(before: Before) -> String {
    match before {
        Before::Nothing => USER.to_string(),
        Before::Finished => format!("<|im_end|>\n{USER}"),
        Before::BrokenOff => format!("<|tts_eos|><|im_end|>\n{USER}"),
    }
}

/// What the assistant is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Speak with the voice of the reference.
    Assistant,
    /// The same in the words of the released model's first revision.
    FirstAssistant,
    /// Be the person of the reference.
    RolePlay,
    /// Read text aloud in the voice of the reference.
    Cloning,
}

/// The language of the prompt's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl FromStr for Language {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        match s {
            "en" => Ok(Self::English),
            "zh" => Ok(Self::Chinese),
            _ => Err(EngineError::Unsupported(format!("{s:?} is no language of the prompts; choose one of en, zh"))),
        }
    }
}

/// The words before and after the reference voice.
pub fn system_words(mode: Mode, language: Language) -> (&'static str, &'static str) {
    match (mode, language) {
        (Mode::Assistant, Language::English) => (
            "Use the voice in the audio prompt to synthesize new content.",
            "You are a helpful assistant with the above voice style.",
        ),
        (Mode::FirstAssistant, Language::English) => {
            ("Clone the voice in the provided audio prompt.", "As an assistant, you will speak using this voice style.")
        }
        (Mode::Assistant | Mode::FirstAssistant, Language::Chinese) => {
            ("模仿输入音频中的声音特征。", "作为助手，你将使用这种声音风格说话。")
        }
        (Mode::RolePlay, Language::English) => (
            "Clone the voice in the provided audio prompt.",
            "Try to role-play the character based on the audio prompt above.",
        ),
        (Mode::RolePlay, Language::Chinese) => {
            ("模仿输入音频中的声音特征。", "假装你是上述音频中的人物，与我进行对话。")
        }
        (Mode::Cloning, Language::English) => ("Clone the voice in the provided audio prompt.", ""),
        (Mode::Cloning, Language::Chinese) => ("模仿输入音频中的声音特征。", ""),
    }
}

/// The prompt that opens a conversation, with `placeholders` where the reference voice goes and the persona's own words
/// at its end. The parts stand on lines of their own, as the model was trained (upstream's streaming call joins them
/// without).
pub fn system_prompt(mode: Mode, language: Language, placeholders: Option<&str>, persona: &str) -> String {
    let (before, after) = system_words(mode, language);
    let before = if placeholders.is_some() { before } else { "Use the <reserved_53> voice." };
    let parts = [before, placeholders.unwrap_or_default(), after, persona];
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    format!("{USER}{}<|im_end|>\n", parts.join("\n"))
}

/// Encoder positions for `samples` of sound.
pub fn encoder_positions(samples: usize) -> usize {
    samples.div_ceil(HOP).div_ceil(2)
}

/// Positions of the language model for `samples` of sound, `pool` encoder positions each.
pub fn positions(samples: usize, pool: usize) -> usize {
    encoder_positions(samples) / pool
}

/// The placeholder text for `positions` of audio: groups of up to `group`, one after the other.
pub fn placeholders(positions: usize, group: usize) -> String {
    let mut text = String::new();
    let mut left = positions;
    while left > 0 {
        let n = left.min(group.max(1));
        text.push_str("<|audio_start|>");
        text.push_str(&"<unk>".repeat(n));
        text.push_str("<|audio_end|>");
        left -= n;
    }
    text
}

/// The spans of placeholders within ids, as `start..end` pairs.
pub fn audio_bounds(ids: &[u32], start: u32, end: u32) -> Vec<(usize, usize)> {
    let at = |token| ids.iter().enumerate().filter(move |(_, id)| **id == token).map(|(i, _)| i);
    at(start).map(|i| i + 1).zip(at(end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_takes_the_positions_upstream_gives_it() {
        // Samples, encoder positions, positions of the language model (of the reference, with pools of two).
        for (samples, encoded, positions_) in
            [(16_000, 50, 25), (6_400, 20, 10), (35_200, 110, 55), (321, 2, 1), (320, 1, 0), (1, 1, 0), (0, 0, 0)]
        {
            assert_eq!((encoder_positions(samples), positions(samples, 2)), (encoded, positions_), "{samples}");
        }
        assert_eq!(positions(SHORTEST, 2), 1);
        assert_eq!(positions(SHORTEST - 1, 2), 0);
    }

    #[test]
    fn placeholders_come_in_groups_of_a_second() {
        let text = placeholders(55, 25);
        let groups: Vec<usize> =
            text.split("<|audio_end|>").filter(|g| !g.is_empty()).map(|g| g.matches("<unk>").count()).collect();
        assert_eq!(groups, [25, 25, 5]);
        assert_eq!(text.matches("<|audio_start|>").count(), 3);
        assert_eq!(placeholders(0, 25), "");
        assert_eq!(audio_bounds(&[7, 1, 9, 9, 2, 1, 9, 2], 1, 2), [(2, 4), (6, 7)]);
    }

    #[test]
    fn the_system_prompt_stands_on_lines() {
        assert_eq!(
            system_prompt(Mode::FirstAssistant, Language::English, Some("<S>"), ""),
            "<|im_start|>user\nClone the voice in the provided audio prompt.\n<S>\nAs an assistant, you will speak using this voice style.<|im_end|>\n"
        );
        assert_eq!(
            system_prompt(Mode::Assistant, Language::English, None, "You are Ann."),
            "<|im_start|>user\nUse the <reserved_53> voice.\nYou are a helpful assistant with the above voice style.\nYou are Ann.<|im_end|>\n"
        );
        assert_eq!(
            system_prompt(Mode::Cloning, Language::Chinese, Some("<S>"), ""),
            "<|im_start|>user\n模仿输入音频中的声音特征。\n<S><|im_end|>\n"
        );
    }
}
