//! The session thread: steps the turn machine and carries out its effects.
//!
//! Owns the turn, the epoch, the open turn's record, the history and the card. It waits on its one inbox (at most a
//! tick, for levels and device health) and never on the engine, the mouth or a device. Invariant: the user's sound is
//! never dropped; what came shortly before an onset is kept, and a slow engine only makes its queue longer.
//!
//! What concerns no turn (another engine, kept conversations) is in [`desk`].

pub mod desk;
mod devices;
mod hearing;
mod voice;

use super::barge_in::{BargeIn, Ended};
use super::card_keeper::{CardKeeper, CardSource};
use super::command::Command;
use super::ear::EarJob;
use super::engine_thread::{EngineLoader, Job, Load};
use super::errands::Errands;
use super::event::{Event, EventSink, TurnState};
use super::history::History;
use super::inbox::{EngineEvent, Inbox, MouthEvent};
use super::listening::Listening;
use super::mouth::{LiveEpoch, MouthJob};
use super::preview::Preview;
use super::recorder::Recorder;
use super::sink::SessionSink;
use super::told::Told;
use super::turn_record::TurnRecord;
use super::turn_sound::TurnSound;
use super::utterance::Utterance;
use super::voices::VoiceEvent;
use crate::engine::{CancelToken, EngineInfo, ReplyEnd, SessionSetup};
use crate::metrics::StageMark;
use crate::time::Micros;
use crate::turn::backchannel::BackChannel;
use crate::turn::state::{Effect, Input, Outcome, Phase, Turn};
use desk::Desk;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

/// How often levels are shown and devices looked after.
const TICK: Duration = Duration::from_millis(50);

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
    pub desk: Desk,
}

/// The owner of a conversation.
pub struct Orchestrator {
    wires: Wires,
    cards: CardKeeper,
    errands: Errands,
    preview: Preview,
    recorder: Recorder,
    turn: Turn,
    utterance: Utterance,
    record: Option<TurnRecord>,
    sound: Option<TurnSound>,
    desk: Desk,
    turns: u64,
    history: History,
    setup: SessionSetup,
    engine: Option<EngineInfo>,
    /// Stops the reply under way, and the early work of a pause.
    cancel: CancelToken,
    pause_cancel: CancelToken,
    listening: Listening,
    /// Weighs a sound made during an answer, until it is known for an interruption or not.
    doubt: Option<BackChannel>,
    barge_in: BargeIn,
    typed: Option<String>,
    fault: Option<Told>,
    shown: Option<TurnState>,
}

impl Orchestrator {
    pub fn new(wires: Wires, cards: CardSource, errands: Errands, opening: Opening) -> Self {
        let mut cards = CardKeeper::new(cards, &wires);
        cards.set_volume(opening.volume);
        // The engine thread outlives the session thread: it ends when this sender is dropped.
        let load = Load { number: 0, loader: Some(opening.loader), setup: opening.setup.clone(), past: Vec::new() };
        let _ = wires.jobs.send(Job::Load(load));
        Orchestrator {
            wires,
            cards,
            errands,
            preview: Preview::default(),
            recorder: Recorder::default(),
            turn: Turn::default(),
            utterance: Utterance::default(),
            record: None,
            sound: None,
            desk: opening.desk,
            turns: 0,
            history: History::default(),
            setup: opening.setup,
            engine: None,
            cancel: CancelToken::default(),
            pause_cancel: CancelToken::default(),
            listening: Listening::new(opening.hands_free),
            doubt: None,
            barge_in: BargeIn::default(),
            typed: None,
            fault: None,
            shown: None,
        }
    }

    /// Runs until [`Command::Shutdown`] or until every sender is gone; returns what was said.
    pub fn run(mut self, inbox: &Receiver<Inbox>) -> History {
        self.errands.report_models();
        self.begin_desk();
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
            if let Some(ended) = self.barge_in.over(Micros::now()) {
                self.tell_ended(ended);
            }
            self.mind_the_ear();
            self.show_state();
        }
        self.settle_ended();
        self.cancel.cancel();
        self.pause_cancel.cancel();
        self.wires.live.store(0, Ordering::Release);
        self.errands.cancel_all();
        self.history
    }

    fn take(&mut self, message: Inbox) {
        match message {
            Inbox::Command(command) => self.command(command),
            Inbox::Ear(event) => self.ear(event),
            Inbox::Engine(event) => self.engine(event),
            Inbox::Mouth(event) => self.mouth(event),
            Inbox::Kept(event) => self.kept(event),
            Inbox::Export { id, form, to } => self.export(id, form, to),
            Inbox::Voice(job) => self.voice(job),
            Inbox::Folder { folder, models } => self.errands.pull_from(folder, models),
            Inbox::Card(direction, opened) => {
                let news = self.cards.opened(direction, *opened, &self.wires);
                self.card_news(news);
            }
            Inbox::Devices(list) => {
                let news = self.cards.devices(list, &self.wires);
                self.card_news(news);
            }
        }
    }

    fn command(&mut self, command: Command) {
        // It may be about what is kept.
        self.settle_ended();
        match command {
            Command::Voice(command) => self.voice_command(command),
            Command::Talk => {
                self.stop_replay();
                if matches!(self.turn.phase(), Phase::Thinking | Phase::Speaking | Phase::Ducked) {
                    self.step(Input::Interrupt);
                }
                self.listening.talking = true;
                self.utterance.press();
                self.step(Input::Onset);
            }
            Command::TalkEnd => {
                if std::mem::take(&mut self.listening.talking) {
                    let last_voiced = self.utterance.last_voiced().unwrap_or_else(Micros::now);
                    self.end_of_turn(last_voiced);
                }
            }
            Command::SetHandsFree(on) => self.listening.hands_free = on,
            Command::SetHalfDuplex(on) => self.listening.half_duplex = on,
            Command::SetHeadphones(worn) => self.to_ear(EarJob::Headphones(worn)),
            Command::SendText(text) => {
                let text = text.trim().to_owned();
                if self.engine.is_some() && !text.is_empty() {
                    self.stop_replay();
                    self.typed = Some(text);
                    self.step(Input::Typed);
                }
            }
            Command::Interrupt => self.interrupt(),
            Command::NewConversation => self.new_conversation(),
            Command::SelectInput(id) => self.cards.select_input(id, &self.wires),
            Command::SelectOutput(id) => self.cards.select_output(id, &self.wires),
            Command::SetVolume(volume) => self.cards.set_volume(volume),
            Command::SetMuted(muted) => self.listening.muted = muted,
            Command::SetEagerness(eagerness) => self.to_ear(EarJob::Eagerness(eagerness)),
            Command::LookAtMachine => self.errands.look_at_machine(),
            Command::PullModels(ids) => self.errands.pull(ids),
            Command::AgreeToTerms(id) => self.errands.agree_to_terms(&id),
            Command::ImportModels { title, models } => self.errands.import(&title, models),
            Command::PausePull { model } => self.errands.pause_pull(&model),
            Command::ResumePull { model } => self.errands.resume_pull(&model),
            Command::CancelPull { model } => self.errands.cancel_pull(&model),
            Command::ReloadEngine | Command::RetryAfterFault => {
                if self.engine.is_none() || self.turn.phase() == Phase::Faulted {
                    self.load_engine(None);
                }
            }
            // Handled by `run`, which ends the loop.
            Command::Shutdown => {}
            other => self.desk_command(other),
        }
    }

    fn engine(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Loading { what, fraction } => {
                self.tell(Event::EngineLoading { what, fraction: Some(fraction) });
            }
            EngineEvent::Ready { load, .. } | EngineEvent::Failed { load, .. } if !self.is_newest_load(load) => {}
            EngineEvent::Ready { info, .. } => {
                let (name, description) = (info.name.to_owned(), info.description.clone());
                self.tell(Event::Voice(VoiceEvent::Engine { clones: info.clones_voices }));
                self.engine = Some(info);
                self.fault = None;
                self.ready();
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
            EngineEvent::Text { epoch, piece } if self.is_live(epoch) => {
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
            EngineEvent::Failed { why, .. } => {
                self.engine = None;
                self.fault = Some(why);
                self.step(Input::EngineFailed);
            }
        }
    }

    /// Whether this reply has begun and was not stopped. What is still on its way of one that was belongs to no turn.
    fn is_live(&self, epoch: u64) -> bool {
        self.wires.live.load(Ordering::Acquire) == epoch
    }

    fn mouth(&mut self, event: MouthEvent) {
        if self.preview.takes(&event, &self.wires) {
            return;
        }
        match event {
            MouthEvent::FirstAudio { epoch, at } => {
                if self.is_live(epoch)
                    && let Some(record) = &mut self.record
                {
                    record.first_audible(at);
                    self.sound.iter_mut().for_each(|sound| sound.first_audible(at));
                }
                self.step(Input::FirstAudio { epoch });
            }
            MouthEvent::Spoken { epoch, bytes } if self.is_live(epoch) => {
                if let Some(record) = &mut self.record
                    && let Some(bytes) = record.spoken(bytes)
                {
                    let turn = record.number;
                    self.tell(Event::Spoken { turn, bytes });
                }
            }
            MouthEvent::Spoken { .. } => {}
            MouthEvent::Made { epoch, samples, rate } => {
                if self.is_live(epoch)
                    && let Some(record) = &mut self.record
                {
                    record.speech(samples.len(), rate);
                    self.sound.iter_mut().for_each(|sound| sound.make(&samples, rate));
                }
            }
            MouthEvent::Played { epoch } => {
                if self.is_live(epoch)
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
        if !matches!(self.turn.phase(), Phase::Capturing | Phase::MaybeDone | Phase::Ducked) {
            self.utterance.settle();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Begin => {
                self.begin_record();
                let heard = self.utterance.open();
                self.hear(heard);
            }
            Effect::HintPause => {
                self.pause_cancel = CancelToken::default();
                self.job(Job::Pause(self.pause_cancel.clone()));
            }
            Effect::Resume => {
                self.pause_cancel.cancel();
                if !self.utterance.is_open() {
                    let heard = self.utterance.open();
                    self.hear(heard);
                }
            }
            Effect::Respond { epoch } => self.respond(epoch),
            Effect::Stop { epoch } => {
                // A typed turn has its own epoch already while the answer before it is being stopped.
                debug_assert!(epoch <= self.turn.epoch());
                self.cancel.cancel();
                self.wires.live.store(0, Ordering::Release);
                self.cards.flush();
                self.barge_in.stop(self.cards.playback());
            }
            Effect::Retract => {
                if let Some(record) = &mut self.record {
                    record.retract();
                }
                self.sound.iter_mut().for_each(TurnSound::retract);
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
        } else if let Some(record) = &mut self.record
            && let Some(seconds) = record.spoke_until(self.utterance.last_voiced())
            && self.engine.as_ref().is_some_and(|engine| !engine.transcribes)
        {
            let turn = record.number;
            self.tell(Event::HeardSound { turn, seconds });
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
        self.settle_ended();
        let cut_off = matches!(outcome, Outcome::CutOff | Outcome::Failed);
        if outcome == Outcome::NothingHeard {
            self.turns -= 1;
        } else {
            self.history.add(record.number, &record.question_text(), &record.answer, record.spoken, cut_off);
        }
        let (report, bars) = record.finish(cut_off, self.cards.counters());
        let sound = self.sound.take().filter(|_| outcome != Outcome::NothingHeard);
        if let Some(ended) = self.barge_in.hold(Ended { report, bars, sound, at: Micros::now() }) {
            self.tell_ended(ended);
        }
        self.after_turn();
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

    fn tick(&mut self) {
        let (levels, counters) = self.cards.meters();
        if let Some(levels) = levels {
            self.tell(levels);
        }
        if let Some(counters) = counters {
            self.tell(counters);
        }
        let news = self.cards.look_after(&self.wires);
        self.card_news(news);
    }

    fn show_state(&mut self) {
        let state = match (self.turn.phase(), &self.fault) {
            (_, Some(why)) => {
                let remedy = Told::new("told-mend-and-retry", "Mend what it says, then press Try again.");
                TurnState::Faulted { why: why.clone(), remedy }
            }
            _ if self.engine.is_none() => TurnState::Loading,
            (Phase::Listening | Phase::Degraded | Phase::Faulted, _) => match self.cards.trouble() {
                why if why.is_empty() => TurnState::Listening,
                why => TurnState::Degraded { why },
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
