//! The language model's step on the processor: what only it uses of the kernels, and whole answers, against the plain
//! decoder. What is expected is computed by candle's own operations, or follows from the definition.

use super::super::dialogue::Dialogue;
use super::super::probe::{NoProbe, Probe};
use super::super::tests::tiny;
use super::on_host::OnHost;
use super::tests::{addresses, attend, close, decoder_weights, floats, n, numbers, random, read, weights};
use super::{Argument::Address as A, Argument::Factor as F};
use super::{Launch, Machine, read_u32};
use crate::engine::linear::{Linear, Matrix, Placement};
use crate::engine::sampling::{Outlook, Sampler, SamplingConfig};
use crate::engine::transformer::{Decoder, DecoderConfig, Mask};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;

fn bf16(t: &Tensor) -> Tensor {
    t.to_dtype(DType::BF16).unwrap()
}

fn run(m: &mut OnHost, kernel: &str, blocks: usize, shared: usize, arguments: Vec<super::Argument>) {
    m.launch(&Launch { kernel: kernel.into(), grid: (blocks as u32, 1), shared, arguments });
}

/// Seven heads to a key, as in the released model; and widths that leave lanes idle.
#[test]
fn attention_to_keys_in_bf16_is_the_softmax_over_them() {
    for (kv_heads, group, width, shares) in [(2, 7, 128, 16), (3, 1, 64, 5), (1, 6, 24, 3)] {
        for (len, backwards) in [(1, false), (37, true), (700, false)] {
            let (rng, m) = (&mut StdRng::seed_from_u64(11), &mut OnHost::start(backwards));
            let (heads, room) = (kv_heads * group, len + 2);
            let q = random(&[heads, 1, width], 4.0, rng);
            let [keys, values] = [(); 2].map(|()| bf16(&random(&[kv_heads, room, width], 1.0, rng)));
            let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap().narrow(1, 0, len).unwrap();
            let folded = (q.reshape((kv_heads, group, width)).unwrap() * (width as f64).powf(-0.5)).unwrap();
            let scores = folded.matmul(&wide(&keys).t().unwrap()).unwrap();
            let expected = ops::softmax_last_dim(&scores).unwrap().matmul(&wide(&values)).unwrap();

            let (k, v) = (m.place(&keys).unwrap(), m.place(&values).unwrap());
            let caches = addresses(m, &[k, v]);
            let moment = numbers(m, &[len - 1, len, len - 1, room]);
            let attended = attend(m, &q, moment, caches, (kv_heads, group, width, shares), "bf16");
            let what = format!("{heads} heads {width} wide, {len} keys");
            close(&what, &read(m, attended, heads * width), &floats(&expected));
        }
    }
}

#[test]
fn keys_and_values_are_rounded_to_bf16_as_candle_rounds_them() {
    let (rng, m) = (&mut StdRng::seed_from_u64(12), &mut OnHost::start(false));
    let (hidden, heads, width, at, room) = (32, 2, 16, 3, 5);
    let (x, norm) = (random(&[1, hidden], 2.0, rng), random(&[hidden], 1.5, rng));
    let w = weights(3 * heads * width, hidden, false, rng);
    let zeros = Tensor::zeros((room, width / 2), DType::F32, &Device::Cpu).unwrap();
    let product = ops::rms_norm(&x, &norm, 1e-6).unwrap().matmul(&w.t().unwrap()).unwrap();
    let slots: Vec<u64> = (0..2).map(|_| m.hold(&vec![0; 2 * heads * room * width])).collect();
    let (caches, moment, q) = (addresses(m, &slots), numbers(m, &[at, 4, 3, room]), m.room(4 * heads * width).unwrap());
    // Nothing turns.
    let placed = [&x, &norm, &w].map(|t| A(m.place(t).unwrap()));
    let turned = [zeros.ones_like().unwrap(), zeros].map(|t| A(m.place(&t).unwrap()));
    let rest = [F(1e-6), n(hidden), n(heads), n(heads), n(width), n(0), n(1)];
    let arguments = [&placed[..], &[A(0)], &turned, &[A(moment), A(caches), A(q)], &rest].concat();
    run(m, "qkv_f32", 3, 4 * hidden, arguments);
    for (part, slots) in slots.into_iter().enumerate() {
        let words = read_u32(m, slots, heads * room * width / 2).unwrap();
        let all: Vec<f32> =
            words.iter().flat_map(|w| [f32::from_bits(w << 16), f32::from_bits(w & 0xffff_0000)]).collect();
        let written: Vec<f32> = (0..heads).flat_map(|h| all[(h * room + at) * width..][..width].to_vec()).collect();
        let exact = product.narrow(1, (1 + part) * heads * width, heads * width).unwrap();
        // Products that differ in their last bit may round to neighbours.
        for (found, exact) in written.iter().zip(floats(&exact)) {
            assert!((found - exact).abs() <= exact.abs() / 256.0 + 1e-6, "{found} for {exact}");
        }
        let same = written.iter().zip(floats(&bf16(&exact).to_dtype(DType::F32).unwrap()));
        assert!(same.filter(|(found, rounded)| *found != rounded).count() <= 1);
    }
}

#[test]
fn quantised_rows_are_multiplied_as_they_are_stored() {
    let (rng, m) = (&mut StdRng::seed_from_u64(13), &mut OnHost::start(true));
    for (rows, columns) in [(50, 768), (9, 32), (21, 3584)] {
        let (x, norm) = (random(&[1, columns], 2.0, rng), random(&[columns], 1.5, rng));
        let blocks = QTensor::quantize(&weights(rows, columns, false, rng), GgmlDType::Q8_0).unwrap();
        let exact = blocks.dequantize(&Device::Cpu).unwrap();
        let state = ops::rms_norm(&x, &norm, 1e-6).unwrap();
        let blocks = m.place_blocks(&Arc::new(blocks)).unwrap();
        let [hidden, logits] = [columns, rows].map(|n| m.room(4 * n).unwrap());
        let placed = [&x, &norm].map(|t| A(m.place(t).unwrap()));
        let rest = [A(blocks), A(hidden), A(logits), F(1e-6), n(columns), n(rows)];
        run(m, "head_q8_0", 2, 4 * columns, [&placed[..], &rest].concat());
        close("state", &read(m, hidden, columns), &floats(&state));
        close("logits", &read(m, logits, rows), &floats(&state.matmul(&exact.t().unwrap()).unwrap()));
        // A row of the same blocks as an embedding.
        let (moment, row) = (numbers(m, &[0, 1, 0, 1, rows - 2]), m.room(4 * columns).unwrap());
        run(m, "embed_token_q8_0", columns.div_ceil(512), 0, vec![A(moment), A(blocks), A(row), n(columns)]);
        assert_eq!(read(m, row, columns), floats(&exact.narrow(0, rows - 2, 1).unwrap()));
    }
}

#[test]
fn the_likeliest_are_found_and_hardly_more() {
    let rng = &mut StdRng::seed_from_u64(14);
    let chance = floats(&random(&[20_000], 9.0, rng));
    let mut damaged = chance.clone();
    damaged[777] = f32::NAN;
    let few = chance[..100].to_vec();
    // All the largest fall into one heap: only it tells of them.
    let heaps = 4096;
    let crowded: Vec<f32> = (0..20_000).map(|i| if i % heaps == 5 { 50.0 + i as f32 } else { chance[i] }).collect();
    let equal = vec![-1.5; 20_000];
    for (what, logits, backwards) in [
        ("chance", chance, false),
        ("crowded", crowded, true),
        ("few", few, false),
        ("damaged", damaged, true),
        ("equal", equal, false),
    ] {
        let m = &mut OnHost::start(backwards);
        let (outputs, wanted, capacity) = (logits.len(), 256, 1024);
        let placed = m.place(&Tensor::from_vec(logits.clone(), outputs, &Device::Cpu).unwrap()).unwrap();
        let (largest, found) = (m.room(4 * heaps).unwrap(), m.room(4 * (2 + 2 * capacity)).unwrap());
        run(m, "tops", heaps / 128, 0, vec![A(placed), A(largest), n(outputs)]);
        run(m, "bound", 1, 4 * heaps, vec![A(largest), A(found), n(heaps), n(wanted)]);
        run(m, "gather", 3, 0, vec![A(placed), A(found), n(outputs), n(capacity)]);
        let numbers = read_u32(m, found, 2 + 2 * capacity).unwrap();
        let count = numbers[0] as usize;
        if what == "equal" {
            // More than there is room for: all of them are asked for instead.
            assert_eq!(count, outputs);
            continue;
        }
        let pairs: Vec<(u32, f32)> =
            numbers[2..].chunks(2).take(count).map(|pair| (pair[0], f32::from_bits(pair[1]))).collect();
        assert!(count >= wanted.min(outputs) && count < 400, "{what}: {count}");
        let mut sorted: Vec<(u32, f32)> = (0..).zip(logits).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (id, logit) in &sorted[..wanted.min(outputs)] {
            assert!(pairs.iter().any(|p| p.0 == *id && p.1.to_bits() == logit.to_bits()), "{what}: {id} is missing");
        }
    }
}

/// Remembers what the language model was given and came to.
#[derive(Default)]
struct Steps(Vec<(Vec<f32>, Vec<f32>)>);

impl Probe for Steps {
    fn llm(&mut self, embeds: &Tensor, hidden: &Tensor) {
        self.0.push((floats(embeds), floats(hidden)));
    }
}

/// An answer of some words after a prompt, by the model's own way; and what came to be on the way.
fn answer(omni: &super::super::load::Omni, needed: bool) -> (Vec<u32>, Steps) {
    let mut dialogue = Dialogue::new(&omni.mind, 400).unwrap();
    let mut steps = Steps::default();
    let mut sampler =
        Sampler::new(SamplingConfig { top_k: 20, penalty_window: 9, ..super::super::answer::SAMPLING }, 3);
    let mut outlook = Outlook::All(dialogue.begin_answer(&omni.mind, &mut NoProbe).unwrap().logits);
    let mut ids = Vec::new();
    for _ in 0..40 {
        let id = sampler.choose(&outlook).unwrap();
        outlook = dialogue.say(&omni.mind, id, sampler.needs().filter(|_| needed), &mut steps).unwrap();
        ids.push(id);
    }
    (ids, steps)
}

#[test]
fn an_answer_is_that_of_the_plain_decoder() {
    let mut omni = tiny();
    let (expected, plainly) = answer(&omni, true);
    let agreement = omni.mind.llm.quicken(Box::new(OnHost::start(true))).unwrap();
    assert!(agreement.holds() && agreement.tolerance < 0.01, "{agreement:?}");
    for needed in [true, false] {
        let (ids, steps) = answer(&omni, needed);
        assert_eq!(ids, expected);
        for (found, expected) in steps.0.iter().zip(&plainly.0) {
            close("input", &found.0, &expected.0);
            close("hidden", &found.1, &expected.1);
        }
        assert_eq!(steps.0.len(), plainly.0.len());
    }
}

/// As the released model has it: biases, and more heads to a key than a block looks up; weights in Q8_0, of widths that
/// candle leaves as they are.
#[test]
fn a_quantised_step_is_the_plain_decoders() {
    let rng = &mut StdRng::seed_from_u64(15);
    let (hidden, heads, kv_heads, head_dim, ffn, vocab, layers) = (160, 5, 1, 32, 320, 999, 2);
    let cfg = DecoderConfig {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        rms_eps: 1e-6,
        rope_theta: 1e6,
        qkv_bias: true,
        max_positions: 64,
    };
    let source = decoder_weights(&cfg, false, rng);
    let table = random(&[vocab, hidden], 1.0, rng);
    let head = Arc::new(QTensor::quantize(&weights(vocab, hidden, false, rng), GgmlDType::Q8_0).unwrap());
    let place = Placement::new(DType::F32, &Device::Cpu, Some(GgmlDType::Q8_0));
    let decoder = Decoder::from_safetensors(&cfg, &source, "", &place).unwrap();
    let parts = super::language::LanguageParts {
        decoder: &decoder,
        table: Matrix::Dense(&table),
        head: Matrix::Quantised(&head),
        vocab,
    };
    let mut fused = super::language::LanguageStep::new(&parts, Box::new(OnHost::start(false))).unwrap();
    let mut caches = [decoder.new_cache(64).unwrap(), decoder.new_cache(64).unwrap()];
    let [plain, quick] = &mut caches;
    let head = Linear::quantised(head.clone(), None, DType::F32).unwrap();
    for (at, id) in [5u32, 998, 0, 421, 77].into_iter().enumerate() {
        let input = table.narrow(0, id as usize, 1).unwrap();
        let hidden = decoder.forward(&input, at, plain, Mask::Causal).unwrap();
        let expected = floats(&head.forward(&hidden).unwrap());
        fused.run(id, Some(1), quick).unwrap();
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        // candle rounds what is multiplied to eight bits, which the kernels do not.
        for (found, expected) in fused.logits().unwrap().iter().zip(&expected) {
            assert!((found - expected).abs() < 0.05 * largest, "step {at}: {found}, expected {expected} of {largest}");
        }
    }
    assert!(fused.run(vocab as u32, Some(1), quick).is_err_and(|e| e.to_string().contains("is no token")));
}
