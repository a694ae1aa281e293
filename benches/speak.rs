//! What the starter engine takes to speak: the phonemes of a sentence, and its sound. `cargo bench --bench speak`.
#![allow(clippy::unwrap_used, reason = "a benchmark without its models has nothing to measure")]

#[path = "../tests/common/models.rs"]
mod models;

use antiphon::engine::CancelToken;
use antiphon::engine::cascade::phonemes::Phonemizer;
use antiphon::engine::cascade::tts::{Voice, VoiceOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SENTENCE: &str = "The sky is blue because the air scatters blue light more than red light.";

fn speak(c: &mut Criterion) {
    let folder = models::folder("piper-joe");
    let name = "en_US-joe-medium.onnx";
    let mut voice =
        Voice::load(&folder.join(name), &folder.join(format!("{name}.json")), VoiceOptions::default()).unwrap();
    let phonemizer = Phonemizer::new();
    c.bench_function("speak/phonemes", |b| b.iter(|| phonemizer.phonemes(SENTENCE).unwrap()));
    let mut say = |text: &str| {
        voice.seed(0);
        voice.synthesize(text, &CancelToken::default()).unwrap()
    };
    let mut group = c.benchmark_group("speak");
    for (name, text) in [("a word", "Yes."), ("a sentence", SENTENCE)] {
        // Samples a second: over 22,050 is faster than it sounds.
        group.throughput(Throughput::Elements(say(text).len() as u64));
        group.bench_function(name, |b| b.iter(|| say(text)));
    }
    group.finish();
}

criterion_group! { name = stage; config = Criterion::default().sample_size(10); targets = speak }
criterion_main!(stage);
