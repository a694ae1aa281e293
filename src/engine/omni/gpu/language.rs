//! A step of the language model: a token in, the likeliest next ones out.
//!
//! Owns the step that was laid out; lives on the engine thread. A vocabulary's logits are more than the choice needs: the
//! few that can be chosen are found on the device, and only they are copied back.

use super::Argument::Address as A;
use super::layout::{LaidOut, Layout, Moment, THREADS, n, unfit};
use super::{Machine, read_f32, read_u32};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::Matrix;
use crate::engine::sampling::Outlook;
use crate::engine::transformer::Decoder;
use candle_core::{Device, Tensor};

/// How many of the largest logits are sure to be among those that are found.
pub const SHORTLIST: usize = 256;
/// For how many there is room: in heaps filled by chance some 265 reach the bound.
const CAPACITY: usize = 1024;
/// Heaps of which the largest logit is found, by so many blocks.
const HEAP_BLOCKS: usize = 32;

/// What the step is made of.
pub struct LanguageParts<'a> {
    pub decoder: &'a Decoder,
    /// `[vocab, hidden]`
    pub table: Matrix<'a>,
    /// `[vocab, hidden]`
    pub head: Matrix<'a>,
    pub vocab: usize,
}

/// The step, ready to run.
pub struct LanguageStep {
    step: LaidOut,
    state: u64,
    logits: u64,
    found: u64,
    hidden: usize,
    vocab: usize,
}

impl LanguageStep {
    /// Lays out the step of `parts` on `machine`.
    ///
    /// # Errors
    /// When the kernels cannot compute this model (another quantisation or precision, unusual widths), or the machine
    /// fails.
    pub fn new(parts: &LanguageParts<'_>, machine: Box<dyn Machine>) -> Result<Self, EngineError> {
        let stack = parts.decoder.plain().ok_or_else(|| unfit("its weights lie in another order"))?;
        let (hidden, vocab) = (parts.decoder.config().hidden, parts.vocab);
        let mut layout = Layout::new(parts.decoder, machine, 1, false)?;
        let (kind, table) = layout.matrix(parts.table)?;
        let arguments = vec![A(layout.moment), table, A(layout.x), n(hidden)];
        layout.launch(format!("embed_token_{}", kind.suffix), (hidden.div_ceil(4 * THREADS), 1), 0, arguments);
        layout.layers(parts.decoder, &stack)?;
        let (state, logits) = layout.head(stack.norm, parts.head, vocab)?;
        let heaps = HEAP_BLOCKS * THREADS;
        let (largest, found) = (layout.room(4 * heaps)?, layout.room(4 * (2 + 2 * CAPACITY))?);
        layout.launch("tops".into(), (HEAP_BLOCKS, 1), 0, vec![A(logits), A(largest), n(vocab)]);
        let arguments = vec![A(largest), A(found), n(heaps), n(SHORTLIST)];
        layout.launch("bound".into(), (1, 1), 4 * heaps, arguments);
        let arguments = vec![A(logits), A(found), n(vocab), n(CAPACITY)];
        layout.launch("gather".into(), (HEAP_BLOCKS, 1), 0, arguments);
        Ok(Self { step: layout.finish()?, state, logits, found, hidden, vocab })
    }

    /// Takes the token `id` in at the end of `cache`, and says what may come next: at least the `needed` likeliest tokens,
    /// or all of them.
    ///
    /// # Errors
    /// When the cache is full, the token is none of this model's, or the machine fails.
    pub fn run(&mut self, id: u32, needed: Option<usize>, cache: &mut KvCache) -> Result<Outlook, EngineError> {
        if id as usize >= self.vocab {
            return Err(EngineError::Unsupported(format!("{id} is no token of this language model")));
        }
        // All up to this input's own are seen.
        let at = cache.len();
        self.step.run(Moment { seen_before: at + 1, seen_after: at, last: &[id] }, cache)?;
        if needed.is_some_and(|needed| needed <= SHORTLIST) {
            let found = read_u32(self.step.machine.as_mut(), self.found, 2 + 2 * CAPACITY)?;
            let count = found[0] as usize;
            if count <= CAPACITY {
                let pairs = found[2..].chunks_exact(2).take(count);
                return Ok(Outlook::Likeliest(pairs.map(|pair| (pair[0], f32::from_bits(pair[1]))).collect()));
            }
        }
        let logits = Tensor::from_vec(self.logits()?, (1, self.vocab), &Device::Cpu)?;
        Ok(Outlook::All(logits))
    }

    /// The logits of the last step.
    pub fn logits(&mut self) -> Result<Vec<f32>, EngineError> {
        read_f32(self.step.machine.as_mut(), self.logits, self.vocab)
    }

    /// The hidden state of the last step, after the last norm.
    pub fn hidden(&mut self) -> Result<Vec<f32>, EngineError> {
        read_f32(self.step.machine.as_mut(), self.state, self.hidden)
    }
}
