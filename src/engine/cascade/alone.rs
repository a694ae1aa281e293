//! The starter engine's stages, each alone: what it hears in a recording, thinks about a text, makes of a sentence.
//!
//! Runs on the caller's thread. For comparisons of one stage with another program's (`--lines`), and for the floors. The parts
//! are the engine's own, loaded as the engine loads them.

use super::CascadePaths;
use super::chat::{Chat, ChatConfig};
use super::clauses::ClauseEnd;
use super::llm::LanguageModel;
use super::stt::SpeechToText;
use super::tts::{Spoken, Voice, VoiceOptions};
use crate::engine::sampling::SamplingConfig;
use crate::engine::whisper::{Language, Precision, Whisper};
use crate::engine::{CancelToken, EngineError};
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::Device;
use serde::Serialize;
use std::sync::Arc;

/// The three parts, loaded and warm.
pub struct Alone {
    whisper: Arc<Whisper>,
    model: Arc<LanguageModel>,
    voice: Voice,
}

/// What hearing a recording took.
#[derive(Debug, Serialize)]
pub struct Heard {
    pub ms: f64,
    pub text: String,
}

/// What reading a text and answering it took.
#[derive(Debug, Serialize)]
pub struct Thought {
    pub prefill_ms: f64,
    pub prefill_tokens: u32,
    pub decode_ms: f64,
    pub decode_tokens: u32,
    pub text: String,
}

/// What speaking a text took.
#[derive(Debug, Serialize)]
pub struct Said {
    pub ms: f64,
    /// Of sound, without the pause behind it.
    pub seconds: f64,
}

impl Alone {
    pub fn load(paths: &CascadePaths) -> Result<Self, EngineError> {
        Ok(Alone {
            whisper: Arc::new(Whisper::load(&paths.whisper_dir, Precision::Eight, &Device::Cpu)?),
            model: Arc::new(LanguageModel::load(&paths.llm_gguf, &Device::Cpu, &mut |_| {})?),
            voice: Voice::load(&paths.voice_onnx, &paths.voice_json, VoiceOptions::default())?,
        })
    }

    /// Writes down a recording (16 kHz mono) that is there as a whole, as if none of it had been heard before.
    pub fn hear(&self, pcm: &[f32]) -> Result<Heard, EngineError> {
        let mut stt = SpeechToText::new(Arc::clone(&self.whisper), Language::Known("en".into()));
        stt.push(pcm);
        let start = Micros::now();
        let text = stt.finish(&CancelToken::default(), &mut |_| {})?.unwrap_or_default();
        Ok(Heard { ms: Micros::now().ms_since(start), text })
    }

    /// Reads `text` behind the system prompt, which is in the cache already, and writes at most `tokens` of an answer, the
    /// likeliest at every step.
    pub fn think(&self, text: &str, tokens: usize) -> Result<Thought, EngineError> {
        let config =
            ChatConfig { sampling: SamplingConfig::GREEDY, max_answer: tokens.max(1), ..ChatConfig::default() };
        let mut chat = Chat::new(Arc::clone(&self.model), config)?;
        let cancel = CancelToken::default();
        let start = Micros::now();
        chat.begin_turn(text, &cancel)?;
        let read = Micros::now();
        let mut answer = String::new();
        while let Some(piece) = chat.next_token(&cancel)? {
            answer.push_str(&piece);
        }
        let decode_ms = Micros::now().ms_since(read);
        let marks = chat.take_marks();
        let units = |stage| marks.iter().filter(|m| m.stage == stage).map(|m| m.units).sum();
        Ok(Thought {
            prefill_ms: read.ms_since(start),
            prefill_tokens: units(Stage::LlmPrefill),
            decode_ms,
            decode_tokens: units(Stage::LlmDecode),
            text: answer,
        })
    }

    /// Speaks one sentence.
    pub fn speak(&mut self, text: &str) -> Result<Said, EngineError> {
        let (start, rate) = (Micros::now(), self.voice.rate());
        let mut samples = 0;
        self.voice.speak(text, ClauseEnd::Run, &CancelToken::default(), &mut |spoken| {
            if let Spoken::Sound { samples: more, .. } = spoken {
                samples += more.len();
            }
            true
        })?;
        Ok(Said { ms: Micros::now().ms_since(start), seconds: samples as f64 / f64::from(rate.max(1)) })
    }
}
