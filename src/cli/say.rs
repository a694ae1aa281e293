//! `antiphon say`: reads a text aloud into a file. Runs on the main thread.

use super::engines::EngineChoice;
use super::{Failure, Outcome, interrupted};
use crate::audio::{Joiner, file};
use crate::engine::{CancelToken, PcmChunk, ResponseSink, SessionSetup};
use crate::metrics::StageMark;
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What `say` can be told.
#[derive(Args, Clone, Debug)]
pub struct SayArgs {
    /// What to say; `-` reads it from the standard input
    pub text: String,
    /// Where the sound goes (wav)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Collects the sound.
struct Collector {
    joined: Mutex<(Joiner, Vec<f32>)>,
    cancel: CancelToken,
}

impl ResponseSink for Collector {
    fn heard(&self, _: &str, _: bool) {}

    fn text(&self, _: &str) {}

    fn audio(&self, chunk: PcmChunk) -> bool {
        if interrupted() {
            self.cancel.cancel();
            return false;
        }
        let mut guard = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let (joiner, out) = &mut *guard;
        joiner.push(&chunk.samples, chunk.overlap, out);
        if chunk.last {
            joiner.finish(out);
        }
        true
    }

    fn mark(&self, _: StageMark) {}
}

/// Says it.
pub fn run(args: &SayArgs, choice: &EngineChoice, setup: &SessionSetup) -> Outcome {
    let mut text = args.text.clone();
    if text == "-" {
        text.clear();
        let unreadable = |e| Failure::bad_input(format!("the standard input cannot be read as text: {e}"));
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    }
    if text.trim().is_empty() {
        return Err(Failure::usage("there is nothing to say: give a text"));
    }
    choice.check()?;
    let mut load = choice.loader();
    let mut engine = load(&mut |_, _| {}).map_err(Failure::working)?;
    let info = engine.info();
    let cancel = CancelToken::default();
    let collector =
        Arc::new(Collector { joined: Mutex::new((Joiner::new(info.max_overlap), Vec::new())), cancel: cancel.clone() });
    let sink: Arc<dyn ResponseSink> = collector.clone();
    engine.read_aloud(&text, setup, &sink, &cancel).map_err(Failure::working)?;
    if cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    let guard = collector.joined.lock().unwrap_or_else(PoisonError::into_inner);
    file::write_wav(&args.out, info.output_rate, &[&guard.1]).map_err(Failure::working)
}
