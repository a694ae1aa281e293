//! Folders that lack a file, and weights that are no numbers: an error that names the thing, never a panic, an endless
//! answer, or a noise that no loudspeaker should be given.

use super::super::OmniEngine;
use super::super::load::OmniOptions;
use super::{Heard, tiny_dir};
use crate::engine::{CancelToken, Engine, EngineError, ReplyEnd, ResponseSink, SessionSetup};
use candle_core::{DType, Device, Tensor};
use std::path::Path;
use std::sync::Arc;

const FILES: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "vocos.safetensors",
    "llm_tokenizer/tokenizer.json",
    "chattts_tokenizer/tokenizer.json",
];

fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let to = dir.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(tiny_dir().join(file), to).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<OmniEngine, EngineError> {
    OmniEngine::load(dir, OmniOptions { answer_tokens: 24, ..OmniOptions::default() }, &mut |_, _| {})
}

#[test]
fn a_file_that_is_missing_is_named() {
    load(copy().path()).unwrap();
    for file in FILES {
        let dir = copy();
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = load(dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        assert!(error.to_lowercase().contains(name) && error.contains("pull"), "{file}: {error}");
        // A folder in its place is no file either.
        std::fs::create_dir(dir.path().join(file)).unwrap();
        assert!(load(dir.path()).is_err(), "{file}");
    }
}

/// A question and its answer with some of the weights replaced by `value`.
fn answer(file: &str, tensor: &str, value: f32) -> (Result<ReplyEnd, EngineError>, Arc<Heard>) {
    let dir = copy();
    let file = dir.path().join(file);
    let mut all = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let shape = all[tensor].shape().clone();
    let broken = (Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap() * f64::from(value)).unwrap();
    all.insert(tensor.to_string(), broken);
    // Under another name first: the file may be mapped.
    let new = file.with_extension("new");
    candle_core::safetensors::save(&all, &new).unwrap();
    std::fs::rename(new, file).unwrap();
    let heard = Heard::new();
    let sink: Arc<dyn ResponseSink> = heard.clone();
    let said = load(dir.path()).and_then(|mut engine| {
        let mut session = engine.open(&SessionSetup::default())?;
        let tone: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.05).sin() * 0.3).collect();
        session.hear(&tone, &sink)?;
        session.respond(&sink, &CancelToken::default())
    });
    (said, heard)
}

#[test]
fn weights_that_are_no_numbers_are_an_error() {
    let (model, vocos) = ("model.safetensors", "vocos.safetensors");
    for (file, tensor) in [
        (model, "llm.lm_head.weight"),
        (model, "llm.model.layers.1.mlp.up_proj.weight"),
        (model, "apm.layer_norm.weight"),
        (model, "audio_projection_layer.linear2.weight"),
        (model, "tts.emb_code.0.weight"),
        (model, "tts.head_code.1.parametrizations.weight.original0"),
        (model, "tts.projector.linear1.weight"),
        (model, "tts.dvae.out_conv.weight"),
        (vocos, "head.out.weight"),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let (said, heard) = answer(file, tensor, value);
            let finite = heard.chunks.lock().unwrap().iter().flat_map(|c| &c.samples).all(|s| s.is_finite());
            assert!(finite, "{tensor} of {value}: the sound is not");
            let error = said.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("damaged") && error.contains("again"), "{tensor} of {value}: {error:?}");
        }
    }
}
