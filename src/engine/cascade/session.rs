//! The starter engine and its conversations.
//!
//! Lives on the engine thread; the voice has a thread of its own ([`speaker`](super::speaker)). The ear's work is done
//! while the user speaks, and the language model reads the user's words as soon as there is a pause, on the guess that
//! the turn is over; a wrong guess is taken back exactly. Invariant: between turns, the chat holds what was said, and
//! of the assistant's words those that were heard.

use super::chat::{Chat, ChatConfig};
use super::clauses::ClauseSplitter;
use super::llm::LanguageModel;
use super::speaker::{Speaker, gone};
use super::stt::SpeechToText;
use super::tts::{Voice, VoiceOptions};
use crate::engine::whisper::{Language, Precision, Whisper};
use crate::engine::{
    CancelToken, Engine, EngineError, EngineInfo, EngineSession, PastTurn, ReplyEnd, ResponseSink, SessionSetup,
};
use crate::metrics::StageMark;
use candle_core::Device;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the starter engine's models are.
#[derive(Clone, Debug)]
pub struct CascadePaths {
    /// The folder with Whisper's `model.safetensors`, `config.json` and `tokenizer.json`.
    pub whisper_dir: PathBuf,
    /// A language model of the Qwen2 or Llama family.
    pub llm_gguf: PathBuf,
    /// A Piper voice and its configuration.
    pub voice_onnx: PathBuf,
    pub voice_json: PathBuf,
}

/// How the starter engine is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct CascadeOptions {
    pub voice: VoiceOptions,
}

/// The starter engine, loaded and warm.
pub struct CascadeEngine {
    stt: Arc<Whisper>,
    llm: Arc<LanguageModel>,
    speaker: Arc<Speaker>,
}

impl CascadeEngine {
    /// Loads everything and runs each part once, so that the first turn is as fast as the tenth.
    ///
    /// # Errors
    /// A model file that is missing, damaged or of another kind; the message names it.
    pub fn load(
        paths: &CascadePaths,
        options: &CascadeOptions,
        progress: &mut dyn FnMut(&str, f32),
    ) -> Result<Self, EngineError> {
        progress("speech to text", 0.0);
        let stt = Arc::new(Whisper::load(&paths.whisper_dir, Precision::Eight, &Device::Cpu)?);
        progress("voice", 0.15);
        let voice = Voice::load(&paths.voice_onnx, &paths.voice_json, options.voice)?;
        let speaker = Arc::new(Speaker::start(voice)?);
        let name = "language model";
        progress(name, 0.3);
        let mut share = |done: f32| progress(name, 0.3 + 0.7 * done);
        let llm = Arc::new(LanguageModel::load(&paths.llm_gguf, &Device::Cpu, &mut share)?);
        Ok(CascadeEngine { stt, llm, speaker })
    }
}

impl Engine for CascadeEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: "cascade",
            description: format!("Whisper base, {}, Piper", self.llm.name()),
            output_rate: self.speaker.rate(),
            max_overlap: 0,
            clones_voices: false,
            transcribes: true,
        }
    }

    fn open(&mut self, setup: &SessionSetup) -> Result<Box<dyn EngineSession>, EngineError> {
        if setup.reference_voice.is_some() {
            return Err(EngineError::Unsupported(
                "the starter engine cannot speak in a voice from a file: use the omni engine for that".into(),
            ));
        }
        self.speaker.seed(setup.seed)?;
        let config =
            ChatConfig { system_prompt: setup.system_prompt.clone(), seed: setup.seed, ..ChatConfig::default() };
        Ok(Box::new(CascadeSession {
            stt: SpeechToText::new(Arc::clone(&self.stt), Language::Known("en".into())),
            chat: Chat::new(Arc::clone(&self.llm), config)?,
            speaker: Arc::clone(&self.speaker),
            typed: String::new(),
            guess: None,
            answered: false,
        }))
    }

    fn set_speed(&mut self, speed: f32) {
        // A voice that is gone is told of when it is to speak.
        let _ = self.speaker.speed(speed);
    }

    fn read_aloud(
        &mut self,
        text: &str,
        setup: &SessionSetup,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<ReplyEnd, EngineError> {
        self.speaker.seed(setup.seed)?;
        sink.text(text);
        let mut clauses = ClauseSplitter::new();
        clauses.push(text);
        clauses.finish();
        while let Some(clause) = clauses.next_clause() {
            self.speaker.say(clause, sink, cancel)?;
        }
        self.speaker.end(text.len(), sink, cancel)?.recv().map_err(|_| gone())??;
        Ok(if cancel.is_cancelled() { ReplyEnd::Cancelled } else { ReplyEnd::Complete })
    }
}

/// Marks go to the sink.
fn to(sink: &Arc<dyn ResponseSink>) -> impl FnMut(StageMark) + '_ {
    |mark| sink.mark(mark)
}

/// A conversation with the starter engine.
pub struct CascadeSession {
    stt: SpeechToText,
    chat: Chat,
    speaker: Arc<Speaker>,
    /// What was typed in this turn.
    typed: String,
    /// The words with which the chat's open turn was begun.
    guess: Option<String>,
    /// Whether the turn was answered: the next words begin another.
    answered: bool,
}

impl CascadeSession {
    /// The first words after an answer begin another turn.
    fn begin(&mut self) {
        if std::mem::take(&mut self.answered) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.stt.reset();
        self.typed.clear();
        self.guess = None;
        self.answered = false;
    }

    /// The user's words so far, typed and spoken; `None` when cancelled.
    fn words(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<Option<String>, EngineError> {
        let spoken = self.stt.finish(cancel, &mut to(sink))?;
        Ok(spoken.map(|spoken| [self.typed.trim(), spoken.trim()].join(" ").trim().to_owned()))
    }

    /// Has the language model read the words, unless it has read just these.
    fn put(&mut self, words: &str, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError> {
        if self.guess.as_deref() == Some(words) {
            return Ok(());
        }
        self.take_back();
        self.guess = Some(words.to_owned());
        self.chat.begin_turn(words, cancel)?;
        self.report(sink);
        Ok(())
    }

    fn take_back(&mut self) {
        if self.guess.take().is_some() {
            self.chat.retract_turn();
        }
    }

    fn report(&mut self, sink: &Arc<dyn ResponseSink>) {
        self.chat.take_marks().into_iter().for_each(|mark| sink.mark(mark));
    }

    /// Writes the answer, and has its clauses spoken as they are written.
    fn answer(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError> {
        let mut clauses = ClauseSplitter::new();
        while let Some(piece) = self.chat.next_token(cancel)? {
            sink.text(&piece);
            clauses.push(&piece);
            self.report(sink);
            while let Some(clause) = clauses.next_clause() {
                self.speaker.say(clause, sink, cancel)?;
            }
        }
        clauses.finish();
        while let Some(clause) = clauses.next_clause() {
            self.speaker.say(clause, sink, cancel)?;
        }
        let spoken = self.speaker.end(clauses.text().len(), sink, cancel)?;
        if !cancel.is_cancelled() {
            self.chat.end_turn(cancel)?;
            self.report(sink);
        }
        spoken.recv().map_err(|_| gone())?
    }
}

impl EngineSession for CascadeSession {
    fn recall(&mut self, past: &[PastTurn]) -> Result<(), EngineError> {
        self.chat.recall(past, &CancelToken::default())
    }

    fn hear(&mut self, pcm: &[f32], sink: &Arc<dyn ResponseSink>) -> Result<(), EngineError> {
        self.begin();
        self.stt.push(pcm);
        if let Some(text) = self.stt.partial(&CancelToken::default(), &mut to(sink))? {
            sink.heard(&text, false);
        }
        Ok(())
    }

    fn pause(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError> {
        let Some(words) = self.words(sink, cancel)? else { return Ok(()) };
        if !words.is_empty() {
            sink.heard(&words, false);
            self.put(&words, sink, cancel)?;
        }
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), EngineError> {
        self.begin();
        self.typed.push(' ');
        self.typed.push_str(text);
        Ok(())
    }

    fn respond(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<ReplyEnd, EngineError> {
        self.answered = true;
        let Some(words) = self.words(sink, cancel)? else { return Ok(ReplyEnd::Cancelled) };
        if words.is_empty() {
            self.discard()?;
            return Ok(ReplyEnd::NothingHeard);
        }
        sink.heard(&words, true);
        self.put(&words, sink, cancel)?;
        self.answer(sink, cancel)?;
        Ok(if cancel.is_cancelled() { ReplyEnd::Cancelled } else { ReplyEnd::Complete })
    }

    fn truncate(&mut self, heard_bytes: usize) -> Result<(), EngineError> {
        self.chat.truncate_to(heard_bytes, &CancelToken::default())
    }

    fn retract(&mut self) -> Result<(), EngineError> {
        self.take_back();
        self.answered = false;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), EngineError> {
        self.take_back();
        self.forget();
        Ok(())
    }
}
