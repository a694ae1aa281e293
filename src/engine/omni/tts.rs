//! The speech model: text in, audio codes out (`tts.`, ConditionalChatTTS).
//!
//! [`Tts`] owns weights only; [`SpeechState`] is one segment of speech in the making. Both live on the engine thread.
//! A segment's slots are fixed (with the released sizes):
//!
//! ```text
//! 0        1          2 .. 301          302      303 ..
//! [Stts]   speaker    text (300)        [Ptts]   audio frames
//! ```
//!
//! Text is written into its slots as it becomes known; audio is appended. Text never sees audio; audio sees as much
//! text as its position allows (10 tokens for every started 50 positions).
//! Invariant: a state holds one frame for every slot from `[Ptts]` on.

use super::codes::{ChooseCodes, CodeFilter, Moment};
use super::config::TtsConfig;
use super::gpu::Machine;
use super::gpu::step::{FusedStep, Parts, Sight};
use super::gpu::verify::{self, Agreement};
use super::probe::Probe;
use super::weights::{Reported, Weights, must_be_numbers};
use crate::engine::EngineError;
use crate::engine::device::keep_launch_tables;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::{Linear, Placement};
use crate::engine::tensor_source::TensorSource;
use crate::engine::transformer::{Decoder, Mask};
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::{D, DType, Device, Tensor};
use std::cell::RefCell;

/// Added to the scores of hidden keys.
const HIDDEN: f32 = f32::MIN;
/// Frames from the start of a stretch in which the end code is banned.
pub const FEWEST_FRAMES: usize = 10;

/// The loaded speech model.
pub struct Tts {
    pub config: TtsConfig,
    filter: CodeFilter,
    /// `[text tokens, hidden]`
    text: Tensor,
    /// One `[codes, hidden]` per codebook.
    codes: Vec<Tensor>,
    /// `[codebooks * codes, hidden]`: the heads with their weight norm folded in, one below the other; f32.
    heads: Tensor,
    projector: [Linear; 2],
    decoder: Decoder,
    /// The decoder's step in kernels of our own, where there are any and they have been found to agree.
    fused: Option<RefCell<FusedStep>>,
}

/// A step of the plain decoder: its input `[1, hidden]`, its mask `[1, keys]`, and what came of it.
pub(super) struct PlainStep {
    input: Tensor,
    mask: Tensor,
    hidden: Tensor,
    pub logits: Vec<Vec<f32>>,
}

/// One segment of speech in the making.
pub struct SpeechState {
    cache: KvCache,
    frames: Vec<Vec<u32>>,
    /// The slot after the last text slot that has been written.
    written: usize,
    prefix: usize,
}

impl SpeechState {
    /// All frames of the segment, those it continues from included.
    pub fn frames(&self) -> &[Vec<u32>] {
        &self.frames
    }

    /// How many of the frames belong to the segment before.
    pub fn prefix(&self) -> usize {
        self.prefix
    }

    /// The slot after the last text slot that has been written.
    pub fn written(&self) -> usize {
        self.written
    }

    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Goes on from `slot`, as if zeros had been heard up to there.
    pub(super) fn skip_to(&mut self, slot: usize) -> Result<(), EngineError> {
        self.cache.set_len(slot)
    }

    /// Takes `frame` for the one that was made last.
    pub(super) fn add(&mut self, frame: Vec<u32>) {
        self.frames.push(frame);
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Frame,
    /// The end code was chosen; no frame was added.
    End,
}

/// Which text an audio position sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSight {
    /// Text tokens of the segment so far; upstream shows one slot more, for `[Etts]`.
    pub tokens: usize,
    /// Hide slots that nothing has been written to (upstream shows them, zero keys and all).
    pub hide_unwritten: bool,
}

impl Tts {
    /// Loads `tts.` but for its DVAE.
    pub fn load(
        config: &TtsConfig,
        weights: &Weights,
        source: &Reported<'_, '_>,
        place: &Placement,
    ) -> Result<Self, EngineError> {
        let hidden = config.decoder.hidden;
        let mut codes = Vec::with_capacity(config.codebooks);
        let mut heads = Vec::with_capacity(config.codebooks);
        for q in 0..config.codebooks {
            codes.push(place.dense(&source.get(&format!("tts.emb_code.{q}.weight"), &[config.audio_codes, hidden])?)?);
            let head = format!("tts.head_code.{q}.parametrizations.weight");
            let gain = weights.get_f32(&format!("{head}.original0"), &[config.audio_codes, 1], &Device::Cpu)?;
            let rows = weights.get_f32(&format!("{head}.original1"), &[config.audio_codes, hidden], &Device::Cpu)?;
            let norm = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
            heads.push(rows.broadcast_mul(&gain.div(&norm)?)?);
        }
        let plain = Placement::new(place.dtype(), place.device(), None);
        Ok(Self {
            config: config.clone(),
            filter: CodeFilter::new(config),
            text: place.dense(&source.get("tts.emb_text.weight", &[config.text_tokens, hidden])?)?,
            codes,
            heads: Tensor::cat(&heads, 0)?.to_device(place.device())?,
            projector: [
                Linear::load(source, "tts.projector.linear1", (hidden, config.llm_dim), true, &plain)?,
                Linear::load(source, "tts.projector.linear2", (hidden, hidden), true, &plain)?,
            ],
            decoder: Decoder::from_safetensors(&config.decoder, source, "tts.model.", place)?,
            fused: None,
        })
    }

    /// Has frames made by kernels of our own on `machine` from now on, if those agree with the plain decoder.
    ///
    /// # Errors
    /// When the kernels cannot compute this model, or the machine fails.
    pub fn quicken(&mut self, machine: Box<dyn Machine>) -> Result<Agreement, EngineError> {
        let beginning = self.embed_text(&[self.config.audio_bos_token])?;
        let (decoder, codes, heads) = (&self.decoder, self.codes.as_slice(), &self.heads);
        let mut fused = FusedStep::new(&Parts { decoder, codes, beginning: &beginning, heads }, machine)?;
        let agreement = verify::compare(self, &mut fused)?;
        self.fused = agreement.holds().then(|| RefCell::new(fused));
        Ok(agreement)
    }

    /// A voice's embedding, of length 1, `[1, hidden]`, from the language model's hidden state `[1, llm hidden]` at
    /// `<|spk|>`.
    pub fn speaker(&self, hidden: &Tensor) -> Result<Tensor, EngineError> {
        let [first, second] = &self.projector;
        let hidden = hidden.to_device(self.decoder.device())?.to_dtype(self.decoder.dtype())?;
        let projected = first.forward(&hidden)?;
        must_be_numbers(&projected, "speech model")?;
        let projected = second.forward(&projected.relu()?)?;
        let length = projected.to_dtype(DType::F32)?.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12f32)?;
        Ok(projected.broadcast_div(&length.to_dtype(projected.dtype())?)?)
    }

    /// A segment with nothing in it: every text slot holds zero keys and values.
    pub fn begin(&self, chooser: &mut dyn ChooseCodes) -> Result<SpeechState, EngineError> {
        chooser.segment();
        let mut cache = self.decoder.new_cache(self.config.decoder.max_positions)?;
        cache.set_len(self.config.audio_start())?;
        Ok(SpeechState { cache, frames: Vec::new(), written: 0, prefix: 0 })
    }

    /// How many frames a segment can still take.
    pub fn room(&self, state: &SpeechState) -> usize {
        state.cache.limit().saturating_sub(state.cache.len())
    }

    fn embed_text(&self, ids: &[u32]) -> Result<Tensor, EngineError> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.config.text_tokens) {
            return Err(EngineError::Model(format!(
                "the speech tokenizer gave the id {id}, but the model has {} text embeddings: pull the model again",
                self.config.text_tokens
            )));
        }
        Ok(self.text.index_select(&Tensor::new(ids, self.decoder.device())?, 0)?)
    }

    /// The sum over codebooks of each frame's embeddings, `[n, hidden]`.
    fn embed_frames(&self, frames: &[Vec<u32>]) -> Result<Tensor, EngineError> {
        let mut sum: Option<Tensor> = None;
        for (q, table) in self.codes.iter().enumerate() {
            let ids: Vec<u32> = frames.iter().filter_map(|f| f.get(q).copied()).collect();
            let rows = table.index_select(&Tensor::new(ids.as_slice(), self.decoder.device())?, 0)?;
            sum = Some(match sum {
                Some(sum) => (sum + rows)?,
                None => rows,
            });
        }
        sum.ok_or_else(|| EngineError::Model("the speech model has no codebooks: pull the model again".into()))
    }

    /// Writes text `ids` into the slots from `at` on. The first slots must be `[Stts]` and the speaker, whose embedding
    /// is then needed.
    pub fn prefill_text(
        &self,
        state: &mut SpeechState,
        ids: &[u32],
        at: usize,
        speaker: Option<&Tensor>,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        if at + ids.len() > state.cache.len() {
            return Err(EngineError::Unsupported(format!(
                "{} text tokens do not fit the {} slots of a segment",
                at + ids.len(),
                self.config.audio_start()
            )));
        }
        let start = Micros::now();
        let mut embeds = self.embed_text(ids)?;
        if let Some(slot) = ids.iter().position(|id| *id == self.config.speaker_token) {
            let Some(speaker) = speaker else {
                return Err(EngineError::Unsupported("speech was begun without a speaker embedding".into()));
            };
            let after = slot + 1;
            embeds =
                Tensor::cat(&[&embeds.narrow(0, 0, slot)?, speaker, &embeds.narrow(0, after, ids.len() - after)?], 0)?;
        }
        self.decoder.forward(&embeds, at, &mut state.cache, Mask::Causal)?;
        state.written = state.written.max(at + ids.len());
        probe.worked(Stage::TtsPrefill, start, ids.len());
        probe.text(ids, at, speaker.filter(|_| ids.contains(&self.config.speaker_token)), &state.cache);
        Ok(())
    }

    /// Slots before this one are visible from position `past`, as far as there is text.
    pub fn visible_until(&self, past: usize) -> usize {
        let c = &self.config;
        let blocks = past.saturating_sub(c.text_reserved).div_ceil(c.audio_chunk);
        (blocks * c.text_chunk).min(c.text_reserved) + c.text_start()
    }

    /// The slot before which text is seen from position `past`.
    fn text_end(&self, state: &SpeechState, past: usize, sight: TextSight) -> usize {
        let end = self.visible_until(past).min(self.config.text_start() + sight.tokens + 1);
        if sight.hide_unwritten { end.min(state.written) } else { end }
    }

    /// The additive mask of one query at position `past`, over `past + inputs` keys.
    fn mask_row(&self, state: &SpeechState, past: usize, inputs: usize, sight: TextSight) -> Vec<f32> {
        let (end, begin) = (self.text_end(state, past, sight), self.config.audio_start());
        // [Ptts] itself is never seen, not even by itself.
        (0..past + inputs).map(|key| if key < end || key > begin { 0.0 } else { HIDDEN }).collect()
    }

    /// Continues from `frames` of the segment before: `[Ptts]` and all but the last are fed at once. Upstream lets every
    /// one of them see all others; with `causal` they see only what came before, as when they were made.
    pub fn prefill_frames(
        &self,
        state: &mut SpeechState,
        frames: &[Vec<u32>],
        sight: TextSight,
        causal: bool,
    ) -> Result<(), EngineError> {
        let Some((_, fed)) = frames.split_last() else { return Ok(()) };
        let mut embeds = self.embed_text(&[self.config.audio_bos_token])?;
        if !fed.is_empty() {
            embeds = Tensor::cat(&[embeds, self.embed_frames(fed)?], 0)?;
        }
        let (n, past) = (frames.len(), state.cache.len());
        let mask = if causal {
            let mut rows = Vec::with_capacity(n * (past + n));
            for i in 0..n {
                rows.extend(self.mask_row(state, past + i, 1, sight));
                rows.extend(std::iter::repeat_n(HIDDEN, n - 1 - i));
            }
            Tensor::from_vec(rows, (n, past + n), self.decoder.device())?
        } else {
            Tensor::from_vec(self.mask_row(state, past, n, sight), (1, past + n), self.decoder.device())?
        };
        self.decoder.forward(&embeds, past, &mut state.cache, Mask::Additive(&mask))?;
        state.frames = frames.to_vec();
        state.prefix = frames.len();
        Ok(())
    }

    /// Makes the next frame. `in_call` counts the frames of the current stretch; with `ban_end` speech goes on.
    pub fn step(
        &self,
        state: &mut SpeechState,
        sight: TextSight,
        in_call: usize,
        ban_end: bool,
        chooser: &mut dyn ChooseCodes,
        probe: &mut dyn Probe,
    ) -> Result<Step, EngineError> {
        let start = Micros::now();
        // A step that sees no text is left to the plain decoder.
        let sees_text = self.text_end(state, state.cache.len(), sight) > 0;
        let (seen, mut logits) = match self.fused.as_ref().filter(|_| sees_text) {
            Some(fused) => {
                let mut fused = fused.borrow_mut();
                let given = probe.looks_into_steps().then(|| self.given(state, sight)).transpose()?;
                let logits = self.fused_step(&mut fused, state, sight)?;
                let seen = given.map(|(input, mask)| {
                    let hidden = Tensor::from_vec(fused.hidden()?, input.shape(), self.decoder.device())?;
                    Ok::<_, EngineError>((input, mask, hidden))
                });
                (seen.transpose()?, logits)
            }
            None => {
                let PlainStep { input, mask, hidden, logits } = self.plain_step(state, sight)?;
                (Some((input, mask, hidden)), logits)
            }
        };
        if logits.iter().flatten().any(|l| !l.is_finite()) {
            return Err(EngineError::Model(
                "the speech model computed a value that is not a number: its files are damaged, or the precision is too small; choose f32 or pull the model again".into(),
            ));
        }
        probe.worked(Stage::TtsDecode, start, 1);
        if let Some((input, mask, hidden)) = seen {
            probe.step(&input, &mask, &hidden, &logits);
        }
        self.filter.apply(&mut logits, &state.frames, ban_end);
        let frame = chooser.choose(&logits, Moment { in_call, may_end: !ban_end });
        if frame.contains(&self.config.end_code()) {
            return Ok(Step::End);
        }
        state.frames.push(frame);
        Ok(Step::Frame)
    }

    /// What the next step is given: its input `[1, hidden]` and its mask `[1, keys]`.
    fn given(&self, state: &SpeechState, sight: TextSight) -> Result<(Tensor, Tensor), EngineError> {
        let past = state.cache.len();
        let input = match state.frames.last() {
            None => self.embed_text(&[self.config.audio_bos_token])?,
            Some(last) => self.embed_frames(std::slice::from_ref(last))?,
        };
        let mask = Tensor::from_vec(self.mask_row(state, past, 1, sight), (1, past + 1), self.decoder.device())?;
        Ok((input, mask))
    }

    /// Takes the last frame in at the end of the segment by the plain decoder, for the logits of the next.
    pub(super) fn plain_step(&self, state: &mut SpeechState, sight: TextSight) -> Result<PlainStep, EngineError> {
        let _tables = keep_launch_tables(self.decoder.device());
        let past = state.cache.len();
        let (input, mask) = self.given(state, sight)?;
        let hidden = self.decoder.forward(&input, past, &mut state.cache, Mask::Additive(&mask))?;
        let logits = hidden.to_dtype(DType::F32)?.matmul(&self.heads.t()?)?;
        let logits = logits.reshape((self.config.codebooks, self.config.audio_codes))?.to_vec2::<f32>()?;
        Ok(PlainStep { input, mask, hidden, logits })
    }

    /// The same by `fused`. At least one slot of text must be in sight.
    pub(super) fn fused_step(
        &self,
        fused: &mut FusedStep,
        state: &mut SpeechState,
        sight: TextSight,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let text_end = self.text_end(state, state.cache.len(), sight);
        let frame = state.frames.last().map(Vec::as_slice);
        fused.run(Sight { text_end, audio_start: self.config.audio_start(), frame }, &mut state.cache)
    }
}
