//! The binary: arguments in, exit code out.

use antiphon::cli::{self, Cli};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    leave_a_core_for_sound();
    cli::run(Cli::parse())
}

/// The thread pools of the engines take every core unless told otherwise, and spin while they wait: sound would starve.
fn leave_a_core_for_sound() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for pool in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if std::env::var_os(pool).is_none() {
            // SAFETY: nothing else runs yet; this is the first thing `main` does.
            #[expect(unsafe_code, reason = "the pools read their size from the environment alone")]
            unsafe {
                std::env::set_var(pool, cores.saturating_sub(1).max(1).to_string());
            }
        }
    }
}
