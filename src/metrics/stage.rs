//! The stages of a turn and the mark each leaves. Plain data, made on whichever thread did the work.

use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// A stage of a turn, in the order in which a sample of sound meets them. The names are the same in the window, the
/// JSON and the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Capture,
    Echo,
    Vad,
    EndOfTurn,
    AudioEncode,
    Stt,
    LlmPrefill,
    LlmDecode,
    TtsPrefill,
    TtsDecode,
    Vocoder,
    Seam,
    PlaybackBuffer,
    Device,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 14] = [
        Stage::Capture,
        Stage::Echo,
        Stage::Vad,
        Stage::EndOfTurn,
        Stage::AudioEncode,
        Stage::Stt,
        Stage::LlmPrefill,
        Stage::LlmDecode,
        Stage::TtsPrefill,
        Stage::TtsDecode,
        Stage::Vocoder,
        Stage::Seam,
        Stage::PlaybackBuffer,
        Stage::Device,
    ];

    /// The stage's name in meters, JSON and benchmark.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Capture => "capture",
            Stage::Echo => "echo",
            Stage::Vad => "vad",
            Stage::EndOfTurn => "end_of_turn",
            Stage::AudioEncode => "audio_encode",
            Stage::Stt => "stt",
            Stage::LlmPrefill => "llm_prefill",
            Stage::LlmDecode => "llm_decode",
            Stage::TtsPrefill => "tts_prefill",
            Stage::TtsDecode => "tts_decode",
            Stage::Vocoder => "vocoder",
            Stage::Seam => "seam",
            Stage::PlaybackBuffer => "playback_buffer",
            Stage::Device => "device",
        }
    }
}

/// One piece of work by one stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMark {
    /// The reply the work belongs to.
    pub epoch: u64,
    pub stage: Stage,
    pub start: Micros,
    pub end: Micros,
    /// What was done, in the stage's own unit: samples for sound stages, tokens for language stages.
    pub units: u32,
}

impl StageMark {
    /// How long the work took, in milliseconds.
    pub fn ms(&self) -> f64 {
        self.end.ms_since(self.start)
    }
}
