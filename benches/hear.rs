//! What the starter engine takes to hear: the spectrogram, the encoder, a whole question. `cargo bench --bench hear`.
#![allow(clippy::unwrap_used, reason = "a benchmark without its models has nothing to measure")]

#[path = "../tests/common/models.rs"]
mod models;

use antiphon::audio::file;
use antiphon::dsp::mel::LogMel;
use antiphon::dsp::resample;
use antiphon::engine::cascade::stt::SpeechToText;
use antiphon::engine::whisper::{Language, Precision, Whisper};
use antiphon::engine::{CancelToken, HEARING_RATE};
use candle_core::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;

fn hear(c: &mut Criterion) {
    let clip = file::read(Path::new("assets/question.wav")).unwrap();
    let pcm = resample::convert(&clip.samples, clip.rate, HEARING_RATE).unwrap();
    let whisper = Arc::new(Whisper::load(&models::folder("whisper-base"), Precision::Eight, &Device::Cpu).unwrap());
    let mut mel = LogMel::new();
    c.bench_function("hear/spectrogram", |b| b.iter(|| mel.whisper(&pcm)));
    let spectrogram = mel.whisper(&pcm);
    c.bench_function("hear/encoder", |b| b.iter(|| whisper.encode(&spectrogram).unwrap()));
    c.bench_function("hear/question", |b| {
        b.iter(|| {
            let mut stt = SpeechToText::new(Arc::clone(&whisper), Language::Known("en".into()));
            stt.push(&pcm);
            stt.finish(&CancelToken::default(), &mut |_| {}).unwrap()
        });
    });
}

criterion_group! { name = stage; config = Criterion::default().sample_size(10); targets = hear }
criterion_main!(stage);
