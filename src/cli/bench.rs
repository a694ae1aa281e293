//! `antiphon bench`: whole turns over a set of spoken questions, and what each stage took. Runs on the main thread.

mod floors;
mod lines;
mod turns;

use super::drive::Drive;
use super::engines::{EngineChoice, EngineKind};
use super::{Failure, Outcome, print};
use crate::audio::file;
use crate::engine::SessionSetup;
use crate::engine::floor::{self, Measured};
use crate::metrics::{Histogram, Stage, StageReport, TurnReport, memory_held};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What `bench` can be told.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// A folder of spoken questions (wav, flac, mp3, ogg)
    #[arg(long, value_name = "DIR", required_unless_present = "lines")]
    pub questions: Option<PathBuf>,
    /// How often each question is asked
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Hold one conversation of so many turns instead, as fast as it goes, and see whether memory and time stay level
    #[arg(long, value_name = "TURNS")]
    pub turns: Option<u16>,
    /// Print one JSON object instead of a table (see docs/json.md)
    #[arg(long)]
    pub json: bool,
    /// Do what the standard input asks for, a line of JSON each (`make bench-peers`)
    #[arg(long, hide = true)]
    pub lines: bool,
}

/// What one measure came to, over all turns.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    turns: usize,
    /// Of the first turn that has it: as the others, when everything is warm from the start.
    first: f64,
    p50: f64,
    p95: f64,
    /// Units per second of work (tokens or samples), over all turns; for stages only.
    rate: Option<f64>,
    /// What the stage would have taken at best on this machine, per turn (median); for the stages that have a floor.
    floor: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Bench<'a> {
    version: &'static str,
    engine: &'a str,
    description: &'a str,
    /// What this machine can do: bytes and operations per second.
    machine: Measured,
    /// Bytes of memory when the engine is ready, and after the last turn.
    memory: [u64; 2],
    rows: &'a [Row],
    turns: &'a [TurnReport],
}

/// Asks every question and prints the figures.
pub fn run(args: &BenchArgs, choice: &EngineChoice, setup: SessionSetup) -> Outcome {
    let Some(folder) = &args.questions else { return lines::run(choice, setup) };
    let files = question_files(folder)?;
    if let Some(turns) = args.turns {
        return turns::run(turns.into(), &files, choice, setup, args.json);
    }
    let mut names = Vec::new();
    let mut questions = Vec::new();
    for path in files.iter().cycle().take(files.len() * args.rounds as usize) {
        questions.push(file::read(path).map_err(Failure::bad_input)?);
        names.push(path.clone());
    }
    let machine = floor::measure().map_err(Failure::working)?;
    let needs = match choice.kind {
        EngineKind::Cascade => Some(floors::Needs::of(&choice.starter_paths()?).map_err(Failure::working)?),
        EngineKind::Omni | EngineKind::Scripted => None,
    };
    let drive = Drive::start(choice, setup)?;
    let ready = memory_held();
    let dialogue = drive.talk(&questions, &names)?;
    let memory = [ready, memory_held()];
    let rows = rows(&dialogue.turns, &|stage| needs?.floor_ms(&machine, stage));
    if args.json {
        let (engine, description) = (&dialogue.engine, &dialogue.description);
        let bench = Bench {
            version: env!("CARGO_PKG_VERSION"),
            engine,
            description,
            machine,
            memory,
            rows: &rows,
            turns: &dialogue.turns,
        };
        let json = serde_json::to_string(&bench).map_err(Failure::working)?;
        return print(&(json + "\n"));
    }
    let head = format!(
        "{}, {} turns\n{} thread(s): {:.1} GB/s read, {:.0} GFLOP/s on f32, {:.0} on four-bit weights; memory {:.0} MB, after the turns \
         {:.0} MB",
        dialogue.description,
        dialogue.turns.len(),
        machine.threads,
        machine.bandwidth / 1e9,
        machine.dense / 1e9,
        machine.packed / 1e9,
        memory[0] as f64 / 1e6,
        memory[1] as f64 / 1e6
    );
    print(&table(&head, &rows))
}

fn question_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable =
        |e| Failure::bad_input(format!("{}: cannot be read ({e}): give a folder of sound files", dir.display()));
    let is_sound = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        ["wav", "flac", "mp3", "ogg"].contains(&extension.as_str())
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).map_err(unreadable)?.filter_map(|e| Some(e.ok()?.path())).filter(is_sound).collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::bad_input(format!("{}: no sound files in it: give a folder of some", dir.display())));
    }
    Ok(files)
}

/// Reads one figure of a turn.
type Measure = fn(&TurnReport) -> Option<f64>;

/// The least that a stage's work could have taken, in milliseconds.
type Floor<'a> = &'a dyn Fn(&StageReport) -> Option<f64>;

fn rows(turns: &[TurnReport], floor: Floor<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = Stage::ALL.iter().filter_map(|stage| stage_row(turns, *stage, floor)).collect();
    let totals: [(&str, &str, Measure); 5] = [
        ("ttfa", "ms", |t| t.ttfa_ms),
        ("ttfa_compute", "ms", |t| t.ttfa_compute_ms),
        ("rtf", "", |t| t.rtf),
        ("starvation", "ms", |t| Some(t.starvation_ms)),
        ("xruns", "", |t| Some(t.xruns as f64)),
    ];
    for (name, unit, value) in totals {
        let values: Vec<f64> = turns.iter().filter_map(value).collect();
        rows.extend(row(name, unit, &values, None, None));
    }
    rows
}

fn stage_row(turns: &[TurnReport], stage: Stage, floor: Floor<'_>) -> Option<Row> {
    let stages: Vec<_> = turns.iter().flat_map(|t| t.stages.iter().filter(|s| s.stage == stage)).collect();
    let values: Vec<f64> = stages.iter().map(|s| s.total_ms).collect();
    let (units, ms) = stages.iter().fold((0.0, 0.0), |(u, ms), s| (u + s.units as f64, ms + s.total_ms));
    let floors: Vec<f64> = stages.iter().filter_map(|s| floor(s)).collect();
    row(stage.name(), "ms", &values, (ms > 0.0).then(|| units * 1000.0 / ms), histogram(&floors).p50())
}

fn histogram(values: &[f64]) -> Histogram {
    let mut histogram = Histogram::new(values.len());
    values.iter().for_each(|v| histogram.add(*v));
    histogram
}

fn row(name: &'static str, unit: &'static str, values: &[f64], rate: Option<f64>, floor: Option<f64>) -> Option<Row> {
    let histogram = histogram(values);
    let first = *values.first()?;
    Some(Row { name, unit, turns: values.len(), first, p50: histogram.p50()?, p95: histogram.p95()?, rate, floor })
}

fn table(head: &str, rows: &[Row]) -> String {
    let mut text =
        format!("{head}\n\n{:<16} {:>10} {:>10} {:>10} {:>10} {:>12}\n", "", "first", "p50", "p95", "floor", "units/s");
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.1}"));
        let (rate, floor) = (number(row.rate), number(row.floor));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<16} {:>10.2} {:>10.2} {:>10.2} {floor:>10} {rate:>12} {}",
            row.name, row.first, row.p50, row.p95, row.unit
        );
    }
    text
}
