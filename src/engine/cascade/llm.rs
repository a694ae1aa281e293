//! The cascade's language model: a GGUF file of the Qwen2 or Llama family, loaded, warmed up and ready to be fed ids.
//!
//! Owns the weights, the vocabulary and a cache primed with the system prompt; lives on the engine thread, shared by the
//! conversations in an `Arc`. Invariant: [`LanguageModel::load`] returns only after the weights have been used once (the
//! first use repacks them, which takes seconds), so that no conversation pays for it.

use super::template::{Role, Template};
use super::vocabulary::Vocabulary;
use crate::engine::gguf::Gguf;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::{Linear, Placement};
use crate::engine::transformer::{Decoder, DecoderConfig, Mask, last_row};
use crate::engine::{CancelToken, EngineError};
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Who the assistant is when nothing else is asked for.
pub const DEFAULT_SYSTEM_PROMPT: &str = "You are Antiphon, a friendly voice assistant, talking aloud with someone. \
Answer the way people speak: one to three short, plain sentences, in the language of the question. \
Never use lists, headings, code, symbols or Markdown. \
You do not know the current time, the date, the weather or the news, and say so when asked. \
When the user only says something like stop, okay or mm hmm, answer with a word or two, such as \"Okay.\"";

/// The most positions a conversation may take, system prompt included: some fifty spoken turns. Its keys and values then
/// take 59 MB (Qwen2.5 1.5B, f16) and are read for every token, so that twice as many would be felt.
pub const MAX_POSITIONS: usize = 2048;

/// How many ids are prefilled between two looks at the cancel token.
const PREFILL_STEP: usize = 32;

/// A loaded language model.
pub struct LanguageModel {
    decoder: Decoder,
    /// `token_embd.weight`, `[vocab, hidden]`, as stored.
    embedding: Arc<QTensor>,
    head: Linear,
    vocabulary: Vocabulary,
    template: Template,
    name: String,
    /// The beginning of a conversation under the default system prompt, already in a cache.
    primed: (Vec<u32>, KvCache),
}

impl LanguageModel {
    /// Loads the GGUF file at `path` onto `device` and warms it up. `progress` is given the share done, from 0 to 1.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of a kind that cannot be run; the message names it and says what to do.
    pub fn load(path: &Path, device: &Device, progress: &mut dyn FnMut(f32)) -> Result<Self, EngineError> {
        let mut file = Gguf::open(path)?;
        let vocabulary = Vocabulary::from_gguf(&file)?;
        let template = Template::find(&file, &vocabulary)?;
        let place = Placement::new(DType::F32, device, None);
        let cfg = DecoderConfig::from_gguf(&file, MAX_POSITIONS)?;
        let rows = file.shape("token_embd.weight").and_then(|s| s.first().copied()).unwrap_or_default();
        let embedding = Arc::new(file.tensor("token_embd.weight", &[rows, cfg.hidden], device)?);
        let head = match file.has("output.weight") {
            true => Arc::new(file.tensor("output.weight", &[rows, cfg.hidden], device)?),
            false => embedding.clone(),
        };
        let head = Linear::quantised(head, None, place.dtype())?.packed()?;
        progress(0.1);
        let decoder = Decoder::from_gguf(&mut file, MAX_POSITIONS, &place, &mut |done| progress(0.1 + 0.6 * done))?;
        let name = file.text("general.name").map_or_else(|| path.display().to_string(), str::to_owned);
        let cache = new_cache(&decoder)?;
        let mut model = Self { decoder, embedding, head, vocabulary, template, name, primed: (Vec::new(), cache) };
        model.prime()?;
        progress(1.0);
        Ok(model)
    }

    /// Prefills the default beginning of a conversation, which also repacks every weight.
    fn prime(&mut self) -> Result<(), EngineError> {
        let ids = self.beginning(DEFAULT_SYSTEM_PROMPT)?;
        let mut cache = new_cache(&self.decoder)?;
        self.feed(&ids, &mut cache, &CancelToken::default())?;
        // One id alone takes another path than many at once; the slot is rolled back.
        let filled = cache.len();
        self.feed(&ids[..1], &mut cache, &CancelToken::default())?;
        cache.truncate(filled);
        self.primed = (ids, cache);
        Ok(())
    }

    /// The model's own name, from its metadata.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The ids of a conversation under `system` up to where the user's first words go.
    pub fn beginning(&self, system: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids: Vec<u32> = self.template.begin().into_iter().collect();
        if !system.is_empty() {
            ids.extend(self.template.head(Role::System));
            ids.extend(self.vocabulary.encode(system.trim())?);
            ids.extend(self.template.tail());
        }
        ids.extend(self.template.head(Role::User));
        Ok(ids)
    }

    /// A cache to begin a conversation with, and the ids that are in it.
    pub fn primed(&self) -> Result<(Vec<u32>, KvCache), EngineError> {
        Ok((self.primed.0.clone(), self.primed.1.copy()?))
    }

    /// Feeds `ids` behind what `cache` holds and returns the logits after the last, `[vocab]`; `None` when cancelled
    /// on the way (what was fed stays in the cache) or when there is nothing to feed.
    pub fn feed(&self, ids: &[u32], cache: &mut KvCache, cancel: &CancelToken) -> Result<Option<Tensor>, EngineError> {
        let mut hidden = None;
        for step in ids.chunks(PREFILL_STEP) {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            let at = cache.len();
            let rows = self.embedding.embedding(&Tensor::new(step, self.decoder.device())?)?;
            hidden = Some(self.decoder.forward(&rows.to_dtype(self.decoder.dtype())?, at, cache, Mask::Causal)?);
        }
        match hidden {
            Some(hidden) => Ok(Some(self.head.forward(&last_row(&hidden)?)?.squeeze(0)?)),
            None => Ok(None),
        }
    }

    /// Takes the slots `range` out of `cache`, see [`Decoder::forget`].
    pub fn forget(&self, cache: &mut KvCache, range: Range<usize>) -> Result<(), EngineError> {
        self.decoder.forget(cache, range)
    }
}

/// An empty cache. On the CPU in half precision, as llama.cpp keeps it: to read it costs as much as a tenth of the weights
/// at the end of a long conversation, else a fifth.
fn new_cache(decoder: &Decoder) -> Result<KvCache, EngineError> {
    let kept = if decoder.device().is_cpu() { DType::F16 } else { decoder.dtype() };
    decoder.new_cache_in(kept, MAX_POSITIONS)
}
