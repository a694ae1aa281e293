//! What the stages of a turn are, in the words of the window. Pure.

use super::super::words::t;
use crate::metrics::Stage;

/// The stage's name, for people.
pub fn title(stage: Stage) -> &'static str {
    t(match stage {
        Stage::Capture => "stage-capture",
        Stage::Echo => "stage-echo",
        Stage::Vad => "stage-vad",
        Stage::EndOfTurn => "stage-end-of-turn",
        Stage::AudioEncode => "stage-audio-encode",
        Stage::Stt => "stage-stt",
        Stage::LlmPrefill => "stage-llm-prefill",
        Stage::LlmDecode => "stage-llm-decode",
        Stage::TtsPrefill => "stage-tts-prefill",
        Stage::TtsDecode => "stage-tts-decode",
        Stage::Vocoder => "stage-vocoder",
        Stage::Seam => "stage-seam",
        Stage::PlaybackBuffer => "stage-playback-buffer",
        Stage::Device => "stage-device",
    })
}

/// What a stage does, and what makes it slow.
pub fn explanation(stage: Stage) -> &'static str {
    t(match stage {
        Stage::Capture => "stage-capture-why",
        Stage::Echo => "stage-echo-why",
        Stage::Vad => "stage-vad-why",
        Stage::EndOfTurn => "stage-end-of-turn-why",
        Stage::AudioEncode => "stage-audio-encode-why",
        Stage::Stt => "stage-stt-why",
        Stage::LlmPrefill => "stage-llm-prefill-why",
        Stage::LlmDecode => "stage-llm-decode-why",
        Stage::TtsPrefill => "stage-tts-prefill-why",
        Stage::TtsDecode => "stage-tts-decode-why",
        Stage::Vocoder => "stage-vocoder-why",
        Stage::Seam => "stage-seam-why",
        Stage::PlaybackBuffer => "stage-playback-buffer-why",
        Stage::Device => "stage-device-why",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_name_and_an_explanation_of_its_own() {
        assert_eq!(title(Stage::EndOfTurn), "end of turn");
        let mut all: Vec<&str> = Stage::ALL.map(explanation).to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Stage::ALL.len());
    }
}
