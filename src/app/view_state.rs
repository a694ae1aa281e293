//! What the window shows, as plain data, and how an event changes it. Pure: no egui, no clock, no I/O.
//!
//! [`ViewState::apply`] is the only way in. Everything here is bounded, so that a window may stay open for weeks.

use super::view_voices::VoicesView;
use crate::metrics::{Bar, Histogram, Stage, StageMark, TurnReport};
use crate::session::event::{
    ConversationEntry, DeviceList, Event, KeptTurnView, ModelKind, ModelState, ModelStatus, Outlook, PullProgress,
    PullState, Replay, Severity, TurnState,
};
use crate::session::told::{Direction, Told};
use crate::time::Micros;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Turns kept for reading; older ones scroll away.
const TURNS_SHOWN: usize = 200;
/// Pieces of work that a stage's figures are made of.
const STAGE_WINDOW: usize = 512;
/// Pieces of work kept of a turn, for a trace.
const MARKS_KEPT: usize = 20_000;
/// Turns that the totals are made of.
const TURN_WINDOW: usize = 200;
/// Banners at a time.
const PROBLEMS_SHOWN: usize = 3;
/// How long a mere note stays.
const NOTE_STAYS: Duration = Duration::from_secs(8);
/// What a silent meter shows.
pub const SILENCE_DB: f32 = -90.0;

/// One exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TurnView {
    pub turn: u64,
    /// What the user said; empty when nobody wrote it down.
    pub heard: String,
    pub heard_final: bool,
    /// How long the user spoke, once that is over.
    pub question_seconds: Option<f64>,
    pub answer: String,
    /// Bytes of `answer` that have been heard; always at a character's end.
    pub spoken: usize,
    pub ended: bool,
    pub cut_off: bool,
    pub ttfa_ms: Option<f64>,
    /// When it began, once it is kept on the disk.
    pub at: Option<Timestamp>,
    /// Whether its sound can be replayed.
    pub user_sound: bool,
    pub answer_sound: bool,
}

impl From<KeptTurnView> for TurnView {
    fn from(kept: KeptTurnView) -> Self {
        TurnView {
            turn: kept.turn,
            spoken: kept.answer.floor_char_boundary(kept.spoken_bytes),
            heard: kept.heard,
            heard_final: true,
            question_seconds: kept.question_seconds,
            answer: kept.answer,
            ended: true,
            cut_off: kept.cut_off,
            ttfa_ms: kept.ttfa_ms,
            at: Some(kept.at),
            user_sound: kept.user_sound,
            answer_sound: kept.answer_sound,
        }
    }
}

impl TurnView {
    /// The answer, parted into what was heard and what was not.
    pub fn answer_parts(&self) -> (&str, &str) {
        self.answer.split_at(self.spoken)
    }
}

/// Something to tell the user, with what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub what: Told,
    pub remedy: Told,
    pub severity: Severity,
    pub since: Micros,
}

/// The figures of the right side.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Milliseconds per piece of work.
    pub stages: BTreeMap<Stage, Histogram>,
    /// Milliseconds per turn.
    pub ttfa: Histogram,
    pub ttfa_compute: Histogram,
    pub barge_in_stop: Histogram,
    pub rtf: Histogram,
    /// The last turn that ended, and its waterfall.
    pub last: Option<TurnReport>,
    pub bars: Vec<Bar>,
    /// What each stage did in that turn, for a trace.
    pub marks: Vec<StageMark>,
    /// The same of the turn under way.
    coming: Vec<StageMark>,
    /// Bytes of this process in memory; 0 while not known.
    pub memory: u64,
    /// Bytes that it holds of graphics cards' memory; 0 while not known.
    pub gpu_memory: u64,
    pub xruns: u64,
    pub starvation: u64,
    pub lost_capture: u64,
    pub queued_ms: f32,
}

impl Default for Meters {
    fn default() -> Self {
        Meters {
            stages: BTreeMap::new(),
            ttfa: Histogram::new(TURN_WINDOW),
            ttfa_compute: Histogram::new(TURN_WINDOW),
            barge_in_stop: Histogram::new(TURN_WINDOW),
            rtf: Histogram::new(TURN_WINDOW),
            last: None,
            bars: Vec::new(),
            marks: Vec::new(),
            coming: Vec::new(),
            memory: 0,
            gpu_memory: 0,
            xruns: 0,
            starvation: 0,
            lost_capture: 0,
            queued_ms: 0.0,
        }
    }
}

/// The kept conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryView {
    /// What the list was searched for.
    pub query: String,
    /// Newest first.
    pub list: Vec<ConversationEntry>,
    /// The one that is going on.
    pub open: Option<String>,
}

/// The engine being loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadingView {
    pub what: Told,
    pub fraction: Option<f32>,
}

/// The engine that is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineView {
    pub name: String,
    pub description: String,
}

/// Everything the window shows that comes from the session.
#[derive(Clone, Debug)]
pub struct ViewState {
    pub state: TurnState,
    /// When `state` began.
    pub since: Micros,
    pub turns: Vec<TurnView>,
    pub mic_db: f32,
    pub speaker_db: f32,
    /// The loudest that the microphone has been.
    pub loudest_db: f32,
    pub meters: Meters,
    pub loading: Option<LoadingView>,
    pub engine: Option<EngineView>,
    pub models: Vec<ModelStatus>,
    pub voices: VoicesView,
    /// A pull that is under way, or that ended and whose end is still of interest.
    pub pull: Option<PullProgress>,
    /// Models whose pull is paused.
    pub paused: Vec<String>,
    /// Models that are fetched after others.
    pub waiting: Vec<String>,
    /// What this machine can do, once that is known.
    pub outlook: Option<Outlook>,
    pub input: DeviceList,
    pub output: DeviceList,
    /// Newest last.
    pub problems: Vec<Problem>,
    pub history: HistoryView,
    pub replaying: Option<Replay>,
    /// The session's threads are gone: nothing will answer any more.
    pub session_gone: bool,
    /// Where everything is kept; empty while not known.
    pub data_folder: String,
}

impl Default for ViewState {
    fn default() -> Self {
        ViewState {
            state: TurnState::default(),
            since: Micros::default(),
            turns: Vec::new(),
            mic_db: SILENCE_DB,
            speaker_db: SILENCE_DB,
            loudest_db: SILENCE_DB,
            meters: Meters::default(),
            loading: None,
            engine: None,
            models: Vec::new(),
            voices: VoicesView::default(),
            pull: None,
            paused: Vec::new(),
            waiting: Vec::new(),
            outlook: None,
            input: DeviceList::default(),
            output: DeviceList::default(),
            problems: Vec::new(),
            history: HistoryView::default(),
            replaying: None,
            session_gone: false,
            data_folder: String::new(),
        }
    }
}

impl ViewState {
    /// Takes in a fact that was told at `now`.
    pub fn apply(&mut self, event: Event, now: Micros) {
        match event {
            Event::State(state) => self.enter(state, now),
            Event::Levels { mic_db, speaker_db } => {
                self.mic_db = mic_db.max(SILENCE_DB);
                self.speaker_db = speaker_db.max(SILENCE_DB);
                self.loudest_db = self.loudest_db.max(mic_db);
            }
            Event::Heard { turn, text, is_final } => {
                let view = self.turn(turn);
                view.heard = text;
                view.heard_final = is_final;
            }
            Event::HeardSound { turn, seconds } => {
                let view = self.turn(turn);
                (view.question_seconds, view.heard_final) = (Some(seconds), true);
            }
            Event::Answer { turn, piece } => {
                let view = self.turn(turn);
                if !view.ended {
                    view.answer.push_str(&piece);
                }
            }
            Event::Spoken { turn, bytes } => {
                let view = self.turn(turn);
                view.spoken = view.spoken.max(view.answer.floor_char_boundary(bytes));
            }
            Event::TurnEnded { report, bars } => self.end_turn(*report, bars),
            Event::Mark(mark) => {
                let stage = self.meters.stages.entry(mark.stage);
                stage.or_insert_with(|| Histogram::new(STAGE_WINDOW)).add(mark.ms());
                if self.meters.coming.len() < MARKS_KEPT {
                    self.meters.coming.push(mark);
                }
            }
            Event::EngineLoading { what, fraction } => {
                self.loading = Some(LoadingView { what, fraction: fraction.map(|f| f.clamp(0.0, 1.0)) });
            }
            Event::EngineReady { name, description } => {
                self.loading = None;
                self.engine = Some(EngineView { name, description });
            }
            Event::Voice(event) => self.voices.apply(event),
            Event::Models(models) => self.models = models,
            Event::Pull(progress) => {
                self.paused.retain(|id| *id != progress.id);
                if progress.state == PullState::Paused {
                    self.paused.push(progress.id.clone());
                    // What is being fetched is of more interest than what is not.
                    if self.is_pulling() && !self.is_fetching(&progress.id) {
                        return;
                    }
                }
                self.pull = Some(progress);
            }
            Event::PullsWaiting(ids) => self.waiting = ids,
            Event::Outlook(outlook) => self.outlook = Some(outlook),
            Event::Devices { input, output } => {
                // What was wrong with a device that is open (again) is wrong no more.
                let open = |device| match device {
                    Direction::Input => input.open.is_some(),
                    Direction::Output => output.open.is_some(),
                };
                self.problems.retain(|p| p.severity == Severity::Note || !p.what.device().is_some_and(open));
                self.input = input;
                self.output = output;
            }
            Event::Counters { xruns, starvation, lost_capture, queued_ms } => {
                let meters = &mut self.meters;
                (meters.xruns, meters.starvation) = (xruns, starvation);
                (meters.lost_capture, meters.queued_ms) = (lost_capture, queued_ms);
            }
            Event::Problem { what, remedy, severity } => self.tell(what, remedy, severity, now),
            Event::ConversationCleared => self.turns.clear(),
            Event::Conversations { query, list, open } => self.history = HistoryView { query, list, open },
            Event::ConversationOpened(turns) => {
                let skipped = turns.len().saturating_sub(TURNS_SHOWN);
                self.turns = turns.into_iter().skip(skipped).map(TurnView::from).collect();
            }
            Event::TurnKept { turn, at, user_sound, answer_sound } => {
                // A turn that was cleared away meanwhile does not come back.
                if let Some(view) = self.turns.iter_mut().rfind(|view| view.turn == turn) {
                    (view.at, view.user_sound, view.answer_sound) = (Some(at), user_sound, answer_sound);
                }
            }
            Event::DataFolder { path } => self.data_folder = path,
            Event::Memory { bytes } => self.meters.memory = bytes,
            Event::GpuMemory { bytes } => self.meters.gpu_memory = bytes,
            Event::Replaying(replay) => self.replaying = replay,
        }
    }

    /// Something to tell, also what does not come from the session. What it replaces is shown no longer.
    pub fn tell(&mut self, what: Told, remedy: Told, severity: Severity, now: Micros) {
        self.problems.retain(|problem| !what.replaces(&problem.what));
        self.problems.push(Problem { what, remedy, severity, since: now });
        if self.problems.len() > PROBLEMS_SHOWN {
            // The least severe goes first, among those the oldest.
            let least = (0..self.problems.len() - 1).min_by_key(|&i| self.problems[i].severity).unwrap_or(0);
            self.problems.remove(least);
        }
    }

    /// Whether the banner of the state says this already: the same, or something else that is wrong with the same device.
    pub fn state_says(&self, problem: &Problem) -> bool {
        let TurnState::Degraded { why } = &self.state else { return false };
        let device = problem.what.device().filter(|_| problem.severity != Severity::Note);
        why.contains(&problem.what) || (device.is_some() && why.iter().any(|why| why.device() == device))
    }

    pub fn dismiss(&mut self, index: usize) {
        if index < self.problems.len() {
            self.problems.remove(index);
        }
    }

    /// Lets notes go that have been there long enough. Returns when the next one will have been.
    pub fn expire_notes(&mut self, now: Micros) -> Option<Duration> {
        let age = |problem: &Problem| now.since(problem.since);
        self.problems.retain(|problem| problem.severity != Severity::Note || age(problem) < NOTE_STAYS);
        let notes = self.problems.iter().filter(|problem| problem.severity == Severity::Note);
        notes.map(|problem| NOTE_STAYS.saturating_sub(age(problem))).min()
    }

    /// The session ended without being asked to.
    pub fn session_lost(&mut self) {
        self.session_gone = true;
        self.loading = None;
        (self.mic_db, self.speaker_db) = (SILENCE_DB, SILENCE_DB);
    }

    /// Whether an answer is being thought of or sounds, or something is replayed, and can be stopped.
    pub fn can_interrupt(&self) -> bool {
        matches!(self.state, TurnState::Thinking | TurnState::Speaking | TurnState::Ducked) || self.replaying.is_some()
    }

    /// Whether there is somebody to talk to.
    pub fn can_talk(&self) -> bool {
        !self.session_gone && !matches!(self.state, TurnState::Idle | TurnState::Loading | TurnState::Faulted { .. })
    }

    /// Whether a pull is under way.
    pub fn is_pulling(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| matches!(pull.state, PullState::Fetching | PullState::Checking))
    }

    /// Whether this model is being fetched.
    pub fn is_fetching(&self, id: &str) -> bool {
        self.is_pulling() && self.pull.as_ref().is_some_and(|pull| pull.id == id)
    }

    /// The name of a model for people.
    pub fn title_of<'a>(&'a self, id: &'a str) -> &'a str {
        self.models.iter().find(|model| model.id == id).map_or(id, |model| &model.title)
    }

    /// Whether all models of a kind are here.
    pub fn has_all(&self, kind: ModelKind) -> bool {
        let mut of_kind = self.models.iter().filter(|model| model.kind == kind).peekable();
        of_kind.peek().is_some() && of_kind.all(|model| model.state == ModelState::Ready)
    }

    /// Whether something is not here that the engine needs.
    pub fn lacks_models(&self) -> bool {
        self.models.iter().any(|model| model.needed && model.state != ModelState::Ready)
    }

    /// Whether nothing can be said yet, because models are missing.
    pub fn is_first_run(&self) -> bool {
        self.turns.is_empty() && self.engine.is_none() && self.lacks_models()
    }

    /// The needed models that are not here and have no terms to be agreed to first, and the bytes still to fetch.
    pub fn missing(&self) -> (Vec<String>, u64) {
        self.missing_where(|_| true)
    }

    /// Those of them that the starter is made of.
    pub fn missing_starter(&self) -> (Vec<String>, u64) {
        self.missing_where(|model| model.kind == ModelKind::Starter)
    }

    fn missing_where(&self, counts: impl Fn(&ModelStatus) -> bool) -> (Vec<String>, u64) {
        let mut bytes = 0;
        let mut ids = Vec::new();
        for model in self.models.iter().filter(|model| model.needed && model.terms.is_none() && counts(model)) {
            bytes += match model.state {
                ModelState::Ready => continue,
                ModelState::Partial { have } => model.bytes.saturating_sub(have),
                ModelState::Absent | ModelState::Broken { .. } => model.bytes,
            };
            ids.push(model.id.clone());
        }
        (ids, bytes)
    }

    fn enter(&mut self, state: TurnState, now: Micros) {
        if self.state == state {
            return;
        }
        match state {
            TurnState::Loading => self.engine = None,
            TurnState::Idle | TurnState::Faulted { .. } => self.loading = None,
            _ => {}
        }
        self.state = state;
        self.since = now;
    }

    /// The turn with this number, begun if it is new. Turns begin in order; a late word for an old turn finds it.
    fn turn(&mut self, turn: u64) -> &mut TurnView {
        let index = match self.turns.iter().rposition(|view| view.turn == turn) {
            Some(index) => index,
            None => {
                if self.turns.len() == TURNS_SHOWN {
                    self.turns.remove(0);
                }
                self.turns.push(TurnView { turn, ..TurnView::default() });
                self.turns.len() - 1
            }
        };
        &mut self.turns[index]
    }

    fn end_turn(&mut self, report: TurnReport, bars: Vec<Bar>) {
        let view = self.turn(report.turn);
        if view.heard.is_empty() {
            view.heard.clone_from(&report.heard);
        }
        view.question_seconds = report.question_seconds;
        // The report has the whole answer, also when the pieces were not told.
        view.answer.clone_from(&report.answer);
        view.spoken = view.answer.floor_char_boundary(report.spoken_bytes);
        (view.heard_final, view.ended) = (true, true);
        view.cut_off = report.cut_off;
        view.ttfa_ms = report.ttfa_ms;
        let meters = &mut self.meters;
        for (histogram, value) in [
            (&mut meters.ttfa, report.ttfa_ms),
            (&mut meters.ttfa_compute, report.ttfa_compute_ms),
            (&mut meters.barge_in_stop, report.barge_in_stop_ms),
            (&mut meters.rtf, report.rtf),
        ] {
            if let Some(value) = value {
                histogram.add(value);
            }
        }
        meters.last = Some(report);
        meters.bars = bars;
        meters.marks = std::mem::take(&mut meters.coming);
    }
}

/// The time a pull still takes, once its speed is known.
pub fn time_left(pull: &PullProgress) -> Option<Duration> {
    let seconds = pull.total.saturating_sub(pull.done) as f64 / pull.bytes_per_second;
    (pull.bytes_per_second > 0.0 && seconds < 1e6).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
#[path = "view_state_tests.rs"]
mod tests;
