//! From the mouth to the output callback: mono `f32` from a ring becomes any sample format and channel count.
//!
//! [`PlaybackCallback`] lives on the device's thread and is real-time: no lock, no allocation, no log, no system call,
//! no panic. [`PlaybackEnd`] lives on the mouth thread; [`PlaybackControl`] is atomics and belongs to everyone.
//!
//! Sample numbers: *frame n* is the n-th ring sample that is not discarded by a flush. The number of the next sample
//! that the mouth pushes is [`PlaybackEnd::next_frame`], and [`PlaybackControl::time_of_frame`] says when it sounded.

use super::clock::{Anchor, PlayedTimeline, Run};
use super::device::DeviceId;
use super::fade::{Declicker, SlewedGain, Tail};
use super::health::StreamPulse;
use super::meter::PeakMeter;
use super::ring::{RingConsumer, RingCounters, RingProducer, ring};
use crate::time::Micros;
use cpal::{FromSample, Sample};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How much sound the playback ring holds, in seconds.
const RING_SECONDS: u32 = 4;

/// How much of what was played the tap holds while nobody reads it, in seconds.
const TAP_SECONDS: u32 = 2;

/// Frames that are rendered at a time, on the stack.
const BLOCK: usize = 256;

/// A flush fades out over this long.
const FLUSH_FADE_MS: u32 = 20;

/// Sound that was cut off (starvation) falls to zero over this long, and sound that returns rises over it.
const RAMP_MS: u32 = 5;

/// A change of volume, or ducking, takes at most this long.
const GAIN_MS: u32 = 20;

/// 12 dB down.
const DUCKED: f32 = 0.251_188_64;

/// The greatest output sample: one step below full scale, so that no integer format overflows.
const CEILING: f32 = 1.0 - f32::EPSILON / 2.0;

/// What the callback is asked to do, and what it has done. All atomics: any thread may ask and look.
#[derive(Debug)]
pub struct PlaybackControl {
    rate: u32,
    flush_requested: AtomicU64,
    flush_done: AtomicU64,
    ducked: AtomicBool,
    volume: AtomicU32,
    expecting: AtomicBool,
    starved_events: AtomicU64,
    starved_samples: AtomicU64,
    played: AtomicU64,
    discarded: AtomicU64,
    counters: Arc<RingCounters>,
    timeline: PlayedTimeline,
    device_anchor: Anchor,
    /// Level of the loudspeaker.
    pub meter: PeakMeter,
    /// Heartbeat, xruns and errors of the stream.
    pub pulse: Arc<StreamPulse>,
}

impl PlaybackControl {
    /// Asks the callback to fade out and to discard everything that is queued. Nothing new may be pushed until
    /// [`flush_pending`](Self::flush_pending) is false again, else it is discarded too. A dead device never
    /// acknowledges: wait with an eye on the card's health. Nothing more is expected of what was sounding.
    pub fn flush(&self) {
        self.set_expecting(false);
        self.flush_requested.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a flush was asked for and is not finished.
    pub fn flush_pending(&self) -> bool {
        self.flush_done.load(Ordering::Acquire) != self.flush_requested.load(Ordering::Acquire)
    }

    /// 12 dB down, or up again, within 20 ms.
    pub fn set_duck(&self, ducked: bool) {
        self.ducked.store(ducked, Ordering::Relaxed);
    }

    /// Loudness as a factor, 0 to 1 (values outside are brought inside; what is not a number is ignored).
    pub fn set_volume(&self, volume: f32) {
        if !volume.is_nan() {
            self.volume.store(volume.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        }
    }

    /// While true, an empty ring is starvation: counted, and softened. While false, it is the end of what there was.
    pub fn set_expecting(&self, expecting: bool) {
        self.expecting.store(expecting, Ordering::Relaxed);
    }

    /// How often the ring ran empty while more was expected.
    pub fn starved_events(&self) -> u64 {
        self.starved_events.load(Ordering::Relaxed)
    }

    /// How many samples of silence that made.
    pub fn starved_samples(&self) -> u64 {
        self.starved_samples.load(Ordering::Relaxed)
    }

    /// How many ring samples were handed to the device.
    pub fn played_frames(&self) -> u64 {
        self.played.load(Ordering::Acquire)
    }

    /// How many ring samples were thrown away by flushes.
    pub fn discarded_frames(&self) -> u64 {
        self.discarded.load(Ordering::Acquire)
    }

    /// How many samples wait in the ring.
    pub fn queued(&self) -> u64 {
        self.counters.queued()
    }

    /// When frame `n` sounds or sounded: the callback that took it, plus the device's own delay. `None` when it was
    /// not handed to the device yet (or so long ago that it is forgotten).
    pub fn time_of_frame(&self, n: u64) -> Option<Micros> {
        self.timeline.time_of(n)
    }

    /// How many frames the device has asked for in all, sound and silence, and when the first one after these sounds:
    /// this is the clock of the [`Tap`].
    pub fn device_frames(&self) -> Option<(u64, Micros)> {
        self.device_anchor.get()
    }

    /// Samples per second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    fn target_gain(&self) -> f32 {
        let volume = f32::from_bits(self.volume.load(Ordering::Relaxed));
        if self.ducked.load(Ordering::Relaxed) { volume * DUCKED } else { volume }
    }
}

/// Everything that was handed to the device, silence included, for an echo canceller.
pub struct Tap {
    consumer: RingConsumer,
}

impl Tap {
    /// Appends what was played since the last call to `out`; returns how many samples that was.
    pub fn read(&mut self, out: &mut Vec<f32>) -> usize {
        self.consumer.drain_into(out)
    }

    /// The number of the next sample, on the clock of [`PlaybackControl::device_frames`], as long as nothing was lost.
    pub fn read_total(&self) -> u64 {
        self.consumer.counters().popped()
    }

    /// Samples lost because nobody read the tap.
    pub fn lost(&self) -> u64 {
        self.consumer.counters().lost()
    }
}

/// The mouth's end of a loudspeaker.
pub struct PlaybackEnd {
    /// Samples per second.
    pub rate: u32,
    /// What the callback is asked and tells.
    pub control: Arc<PlaybackControl>,
    /// The device's name, for people.
    pub name: String,
    /// The device's name for programs; `None` for a card without one.
    pub id: Option<DeviceId>,
    /// What was really played; `None` once somebody has taken it.
    pub tap: Option<Tap>,
    producer: RingProducer,
}

impl PlaybackEnd {
    /// Queues as many of the first samples as fit, and returns how many did.
    pub fn push(&mut self, samples: &[f32]) -> usize {
        self.producer.push(samples)
    }

    /// How many samples fit now.
    pub fn free(&self) -> usize {
        self.producer.free()
    }

    /// How many samples wait to be played.
    pub fn queued(&self) -> usize {
        self.producer.queued()
    }

    /// The most that can wait.
    pub fn capacity(&self) -> usize {
        self.producer.capacity()
    }

    /// The frame number of the next sample that is pushed. Exact while no flush is pending.
    pub fn next_frame(&self) -> u64 {
        self.producer.counters().pushed().saturating_sub(self.control.discarded_frames())
    }
}

/// The body of an output callback.
pub struct PlaybackCallback {
    consumer: RingConsumer,
    tap: RingProducer,
    control: Arc<PlaybackControl>,
    run: Run,
    fade: Declicker,
    gain: SlewedGain,
    tail: Tail,
    /// The generation of the flush that is being carried out.
    flushing: Option<u64>,
    /// Whether the last frame was a ring sample.
    sounding: bool,
    /// Whether the ring is empty though more is expected.
    starving: bool,
    /// Whether sound that comes next was cut off before, and so has to be faded in.
    fade_in_next: bool,
    /// The last sample handed to the device.
    last: f32,
    device_frames: u64,
    rate: u32,
}

impl PlaybackCallback {
    /// Both ends for a device of `rate` hertz called `name`.
    pub fn new(rate: u32, name: impl Into<String>) -> (PlaybackCallback, PlaybackEnd) {
        // The first reading of the clock initialises it, which must not happen inside a callback.
        Micros::now();
        let (producer, consumer) = ring((rate * RING_SECONDS) as usize);
        let (tap, tap_consumer) = ring((rate * TAP_SECONDS) as usize);
        let control = Arc::new(PlaybackControl {
            rate,
            flush_requested: AtomicU64::new(0),
            flush_done: AtomicU64::new(0),
            ducked: AtomicBool::new(false),
            volume: AtomicU32::new(1.0f32.to_bits()),
            expecting: AtomicBool::new(false),
            starved_events: AtomicU64::new(0),
            starved_samples: AtomicU64::new(0),
            played: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            counters: producer.counters().clone(),
            timeline: PlayedTimeline::new(rate),
            device_anchor: Anchor::new(rate),
            meter: PeakMeter::default(),
            pulse: Arc::new(StreamPulse::default()),
        });
        let end = PlaybackEnd {
            rate,
            control: control.clone(),
            name: name.into(),
            id: None,
            tap: Some(Tap { consumer: tap_consumer }),
            producer,
        };
        let callback = PlaybackCallback {
            consumer,
            tap,
            control,
            run: Run::default(),
            fade: Declicker::SettledAt1,
            gain: SlewedGain::new(1.0, samples_of(rate, GAIN_MS)),
            tail: Tail::default(),
            flushing: None,
            sounding: false,
            starving: false,
            fade_in_next: false,
            last: 0.0,
            device_frames: 0,
            rate,
        };
        (callback, end)
    }

    /// Fills one buffer of interleaved samples for the device; every channel gets the same. `sounds_at` is when its
    /// first frame will be heard. Real-time safe.
    pub fn process<T>(&mut self, out: &mut [T], channels: usize, sounds_at: Micros)
    where
        T: Sample + FromSample<f32>,
    {
        let channels = channels.max(1);
        let mut mono = [0.0f32; BLOCK];
        let mut peak = 0.0f32;
        let mut done = 0u64;
        for block in out.chunks_mut(BLOCK * channels) {
            let frames = block.len().div_ceil(channels);
            let Some(mono) = mono.get_mut(..frames) else { continue };
            self.render(mono, sounds_at + Micros::of_samples(done, self.rate));
            for (frame, value) in block.chunks_mut(channels).zip(mono.iter_mut()) {
                *value = if value.is_finite() { value.clamp(-1.0, CEILING) } else { 0.0 };
                peak = peak.max(value.abs());
                let sample = T::from_sample(*value);
                frame.fill(sample);
            }
            self.tap.push_or_lose(mono);
            done += frames as u64;
        }
        self.device_frames += done;
        self.control.device_anchor.set(self.device_frames, sounds_at + Micros::of_samples(done, self.rate));
        self.control.meter.raise(peak);
        self.control.pulse.beat();
    }

    /// Fills a mono block whose first frame sounds at `sounds_at`.
    fn render(&mut self, block: &mut [f32], sounds_at: Micros) {
        let target = self.control.target_gain();
        let mut at = sounds_at;
        let mut rest = block;
        while !rest.is_empty() {
            self.begin_flush();
            self.finish_flush();
            // A flush ends in the middle of a block: what follows it belongs to the silence after.
            let stretch = match self.flushing {
                Some(_) => self.fade.left().clamp(1, rest.len()),
                None => rest.len(),
            };
            let Some((now, later)) = rest.split_at_mut_checked(stretch) else { return };
            self.render_stretch(now, at, target);
            at = at + Micros::of_samples(stretch as u64, self.rate);
            rest = later;
        }
        self.finish_flush();
    }

    /// Begins a flush that was asked for.
    fn begin_flush(&mut self) {
        let requested = self.control.flush_requested.load(Ordering::Acquire);
        if self.flushing.is_none() && requested != self.control.flush_done.load(Ordering::Relaxed) {
            self.flushing = Some(requested);
            if self.sounding {
                self.fade.fade_out(samples_of(self.rate, FLUSH_FADE_MS));
            } else {
                // Nothing is heard, so there is nothing to fade: not a sample of what is queued shall sound.
                self.fade = Declicker::SettledAt0;
            }
        }
    }

    /// Ends a flush whose fade is over: discards what is queued, and says so.
    fn finish_flush(&mut self) {
        if let Some(generation) = self.flushing
            && self.fade == Declicker::SettledAt0
        {
            let discarded = self.consumer.discard();
            self.control.discarded.fetch_add(discarded as u64, Ordering::AcqRel);
            self.control.timeline.paused(&mut self.run);
            self.fade = Declicker::SettledAt1;
            self.flushing = None;
            self.sounding = false;
            self.starving = false;
            self.fade_in_next = true;
            self.control.flush_done.store(generation, Ordering::Release);
        }
    }

    /// Fills a stretch during which no flush begins or ends.
    fn render_stretch(&mut self, out: &mut [f32], at: Micros, target: f32) {
        let got = self.consumer.pop(out);
        let Some((sound, silence)) = out.split_at_mut_checked(got) else { return };
        if !sound.is_empty() {
            self.render_sound(sound, at, target);
        }
        if !silence.is_empty() {
            self.render_silence(silence, target);
        }
    }

    fn render_sound(&mut self, sound: &mut [f32], at: Micros, target: f32) {
        if std::mem::take(&mut self.fade_in_next) {
            self.fade.fade_in(samples_of(self.rate, RAMP_MS));
        }
        for value in sound.iter_mut() {
            let clean = if value.is_finite() { *value } else { 0.0 };
            *value = clean * self.fade.step() * self.gain.step(target) + self.tail.step();
        }
        self.last = sound.last().copied().unwrap_or(0.0);
        self.sounding = true;
        self.starving = false;
        let first = self.control.played.load(Ordering::Relaxed);
        self.control.timeline.played(&mut self.run, first, sound.len() as u64, at);
        self.control.played.fetch_add(sound.len() as u64, Ordering::AcqRel);
    }

    fn render_silence(&mut self, silence: &mut [f32], target: f32) {
        if std::mem::take(&mut self.sounding) {
            self.tail.begin(self.last, samples_of(self.rate, RAMP_MS));
            self.control.timeline.paused(&mut self.run);
        }
        if self.flushing.is_some() {
            // The ring ran empty during the fade: there is nothing left to fade but the tail.
            self.fade = Declicker::SettledAt0;
        } else if self.control.expecting.load(Ordering::Relaxed) {
            if !std::mem::replace(&mut self.starving, true) {
                self.control.starved_events.fetch_add(1, Ordering::Relaxed);
            }
            self.fade_in_next = true;
            self.control.starved_samples.fetch_add(silence.len() as u64, Ordering::Relaxed);
        } else {
            self.starving = false;
        }
        for value in silence.iter_mut() {
            self.gain.step(target);
            *value = self.tail.step();
        }
        self.last = silence.last().copied().unwrap_or(0.0);
    }
}

/// How many samples `ms` milliseconds are, at least one.
fn samples_of(rate: u32, ms: u32) -> u32 {
    (u64::from(rate) * u64::from(ms) / 1000).max(1) as u32
}

#[cfg(test)]
#[path = "playback_tests.rs"]
mod tests;
