//! The ear: features, convolutions, embeddings and keys, streamed and whole.

use crate::golden::Golden;
use crate::table::Table;
use antiphon::engine::audio_encoder::EncoderCache;
use antiphon::engine::omni::load::Omni;
use antiphon::engine::omni::prompt::UNIT;
use anyhow::{Context, Result};
use candle_core::Tensor;

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.contiguous()?.flatten_all()?.to_vec1::<f32>()?)
}

pub fn compare(golden: &Golden, omni: &mut Omni, table: &mut Table) -> Result<()> {
    let wav = golden.get("in.wav16k")?.floats();
    let ear = &mut omni.mind.ear;
    let mut cache = EncoderCache::default();
    let recorded = golden.series("apm.stream.", ".mel")?;
    for (i, (unit, mel)) in wav.chunks(UNIT).zip(&recorded).enumerate() {
        let features = ear.features(unit);
        table.values("apm.stream.mel", i, &features.data, &mel.floats());
        let conv = ear.encoder().convolve(&features)?;
        table.values("apm.stream.conv", i, &flat(&conv)?, &golden.get(&format!("apm.stream.{i}.conv"))?.floats());
        let embeds = ear.hear(unit, &mut cache)?;
        table.values("apm.stream.embeds", i, &flat(&embeds)?, &golden.get(&format!("apm.stream.{i}.embeds"))?.floats());
        for layer in 0.. {
            let Some(keys) = golden.find(&format!("apm.stream.{i}.k{layer}"))? else { break };
            let found = cache.keys(layer).context("the ear keeps no keys")?;
            table.values("apm.stream.k", i, &flat(found)?, &keys.floats());
        }
    }
    let features = ear.features(&wav);
    table.values("apm.offline.mel", 0, &features.data, &golden.get("apm.offline.mel")?.floats());
    for (name, blocks) in [("apm.offline.chunk1s.embeds", true), ("apm.offline.full.embeds", false)] {
        table.values(name, 0, &flat(&ear.hear_whole(&wav, blocks)?)?, &golden.get(name)?.floats());
    }
    Ok(())
}
