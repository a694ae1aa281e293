//! What a door asks of the session. Plain data; made on the door's thread, consumed on the session thread.
//!
//! No command is answered directly: its effect shows in the [events](super::event). A command that makes no sense in
//! the present state (a second [`Command::Talk`], an [`Command::Interrupt`] in silence) is ignored by the session.

use super::EngineSelection;
use super::voices::VoiceCommand;
use crate::conversation::Side;
use crate::conversation::export::Form;
pub use crate::turn::backchannel::Sensitivity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::mpsc::Sender;

/// How soon a pause in the user's speech is taken for the end of the turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eagerness {
    /// Waits through long pauses: for people who think while they speak.
    Patient,
    #[default]
    Balanced,
    /// Answers at the first sign of an end, at the risk of cutting in.
    Eager,
}

impl Eagerness {
    pub const ALL: [Eagerness; 3] = [Eagerness::Patient, Eagerness::Balanced, Eagerness::Eager];
}

/// How much of a conversation stays on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Nothing,
    Words,
    #[default]
    WordsAndSound,
}

impl Keep {
    pub const ALL: [Keep; 3] = [Keep::Nothing, Keep::Words, Keep::WordsAndSound];
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The talk button went down: everything from now until [`Command::TalkEnd`] is the user's turn. During an answer
    /// it also interrupts the answer.
    Talk,
    /// The talk button went up: the turn is over, with no wait for an end of turn.
    TalkEnd,
    /// Whether the session listens all the time and finds the turns by itself.
    SetHandsFree(bool),
    /// Whether the microphone is off while an answer sounds, in hands-free: the answer then cannot be interrupted by
    /// voice, and cannot interrupt itself.
    SetHalfDuplex(bool),
    /// Whether answers are heard through headphones, so that the microphone does not hear them and no echo is cancelled.
    SetHeadphones(bool),
    /// The user's turn, typed. During an answer it also interrupts the answer.
    SendText(String),
    /// Stop answering. What was heard of the answer stays in the history.
    Interrupt,
    /// Begin anew, with nothing said. What was kept stays kept.
    NewConversation,
    /// Listen to the device with this id; `None`: the system's default.
    SelectInput(Option<String>),
    /// Play on the device with this id; `None`: the system's default.
    SelectOutput(Option<String>),
    /// Loudness of the answers as a linear factor, 0 to 1.
    SetVolume(f32),
    /// Whether the microphone's sound is thrown away before anybody hears it.
    SetMuted(bool),
    SetEagerness(Eagerness),
    /// How easily the user's voice stops an answer; from the next sound on.
    SetSensitivity(Sensitivity),
    /// How fast answers are spoken, 1 as the voice was made; from the next answer on. Engines that imitate a voice have its
    /// pace, whatever this says.
    SetSpeed(f32),
    /// Show the folder where everything is kept in the system's file manager.
    ShowDataFolder,
    /// Tell what this machine has, and which models suit it: [`Event::Outlook`](super::event::Event::Outlook) follows.
    LookAtMachine,
    /// Fetch the models with these catalog ids, in this order, after those that are being fetched.
    PullModels(Vec<String>),
    /// The user has read the terms of the model with this id and agrees to them: it may be fetched.
    AgreeToTerms(String),
    /// Take the models with these catalog ids from a folder that the user is asked for, for machines without network.
    /// `title`: what stands above a dialog, here and below.
    ImportModels {
        title: String,
        models: Vec<String>,
    },
    /// Stop fetching this model until it is resumed. What comes after it goes on.
    PausePull {
        model: String,
    },
    /// Go on fetching this model where it was paused.
    ResumePull {
        model: String,
    },
    /// Stop fetching this model. What has arrived is kept, and continued by the next pull.
    CancelPull {
        model: String,
    },
    /// Read all of this model's files again, and tell whether they are as they should be.
    CheckModel(String),
    /// Delete this model's files.
    RemoveModel(String),
    /// Something about the voices to speak in.
    Voice(VoiceCommand),
    /// Load the engine, or load it again (another model was chosen, a file was repaired).
    ReloadEngine,
    /// Have another engine answer from now on; what was said so far goes with it. An answer under way is broken off.
    UseEngine(EngineSelection),
    /// Who the assistant is, and the seed of its choices; from the next answer on.
    SetPersona {
        system_prompt: String,
        seed: u64,
    },
    SetKeep(Keep),
    /// Go on with the conversation of this id.
    OpenConversation(String),
    /// List the conversations in which all these words occur; none: all conversations.
    ListConversations(String),
    /// Delete a kept conversation; `open`: it is the one that is going on, which ends.
    DeleteConversation {
        id: String,
        open: bool,
    },
    DeleteAllConversations,
    /// Ask where, and write a conversation (`None`: the one that is going on) to a file.
    Export {
        id: Option<String>,
        form: Form,
        title: String,
    },
    /// Ask where, and write a text to a file; `name`: how it is called as a rule.
    SaveText {
        name: String,
        text: String,
        title: String,
    },
    /// Play a side of a turn of this conversation again.
    Replay {
        turn: u64,
        side: Side,
    },
    StopReplay,
    /// The user has read the fault and asks to try again.
    RetryAfterFault,
    /// The door is closing: stop all threads.
    Shutdown,
}

/// Where a door puts its commands. Never blocks, never fails: a session that is gone takes no more commands, and the
/// door learns that from the end of the event stream.
pub struct CommandSink(Box<dyn Fn(Command)>);

impl CommandSink {
    /// For a session with one inbox for commands and other things: `deliver` wraps the command.
    pub fn new(deliver: impl Fn(Command) + 'static) -> Self {
        CommandSink(Box::new(deliver))
    }

    pub fn send(&self, command: Command) {
        (self.0)(command);
    }
}

impl From<Sender<Command>> for CommandSink {
    fn from(sender: Sender<Command>) -> Self {
        CommandSink::new(move |command| {
            // Err means the session is gone; see the type's head.
            let _ = sender.send(command);
        })
    }
}

impl fmt::Debug for CommandSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandSink")
    }
}
