//! `antiphon voices`: the reference voices that are kept, checking a recording, and which voice to speak in.
//!
//! Runs on the main thread and blocks. Answers go to `out`; the form of what `--json` prints is in docs/json.md.

use super::engines::EngineKind;
use super::{Failure, Outcome};
use crate::audio::file;
use crate::engine::HEARING_RATE;
use crate::settings::Settings;
use crate::voice::library::CONSENT;
use crate::voice::{self, Check, Grade, KeptVoice, Recording, Span, VoiceError, VoiceLibrary};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Voices to speak in, taken from recordings, for the omni engine.
///
/// A good recording is 5 to 15 seconds of one person speaking, close to the microphone, in a quiet room, without music.
/// `check` says how good a recording is and what to do about it; `add` keeps the best part of it under a name; with
/// `--voice NAME`, every other command speaks in that voice.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct VoicesArgs {
    #[command(subcommand)]
    pub command: VoicesCommand,
}

const AFTER_HELP: &str = "Examples:
  antiphon voices check talk.mp3                       is it good enough, and which part would be used?
  antiphon voices add talk.mp3 --name Ann              keep the best part of it
  antiphon voices add talk.mp3 --name Ann --from 12 --to 24.5
  antiphon voices preview Ann --out ann.wav            what was kept, to listen to
  antiphon say \"Good morning.\" --engine omni --model DIR --voice Ann --out morning.wav

Exit codes: 0 done, 1 the disk cannot be written, 2 wrong use, no such voice, or a recording that is not usable.";

#[derive(Subcommand, Debug)]
pub enum VoicesCommand {
    /// The voices that are kept
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep the best part of a recording as a voice
    Add {
        /// wav, flac, mp3, ogg or aiff; any rate, mono or stereo
        file: PathBuf,
        /// What to call it, in any script [default: the file's name]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// How good a recording is, and which part of it would be used; keeps nothing
    Check {
        /// wav, flac, mp3, ogg or aiff; any rate, mono or stereo
        file: PathBuf,
        #[command(flatten)]
        part: Part,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a voice another name
    Rename { name: String, new_name: String },
    /// Delete a voice
    Remove { name: String },
    /// Write what was kept of a voice into a file, to listen to
    Preview {
        name: String,
        /// Where the sound goes (wav, mono, 16 kHz)
        #[arg(long, value_name = "WAV")]
        out: PathBuf,
    },
}

/// Which part of a recording.
#[derive(Args, Clone, Copy, Debug)]
pub struct Part {
    /// Where the part to use begins, in seconds [default: the best 5 to 15 s are found]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub from: Option<f64>,
    /// Where it ends
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub to: Option<f64>,
}

impl Part {
    /// The span that was asked for in a recording; `None` when none was.
    fn span(self, recording: &Recording, path: &Path) -> Result<Option<Span>, Failure> {
        if self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let seconds = recording.seconds();
        let from = self.from.unwrap_or_else(|| self.to.map_or(0.0, |to| (to - 15.0).max(0.0)));
        let to = self.to.unwrap_or_else(|| (from + 15.0).min(seconds));
        // A name of the length to a tenth of a second must not be refused.
        if !(0.0 <= from && from < to && to <= seconds + 0.1) {
            return Err(Failure::usage(format!(
                "{}: there is no part from {from} to {to} s: the recording has {seconds:.1} s",
                path.display()
            )));
        }
        Ok(Some(Span::new(from, to)))
    }
}

/// Runs the command.
///
/// # Errors
/// One line for people, naming the voice or file and what to do.
pub fn run(args: VoicesArgs, library: &VoiceLibrary, out: &mut dyn Write) -> Outcome {
    match args.command {
        VoicesCommand::List { json } => list(library, json, out),
        VoicesCommand::Add { file, name, part } => {
            let recording = voice::read(&file).map_err(failure)?;
            let span = part.span(&recording, &file)?.unwrap_or_else(|| recording.propose());
            let name = name.unwrap_or_else(|| voice::suggested_name(&file));
            let kept = library.add(&recording, span, &name, &file).map_err(failure)?;
            let (name, span) = (&kept.record.name, kept.record.span);
            print(out, &format!("{name}: {:.1} to {:.1} s of {} kept\n", span.start_s, span.end_s, file.display()))?;
            print(out, &advice(&recording.check(Some(span))))?;
            print(out, &format!("{CONSENT}\n"))
        }
        VoicesCommand::Check { file, part, json } => {
            let recording = voice::read(&file).map_err(failure)?;
            let check = recording.check(part.span(&recording, &file)?);
            let text = if json { check_json(&file, &check)? } else { check_text(&file, &check) };
            print(out, &text)?;
            match check.grade {
                Grade::NotUsable => Err(failure(VoiceError::NotUsable { path: file, why: check.refusal() })),
                Grade::Ok | Grade::Usable => Ok(()),
            }
        }
        VoicesCommand::Rename { name, new_name } => {
            let kept = library.rename(&name, &new_name).map_err(failure)?;
            print(out, &format!("{name} is now called {}\n", kept.record.name))
        }
        VoicesCommand::Remove { name } => {
            let gone = library.remove(&name).map_err(failure)?;
            print(out, &format!("{} removed\n", gone.record.name))
        }
        VoicesCommand::Preview { name, out: wav } => {
            let samples = library.find(&name).and_then(|kept| kept.samples()).map_err(failure)?;
            file::write_wav(&wav, HEARING_RATE, &[&samples]).map_err(Failure::working)
        }
    }
}

/// A voice to speak in: its sample, and where engines may keep what they make of it (for a kept voice).
pub type Chosen = (Arc<[f32]>, Option<PathBuf>);

/// The voice of the command line, a kept one's name or a file, or else the one of the settings. Nothing, when the engine
/// has a voice of its own and none was asked for.
///
/// # Errors
/// When the voice that was asked for is not there or cannot be used, or the engine cannot speak in it. One of the
/// settings that is gone is only warned of.
pub fn chosen(
    asked: Option<&Path>,
    settings: &Settings,
    kind: EngineKind,
    library: &VoiceLibrary,
) -> Result<Option<Chosen>, Failure> {
    let kept = |voice: KeptVoice| Ok((voice.samples()?, Some(voice.state_dir())));
    match (asked, kind) {
        (Some(_), EngineKind::Cascade) => Err(Failure::usage(
            "the cascade engine speaks in a voice of its own: leave out --voice, or choose --engine omni",
        )),
        (Some(asked), _) => {
            let unknown = match library.find(&asked.to_string_lossy()) {
                Ok(voice) => return kept(voice).map(Some).map_err(failure),
                Err(unknown) => unknown,
            };
            // A path that is not there is a path when it looks like one; else a name.
            let is_path = asked.exists() || asked.extension().is_some() || asked.components().count() > 1;
            if !is_path {
                return Err(failure(unknown));
            }
            voice::load(asked).map(|samples| Some((samples, None))).map_err(failure)
        }
        (None, EngineKind::Omni) => {
            let Some(id) = &settings.voice else { return Ok(None) };
            let voice = library.find(id).and_then(kept);
            Ok(voice.inspect_err(|error: &VoiceError| tracing::warn!("the engine's own voice is used: {error}")).ok())
        }
        (None, _) => Ok(None),
    }
}

fn failure(error: VoiceError) -> Failure {
    match &error {
        VoiceError::Io { .. } => Failure::working(error),
        _ => Failure::bad_input(error),
    }
}

fn print(out: &mut dyn Write, text: &str) -> Outcome {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::working(format!("the standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// A voice as `list --json` tells it.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    source: &'a str,
    created: &'a str,
    span: Span,
    grade: Grade,
    sample: PathBuf,
}

fn list(library: &VoiceLibrary, json: bool, out: &mut dyn Write) -> Outcome {
    let listing = library.list();
    if json {
        let voice = |v: &KeptVoice| {
            let record = &v.record;
            let listed = Listed {
                id: &v.id,
                name: &record.name,
                source: &record.source,
                created: &record.created,
                span: record.span,
                grade: record.check.grade,
                sample: v.sample_path(),
            };
            serde_json::json!(listed)
        };
        let voices: Vec<_> = listing.voices.iter().map(voice).collect();
        let broken = listing.broken.iter().map(|b| serde_json::json!({ "folder": b.folder, "why": b.why }));
        let broken: Vec<_> = broken.collect();
        let printed = serde_json::json!({ "folder": library.root(), "voices": voices, "broken": broken });
        return print(out, &format!("{printed}\n"));
    }
    let mut text = String::new();
    for voice in &listing.voices {
        let record = &voice.record;
        let (name, seconds, grade) = (&record.name, record.span.seconds(), record.check.grade.words());
        text += &format!(
            "{name:<24} {seconds:>5.1} s  {grade:<8}  {}  {}\n",
            &record.created[..10.min(record.created.len())],
            record.source
        );
    }
    if listing.voices.is_empty() {
        text += "no voices are kept: add one with `antiphon voices add FILE --name NAME`\n";
    }
    for broken in &listing.broken {
        text += &format!("damaged: {} ({}): delete that folder\n", broken.folder.display(), broken.why);
    }
    print(out, &format!("{text}\nin {}\n", library.root().display()))
}

fn check_json(file: &Path, check: &Check) -> Result<String, Failure> {
    let mut printed = serde_json::to_value(check).map_err(Failure::working)?;
    printed["file"] = serde_json::json!(file);
    Ok(format!("{printed}\n"))
}

fn check_text(file: &Path, check: &Check) -> String {
    let (span, grade) = (check.span, check.grade.words());
    let mut text = format!(
        "{}: {grade}\n{:.1} s, of which {:.1} to {:.1} s would be used\n\n",
        file.display(),
        check.seconds,
        span.start_s,
        span.end_s
    );
    for finding in &check.findings {
        text += &format!("{:<11} {}\n", finding.grade.words(), finding.what);
        if !finding.advice.is_empty() {
            text += &format!("{:<11}   {}\n", "", finding.advice);
        }
    }
    text
}

/// What could be better about a voice that was kept.
fn advice(check: &Check) -> String {
    check.faults().iter().map(|f| format!("it would be better otherwise: {}: {}\n", f.what, f.advice)).collect()
}
