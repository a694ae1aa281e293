//! Everything the session thread is told, in one channel. Plain data, made on the threads around it.

use super::command::Command;
use super::told::Told;
use super::voices::VoiceJob;
use crate::audio::{AudioError, Card, Clip, DeviceList, Direction};
use crate::conversation::export::Form;
use crate::conversation::{KeptTurn, Side};
use crate::engine::{EngineInfo, ReplyEnd};
use crate::metrics::StageMark;
use crate::time::Micros;
use std::path::PathBuf;

/// A message to the session thread.
pub enum Inbox {
    Command(Command),
    Ear(EarEvent),
    Engine(EngineEvent),
    Mouth(MouthEvent),
    /// The folder that the user chose, to take these models from.
    Folder {
        folder: PathBuf,
        models: Vec<String>,
    },
    /// Where the user wants a conversation (`None`: the open one) written; `None`: there was no dialog to ask with.
    Export {
        id: Option<String>,
        form: Form,
        to: Option<PathBuf>,
    },
    Kept(KeptEvent),
    /// What the voices thread has for the conversation.
    Voice(VoiceJob),
    /// A device that was looked for in the background was opened, or was not.
    Card(Direction, Box<Result<Card, AudioError>>),
    /// Devices came or went, or the system prefers another one.
    Devices(DeviceList),
}

/// What the ear noticed.
#[derive(Debug)]
pub enum EarEvent {
    /// The next stretch of the microphone's sound, 16 kHz mono; `end` is when its last sample was captured. `torn`:
    /// much of it was taken out as echo, and perhaps somebody's words with it.
    Frame { samples: Vec<f32>, end: Micros, speech: bool, torn: bool },
    /// Speech began.
    Onset,
    /// The user has been silent for long enough to wonder.
    Pause,
    /// The turn is over. `last_voiced`: when its last voiced sample was captured.
    EndOfTurn { last_voiced: Micros },
    /// Some work of the ear's own stages.
    Mark(StageMark),
}

/// What the engine says.
pub enum EngineEvent {
    Loading {
        what: Told,
        fraction: f32,
    },
    /// Loaded and open; `load`: the number of the load.
    Ready {
        load: u64,
        info: EngineInfo,
    },
    /// What was understood so far.
    Heard {
        text: String,
        is_final: bool,
    },
    Text {
        epoch: u64,
        piece: String,
    },
    Mark(StageMark),
    ReplyEnded {
        epoch: u64,
        end: ReplyEnd,
    },
    /// Something failed, after the load of this number began.
    Failed {
        load: u64,
        why: Told,
    },
}

/// What the archivist brings.
#[derive(Debug)]
pub enum KeptEvent {
    /// The turns of a conversation that goes on now.
    Opened(Vec<KeptTurn>),
    /// The sound of a turn.
    Sound { turn: u64, side: Side, clip: Clip },
}

/// What the mouth says.
#[derive(Debug)]
pub enum MouthEvent {
    /// The first audible sample of the reply was handed to the device at `at`.
    FirstAudio {
        epoch: u64,
        at: Micros,
    },
    /// So many bytes of the answer's text have been heard.
    Spoken {
        epoch: u64,
        bytes: usize,
    },
    /// Everything of the reply has been heard.
    Played {
        epoch: u64,
    },
    /// More sound of the reply was made.
    Made {
        epoch: u64,
        samples: Vec<f32>,
        rate: u32,
    },
    Mark(StageMark),
}
