//! A step of the speech model: a frame's codes in, the logits of the next out.
//!
//! Owns the step that was laid out; lives on the engine thread.

use super::Argument::Address as A;
use super::layout::{LaidOut, Layout, Moment, THREADS, n, unfit};
use super::{Machine, read_f32};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::Matrix;
use crate::engine::transformer::Decoder;
use candle_core::{DType, Tensor};

/// What the step is made of, besides the decoder's blocks.
pub struct Parts<'a> {
    pub decoder: &'a Decoder,
    /// One `[codes, hidden]` per codebook.
    pub codes: &'a [Tensor],
    /// What begins the sound, `[1, hidden]`.
    pub beginning: &'a Tensor,
    /// `[codebooks * codes, hidden]`
    pub heads: &'a Tensor,
}

/// What one step sees and continues from.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Text slots before this one are seen; at least one is.
    pub text_end: usize,
    /// Slots after this one, of `[Ptts]`, are seen.
    pub audio_start: usize,
    /// The last frame; `None` begins.
    pub frame: Option<&'a [u32]>,
}

/// The step, ready to run.
pub struct FusedStep {
    step: LaidOut,
    state: u64,
    logits: u64,
    hidden: usize,
    codes: usize,
    codebooks: usize,
}

impl FusedStep {
    /// Lays out the step of `parts` on `machine`.
    ///
    /// # Errors
    /// When the kernels cannot compute this model (another quantisation or precision, unusual widths), or the machine
    /// fails.
    pub fn new(parts: &Parts<'_>, machine: Box<dyn Machine>) -> Result<Self, EngineError> {
        let stack = parts.decoder.plain().ok_or_else(|| unfit("its weights lie in another order"))?;
        if parts.decoder.dtype() != DType::F32 {
            return Err(unfit("speech is not computed in f32"));
        }
        // The plain way rounds what it multiplies with quantised weights: the two could not be held against each other.
        if stack.blocks.iter().any(|block| matches!(block.qkv, Matrix::Quantised(_))) {
            return Err(unfit("its weights are quantised"));
        }
        let hidden = parts.decoder.config().hidden;
        let codes = parts.codes.first().map_or(Ok(0), |t| t.dim(0))?;
        let codebooks = parts.codes.len();
        let mut layout = Layout::new(parts.decoder, machine, 1 + codebooks, true)?;
        let table = layout.floats(&Tensor::cat(parts.codes, 0)?)?;
        let beginning = layout.floats(parts.beginning)?;
        let begin = vec![A(layout.moment), table, beginning, A(layout.x), n(codes), n(hidden)];
        layout.launch("embed_frame".into(), (hidden.div_ceil(THREADS), 1), 0, begin);
        layout.layers(parts.decoder, &stack)?;
        let (state, logits) = layout.head(stack.norm, Matrix::Dense(parts.heads), codes * codebooks)?;
        Ok(Self { step: layout.finish()?, state, logits, hidden, codes, codebooks })
    }

    /// Makes a step at the end of `cache`: writes its slot, and gives the logits of the next frame, one row per codebook.
    ///
    /// # Errors
    /// When the cache is full, the frame is none of this model's, or the machine fails.
    pub fn run(&mut self, sight: Sight<'_>, cache: &mut KvCache) -> Result<Vec<Vec<f32>>, EngineError> {
        let frame = sight.frame.unwrap_or_default();
        let fits = frame.iter().all(|code| (*code as usize) < self.codes);
        if !fits || (sight.frame.is_some() && frame.len() != self.codebooks) {
            return Err(EngineError::Unsupported(format!("{frame:?} is no frame of this speech model")));
        }
        let last = [&[frame.len() as u32], frame].concat();
        let moment = Moment { seen_before: sight.text_end, seen_after: sight.audio_start, last: &last };
        self.step.run(moment, cache)?;
        let logits = read_f32(self.step.machine.as_mut(), self.logits, self.codebooks * self.codes)?;
        Ok(logits.chunks(self.codes.max(1)).map(<[f32]>::to_vec).collect())
    }

    /// The hidden state of the last step, after the last norm.
    pub fn hidden(&mut self) -> Result<Vec<f32>, EngineError> {
        read_f32(self.step.machine.as_mut(), self.state, self.hidden)
    }
}
