//! Proof that the audio callbacks neither allocate nor panic: a million buffers of random sizes under an allocator that
//! counts every allocation made where none is allowed. The same code runs under a real sound card.

use antiphon::audio::Joiner;
use antiphon::audio::capture::CaptureCallback;
use antiphon::audio::playback::PlaybackCallback;
use antiphon::dsp::resample::Resampler;
use antiphon::time::Micros;
use assert_no_alloc::{AllocDisabler, assert_no_alloc, violation_count};
use cpal::I24;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const BUFFERS: u64 = 1_000_000;
const LARGEST: usize = 4096;

/// A device buffer of every format, made once.
struct Buffers {
    f32: Vec<f32>,
    i16: Vec<i16>,
    u16: Vec<u16>,
    i24: Vec<I24>,
    i32: Vec<i32>,
    u8: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            f32: vec![0.1; LARGEST],
            i16: vec![99; LARGEST],
            u16: vec![40_000; LARGEST],
            i24: vec![I24::new_unchecked(4000); LARGEST],
            i32: vec![1 << 20; LARGEST],
            u8: vec![130; LARGEST],
        }
    }
}

/// Sizes from 1 to 4096 of which small ones are the most frequent, as they are the hardest on the bookkeeping.
fn random_size(rng: &mut SmallRng) -> usize {
    let limit = 1usize << rng.random_range(0..=12);
    rng.random_range(1..=limit)
}

#[test]
fn a_million_output_buffers() {
    let mut rng = SmallRng::seed_from_u64(1);
    let (mut callback, mut end) = PlaybackCallback::new(48_000, "test");
    let control = end.control.clone();
    let mut buffers = Buffers::new();
    let mut tap = end.tap.take().expect("a new end has a tap");
    let mut tapped = Vec::with_capacity(200_000);
    let source: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.05).sin() * 1.2).collect();
    let (mut frames, mut beyond, mut now) = (0u64, false, Micros(1_000_000));
    for i in 0..BUFFERS {
        match rng.random_range(0..40) {
            0 => control.flush(),
            1 => control.set_duck(rng.random()),
            2 => control.set_volume(rng.random_range(-0.5..1.5)),
            3 => control.set_expecting(rng.random()),
            4 => {
                tapped.clear();
                tap.read(&mut tapped);
                beyond |= tapped.iter().any(|s| !(-1.0..=1.0).contains(s));
            }
            // The mouth as the session drives it: nothing new while a flush is pending.
            _ if !control.flush_pending() && end.queued() < 60_000 => {
                let n = random_size(&mut rng);
                end.push(&source[..n]);
            }
            _ => {}
        }
        let n = random_size(&mut rng);
        let channels = [1, 1, 2, 2, 3, 6][rng.random_range(0..6)];
        let format = rng.random_range(0..6);
        assert_no_alloc(|| match format {
            0 => callback.process(&mut buffers.f32[..n], channels, now),
            1 => callback.process(&mut buffers.i16[..n], channels, now),
            2 => callback.process(&mut buffers.u16[..n], channels, now),
            3 => callback.process(&mut buffers.i24[..n], channels, now),
            4 => callback.process(&mut buffers.i32[..n], channels, now),
            _ => callback.process(&mut buffers.u8[..n], channels, now),
        });
        frames += n.div_ceil(channels) as u64;
        now = now + Micros::of_samples(n as u64, 48_000);
        assert_eq!(control.pulse.beats(), i + 1);
    }
    assert_eq!(violation_count(), 0, "the output callback allocated");
    assert!(!beyond, "a sample beyond full scale");
    // It did what it was asked: every sample that went in was played, discarded, or still waits.
    let pushed = end.next_frame() + control.discarded_frames();
    assert_eq!(pushed, control.played_frames() + control.discarded_frames() + control.queued());
    assert_eq!(control.device_frames().map(|(n, _)| n), Some(frames));
    assert!(
        control.discarded_frames() > 1_000_000 && control.starved_events() > 1000 && control.starved_samples() > 1000
    );
    assert!(control.played_frames() > frames / 4, "{} of {frames}", control.played_frames());
    assert!(control.time_of_frame(control.played_frames() - 1).is_some());
}

#[test]
fn a_million_input_buffers() {
    let mut rng = SmallRng::seed_from_u64(2);
    let (mut callback, mut end) = CaptureCallback::new(48_000, "test");
    let buffers = Buffers::new();
    let mut heard = Vec::with_capacity(500_000);
    let (mut frames, mut read, mut now) = (0u64, 0u64, Micros(1_000_000));
    for _ in 0..BUFFERS {
        // Now and then the ear is so late that the ring overflows.
        if rng.random_range(0..400) == 0 {
            heard.clear();
            read += end.read(&mut heard) as u64;
        }
        let n = random_size(&mut rng);
        let channels = [1, 1, 2, 2, 3, 6][rng.random_range(0..6)];
        let format = rng.random_range(0..6);
        assert_no_alloc(|| match format {
            0 => callback.process(&buffers.f32[..n], channels, now),
            1 => callback.process(&buffers.i16[..n], channels, now),
            2 => callback.process(&buffers.u16[..n], channels, now),
            3 => callback.process(&buffers.i24[..n], channels, now),
            4 => callback.process(&buffers.i32[..n], channels, now),
            _ => callback.process(&buffers.u8[..n], channels, now),
        });
        frames += n.div_ceil(channels) as u64;
        now = now + Micros::of_samples(n as u64, 48_000);
    }
    assert_eq!(violation_count(), 0, "the input callback allocated");
    assert!(end.shared.lost() > 0, "the overflow was never tried");
    assert_eq!(end.shared.captured() + end.shared.lost(), frames);
    assert_eq!(read + end.shared.queued(), end.shared.captured());
}

/// The ear and the mouth are not callbacks, but what they do for every block must not grow either.
#[test]
fn resampler_and_joiner_allocate_nothing_once_they_run() {
    let mut rng = SmallRng::seed_from_u64(3);
    let (mut resampled, mut joined) = (Vec::with_capacity(20_000), Vec::with_capacity(20_000));
    let block: Vec<f32> = (0..LARGEST).map(|i| (i as f32 * 0.05).sin()).collect();
    let mut down = Resampler::new(48_000, 16_000).expect("usual rates");
    let mut up = Resampler::new(24_000, 48_000).expect("usual rates");
    let mut joiner = Joiner::new(512);
    joiner.push(&block, 0, &mut joined);
    for _ in 0..20_000 {
        let n = random_size(&mut rng);
        for resampler in [&mut down, &mut up] {
            resampled.clear();
            assert_no_alloc(|| resampler.process(&block[..n], &mut resampled));
        }
        joined.clear();
        assert_no_alloc(|| joiner.push(&block[..n], n.min(512), &mut joined));
    }
    assert_eq!(violation_count(), 0);
}

/// The proof is worth something only if it can fail.
#[test]
fn an_allocation_is_noticed() {
    let before = violation_count();
    let kept = assert_no_alloc(|| Vec::<u8>::with_capacity(64));
    assert!(violation_count() > before, "{}", kept.capacity());
}
