//! What the omni engine's stages take on the tiny checkpoint of the tests: for changes of the code, not for what the released
//! model takes (`make gpucheck`). `cargo bench --bench omni`.
#![allow(clippy::unwrap_used, reason = "a benchmark without its checkpoint has nothing to measure")]

use antiphon::engine::audio_encoder::EncoderCache;
use antiphon::engine::omni::load::{Omni, OmniOptions};
use antiphon::engine::omni::probe::NoProbe;
use criterion::{Criterion, criterion_group, criterion_main};
use std::path::Path;

fn omni(c: &mut Criterion) {
    let mut omni = Omni::load(Path::new("tests/fixtures/omni-tiny"), &OmniOptions::default(), &mut |_, _| {}).unwrap();
    let second: Vec<f32> = (0..16_000).map(|i| (i as f32 * 0.05).sin() * 0.2).collect();
    c.bench_function("omni/hear a second", |b| {
        b.iter(|| omni.mind.ear.hear(&second, &mut EncoderCache::default()).unwrap());
    });
    let llm = &omni.mind.llm;
    let mut cache = llm.new_cache(64).unwrap();
    for (name, tokens) in [("omni/read 16 tokens", 16), ("omni/write a token", 1)] {
        let embeds = llm.embed(&vec![1; tokens]).unwrap();
        c.bench_function(name, |b| {
            b.iter(|| {
                cache.truncate(0);
                let hidden = llm.forward(&embeds, &mut cache).unwrap();
                llm.logits(&hidden).unwrap()
            });
        });
    }
    let frames = vec![vec![1; omni.config.tts.codebooks]; 16];
    c.bench_function("omni/sound of 16 frames", |b| {
        b.iter(|| omni.mouth.vocoder.decode(&frames, &mut NoProbe).unwrap());
    });
}

criterion_group! { name = stages; config = Criterion::default().sample_size(10); targets = omni }
criterion_main!(stages);
