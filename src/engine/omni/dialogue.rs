//! One conversation as the language model sees it: its cache, the ear's cache, and what the next turn begins with.
//!
//! Owns both caches; lives on the engine thread. Invariants: the cache holds exactly what has been fed, the sampled
//! token that ended an answer has not been; [`Mark`] and [`Dialogue::back_to`] restore an earlier state bit for bit.
//! Source: MiniCPM-o 2.6's `streaming_prefill` and `streaming_generate`.

use super::ear::Ear;
use super::llm::Llm;
use super::probe::Probe;
use super::prompt::{self, Before};
use super::tokens::LlmTokens;
use crate::engine::EngineError;
use crate::engine::audio_encoder::EncoderCache;
use crate::engine::device::keep_launch_tables;
use crate::engine::kv_cache::KvCache;
use crate::engine::sampling::Outlook;
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::Tensor;

/// The parts of the model that listen and think.
pub struct Mind {
    pub tokens: LlmTokens,
    pub ear: Ear,
    pub llm: Llm,
}

/// A conversation's state.
pub struct Dialogue {
    pub cache: KvCache,
    pub heard: EncoderCache,
    /// What the last answer left behind.
    pub before: Before,
    /// Whether the user's turn has not begun yet.
    pub fresh: bool,
}

/// A point in a conversation to come back to.
#[derive(Clone, Debug)]
pub struct Mark {
    len: usize,
    heard: EncoderCache,
    before: Before,
    fresh: bool,
}

/// What the model answered to its generation prompt: the logits of the first token and the hidden state at `<|spk|>`.
pub struct Opening {
    /// `[1, vocab]`
    pub logits: Tensor,
    /// `[1, llm hidden]`
    pub speaker: Tensor,
}

impl Dialogue {
    /// A conversation in which nothing has been said, of up to `limit` positions.
    pub fn new(mind: &Mind, limit: usize) -> Result<Self, EngineError> {
        Ok(Self {
            cache: mind.llm.new_cache(limit)?,
            heard: EncoderCache::default(),
            before: Before::Nothing,
            fresh: true,
        })
    }

    /// A conversation of which only the system prompt has been said, which `cache` holds.
    pub fn after(cache: KvCache) -> Self {
        Self { cache, heard: EncoderCache::default(), before: Before::Nothing, fresh: true }
    }

    pub fn mark(&self) -> Mark {
        Mark { len: self.cache.len(), heard: self.heard.clone(), before: self.before, fresh: self.fresh }
    }

    /// Goes back to a `mark`, which must not be older than the last time the cache was built anew.
    pub fn back_to(&mut self, mark: &Mark) {
        self.cache.truncate(mark.len);
        self.heard = mark.heard.clone();
        self.before = mark.before;
        self.fresh = mark.fresh;
    }

    /// Goes back to a point between two turns, at the cache's position `at`.
    pub fn back_between_turns(&mut self, at: usize, before: Before) {
        self.back_to(&Mark { len: at, heard: EncoderCache::default(), before, fresh: true });
    }

    /// The most positions this conversation may take.
    pub fn limit(&self) -> usize {
        self.cache.limit()
    }

    /// Positions of the language model in use.
    pub fn positions(&self) -> usize {
        self.cache.len()
    }

    /// Feeds `ids`, with `audio` in the place of their placeholders. Gives the hidden states.
    fn feed(
        &mut self,
        mind: &Mind,
        ids: &[u32],
        audio: Option<&Tensor>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor, EngineError> {
        let start = Micros::now();
        let embeds = match audio {
            None => mind.llm.embed(ids)?,
            Some(audio) => {
                let bounds = prompt::audio_bounds(ids, mind.tokens.audio_start, mind.tokens.audio_end);
                mind.llm.embed_with_audio(ids, &bounds, audio)?
            }
        };
        let hidden = mind.llm.forward(&embeds, &mut self.cache)?;
        let stage = if ids.len() == 1 { Stage::LlmDecode } else { Stage::LlmPrefill };
        probe.worked(stage, start, ids.len());
        probe.llm(&embeds, &hidden);
        Ok(hidden)
    }

    /// Feeds a complete message with the `sound` of its placeholders, which is heard in one go (the system prompt and
    /// its reference voice). Gives how many ids there were.
    pub fn open(
        &mut self,
        mind: &mut Mind,
        message: &str,
        sound: Option<&[f32]>,
        probe: &mut dyn Probe,
    ) -> Result<Vec<u32>, EngineError> {
        let ids = mind.tokens.encode(message)?;
        self.heard.clear();
        let audio = match sound {
            Some(pcm) => {
                let start = Micros::now();
                let heard = mind.ear.hear(pcm, &mut self.heard)?;
                probe.worked(Stage::AudioEncode, start, pcm.len());
                Some(heard)
            }
            None => None,
        };
        self.feed(mind, &ids, audio.as_ref(), probe)?;
        self.heard.clear();
        Ok(ids)
    }

    /// What comes before the turn's first words: nothing, once they have been said.
    fn header(&mut self) -> String {
        if !std::mem::take(&mut self.fresh) {
            return String::new();
        }
        prompt::turn_start(self.before)
    }

    /// The user says more: `pcm` is heard as the next piece of the stream. Gives its ids and embeddings.
    pub fn listen(
        &mut self,
        mind: &mut Mind,
        pcm: &[f32],
        probe: &mut dyn Probe,
    ) -> Result<(Vec<u32>, Tensor), EngineError> {
        let start = Micros::now();
        let audio = mind.ear.hear(pcm, &mut self.heard)?;
        probe.worked(Stage::AudioEncode, start, pcm.len());
        let ids = self.unit_ids(mind, audio.dim(0)?)?;
        self.feed(mind, &ids, Some(&audio), probe)?;
        Ok((ids, audio))
    }

    /// The ids of a piece of sound with `positions` placeholders, and of the turn's header if it is the first.
    fn unit_ids(&mut self, mind: &Mind, positions: usize) -> Result<Vec<u32>, EngineError> {
        let text = self.header() + &prompt::placeholders(positions, mind.ear.group());
        mind.tokens.encode(&text)
    }

    /// Feeds what was said before once more.
    pub fn repeat(
        &mut self,
        mind: &Mind,
        ids: &[u32],
        audio: Option<&Tensor>,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        self.feed(mind, ids, audio, probe).map(drop)
    }

    /// The user says more, in writing. Gives its ids.
    pub fn read(&mut self, mind: &Mind, text: &str, probe: &mut dyn Probe) -> Result<Vec<u32>, EngineError> {
        let text = self.header() + &mind.tokens.harmless(text);
        let ids = mind.tokens.encode(&text)?;
        self.feed(mind, &ids, None, probe)?;
        Ok(ids)
    }

    /// Ends the user's turn and begins the answer. The turn counts as broken off until [`finish`](Self::finish).
    pub fn begin_answer(&mut self, mind: &Mind, probe: &mut dyn Probe) -> Result<Opening, EngineError> {
        self.fresh = true;
        self.before = Before::BrokenOff;
        self.heard.clear();
        self.opening(mind, prompt::ANSWER, probe)
    }

    fn opening(&mut self, mind: &Mind, text: &str, probe: &mut dyn Probe) -> Result<Opening, EngineError> {
        let ids = mind.tokens.encode(text)?;
        let hidden = self.feed(mind, &ids, None, probe)?;
        let Some(at) = ids.iter().rposition(|id| *id == mind.tokens.speaker) else {
            return Err(EngineError::Model(
                "the tokenizer does not know <|spk|> in the generation prompt: pull the model again".into(),
            ));
        };
        let logits = mind.llm.logits(&hidden.narrow(0, ids.len() - 1, 1)?)?;
        Ok(Opening { logits, speaker: hidden.narrow(0, at, 1)? })
    }

    /// Reads a voice off the conversation so far, which is left as it was: the hidden state at `<|spk|>`.
    pub fn voice(&mut self, mind: &Mind) -> Result<Tensor, EngineError> {
        let mark = self.mark();
        let opening = self.opening(mind, prompt::VOICE_PROBE, &mut super::probe::NoProbe);
        self.back_to(&mark);
        // The hidden state is a view of what this call computed; a copy lets go of the rest.
        Ok(opening?.speaker.copy()?)
    }

    /// Feeds one token of the answer and says what may come next: at least the `needed` likeliest tokens, or all.
    pub fn say(
        &mut self,
        mind: &Mind,
        id: u32,
        needed: Option<usize>,
        probe: &mut dyn Probe,
    ) -> Result<Outlook, EngineError> {
        let start = Micros::now();
        if let Some(outlook) = mind.llm.quick_step(id, needed, &mut self.cache)? {
            probe.worked(Stage::LlmDecode, start, 1);
            if probe.looks_into_steps()
                && let Some((embeds, hidden)) = mind.llm.looked_into(id)?
            {
                probe.llm(&embeds, &hidden);
            }
            return Ok(outlook);
        }
        let _tables = keep_launch_tables(mind.llm.device());
        let hidden = self.feed(mind, &[id], None, probe)?;
        Ok(Outlook::All(mind.llm.logits(&hidden)?))
    }

    /// The answer came to its own end.
    pub fn finish(&mut self) {
        self.before = Before::Finished;
    }
}
