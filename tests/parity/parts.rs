//! The parts that need no conversation: quantiser, DVAE, vocoder, cross-fade, filters.

use crate::golden::Golden;
use crate::table::Table;
use antiphon::engine::omni::codes::{keep_top_k, keep_top_p, penalise};
use antiphon::engine::omni::dvae::fsq_point;
use antiphon::engine::omni::load::Omni;
use antiphon::engine::omni::probe::NoProbe;
use antiphon::engine::omni::vocoder::overlap_add;
use antiphon::engine::omni::vocos::Vocos;
use antiphon::engine::omni::weights::Weights;
use anyhow::{Context, Result};
use candle_core::Device;

pub fn compare(golden: &Golden, omni: &mut Omni, table: &mut Table) -> Result<()> {
    quantiser(golden, omni, table)?;
    sound(golden, omni, table)?;
    filters(golden, omni, table)
}

fn quantiser(golden: &Golden, omni: &mut Omni, table: &mut Table) -> Result<()> {
    let all = golden.get("gfsq.all_codes")?;
    let [.., count, dimensions] = all.shape[..] else { anyhow::bail!("gfsq.all_codes has shape {:?}", all.shape) };
    for (i, book) in all.floats().chunks(count * dimensions).enumerate() {
        let points: Vec<f32> = (0..count as u32).flat_map(|n| fsq_point(n, dimensions)).collect();
        table.equal("gfsq.all_codes", i, &points, &book.to_vec());
    }
    // [1, codebooks, frames] and [1, groups * width, frames]
    let codes = golden.get("gfsq.idx")?;
    let frames = codes.shape[2];
    let rows = codes.id_rows();
    let frames: Vec<Vec<u32>> = (0..frames).map(|t| rows.iter().map(|r| r[t]).collect()).collect();
    let mut found = Vec::new();
    for features in omni.mouth.vocoder.dvae().features(&frames)? {
        found.extend(features.t()?.contiguous()?.flatten_all()?.to_vec1::<f32>()?);
    }
    table.values("gfsq.feat", 0, &found, &golden.get("gfsq.feat")?.floats());
    Ok(())
}

fn sound(golden: &Golden, omni: &mut Omni, table: &mut Table) -> Result<()> {
    let pickle = golden.dir.join("Vocos.pt");
    let mut pickled = match pickle.is_file() {
        true => Some(Vocos::load(&Weights::read_vocoder_pickle(&pickle)?, omni.config.tts.mel_bins, &Device::Cpu)?),
        false => None,
    };
    for (i, codes) in golden.series("dvae.", ".codes")?.iter().enumerate() {
        let (mel, wav) = omni.mouth.vocoder.decode(&codes.id_rows(), &mut NoProbe)?;
        let channels_first = mel.t()?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        table.values("dvae.mel", i, &channels_first, &golden.get(&format!("dvae.{i}.mel"))?.floats());
        let expected = golden.get(&format!("vocos.{i}.wav"))?.floats();
        table.values("vocos.wav", i, &wav, &expected);
        if let Some(pickled) = &mut pickled {
            table.values("vocos.wav from Vocos.pt", i, &pickled.decode(&mel.to_device(&Device::Cpu)?)?, &expected);
        }
    }
    let (a, b) = (golden.get("ola.f0")?.floats(), golden.get("ola.f1")?.floats());
    let (first, rest) = (golden.get("ola.o0")?.floats(), golden.get("ola.o1")?.floats());
    let (joined, left) = overlap_add(&a, &b, a.len() + b.len() - first.len() - rest.len());
    table.values("ola", 0, &joined, &first);
    table.values("ola", 1, &left, &rest);
    Ok(())
}

fn filters(golden: &Golden, omni: &Omni, table: &mut Table) -> Result<()> {
    let tts = &omni.config.tts;
    let (scores, out, ids) = (golden.get("rep.scores")?, golden.get("rep.out")?, golden.get("rep.ids")?);
    let width = scores.shape[1];
    let (scores, out) = (scores.floats(), out.floats());
    // The recording's penalty is read off an id that occurs once in its window.
    let window = 16;
    let mut penalty = None;
    for (row, ids) in ids.id_rows().iter().enumerate() {
        let seen = &ids[ids.len().saturating_sub(window)..];
        for id in seen.iter().filter(|id| seen.iter().filter(|o| o == id).count() == 1) {
            let (before, after) = (scores[row * width + *id as usize], out[row * width + *id as usize]);
            penalty = penalty.or(Some(if before < 0.0 { after / before } else { before / after }));
        }
    }
    let penalty = penalty.context("no id of rep.ids occurs once")?;
    for (row, ids) in ids.id_rows().iter().enumerate() {
        let mut found = scores[row * width..(row + 1) * width].to_vec();
        penalise(&mut found, &ids[ids.len().saturating_sub(window)..], penalty);
        table.values("rep", row, &found, &out[row * width..(row + 1) * width]);
    }
    let (input, output) = (golden.get("warp.in")?, golden.get("warp.out")?);
    let width = input.shape[1];
    for (row, (input, output)) in input.floats().chunks(width).zip(output.floats().chunks(width)).enumerate() {
        let mut found = input.to_vec();
        keep_top_p(&mut found, tts.top_p);
        keep_top_k(&mut found, tts.top_k);
        table.values("warp", row, &found, output);
        let kept = |r: &[f32]| r.iter().map(|l| l.is_finite()).collect::<Vec<_>>();
        table.equal("warp kept", row, &kept(&found), &kept(output));
    }
    Ok(())
}
