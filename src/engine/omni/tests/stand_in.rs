//! A GGUF file in the place of the checkpoint's language model.

use super::super::answer::Answer;
use super::super::config::OmniConfig;
use super::super::dialogue::Dialogue;
use super::super::load::{Omni, OmniOptions};
use super::super::probe::NoProbe;
use super::super::prompt;
use super::tiny_dir;
use crate::engine::sampling::{Sampler, SamplingConfig};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The names that llama.cpp's converter gives (`gguf-py/gguf/tensor_mapping.py`).
fn gguf_name(name: &str) -> String {
    let name = name.strip_prefix("llm.").unwrap();
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    pairs.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to))
}

/// What the converter writes about the tiny checkpoint's language model.
fn metadata() -> HashMap<String, Value> {
    let config = OmniConfig::read(&tiny_dir().join("config.json")).unwrap();
    let (llm, whole) = (&config.llm, |n: usize| Value::U32(n as u32));
    [
        ("general.architecture", Value::String("qwen2".into())),
        ("qwen2.block_count", whole(llm.layers)),
        ("qwen2.context_length", whole(llm.max_positions)),
        ("qwen2.embedding_length", whole(llm.hidden)),
        ("qwen2.feed_forward_length", whole(llm.ffn)),
        ("qwen2.attention.head_count", whole(llm.heads)),
        ("qwen2.attention.head_count_kv", whole(llm.kv_heads)),
        ("qwen2.attention.layer_norm_rms_epsilon", Value::F32(llm.rms_eps as f32)),
        ("qwen2.rope.freq_base", Value::F32(llm.rope_theta as f32)),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into()
}

fn language() -> HashMap<String, Tensor> {
    let mut all = candle_core::safetensors::load(tiny_dir().join("model.safetensors"), &Device::Cpu).unwrap();
    all.retain(|name, _| name.starts_with("llm."));
    all.into_iter().map(|(name, tensor)| (gguf_name(&name), tensor)).collect()
}

fn write(file: &Path, metadata: &HashMap<String, Value>, tensors: &HashMap<String, Tensor>, matrices: GgmlDType) {
    let packed: Vec<(&str, QTensor)> = tensors
        .iter()
        .map(|(name, t)| {
            let kind = if t.rank() == 2 { matrices } else { GgmlDType::F32 };
            (name.as_str(), QTensor::quantize(t, kind).unwrap())
        })
        .collect();
    let packed: Vec<(&str, &QTensor)> = packed.iter().map(|(name, t)| (*name, t)).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut std::fs::File::create(file).unwrap(), &metadata, &packed).unwrap();
}

fn load(llm: Option<PathBuf>) -> Result<Omni, String> {
    load_from(&tiny_dir(), llm)
}

fn load_from(dir: &Path, llm: Option<PathBuf>) -> Result<Omni, String> {
    let options = OmniOptions { llm, ..OmniOptions::default() };
    let mut done = 0.0;
    let mut forward = |_: &str, share: f32| {
        assert!((done..=1.0).contains(&share), "progress went from {done} to {share}");
        done = share;
    };
    Omni::load(dir, &options, &mut forward).map_err(|e| e.to_string())
}

/// The ids of a greedy answer to a voice prompt and two seconds of sound, and the logits of its first token.
fn answer(omni: &mut Omni) -> (Vec<u32>, Vec<f32>) {
    let tone: Vec<f32> = (0..32_000).map(|i| (i as f32 * 0.05).sin() * 0.3).collect();
    let mind = &mut omni.mind;
    let placeholders = prompt::placeholders(mind.ear.positions(20_000), mind.ear.group());
    let system = prompt::system_prompt(prompt::Mode::Assistant, prompt::Language::English, Some(&placeholders), "");
    let mut dialogue = Dialogue::new(mind, 1024).unwrap();
    dialogue.open(mind, &system, Some(&tone[..20_000]), &mut NoProbe).unwrap();
    for unit in tone.chunks(prompt::UNIT) {
        dialogue.listen(mind, unit, &mut NoProbe).unwrap();
    }
    let opening = dialogue.begin_answer(mind, &mut NoProbe).unwrap();
    let logits = opening.logits.flatten_all().unwrap().to_vec1().unwrap();
    let mut answer = Answer::new(&opening, Sampler::new(SamplingConfig::GREEDY, 0), 40);
    while !answer.over() {
        answer.step(mind, &mut dialogue, &mut NoProbe).unwrap();
    }
    (answer.fed().to_vec(), logits)
}

#[test]
fn a_gguf_file_answers_as_the_checkpoint_it_was_made_from() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("Model-tiny-F32.gguf");
    write(&file, &metadata(), &language(), GgmlDType::F32);
    let expected = answer(&mut load(None).unwrap());
    assert!(expected.0.len() > 20, "{expected:?}");
    assert_eq!(answer(&mut load(Some(file.clone())).unwrap()), expected);

    // With eight bits a weight, embeddings included, the first token is nearly as likely.
    write(&file, &metadata(), &language(), GgmlDType::Q8_0);
    let (_, packed) = answer(&mut load(Some(file.clone())).unwrap());
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    let off = norm(&mut packed.iter().zip(&expected.1).map(|(a, b)| a - b)) / norm(&mut expected.1.iter().copied());
    assert!(off > 0.0 && off < 0.05, "{off}");

    // The checkpoint's own language model is then not asked for: a folder without it will do.
    let bare = place.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    let mut all = candle_core::safetensors::load(tiny_dir().join("model.safetensors"), &Device::Cpu).unwrap();
    all.retain(|name, _| !name.starts_with("llm."));
    candle_core::safetensors::save(&all, bare.join("model.safetensors")).unwrap();
    for name in ["config.json", "vocos.safetensors", "llm_tokenizer/tokenizer.json", "chattts_tokenizer/tokenizer.json"]
    {
        std::fs::create_dir_all(bare.join(name).parent().unwrap()).unwrap();
        std::fs::copy(tiny_dir().join(name), bare.join(name)).unwrap();
    }
    assert!(load_from(&bare, None).err().unwrap().contains("llm.model.embed_tokens.weight"));
    write(&file, &metadata(), &language(), GgmlDType::F32);
    assert_eq!(answer(&mut load_from(&bare, Some(file)).unwrap()), expected);
}

#[test]
fn a_gguf_file_of_another_model_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("other.gguf");
    let refused = |key: &str, value: Value, words: &[&str]| {
        let mut metadata = metadata();
        metadata.insert(key.to_string(), value);
        write(&file, &metadata, &language(), GgmlDType::F32);
        let error = load(Some(file.clone())).err().unwrap();
        for word in words.iter().chain(&["other.gguf"]) {
            assert!(error.contains(word), "'{word}' is not in: {error}");
        }
    };
    refused("general.architecture", Value::String("llama".into()), &["architecture is llama", "qwen2"]);
    refused("qwen2.embedding_length", Value::U32(128), &["hidden size is 128", "config.json 64"]);
    refused("qwen2.block_count", Value::U32(3), &["number of layers is 3"]);
    refused("qwen2.attention.head_count_kv", Value::U32(4), &["number of key heads is 4"]);
    refused("qwen2.rope.freq_base", Value::F32(10_000.0), &["rotary", "10000"]);

    let mut tensors = language();
    let rows = tensors["token_embd.weight"].narrow(0, 0, 200).unwrap().force_contiguous().unwrap();
    tensors.insert("token_embd.weight".into(), rows);
    write(&file, &metadata(), &tensors, GgmlDType::F32);
    let error = load(Some(file.clone())).err().unwrap();
    assert!(error.contains("vocabulary is 200") && error.contains("277"), "{error}");

    let mut tensors = language();
    tensors.remove("blk.1.ffn_up.weight");
    write(&file, &metadata(), &tensors, GgmlDType::F32);
    let error = load(Some(file)).err().unwrap();
    assert!(error.contains("blk.1.ffn_up.weight"), "{error}");
    assert!(load(Some(place.path().join("none.gguf"))).err().unwrap().contains("none.gguf"));
}
