//! What a desktop asks of a session beside talking: another engine, conversations that are kept, replaying them. Part
//! of the session thread; the disk is the archivist's.

use super::super::archivist;
use super::super::barge_in::Ended;
use super::super::command::{Command, Keep};
use super::super::engine_thread::{EngineLoader, Job, Load};
use super::super::event::{Event, KeptTurnView, Replay};
use super::super::inbox::KeptEvent;
use super::super::preview::Aside;
use super::super::turn_record::TurnRecord;
use super::super::turn_sound::TurnSound;
use super::Orchestrator;
use crate::conversation::export::Form;
use crate::conversation::{KeptTurn, Side};
use crate::metrics::TurnReport;
use crate::time::Micros;
use crate::turn::state::{Input, Phase};
use std::path::PathBuf;
use std::sync::mpsc::Sender;

/// Which engine answers, by its name on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSelection {
    pub engine: String,
    /// The language model of an engine that has several to choose from: a catalog id or a file; `None`: its own.
    pub llm: Option<String>,
    /// How the omni engine is loaded from now on; `None`: as before.
    pub omni: Option<OmniSelection>,
}

/// What the user may choose of how the omni engine is loaded, in the words of the command line's flags of these names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmniSelection {
    pub dtype: Option<String>,
    pub quantize: Option<String>,
    pub text_chunk: Option<usize>,
    /// The language spoken, as an ISO 639-1 code.
    pub language: String,
}

/// Makes the loader of an engine that the user selects while the session runs.
pub type EngineFactory = Box<dyn FnMut(&EngineSelection) -> EngineLoader + Send>;

/// What the session has of it.
pub struct Desk {
    factory: Option<EngineFactory>,
    archivist: Option<Sender<archivist::Job>>,
    keep: Keep,
    /// The number of the newest load; what older ones say is stale.
    load: u64,
    /// The persona or the past changed during a turn: the engine's session is opened anew after it.
    reopen: bool,
}

impl Desk {
    pub fn new(factory: Option<EngineFactory>, archivist: Option<Sender<archivist::Job>>, keep: Keep) -> Self {
        Desk { factory, archivist, keep, load: 0, reopen: false }
    }
}

impl Orchestrator {
    /// Commands that concern no turn.
    pub(super) fn desk_command(&mut self, command: Command) {
        match command {
            Command::UseEngine(selection) => self.use_engine(&selection),
            Command::SetPersona { system_prompt, seed } => {
                (self.setup.system_prompt, self.setup.seed) = (system_prompt, seed);
                self.reopen();
            }
            Command::SetKeep(keep) => self.desk.keep = keep,
            Command::SetSensitivity(sensitivity) => self.listening.sensitivity = sensitivity,
            Command::SetSpeed(speed) => self.job(Job::Speed(speed)),
            Command::ShowDataFolder => self.errands.show_data_folder(),
            Command::CheckModel(id) => self.errands.check_model(id),
            Command::RemoveModel(id) => self.errands.remove_model(id),
            Command::OpenConversation(id) => {
                self.step(Input::Interrupt);
                self.to_archivist(archivist::Job::Open(id));
            }
            Command::ListConversations(query) => self.to_archivist(archivist::Job::List(query)),
            Command::DeleteConversation { id, open } => {
                if open {
                    self.new_conversation();
                }
                self.to_archivist(archivist::Job::Delete(id));
            }
            Command::DeleteAllConversations => {
                self.new_conversation();
                self.to_archivist(archivist::Job::DeleteAll);
            }
            Command::Export { id, form, title } => self.errands.ask_where_to_save(id, form, &title),
            Command::SaveText { name, text, title } => self.errands.save_text(name, text, &title),
            Command::Replay { turn, side } => {
                self.stop_replay();
                if self.turn.phase() == Phase::Listening {
                    self.to_archivist(archivist::Job::Fetch { turn, side });
                }
            }
            Command::StopReplay => self.stop_replay(),
            // All others are the orchestrator's own.
            _ => {}
        }
    }

    /// The conversation that was kept last goes on, if there is one; the list is told.
    pub(super) fn begin_desk(&self) {
        self.to_archivist(archivist::Job::List(String::new()));
        self.to_archivist(archivist::Job::OpenNewest);
    }

    fn to_archivist(&self, job: archivist::Job) {
        if let Some(archivist) = &self.desk.archivist {
            // The archivist outlives the session thread: it ends when this sender is dropped.
            let _ = archivist.send(job);
        }
    }

    /// Writes a conversation to a file; `None`: where exports go.
    pub(super) fn export(&self, id: Option<String>, form: Form, to: Option<PathBuf>) {
        self.to_archivist(archivist::Job::Export { id, form, to });
    }

    pub(super) fn kept(&mut self, event: KeptEvent) {
        match event {
            KeptEvent::Opened(turns) => self.opened(&turns),
            KeptEvent::Sound { turn, side, clip } => {
                if self.turn.phase() == Phase::Listening {
                    let what = Aside::Turn(Replay { turn, side });
                    self.preview.play(what, clip.samples, clip.rate, &self.wires, &self.cards);
                }
            }
        }
    }

    fn opened(&mut self, turns: &[KeptTurn]) {
        self.history.clear();
        for turn in turns {
            self.history.add(turn.turn, &turn.heard, &turn.answer, turn.spoken_bytes, turn.cut_off);
        }
        self.turns = turns.iter().map(|turn| turn.turn).max().unwrap_or(0);
        self.tell(Event::ConversationOpened(turns.iter().map(KeptTurnView::from).collect()));
        self.reopen();
    }

    /// Ends this conversation; what follows is another.
    pub(super) fn new_conversation(&mut self) {
        self.step(Input::Interrupt);
        self.stop_replay();
        self.history.clear();
        self.turns = 0;
        self.to_archivist(archivist::Job::Close);
        self.job(Job::Open(self.setup.clone(), Vec::new()));
        self.tell(Event::ConversationCleared);
    }

    /// Opens the engine's session anew, with what was said: at once, or after the turn under way.
    pub(super) fn reopen(&mut self) {
        self.desk.reopen = self.record.is_some();
        if !self.desk.reopen {
            self.job(Job::Open(self.setup.clone(), self.history.past()));
        }
    }

    /// A turn begins.
    pub(super) fn begin_record(&mut self) {
        self.preview.stop(&self.wires, &self.cards);
        self.turns += 1;
        let began = self.utterance.speech_began().unwrap_or_else(Micros::now);
        self.record = Some(TurnRecord::new(self.turns, began, self.cards.counters()));
        self.sound = Some(TurnSound::new(Micros::now()));
    }

    /// The engine hears more of the user's turn.
    pub(super) fn hear(&mut self, samples: Vec<f32>) {
        self.sound.iter_mut().for_each(|sound| sound.hear(&samples, Micros::now()));
        self.job(Job::Hear(samples));
    }

    /// Does not wait for the last figure of a turn that was interrupted.
    pub(super) fn settle_ended(&mut self) {
        if let Some(ended) = self.barge_in.let_go() {
            self.tell_ended(ended);
        }
    }

    /// Everything is known of this turn: it is kept and told.
    pub(super) fn tell_ended(&mut self, Ended { report, bars, sound, at }: Ended) {
        self.keep(&report, sound, at);
        self.tell(Event::TurnEnded { report: Box::new(report), bars });
    }

    /// Does what had to wait for the end of a turn.
    pub(super) fn after_turn(&mut self) {
        self.errands.look_at_gpu();
        if self.desk.reopen {
            self.reopen();
        }
    }

    fn use_engine(&mut self, selection: &EngineSelection) {
        let Some(factory) = &mut self.desk.factory else { return };
        let loader = factory(selection);
        self.errands.set_engine(&selection.engine);
        self.listening.talking = false;
        self.step(Input::Interrupt);
        self.load_engine(Some(loader));
    }

    /// Has an engine loaded: another, or (`None`) the same again.
    pub(super) fn load_engine(&mut self, loader: Option<EngineLoader>) {
        self.engine = None;
        self.fault = None;
        self.desk.load += 1;
        let (setup, past) = (self.setup.clone(), self.history.past());
        self.job(Job::Load(Load { number: self.desk.load, loader, setup, past }));
    }

    /// Whether this is about the engine that was asked for last.
    pub(super) fn is_newest_load(&self, number: u64) -> bool {
        number == self.desk.load
    }

    /// Ends the replay: the user wants silence, or to talk.
    pub(super) fn stop_replay(&mut self) {
        if self.preview.is_replay() {
            self.preview.stop(&self.wires, &self.cards);
        }
    }

    /// The user wants silence.
    pub(super) fn interrupt(&mut self) {
        self.stop_replay();
        self.step(Input::Interrupt);
    }

    /// Keeps a turn that was over at `now`, if anything was said in it and the user wants it kept.
    pub(super) fn keep(&self, report: &TurnReport, sound: Option<TurnSound>, now: Micros) {
        if let Some(ms) = report.barge_in_stop_ms {
            tracing::info!("the answer was silent {ms:.0} ms after the interruption was certain");
        }
        let Some(sound) = sound else { return };
        if self.desk.archivist.is_none() || self.desk.keep == Keep::Nothing {
            return;
        }
        let at = sound.began(now);
        let sound = match self.desk.keep {
            Keep::WordsAndSound => sound.finish(report.cut_off, now),
            Keep::Words | Keep::Nothing => Default::default(),
        };
        if report.heard.is_empty() && report.answer.is_empty() && sound.track(Side::Assistant).is_none() {
            return;
        }
        let turn = KeptTurn {
            turn: report.turn,
            at,
            heard: report.heard.clone(),
            question_seconds: report.question_seconds,
            answer: report.answer.clone(),
            spoken_bytes: report.spoken_bytes,
            cut_off: report.cut_off,
            engine: self.engine.as_ref().map_or("", |engine| engine.name).to_owned(),
            ttfa_ms: report.ttfa_ms,
            user_sound: None,
            answer_sound: None,
        };
        self.to_archivist(archivist::Job::Keep(Box::new(turn), sound));
    }
}
