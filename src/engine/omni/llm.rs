//! The language model: token and audio embeddings in, hidden states and logits out (`llm.`, Qwen2.5).
//!
//! Owns weights only; whoever talks owns the [`KvCache`]. Lives on the engine thread. Invariant: audio embeddings
//! replace the rows of their placeholders and nothing else.

use super::config::OmniConfig;
use super::weights::Reported;
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::{Linear, Placement};
use crate::engine::tensor_source::TensorSource;
use crate::engine::transformer::{Decoder, Mask};
use candle_core::{DType, Device, Tensor};

/// The loaded language model.
pub struct Llm {
    /// `[vocab, hidden]`, in the checkpoint's precision: only the rows in use are widened.
    embed: Tensor,
    decoder: Decoder,
    head: Linear,
    vocab: usize,
}

impl Llm {
    /// Loads `llm.`; without `llm.lm_head.weight` (or when the configuration ties them) the embedding table is the head.
    pub fn load(config: &OmniConfig, source: &Reported<'_, '_>, place: &Placement) -> Result<Self, EngineError> {
        let shape = (config.vocab, config.llm.hidden);
        let table = "llm.model.embed_tokens";
        let own_head = source.has("llm.lm_head.weight");
        let embed = source.get(&format!("{table}.weight"), &[shape.0, shape.1])?;
        let head = if own_head { "llm.lm_head" } else { table };
        Ok(Self {
            embed: embed.to_device(place.device())?,
            decoder: Decoder::from_safetensors(&config.llm, source, "llm.model.", place)?,
            head: Linear::load(source, head, shape, false, place)?,
            vocab: config.vocab,
        })
    }

    pub fn device(&self) -> &Device {
        self.decoder.device()
    }

    /// An empty cache of up to `limit` positions.
    pub fn new_cache(&self, limit: usize) -> Result<KvCache, EngineError> {
        self.decoder.new_cache(limit)
    }

    /// The embeddings of `ids`, `[n, hidden]`.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor, EngineError> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
            return Err(EngineError::Model(format!(
                "the tokenizer gave the id {id}, but the model has {} embeddings: pull the model again",
                self.vocab
            )));
        }
        let rows = self.embed.index_select(&Tensor::new(ids, self.decoder.device())?, 0)?;
        Ok(rows.to_dtype(self.decoder.dtype())?)
    }

    /// The embeddings of `ids`, with the rows within `bounds` replaced by those of `audio` `[m, hidden]`, in order.
    pub fn embed_with_audio(
        &self,
        ids: &[u32],
        bounds: &[(usize, usize)],
        audio: &Tensor,
    ) -> Result<Tensor, EngineError> {
        let places: usize = bounds.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        let rows = audio.dim(0)?;
        if places != rows {
            return Err(EngineError::Unsupported(format!(
                "the prompt has {places} places for sound and was given {rows} embeddings"
            )));
        }
        let text = self.embed(ids)?;
        let audio = audio.to_dtype(text.dtype())?;
        let mut parts = Vec::with_capacity(2 * bounds.len() + 1);
        let (mut at, mut taken) = (0, 0);
        for &(from, to) in bounds {
            parts.push(text.narrow(0, at, from - at)?);
            parts.push(audio.narrow(0, taken, to - from)?);
            taken += to - from;
            at = to;
        }
        parts.push(text.narrow(0, at, ids.len() - at)?);
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Takes `embeds` `[n, hidden]` after what is in the cache; gives the hidden states after the final norm.
    pub fn forward(&self, embeds: &Tensor, cache: &mut KvCache) -> Result<Tensor, EngineError> {
        let at = cache.len();
        self.decoder.forward(embeds, at, cache, Mask::Causal)
    }

    /// The logits of `hidden` `[n, hidden]`: `[n, vocab]`, f32.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, EngineError> {
        Ok(self.head.forward(hidden)?.to_dtype(DType::F32)?)
    }
}
