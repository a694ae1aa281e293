//! The ear thread: the microphone's sound at 16 kHz without the assistant's own voice in it, whether it is speech, and
//! whether a pause ends the turn.
//!
//! Owns the capture ring's reading end, the resampler, the echo canceller and the voice activity detector; the
//! end-of-turn model has a [thread of its own](super::judge), and is never waited for. Between looks at the ring the ear
//! sleeps some milliseconds: a callback may not wake it (that would be a system call). Invariant: every captured sample
//! is told to the session once, in order, in frames of 16 ms.

use super::command::Eagerness;
use super::inbox::{EarEvent, Inbox};
use super::judge::Judge;
use crate::audio::{CaptureEnd, EchoCanceller, FarEnd};
use crate::dsp::level::{self, AUDIBLE};
use crate::dsp::resample::Resampler;
use crate::engine::HEARING_RATE;
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use crate::turn::echo_gate::EchoGate;
use crate::turn::echo_path::EchoPath;
use crate::turn::endpoint::{self, Opinion, Verdict, decide, decide_by_silence};
use crate::turn::vad::{FRAME, Vad, VadChange, VadConfig, VadFrame};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

/// How long to sleep when the ring is empty.
const NAP: Duration = Duration::from_millis(4);
/// And while nobody says anything: a first word is noticed 28 ms later at most, for which nothing waits, and a laptop's
/// processor sleeps.
const IDLE_NAP: Duration = Duration::from_millis(32);
/// What the end-of-turn model looks at.
const MEMORY: usize = 8 * HEARING_RATE as usize;
/// A score above which a frame may hold the soft end of a word.
const FAINT: f32 = 0.1;
/// A frame from which so many dB were taken on suspicion may have lost somebody's words.
const TORN_DB: f32 = 10.0;
/// Frames of one mark of the ear's stages.
const MARK_EVERY: u32 = 32;

/// What the ear is told.
#[expect(clippy::large_enum_variant, reason = "sent when a device changes; a box would save nothing that is noticed")]
pub enum EarJob {
    /// Another microphone from now on (`None`: there is none).
    Card(Option<CaptureEnd>),
    /// Another loudspeaker, which the microphone may hear (`None`: there is none).
    Far(Option<FarEnd>),
    Eagerness(Eagerness),
    /// Whether the loudspeaker is a headphone, which the microphone does not hear: nothing is cancelled then.
    Headphones(bool),
    /// Whether the microphone's sound is taken for silence.
    Deaf(bool),
}

/// Runs until its job channel closes.
pub fn run(jobs: &Receiver<EarJob>, inbox: &SyncSender<Inbox>, judge: Judge, eagerness: Eagerness) {
    let mut ear = Ear::new(inbox, judge, eagerness);
    loop {
        let job = if ear.source.is_some() {
            match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match jobs.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            }
        };
        if let Some(job) = job {
            ear.take(job);
        }
        if !ear.listen() {
            std::thread::sleep(if ear.is_idle() { IDLE_NAP } else { NAP });
        }
    }
}

/// A microphone and the way from its rate to ours.
struct Source {
    capture: CaptureEnd,
    resampler: Resampler,
    raw: Vec<f32>,
    /// 16 kHz, less than a frame.
    rest: Vec<f32>,
}

/// The way from the loudspeaker to the microphone.
struct Echo {
    far: FarEnd,
    canceller: EchoCanceller,
    path: EchoPath,
    gate: EchoGate,
    /// What sounded during a frame.
    played: Vec<f32>,
}

impl Echo {
    fn of(far: FarEnd) -> Self {
        Echo {
            far,
            canceller: EchoCanceller::default(),
            path: EchoPath::default(),
            gate: EchoGate::default(),
            played: vec![0.0; FRAME],
        }
    }
}

/// The silence inside a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    /// Whether the session knows of it.
    told: bool,
    /// What the end-of-turn model said about it last.
    opinion: Option<Opinion>,
}

/// What is known of a frame without its echo.
struct Cleaned {
    /// When its last sample was captured.
    end: Micros,
    /// Whether it may be somebody.
    lets_through: bool,
    torn: bool,
}

/// Work in many small pieces, told as one mark: a frame takes microseconds.
struct Work {
    stage: Stage,
    frames: u32,
    time: Duration,
    first: Option<Micros>,
}

impl Work {
    fn on(stage: Stage) -> Self {
        Work { stage, frames: 0, time: Duration::ZERO, first: None }
    }

    /// A frame's work that began at `start` is done.
    fn done(&mut self, start: Micros) -> Option<StageMark> {
        let first = *self.first.get_or_insert(start);
        self.frames += 1;
        self.time += Micros::now().since(start);
        (self.frames == MARK_EVERY).then(|| {
            let (stage, end, units) = (self.stage, first + self.time, self.frames * FRAME as u32);
            *self = Work::on(stage);
            StageMark { epoch: 0, stage, start: first, end, units }
        })
    }
}

struct Ear<'a> {
    inbox: &'a SyncSender<Inbox>,
    source: Option<Source>,
    echo: Option<Echo>,
    headphones: bool,
    deaf: bool,
    vad: Vad,
    eagerness: endpoint::Eagerness,
    /// What is known of the turn that the user is in, if any.
    turn: Option<Pause>,
    judge: Judge,
    /// The last seconds heard.
    memory: VecDeque<f32>,
    last_voiced: Option<Micros>,
    vad_work: Work,
    echo_work: Work,
}

impl<'a> Ear<'a> {
    fn new(inbox: &'a SyncSender<Inbox>, judge: Judge, eagerness: Eagerness) -> Self {
        Ear {
            inbox,
            source: None,
            echo: None,
            headphones: false,
            deaf: false,
            vad: Vad::new(VadConfig::default()),
            eagerness: patience(eagerness),
            turn: None,
            judge,
            memory: VecDeque::with_capacity(MEMORY + FRAME),
            last_voiced: None,
            vad_work: Work::on(Stage::Vad),
            echo_work: Work::on(Stage::Echo),
        }
    }

    /// Whether the user is in no turn, and the loudspeaker has been silent for a while.
    fn is_idle(&self) -> bool {
        self.turn.is_none() && self.echo.as_ref().is_none_or(|echo| echo.canceller.is_resting())
    }

    fn tell(&self, event: EarEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Ear(event));
    }

    fn take(&mut self, job: EarJob) {
        match job {
            EarJob::Card(capture) => self.listen_to(capture),
            EarJob::Far(far) => self.echo = far.map(Echo::of),
            EarJob::Eagerness(eagerness) => self.eagerness = patience(eagerness),
            EarJob::Headphones(worn) => self.headphones = worn,
            EarJob::Deaf(deaf) => self.deaf = deaf,
        }
    }

    /// Another microphone takes over in the middle of a turn, or none does, and then the turn is over.
    fn listen_to(&mut self, capture: Option<CaptureEnd>) {
        // What the one before has heard still belongs to the turn.
        self.listen();
        if capture.is_none() {
            self.vad.reset();
            self.turn = None;
            self.judge.forget();
        }
        self.source = capture.and_then(|capture| match Resampler::new(capture.rate, HEARING_RATE) {
            Ok(resampler) => Some(Source { capture, resampler, raw: Vec::new(), rest: Vec::new() }),
            Err(error) => {
                tracing::error!("the microphone cannot be used: {error}");
                None
            }
        });
        // Another microphone stands in another place.
        self.echo = self.echo.take().map(|echo| Echo::of(echo.far));
    }

    /// Hears what is there; `false` when nothing was.
    fn listen(&mut self) -> bool {
        let Some(source) = &mut self.source else { return false };
        source.raw.clear();
        if source.capture.read(&mut source.raw) == 0 {
            return false;
        }
        source.resampler.process(&source.raw, &mut source.rest);
        let newest = source.capture.time_of_newest_read().unwrap_or_else(Micros::now);
        let frames = source.rest.len() / FRAME;
        let mut sound: Vec<f32> = source.rest.drain(..frames * FRAME).collect();
        // The filter's delay is sound that was read but has not come out yet.
        let behind = source.rest.len() as u64;
        let filter = Micros::of_samples(source.resampler.delay() as u64, source.capture.rate);
        for (i, frame) in sound.chunks_exact_mut(FRAME).enumerate() {
            let after = ((frames - 1 - i) * FRAME) as u64 + behind;
            let end = newest - Micros::of_samples(after, HEARING_RATE) - filter;
            let cleaned = self.without_echo(frame, end, newest);
            if self.deaf {
                frame.fill(0.0);
            }
            self.frame(frame, cleaned);
        }
        true
    }

    /// Takes the echo out of a frame that ends at `end`.
    fn without_echo(&mut self, frame: &mut [f32], end: Micros, newest: Micros) -> Cleaned {
        let Some(echo) = self.echo.as_mut().filter(|_| !self.headphones) else {
            return Cleaned { end, lets_through: true, torn: false };
        };
        let start = Micros::now();
        echo.far.sounded(end, newest, &mut echo.played);
        let far_db = level::rms_db(&echo.played);
        let possible = echo.path.hear(far_db, level::rms_db(frame));
        let cancelled = echo.canceller.process(&echo.played, frame, possible.as_it_came);
        echo.path.explained(cancelled.explained_db);
        // The gate knows what cancelling leaves, and nothing of sound that was left as it came.
        let left = echo.gate.lets_through(far_db, level::rms_db(frame));
        let lets_through = possible.somebody || (left && !possible.as_it_came);
        if let Some(mark) = self.echo_work.done(start) {
            self.tell(EarEvent::Mark(mark));
        }
        let end = end - Micros::of_samples(EchoCanceller::DELAY as u64, HEARING_RATE);
        Cleaned { end, lets_through, torn: cancelled.suppressed_db > TORN_DB && !possible.as_it_came }
    }

    fn frame(&mut self, frame: &[f32], Cleaned { end, lets_through, torn }: Cleaned) {
        let surplus = (self.memory.len() + FRAME).saturating_sub(MEMORY);
        self.memory.drain(..surplus);
        self.memory.extend(frame);
        let start = Micros::now();
        let mut heard = VadFrame::default();
        self.vad.push_gated(frame, lets_through, |f| heard = f);
        if let Some(mark) = self.vad_work.done(start) {
            self.tell(EarEvent::Mark(mark));
        }
        let voiced = heard.speech && heard.silence_ms == 0;
        if (voiced || heard.score > FAINT)
            && let Some(last) = frame.iter().rposition(|x| x.abs() > AUDIBLE)
        {
            self.last_voiced = Some(end - Micros::of_samples((FRAME - 1 - last) as u64, HEARING_RATE));
        }
        self.tell(EarEvent::Frame { samples: frame.to_vec(), end, speech: voiced, torn });
        if heard.change == Some(VadChange::Onset) {
            if self.turn.is_none_or(|pause| pause.told) {
                self.tell(EarEvent::Onset);
            }
            self.turn = Some(Pause::default());
            self.judge.forget();
        } else if !heard.speech {
            self.silence(heard.silence_ms, end);
        }
    }

    /// The user, in the middle of a turn, has been silent for so long.
    fn silence(&mut self, silence_ms: u32, now: Micros) {
        let answer = self.judge.answer();
        let Some(pause) = &mut self.turn else { return };
        let first = !std::mem::replace(&mut pause.told, true);
        pause.opinion = answer.or(pause.opinion);
        let verdict = if self.judge.is_ready() {
            decide(self.eagerness, silence_ms, pause.opinion)
        } else {
            decide_by_silence(self.eagerness, silence_ms)
        };
        if first {
            self.tell(EarEvent::Pause);
        }
        match verdict {
            Verdict::AskModel if !self.judge.is_asked() => {
                self.judge.ask(silence_ms, self.memory.iter().copied().collect());
            }
            Verdict::AskModel | Verdict::Wait => {}
            Verdict::EndOfTurn => {
                self.turn = None;
                self.judge.forget();
                let last_voiced = self.last_voiced.unwrap_or(now);
                self.tell(EarEvent::EndOfTurn { last_voiced });
            }
        }
    }
}

/// The user's word for it.
fn patience(eagerness: Eagerness) -> endpoint::Eagerness {
    match eagerness {
        Eagerness::Patient => endpoint::Eagerness::Low,
        Eagerness::Balanced => endpoint::Eagerness::Medium,
        Eagerness::Eager => endpoint::Eagerness::High,
    }
}

#[cfg(test)]
#[path = "ear_tests.rs"]
mod tests;
