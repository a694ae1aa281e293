//! The engine thread: owns the engine and its session, and takes one job at a time.
//!
//! It may block for as long as the model needs; a reply looks at its cancel token between steps. A panic inside an
//! engine is caught here and reported like any other failure, so that the window can say so and offer a retry.

use super::inbox::{EngineEvent, Inbox};
use super::sink::SessionSink;
use super::told::Told;
use crate::engine::{
    CancelToken, Engine, EngineError, EngineInfo, EngineSession, PastTurn, ResponseSink, SessionSetup,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// Loads an engine; called on the engine thread, again after a fault. Progress: what is being loaded, 0..1.
pub type EngineLoader = Box<dyn FnMut(&mut dyn FnMut(&str, f32)) -> Result<Box<dyn Engine>, EngineError> + Send>;

/// How much less urgent than sound the engine is, in steps of the system's scheduler: about a tenth of the time when both
/// want the same core.
#[cfg(target_os = "linux")]
const PATIENCE: i32 = 10;

/// What the session asks of the engine.
pub enum Job {
    /// More of the user's speech, 16 kHz mono.
    Hear(Vec<f32>),
    /// The user has fallen silent; `cancel` is set when speech goes on.
    Pause(CancelToken),
    /// A typed turn.
    Read(String),
    /// Answer, through this sink.
    Respond(SessionSink),
    /// Forget what was not heard of the last answer.
    Truncate(usize),
    /// Undo the last answer; the user is still speaking.
    Retract,
    /// Forget the words heard since the last answer.
    Discard,
    /// Begin a conversation, which goes on from these turns.
    Open(SessionSetup, Vec<PastTurn>),
    Load(Load),
    /// Speak at this speed, whichever engine is loaded.
    Speed(f32),
}

/// Load an engine and open a conversation that goes on from `past`.
pub struct Load {
    /// Counts the loads: what is told of one carries its number.
    pub number: u64,
    /// Another engine, or (`None`) the same again.
    pub loader: Option<EngineLoader>,
    pub setup: SessionSetup,
    pub past: Vec<PastTurn>,
}

/// Runs until the job channel closes.
pub fn run(jobs: &Receiver<Job>, inbox: &SyncSender<Inbox>, hearing_sink: SessionSink) {
    give_way_to_sound();
    let hearing: Arc<dyn ResponseSink> = Arc::new(hearing_sink);
    let mut worker = Worker { loader: None, engine: None, session: None, load: 0, speed: None, inbox, hearing };
    while let Ok(job) = jobs.recv() {
        let outcome = catch_unwind(AssertUnwindSafe(|| worker.work(job)));
        let failure = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => Told::from(&error),
            Err(panic) => {
                let detail = panic_text(&*panic);
                let english = format!("the engine stopped unexpectedly ({detail})");
                Told::new("engine-panic", english).with("detail", detail)
            }
        };
        worker.session = None;
        if inbox.send(Inbox::Engine(EngineEvent::Failed { load: worker.load, why: failure })).is_err() {
            return;
        }
    }
}

/// Lets the threads that move sound, and the window, go first. The pools that compute are started from this thread, and
/// are as patient as it is.
fn give_way_to_sound() {
    // Linux keeps this for each thread; elsewhere it would slow the whole program down.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(PATIENCE) {
        tracing::debug!("the engine does not give way to sound: {error}");
    }
}

struct Worker<'a> {
    loader: Option<EngineLoader>,
    engine: Option<Box<dyn Engine>>,
    session: Option<Box<dyn EngineSession>>,
    /// The number of the newest load.
    load: u64,
    /// How fast to speak, once that was said.
    speed: Option<f32>,
    inbox: &'a SyncSender<Inbox>,
    hearing: Arc<dyn ResponseSink>,
}

impl Worker<'_> {
    fn tell(&self, event: EngineEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Engine(event));
    }

    fn work(&mut self, job: Job) -> Result<(), EngineError> {
        match job {
            Job::Load(Load { number, loader, setup, past }) => {
                self.load = number;
                self.loader = loader.or(self.loader.take());
                return self.load(&setup, &past);
            }
            Job::Open(setup, past) => {
                if self.session.take().is_some() {
                    self.open(&setup, &past)?;
                }
                return Ok(());
            }
            Job::Speed(speed) => {
                self.speed = Some(speed);
                self.engine.iter_mut().for_each(|engine| engine.set_speed(speed));
                return Ok(());
            }
            _ => {}
        }
        // After a failure, what was meant for the broken conversation is dropped until the engine is loaded again.
        let Some(session) = &mut self.session else { return Ok(()) };
        match job {
            Job::Hear(pcm) => session.hear(&pcm, &self.hearing),
            Job::Pause(cancel) => session.pause(&self.hearing, &cancel),
            Job::Read(text) => session.read(&text),
            Job::Respond(sink) => {
                let (epoch, cancel) = (sink.epoch(), sink.cancel_token());
                let sink: Arc<dyn ResponseSink> = Arc::new(sink);
                let end = session.respond(&sink, &cancel)?;
                self.tell(EngineEvent::ReplyEnded { epoch, end });
                Ok(())
            }
            Job::Truncate(heard) => session.truncate(heard),
            Job::Retract => session.retract(),
            Job::Discard => session.discard(),
            Job::Load(_) | Job::Open(..) | Job::Speed(_) => Ok(()),
        }
    }

    fn open(&mut self, setup: &SessionSetup, past: &[PastTurn]) -> Result<(), EngineError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let mut session = engine.open(&fitting(setup.clone(), &engine.info()))?;
        if !past.is_empty() {
            session.recall(past)?;
        }
        self.session = Some(session);
        Ok(())
    }

    fn load(&mut self, setup: &SessionSetup, past: &[PastTurn]) -> Result<(), EngineError> {
        self.session = None;
        self.engine = None;
        let Some(loader) = &mut self.loader else { return Ok(()) };
        let inbox = self.inbox;
        let mut progress = |what: &str, fraction: f32| {
            let _ =
                inbox.send(Inbox::Engine(EngineEvent::Loading { what: Told::named("loading", what, what), fraction }));
        };
        let mut engine = loader(&mut progress)?;
        self.speed.iter().for_each(|speed| engine.set_speed(*speed));
        let info: EngineInfo = engine.info();
        self.engine = Some(engine);
        self.open(setup, past)?;
        self.tell(EngineEvent::Ready { load: self.load, info });
        Ok(())
    }
}

/// An engine that cannot clone speaks in its own voice: the chosen one waits for an engine that can.
fn fitting(setup: SessionSetup, info: &EngineInfo) -> SessionSetup {
    if info.clones_voices { setup } else { SessionSetup { reference_voice: None, voice_state: None, ..setup } }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}
