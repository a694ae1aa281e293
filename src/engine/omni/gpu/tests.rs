//! The kernels on the processor, against candle: each alone, in whole steps, and in whole answers.
//!
//! What is expected is computed by candle's own operations in f32, on the same random numbers; sums are made in another
//! order, so that values agree to a few parts in a million of the largest.

use super::super::probe::{NoProbe, Probe};
use super::super::tests::{EndsAt, Seen, speak, tiny};
use super::on_host::OnHost;
use super::step::{FusedStep, Parts, Sight};
use super::verify::Agreement;
use super::{Argument::Address as A, Argument::Factor as F, Argument::Number as N};
use super::{GpuStep, Launch, Machine, read_f32};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::Placement;
use crate::engine::transformer::{Decoder, DecoderConfig, Mask};
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use candle_nn::{ops, rotary_emb};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

const EPS: f32 = 1e-6;
const CLOSE: f32 = 5e-6;

/// The released speech model; the tiny checkpoint's; and one that has everything uneven, whose widths do not divide into
/// units of bf16 and whose heads share keys.
const SHAPES: [(usize, usize, usize, usize, usize); 3] =
    [(768, 12, 12, 64, 3072), (48, 4, 4, 12, 96), (52, 6, 2, 20, 100)];

pub(super) fn random(shape: &[usize], size: f32, rng: &mut StdRng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-size..size)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Random weights; with `bf16` such as bf16 holds.
pub(super) fn weights(rows: usize, columns: usize, bf16: bool, rng: &mut StdRng) -> Tensor {
    let w = random(&[rows, columns], (3.0 / columns as f32).sqrt(), rng);
    if bf16 { w.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap() } else { w }
}

pub(super) fn floats(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Not a number is not close either.
        assert!((f - e).abs() <= CLOSE * largest, "{what}: value {i} is {f}, expected {e} (largest {largest})");
    }
}

/// A machine with the weights, as the kernels of the suffix take them.
fn with(machine: &mut OnHost, w: &Tensor, bf16: bool) -> super::Argument {
    A(machine.place(&if bf16 { w.to_dtype(DType::BF16).unwrap() } else { w.clone() }).unwrap())
}

pub(super) fn read(machine: &mut OnHost, from: u64, n: usize) -> Vec<f32> {
    read_f32(machine, from, n).unwrap()
}

pub(super) fn n(number: usize) -> super::Argument {
    N(number as u32)
}

pub(super) fn numbers(machine: &mut OnHost, values: &[usize]) -> u64 {
    machine.hold(&values.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect::<Vec<_>>())
}

pub(super) fn addresses(machine: &mut OnHost, values: &[u64]) -> u64 {
    machine.hold(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn launch(kernel: &str, bf16: bool, grid: (usize, usize), shared: usize, arguments: Vec<super::Argument>) -> Launch {
    let kernel = format!("{kernel}_{}", if bf16 { "bf16" } else { "f32" });
    Launch { kernel, grid: (grid.0 as u32, grid.1 as u32), shared, arguments }
}

/// Every shape with the weights it can have, and both orders of threads and blocks.
fn cases() -> impl Iterator<Item = ((usize, usize, usize, usize, usize), bool, bool)> {
    SHAPES.into_iter().flat_map(|shape| {
        let kinds: &[bool] = if shape.0 % 8 == 0 { &[true, false] } else { &[false] };
        kinds.iter().map(move |bf16| (shape, *bf16, !*bf16))
    })
}

#[test]
fn queries_keys_and_values_are_those_of_norm_product_and_rotation() {
    for ((hidden, heads, kv_heads, width, _), bf16, backwards) in cases() {
        let (rng, m) = (&mut StdRng::seed_from_u64(1), &mut OnHost::start(backwards));
        let rows = (heads + 2 * kv_heads) * width;
        let (x, norm) = (random(&[1, hidden], 2.0, rng), random(&[hidden], 1.5, rng));
        let w = weights(rows, hidden, bf16, rng);
        let (at, room, half) = (5, 9, width / 2);
        let angles = random(&[room, half], 3.0, rng);
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        let bias = random(&[1, rows], 0.5, rng);
        // One shape without a bias.
        let (biased, address) =
            if width == 12 { (bias.zeros_like().unwrap(), 0) } else { (bias.clone(), m.place(&bias).unwrap()) };
        let product = ops::rms_norm(&x, &norm, EPS).unwrap().matmul(&w.t().unwrap()).unwrap().add(&biased).unwrap();
        let part = |from: usize, heads: usize, turned: bool| {
            let part = product.narrow(1, from * width, heads * width).unwrap().reshape((1, heads, 1, width)).unwrap();
            let part = part.contiguous().unwrap();
            let row = |t: &Tensor| t.narrow(0, at, 1).unwrap().contiguous().unwrap();
            floats(&if turned { rotary_emb::rope(&part, &row(&cos), &row(&sin)).unwrap() } else { part })
        };

        let (q, k, v) = (m.room(4 * heads * width).unwrap(), kv_heads * room * width, kv_heads * room * width);
        let (keys, values) = (m.hold(&vec![0; 4 * k]), m.hold(&vec![0; 4 * v]));
        let caches = addresses(m, &[0, 0, keys, values]);
        let moment = numbers(m, &[at, 1, 0, room, 0]);
        let arguments = vec![
            A(m.place(&x).unwrap()),
            A(m.place(&norm).unwrap()),
            with(m, &w, bf16),
            A(address),
            A(m.place(&cos).unwrap()),
            A(m.place(&sin).unwrap()),
            A(moment),
            A(caches),
            A(q),
            F(EPS),
            n(hidden),
            n(heads),
            n(kv_heads),
            n(width),
            n(1),
            n(0),
        ];
        // Fewer blocks than would make all rows at once.
        m.launch(&launch("qkv", bf16, (((heads + 2 * kv_heads) * half).div_ceil(11), 1), 4 * hidden, arguments));
        let what = format!("{hidden} wide, bf16 {bf16}");
        close(&format!("queries, {what}"), &read(m, q, heads * width), &part(0, heads, true));
        for (name, address, expected) in
            [("keys", keys, part(heads, kv_heads, true)), ("values", values, part(heads + kv_heads, kv_heads, false))]
        {
            let all = read(m, address, kv_heads * room * width);
            let slots: Vec<&[f32]> = all.chunks(width).collect();
            let written: Vec<f32> = (0..kv_heads).flat_map(|h| slots[h * room + at].to_vec()).collect();
            close(&format!("{name}, {what}"), &written, &expected);
            let others = slots.iter().enumerate().filter(|(i, _)| i % room != at);
            assert!(others.flat_map(|(_, slot)| *slot).all(|v| *v == 0.0), "{name} outside of the slot, {what}");
        }
    }
}

/// Runs the attention; gives where it left what the heads attended to.
pub(super) fn attend(
    m: &mut OnHost,
    q: &Tensor,
    moment: u64,
    caches: u64,
    (kv_heads, group, width, shares): (usize, usize, usize, usize),
    cache: &str,
) -> u64 {
    let heads = kv_heads * group;
    let (mixed, stats) = (m.room(4 * heads * shares * width).unwrap(), m.room(8 * heads * shares).unwrap());
    let across = kv_heads * group.div_ceil(4);
    let (arrived, attended) = (numbers(m, &vec![0; across]), m.room(4 * heads * width).unwrap());
    let q = m.place(q).unwrap();
    let scale = F((width as f64).powf(-0.5) as f32);
    let rooms = [q, moment, caches, mixed, stats, arrived, attended].map(A);
    let arguments = rooms.into_iter().chain([scale, n(group), n(width), n(0)]).collect();
    let grid = (across as u32, shares as u32);
    m.launch(&Launch { kernel: format!("attend_{cache}"), grid, shared: 0, arguments });
    // Ready for the next step.
    assert!(read(m, arrived, across).iter().all(|count| count.to_bits() == 0));
    attended
}

#[test]
fn attention_and_its_projection_are_the_softmax_over_what_is_seen() {
    // Before the first sound; with it; more than a key for every place; fewer keys than shares.
    let moments = [(30, 17, 30), (31, 17, 30), (400, 300, 302), (700, 41, 302), (303, 2, 302)];
    for ((hidden, heads, kv_heads, width, _), bf16, backwards) in cases() {
        for (at, text, begin) in moments {
            let (rng, m) = (&mut StdRng::seed_from_u64(2), &mut OnHost::start(backwards));
            let (room, shares, group) = (at + 3, 8, heads / kv_heads);
            let q = random(&[heads, 1, width], 4.0, rng);
            let cache = |rng: &mut StdRng| random(&[kv_heads, room, width], 1.0, rng);
            let (keys, values, x) = (cache(rng), cache(rng), random(&[1, hidden], 1.0, rng));
            let w = weights(hidden, heads * width, bf16, rng);
            let seen: Vec<u32> = (0..text).chain(begin + 1..at + 1).map(|slot| slot as u32).collect();
            let seen = Tensor::new(seen, &Device::Cpu).unwrap();
            let scale = (width as f64).powf(-0.5);
            let (k, v) = (keys.index_select(&seen, 1).unwrap(), values.index_select(&seen, 1).unwrap());
            let folded = (q.reshape((kv_heads, group, width)).unwrap() * scale).unwrap();
            let scores = folded.matmul(&k.t().unwrap()).unwrap();
            let mixed = ops::softmax_last_dim(&scores).unwrap().matmul(&v).unwrap();
            let mixed = mixed.reshape((1, heads * width)).unwrap();
            let expected = (&x + mixed.matmul(&w.t().unwrap()).unwrap()).unwrap();

            let (k, v) = (m.place(&keys).unwrap(), m.place(&values).unwrap());
            let caches = addresses(m, &[k, v]);
            let moment = numbers(m, &[at, text, begin, room]);
            let out = m.place(&x).unwrap();
            let attended = attend(m, &q, moment, caches, (kv_heads, group, width, shares), "f32");
            let arguments = vec![A(attended), with(m, &w, bf16), A(out), n(hidden), n(heads * width)];
            m.launch(&launch("project", bf16, (hidden.div_ceil(7), 1), 4 * heads * width, arguments));
            let what = format!("{hidden} wide, bf16 {bf16}, at {at} with {text} slots of text");
            close(&what, &read(m, out, hidden), &floats(&expected));
        }
    }
}

#[test]
fn the_feed_forward_is_silu_of_gate_times_up_and_down() {
    for ((hidden, _, _, _, ffn), bf16, backwards) in cases() {
        let (rng, m) = (&mut StdRng::seed_from_u64(3), &mut OnHost::start(backwards));
        let (x, norm) = (random(&[1, hidden], 2.0, rng), random(&[hidden], 1.5, rng));
        let (up, down) = (weights(2 * ffn, hidden, bf16, rng), weights(hidden, ffn, bf16, rng));
        let both = ops::rms_norm(&x, &norm, EPS).unwrap().matmul(&up.t().unwrap()).unwrap();
        let gate = ops::silu(&both.narrow(1, 0, ffn).unwrap()).unwrap();
        let inner = (gate * both.narrow(1, ffn, ffn).unwrap()).unwrap();
        let expected = (&x + inner.matmul(&down.t().unwrap()).unwrap()).unwrap();

        let (out, norm, made) = (m.place(&x).unwrap(), m.place(&norm).unwrap(), m.room(4 * ffn).unwrap());
        let up = with(m, &up, bf16);
        let planes = if bf16 { 2 } else { 1 };
        let arguments = vec![A(out), A(norm), up, A(made), F(EPS), n(hidden), n(ffn), n(planes)];
        m.launch(&launch("gate_up", bf16, (ffn.div_ceil(9), 1), 4 * hidden, arguments));
        let what = format!("{hidden} wide, bf16 {bf16}");
        let mut lying = read(m, made, ffn);
        if bf16 {
            // The first four values of every eight, then the second four.
            let (first, second) = lying.split_at(ffn / 2);
            lying = first.chunks(4).zip(second.chunks(4)).flat_map(|(a, b)| [a, b].concat()).collect();
        }
        close(&format!("inner, {what}"), &lying, &floats(&inner));
        let down = with(m, &down, bf16);
        let arguments = vec![A(made), down, A(out), n(hidden), n(ffn)];
        m.launch(&launch("down", bf16, (hidden.div_ceil(10), 1), 0, arguments));
        close(&format!("down, {what}"), &read(m, out, hidden), &floats(&expected));
    }
}

/// Random weights for a decoder of this shape; with `bf16` such as bf16 holds.
pub(super) fn decoder_weights(cfg: &DecoderConfig, bf16: bool, rng: &mut StdRng) -> HashMap<String, Tensor> {
    let DecoderConfig { hidden, ffn, .. } = *cfg;
    let (q, kv) = (cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim);
    let mut source: HashMap<String, Tensor> = HashMap::new();
    source.insert("norm.weight".into(), random(&[hidden], 1.5, rng));
    for i in 0..cfg.layers {
        for name in ["input_layernorm", "post_attention_layernorm"] {
            source.insert(format!("layers.{i}.{name}.weight"), random(&[hidden], 1.5, rng));
        }
        for (name, rows, columns) in [
            ("self_attn.q_proj", q, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, q),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ] {
            source.insert(format!("layers.{i}.{name}.weight"), weights(rows, columns, bf16, rng));
            if cfg.qkv_bias {
                source.insert(format!("layers.{i}.{name}.bias"), random(&[rows], 0.5, rng));
            }
        }
    }
    source
}

/// A decoder of random weights in one of the shapes.
fn decoder(shape: (usize, usize, usize, usize, usize), layers: usize, bf16: bool) -> Decoder {
    let (hidden, heads, kv_heads, head_dim, ffn) = shape;
    let rng = &mut StdRng::seed_from_u64(4);
    let cfg = DecoderConfig {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        rms_eps: EPS.into(),
        rope_theta: 10_000.0,
        qkv_bias: false,
        max_positions: 600,
    };
    let source = decoder_weights(&cfg, bf16, rng);
    Decoder::from_safetensors(&cfg, &source, "", &Placement::new(DType::F32, &Device::Cpu, None)).unwrap()
}

#[test]
fn whole_steps_are_the_plain_decoders_also_where_the_cache_grows() {
    for (shape, layers, bf16) in [(SHAPES[0], 2, true), (SHAPES[2], 3, false)] {
        let (decoder, rng) = (decoder(shape, layers, bf16), &mut StdRng::seed_from_u64(5));
        let (hidden, codes) = (shape.0, 60);
        let tables: Vec<Tensor> = (0..4).map(|_| random(&[codes, hidden], 1.0, rng)).collect();
        let (beginning, heads) = (random(&[1, hidden], 1.0, rng), random(&[4 * codes, hidden], 0.1, rng));
        let parts = Parts { decoder: &decoder, codes: &tables, beginning: &beginning, heads: &heads };
        let mut fused = FusedStep::new(&parts, Box::new(OnHost::start(bf16))).unwrap();
        let mut caches = [decoder.new_cache(600).unwrap(), decoder.new_cache(600).unwrap()];
        // The cache has room for 256 slots, then for 512.
        let (audio_start, text_end) = (253, 40);
        let prompt = random(&[audio_start, hidden], 1.0, rng);
        for cache in &mut caches {
            decoder.forward(&prompt, 0, cache, Mask::Causal).unwrap();
        }
        let [plain, quick] = &mut caches;
        for step in 0..6usize {
            let frame: Vec<u32> = (0..4).map(|q| ((q * 13 + step * 7) % codes) as u32).collect();
            let input = match step {
                0 => beginning.clone(),
                _ => frame.iter().zip(&tables).fold(Tensor::zeros((1, hidden), DType::F32, &Device::Cpu).unwrap(), {
                    |sum, (id, table)| (sum + table.narrow(0, *id as usize, 1).unwrap()).unwrap()
                }),
            };
            let at = plain.len();
            let mask = (0..at + 1).map(|key| if key < text_end || key > audio_start { 0.0 } else { f32::MIN });
            let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (1, at + 1), &Device::Cpu).unwrap();
            let expected = decoder.forward(&input, at, plain, Mask::Additive(&mask)).unwrap();
            let sight = Sight { text_end, audio_start, frame: (step > 0).then_some(&frame) };
            let logits = fused.run(sight, quick).unwrap().concat();
            let what = format!("step {step}, {hidden} wide");
            close(&format!("hidden, {what}"), &fused.hidden().unwrap(), &floats(&expected));
            close(&format!("logits, {what}"), &logits, &floats(&expected.matmul(&heads.t().unwrap()).unwrap()));
            assert_eq!((plain.len(), quick.len()), (at + 1, at + 1));
            let last = |cache: &KvCache| {
                let (keys, values) = cache.layer(layers - 1).unwrap();
                [floats(&keys.narrow(1, at, 1).unwrap()), floats(&values.narrow(1, at, 1).unwrap())].concat()
            };
            close(&format!("slot, {what}"), &last(quick), &last(plain));
        }
        let sight = Sight { text_end, audio_start, frame: Some(&[0, 0, codes as u32, 0]) };
        assert!(fused.run(sight, quick).is_err_and(|e| e.to_string().contains("is no frame")));
    }
}

/// Notes what every step came to.
#[derive(Default)]
struct Steps {
    seen: Seen,
    logits: Vec<f32>,
    hidden: Vec<f32>,
}

impl Probe for Steps {
    fn step(&mut self, input: &Tensor, mask: &Tensor, hidden: &Tensor, logits: &[Vec<f32>]) {
        self.seen.step(input, mask, hidden, logits);
        self.logits.extend(logits.concat());
        self.hidden.extend(floats(hidden));
    }
}

#[test]
fn an_answer_is_the_same_and_so_is_the_one_after_one_that_was_broken_off() {
    let words = ["These words come ", "one after the other, ", "and so do these."];
    let mut omni = tiny();
    let mut expected = Steps::default();
    let plainly = speak(&mut omni, &words, &mut EndsAt::new(20), &mut expected);
    let agreement = omni.mouth.tts.quicken(Box::new(OnHost::start(false))).unwrap();
    assert!(agreement.holds() && agreement.apart < 1e-5 * agreement.largest, "{agreement:?}");
    // Begun, and dropped in the middle.
    let voice = super::super::tests::speaker(&omni);
    let mut feed = super::super::words::WordFeed::new();
    let mut broken_off = super::super::speech::Speech::new(&omni.mouth, voice);
    broken_off.say(feed.push(&words.concat(), &omni.mouth.tokens).unwrap());
    for _ in 0..5 {
        broken_off.step(&mut omni.mouth, &mut EndsAt::new(20), &mut NoProbe).unwrap();
    }
    drop(broken_off);
    let mut found = Steps::default();
    let quickly = speak(&mut omni, &words, &mut EndsAt::new(20), &mut found);
    assert!(found.seen.steps.len() >= 20, "{} steps", found.seen.steps.len());
    assert_eq!(found.seen.steps, expected.seen.steps);
    close("logits", &found.logits, &expected.logits);
    close("hidden", &found.hidden, &expected.hidden);
    // The codes are the same, and so the sound is.
    assert_eq!(quickly, plainly);
}

/// A machine whose results are a little off.
struct Careless(OnHost);

impl Machine for Careless {
    fn place(&mut self, tensor: &Tensor) -> Result<u64, EngineError> {
        self.0.place(tensor)
    }

    fn place_blocks(&mut self, blocks: &Arc<QTensor>) -> Result<u64, EngineError> {
        self.0.place_blocks(blocks)
    }

    fn processors(&self) -> usize {
        self.0.processors()
    }

    fn room(&mut self, bytes: usize) -> Result<u64, EngineError> {
        self.0.room(bytes)
    }

    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        self.0.write(to, bytes)
    }

    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.0.read(from, bytes)?;
        for four in bytes.chunks_exact_mut(4) {
            let value = f32::from_le_bytes(four.try_into().unwrap()) * 1.01;
            four.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn prepare(&mut self, plan: Vec<Launch>) -> Result<(), EngineError> {
        self.0.prepare(plan)
    }

    fn run(&mut self, caches: u64, cache: &KvCache, at: usize) -> Result<(), EngineError> {
        self.0.run(caches, cache, at)
    }
}

#[test]
fn kernels_that_disagree_or_do_not_fit_are_not_used() {
    let mut omni = tiny();
    let mut expected = Steps::default();
    speak(&mut omni, &["A word."], &mut EndsAt::new(12), &mut expected);
    let agreement = omni.mouth.tts.quicken(Box::new(Careless(OnHost::start(false)))).unwrap();
    assert!(!agreement.holds(), "{agreement:?}");
    let mut found = Steps::default();
    speak(&mut omni, &["A word."], &mut EndsAt::new(12), &mut found);
    // Bit for bit: it is the plain decoder.
    assert_eq!(found.logits, expected.logits);

    let nothing = Agreement { apart: f32::INFINITY, largest: 1.0, tolerance: 0.1, plain_ms: 0.0, fused_ms: 0.0 };
    assert!(!nothing.holds());
    let shape = (54, 3, 3, 18, 96);
    let (decoder, rng) = (decoder(shape, 1, false), &mut StdRng::seed_from_u64(6));
    let (codes, beginning, heads) =
        (random(&[9, 54], 1.0, rng), random(&[1, 54], 1.0, rng), random(&[9, 54], 1.0, rng));
    let parts = Parts { decoder: &decoder, codes: &[codes], beginning: &beginning, heads: &heads };
    let refused = FusedStep::new(&parts, Box::new(OnHost::start(false))).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|why| why.contains("18 wide")));
}

#[test]
fn the_ways_are_read_by_name() {
    for way in [GpuStep::Graph, GpuStep::Launches, GpuStep::Plain] {
        assert_eq!(way.to_string().parse::<GpuStep>().unwrap(), way);
    }
    assert!("fast".parse::<GpuStep>().unwrap_err().to_string().contains("graph, launches, plain"));
}

/// `scripts/cuda.sh kernels` makes it anew, and needs no GPU.
#[test]
fn the_compiled_kernels_are_those_of_the_source() {
    let file = |name: &str| {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(name)).unwrap()
    };
    let digest: String = Sha256::digest(super::on_host::source()).iter().map(|byte| format!("{byte:02x}")).collect();
    let compiled = file("decoder_step.ptx");
    let first = compiled.lines().next().unwrap();
    assert!(first.ends_with(&digest), "the kernels' source has changed: run scripts/cuda.sh kernels ({first})");
    // Every name that a plan may hold is a kernel there.
    let by_weights = ["qkv", "project", "gate_up", "down", "embed_token", "head"];
    let named = by_weights.iter().flat_map(|k| ["f32", "bf16", "q8_0"].map(|w| format!("{k}_{w}")));
    let others = ["embed_frame", "attend_f32", "attend_bf16", "tops", "bound", "gather"];
    for kernel in named.chain(others.map(String::from)) {
        assert!(compiled.contains(&format!(".entry {kernel}(")), "{kernel}");
    }
}
