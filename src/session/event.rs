//! What the session tells a door, and the channel it goes through. Plain data; made on the session thread (or, through
//! a clone of [`EventSink`], on the threads below it), consumed on the door's thread.
//!
//! Events are facts, in order. A door that applies all of them to an empty view has the whole truth; it never needs to
//! ask. They can be written down, a line of JSON each (`converse --events`), and read again.

pub use super::outlook::{Outlook, OutlookGpu, OutlookWay};
use super::told::Told;
use super::voices::VoiceEvent;
use crate::conversation::{KeptTurn, Side};
use crate::metrics::{Bar, StageMark, TurnReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Whose turn it is, and how the session is. The words of `turn/`, plus the engine's life before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum TurnState {
    /// No engine is loaded.
    #[default]
    Idle,
    /// The engine is being loaded; see [`Event::EngineLoading`].
    Loading,
    /// Ready, and nobody speaks.
    Listening,
    /// The user speaks.
    Capturing,
    /// The user has paused, perhaps for good.
    MaybeDone,
    /// The turn is over; the answer has not yet sounded.
    Thinking,
    /// The answer sounds.
    Speaking,
    /// The answer sounds, quieter: the user may be about to interrupt.
    Ducked,
    /// A sound device is lost and being looked for, or both are; the rest works.
    Degraded { why: Vec<Told> },
    /// The engine failed. [`Command::RetryAfterFault`](super::command::Command::RetryAfterFault) tries again.
    Faulted { why: Told, remedy: Told },
}

/// Whether a model's files are here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ModelState {
    Absent,
    /// Some bytes have arrived.
    Partial {
        have: u64,
    },
    Ready,
    /// Files are here but wrong; the text says what to do.
    Broken {
        why: Told,
    },
}

/// One model of the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The catalog's id, as in `PullModels`.
    pub id: String,
    /// The name for people.
    pub title: String,
    /// What it does here, in a few words: "hears English speech".
    pub purpose: Told,
    /// The licence's short name.
    pub licence: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// About how many bytes it takes when loaded; recordings of sessions from before this was told have none.
    #[serde(default)]
    pub memory: u64,
    pub state: ModelState,
    /// Whether the chosen engine needs it.
    pub needed: bool,
    /// Whether it is a language model, which the starter can be told to think with.
    #[serde(default)]
    pub thinks: bool,
    /// Terms that the user must agree to before it can be fetched; `None`: there are none, or they were agreed to.
    pub terms: Option<String>,
    pub kind: ModelKind,
}

/// What a model is a part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelKind {
    /// The starter: what a first conversation needs.
    #[default]
    Starter,
    /// The omni engine itself.
    Omni,
    /// Something to choose instead of another.
    Other,
}

/// How a pull goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullProgress {
    /// The model being fetched.
    pub id: String,
    pub state: PullState,
    /// Bytes that are here, of the whole pull.
    pub done: u64,
    /// Bytes of the whole pull.
    pub total: u64,
    /// Measured over the last few seconds; 0 while not known.
    pub bytes_per_second: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PullState {
    Fetching,
    /// The bytes are here and are being checked or converted.
    Checking,
    Done,
    /// Stopped until [`Command::ResumePull`](super::command::Command::ResumePull).
    Paused,
    Cancelled,
    Failed {
        why: Told,
        remedy: Told,
    },
}

/// A sound device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// Stable over restarts; what the settings keep.
    pub id: String,
    /// The name for people.
    pub name: String,
}

/// What there is and what is used of one kind of device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    pub available: Vec<DeviceEntry>,
    /// The id the user chose; `None`: whatever the system's default is.
    pub chosen: Option<String>,
    /// The name of the device that is open now; `None`: none is.
    pub open: Option<String>,
    /// Samples per second of the open device; `None`: not known.
    #[serde(default)]
    pub rate: Option<u32>,
    /// The buffer it was asked for, in milliseconds; it adds a delay of its own.
    #[serde(default)]
    pub buffer_ms: Option<u32>,
    /// Whether it is the microphone of a Bluetooth headset, which plays as a telephone does while that is open.
    #[serde(default)]
    pub telephone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// Something works less well than it should.
    Warning,
    /// Something does not work.
    Error,
}

/// A kept conversation in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationEntry {
    pub id: String,
    pub began: Timestamp,
    /// The first words that were said in it; may be empty.
    pub title: String,
    pub turns: usize,
}

/// A turn of a conversation that was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTurnView {
    pub turn: u64,
    pub at: Timestamp,
    pub heard: String,
    pub question_seconds: Option<f64>,
    pub answer: String,
    pub spoken_bytes: usize,
    pub cut_off: bool,
    pub ttfa_ms: Option<f64>,
    /// Whether its sound can be replayed.
    pub user_sound: bool,
    pub answer_sound: bool,
}

impl From<&KeptTurn> for KeptTurnView {
    fn from(turn: &KeptTurn) -> Self {
        KeptTurnView {
            turn: turn.turn,
            at: turn.at,
            heard: turn.heard.clone(),
            question_seconds: turn.question_seconds,
            answer: turn.answer.clone(),
            spoken_bytes: turn.spoken_bytes,
            cut_off: turn.cut_off,
            ttfa_ms: turn.ttfa_ms,
            user_sound: turn.user_sound.is_some(),
            answer_sound: turn.answer_sound.is_some(),
        }
    }
}

/// What is being replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub turn: u64,
    pub side: Side,
}

/// A fact from the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    State(TurnState),
    /// Loudness in dBFS, about 20 times a second while it changes. Dropped when the door does not keep up.
    Levels {
        mic_db: f32,
        speaker_db: f32,
    },
    /// What the engine understood of the user's turn so far; replaces the text before. A typed turn is told the same
    /// way, at once and final. Turns count from 1 in a conversation.
    Heard {
        turn: u64,
        text: String,
        is_final: bool,
    },
    /// The user's turn was spoken to an engine that does not write down what it hears: only its length is known.
    HeardSound {
        turn: u64,
        seconds: f64,
    },
    /// More of the answer's text, to be appended.
    Answer {
        turn: u64,
        piece: String,
    },
    /// The first so many bytes of the answer have been heard. Grows only.
    Spoken {
        turn: u64,
        bytes: usize,
    },
    /// The answer of [`TurnReport::turn`] was played to its end or cut off. No `Answer` or `Spoken` of it follows.
    TurnEnded {
        report: Box<TurnReport>,
        /// When each stage was at work, for the waterfall.
        bars: Vec<Bar>,
    },
    /// A stage did some work.
    Mark(StageMark),
    /// The engine is being loaded: what is at work, and how far the whole is, 0 to 1 (`None`: not known).
    EngineLoading {
        what: Told,
        fraction: Option<f32>,
    },
    /// The engine is loaded.
    EngineReady {
        /// As on the command line: `cascade`, `omni`, `scripted`.
        name: String,
        /// What it is made of, for people.
        description: String,
    },
    /// Something about the voices to speak in.
    Voice(VoiceEvent),
    /// The catalog and what is here of it. Replaces the list before.
    Models(Vec<ModelStatus>),
    Pull(PullProgress),
    /// The models that wait until others have been fetched, in their order.
    PullsWaiting(Vec<String>),
    /// What this machine has, and which models suit it; told when it is asked for.
    Outlook(Outlook),
    Devices {
        input: DeviceList,
        output: DeviceList,
    },
    /// Counts since the start of the program, and the sound waiting to be played.
    Counters {
        /// Times a device reported a glitch.
        xruns: u64,
        /// Times the answer's sound was not made in time.
        starvation: u64,
        /// Samples of the microphone that found the ring full.
        lost_capture: u64,
        /// Milliseconds of sound in the playback ring.
        queued_ms: f32,
    },
    /// Something the user should know, and what to do about it.
    Problem {
        what: Told,
        remedy: Told,
        severity: Severity,
    },
    /// The kept conversations that `query` finds, newest first, and which of them is going on. Replaces the list before.
    Conversations {
        query: String,
        list: Vec<ConversationEntry>,
        open: Option<String>,
    },
    /// A kept conversation goes on: these are its turns. Replaces everything said before.
    ConversationOpened(Vec<KeptTurnView>),
    /// A turn was written to the disk.
    TurnKept {
        turn: u64,
        at: Timestamp,
        user_sound: bool,
        answer_sound: bool,
    },
    /// What this process has in graphics cards' memory, in bytes; told after a turn, where it is known.
    GpuMemory {
        bytes: u64,
    },
    /// The folder where models, voices and conversations are kept; told at the beginning.
    DataFolder {
        path: String,
    },
    /// What this process has in memory, in bytes; told when it has changed by more than a little.
    Memory {
        bytes: u64,
    },
    /// What is being replayed; `None`: no more.
    Replaying(Option<Replay>),
    /// Everything said so far is forgotten; turns count from 1 again.
    ConversationCleared,
}

/// Level events are dropped while this many events wait: only a door that is stuck or asleep lets so many gather.
const LEVELS_BACKLOG: usize = 64;

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    wake: OnceLock<Box<dyn Fn(Urgency) + Send + Sync>>,
}

/// How soon a door should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once: somebody waits to see it.
    Now,
    /// Within 50 ms: a number that changes often.
    Soon,
}

impl Event {
    pub fn urgency(&self) -> Urgency {
        match self {
            Event::Levels { .. }
            | Event::Mark(_)
            | Event::Counters { .. }
            | Event::Memory { .. }
            | Event::GpuMemory { .. }
            | Event::Pull(_)
            | Event::EngineLoading { .. } => Urgency::Soon,
            _ => Urgency::Now,
        }
    }
}

/// The session's end of the event channel. Cheap to clone; never blocks.
///
/// The channel is unbounded, because the session must not wait for a window: what comes often (levels) is dropped when
/// it is not fetched, and the rest is a few events per word.
#[derive(Clone)]
pub struct EventSink {
    sender: Sender<Event>,
    shared: Arc<Shared>,
}

impl EventSink {
    /// Tells the door. Returns `false` when the door is gone.
    pub fn send(&self, event: Event) -> bool {
        if matches!(event, Event::Levels { .. }) && self.shared.waiting.load(Ordering::Relaxed) > LEVELS_BACKLOG {
            return true;
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let urgency = event.urgency();
        let delivered = self.sender.send(event).is_ok();
        if delivered && let Some(wake) = self.shared.wake.get() {
            wake(urgency);
        }
        delivered
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

/// The door's end of the event channel.
pub struct EventSource {
    receiver: Receiver<Event>,
    shared: Arc<Shared>,
}

impl EventSource {
    /// Has `wake` called, on the sender's thread, after each event: a window asks for a repaint there. Only the first
    /// call has an effect.
    pub fn on_event(&self, wake: impl Fn(Urgency) + Send + Sync + 'static) {
        let _ = self.shared.wake.set(Box::new(wake));
    }

    /// The next event, if one waits. `Err(Disconnected)`: the session is gone.
    pub fn try_next(&self) -> Result<Event, TryRecvError> {
        let event = self.receiver.try_recv()?;
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(event)
    }

    /// The next event, waiting at most `timeout`: for doors without a window.
    pub fn next_within(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let event = self.receiver.recv_timeout(timeout)?;
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(event)
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSource")
    }
}

/// A new event channel.
pub fn channel() -> (EventSink, EventSource) {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    (EventSink { sender, shared: Arc::clone(&shared) }, EventSource { receiver, shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_dropped_when_nobody_fetches_but_words_never_are() {
        let (sink, source) = channel();
        for _ in 0..1000 {
            assert!(sink.send(Event::Levels { mic_db: -30.0, speaker_db: -90.0 }));
        }
        assert!(sink.send(Event::Spoken { turn: 1, bytes: 7 }));
        let mut events = Vec::new();
        while let Ok(event) = source.try_next() {
            events.push(event);
        }
        assert_eq!(events.len(), LEVELS_BACKLOG + 2);
        assert_eq!(events.last(), Some(&Event::Spoken { turn: 1, bytes: 7 }));
        // Once fetched, levels flow again.
        sink.send(Event::Levels { mic_db: -20.0, speaker_db: -90.0 });
        assert_eq!(source.try_next(), Ok(Event::Levels { mic_db: -20.0, speaker_db: -90.0 }));
    }

    #[test]
    fn the_door_is_woken_for_each_event_and_told_of_the_end() {
        let (sink, source) = channel();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        source.on_event(move |urgency| {
            assert_eq!(urgency, Urgency::Now);
            count.fetch_add(1, Ordering::Relaxed);
        });
        sink.clone().send(Event::ConversationCleared);
        sink.send(Event::State(TurnState::Listening));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        drop(sink);
        assert!(source.try_next().is_ok() && source.try_next().is_ok());
        assert_eq!(source.try_next(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn a_session_whose_door_is_gone_learns_it() {
        let (sink, source) = channel();
        drop(source);
        assert!(!sink.send(Event::ConversationCleared));
    }
}
