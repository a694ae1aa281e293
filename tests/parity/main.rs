//! The omni model against upstream's own numbers, step by step.
//!
//! Everything is derived from the folder: sizes from its `config.json`, counts from the recordings, texts from
//! `golden_text.json`. `ANTIPHON_PARITY=DIR` runs the same on another folder of the layout of
//! `tests/fixtures/omni-tiny`.

mod golden;
mod hearing;
mod parts;
mod speaking;
mod table;

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

#[test]
fn the_omni_model_agrees_with_upstream() -> Result<()> {
    let golden = Golden::open(&folder())?;
    let mut omni = Omni::load(&golden.dir, &OmniOptions::default(), &mut |_, _| {})?;
    let mut table = Table::default();
    parts::compare(&golden, &mut omni, &mut table)?;
    hearing::compare(&golden, &mut omni, &mut table)?;
    speaking::compare(&golden, &mut omni, &mut table)?;
    let (text, agreed) = table.finish();
    println!("{text}");
    assert!(agreed, "not everything agrees with upstream:\n{text}");
    Ok(())
}
