//! The voice thread of the starter engine: speaks clauses one after the other while the rest of the answer is written.
//!
//! Owns the voice. Takes clauses through a bounded channel; a cancelled reply's clauses pass through unspoken. Invariant:
//! the sound of a reply leaves in the order of its clauses, and its last chunk is marked as such.

use super::clauses::Clause;
use super::tts::{Spoken, Voice, spoken_bytes};
use crate::engine::text::speakable::speakable;
use crate::engine::{CancelToken, EngineError, PcmChunk, ResponseSink};
use crate::metrics::{Stage, StageMark};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

/// Clauses that may wait to be spoken: more than any answer has.
const WAITING: usize = 256;

enum Job {
    Clause {
        clause: Clause,
        sink: Arc<dyn ResponseSink>,
        cancel: CancelToken,
    },
    /// The reply's text is over, `text_end` bytes long; tells how its speaking went.
    End {
        text_end: usize,
        sink: Arc<dyn ResponseSink>,
        cancel: CancelToken,
        done: SyncSender<Result<(), EngineError>>,
    },
    Seed(u64),
    Speed(f32),
}

/// The engine's end of the voice thread, which ends when this is dropped.
pub struct Speaker {
    jobs: SyncSender<Job>,
    rate: u32,
}

impl Speaker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub fn start(voice: Voice) -> Result<Self, EngineError> {
        let rate = voice.rate();
        let (jobs, inbox) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new()
            .name("voice".into())
            .spawn(move || run(voice, &inbox))
            .map_err(|e| EngineError::Model(format!("no thread for the voice ({e}): close other programs")))?;
        Ok(Speaker { jobs, rate })
    }

    /// Hertz of the sound.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Makes what is spoken from now on repeatable.
    pub fn seed(&self, seed: u64) -> Result<(), EngineError> {
        self.give(Job::Seed(seed))
    }

    /// What is spoken from now on is spoken at this speed; see [`Voice::set_speed`].
    pub fn speed(&self, speed: f32) -> Result<(), EngineError> {
        self.give(Job::Speed(speed))
    }

    /// Has a clause spoken after those before it.
    pub fn say(&self, clause: Clause, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError> {
        self.give(Job::Clause { clause, sink: Arc::clone(sink), cancel: cancel.clone() })
    }

    /// The reply's text is over. What is returned tells, once everything was spoken or cancelled, how that went.
    pub fn end(
        &self,
        text_end: usize,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<Receiver<Result<(), EngineError>>, EngineError> {
        let (done, told) = mpsc::sync_channel(1);
        self.give(Job::End { text_end, sink: Arc::clone(sink), cancel: cancel.clone(), done })?;
        Ok(told)
    }

    fn give(&self, job: Job) -> Result<(), EngineError> {
        self.jobs.send(job).map_err(|_| gone())
    }
}

/// What to report when the voice thread has died.
pub fn gone() -> EngineError {
    EngineError::Model("the voice stopped unexpectedly: press Retry to load it again".into())
}

fn run(mut voice: Voice, jobs: &Receiver<Job>) {
    let mut failure = None;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Seed(seed) => voice.seed(seed),
            Job::Speed(speed) => voice.set_speed(speed),
            Job::Clause { clause, sink, cancel } => {
                if failure.is_none() && !cancel.is_cancelled() {
                    failure = speak(&mut voice, &clause, &sink, &cancel).err();
                }
            }
            Job::End { text_end, sink, cancel, done } => {
                if failure.is_none() && !cancel.is_cancelled() {
                    sink.audio(PcmChunk { samples: Vec::new(), overlap: 0, text_end, last: true });
                }
                // The engine may have stopped waiting.
                let _ = done.send(failure.take().map_or(Ok(()), Err));
            }
        }
    }
}

fn speak(
    voice: &mut Voice,
    clause: &Clause,
    sink: &Arc<dyn ResponseSink>,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let text = speakable(&clause.text);
    let units = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    voice.speak(&text, clause.end, cancel, &mut |spoken| match spoken {
        Spoken::Prepared { start, end, phonemes } => {
            sink.mark(StageMark { epoch: 0, stage: Stage::TtsPrefill, start, end, units: units(phonemes) });
            true
        }
        Spoken::Sound { start, end, samples, done } => {
            sink.mark(StageMark { epoch: 0, stage: Stage::TtsDecode, start, end, units: units(samples.len()) });
            let text_end = clause.range.start + spoken_bytes(&clause.text, done);
            sink.audio(PcmChunk { samples, overlap: 0, text_end, last: false })
        }
    })?;
    Ok(())
}
