//! What the path of the sound takes: both callbacks, the joints of chunks, the resampler. `cargo bench --bench sound`.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use antiphon::audio::Joiner;
use antiphon::audio::capture::CaptureCallback;
use antiphon::audio::playback::PlaybackCallback;
use antiphon::dsp::resample::Resampler;
use antiphon::time::Micros;
use criterion::{Criterion, criterion_group, criterion_main};

/// 10 ms at 48 kHz.
const FRAMES: usize = 480;
const RATE: u32 = 48_000;

fn tone(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.05).sin() * 0.5).collect()
}

fn callbacks(c: &mut Criterion) {
    let (mut capture, mut ear) = CaptureCallback::new(RATE, "bench");
    let heard = tone(2 * FRAMES);
    let mut read = Vec::with_capacity(FRAMES);
    c.bench_function("sound/input callback, 10 ms, stereo", |b| {
        b.iter(|| {
            capture.process(&heard, 2, Micros(1_000_000));
            read.clear();
            ear.read(&mut read)
        });
    });
    let (mut playback, mut mouth) = PlaybackCallback::new(RATE, "bench");
    let mut tap = mouth.tap.take().unwrap();
    let said = tone(FRAMES);
    let mut out = vec![0.0_f32; 2 * FRAMES];
    c.bench_function("sound/output callback, 10 ms, stereo", |b| {
        b.iter(|| {
            mouth.push(&said);
            playback.process(&mut out, 2, Micros(1_000_000));
            read.clear();
            tap.read(&mut read)
        });
    });
}

fn joints(c: &mut Criterion) {
    // A chunk of 25 frames and the overlap of the omni engine's vocoder, at 24 kHz.
    let (chunk, overlap) = (tone(12_800), 512);
    let mut out = Vec::with_capacity(2 * chunk.len());
    c.bench_function("sound/joint of two chunks", |b| {
        b.iter(|| {
            let mut joiner = Joiner::new(overlap);
            out.clear();
            joiner.push(&chunk, 0, &mut out);
            joiner.push(&chunk, overlap, &mut out);
        });
    });
}

fn resampler(c: &mut Criterion) {
    for (from, to) in [(48_000, 16_000), (22_050, 48_000), (24_000, 48_000)] {
        let mut resampler = Resampler::new(from, to).unwrap();
        let input = tone(from as usize / 100);
        let mut out = Vec::with_capacity(4 * FRAMES);
        c.bench_function(&format!("sound/10 ms from {from} to {to} Hz"), |b| {
            b.iter(|| {
                out.clear();
                resampler.process(&input, &mut out);
            });
        });
    }
}

criterion_group!(path, callbacks, joints, resampler);
criterion_main!(path);
