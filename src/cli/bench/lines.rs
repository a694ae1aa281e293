//! `antiphon bench --lines`: does what it is asked, a line of JSON each, and answers with a line of JSON each.
//!
//! Runs on the main thread. `scripts/peers/compare.py` asks this program and another the same things in alternation; both
//! stay loaded meanwhile. Only one of the two halves (whole turns; stages alone) is in memory at a time.

use crate::audio::file;
use crate::cli::drive::Drive;
use crate::cli::engines::EngineChoice;
use crate::cli::{Failure, Outcome, interrupted, print};
use crate::dsp::resample;
use crate::engine::cascade::alone::Alone;
use crate::engine::cascade::llm::DEFAULT_SYSTEM_PROMPT;
use crate::engine::floor;
use crate::engine::{HEARING_RATE, SessionSetup};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// What is compared: models, system prompt, threads.
    About,
    /// A whole turn, in a conversation of its own.
    Turn {
        question: PathBuf,
    },
    Hear {
        question: PathBuf,
    },
    Think {
        text: String,
        tokens: usize,
    },
    Speak {
        text: String,
    },
}

/// What is loaded.
enum Loaded {
    Nothing,
    Turns(Box<Drive>),
    Stages(Box<Alone>),
}

struct Clerk<'a> {
    choice: &'a EngineChoice,
    setup: SessionSetup,
    loaded: Loaded,
}

/// Serves until the end of the standard input.
pub fn run(choice: &EngineChoice, setup: SessionSetup) -> Outcome {
    let mut clerk = Clerk { choice, setup, loaded: Loaded::Nothing };
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::working(format!("the standard input cannot be read: {e}")))?;
        let answer = serde_json::from_str(&line).map_err(Failure::usage).and_then(|request| clerk.answer(request));
        if interrupted() {
            return Err(Failure::interrupted());
        }
        print(&format!("{}\n", answer.unwrap_or_else(|failure| json!({ "error": failure.to_string() }))))?;
    }
    Ok(())
}

impl Clerk<'_> {
    fn answer(&mut self, request: Request) -> Result<Value, Failure> {
        let as_json = |value: Result<Value, serde_json::Error>| value.map_err(Failure::working);
        match request {
            Request::About => self.about(),
            Request::Turn { question } => {
                let clip = file::read(&question).map_err(Failure::bad_input)?;
                let Some(turn) = self.drive()?.once(&clip)? else {
                    return Ok(json!({ "first_audio_ms": null, "heard": "" }));
                };
                Ok(json!({
                    "first_audio_ms": turn.ttfa_compute_ms, "end_of_turn_ms": turn.end_of_turn_ms, "heard": turn.heard,
                    "answer": turn.answer, "starvation_ms": turn.starvation_ms, "rtf": turn.rtf,
                    "stages": turn.stages,
                }))
            }
            Request::Hear { question } => {
                let pcm = hearable(&question)?;
                as_json(serde_json::to_value(self.stages()?.hear(&pcm).map_err(Failure::working)?))
            }
            Request::Think { text, tokens } => {
                as_json(serde_json::to_value(self.stages()?.think(&text, tokens).map_err(Failure::working)?))
            }
            Request::Speak { text } => {
                as_json(serde_json::to_value(self.stages()?.speak(&text).map_err(Failure::working)?))
            }
        }
    }

    fn about(&self) -> Result<Value, Failure> {
        let paths = self.choice.starter_paths()?;
        let own = &self.setup.system_prompt;
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"), "description": "Whisper base, Qwen2.5-Coder, Piper", "threads": floor::threads(),
            "llm": paths.llm_gguf, "voice": paths.voice_onnx,
            "system_prompt": if own.is_empty() { DEFAULT_SYSTEM_PROMPT } else { own },
        }))
    }

    fn drive(&mut self) -> Result<&mut Drive, Failure> {
        if !matches!(self.loaded, Loaded::Turns(_)) {
            self.loaded = Loaded::Nothing;
            self.loaded = Loaded::Turns(Box::new(Drive::start(self.choice, self.setup.clone())?));
        }
        match &mut self.loaded {
            Loaded::Turns(drive) => Ok(drive),
            _ => Err(Failure::working("the engine is not loaded")),
        }
    }

    fn stages(&mut self) -> Result<&mut Alone, Failure> {
        if !matches!(self.loaded, Loaded::Stages(_)) {
            if let Loaded::Turns(drive) = std::mem::replace(&mut self.loaded, Loaded::Nothing) {
                drive.stop();
            }
            let alone = Alone::load(&self.choice.starter_paths()?).map_err(Failure::working)?;
            self.loaded = Loaded::Stages(Box::new(alone));
        }
        match &mut self.loaded {
            Loaded::Stages(alone) => Ok(alone),
            _ => Err(Failure::working("the stages are not loaded")),
        }
    }
}

/// A sound file as engines hear it.
pub fn hearable(path: &Path) -> Result<Vec<f32>, Failure> {
    let clip = file::read(path).map_err(Failure::bad_input)?;
    resample::convert(&clip.samples, clip.rate, HEARING_RATE).map_err(Failure::bad_input)
}
