//! Against tensors recorded from the genuine MiniCPM-o 2.6 classes with small random weights
//! (`tests/fixtures/omni-tiny`: two layers, 32 wide).

use super::*;
use crate::dsp::mel::LogMel;
use candle_core::DType;
use std::collections::HashMap;

const TINY: AudioEncoderConfig =
    AudioEncoderConfig { width: 32, layers: 2, heads: 4, ffn: 128, max_positions: 1500, activation: Activation::Gelu };

/// The audio encoder's tensors of a fixture (others have types candle does not know).
fn fixture(name: &str) -> HashMap<String, Tensor> {
    let path = format!("{}/tests/fixtures/omni-tiny/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("the fixture is part of the repository");
    let file = candle_core::safetensors::BufferedSafetensors::new(bytes).unwrap();
    let wanted = |name: &String| ["apm.", "audio_projection_layer.", "in."].iter().any(|p| name.starts_with(p));
    let names = file.tensors().into_iter().map(|(name, _)| name).filter(wanted);
    names.map(|name| (name.clone(), file.load(&name, &Device::Cpu).unwrap())).collect()
}

fn encoder(weights: &HashMap<String, Tensor>) -> AudioEncoder {
    let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu);
    AudioEncoder::load(TINY, &vb.pp("apm"), None).expect("the tiny checkpoint loads")
}

fn mel_of(t: &Tensor) -> Mel {
    Mel { frames: t.dim(2).unwrap(), data: t.flatten_all().unwrap().to_vec1().unwrap() }
}

fn furthest(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// What the golden `embeds` are: the encoder's output through the projector, then the mean of each two positions.
fn project(weights: &HashMap<String, Tensor>, x: &Tensor) -> Tensor {
    let layer = |x: &Tensor, n: usize| {
        let w = &weights[&format!("audio_projection_layer.linear{n}.weight")];
        let b = &weights[&format!("audio_projection_layer.linear{n}.bias")];
        x.matmul(&w.t().unwrap()).unwrap().broadcast_add(b).unwrap()
    };
    let y = layer(&layer(x, 1).relu().unwrap(), 2);
    let (n, d) = y.dims2().unwrap();
    y.narrow(0, 0, n / 2 * 2).unwrap().reshape((n / 2, 2, d)).unwrap().mean(1).unwrap()
}

#[test]
fn a_stream_matches_the_reference_chunk_by_chunk() {
    let (weights, golden) = (fixture("model"), fixture("golden"));
    let encoder = encoder(&weights);
    let mut cache = EncoderCache::default();
    for i in 0..4 {
        let g = |what: &str| &golden[&format!("apm.stream.{i}.{what}")];
        let mel = mel_of(g("mel"));
        let conv = encoder.convolve(&mel).unwrap();
        assert!(furthest(&conv, &g("conv").squeeze(0).unwrap()) < 1e-5, "convolutions of chunk {i}");
        let x = encoder.forward_streaming(&mel, &mut cache).unwrap();
        assert!(furthest(&project(&weights, &x), g("embeds")) < 1e-5, "chunk {i}");
        let keys = g("k0").squeeze(0).unwrap();
        assert!(furthest(cache.keys(0).unwrap(), &keys) < 1e-5, "keys after chunk {i}");
        assert_eq!(cache.len(), keys.dim(1).unwrap());
    }
}

#[test]
fn whole_utterances_match_the_reference() {
    let (weights, golden) = (fixture("model"), fixture("golden"));
    let encoder = encoder(&weights);
    let mel = mel_of(&golden["apm.offline.mel"]);
    let full = encoder.forward(&mel).unwrap();
    assert!(furthest(&project(&weights, &full), &golden["apm.offline.full.embeds"]) < 1e-5);
    let blocks = encoder.forward_in_blocks(&mel, 50).unwrap();
    assert!(furthest(&project(&weights, &blocks), &golden["apm.offline.chunk1s.embeds"]) < 1e-5);
}

#[test]
fn our_own_features_carry_through() {
    let (weights, golden) = (fixture("model"), fixture("golden"));
    let pcm: Vec<f32> = golden["in.wav16k"].to_vec1().unwrap();
    let x = encoder(&weights).forward(&LogMel::new().whisper(&pcm)).unwrap();
    assert!(furthest(&project(&weights, &x), &golden["apm.offline.full.embeds"]) < 1e-4);
}

#[test]
fn a_stream_starts_afresh_before_the_positions_run_out() {
    let weights = fixture("model");
    let encoder = encoder(&weights);
    let mel = LogMel::new().whisper(&vec![0.1; 16_000 * 10]);
    let mut cache = EncoderCache::default();
    for expected in [500, 1000, 500] {
        encoder.forward_streaming(&mel, &mut cache).unwrap();
        assert_eq!(cache.len(), expected);
    }
}

#[test]
fn a_wrong_tensor_is_named() {
    let mut weights = fixture("model");
    weights.remove("apm.layers.1.fc2.bias");
    let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let error = AudioEncoder::load(TINY, &vb.pp("apm"), None).unwrap_err().to_string();
    assert!(error.contains("apm.layers.1.fc2.bias"), "{error}");
}

#[test]
fn too_long_a_sound_is_refused() {
    let weights = fixture("model");
    let mel = LogMel::new().whisper(&vec![0.1; 16_000 * 31]);
    let error = encoder(&weights).forward(&mel).unwrap_err().to_string();
    assert!(error.contains("1500"), "{error}");
}
