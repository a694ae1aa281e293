//! Looks into the model while it works: what the parity tests compare with upstream's own numbers.
//!
//! Owns nothing. Called on the engine thread, between steps; every method does nothing unless overridden.

use crate::engine::kv_cache::KvCache;
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::Tensor;

/// What passes by in the course of a turn.
pub trait Probe {
    /// The language model took `embeds` `[n, hidden]` and gave `hidden` `[n, hidden]`, after the final norm.
    fn llm(&mut self, _embeds: &Tensor, _hidden: &Tensor) {}
    /// The speech model's text slots from `at` on were filled with `ids`, and the speaker's embedding where it has one.
    fn text(&mut self, _ids: &[u32], _at: usize, _speaker: Option<&Tensor>, _cache: &KvCache) {}
    /// Whether [`step`](Self::step) is to be told: on a GPU, what it shows would not be made otherwise.
    fn looks_into_steps(&self) -> bool {
        true
    }
    /// The speech model made a step: its input, its mask `[1, keys]`, its hidden state and logits `[codebooks][codes]`.
    fn step(&mut self, _embeds: &Tensor, _mask: &Tensor, _hidden: &Tensor, _logits: &[Vec<f32>]) {}
    /// A stretch of frames is done: all frames of the segment so far, over `text` tokens.
    fn generated(&mut self, _frames: &[Vec<u32>], _text: usize) {}
    /// A stage worked from `start` until now; `units` in the stage's own unit.
    fn worked(&mut self, _stage: Stage, _start: Micros, _units: usize) {}
    /// Frames became a mel spectrogram `[2n, bins]` and sound.
    fn vocoded(&mut self, _frames: &[Vec<u32>], _mel: &Tensor, _sound: &[f32]) {}
}

/// Looks away.
pub struct NoProbe;

impl Probe for NoProbe {
    fn looks_into_steps(&self) -> bool {
        false
    }
}
