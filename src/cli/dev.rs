//! `antiphon dev`: tools for working on the program itself.
//!
//! Runs on the main thread and blocks. Answers go to the standard output, progress to the terminal's error stream.

use super::{Failure, Outcome, print};
use crate::engine::CancelToken;
use crate::engine::omni::random_checkpoint::Recipe;
use crate::weights::Size;
use crate::weights::fit::free_space;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;

/// Space that is left free on the disk, so that nothing else fails for want of it.
const SPARE: u64 = 200_000_000;

/// Tools for developers.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    #[command(subcommand)]
    pub command: DevCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub enum DevCommand {
    /// Write a MiniCPM-o 2.6 checkpoint full of random numbers, to run the whole path without the real weights
    #[command(long_about = RANDOM, after_help = RANDOM_EXAMPLES)]
    RandomCheckpoint {
        /// How large
        #[arg(long, value_enum, default_value = "tiny")]
        size: CheckpointSize,
        /// The folder to write; it must not exist yet, or be empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

const RANDOM: &str = "Write a MiniCPM-o 2.6 checkpoint full of random numbers.

The folder is laid out like the released one: the tensors' real names and shapes (without vision), bf16, split into \
files with an index where it is large, config.json, both tokenizers with the released special tokens at their ids, and \
the vocoder's file. It loads and answers like the real one, with made-up words in a noise of a voice: speed, memory and \
the way of the sound can be tried, the quality of an answer cannot. `--seed` chooses the numbers.

It is written tensor by tensor, under the name DIR.partial until it is whole.";

const RANDOM_EXAMPLES: &str = "Examples:
  antiphon dev random-checkpoint --size tiny --out /tmp/tiny
  antiphon converse --engine omni --model /tmp/tiny --in question.wav --out answer.wav
  antiphon dev random-checkpoint --size full --out /tmp/full    (16.4 GB; for a GPU, or --quantize q4_k)";

/// The sizes a checkpoint can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckpointSize {
    /// 9 MB: two layers of everything
    Tiny,
    /// 16.4 GB: the released model's
    Full,
}

/// Runs the command.
pub fn run(args: DevArgs, seed: u64, cancel: &CancelToken) -> Outcome {
    let DevCommand::RandomCheckpoint { size, out } = args.command;
    let recipe = match size {
        CheckpointSize::Tiny => Recipe::tiny(seed),
        CheckpointSize::Full => Recipe::full(seed),
    };
    let needs = recipe.bytes() + SPARE;
    if let Some(free) = free_space(&out).filter(|free| *free < needs) {
        return Err(Failure::working(format!(
            "{}: writing it needs {} of disk space and {} are free: free some space, or choose another disk",
            out.display(),
            Size(needs),
            Size(free)
        )));
    }
    let bar = ProgressBar::new(recipe.bytes());
    // A template that cannot be parsed leaves the plain bar, which does as well.
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {decimal_bytes}/{decimal_total_bytes} {eta} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let written = recipe.write(&out, cancel, &mut |what, done| {
        bar.set_position((recipe.bytes() as f64 * f64::from(done)) as u64);
        bar.set_message(what.to_owned());
    });
    bar.finish_and_clear();
    if cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    written.map_err(Failure::working)?;
    print(&format!("{}: a random checkpoint, {}\n", out.display(), Size(recipe.bytes())))
}
