//! From the input callback to the ear: any sample format and channel count become mono `f32` in a ring.
//!
//! [`CaptureCallback`] lives on the device's thread and is real-time: no lock, no allocation, no log, no system call,
//! no panic. [`CaptureEnd`] lives on the ear thread. They share a ring and the atomics of [`CaptureShared`].

use super::clock::Anchor;
use super::device::DeviceId;
use super::health::StreamPulse;
use super::meter::PeakMeter;
use super::ring::{RingConsumer, RingCounters, RingProducer, ring};
use crate::time::Micros;
use cpal::{FromSample, Sample};
use std::sync::Arc;

/// How much sound the capture ring holds while nobody reads it, in seconds.
const RING_SECONDS: u32 = 10;

/// Frames that are converted at a time, on the stack.
const BLOCK: usize = 256;

/// What the input callback tells the rest of the house.
#[derive(Debug)]
pub struct CaptureShared {
    anchor: Anchor,
    counters: Arc<RingCounters>,
    /// Level of the microphone.
    pub meter: PeakMeter,
    /// Heartbeat, xruns and errors of the stream.
    pub pulse: Arc<StreamPulse>,
}

impl CaptureShared {
    /// Samples captured and put into the ring so far.
    pub fn captured(&self) -> u64 {
        self.counters.pushed()
    }

    /// Samples that were lost because the ring was full.
    pub fn lost(&self) -> u64 {
        self.counters.lost()
    }

    /// Samples that wait in the ring.
    pub fn queued(&self) -> u64 {
        self.counters.queued()
    }

    /// How many samples had been captured, and when the newest of them reached the microphone, as of the latest
    /// callback. `None` before the first.
    pub fn newest(&self) -> Option<(u64, Micros)> {
        self.anchor.get()
    }

    /// When the sample with this number (0 is the first ever read) reached the microphone.
    pub fn time_of(&self, sample: u64) -> Option<Micros> {
        self.anchor.time_of(sample)
    }
}

/// The ear's end of a microphone.
pub struct CaptureEnd {
    /// Samples per second.
    pub rate: u32,
    /// What the callback tells.
    pub shared: Arc<CaptureShared>,
    /// The device's name, for people.
    pub name: String,
    /// The device's name for programs; `None` for a card without one.
    pub id: Option<DeviceId>,
    consumer: RingConsumer,
}

impl CaptureEnd {
    /// Appends everything captured since the last call to `out`, mono; returns how many samples that was.
    pub fn read(&mut self, out: &mut Vec<f32>) -> usize {
        self.consumer.drain_into(out)
    }

    /// How many samples have been read so far: the number of the next one.
    pub fn read_total(&self) -> u64 {
        self.consumer.counters().popped()
    }

    /// When the newest sample that was read reached the microphone.
    pub fn time_of_newest_read(&self) -> Option<Micros> {
        self.shared.time_of(self.read_total())
    }
}

/// The body of an input callback.
pub struct CaptureCallback {
    producer: RingProducer,
    shared: Arc<CaptureShared>,
    rate: u32,
}

impl CaptureCallback {
    /// Both ends for a device of `rate` hertz called `name`.
    pub fn new(rate: u32, name: impl Into<String>) -> (CaptureCallback, CaptureEnd) {
        // The first reading of the clock initialises it, which must not happen inside a callback.
        Micros::now();
        let (producer, consumer) = ring((rate * RING_SECONDS) as usize);
        let shared = Arc::new(CaptureShared {
            anchor: Anchor::new(rate),
            counters: producer.counters().clone(),
            meter: PeakMeter::default(),
            pulse: Arc::new(StreamPulse::default()),
        });
        let end = CaptureEnd { rate, shared: shared.clone(), name: name.into(), id: None, consumer };
        (CaptureCallback { producer, shared, rate }, end)
    }

    /// Takes one buffer of interleaved samples from the device. `newest_at` is when its last frame reached the
    /// microphone. Channels are averaged; what is not a number counts as silence. Real-time safe.
    pub fn process<T>(&mut self, data: &[T], channels: usize, newest_at: Micros)
    where
        T: Sample,
        f32: FromSample<T>,
    {
        let channels = channels.max(1);
        let weight = 1.0 / channels as f32;
        let mut mono = [0.0f32; BLOCK];
        let mut peak = 0.0f32;
        let mut lost = 0;
        for block in data.chunks(BLOCK * channels) {
            let mut n = 0;
            for (slot, frame) in mono.iter_mut().zip(block.chunks(channels)) {
                let sum: f32 = frame.iter().map(|&s| f32::from_sample(s)).sum();
                let value = sum * weight;
                *slot = if value.is_finite() { value } else { 0.0 };
                peak = peak.max(slot.abs());
                n += 1;
            }
            if let Some(block) = mono.get(..n) {
                lost += self.producer.push_or_lose(block);
            }
        }
        // When the ring was full, the newest sample in it is older than the newest sample of the device.
        let newest_kept_at = newest_at - Micros::of_samples(lost as u64, self.rate);
        self.shared.anchor.set(self.producer.counters().pushed(), newest_kept_at);
        self.shared.meter.raise(peak);
        self.shared.pulse.beat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpal::I24;

    #[test]
    fn every_format_and_channel_count_becomes_mono() {
        let (mut cb, mut end) = CaptureCallback::new(48_000, "test");
        let at = Micros(1_000_000);
        cb.process(&[0.5f32, -0.5, 0.25, 0.75], 2, at);
        cb.process(&[i16::MIN, 16384], 1, at);
        cb.process(&[0u16, 49152], 1, at);
        cb.process(&[i32::MIN, 1 << 30], 1, at);
        cb.process(&[I24::new_unchecked(-8_388_608), I24::new_unchecked(4_194_304)], 1, at);
        cb.process(&[0u8, 192], 1, at);
        cb.process(&[-128i8, 64], 1, at);
        cb.process(&[-1.0f64, 0.5], 1, at);
        cb.process(&[0.6f32, 0.0, 0.0, 0.0, 0.0, 0.0], 6, at);
        let mut got = Vec::new();
        assert_eq!(end.read(&mut got), 17);
        let mut expected = vec![0.0, 0.5];
        (0..7).for_each(|_| expected.extend([-1.0, 0.5]));
        expected.push(0.1);
        for (g, e) in got.iter().zip(&expected) {
            assert!((g - e).abs() < 1e-6, "{got:?}");
        }
        assert_eq!(end.shared.meter.take(), 1.0);
        assert_eq!(end.shared.pulse.beats(), 9);
    }

    #[test]
    fn what_is_not_a_number_is_silence() {
        let (mut cb, mut end) = CaptureCallback::new(16_000, "test");
        cb.process(&[f32::NAN, f32::INFINITY, 0.25], 1, Micros(0));
        let mut got = Vec::new();
        end.read(&mut got);
        assert_eq!(got, [0.0, 0.0, 0.25]);
    }

    #[test]
    fn tells_the_time_of_every_sample_and_counts_what_is_lost() {
        let (mut cb, mut end) = CaptureCallback::new(1_000, "test");
        assert_eq!(end.shared.newest(), None);
        cb.process(&[0.0f32; 100], 1, Micros(2_100_000));
        assert_eq!(end.shared.newest(), Some((100, Micros(2_100_000))));
        assert_eq!(end.shared.time_of(40), Some(Micros(2_040_000)));
        // The ring holds 10 s; 500 of these samples do not fit.
        cb.process(&vec![0.0f32; 10_400], 1, Micros(12_500_000));
        assert_eq!(end.shared.lost(), 500);
        assert_eq!(end.shared.newest(), Some((10_000, Micros(12_000_000))));
        let mut out = Vec::new();
        assert_eq!(end.read(&mut out), 10_000);
        assert_eq!((end.read_total(), end.time_of_newest_read()), (10_000, Some(Micros(12_000_000))));
    }
}
