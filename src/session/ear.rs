//! The ear thread: the microphone's sound at 16 kHz, whether it is speech, and whether a pause ends the turn.
//!
//! Owns the capture ring's reading end, the resampler, the voice activity detector and the end-of-turn model. Between
//! looks at the ring it sleeps a few milliseconds: a callback may not wake it (that would be a system call). Invariant:
//! every captured sample is told to the session once, in order, in frames of 16 ms.

use super::command::Eagerness;
use super::inbox::{EarEvent, Inbox};
use crate::audio::CaptureEnd;
use crate::dsp::level::AUDIBLE;
use crate::dsp::resample::Resampler;
use crate::engine::HEARING_RATE;
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use crate::turn::endpoint::{self, Opinion, Verdict, decide, decide_by_silence};
use crate::turn::smart_turn::SmartTurn;
use crate::turn::vad::{FRAME, Vad, VadChange, VadConfig, VadFrame};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

/// How long to sleep when the ring is empty.
const NAP: Duration = Duration::from_millis(4);
/// What the end-of-turn model looks at.
const MEMORY: usize = 8 * HEARING_RATE as usize;
/// A score above which a frame may hold the soft end of a word.
const FAINT: f32 = 0.1;
/// Frames of one [`Stage::Vad`] mark.
const MARK_EVERY: u32 = 32;

/// Loads the end-of-turn model, on the ear's thread; `None` leaves the decision to silence alone.
pub type EndOfTurnModel = Box<dyn FnOnce() -> Option<SmartTurn> + Send>;

/// What the ear is told.
pub enum EarJob {
    /// Another microphone from now on (`None`: there is none).
    Card(Option<CaptureEnd>),
    Eagerness(Eagerness),
}

/// Runs until its job channel closes.
pub fn run(jobs: &Receiver<EarJob>, inbox: &SyncSender<Inbox>, model: EndOfTurnModel, eagerness: Eagerness) {
    let mut ear = Ear {
        inbox,
        source: None,
        vad: Vad::new(VadConfig::default()),
        eagerness: patience(eagerness),
        turn: None,
        model: model(),
        memory: VecDeque::with_capacity(MEMORY + FRAME),
        last_voiced: None,
        vad_work: (0, Duration::ZERO, None),
    };
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
        match job {
            Some(EarJob::Card(capture)) => ear.listen_to(capture),
            Some(EarJob::Eagerness(eagerness)) => ear.eagerness = patience(eagerness),
            None => {}
        }
        if !ear.listen() {
            std::thread::sleep(NAP);
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

/// The silence inside a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    /// Whether the session knows of it.
    told: bool,
    /// What the end-of-turn model said about it last.
    opinion: Option<Opinion>,
}

struct Ear<'a> {
    inbox: &'a SyncSender<Inbox>,
    source: Option<Source>,
    vad: Vad,
    eagerness: endpoint::Eagerness,
    /// What is known of the turn that the user is in, if any.
    turn: Option<Pause>,
    model: Option<SmartTurn>,
    /// The last seconds heard.
    memory: VecDeque<f32>,
    last_voiced: Option<Micros>,
    /// Frames, time and start since the last mark of the detector's work.
    vad_work: (u32, Duration, Option<Micros>),
}

impl Ear<'_> {
    fn tell(&self, event: EarEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Ear(event));
    }

    /// Another microphone takes over in the middle of a turn, or none does, and then the turn is over.
    fn listen_to(&mut self, capture: Option<CaptureEnd>) {
        // What the one before has heard still belongs to the turn.
        self.listen();
        if capture.is_none() {
            self.vad.reset();
            self.turn = None;
        }
        self.source = capture.and_then(|capture| match Resampler::new(capture.rate, HEARING_RATE) {
            Ok(resampler) => Some(Source { capture, resampler, raw: Vec::new(), rest: Vec::new() }),
            Err(error) => {
                tracing::error!("the microphone cannot be used: {error}");
                None
            }
        });
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
        let sound: Vec<f32> = source.rest.drain(..frames * FRAME).collect();
        // The filter's delay is sound that was read but has not come out yet.
        let behind = source.rest.len() as u64;
        let filter = Micros::of_samples(source.resampler.delay() as u64, source.capture.rate);
        for (i, frame) in sound.chunks_exact(FRAME).enumerate() {
            let after = ((frames - 1 - i) * FRAME) as u64 + behind;
            self.frame(frame, newest - Micros::of_samples(after, HEARING_RATE) - filter);
        }
        true
    }

    fn frame(&mut self, frame: &[f32], end: Micros) {
        let surplus = (self.memory.len() + FRAME).saturating_sub(MEMORY);
        self.memory.drain(..surplus);
        self.memory.extend(frame);
        let start = Micros::now();
        let mut heard = VadFrame::default();
        self.vad.push(frame, |f| heard = f);
        self.mark_vad(start);
        let voiced = heard.speech && heard.silence_ms == 0;
        if (voiced || heard.score > FAINT)
            && let Some(last) = frame.iter().rposition(|x| x.abs() > AUDIBLE)
        {
            self.last_voiced = Some(end - Micros::of_samples((FRAME - 1 - last) as u64, HEARING_RATE));
        }
        self.tell(EarEvent::Frame { samples: frame.to_vec(), end, speech: voiced });
        if heard.change == Some(VadChange::Onset) {
            if self.turn.is_none_or(|pause| pause.told) {
                self.tell(EarEvent::Onset);
            }
            self.turn = Some(Pause::default());
        } else if !heard.speech {
            self.silence(heard.silence_ms, end);
        }
    }

    /// The user, in the middle of a turn, has been silent for so long.
    fn silence(&mut self, silence_ms: u32, now: Micros) {
        let Some(mut pause) = self.turn else { return };
        if !pause.told {
            pause.told = true;
            self.tell(EarEvent::Pause);
        }
        let mut verdict = match self.model {
            Some(_) => decide(self.eagerness, silence_ms, pause.opinion),
            None => decide_by_silence(self.eagerness, silence_ms),
        };
        if verdict == Verdict::AskModel {
            pause.opinion = self.ask_model(silence_ms);
            verdict = decide(self.eagerness, silence_ms, pause.opinion);
        }
        self.turn = Some(pause);
        if verdict == Verdict::EndOfTurn {
            self.turn = None;
            let last_voiced = self.last_voiced.unwrap_or(now);
            self.tell(EarEvent::EndOfTurn { last_voiced });
        }
    }

    /// Asks the end-of-turn model about what was heard in the last seconds.
    fn ask_model(&mut self, silence_ms: u32) -> Option<Opinion> {
        let model = self.model.as_mut()?;
        match model.probability(self.memory.make_contiguous()) {
            Ok(complete) => {
                tracing::debug!("after {silence_ms} ms of silence the turn is complete with probability {complete:.2}");
                Some(Opinion { asked_at_ms: silence_ms, complete })
            }
            Err(error) => {
                tracing::warn!("{error}");
                self.model = None;
                None
            }
        }
    }

    /// One mark for many frames: a frame takes microseconds.
    fn mark_vad(&mut self, start: Micros) {
        let (frames, work, first) = &mut self.vad_work;
        let first = *first.get_or_insert(start);
        *frames += 1;
        *work += Micros::now().since(start);
        if *frames == MARK_EVERY {
            let end = first + *work;
            let mark = StageMark { epoch: 0, stage: Stage::Vad, start: first, end, units: *frames * FRAME as u32 };
            self.vad_work = (0, Duration::ZERO, None);
            self.tell(EarEvent::Mark(mark));
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
