//! The omni model against upstream's own numbers, step by step.
//!
//! Everything is derived from the folder: sizes from its `config.json`, counts from the recordings, texts from
//! `golden_text.json`. `ANTIPHON_PARITY=DIR` runs the same on another folder of the layout of
//! `tests/fixtures/omni-tiny`, and `ANTIPHON_PARITY_DEVICE=cuda` (or `auto`, `metal`) on a GPU.

mod golden;
mod hearing;
mod parts;
mod speaking;
mod table;

use antiphon::engine::device::{Compute, DeviceChoice};
use antiphon::engine::omni::load::{Omni, OmniOptions};
use anyhow::Result;
use golden::Golden;
use std::path::{Path, PathBuf};
use table::Table;

fn folder() -> PathBuf {
    match std::env::var_os("ANTIPHON_PARITY") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/omni-tiny"),
    }
}

/// Where to compute, and how far values may be off: a GPU adds up in another order.
fn device() -> Result<(Compute, f32)> {
    let choice = match std::env::var("ANTIPHON_PARITY_DEVICE") {
        Ok(name) => name.parse()?,
        Err(_) => DeviceChoice::At(Compute::Cpu),
    };
    let device = choice.find().compute;
    Ok((device, if device == Compute::Cpu { 1e-4 } else { 1e-3 }))
}

#[test]
fn the_omni_model_agrees_with_upstream() -> Result<()> {
    let golden = Golden::open(&folder())?;
    let (device, tolerance) = device()?;
    let options = OmniOptions { device, ..OmniOptions::default() };
    let mut omni = Omni::load(&golden.dir, &options, &mut |_, _| {})?;
    let mut table = Table::new(tolerance);
    parts::compare(&golden, &mut omni, &mut table)?;
    hearing::compare(&golden, &mut omni, &mut table)?;
    speaking::compare(&golden, &mut omni, &mut table)?;
    let (text, agreed) = table.finish();
    println!("on {device}, values within {tolerance:e}:\n{text}");
    assert!(agreed, "not everything agrees with upstream:\n{text}");
    Ok(())
}
