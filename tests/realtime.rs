//! Proof that the audio callbacks neither allocate, nor wait, nor panic: a million buffers of random sizes each, under an
//! allocator that counts every allocation made where none is allowed, and under the kernel's count of how often a thread
//! gave up its core of its own accord, which a lock that is held, a sleep or a blocking system call makes it do. With
//! flushes, ducking and changes of the device in between. The same code runs under a real sound card. With
//! `--release -- --nocapture` it also says which share of its period the worst callback took.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "says what the callbacks took")]

use antiphon::audio::Joiner;
use antiphon::audio::capture::CaptureCallback;
use antiphon::audio::playback::PlaybackCallback;
use antiphon::audio::{CaptureEnd, PlaybackEnd, Tap};
use antiphon::dsp::resample::Resampler;
use antiphon::time::Micros;
use assert_no_alloc::{AllocDisabler, assert_no_alloc, violation_count};
use cpal::I24;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const BUFFERS: u64 = 1_000_000;
const LARGEST: usize = 4096;
const CHANNELS: [usize; 6] = [1, 1, 2, 2, 3, 6];
const RATES: [u32; 6] = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000];
/// A device is changed for another one after so many buffers, on average.
const DEVICE_LASTS: u32 = 20_000;

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
        let most = LARGEST * 6;
        Self {
            f32: vec![0.1; most],
            i16: vec![99; most],
            u16: vec![40_000; most],
            i24: vec![I24::new_unchecked(4000); most],
            i32: vec![1 << 20; most],
            u8: vec![130; most],
        }
    }
}

/// Sizes from 1 to 4096 of which small ones are the most frequent, as they are the hardest on the bookkeeping.
fn random_size(rng: &mut SmallRng) -> usize {
    let limit = 1usize << rng.random_range(0..=12);
    rng.random_range(1..=limit)
}

/// How often this thread has waited for something so far.
fn waits() -> u64 {
    switches("voluntary_ctxt_switches")
}

/// How often this thread has lost its core for this reason so far.
#[cfg(target_os = "linux")]
fn switches(why: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(why)).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// Elsewhere nobody counts.
#[cfg(not(target_os = "linux"))]
fn switches(_why: &str) -> u64 {
    0
}

/// Smaller buffers than this no sound service of today asks for; they are tried, but not measured.
const SMALLEST: usize = 64;

/// Which share of their periods callbacks took. A figure to be read, not a promise: what else runs on the machine takes
/// its share as well.
#[derive(Default)]
struct Shares {
    worst: f64,
    /// Of that, its frames, its rate, and its time.
    at: (usize, u32, Duration),
    sum: f64,
    measured: u64,
    /// Callbacks that something else interrupted: not their own doing.
    interrupted: u64,
    interruptions: u64,
}

impl Shares {
    fn add(&mut self, frames: usize, rate: u32, took: Duration) {
        if frames < SMALLEST {
            return;
        }
        let share = took.as_secs_f64() * f64::from(rate) / frames as f64;
        if share > self.worst {
            // Only what would be the worst is worth a look at the kernel's count.
            let before = std::mem::replace(&mut self.interruptions, switches("nonvoluntary_ctxt_switches"));
            if before != self.interruptions {
                self.interrupted += 1;
                return;
            }
            (self.worst, self.at) = (share, (frames, rate, took));
        }
        self.sum += share;
        self.measured += 1;
    }

    fn tell(&self, which: &str) {
        let (frames, rate, took) = self.at;
        eprintln!(
            "{which}: the worst of {} callbacks took {:.2} % of its period ({took:?} for {frames} frames at {rate} Hz), \
             the average one {:.3} %; {} more were interrupted by another program",
            self.measured,
            self.worst * 100.0,
            self.sum / self.measured.max(1) as f64 * 100.0,
            self.interrupted
        );
    }
}

/// A loudspeaker as the house uses it.
struct Loudspeaker {
    callback: PlaybackCallback,
    end: PlaybackEnd,
    tap: Tap,
    frames: u64,
    beats: u64,
    now: Micros,
}

impl Loudspeaker {
    fn new(rate: u32, now: Micros) -> Self {
        let (callback, mut end) = PlaybackCallback::new(rate, "test");
        let tap = end.tap.take().unwrap();
        Self { callback, end, tap, frames: 0, beats: 0, now }
    }

    fn run(&mut self, buffers: &mut Buffers, format: usize, frames: usize, channels: usize, shares: &mut Shares) {
        let (n, callback, now) = (frames * channels, &mut self.callback, self.now);
        let start = Instant::now();
        assert_no_alloc(|| match format {
            0 => callback.process(&mut buffers.f32[..n], channels, now),
            1 => callback.process(&mut buffers.i16[..n], channels, now),
            2 => callback.process(&mut buffers.u16[..n], channels, now),
            3 => callback.process(&mut buffers.i24[..n], channels, now),
            4 => callback.process(&mut buffers.i32[..n], channels, now),
            _ => callback.process(&mut buffers.u8[..n], channels, now),
        });
        shares.add(frames, self.end.rate, start.elapsed());
        self.frames += frames as u64;
        self.beats += 1;
        self.now = self.now + Micros::of_samples(frames as u64, self.end.rate);
    }

    /// It did what it was asked: every sample that went in was played, discarded, or still waits.
    fn check(&self) {
        let control = &self.end.control;
        assert_eq!(control.pulse.beats(), self.beats);
        assert_eq!(self.end.next_frame(), control.played_frames() + control.queued());
        assert_eq!(control.device_frames().map_or(0, |(n, _)| n), self.frames);
        if let Some(last) = control.played_frames().checked_sub(1) {
            assert!(control.time_of_frame(last).is_some());
        }
    }
}

#[test]
fn a_million_output_buffers() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut buffers = Buffers::new();
    let mut device = Loudspeaker::new(48_000, Micros(1_000_000));
    let mut tapped = Vec::with_capacity(500_000);
    let source: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.05).sin() * 1.2).collect();
    let (mut beyond, mut devices) = (false, 1);
    let (mut frames, mut played, mut discarded, mut starved) = (0, 0, 0, 0);
    let mut add = |device: &Loudspeaker| {
        device.check();
        let control = &device.end.control;
        frames += device.frames;
        played += control.played_frames();
        discarded += control.discarded_frames();
        starved += control.starved_events();
    };
    let (mut waited, mut before, mut shares) = (0, waits(), Shares::default());
    for _ in 0..BUFFERS {
        if rng.random_range(0..DEVICE_LASTS) == 0 {
            // What an unplugged device leaves behind is thrown away whole, whatever it was at: fading, ducked, starving.
            let rate = RATES[rng.random_range(0..RATES.len())];
            waited += waits() - before;
            add(&device);
            device = Loudspeaker::new(rate, device.now);
            devices += 1;
            before = waits();
        }
        let control = &device.end.control;
        match rng.random_range(0..40) {
            0 => control.flush(),
            1 => control.set_duck(rng.random()),
            2 => control.set_volume(rng.random_range(-0.5..1.5)),
            3 => control.set_expecting(rng.random()),
            4 => {
                tapped.clear();
                device.tap.read(&mut tapped);
                beyond |= tapped.iter().any(|s| !(-1.0..=1.0).contains(s));
            }
            // The mouth as the session drives it: nothing new while a flush is pending.
            _ if !control.flush_pending() && device.end.queued() < 60_000 => {
                let n = random_size(&mut rng);
                device.end.push(&source[..n]);
            }
            _ => {}
        }
        let (n, channels) = (random_size(&mut rng), CHANNELS[rng.random_range(0..CHANNELS.len())]);
        device.run(&mut buffers, rng.random_range(0..6), n, channels, &mut shares);
    }
    waited += waits() - before;
    add(&device);
    shares.tell("output");
    assert_eq!(violation_count(), 0, "the output callback allocated");
    assert_eq!(waited, 0, "the output callback waited");
    assert!(!beyond, "a sample beyond full scale");
    assert!(devices > 20, "{devices} devices");
    assert!(discarded > 1_000_000 && starved > 1000, "{discarded} discarded, starved {starved} times");
    assert!(played > frames / 4, "{played} of {frames}");
}

/// A microphone as the house uses it.
struct Microphone {
    callback: CaptureCallback,
    end: CaptureEnd,
    frames: u64,
    read: u64,
    now: Micros,
}

impl Microphone {
    fn new(rate: u32, now: Micros) -> Self {
        let (callback, end) = CaptureCallback::new(rate, "test");
        Self { callback, end, frames: 0, read: 0, now }
    }

    fn run(&mut self, buffers: &Buffers, format: usize, frames: usize, channels: usize, shares: &mut Shares) {
        let (n, callback, now) = (frames * channels, &mut self.callback, self.now);
        let start = Instant::now();
        assert_no_alloc(|| match format {
            0 => callback.process(&buffers.f32[..n], channels, now),
            1 => callback.process(&buffers.i16[..n], channels, now),
            2 => callback.process(&buffers.u16[..n], channels, now),
            3 => callback.process(&buffers.i24[..n], channels, now),
            4 => callback.process(&buffers.i32[..n], channels, now),
            _ => callback.process(&buffers.u8[..n], channels, now),
        });
        shares.add(frames, self.end.rate, start.elapsed());
        self.frames += frames as u64;
        self.now = self.now + Micros::of_samples(frames as u64, self.end.rate);
    }

    /// Every sample was captured or lost, and what was captured was read or waits. Returns what was lost.
    fn check(&self) -> u64 {
        let shared = &self.end.shared;
        assert_eq!(shared.captured() + shared.lost(), self.frames);
        assert_eq!(self.read + shared.queued(), shared.captured());
        shared.lost()
    }
}

#[test]
fn a_million_input_buffers() {
    let mut rng = SmallRng::seed_from_u64(2);
    let buffers = Buffers::new();
    let mut device = Microphone::new(48_000, Micros(1_000_000));
    let mut heard = Vec::with_capacity(1_000_000);
    let (mut devices, mut lost) = (1, 0);
    let (mut waited, mut before, mut shares) = (0, waits(), Shares::default());
    for _ in 0..BUFFERS {
        if rng.random_range(0..DEVICE_LASTS) == 0 {
            let rate = RATES[rng.random_range(0..RATES.len())];
            waited += waits() - before;
            lost += device.check();
            device = Microphone::new(rate, device.now);
            devices += 1;
            before = waits();
        }
        // Now and then the ear is so late that the ring overflows.
        if rng.random_range(0..400) == 0 {
            heard.clear();
            device.read += device.end.read(&mut heard) as u64;
        }
        let (n, channels) = (random_size(&mut rng), CHANNELS[rng.random_range(0..CHANNELS.len())]);
        device.run(&buffers, rng.random_range(0..6), n, channels, &mut shares);
    }
    waited += waits() - before;
    lost += device.check();
    shares.tell("input");
    assert_eq!(violation_count(), 0, "the input callback allocated");
    assert_eq!(waited, 0, "the input callback waited");
    assert!(lost > 0, "the overflow was never tried");
    assert!(devices > 20, "{devices} devices");
}

/// Everything that other threads do with a card, they do all the time: a lock anywhere between would be met.
#[test]
fn no_callback_waits_for_another_thread() {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut buffers = Buffers::new();
    let Loudspeaker { mut callback, mut end, mut tap, .. } = Loudspeaker::new(48_000, Micros(0));
    let (mut capture, mut microphone) = CaptureCallback::new(48_000, "test");
    let (control, shared) = (end.control.clone(), microphone.shared.clone());
    let over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (source, mut heard) = (vec![0.3f32; 4096], Vec::new());
            while !over.load(Ordering::Relaxed) {
                end.push(&source);
                heard.clear();
                tap.read(&mut heard);
                microphone.read(&mut heard);
                std::hint::black_box((end.next_frame(), microphone.time_of_newest_read(), heard.len()));
            }
        });
        scope.spawn(move || {
            let mut i = 0u64;
            while !over.load(Ordering::Relaxed) {
                i += 1;
                control.set_duck(i.is_multiple_of(2));
                control.set_volume(i as f32 % 1.0);
                control.set_expecting(i.is_multiple_of(3));
                if i.is_multiple_of(64) {
                    control.flush();
                }
                std::hint::black_box((control.time_of_frame(control.played_frames()), control.device_frames()));
                std::hint::black_box((control.meter.take(), shared.newest(), shared.meter.take(), shared.queued()));
            }
        });
        let before = waits();
        for i in 0..100_000u64 {
            let n = random_size(&mut rng);
            assert_no_alloc(|| {
                callback.process(&mut buffers.f32[..n], 1, Micros(i * 1000));
                capture.process(&buffers.i16[..n], 1, Micros(i * 1000));
            });
        }
        let waited = waits() - before;
        over.store(true, Ordering::Relaxed);
        assert_eq!((violation_count(), waited), (0, 0));
    });
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

/// Likewise.
#[test]
#[cfg(target_os = "linux")]
fn a_wait_is_noticed() {
    let lock = &std::sync::Mutex::new(());
    let held = lock.lock().unwrap();
    std::thread::scope(|scope| {
        let waited = scope.spawn(move || {
            let before = waits();
            drop(lock.lock().unwrap());
            waits() - before
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
        assert!(waited.join().unwrap() > 0);
    });
}
