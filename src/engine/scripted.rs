//! An engine that plays a written script with given timings: for tests, demonstrations and fault drills.
//!
//! Lives on the engine thread like any other. A script says per turn what was "heard", and then step by step what is
//! written and sounds, after which delay, and with which faults. Everything the house asks of the engine is recorded, so
//! that a test can read what happened. Invariants: the cancel token is looked at before, during and after every delay;
//! with the same script and the same calls, the same things are given to the sink.

use super::{
    CancelToken, Engine, EngineError, EngineInfo, EngineSession, PastTurn, PcmChunk, ReplyEnd, ResponseSink,
    SessionSetup,
};
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a scripted engine does. In JSON or TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Hertz of all sound.
    pub output_rate: u32,
    /// After the last turn, begin again with the first; otherwise nothing more is heard.
    pub repeat: bool,
    pub turns: Vec<Turn>,
}

impl Default for Script {
    fn default() -> Self {
        Self { output_rate: 24_000, repeat: false, turns: Vec::new() }
    }
}

/// One turn: what the user is taken to have said, and the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// What was understood of speech; typed words stand for themselves. Empty: nothing was heard.
    pub heard: String,
    /// Time to think, between the end of the user's turn and the first step.
    pub delay_ms: u64,
    pub steps: Vec<Step>,
}

/// One step of an answer, done after `delay_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// More of the answer's text.
    Text {
        text: String,
        #[serde(default)]
        delay_ms: u64,
    },
    /// More of the answer's sound.
    Audio(Audio),
    /// The engine fails.
    Fail {
        message: String,
        #[serde(default)]
        delay_ms: u64,
    },
    /// The engine panics.
    Panic {
        message: String,
        #[serde(default)]
        delay_ms: u64,
    },
}

/// A chunk of sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audio {
    pub sound: Sound,
    /// How long it is; not used for [`Sound::Samples`].
    #[serde(default)]
    pub seconds: f32,
    #[serde(default)]
    pub delay_ms: u64,
    /// How much of its beginning sounds together with the end of the chunk before.
    #[serde(default)]
    pub overlap_ms: u32,
    /// Bytes of text spoken when it has been played; as a rule, all that was given before it.
    #[serde(default)]
    pub text_end: Option<usize>,
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// What a chunk sounds like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sound {
    /// A sine at 0.3 of full scale. Its phase goes on from chunk to chunk, so that seams can be checked.
    Tone {
        hz: f32,
    },
    Silence,
    /// White noise at 0.1 of full scale.
    Noise {
        seed: u64,
    },
    /// Given samples at the script's rate.
    Samples(Vec<f32>),
}

/// What is wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its middle sample is not a number.
    Nan,
    /// It has no samples, though it is not the last.
    Empty,
    /// It is four times too loud.
    Clipped,
}

/// Something the house asked of a scripted engine, or that came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    Opened(SessionSetup),
    Recalled(Vec<PastTurn>),
    /// Samples heard in one call.
    Heard(usize),
    Paused,
    Read(String),
    /// An answer began: the script's turn.
    Responding(usize),
    /// It ended.
    Ended(ReplyEnd),
    Truncated(usize),
    Retracted,
    Discarded,
    /// It is to speak at this speed.
    Speed(f32),
}

/// What happened so far; all clones are one record.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Vec<Recorded>>>);

impl Record {
    fn add(&self, what: Recorded) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Everything so far, in order.
    pub fn all(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets everything so far: a dialogue of hours would fill the memory with it.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many samples were heard so far.
    pub fn samples_heard(&self) -> usize {
        self.all().iter().map(|r| if let Recorded::Heard(n) = r { *n } else { 0 }).sum()
    }
}

/// Waits for a time, or until the token is cancelled.
pub type Sleeper = Arc<dyn Fn(Duration, &CancelToken) + Send + Sync>;

/// Really sleeps, looking at the token every few milliseconds.
pub fn real_sleep(time: Duration, cancel: &CancelToken) {
    let end = Micros::now() + time;
    while !cancel.is_cancelled() {
        let left = end.since(Micros::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(5)));
    }
}

/// The engine.
pub struct ScriptedEngine {
    script: Arc<Script>,
    record: Record,
    sleeper: Sleeper,
}

impl ScriptedEngine {
    pub fn new(script: Script) -> Self {
        Self { script: Arc::new(script), record: Record::default(), sleeper: Arc::new(real_sleep) }
    }

    /// Waits as `sleeper` does.
    pub fn with_sleeper(mut self, sleeper: Sleeper) -> Self {
        self.sleeper = sleeper;
        self
    }

    /// The record of all sessions of this engine.
    pub fn record(&self) -> Record {
        self.record.clone()
    }
}

impl Engine for ScriptedEngine {
    fn info(&self) -> EngineInfo {
        let steps = self.script.turns.iter().flat_map(|t| &t.steps);
        let overlaps = steps.map(|s| if let Step::Audio(a) = s { a.overlap_ms } else { 0 });
        EngineInfo {
            name: "scripted",
            description: format!("a script of {} turns", self.script.turns.len()),
            output_rate: self.script.output_rate,
            max_overlap: samples_of(overlaps.max().unwrap_or(0) as f32 / 1000.0, self.script.output_rate),
            clones_voices: true,
            transcribes: true,
        }
    }

    fn open(&mut self, setup: &SessionSetup) -> Result<Box<dyn EngineSession>, EngineError> {
        if self.script.output_rate == 0 {
            return Err(EngineError::Unsupported("the script's output_rate is 0: write a rate in hertz".into()));
        }
        self.record.add(Recorded::Opened(setup.clone()));
        Ok(Box::new(ScriptedSession {
            script: self.script.clone(),
            record: self.record.clone(),
            sleeper: self.sleeper.clone(),
            turn: 0,
            heard: 0,
            typed: String::new(),
            before: None,
        }))
    }

    fn set_speed(&mut self, speed: f32) {
        self.record.add(Recorded::Speed(speed));
    }

    /// The text at once, and for each word a tone of 0.3 s.
    fn read_aloud(
        &mut self,
        text: &str,
        _setup: &SessionSetup,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<ReplyEnd, EngineError> {
        let seconds = 0.3 * text.split_whitespace().count() as f32;
        let tone = Audio {
            sound: Sound::Tone { hz: 220.0 },
            seconds,
            delay_ms: 0,
            overlap_ms: 0,
            text_end: None,
            fault: None,
        };
        let steps = [Step::Text { text: text.to_owned(), delay_ms: 0 }, Step::Audio(tone)];
        Player { rate: self.script.output_rate, sleeper: &self.sleeper, sink, cancel }.play(&steps)
    }
}

/// The state before the last answer, to which `retract` goes back.
struct Before {
    turn: usize,
    heard: usize,
    typed: String,
}

struct ScriptedSession {
    script: Arc<Script>,
    record: Record,
    sleeper: Sleeper,
    /// The turn of the script that comes next.
    turn: usize,
    /// Samples and words of the user's turn so far.
    heard: usize,
    typed: String,
    before: Option<Before>,
}

impl ScriptedSession {
    fn current(&self) -> Option<usize> {
        let n = self.script.turns.len();
        if self.turn < n { Some(self.turn) } else { (self.script.repeat && n > 0).then(|| self.turn % n) }
    }

    /// What was understood of the user's speech, if any came.
    fn spoken(&self) -> &str {
        match self.current() {
            Some(turn) if self.heard > 0 => &self.script.turns[turn].heard,
            _ => "",
        }
    }
}

impl EngineSession for ScriptedSession {
    fn recall(&mut self, past: &[PastTurn]) -> Result<(), EngineError> {
        self.record.add(Recorded::Recalled(past.to_vec()));
        Ok(())
    }

    fn hear(&mut self, pcm: &[f32], _sink: &Arc<dyn ResponseSink>) -> Result<(), EngineError> {
        self.heard += pcm.len();
        self.record.add(Recorded::Heard(pcm.len()));
        Ok(())
    }

    fn pause(&mut self, sink: &Arc<dyn ResponseSink>, _cancel: &CancelToken) -> Result<(), EngineError> {
        self.record.add(Recorded::Paused);
        if !self.spoken().is_empty() {
            sink.heard(self.spoken(), false);
        }
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), EngineError> {
        self.typed.push_str(text);
        self.record.add(Recorded::Read(text.to_owned()));
        Ok(())
    }

    fn respond(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<ReplyEnd, EngineError> {
        let words = [self.typed.trim(), self.spoken()].join(" ").trim().to_owned();
        let turn = self.current().filter(|_| !words.is_empty());
        self.record.add(Recorded::Responding(turn.unwrap_or(self.turn)));
        let (heard, typed) = (std::mem::take(&mut self.heard), std::mem::take(&mut self.typed));
        self.before = Some(Before { turn: self.turn, heard, typed });
        let Some(turn) = turn else {
            // A cough uses up a turn of the script that has nothing to hear, and no other.
            let mute = self.current().is_some_and(|t| self.script.turns[t].heard.is_empty());
            self.turn += usize::from(mute && heard > 0);
            self.record.add(Recorded::Ended(ReplyEnd::NothingHeard));
            return Ok(ReplyEnd::NothingHeard);
        };
        self.turn += 1;
        sink.heard(&words, true);
        let player = Player { rate: self.script.output_rate, sleeper: &self.sleeper, sink, cancel };
        let turn = &self.script.turns[turn];
        let end = if player.wait(turn.delay_ms) { player.play(&turn.steps)? } else { ReplyEnd::Cancelled };
        self.record.add(Recorded::Ended(end));
        Ok(end)
    }

    fn truncate(&mut self, heard_bytes: usize) -> Result<(), EngineError> {
        self.record.add(Recorded::Truncated(heard_bytes));
        Ok(())
    }

    fn retract(&mut self) -> Result<(), EngineError> {
        self.record.add(Recorded::Retracted);
        if let Some(before) = self.before.take() {
            self.turn = before.turn;
            self.heard += before.heard;
            self.typed.insert_str(0, &before.typed);
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), EngineError> {
        self.record.add(Recorded::Discarded);
        self.heard = 0;
        self.typed.clear();
        Ok(())
    }
}

/// Plays the steps of one answer.
struct Player<'a> {
    rate: u32,
    sleeper: &'a Sleeper,
    sink: &'a Arc<dyn ResponseSink>,
    cancel: &'a CancelToken,
}

impl Player<'_> {
    /// `false` when cancelled meanwhile.
    fn wait(&self, ms: u64) -> bool {
        if ms > 0 && !self.cancel.is_cancelled() {
            (self.sleeper)(Duration::from_millis(ms), self.cancel);
        }
        !self.cancel.is_cancelled()
    }

    fn play(&self, steps: &[Step]) -> Result<ReplyEnd, EngineError> {
        let last = steps.iter().rposition(|s| matches!(s, Step::Audio(_)));
        let (mut text_end, mut ended) = (0, false);
        // Samples of tone so far, so that a tone goes on where the chunk before left it.
        let mut phase = 0;
        for (i, step) in steps.iter().enumerate() {
            let start = Micros::now();
            let mark = |stage, units: usize| {
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                self.sink.mark(StageMark { epoch: 0, stage, start, end: Micros::now(), units });
            };
            match step {
                Step::Text { text, delay_ms } => {
                    if !self.wait(*delay_ms) {
                        return Ok(ReplyEnd::Cancelled);
                    }
                    self.sink.text(text);
                    text_end += text.len();
                    mark(Stage::LlmDecode, 1);
                }
                Step::Audio(audio) => {
                    if !self.wait(audio.delay_ms) {
                        return Ok(ReplyEnd::Cancelled);
                    }
                    let overlap = samples_of(audio.overlap_ms as f32 / 1000.0, self.rate);
                    phase -= overlap.min(phase);
                    let samples = audio.samples(self.rate, phase);
                    phase += samples.len();
                    mark(Stage::TtsDecode, samples.len());
                    let overlap = overlap.min(samples.len());
                    // The end may come only when nothing follows that could fail.
                    ended = last == Some(i) && i + 1 == steps.len();
                    let text_end = audio.text_end.unwrap_or(text_end);
                    if !self.sink.audio(PcmChunk { samples, overlap, text_end, last: ended }) {
                        return Ok(ReplyEnd::Cancelled);
                    }
                }
                Step::Fail { message, delay_ms } => {
                    if !self.wait(*delay_ms) {
                        return Ok(ReplyEnd::Cancelled);
                    }
                    return Err(EngineError::Model(message.clone()));
                }
                Step::Panic { message, delay_ms } => {
                    if !self.wait(*delay_ms) {
                        return Ok(ReplyEnd::Cancelled);
                    }
                    // The purpose of this step: a drill for what catches panics.
                    #[expect(clippy::panic, reason = "the script asks for it: engines of others may panic too")]
                    {
                        panic!("{message}");
                    }
                }
            }
        }
        if !ended && !self.sink.audio(PcmChunk { samples: Vec::new(), overlap: 0, text_end, last: true }) {
            return Ok(ReplyEnd::Cancelled);
        }
        Ok(if self.cancel.is_cancelled() { ReplyEnd::Cancelled } else { ReplyEnd::Complete })
    }
}

impl Audio {
    /// The chunk's samples; a tone begins `phase` samples into its sine.
    fn samples(&self, rate: u32, phase: usize) -> Vec<f32> {
        let n = samples_of(self.seconds, rate);
        let mut samples: Vec<f32> = match &self.sound {
            Sound::Tone { hz } => {
                let turn = f64::from(*hz) * std::f64::consts::TAU / f64::from(rate);
                (phase..phase + n).map(|i| 0.3 * (turn * i as f64).sin() as f32).collect()
            }
            Sound::Silence => vec![0.0; n],
            Sound::Noise { seed } => {
                let mut rng = StdRng::seed_from_u64(*seed);
                (0..n).map(|_| rng.random_range(-0.1..0.1)).collect()
            }
            Sound::Samples(samples) => samples.clone(),
        };
        match self.fault {
            Some(Fault::Empty) => samples.clear(),
            Some(Fault::Clipped) => samples.iter_mut().for_each(|x| *x *= 4.0),
            Some(Fault::Nan) => {
                let middle = samples.len() / 2;
                samples.iter_mut().skip(middle).take(1).for_each(|x| *x = f32::NAN);
            }
            None => {}
        }
        samples
    }
}

fn samples_of(seconds: f32, rate: u32) -> usize {
    (f64::from(seconds) * f64::from(rate)).round().max(0.0) as usize
}

#[cfg(test)]
mod tests;
