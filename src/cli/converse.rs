//! `antiphon converse`: a dialogue from file to file, in real time, through the same session as the window.
//!
//! Runs on the main thread. The questions are spoken into a virtual sound card one after the other; each waits until
//! the answer to the one before has been heard to its end.

use super::drive::{Dialogue, Drive};
use super::engines::EngineChoice;
use super::{Failure, Outcome, print, table};
use crate::audio::file;
use crate::engine::SessionSetup;
use crate::metrics::{TurnReport, to_trace_json};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `converse` can be told.
#[derive(Args, Clone, Debug)]
pub struct ConverseArgs {
    /// A spoken question (wav, flac, mp3, ogg; any rate). Give several for a dialogue
    #[arg(long = "in", value_name = "FILE", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Where the spoken answers go (wav, mono, 48 kHz)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Both sides as they sounded, on one clock (wav; left: user, right: assistant)
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print one JSON object instead of text (see docs/json.md)
    #[arg(long)]
    pub json: bool,
    /// Write a trace of every stage, for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write down everything the session told, as a window would have seen it, a line of JSON each: for reports
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
}

/// What `converse --json` prints.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    version: &'static str,
    engine: &'a str,
    description: &'a str,
    turns: &'a [TurnReport],
}

/// Holds the dialogue.
pub fn run(args: &ConverseArgs, choice: &EngineChoice, setup: SessionSetup) -> Outcome {
    let mut questions = Vec::new();
    for path in &args.inputs {
        questions.push(file::read(path).map_err(Failure::bad_input)?);
    }
    let outputs = [Some(&args.out), args.record.as_ref(), args.trace.as_ref(), args.events.as_ref()];
    for path in outputs.into_iter().flatten() {
        has_place(path)?;
    }
    let drive = if args.events.is_some() { Drive::start_noting(choice, setup) } else { Drive::start(choice, setup) }?;
    let dialogue = drive.talk(&questions, &args.inputs)?;
    write_outputs(args, &dialogue)?;
    if args.json {
        let printed = Printed {
            version: env!("CARGO_PKG_VERSION"),
            engine: &dialogue.engine,
            description: &dialogue.description,
            turns: &dialogue.turns,
        };
        let json = serde_json::to_string(&printed).context("the report could not be made into JSON")?;
        return print(&(json + "\n"));
    }
    print(&dialogue.turns.iter().map(table::turn).collect::<String>())
}

/// A result must not be lost for want of a folder after minutes of talk.
fn has_place(path: &Path) -> Outcome {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "{}: there is no folder to write it in: create it, or choose another",
        path.display()
    )))
}

fn write_outputs(args: &ConverseArgs, dialogue: &Dialogue) -> Outcome {
    let answers = dialogue.answers();
    let rate = dialogue.recording.rate;
    file::write_wav(&args.out, rate, &[&answers]).map_err(Failure::working)?;
    if let Some(path) = &args.record {
        let sides = [dialogue.recording.user.as_slice(), dialogue.recording.assistant.as_slice()];
        file::write_wav(path, rate, &sides).map_err(Failure::working)?;
    }
    let write = |path: &Path, text: &str| {
        let unwritable =
            |e| Failure::working(format!("{}: cannot be written ({e}): choose another place", path.display()));
        std::fs::write(path, text).map_err(unwritable)
    };
    if let Some(path) = &args.trace {
        write(path, &to_trace_json(&dialogue.marks))?;
    }
    if let Some(path) = &args.events {
        write(path, &dialogue.events)?;
    }
    Ok(())
}
