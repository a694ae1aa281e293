//! What answers. The only room that names `candle`.
//!
//! This file is the seam between an engine and the rest of the house: an engine hears 16 kHz mono and gives mono sound
//! at the rate it declares; it knows no device and no window. An engine and its sessions live on the engine thread,
//! which they may block; they check the [`CancelToken`] between steps. [`ResponseSink`] may be called from any thread.
//!
//! The order of calls on a session, per turn:
//!
//! ```text
//! recall?                     once, before the first turn: what was said before this session
//! (hear* pause?)* | read      the user's words, as they come; `pause` when the user falls silent, perhaps for good
//! respond                     the turn is over: answer, until done or cancelled
//! truncate(heard) | retract | nothing
//! ```
//!
//! `truncate` when the answer was broken off by the user, `retract` when it was cancelled before any of it sounded and
//! the user goes on with the same turn (everything heard stays part of it), nothing when it was played to its end.

pub mod audio_encoder;
pub mod cascade;
pub mod device;
pub mod floor;
pub mod gguf;
pub mod kv_cache;
pub mod linear;
pub mod omni;
pub mod packed;
pub mod requantize;
pub mod sampling;
pub mod scripted;
pub mod tensor_source;
pub mod text;
pub mod transformer;
pub mod whisper;

use crate::metrics::StageMark;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rate every engine hears at, in hertz.
pub const HEARING_RATE: u32 = 16_000;

/// What went wrong inside an engine. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A model was never fetched, or not to its end.
    #[error("{0}")]
    NotInstalled(String),
    /// A model file is missing, damaged or of another shape than expected.
    #[error("{0}")]
    Model(String),
    /// The engine was asked for something it cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// The computation itself failed.
    #[error("the computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}

/// Set once to stop a reply; every step of an engine looks at it. Cheap to clone; all clones are one flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A piece of the answer's sound, mono.
#[derive(Clone, Debug, PartialEq)]
pub struct PcmChunk {
    /// Samples at the engine's [`EngineInfo::output_rate`], nominally within -1..1.
    pub samples: Vec<f32>,
    /// How many of the first samples sound the same moment as the last samples of the chunk before, to be crossfaded
    /// with them (0: the chunk simply follows).
    pub overlap: usize,
    /// How many bytes of the answer's text have been spoken when this chunk has been played.
    pub text_end: usize,
    /// Whether this is the answer's last chunk (it may then be empty).
    pub last: bool,
}

/// Where an engine puts what it makes. Called from any of the engine's threads; calls return quickly, except
/// [`audio`](ResponseSink::audio), which waits while the listener is far behind and gives up when cancelled.
pub trait ResponseSink: Send + Sync {
    /// What the engine understood of the user so far. Replaces what was said before.
    fn heard(&self, text: &str, is_final: bool);
    /// More of the answer's text, to be appended.
    fn text(&self, piece: &str);
    /// More of the answer's sound. Returns `false` when the reply was cancelled and more is pointless.
    fn audio(&self, chunk: PcmChunk) -> bool;
    /// A stage did some work. The `epoch` is filled in by the sink.
    fn mark(&self, mark: StageMark);
}

/// How a reply ended, as seen by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyEnd {
    /// Everything there was to say has been given to the sink.
    Complete,
    /// The cancel token was set; the sink got a part.
    Cancelled,
    /// Nothing intelligible was heard, so there is nothing to answer; the turn leaves no trace in the engine.
    NothingHeard,
}

/// What an engine is and can do.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineInfo {
    /// The engine's name on the command line: `cascade`, `omni`, `scripted`.
    pub name: &'static str,
    /// What it is made of, for people: model names and precisions.
    pub description: String,
    /// Hertz of every [`PcmChunk`].
    pub output_rate: u32,
    /// The largest [`PcmChunk::overlap`]: so many samples of a chunk are held back until the next one comes.
    pub max_overlap: usize,
    /// Whether it can speak in a voice taken from a file.
    pub clones_voices: bool,
    /// Whether it tells what it understood in words ([`ResponseSink::heard`]). One that goes from sound to answer
    /// without writing the question down does not.
    pub transcribes: bool,
}

/// How a conversation begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionSetup {
    /// The persona, in words; empty for the engine's own.
    pub system_prompt: String,
    /// A voice to speak in: 16 kHz mono, checked and trimmed by the voice room. Engines that cannot clone refuse it.
    pub reference_voice: Option<Arc<[f32]>>,
    /// A folder where the engine may keep what it makes of that voice, to begin sooner the next time; `None`: nowhere.
    pub voice_state: Option<PathBuf>,
    /// Seed of all sampling, so that a conversation can be repeated.
    pub seed: u64,
}

/// An exchange of a conversation that was held earlier, or with another engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTurn {
    /// What the user said.
    pub user: String,
    /// What the user heard of the answer.
    pub answer: String,
    /// Whether the answer was broken off.
    pub cut_off: bool,
}

/// A loaded model, ready to talk.
pub trait Engine: Send {
    fn info(&self) -> EngineInfo;
    /// Begins a conversation.
    fn open(&mut self, setup: &SessionSetup) -> Result<Box<dyn EngineSession>, EngineError>;

    /// How fast it speaks from the next answer on: 1 as its voice was made, 2 twice as fast. An engine whose pace is that of
    /// the voice it imitates has no such choice, and ignores it.
    fn set_speed(&mut self, _speed: f32) {}

    /// Speaks a given text, outside of any conversation.
    fn read_aloud(
        &mut self,
        text: &str,
        setup: &SessionSetup,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<ReplyEnd, EngineError>;
}

/// One conversation with an engine. See the module's head for the order of calls.
pub trait EngineSession: Send {
    /// The conversation goes on from these turns, oldest first. Called before anything is heard or read.
    fn recall(&mut self, past: &[PastTurn]) -> Result<(), EngineError>;

    /// More of the user's speech: 16 kHz mono. The engine may work on it at once.
    fn hear(&mut self, pcm: &[f32], sink: &Arc<dyn ResponseSink>) -> Result<(), EngineError>;

    /// The user has fallen silent, perhaps for good: a chance to do early what `respond` will need. Calls to `hear`
    /// may follow. Checks `cancel` between steps, and returns early when it is set.
    fn pause(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError>;

    /// The user's words, typed instead of spoken.
    fn read(&mut self, text: &str) -> Result<(), EngineError>;

    /// The user's turn is over: answers it.
    fn respond(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<ReplyEnd, EngineError>;

    /// Of the last answer, only the first `heard_bytes` bytes of text were heard: the rest is forgotten, and the next
    /// turn follows on a broken-off answer.
    fn truncate(&mut self, heard_bytes: usize) -> Result<(), EngineError>;

    /// The last answer never sounded and the user goes on speaking: the state before `respond`, with everything heard
    /// still part of the turn.
    fn retract(&mut self) -> Result<(), EngineError>;

    /// Forgets the words heard since the last answer (a cough, a false start).
    fn discard(&mut self) -> Result<(), EngineError>;
}
