//! `antiphon bench --turns N`: one long conversation, as fast as the engine can, to see whether memory and time per turn
//! stay level, and whether the memory comes back.
//!
//! Runs on the main thread, which is the engine's here: no card, no real time. The questions come again and again; the
//! answers are held to a few words, so that turns can be compared; what is said before them grows until the oldest is
//! forgotten.

use super::lines::hearable;
use crate::cli::engines::EngineChoice;
use crate::cli::{Failure, Outcome, interrupted, print};
use crate::engine::{CancelToken, EngineSession, PcmChunk, ResponseSink, SessionSetup};
use crate::metrics::{Stage, StageMark, memory_held};
use crate::time::Micros;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Short answers of nearly the same length, when the user has not said who the assistant is.
const PERSONA: &str = "Whatever is said to you, answer with these words and no others: All right, I see.";
/// The conversation is looked at in so many stretches.
const STRETCHES: usize = 4;
/// Samples that are given to the engine at a time.
const PIECE: usize = 4000;

/// What came of one turn.
#[derive(Default)]
struct Made {
    first_sound: Option<Micros>,
    samples: usize,
    marks: Vec<StageMark>,
}

/// Takes what the engine makes.
#[derive(Default)]
struct Taker(Mutex<Made>);

impl Taker {
    fn with<T>(&self, work: impl FnOnce(&mut Made) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResponseSink for Taker {
    fn heard(&self, _: &str, _: bool) {}

    fn text(&self, _: &str) {}

    fn audio(&self, chunk: PcmChunk) -> bool {
        self.with(|made| {
            made.samples += chunk.samples.len();
            if !chunk.samples.is_empty() {
                made.first_sound.get_or_insert_with(Micros::now);
            }
        });
        true
    }

    fn mark(&self, mark: StageMark) {
        self.with(|made| made.marks.push(mark));
    }
}

/// One turn, in figures.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// From the end of the question to the end of the answer.
    ms: f64,
    first_sound_ms: f64,
    ms_a_token: f64,
    memory: u64,
}

/// A stretch of the conversation: medians, and the memory at its end.
#[derive(Debug, Serialize)]
struct Stretch {
    turns: usize,
    turn_ms: f64,
    first_sound_ms: f64,
    ms_a_token: f64,
    memory: u64,
}

#[derive(Debug, Serialize)]
struct Conversation<'a> {
    version: &'static str,
    description: &'a str,
    /// Memory when the engine is loaded and has held one turn, before the conversation.
    memory_idle: u64,
    /// Memory when the conversation is over.
    memory_after: u64,
    stretches: &'a [Stretch],
    /// The last stretch's median over the first's.
    turn_grows: f64,
    memory_grows: f64,
}

/// Holds the conversation and prints the figures.
pub fn run(turns: usize, files: &[PathBuf], choice: &EngineChoice, mut setup: SessionSetup, json: bool) -> Outcome {
    choice.check()?;
    if setup.system_prompt.is_empty() {
        PERSONA.clone_into(&mut setup.system_prompt);
    }
    let questions: Vec<Vec<f32>> = files.iter().map(|f| hearable(f)).collect::<Result<_, _>>()?;
    let mut engine = choice.loader()(&mut |_, _| {}).map_err(Failure::working)?;
    let mut warm = engine.open(&setup).map_err(Failure::working)?;
    for question in &questions {
        turn(&mut *warm, question)?;
    }
    drop(warm);
    let memory_idle = memory_held();
    let mut session = engine.open(&setup).map_err(Failure::working)?;
    let mut held = Vec::with_capacity(turns);
    for question in questions.iter().cycle().take(turns) {
        held.push(turn(&mut *session, question)?);
        if interrupted() {
            return Err(Failure::interrupted());
        }
    }
    drop(session);
    let memory_after = memory_held();
    let stretches: Vec<Stretch> = held.chunks(turns.div_ceil(STRETCHES).max(1)).map(stretch).collect();
    let grows = |of: &dyn Fn(&Stretch) -> f64| match (stretches.first(), stretches.last()) {
        (Some(first), Some(last)) if of(first) > 0.0 => of(last) / of(first),
        _ => 1.0,
    };
    let info = engine.info();
    let conversation = Conversation {
        version: env!("CARGO_PKG_VERSION"),
        description: &info.description,
        memory_idle,
        memory_after,
        stretches: &stretches,
        turn_grows: grows(&|s| s.turn_ms),
        memory_grows: grows(&|s| s.memory as f64),
    };
    if json {
        let json = serde_json::to_string(&conversation).map_err(Failure::working)?;
        return print(&(json + "\n"));
    }
    print(&table(&conversation))
}

fn turn(session: &mut dyn EngineSession, question: &[f32]) -> Result<Turn, Failure> {
    let taker = Arc::new(Taker::default());
    let sink: Arc<dyn ResponseSink> = taker.clone();
    let cancel = CancelToken::default();
    for piece in question.chunks(PIECE) {
        session.hear(piece, &sink).map_err(Failure::working)?;
    }
    let start = Micros::now();
    session.pause(&sink, &cancel).map_err(Failure::working)?;
    session.respond(&sink, &cancel).map_err(Failure::working)?;
    let end = Micros::now();
    let made = taker.with(std::mem::take);
    let decode = made.marks.iter().filter(|m| m.stage == Stage::LlmDecode);
    let (ms, tokens) = decode.fold((0.0, 0), |(ms, n), mark| (ms + mark.ms(), n + mark.units));
    Ok(Turn {
        ms: end.ms_since(start),
        first_sound_ms: made.first_sound.map_or(f64::NAN, |at| at.ms_since(start)),
        ms_a_token: if tokens > 0 { ms / f64::from(tokens) } else { f64::NAN },
        memory: memory_held(),
    })
}

fn stretch(turns: &[Turn]) -> Stretch {
    let median = |of: fn(&Turn) -> f64| {
        let mut values: Vec<f64> = turns.iter().map(of).filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Stretch {
        turns: turns.len(),
        turn_ms: median(|t| t.ms),
        first_sound_ms: median(|t| t.first_sound_ms),
        ms_a_token: median(|t| t.ms_a_token),
        memory: turns.last().map_or(0, |t| t.memory),
    }
}

fn table(c: &Conversation<'_>) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let mut text = format!(
        "{}\n\n{:<12} {:>10} {:>14} {:>12} {:>11}\n",
        c.description, "turns", "a turn, ms", "first sound", "a token, ms", "memory, MB"
    );
    let mut from = 1;
    for s in c.stretches {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<12} {:>10.0} {:>14.0} {:>12.1} {:>11.0}",
            format!("{from} to {}", from + s.turns - 1),
            s.turn_ms,
            s.first_sound_ms,
            s.ms_a_token,
            megabytes(s.memory)
        );
        from += s.turns;
    }
    let _ = writeln!(
        text,
        "\nmemory {:.0} MB before the conversation, {:.0} MB after it; last stretch / first: time {:.2}, memory {:.2}",
        megabytes(c.memory_idle),
        megabytes(c.memory_after),
        c.turn_grows,
        c.memory_grows
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_told_by_its_medians_and_its_end() {
        let turn = |ms: f64, memory| Turn { ms, first_sound_ms: ms / 2.0, ms_a_token: f64::NAN, memory };
        let s = stretch(&[turn(100.0, 5), turn(900.0, 6), turn(110.0, 7)]);
        assert_eq!((s.turns, s.turn_ms, s.first_sound_ms, s.ms_a_token, s.memory), (3, 110.0, 55.0, 0.0, 7));
    }
}
