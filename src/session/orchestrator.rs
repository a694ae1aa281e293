//! The session thread: steps the turn machine and carries out its effects.
//!
//! Owns the turn, the epoch, the open turn's record, the history and the card. It waits on its one inbox (at most a
//! tick, for levels and device health) and never on the engine, the mouth or a device. Invariant: the user's sound is
//! never dropped; what came shortly before an onset is kept, and a slow engine only makes its queue longer.

mod voice;
use super::card_keeper::{CardKeeper, CardSource, Look};
use super::command::Command;
use super::ear::EarJob;
use super::engine_thread::{EngineLoader, Job};
use super::errands::Errands;
use super::event::{Event, EventSink, Severity, TurnState};
use super::history::History;
use super::inbox::{EarEvent, EngineEvent, Inbox, MouthEvent};
use super::mouth::{LiveEpoch, MouthJob};
use super::preview::Preview;
use super::sink::SessionSink;
use super::turn_record::TurnRecord;
use super::utterance::Utterance;
use super::voices::VoiceEvent;
use crate::engine::{CancelToken, EngineInfo, ReplyEnd, SessionSetup};
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use crate::turn::state::{Effect, Input, Outcome, Phase, Turn};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

/// How often levels are shown and devices looked after.
const TICK: Duration = Duration::from_millis(50);
/// Speech of this length while the assistant speaks is an interruption (HOUSE rules; peers use 130 to 250 ms).
const SUSTAINED: Duration = Duration::from_millis(250);
/// Silence of this length ends what might have become one.
const NOT_SUSTAINED: Duration = Duration::from_millis(200);

/// The threads around the session thread, as it sees them.
pub struct Wires {
    pub inbox: SyncSender<Inbox>,
    pub jobs: Sender<Job>,
    pub mouth: SyncSender<MouthJob>,
    pub ear: Sender<EarJob>,
    pub live: LiveEpoch,
    pub events: EventSink,
}

/// How the session begins.
pub struct Opening {
    pub setup: SessionSetup,
    pub loader: EngineLoader,
    pub hands_free: bool,
    pub volume: f32,
}

/// The owner of a conversation.
pub struct Orchestrator {
    wires: Wires,
    cards: CardKeeper,
    errands: Errands,
    preview: Preview,
    turn: Turn,
    utterance: Utterance,
    record: Option<TurnRecord>,
    turns: u64,
    history: History,
    setup: SessionSetup,
    engine: Option<EngineInfo>,
    /// Stops the reply under way, and the early work of a pause.
    cancel: CancelToken,
    pause_cancel: CancelToken,
    hands_free: bool,
    muted: bool,
    talking: bool,
    typed: Option<String>,
    fault: Option<String>,
    shown: Option<TurnState>,
}

impl Orchestrator {
    pub fn new(wires: Wires, cards: CardSource, errands: Errands, opening: Opening) -> Self {
        let mut cards = CardKeeper::new(cards, &wires);
        cards.set_volume(opening.volume);
        // The engine thread outlives the session thread: it ends when this sender is dropped.
        let _ = wires.jobs.send(Job::Load(Some(opening.loader), opening.setup.clone()));
        Orchestrator {
            wires,
            cards,
            errands,
            preview: Preview::default(),
            turn: Turn::default(),
            utterance: Utterance::default(),
            record: None,
            turns: 0,
            history: History::default(),
            setup: opening.setup,
            engine: None,
            cancel: CancelToken::default(),
            pause_cancel: CancelToken::default(),
            hands_free: opening.hands_free,
            muted: false,
            talking: false,
            typed: None,
            fault: None,
            shown: None,
        }
    }

    /// Runs until [`Command::Shutdown`] or until every sender is gone; returns what was said.
    pub fn run(mut self, inbox: &Receiver<Inbox>) -> History {
        self.errands.report_models();
        let mut next_tick = Micros::now() + TICK;
        loop {
            let wait = next_tick.since(Micros::now());
            match inbox.recv_timeout(wait) {
                Ok(Inbox::Command(Command::Shutdown)) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Micros::now() >= next_tick {
                next_tick = Micros::now() + TICK;
                self.tick();
            }
            self.show_state();
        }
        self.cancel.cancel();
        self.pause_cancel.cancel();
        self.wires.live.store(0, Ordering::Release);
        self.errands.cancel();
        self.history
    }

    fn take(&mut self, message: Inbox) {
        match message {
            Inbox::Command(command) => self.command(command),
            Inbox::Ear(event) => self.ear(event),
            Inbox::Engine(event) => self.engine(event),
            Inbox::Mouth(event) => self.mouth(event),
            Inbox::Voice(job) => self.voice(job),
            Inbox::Folder(folder) => self.errands.pull_from(folder),
            Inbox::Card(opened) => match self.cards.opened(*opened, &self.wires) {
                Ok(()) => self.step(Input::CardBack),
                Err(Some(error)) => {
                    let remedy = "Until then, type instead of speaking.".to_owned();
                    self.tell(Event::Problem { what: error.to_string(), remedy, severity: Severity::Warning });
                }
                Err(None) => {}
            },
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Voice(command) => self.voice_command(command),
            Command::Talk => {
                if matches!(self.turn.phase(), Phase::Thinking | Phase::Speaking | Phase::Ducked) {
                    self.step(Input::Interrupt);
                }
                self.talking = true;
                self.utterance.press();
                self.step(Input::Onset);
            }
            Command::TalkEnd => {
                if std::mem::take(&mut self.talking) {
                    let last_voiced = self.utterance.last_voiced().unwrap_or_else(Micros::now);
                    self.end_of_turn(last_voiced);
                }
            }
            Command::SetHandsFree(on) => self.hands_free = on,
            Command::SendText(text) => {
                let text = text.trim().to_owned();
                if self.engine.is_some() && !text.is_empty() {
                    self.typed = Some(text);
                    self.step(Input::Typed);
                }
            }
            Command::Interrupt => self.step(Input::Interrupt),
            Command::NewConversation => {
                self.step(Input::Interrupt);
                self.history.clear();
                self.turns = 0;
                self.job(Job::Open(self.setup.clone()));
                self.tell(Event::ConversationCleared);
            }
            Command::SelectInput(id) => self.cards.select_input(id, &self.wires),
            Command::SelectOutput(id) => self.cards.select_output(id, &self.wires),
            Command::SetVolume(volume) => self.cards.set_volume(volume),
            Command::SetMuted(muted) => self.muted = muted,
            Command::SetEagerness(eagerness) => self.to_ear(EarJob::Eagerness(eagerness)),
            Command::PullModels(ids) => self.errands.pull(ids),
            Command::ImportModels => self.errands.import(),
            Command::CancelPull => self.errands.cancel(),
            Command::ReloadEngine | Command::RetryAfterFault => {
                if self.engine.is_none() || self.turn.phase() == Phase::Faulted {
                    self.load_engine();
                }
            }
            // Handled by `run`, which ends the loop.
            Command::Shutdown => {}
        }
    }

    fn ear(&mut self, event: EarEvent) {
        if self.muted {
            return;
        }
        let listens = self.hands_free && self.engine.is_some() && !self.talking && !self.preview.is_on();
        match event {
            EarEvent::Frame { samples, end, speech } => {
                self.utterance.hear(&samples, end, speech);
                if self.utterance.is_open() {
                    self.job(Job::Hear(samples));
                }
                if self.turn.phase() == Phase::Ducked {
                    if self.utterance.speech_run() >= SUSTAINED {
                        self.step(Input::Sustained);
                    } else if self.utterance.silence_run() >= NOT_SUSTAINED {
                        self.step(Input::NotSustained);
                    }
                }
            }
            EarEvent::Onset if listens => {
                self.utterance.onset();
                self.step(Input::Onset);
            }
            EarEvent::Pause if listens => self.step(Input::Pause),
            EarEvent::EndOfTurn { last_voiced } if listens => self.end_of_turn(last_voiced),
            EarEvent::Onset | EarEvent::Pause | EarEvent::EndOfTurn { .. } => {}
            EarEvent::Mark(mark) => self.mark(mark),
        }
    }

    fn end_of_turn(&mut self, last_voiced: Micros) {
        if let Some(record) = &mut self.record
            && matches!(self.turn.phase(), Phase::Capturing | Phase::MaybeDone)
        {
            let now = Micros::now();
            record.ended(last_voiced, now);
            let epoch = self.turn.epoch() + 1;
            self.mark(StageMark { epoch, stage: Stage::EndOfTurn, start: last_voiced, end: now, units: 1 });
        }
        self.step(Input::EndOfTurn);
    }

    fn engine(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Loading { what, fraction } => {
                self.tell(Event::EngineLoading { what, fraction: Some(fraction) });
            }
            EngineEvent::Ready(info) => {
                let (name, description) = (info.name.to_owned(), info.description.clone());
                self.tell(Event::Voice(VoiceEvent::Engine { clones: info.clones_voices }));
                self.engine = Some(info);
                self.fault = None;
                self.step(Input::Retry);
                self.tell(Event::EngineReady { name, description });
                tracing::info!("ready");
            }
            EngineEvent::Heard { text, is_final } => {
                if let Some(record) = &mut self.record {
                    record.hear(&text);
                    let turn = record.number;
                    self.tell(Event::Heard { turn, text, is_final });
                }
            }
            EngineEvent::Text { epoch, piece } if epoch == self.turn.epoch() => {
                if let Some(record) = &mut self.record {
                    record.answer(&piece);
                    let turn = record.number;
                    self.tell(Event::Answer { turn, piece });
                }
            }
            EngineEvent::Text { .. } => {}
            EngineEvent::Mark(mark) => self.mark(mark),
            EngineEvent::ReplyEnded { epoch, end } => match end {
                ReplyEnd::Complete => self.to_mouth(MouthJob::End { epoch }),
                ReplyEnd::NothingHeard => self.step(Input::NothingHeard { epoch }),
                ReplyEnd::Cancelled => {}
            },
            EngineEvent::Failed(error) => {
                self.engine = None;
                self.fault = Some(error);
                self.step(Input::EngineFailed);
            }
        }
    }

    fn mouth(&mut self, event: MouthEvent) {
        if self.preview.takes(&event, &self.wires) {
            return;
        }
        match event {
            MouthEvent::FirstAudio { epoch, at } => {
                if epoch == self.turn.epoch()
                    && let Some(record) = &mut self.record
                {
                    record.first_audible(at);
                }
                self.step(Input::FirstAudio { epoch });
            }
            MouthEvent::Spoken { epoch, bytes } if epoch == self.turn.epoch() => {
                if let Some(record) = &mut self.record
                    && let Some(bytes) = record.spoken(bytes)
                {
                    let turn = record.number;
                    self.tell(Event::Spoken { turn, bytes });
                }
            }
            MouthEvent::Spoken { .. } => {}
            MouthEvent::Made { epoch, samples, rate } => {
                if epoch == self.turn.epoch()
                    && let Some(record) = &mut self.record
                {
                    record.speech(samples, rate);
                }
            }
            MouthEvent::Played { epoch } => {
                if epoch == self.turn.epoch()
                    && let Some(record) = &mut self.record
                    && let Some(bytes) = record.spoken(record.answer.len())
                {
                    let turn = record.number;
                    self.tell(Event::Spoken { turn, bytes });
                }
                self.step(Input::Played { epoch });
            }
            MouthEvent::Mark(mark) => self.mark(mark),
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.turn.step(input);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Begin => {
                self.begin_record();
                let heard = self.utterance.open();
                self.job(Job::Hear(heard));
            }
            Effect::HintPause => {
                self.pause_cancel = CancelToken::default();
                self.job(Job::Pause(self.pause_cancel.clone()));
            }
            Effect::Resume => {
                self.pause_cancel.cancel();
                if !self.utterance.is_open() {
                    let heard = self.utterance.open();
                    self.job(Job::Hear(heard));
                }
            }
            Effect::Respond { epoch } => self.respond(epoch),
            Effect::Stop { epoch } => {
                debug_assert_eq!(epoch, self.turn.epoch());
                self.cancel.cancel();
                self.wires.live.store(0, Ordering::Release);
                self.cards.flush();
            }
            Effect::Retract => {
                if let Some(record) = &mut self.record {
                    record.retract();
                }
                self.job(Job::Retract);
            }
            Effect::Truncate => {
                let heard = self.record.as_ref().map_or(0, |r| r.spoken);
                self.job(Job::Truncate(heard));
            }
            Effect::Discard => {
                self.utterance.close();
                self.pause_cancel.cancel();
                self.job(Job::Discard);
            }
            Effect::Duck => self.cards.duck(true),
            Effect::Unduck => self.cards.duck(false),
            Effect::End(outcome) => self.end(outcome),
        }
    }

    fn begin_record(&mut self) {
        self.preview.stop(&self.wires, &self.cards);
        self.turns += 1;
        self.record = Some(TurnRecord::new(self.turns, self.cards.counters()));
    }

    fn respond(&mut self, epoch: u64) {
        self.utterance.close();
        if let Some(text) = self.typed.take() {
            self.begin_record();
            if let Some(record) = &mut self.record {
                let now = Micros::now();
                record.hear(&text);
                record.ended(now, now);
                let turn = record.number;
                self.tell(Event::Heard { turn, text: text.clone(), is_final: true });
            }
            self.job(Job::Read(text));
        }
        let Some(engine) = &self.engine else { return };
        self.cancel = CancelToken::default();
        self.wires.live.store(epoch, Ordering::Release);
        let (rate, overlap) = (engine.output_rate, engine.max_overlap);
        self.to_mouth(MouthJob::Begin { epoch, rate, overlap });
        let (inbox, mouth) = (self.wires.inbox.clone(), self.wires.mouth.clone());
        self.job(Job::Respond(SessionSink::new(epoch, self.cancel.clone(), inbox, mouth)));
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(record) = self.record.take() else { return };
        let cut_off = matches!(outcome, Outcome::CutOff | Outcome::Failed);
        if outcome == Outcome::NothingHeard {
            self.turns -= 1;
        } else {
            self.history.add(record.number, &record.heard, &record.answer, record.spoken, cut_off);
        }
        let (report, bars) = record.finish(cut_off, self.cards.counters());
        self.tell(Event::TurnEnded { report: Box::new(report), bars });
    }

    fn mark(&mut self, mut mark: StageMark) {
        let Some(record) = &mut self.record else { return };
        let open = if self.wires.live.load(Ordering::Acquire) == 0 { self.turn.epoch() + 1 } else { self.turn.epoch() };
        if mark.epoch == 0 {
            mark.epoch = open;
        }
        if mark.epoch + 1 >= open {
            record.mark(mark);
            self.tell(Event::Mark(mark));
        }
    }

    fn load_engine(&mut self) {
        self.engine = None;
        self.fault = None;
        self.job(Job::Load(None, self.setup.clone()));
    }

    fn tick(&mut self) {
        let (levels, counters) = self.cards.meters();
        if let Some(levels) = levels {
            self.tell(levels);
        }
        if let Some(counters) = counters {
            self.tell(counters);
        }
        match self.cards.look_after(&self.wires) {
            Look::Well => {}
            Look::Lost(what) => {
                self.step(Input::CardLost);
                let remedy = "Plug it in again or choose another; it is being looked for.".to_owned();
                self.tell(Event::Problem { what, remedy, severity: Severity::Warning });
            }
        }
    }

    fn show_state(&mut self) {
        let state = match (self.turn.phase(), &self.fault) {
            (_, Some(why)) => {
                TurnState::Faulted { why: why.clone(), remedy: "Mend what it says, then press Retry.".into() }
            }
            _ if self.engine.is_none() => TurnState::Loading,
            (Phase::Listening | Phase::Degraded | Phase::Faulted, _) => match self.cards.trouble() {
                Some(why) => TurnState::Degraded { why: why.to_owned() },
                None => TurnState::Listening,
            },
            (Phase::Capturing, _) => TurnState::Capturing,
            (Phase::MaybeDone, _) => TurnState::MaybeDone,
            (Phase::Thinking, _) => TurnState::Thinking,
            (Phase::Speaking, _) => TurnState::Speaking,
            (Phase::Ducked, _) => TurnState::Ducked,
        };
        if self.shown.as_ref() != Some(&state) {
            self.shown = Some(state.clone());
            self.tell(Event::State(state));
        }
    }

    fn job(&self, job: Job) {
        // The engine thread outlives the session thread: it ends when this sender is dropped.
        let _ = self.wires.jobs.send(job);
    }

    fn to_mouth(&self, job: MouthJob) {
        // Likewise.
        let _ = self.wires.mouth.send(job);
    }

    fn to_ear(&self, job: EarJob) {
        // Likewise.
        let _ = self.wires.ear.send(job);
    }

    fn tell(&self, event: Event) {
        self.wires.events.send(event);
    }
}
