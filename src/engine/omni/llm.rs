//! The language model: token and audio embeddings in, hidden states and logits out (`llm.`, Qwen2.5), from the checkpoint
//! or from a GGUF file of it.
//!
//! Owns weights only; whoever talks owns the [`KvCache`]. Lives on the engine thread. Invariant: audio embeddings
//! replace the rows of their placeholders and nothing else.

use super::config::OmniConfig;
use super::gpu::Machine;
use super::gpu::language::{LanguageParts, LanguageStep};
use super::gpu::verify::{self, Agreement};
use super::weights::Reported;
use crate::engine::EngineError;
use crate::engine::gguf::Gguf;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::{Linear, Matrix, Placement};
use crate::engine::sampling::Outlook;
use crate::engine::tensor_source::TensorSource;
use crate::engine::transformer::{Decoder, DecoderConfig, Mask};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// The embedding table, `[vocab, hidden]`, as it is stored: only the rows in use are widened.
enum Table {
    Dense(Tensor),
    Quantised(Arc<QTensor>),
}

/// The loaded language model.
pub struct Llm {
    embed: Table,
    decoder: Decoder,
    head: Linear,
    vocab: usize,
    /// The decoder's step in kernels of our own, where there are any and they have been found to agree.
    fused: Option<RefCell<LanguageStep>>,
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
            embed: Table::Dense(embed.to_device(place.device())?),
            decoder: Decoder::from_safetensors(&config.llm, source, "llm.model.", place)?,
            head: Linear::load(source, head, shape, false, place)?.packed()?,
            vocab: config.vocab,
            fused: None,
        })
    }

    /// Has words found by kernels of our own on `machine` from now on, if those agree with the plain decoder.
    ///
    /// # Errors
    /// When the kernels cannot compute this model, or the machine fails.
    pub fn quicken(&mut self, machine: Box<dyn Machine>) -> Result<Agreement, EngineError> {
        let table = match &self.embed {
            Table::Dense(table) => Matrix::Dense(table),
            Table::Quantised(table) => Matrix::Quantised(table),
        };
        let (head, _) = self.head.plain().ok_or_else(|| {
            EngineError::Unsupported("the language model's head has been reordered for the CPU".into())
        })?;
        let parts = LanguageParts { decoder: &self.decoder, table, head, vocab: self.vocab };
        let mut fused = LanguageStep::new(&parts, machine)?;
        let agreement = verify::compare_words(self, &mut fused)?;
        self.fused = agreement.holds().then(|| RefCell::new(fused));
        Ok(agreement)
    }

    /// Takes the token `id` in after what is in `cache` by kernels of our own, and says what may come next: at least the
    /// `needed` likeliest tokens, or all. `None` without kernels.
    pub fn quick_step(
        &self,
        id: u32,
        needed: Option<usize>,
        cache: &mut KvCache,
    ) -> Result<Option<Outlook>, EngineError> {
        self.fused.as_ref().map(|fused| fused.borrow_mut().run(id, needed, cache)).transpose()
    }

    /// What the last [`quick_step`](Self::quick_step) was given and came to: embedding and hidden state, each `[1, hidden]`.
    pub fn looked_into(&self, id: u32) -> Result<Option<(Tensor, Tensor)>, EngineError> {
        let Some(fused) = &self.fused else { return Ok(None) };
        let given = self.embed(&[id])?;
        let hidden = Tensor::from_vec(fused.borrow_mut().hidden()?, given.shape(), self.device())?;
        Ok(Some((given, hidden)))
    }

    /// One of the tokens, for trials: another for every `i`, far apart.
    pub(super) fn some_token(&self, i: usize) -> u32 {
        ((i + 1) * 7919 % self.vocab.max(1)) as u32
    }

    /// The precision of its activations.
    pub fn dtype(&self) -> DType {
        self.decoder.dtype()
    }

    /// Whether any of its weights may be quantised.
    pub fn is_quantised(&self) -> bool {
        !matches!(self.head.plain(), Some((Matrix::Dense(_), _)))
    }

    pub fn device(&self) -> &Device {
        self.decoder.device()
    }

    /// Opens the GGUF file `path`, which is to stand in for the `llm.` of the checkpoint described by `config`.
    ///
    /// # Errors
    /// When it cannot be read, or holds another model; the message says what differs.
    pub fn open_gguf(path: &Path, config: &OmniConfig) -> Result<Gguf, EngineError> {
        let file = Gguf::open(path)?;
        let other = |what: &str, found: String, expected: String| {
            EngineError::Model(format!(
                "{} is not the language model of this checkpoint: its {what} is {found}, that of config.json {expected}; give a GGUF file made from the same model, or leave --llm out",
                path.display()
            ))
        };
        let family = file.text("general.architecture").unwrap_or("unknown");
        if family != "qwen2" {
            return Err(other("architecture", family.to_string(), "qwen2".to_string()));
        }
        let (found, expected) = (DecoderConfig::from_gguf(&file, config.llm.max_positions)?, &config.llm);
        let rows = file.shape("token_embd.weight").and_then(|s| s.first().copied()).unwrap_or_default();
        for (what, found, expected) in [
            ("hidden size", found.hidden, expected.hidden),
            ("number of layers", found.layers, expected.layers),
            ("number of heads", found.heads, expected.heads),
            ("number of key heads", found.kv_heads, expected.kv_heads),
            ("head width", found.head_dim, expected.head_dim),
            ("feed-forward width", found.ffn, expected.ffn),
            ("vocabulary", rows, config.vocab),
        ] {
            if found != expected {
                return Err(other(what, found.to_string(), expected.to_string()));
            }
        }
        // The file keeps these in f32.
        for (what, found, expected) in [
            ("base of rotary positions", found.rope_theta, expected.rope_theta),
            ("norm epsilon", found.rms_eps, expected.rms_eps),
        ] {
            if (found / expected - 1.0).abs() > 1e-6 {
                return Err(other(what, found.to_string(), expected.to_string()));
            }
        }
        Ok(file)
    }

    /// Loads the language model from a file that [`open_gguf`](Self::open_gguf) opened, keeping its quantisation.
    /// `progress` is given the share done, 0 to 1.
    pub fn from_gguf(
        config: &OmniConfig,
        file: &mut Gguf,
        place: &Placement,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, EngineError> {
        let shape = [config.vocab, config.llm.hidden];
        let embed = Arc::new(file.tensor("token_embd.weight", &shape, place.device())?);
        let head = match file.has("output.weight") {
            true => Arc::new(file.tensor("output.weight", &shape, place.device())?),
            false => embed.clone(),
        };
        let embed = match embed.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                Table::Dense(place.dense(&embed.dequantize(place.device())?)?)
            }
            _ => Table::Quantised(embed),
        };
        Ok(Self {
            embed,
            decoder: Decoder::from_gguf(file, config.llm.max_positions, place, progress)?,
            head: Linear::quantised(head, None, place.dtype())?,
            vocab: config.vocab,
            fused: None,
        })
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
        let ids = Tensor::new(ids, self.decoder.device())?;
        let rows = match &self.embed {
            Table::Dense(table) => table.index_select(&ids, 0)?,
            Table::Quantised(table) => table.embedding(&ids)?,
        };
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
