//! Against features made by `WhisperFeatureExtractor` itself (`tests/fixtures/omni-tiny`), and against those of the
//! end-of-turn model's own extractor (numbers from its published Python, on a signal that is a formula).

use super::*;
use safetensors::SafeTensors;

fn golden(name: &str) -> Vec<f32> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/omni-tiny/golden.safetensors");
    let bytes = std::fs::read(file).expect("the fixture is part of the repository");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let data = tensors.tensor(name).expect(name).data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn streamed_chunks_match_the_reference() {
    let pcm = golden("in.wav16k");
    let mut mel = LogMel::new();
    for (i, chunk) in pcm.chunks(16_000).enumerate() {
        let ours = mel.whisper(chunk);
        assert_eq!(ours.frames, chunk.len().div_ceil(HOP));
        let d = furthest(&ours.data, &golden(&format!("apm.stream.{i}.mel")));
        assert!(d < 2e-5, "chunk {i}: {d}");
    }
}

#[test]
fn a_whole_utterance_matches_the_reference() {
    let ours = LogMel::new().whisper(&golden("in.wav16k"));
    let d = furthest(&ours.data, &golden("apm.offline.mel"));
    assert!(d < 2e-5, "{d}");
}

#[test]
fn silence_is_flat() {
    let mel = LogMel::new().whisper(&[0.0; 1_000]);
    assert_eq!(mel.frames, 7);
    assert!(mel.data.iter().all(|&v| (v + 1.5).abs() < 1e-6));
    assert_eq!(LogMel::new().whisper(&[]).frames, 0);
}

#[test]
fn the_filters_are_slaneys() {
    // (filter, first bin, width in bins, highest weight) of the filterbank of the published extractor
    let table = [
        (0, 1, 1, 0.024862593984176087),
        (1, 1, 2, 0.022871772096078023),
        (20, 19, 2, 0.013890393982586886),
        (40, 42, 3, 0.014735565741439168),
        (79, 186, 14, 0.003164711739176461),
    ];
    let filters = slaney_filters();
    assert_eq!(filters.len(), BINS);
    for (i, first, width, peak) in table {
        let f = &filters[i];
        assert_eq!((f.first, f.weights.len()), (first, width), "filter {i}");
        let highest = f.weights.iter().copied().fold(0.0, f64::max);
        assert!((highest - peak).abs() < 1e-12, "filter {i}: {highest}");
    }
}

#[test]
fn smart_turn_features_match_its_extractor() {
    let tone = |hertz: f64, i: usize| (2.0 * PI * hertz * i as f64 / 16_000.0).sin();
    let pcm: Vec<f32> = (0..16_000 * 3 + 77)
        .map(|i| (0.3 * tone(220.0, i) * tone(1.5, i) + 0.05 * tone(2750.0, i) + 0.1) as f32)
        .collect();
    let mel = LogMel::new().smart_turn(&pcm);
    assert_eq!((mel.frames, mel.data.len()), (800, 80 * 800));
    // (bin, frame, value) from pipecat-ai 1.14.0, _whisper_features.py
    let table = [
        (0, 0, 1.3734449),
        (0, 400, 1.3734449),
        (5, 520, 1.7745553),
        (10, 600, -0.04830352),
        (40, 700, -0.21112485),
        (53, 799, 1.2080175),
        (79, 799, -0.19566576),
        (79, 100, -0.21112485),
        (20, 499, 0.75227714),
        (20, 500, 0.76239836),
        (20, 501, -0.21112485),
    ];
    for (bin, frame, value) in table {
        let ours = mel.data[bin * 800 + frame];
        assert!((ours - value).abs() < 2e-5, "bin {bin}, frame {frame}: {ours} for {value}");
    }
    let mean = mel.data.iter().map(|&v| f64::from(v)).sum::<f64>() / 64_000.0;
    assert!((mean + 0.0815798632780153).abs() < 1e-5, "{mean}");
}

#[test]
fn smart_turn_hears_the_last_eight_seconds() {
    let long: Vec<f32> = (0..200_000_u64).map(|i| ((i * i % 977) as f32 / 977.0) - 0.5).collect();
    let mut mel = LogMel::new();
    assert_eq!(mel.smart_turn(&long), mel.smart_turn(&long[200_000 - SMART_TURN_SAMPLES..]));
}
