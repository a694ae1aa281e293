//! The program under test, with its window on a laboratory's display.

use super::display::Display;
use super::home;
use super::process::Running;
use super::sound::Lab;
use anyhow::Result;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starts the program with these arguments, in a user's home of its own in `folder`, and returns when its engine is ready
/// (an error after `limit`). `level`: how much it writes into its log, which is kept in `log`.
pub fn start<S: AsRef<OsStr>>(
    args: &[S],
    (sound, display): (&Lab, &Display),
    folder: &Path,
    (level, log): (&str, &Path),
    limit: Duration,
) -> Result<Running> {
    let mut antiphon = Running::start(
        Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(args)
            .envs(sound.env())
            .envs(display.env())
            .envs(home::env(folder)?)
            .env("RUST_LOG", format!("antiphon={level}"))
            .env("NO_COLOR", "1")
            .stdout(Stdio::null()),
        log,
    )?;
    antiphon.wait_until("line that says ready", limit, |log| log.lines().any(|line| line.ends_with("ready")))?;
    Ok(antiphon)
}
