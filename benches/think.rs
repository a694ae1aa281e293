//! What the starter engine takes to think: tokens read at once, tokens written, and the products they are made of, by our own
//! kernel and by candle's. `cargo bench --bench think`; beside llama.cpp on the same file: `make bench-peers`.
#![allow(clippy::unwrap_used, reason = "a benchmark without its models has nothing to measure")]

#[path = "../tests/common/models.rs"]
mod models;

use antiphon::engine::CancelToken;
use antiphon::engine::cascade::llm::LanguageModel;
use antiphon::engine::packed::Packed;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// The language model's feed-forward.
const SHAPE: (usize, usize) = (8960, 1536);

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("think/product");
    let values: Vec<f32> = (0..SHAPE.0 * SHAPE.1).map(|i| (i as f32 * 0.7).sin()).collect();
    let dense = Tensor::from_vec(values, SHAPE, &Device::Cpu).unwrap();
    for kind in [GgmlDType::Q4K, GgmlDType::Q6K] {
        let weight = QTensor::quantize(&dense, kind).unwrap();
        let packed = Packed::new(&weight).unwrap();
        for rows in [1, 16] {
            let x = dense.narrow(0, 0, rows).unwrap().contiguous().unwrap();
            group.bench_with_input(BenchmarkId::new(format!("candle {kind:?}"), rows), &x, |b, x| {
                b.iter(|| x.apply_op1_no_bwd(&weight).unwrap());
            });
            if let Some(packed) = &packed {
                group.bench_with_input(BenchmarkId::new(format!("own {kind:?}"), rows), &x, |b, x| {
                    b.iter(|| packed.forward(x).unwrap());
                });
            }
        }
    }
    group.finish();
}

fn think(c: &mut Criterion) {
    let file = models::folder("qwen2.5-coder-1.5b").join("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf");
    let model = LanguageModel::load(&file, &Device::Cpu, &mut |_| {}).unwrap();
    let (begun, mut cache) = model.primed().unwrap();
    let cancel = CancelToken::default();
    for (name, tokens) in [("think/read 16 tokens", 16), ("think/write a token", 1)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                cache.truncate(begun.len());
                model.feed(&begun[..tokens], &mut cache, &cancel).unwrap()
            });
        });
    }
}

criterion_group! { name = stage; config = Criterion::default().sample_size(10); targets = products, think }
criterion_main!(stage);
