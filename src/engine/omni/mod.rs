//! MiniCPM-o 2.6: speech in, speech out, one model. One file per part of the checkpoint.
//!
//! - [`config`], [`weights`], [`tokens`]: what lies in the checkpoint folder, checked; [`needs`]: the memory it takes;
//!   [`random_checkpoint`]: one made of random numbers
//! - [`ear`]: sound to embeddings; [`llm`]: embeddings to words; [`tts`] with [`codes`]: words to audio codes;
//!   [`dvae`], [`vocos`] and [`vocoder`]: audio codes to sound
//! - [`gpu`]: the language and the speech model's steps in kernels of our own
//! - [`prompt`], [`dialogue`]: the words around what is heard and said
//! - [`answer`]: words, token by token; [`words`] and [`speech`]: words to sound while they are still being found;
//!   [`compat`]: the same as upstream does it, defects included
//! - [`memory`]: what has been said, for when the context is full; [`meter`]: stage marks; [`voice_state`]: a voice's
//!   prompt, kept on disk
//! - [`load`]: the parts put together; `warm`: each run once; [`session`]: one conversation; this file: the engine
//!
//! Everything lives on the engine thread. Invariant: with [`OmniOptions::compat`] the numbers are upstream's.
//!
//! [`OmniOptions::compat`]: load::OmniOptions::compat

pub mod answer;
pub mod codes;
pub mod compat;
pub mod config;
mod convnext;
pub mod dialogue;
pub mod dvae;
pub mod ear;
pub mod gpu;
pub mod llm;
pub mod load;
pub mod memory;
pub mod meter;
pub mod needs;
pub mod probe;
pub mod prompt;
pub mod random_checkpoint;
pub mod session;
pub mod speech;
pub mod tokens;
pub mod tts;
pub mod vocoder;
pub mod vocos;
pub mod voice_state;
mod warm;
pub mod ways;
pub mod weights;
pub mod words;

#[cfg(test)]
mod tests;

use super::kv_cache::KvCache;
use super::text::speakable;
use super::{
    CancelToken, Engine, EngineError, EngineInfo, EngineSession, HEARING_RATE, PcmChunk, ReplyEnd, ResponseSink,
    SessionSetup,
};
use candle_core::Tensor;
use dialogue::Dialogue;
use load::Omni;
pub use load::{Compute, OmniOptions, Precision, Quantization, TextChunk};
use meter::Meter;
use probe::{NoProbe, Probe};
use prompt::{Language, Mode};
use session::{OmniSession, Shared, lock};
use speech::Speech;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use voice_state::VoiceState;
use words::WordFeed;

/// Hertz of the vocoder's sound.
pub const OUTPUT_RATE: u32 = 24_000;
/// How many voices' prompts are kept ready.
const VOICES: usize = 4;
/// The longest reference voice, in samples (upstream hears at most 30 s at once).
const LONGEST_REFERENCE: usize = 30 * HEARING_RATE as usize;

/// What a voice's prompt left in the model: kept, so that a new conversation begins at once and sounds the same.
struct Voice {
    mode: Mode,
    setup: SessionSetup,
    cache: KvCache,
    /// The voice's embedding.
    speaker: Tensor,
}

/// The omni engine. See the module's head.
pub struct OmniEngine {
    model: Shared,
    options: OmniOptions,
    description: String,
    overlap: usize,
    /// Tells this model from others, for what is kept of voices on disk.
    fingerprint: String,
    /// The latest voices, newest last.
    voices: VecDeque<Voice>,
}

impl OmniEngine {
    /// Loads the checkpoint in `dir`. `progress` is told the part at hand and the share of the checkpoint done, 0 to 1.
    ///
    /// # Errors
    /// Names the file, and the tensor or key in it, that is missing, unknown, or not as expected.
    pub fn load(dir: &Path, options: OmniOptions, progress: &mut dyn FnMut(&str, f32)) -> Result<Self, EngineError> {
        let mut omni = Omni::load(dir, &options, progress)?;
        progress("first steps", 1.0);
        warm::up(&mut omni, &mut NoProbe)?;
        progress("ready", 1.0);
        let kind = match &options.llm {
            Some(file) => file.file_name().map_or_else(|| "GGUF".into(), |name| name.to_string_lossy().into_owned()),
            None => options.quantize.map_or(options.dtype.name(), load::Quantization::name).to_owned(),
        };
        let speech = options.quantize_speech.map_or("f32", load::Quantization::name);
        let way = |way: Option<gpu::GpuStep>| way.map_or(String::new(), |way| format!(" ({way})"));
        let overlap = if options.compat { 0 } else { vocoder::FADE };
        Ok(Self {
            description: format!(
                "MiniCPM-o 2.6 on {}, language {kind}{}, speech {speech}{}",
                options.device,
                way(omni.language_step),
                way(omni.speech_step)
            ),
            model: Arc::new(Mutex::new(omni)),
            fingerprint: voice_state::fingerprint(dir, &options),
            options,
            overlap,
            voices: VecDeque::new(),
        })
    }

    /// The prompt of a conversation, from what is kept in memory or on disk, or made anew.
    fn voice(&mut self, mode: Mode, setup: &SessionSetup, probe: &mut dyn Probe) -> Result<&Voice, EngineError> {
        let known = self.voices.iter().position(|v| {
            v.mode == mode
                && v.setup.system_prompt == setup.system_prompt
                && v.setup.reference_voice == setup.reference_voice
        });
        let voice = match known.and_then(|at| self.voices.remove(at)) {
            Some(voice) => voice,
            None => self.make_voice(mode, setup, probe)?,
        };
        if self.voices.len() >= VOICES {
            self.voices.pop_front();
        }
        self.voices.push_back(voice);
        self.voices.back().ok_or_else(|| EngineError::Unsupported("there is no voice".into()))
    }

    fn make_voice(&self, mode: Mode, setup: &SessionSetup, probe: &mut dyn Probe) -> Result<Voice, EngineError> {
        let mut omni = lock(&self.model);
        let reference = setup.reference_voice.as_deref().map(|r| &r[..r.len().min(LONGEST_REFERENCE)]);
        if let Some(reference) = reference.filter(|r| r.len() < HEARING_RATE as usize / 2) {
            return Err(EngineError::Unsupported(format!(
                "the reference voice has {} samples, less than half a second: record 5 to 15 seconds",
                reference.len()
            )));
        }
        let mind = &mut omni.mind;
        let placeholders = reference.map(|r| prompt::placeholders(mind.ear.positions(r.len()), mind.ear.group()));
        let persona = mind.tokens.harmless(setup.system_prompt.trim());
        let language = self.options.language.unwrap_or_else(|| match speakable::Language::of(&persona) {
            speakable::Language::Chinese => Language::Chinese,
            speakable::Language::English => Language::English,
        });
        let message = prompt::system_prompt(mode, language, placeholders.as_deref(), &persona);
        let limit = self.options.context.min(omni.config.llm.max_positions);
        let mind = &mut omni.mind;
        let length = mind.tokens.encode(&message)?.len();
        if length + self.options.answer_tokens + 256 > limit {
            return Err(EngineError::Unsupported(format!(
                "the persona and the voice take {length} positions of a context of {limit}: use fewer words, or a larger context"
            )));
        }
        let kept = setup.voice_state.as_deref().zip(reference);
        let kept = kept.map(|(dir, reference)| VoiceState::new(dir, &self.fingerprint, &message, reference));
        if let Some(kept) = &kept
            && let Some((cache, speaker)) = kept.read(mind.llm.new_cache(limit)?)
        {
            return Ok(Voice { mode, setup: setup.clone(), cache, speaker });
        }
        let mut dialogue = Dialogue::new(mind, limit)?;
        dialogue.open(mind, &message, reference, probe)?;
        let hidden = dialogue.voice(mind)?;
        let speaker = omni.mouth.tts.speaker(&hidden)?;
        if let Some(kept) = &kept {
            kept.write(&dialogue.cache, &speaker);
        }
        Ok(Voice { mode, setup: setup.clone(), cache: dialogue.cache, speaker })
    }
}

impl Engine for OmniEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: "omni",
            description: self.description.clone(),
            output_rate: OUTPUT_RATE,
            max_overlap: self.overlap,
            clones_voices: true,
            transcribes: false,
        }
    }

    fn open(&mut self, setup: &SessionSetup) -> Result<Box<dyn EngineSession>, EngineError> {
        let (model, options) = (self.model.clone(), self.options.clone());
        let mode = if self.options.role_play { Mode::RolePlay } else { Mode::Assistant };
        let voice = self.voice(mode, setup, &mut NoProbe)?;
        let dialogue = Dialogue::after(voice.cache.copy()?);
        let speaker = voice.speaker.clone();
        Ok(Box::new(OmniSession::new(model, options, dialogue, speaker, setup.seed)))
    }

    /// The text goes to the speech model as it is: the language model only lends the voice.
    fn read_aloud(
        &mut self,
        text: &str,
        setup: &SessionSetup,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<ReplyEnd, EngineError> {
        let mut meter = Meter::new(sink);
        let speaker = self.voice(Mode::Cloning, setup, &mut meter)?.speaker.clone();
        let mut omni = lock(&self.model);
        let mouth = &mut omni.mouth;
        let mut codes = codes::RandomCodes::new(setup.seed);
        let mut feed = WordFeed::new();
        let mut speech = Speech::new(mouth, speaker);
        speech.say(feed.push(text, &mouth.tokens)?);
        speech.say(feed.finish(&mouth.tokens)?);
        speech.finish();
        sink.text(text);
        while speech.ready(mouth) {
            if cancel.is_cancelled() {
                return Ok(ReplyEnd::Cancelled);
            }
            if let Some(sound) = speech.step(mouth, &mut codes, &mut meter)? {
                meter.flush();
                let chunk =
                    PcmChunk { samples: sound.samples, overlap: sound.overlap, text_end: sound.text_end, last: false };
                if !sink.audio(chunk) {
                    return Ok(ReplyEnd::Cancelled);
                }
            }
        }
        let last = PcmChunk { samples: Vec::new(), overlap: 0, text_end: text.len(), last: true };
        Ok(if sink.audio(last) { ReplyEnd::Complete } else { ReplyEnd::Cancelled })
    }
}
