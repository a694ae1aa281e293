//! One conversation: owns the turn, the epoch and the history.
//!
//! [`command`] comes in and [`event`] goes out; a door (the window, the command line) sees nothing else of the house.
//! [`start`] wires the threads:
//!
//! ```text
//! microphone -> ring -> [ear] -> (session) -> [engine] -> [mouth] -> ring -> loudspeaker
//!                                    ^            |          |
//!                                    +---- one inbox --------+
//! ```

mod archivist;
mod barge_in;
mod card_keeper;
pub mod command;
mod ear;
mod engine_thread;
mod errands;
pub mod event;
pub mod history;
mod inbox;
mod judge;
mod line;
mod listening;
mod mouth;
mod orchestrator;
pub mod outlook;
mod preview;
mod pulls;
mod recorder;
mod sink;
pub mod told;
mod turn_record;
mod turn_sound;
mod utterance;
pub mod voices;

pub use card_keeper::CardSource;
pub use engine_thread::EngineLoader;
pub use judge::{EndOfTurnJudge, EndOfTurnModel};
pub use orchestrator::desk::{EngineFactory, EngineSelection, OmniSelection};

use crate::conversation::archive::Archive;
use crate::engine::{CancelToken, SessionSetup};
use crate::voice::VoiceLibrary;
use crate::weights::Store;
use command::{Command, CommandSink, Eagerness, Keep};
use event::{Event, EventSource, Severity};
use history::History;
use inbox::Inbox;
use orchestrator::desk::Desk;
use orchestrator::{Opening, Orchestrator, Wires};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

/// Messages that may wait for the session thread: minutes of microphone frames, should it ever be that late.
const INBOX: usize = 16_384;
/// Jobs that may wait for the mouth, which never takes longer than a resampling.
const MOUTH_JOBS: usize = 64;

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the computer is out of threads or memory ({0}): close other programs, then try again")]
    Exhausted(#[from] std::io::Error),
}

/// What a session is made of.
pub struct Parts {
    pub card: CardSource,
    pub engine: EngineLoader,
    pub setup: SessionSetup,
    /// Judges whether a pause ends the turn; called on a thread of its own to load it.
    pub end_of_turn: EndOfTurnModel,
    pub hands_free: bool,
    pub eagerness: Eagerness,
    /// Linear, 0 to 1.
    pub volume: f32,
    /// Where models are kept and fetched to.
    pub store: Store,
    /// Something the user should know at the beginning.
    pub greeting: Option<told::Told>,
}

/// What a session on a desktop has beside its [`Parts`].
#[derive(Default)]
pub struct Extras {
    /// Other engines to change to while it runs.
    pub engines: Option<EngineFactory>,
    /// Where conversations are kept; the last of them goes on.
    pub archive: Option<Archive>,
    pub keep: Keep,
    /// The engine's name on the command line, when its models come from the catalog.
    pub engine: Option<String>,
}

/// A running session. Dropping it without [`stop`](Session::stop) lets it run until the program ends.
pub struct Session {
    inbox: SyncSender<Inbox>,
    thread: JoinHandle<History>,
}

impl Session {
    /// Where a door puts its commands.
    pub fn commands(&self) -> CommandSink {
        let inbox = self.inbox.clone();
        CommandSink::new(move |command| {
            // A session that is gone takes no more commands; the door sees the end of its events.
            let _ = inbox.send(Inbox::Command(command));
        })
    }

    /// Ends the session and returns what was said. Takes at most a few ticks: an engine in the middle of something is
    /// told to stop and left to itself.
    pub fn stop(self) -> History {
        // A session that is gone already has a history to give all the same.
        let _ = self.inbox.send(Inbox::Command(Command::Shutdown));
        self.thread.join().unwrap_or_default()
    }
}

/// Begins a session.
///
/// # Errors
/// When the system has no threads left.
pub fn start(parts: Parts) -> Result<(Session, EventSource), SessionError> {
    start_with(parts, Extras::default())
}

/// Begins a session that can change its engine and keeps what is said.
///
/// # Errors
/// When the system has no threads left.
pub fn start_with(parts: Parts, extras: Extras) -> Result<(Session, EventSource), SessionError> {
    let (events, source) = event::channel();
    let (inbox_in, inbox) = mpsc::sync_channel(INBOX);
    // Unbounded, because what the user says is never dropped: a slow engine has a longer queue, and shows it.
    let (jobs_in, jobs) = mpsc::channel();
    let (ear_in, ear_jobs) = mpsc::channel();
    let (mouth_in, mouth_jobs) = mpsc::sync_channel(MOUTH_JOBS);
    let live = Arc::default();
    let wires = Wires {
        inbox: inbox_in.clone(),
        jobs: jobs_in,
        mouth: mouth_in.clone(),
        ear: ear_in,
        live: Arc::clone(&live),
        events: events.clone(),
    };
    let hearing = sink::SessionSink::new(0, CancelToken::default(), inbox_in.clone(), mouth_in);
    let to_session = inbox_in.clone();
    thread("engine", move || engine_thread::run(&jobs, &to_session, hearing))?;
    let to_session = inbox_in.clone();
    thread("mouth", move || mouth::run(&mouth_jobs, &to_session, &live))?;
    let to_session = inbox_in.clone();
    let (judge, eagerness) = (judge::Judge::start(parts.end_of_turn)?, parts.eagerness);
    thread("ear", move || ear::run(&ear_jobs, &to_session, judge, eagerness))?;
    if let Some(what) = parts.greeting {
        events.send(Event::Problem { what, remedy: told::Told::default(), severity: Severity::Note });
    }
    let archivist = match extras.archive {
        Some(archive) => {
            let (jobs_in, jobs) = mpsc::channel();
            let (to_door, to_session) = (events.clone(), inbox_in.clone());
            thread("archivist", move || archivist::run(&jobs, archive, to_door, to_session))?;
            Some(jobs_in)
        }
        None => None,
    };
    let desk = Desk::new(extras.engines, archivist, extras.keep);
    let voices = voices::start(VoiceLibrary::new(parts.store.home()), events.clone(), inbox_in.clone())?;
    let errands = errands::Errands::new(parts.store, extras.engine, voices, events, inbox_in.clone())?;
    let (hands_free, volume) = (parts.hands_free, parts.volume);
    let opening = Opening { setup: parts.setup, loader: parts.engine, hands_free, volume, desk };
    let card = parts.card;
    let thread = thread("session", move || Orchestrator::new(wires, card, errands, opening).run(&inbox))?;
    Ok((Session { inbox: inbox_in, thread }, source))
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, std::io::Error> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}
