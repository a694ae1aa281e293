//! What is known before loading: the memory a checkpoint needs, and that a kind cannot be run.

use super::super::config::OmniConfig;
use super::super::gpu::GpuStep;
use super::super::load::{Compute, Omni, OmniOptions, Precision, Quantization};
use super::super::needs::Headers;
use super::super::random_checkpoint::{Recipe, Shapes, Sizes, config, tensors, vocoder_tensors};
use super::super::weights::Weights;
use super::tiny_dir;
use crate::engine::CancelToken;
use std::io::Write;
use std::path::Path;

/// A file with these tensors' headers, and a hole where their values would be.
fn hollow(file: &Path, shapes: &Shapes, kind: &str, width: usize) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in shapes {
        let end = at + shape.iter().product::<usize>() * width;
        header.insert(name.clone(), serde_json::json!({"dtype": kind, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut out = std::fs::File::create(file).unwrap();
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    out.set_len((8 + header.len() + at) as u64).unwrap();
}

/// The released checkpoint's headers.
fn released() -> (tempfile::TempDir, OmniConfig, Weights, Weights) {
    let dir = tempfile::tempdir().unwrap();
    let mut shapes = tensors(&Sizes::FULL);
    // Vision is in the released files too, and costs nothing.
    shapes.insert("vpm.embeddings.patch_embedding.weight".into(), vec![1152, 3, 14, 14]);
    hollow(&dir.path().join("model.safetensors"), &shapes, "BF16", 2);
    hollow(&dir.path().join("vocos.safetensors"), &vocoder_tensors(&Sizes::FULL), "F32", 4);
    let config = OmniConfig::parse(&config(&Sizes::FULL, [21_143, 21_132, 21_133]), "full").unwrap();
    let (weights, vocoder) = (Weights::open(dir.path(), None).unwrap(), Weights::open_vocoder(dir.path()).unwrap());
    (dir, config, weights, vocoder)
}

#[test]
fn the_released_model_needs_what_its_headers_say() {
    let (_dir, config, weights, vocoder) = released();
    let headers = Headers { config: &config, weights: &weights, vocoder: &vocoder, gguf: None };
    let gpu = OmniOptions { device: Compute::Cuda(0), dtype: Precision::Bf16, ..OmniOptions::default() };
    // By hand: 543,692,800 values in each of two tables, 6,525,288,448 in the matrices of 28 layers, 333,312 in their
    // biases and norms.
    let needs = headers.needs(&gpu);
    assert_eq!(needs.language, (2 * 543_692_800 + 6_525_288_448 + 333_312) * 2);
    // 24 layers of 12 x 1024 x 1024 and 12 vectors, two convolutions, positions, the last norm; the projector.
    let encoder = 24 * (12 * 1024 * 1024 + 12 * 1024) + (80 * 3 + 1024 * 3 + 2) * 1024 + 1500 * 1024 + 2 * 1024;
    assert_eq!(needs.hearing, (encoder + (1024 + 3584) * 3584 + 2 * 3584) * 2);
    // In millions: the stack 188.8, text and code tables with their heads 20.1, the projector 3.3, the DVAE's decoder 7,
    // Vocos 13.5.
    let plainly = headers.needs(&OmniOptions { speech_step: GpuStep::Plain, ..gpu.clone() }).speech;
    assert!((0.92e9..0.94e9).contains(&(plainly as f64)), "{needs}");
    // In bf16 once more: 20 layers of four matrices 768 by 768 and three of 768 by 3072.
    assert_eq!(needs.speech - plainly, 20 * (4 * 768 * 768 + 3 * 768 * 3072) * 2);
    // 28 layers of keys and values, 512 wide, over 8192 positions; the speech's 20, 768 wide, over 4096.
    assert_eq!(needs.context, 2 * 28 * 512 * 8192 * 2 + 2 * 20 * 768 * 4096 * 4);

    // Four and a half bits a weight, the table of embeddings as it is.
    let q4 = headers.needs(&OmniOptions { quantize: Some(Quantization::Q4K), ..gpu.clone() });
    let packed = (543_692_800 + 6_525_288_448) * 144 / 256;
    assert_eq!(q4.language, 543_692_800 * 2 + packed + 333_312 * 2);
    let q8 = headers.needs(&OmniOptions { quantize: Some(Quantization::Q8_0), ..gpu.clone() });
    assert!(q4.total() < q8.total() && q8.total() < needs.total());
    // A CPU computes in f32, whatever is asked for.
    assert_eq!(headers.needs(&OmniOptions { device: Compute::Cpu, ..gpu.clone() }).hearing, 2 * needs.hearing);

    // There, packed weights are kept a second time, in the order its kernels read them.
    let slow = headers.needs(&OmniOptions { quantize: Some(Quantization::Q4K), ..OmniOptions::default() });
    assert_eq!(slow.language, 543_692_800 * 2 + 2 * packed + 333_312 * 4);

    // What fits is told beside what does not.
    let gigabytes = |n: f64| Some((n * 1e9) as u64);
    let told = |options: &OmniOptions, n| headers.check(&OmniOptions { room: gigabytes(n), ..options.clone() });
    assert!(told(&gpu, 20.0).unwrap().contains("20.0 GB are free"));
    let error = told(&gpu, 12.0).unwrap_err().to_string();
    assert!(error.contains("graphics card") && error.contains("--quantize q8_0 (1"), "{error}");
    assert!(error.contains("--quantize q4_k") && error.contains("12.0 GB are free"), "{error}");
    let error = told(&gpu, 8.5).unwrap_err().to_string();
    assert!(!error.contains("q8_0") && error.contains("--quantize q4_k"), "{error}");
    let wide = OmniOptions { dtype: Precision::F32, ..gpu };
    let error = told(&wide, 24.0).unwrap_err().to_string();
    assert!(error.contains("use --dtype bf16 (1"), "{error}");
    let error = told(&OmniOptions::default(), 4.0).unwrap_err().to_string();
    assert!(error.contains("close other programs") && error.contains("--engine cascade"), "{error}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    Recipe::tiny(1).write(dir.path(), &CancelToken::default(), &mut |_, _| {}).unwrap();
    let load = |room| {
        let mut told = Vec::new();
        let options = OmniOptions { room: Some(room), ..OmniOptions::default() };
        let loaded = Omni::load(dir.path(), &options, &mut |what, _| told.push(what.to_string()));
        (loaded.map(drop), told)
    };
    let (refused, told) = load(1_000_000);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("1 MB are free") && refused.contains("close other programs"), "{refused}");
    assert!(told.is_empty(), "{told:?}");
    let (loaded, told) = load(1_000_000_000);
    loaded.unwrap();
    assert!(told[0].contains("needs") && told[0].contains("1.0 GB are free"), "{told:?}");
    assert!(told.iter().any(|what| what == "language") && told.iter().any(|what| what == "speech"), "{told:?}");
}

#[test]
fn progress_names_the_file_of_many() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("split");
    let recipe = Recipe { shard: 4_000_000, ..Recipe::tiny(1) };
    recipe.write(&dir, &CancelToken::default(), &mut |_, _| {}).unwrap();
    let mut told: Vec<String> = Vec::new();
    Omni::load(&dir, &OmniOptions::default(), &mut |what, _| told.push(what.to_string())).unwrap();
    for what in ["language (file 1 of ", "language (file 2 of ", "speech (file "] {
        assert!(told.iter().any(|t| t.contains(what)), "{what}: {told:?}");
    }
}

#[test]
fn packed_checkpoints_are_refused_with_what_to_use_instead() {
    let dir = tempfile::tempdir().unwrap();
    let says = |error: &str| {
        for word in ["GPTQ", "--quantize q4_k", "--llm"] {
            assert!(error.contains(word), "'{word}' is not in: {error}");
        }
    };
    let text = std::fs::read_to_string(tiny_dir().join("config.json")).unwrap();
    let mut root: serde_json::Value = serde_json::from_str(&text).unwrap();
    root["quantization_config"] = serde_json::json!({"bits": 4, "quant_method": "gptq", "group_size": 128});
    std::fs::write(dir.path().join("config.json"), root.to_string()).unwrap();
    says(&Omni::load(dir.path(), &OmniOptions::default(), &mut |_, _| {}).err().unwrap().to_string());
    // Also when only the tensors tell.
    let mut shapes = Shapes::new();
    for (part, shape) in [("qweight", [8, 64]), ("qzeros", [1, 8]), ("scales", [1, 64])] {
        shapes.insert(format!("llm.model.layers.0.mlp.up_proj.{part}"), shape.to_vec());
    }
    hollow(&dir.path().join("model.safetensors"), &shapes, "I32", 4);
    let error = Weights::open(dir.path(), None).err().unwrap().to_string();
    says(&error);
    assert!(error.contains("qweight"), "{error}");
}
