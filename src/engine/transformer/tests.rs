//! The stack against the genuine Qwen2 and Llama code (`tests/fixtures/decoder_tiny.py` says how the numbers came about).

use super::*;
use crate::engine::tensor_source::SafetensorsSource;
use candle_core::quantized::GgmlDType;
use std::collections::HashMap;

fn fixture() -> SafetensorsSource {
    SafetensorsSource::open_one(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoder_tiny.safetensors"))
        .unwrap()
}

fn qwen2() -> DecoderConfig {
    DecoderConfig {
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 128,
        rms_eps: 1e-6,
        rope_theta: 1e6,
        qkv_bias: true,
        max_positions: 4096,
    }
}

fn llama() -> DecoderConfig {
    DecoderConfig {
        hidden: 48,
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 12,
        ffn: 96,
        rms_eps: 1e-6,
        rope_theta: 1e4,
        qkv_bias: false,
        max_positions: 4096,
    }
}

fn cpu(quantize: Option<GgmlDType>) -> Placement {
    Placement::new(DType::F32, &Device::Cpu, quantize)
}

fn furthest(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

const CALLS: [usize; 4] = [169, 33, 27, 27];

#[test]
fn a_qwen2_conversation_gives_the_reference_logits() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let head = source.get("llm.lm_head.weight", &[277, 64]).unwrap();
    let mut cache = decoder.new_cache(4096).unwrap();
    for (i, n) in CALLS.into_iter().enumerate() {
        let embeds = source.get(&format!("llm.{i}.embeds"), &[n, 64]).unwrap();
        let at = cache.len();
        let hidden = decoder.forward(&embeds, at, &mut cache, Mask::Causal).unwrap();
        let logits = last_row(&hidden).unwrap().matmul(&head.t().unwrap()).unwrap();
        let expected = source.get(&format!("llm.{i}.logits"), &[277]).unwrap().unsqueeze(0).unwrap();
        let error = furthest(&logits, &expected);
        assert!(error < 2e-5, "call {i}: {error}");
    }
    assert_eq!(cache.len(), 256);
}

#[test]
fn one_by_one_and_over_a_grown_cache_is_the_same_as_at_once() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let embeds = source.get("llm.0.embeds", &[169, 64]).unwrap();
    let many = Tensor::cat(&[&embeds, &embeds, &embeds, &embeds], 0).unwrap();
    let mut at_once = decoder.new_cache(4096).unwrap();
    let whole = decoder.forward(&many, 0, &mut at_once, Mask::Causal).unwrap();
    let mut stepwise = decoder.new_cache(4096).unwrap();
    decoder.forward(&many.narrow(0, 0, 250).unwrap(), 0, &mut stepwise, Mask::Causal).unwrap();
    for i in 250..265 {
        let one = decoder.forward(&many.narrow(0, i, 1).unwrap(), i, &mut stepwise, Mask::Causal).unwrap();
        assert!(furthest(&one, &whole.narrow(0, i, 1).unwrap()) < 2e-5, "position {i}");
    }
    // 676 inputs were run as 512 and 164: the last row must agree with a run that ends there.
    let mut rest = decoder.new_cache(4096).unwrap();
    decoder.forward(&many.narrow(0, 0, 600).unwrap(), 0, &mut rest, Mask::Causal).unwrap();
    let tail = decoder.forward(&many.narrow(0, 600, 76).unwrap(), 600, &mut rest, Mask::Causal).unwrap();
    assert!(furthest(&tail, &whole.narrow(0, 600, 76).unwrap()) < 2e-5);
}

#[test]
fn what_lies_behind_forgotten_slots_moves_up_and_turns_with_its_position() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let embeds = source.get("llm.0.embeds", &[169, 64]).unwrap();
    let part = |from: usize, n: usize| embeds.narrow(0, from, n).unwrap();
    let mut cache = decoder.new_cache(512).unwrap();
    decoder.forward(&embeds, 0, &mut cache, Mask::Causal).unwrap();
    decoder.forget(&mut cache, 20..70).unwrap();
    decoder.forget(&mut cache, 100..100).unwrap();
    let mut fresh = decoder.new_cache(512).unwrap();
    let rest = Tensor::cat(&[part(0, 20), part(70, 99)], 0).unwrap();
    decoder.forward(&rest, 0, &mut fresh, Mask::Causal).unwrap();
    assert_eq!(cache.len(), 119);
    // The first layer's keys and values depend on nothing but their own input and its position.
    let ((k, v), (k_fresh, v_fresh)) = (cache.layer(0).unwrap(), fresh.layer(0).unwrap());
    assert!(furthest(&k, &k_fresh) < 2e-5, "{}", furthest(&k, &k_fresh));
    assert!(furthest(&v, &v_fresh) < 2e-5);
    // Those of the second know of what was forgotten, but those before it do not.
    let ((k, _), (k_fresh, _)) = (cache.layer(1).unwrap(), fresh.layer(1).unwrap());
    let before = |t: &Tensor| t.narrow(1, 0, 20).unwrap();
    assert!(furthest(&before(&k), &before(&k_fresh)) < 2e-5);
    assert!(furthest(&k, &k_fresh) > 1e-3, "it is not read again");
    // The last slots are as easily forgotten, and what was never there is not.
    decoder.forget(&mut cache, 100..119).unwrap();
    assert_eq!(cache.len(), 100);
    let err = decoder.forget(&mut cache, 90..101).unwrap_err().to_string();
    assert!(err.contains("90..101") && cache.is_empty(), "{err}");
}

#[test]
fn rolling_back_leaves_no_trace() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let first = source.get("llm.1.embeds", &[33, 64]).unwrap();
    let second = source.get("llm.2.embeds", &[27, 64]).unwrap();
    let mut plain = decoder.new_cache(512).unwrap();
    decoder.forward(&first, 0, &mut plain, Mask::Causal).unwrap();
    let mut other = decoder.new_cache(512).unwrap();
    decoder.forward(&first, 0, &mut other, Mask::Causal).unwrap();
    decoder.forward(&second, 33, &mut other, Mask::Causal).unwrap();
    other.truncate(33);
    let a = decoder.forward(&second, 33, &mut plain, Mask::Causal).unwrap();
    let b = decoder.forward(&second, 33, &mut other, Mask::Causal).unwrap();
    assert_eq!(a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
}

#[test]
fn fixed_slots_and_additive_masks_give_the_reference_steps() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&llama(), &source, "tts.model.", &cpu(None)).unwrap();
    let mut cache = decoder.new_cache(4096).unwrap();
    cache.set_len(302).unwrap();
    let text = source.get("tts.text.embeds", &[4, 48]).unwrap();
    decoder.forward(&text, 0, &mut cache, Mask::Causal).unwrap();
    assert_eq!(cache.len(), 302);
    let keys = cache.layer(1).unwrap().0.narrow(1, 0, 4).unwrap();
    assert!(furthest(&keys, &source.get("tts.text.k", &[4, 4, 12]).unwrap()) < 1e-5);
    for j in 0..3 {
        let at = 302 + j;
        let embeds = source.get(&format!("tts.{j}.embeds"), &[1, 48]).unwrap();
        let mask = source.get(&format!("tts.{j}.mask"), &[1, at + 1]).unwrap();
        let hidden = decoder.forward(&embeds, at, &mut cache, Mask::Additive(&mask)).unwrap();
        let error = furthest(&hidden, &source.get(&format!("tts.{j}.hidden"), &[1, 48]).unwrap());
        // The recording itself, in f32, is up to 2.4e-5 from an evaluation in double precision.
        assert!(error < 5e-5, "step {j}: {error}");
    }
    assert_eq!(cache.len(), 305);
}

#[test]
fn eight_bit_weights_stay_close_to_full_precision() {
    let source = fixture();
    let exact = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let coarse = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(Some(GgmlDType::Q8_0))).unwrap();
    let embeds = source.get("llm.1.embeds", &[33, 64]).unwrap();
    let a = exact.forward(&embeds, 0, &mut exact.new_cache(64).unwrap(), Mask::Causal).unwrap();
    let b = coarse.forward(&embeds, 0, &mut coarse.new_cache(64).unwrap(), Mask::Causal).unwrap();
    let scale: f32 = a.sqr().unwrap().mean_all().unwrap().sqrt().unwrap().to_scalar().unwrap();
    let error: f32 = (a - b).unwrap().sqr().unwrap().mean_all().unwrap().sqrt().unwrap().to_scalar().unwrap();
    assert!(error > 0.0 && error / scale < 0.03, "relative error {}", error / scale);
}

#[test]
fn wrong_inputs_are_errors() {
    let source = fixture();
    let decoder = Decoder::from_safetensors(&qwen2(), &source, "llm.model.", &cpu(None)).unwrap();
    let mut cache = decoder.new_cache(64).unwrap();
    let embeds = source.get("llm.1.embeds", &[33, 64]).unwrap();
    let hole = decoder.forward(&embeds, 5, &mut cache, Mask::Causal).unwrap_err().to_string();
    assert!(hole.contains("position 5"), "{hole}");
    decoder.forward(&embeds, 0, &mut cache, Mask::Causal).unwrap();
    let full = decoder.forward(&embeds, 33, &mut cache, Mask::Causal).unwrap_err().to_string();
    assert!(full.contains("66") && full.contains("64"), "{full}");
    let mask = Tensor::zeros((2, 34), DType::F32, &Device::Cpu).unwrap();
    let row = embeds.narrow(0, 0, 1).unwrap();
    assert!(decoder.forward(&row, 33, &mut cache, Mask::Additive(&mask)).is_err());
    let missing =
        Decoder::from_safetensors(&qwen2(), &HashMap::new(), "llm.model.", &cpu(None)).unwrap_err().to_string();
    assert!(missing.contains("llm.model.layers.0.input_layernorm.weight"), "{missing}");
    let mut odd = qwen2();
    odd.ffn = 100;
    let err = Decoder::from_safetensors(&odd, &source, "llm.model.", &cpu(None)).unwrap_err().to_string();
    assert!(err.contains("mlp.gate_proj.weight") && err.contains("[128, 64]") && err.contains("[100, 64]"), "{err}");
}

#[test]
fn neighbours_turn_like_permuted_halves() {
    // Rows of a llama GGUF are permuted so that turning neighbours is turning halves (convert_hf_to_gguf.py, `permute`).
    let cfg = DecoderConfig { max_positions: 16, ..qwen2() };
    let halves = Rotary::new(&cfg, Rotation::Halves, None, &cpu(None)).unwrap();
    let neighbours = Rotary::new(&cfg, Rotation::Neighbours, None, &cpu(None)).unwrap();
    let values: Vec<f32> = (0..2 * 3 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    let x = Tensor::from_vec(values, (2, 3, 16), &Device::Cpu).unwrap();
    let order: Vec<u32> = (0..8).flat_map(|i| [i, i + 8]).collect();
    let order = Tensor::new(order, &Device::Cpu).unwrap();
    let a = halves.turn(&x, 5).unwrap().index_select(&order, 2).unwrap();
    let b = neighbours.turn(&x.index_select(&order, 2).unwrap(), 5).unwrap();
    assert!(furthest(&a, &b) < 1e-6);
}
