//! Holds a dialogue without a person: speaks questions into a virtual sound card and listens to the answers.
//!
//! Runs on the main thread, in real time, through the same session, rings and callbacks as the window.

use super::engines::EngineChoice;
use super::{Failure, interrupted};
use crate::audio::{Clip, StereoRecording, VirtualCard, VirtualCardHandle};
use crate::dsp::resample;
use crate::engine::SessionSetup;
use crate::metrics::{StageMark, TurnReport};
use crate::session::command::{Command, Eagerness};
use crate::session::event::{Event, EventSource, Severity, TurnState};
use crate::session::{self, CardSource, Parts, Session};
use serde::Serialize;
use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// The virtual card's rate: what most real cards run at, so that the resamplers are part of what is tried.
const CARD_RATE: u32 = 48_000;
/// Silence before each question, as a person would leave.
const LEAD_IN: Duration = Duration::from_millis(500);
/// The session is done with a question when it has listened this long after it.
const SETTLED: Duration = Duration::from_millis(700);
/// A question in which nothing was heard is given up after this long.
const NOTHING: Duration = Duration::from_secs(6);
/// Louder than this is sound, not the tail of a filter.
const SOUND: f32 = 1e-4;
/// Silence of an engine that has certainly failed.
const STUCK: Duration = Duration::from_secs(180);

/// A finished dialogue.
pub struct Dialogue {
    pub engine: String,
    pub description: String,
    pub turns: Vec<TurnReport>,
    pub marks: Vec<StageMark>,
    /// Both sides on one clock.
    pub recording: StereoRecording,
    /// Where in the recording each answer lies, in samples.
    pub spans: Vec<Range<usize>>,
    /// Everything the session told, a line of JSON each, if it was noted.
    pub events: String,
}

impl Dialogue {
    /// The answers without the silence around them, a short pause between two.
    pub fn answers(&self) -> Vec<f32> {
        let pause = vec![0.0; self.recording.rate as usize * 3 / 10];
        let mut all = Vec::new();
        for span in &self.spans {
            if !all.is_empty() {
                all.extend_from_slice(&pause);
            }
            all.extend_from_slice(&self.recording.assistant[span.clone()]);
        }
        all
    }
}

/// A session on a virtual card, ready to talk.
pub struct Drive {
    session: Session,
    events: EventSource,
    card: VirtualCardHandle,
    engine: String,
    description: String,
    /// Everything the session told, a line of JSON each, when it is to be kept.
    told: Option<RefCell<String>>,
    began: Instant,
}

/// An event as it is written down.
#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the session was begun.
    ms: u64,
    event: &'a Event,
}

impl Drive {
    /// Loads the engine and waits until it is ready.
    pub fn start(choice: &EngineChoice, setup: SessionSetup) -> Result<Drive, Failure> {
        Drive::begin(choice, setup, None)
    }

    /// The same, with everything that the session tells kept for [`Dialogue::events`].
    pub fn start_noting(choice: &EngineChoice, setup: SessionSetup) -> Result<Drive, Failure> {
        Drive::begin(choice, setup, Some(RefCell::default()))
    }

    fn begin(choice: &EngineChoice, setup: SessionSetup, told: Option<RefCell<String>>) -> Result<Drive, Failure> {
        choice.check()?;
        let (card, handle) = VirtualCard::start(CARD_RATE).map_err(Failure::working)?;
        let parts = Parts {
            card: CardSource::Open(Box::new(card)),
            engine: choice.loader(),
            setup,
            end_of_turn: choice.end_of_turn(),
            hands_free: true,
            eagerness: Eagerness::default(),
            volume: 1.0,
            store: choice.store.clone(),
            greeting: None,
        };
        let (session, events) = session::start(parts).map_err(Failure::working)?;
        let (engine, description) = (String::new(), String::new());
        let began = Instant::now();
        let mut drive = Drive { session, events, card: handle, engine, description, told, began };
        while drive.engine.is_empty() {
            match drive.next(STUCK)? {
                Some(Event::EngineReady { name, description }) => {
                    (drive.engine, drive.description) = (name, description);
                }
                Some(Event::EngineLoading { what, fraction }) => {
                    tracing::debug!("loading {what} {:.0} %", fraction.unwrap_or(0.0) * 100.0);
                }
                Some(_) => {}
                None => return Err(Failure::working("the engine did not load in time: see the log with -v")),
            }
        }
        Ok(drive)
    }

    /// Speaks the questions one after the other and waits for each answer. `names` are for messages.
    pub fn talk(mut self, questions: &[Clip], names: &[PathBuf]) -> Result<Dialogue, Failure> {
        let mut turns = Vec::new();
        let mut marks = Vec::new();
        let mut unheard = Vec::new();
        for (question, name) in questions.iter().zip(names) {
            let before = turns.len();
            self.ask(question, &mut turns, &mut marks)?;
            if turns.len() == before {
                unheard.push(name.display().to_string());
            }
        }
        self.session.stop();
        let recording = self.card.stop();
        let spans = answer_spans(&recording.assistant, recording.rate);
        let unheard = unheard.join(", ");
        if turns.is_empty() {
            return Err(Failure::bad_input(format!(
                "{unheard}: no speech was heard: give a recording of clear speech"
            )));
        }
        if !unheard.is_empty() {
            tracing::warn!("{unheard}: no speech was heard, so there is no answer");
        }
        let events = self.told.map(RefCell::into_inner).unwrap_or_default();
        Ok(Dialogue { engine: self.engine, description: self.description, turns, marks, recording, spans, events })
    }

    /// Begins a conversation with one question, and waits for the answer to end; `None` when no speech was heard.
    pub fn once(&mut self, question: &Clip) -> Result<Option<TurnReport>, Failure> {
        self.session.commands().send(Command::NewConversation);
        let (mut turns, mut marks) = (Vec::new(), Vec::new());
        self.ask(question, &mut turns, &mut marks)?;
        Ok(turns.pop())
    }

    /// Ends the session and the card.
    pub fn stop(self) {
        self.session.stop();
        self.card.stop();
    }

    fn ask(&mut self, question: &Clip, turns: &mut Vec<TurnReport>, marks: &mut Vec<StageMark>) -> Result<(), Failure> {
        let mut samples = vec![0.0; (f64::from(CARD_RATE) * LEAD_IN.as_secs_f64()) as usize];
        samples.extend(resample::convert(&question.samples, question.rate, CARD_RATE).map_err(Failure::bad_input)?);
        self.card.say(samples);
        let began = Instant::now();
        let (mut answered, mut listening_since, mut said_at) = (false, Some(began), None::<Instant>);
        loop {
            if self.card.said() {
                said_at.get_or_insert_with(Instant::now);
            }
            match self.next(Duration::from_millis(50))? {
                Some(Event::State(TurnState::Listening)) => listening_since = Some(Instant::now()),
                Some(Event::State(_)) => listening_since = None,
                Some(Event::TurnEnded { report, .. }) => {
                    answered = true;
                    if !(report.heard.is_empty() && report.answer.is_empty()) {
                        turns.push(*report);
                    }
                }
                Some(Event::Mark(mark)) => marks.push(mark),
                _ => {}
            }
            let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.elapsed());
            let settled = since(listening_since).min(since(said_at));
            if settled >= if answered { SETTLED } else { NOTHING } {
                return Ok(());
            }
            if began.elapsed() > STUCK + Duration::from_secs_f64(question.seconds()) {
                return Err(Failure::working("the engine stopped answering: see the log with -v"));
            }
        }
    }

    /// The next event within `wait`; failures of the session become failures of the command.
    fn next(&self, wait: Duration) -> Result<Option<Event>, Failure> {
        if interrupted() {
            return Err(Failure::interrupted());
        }
        let next = self.events.next_within(wait);
        if let (Ok(event), Some(told)) = (&next, &self.told) {
            let line = Line { ms: self.began.elapsed().as_millis() as u64, event };
            *told.borrow_mut() += &(serde_json::to_string(&line).map_err(Failure::working)? + "\n");
        }
        match next {
            Ok(Event::State(TurnState::Faulted { why, .. })) => Err(Failure::working(why)),
            Ok(Event::Problem { what, severity: Severity::Error, .. }) => Err(Failure::working(what)),
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::working("the session ended unexpectedly")),
        }
    }
}

/// Where the answers lie: the stretches of sound with less than a second of silence inside them.
fn answer_spans(side: &[f32], rate: u32) -> Vec<Range<usize>> {
    let gap = rate as usize;
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (i, _) in side.iter().enumerate().filter(|(_, x)| x.abs() > SOUND) {
        match spans.last_mut() {
            Some(span) if i - span.end <= gap => span.end = i + 1,
            _ => spans.push(i..i + 1),
        }
    }
    spans
}
