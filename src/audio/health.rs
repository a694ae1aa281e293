//! Whether a stream is still alive, judged from outside.
//!
//! Callbacks only touch the atomics of [`StreamPulse`]; a stream that is frozen, gone or flooding us with errors is
//! recognised by [`Watch`], which the session asks now and then. [`Backoff`] says when to try to open a card again.
//! Watch and back-off are pure: time is an argument.

use crate::time::Micros;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Signs of life of one stream. Written by the device's threads, read by anyone.
#[derive(Debug, Default)]
pub struct StreamPulse {
    beats: AtomicU64,
    xruns: AtomicU64,
    errors: AtomicU64,
    lost: AtomicBool,
}

impl StreamPulse {
    /// The data callback ran.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// The device dropped or repeated sound because somebody was late.
    pub fn xrun(&self) {
        self.xruns.fetch_add(1, Ordering::Relaxed);
    }

    /// The device reported an error that may pass.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The device reported that it is gone.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// How often the data callback ran.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// How often the device reported an xrun.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// How many errors the device reported, xruns not counted.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Whether the device reported that it is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// What is wrong with a stream. In every case the remedy is to open the card again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The device said that it is gone.
    Lost,
    /// The device neither moves sound nor says why.
    Frozen,
    /// The device reports error upon error and moves no sound.
    Storming,
}

/// What is wrong with a card; both `None` when all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub input: Option<Trouble>,
    pub output: Option<Trouble>,
}

impl Health {
    /// Whether every stream that was opened is alive.
    pub fn is_well(&self) -> bool {
        self.input.is_none() && self.output.is_none()
    }
}

/// A stream whose callback has not run for this long is frozen. Ten times the longest period we ask for.
const FROZEN_AFTER: Duration = Duration::from_millis(1000);

/// A stream that reports more than this many errors between two beats, and does not beat for [`STORM_AFTER`], storms.
/// ALSA over PulseAudio reports thousands in between while sound flows well, so errors alone mean nothing.
const STORM_ERRORS: u64 = 200;

/// How long a stream may report errors before it must have moved some sound.
const STORM_AFTER: Duration = Duration::from_millis(300);

/// Judges one stream from its pulse.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    beats: u64,
    beat_at: Micros,
    errors_at_beat: u64,
}

impl Watch {
    /// Watches a stream that was started at `now`.
    pub fn new(now: Micros) -> Self {
        Self { beats: 0, beat_at: now, errors_at_beat: 0 }
    }

    /// Looks at the pulse, and says what is wrong. To be called several times a second.
    pub fn look(&mut self, pulse: &StreamPulse, now: Micros) -> Option<Trouble> {
        let (beats, errors) = (pulse.beats(), pulse.errors());
        if beats != self.beats {
            *self = Watch { beats, beat_at: now, errors_at_beat: errors };
        }
        let still = now.since(self.beat_at);
        if pulse.is_lost() {
            Some(Trouble::Lost)
        } else if still >= STORM_AFTER && errors - self.errors_at_beat > STORM_ERRORS {
            Some(Trouble::Storming)
        } else if still >= FROZEN_AFTER {
            Some(Trouble::Frozen)
        } else {
            None
        }
    }
}

/// Notices on hosts that do not report it that a buffer ran over or empty. Sound that was lost on its way from the
/// microphone, or silence that a loudspeaker put in, makes all that follows later against the clock, for good. A callback
/// that is merely late loses nothing: what waited comes behind it. Used inside callbacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct GapWatch {
    rate: u32,
    start: Option<Micros>,
    frames: u64,
    /// The smallest delay of this window, and of the one before it (none of the first, in which a stream gets into
    /// step), in microseconds.
    smallest: i64,
    before: Option<i64>,
    in_step: bool,
    until: Micros,
}

/// Delays are compared between windows of this length, by the smallest of each: only one of many callbacks must be in time.
const GAP_WINDOW: Duration = Duration::from_secs(1);

/// More delay than this, in microseconds, is sound that is missing. Clocks that drift apart by 500 ppm make 500.
const GAP: i64 = 5_000;

impl GapWatch {
    /// `rate`: of the device, in hertz.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate,
            start: None,
            frames: 0,
            smallest: i64::MAX,
            before: None,
            in_step: false,
            until: Micros::default(),
        }
    }

    /// The callback runs, for so many frames.
    pub(super) fn callback_at(&mut self, now: Micros, frames: usize, pulse: &StreamPulse) {
        let Some(start) = self.start else {
            (self.start, self.until) = (Some(now), now + GAP_WINDOW);
            return;
        };
        if now >= self.until {
            if self.before.is_some_and(|before| self.smallest - before > GAP) {
                pulse.xrun();
            }
            self.before = self.in_step.then_some(self.smallest);
            (self.smallest, self.in_step, self.until) = (i64::MAX, true, now + GAP_WINDOW);
        }
        self.frames += frames as u64;
        let passed = Micros::of_samples(self.frames, self.rate);
        self.smallest = self.smallest.min(now.since(start).as_micros() as i64 - passed.as_micros() as i64);
    }
}

/// When to try again to open a card: at once, then after 0.25, 0.5, 1, 2 and from then on every 4 seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The attempt failed: how long to wait before the next.
    pub fn failed(&mut self) -> Duration {
        let wait = Duration::from_millis(250 << self.failures.min(4));
        self.failures += 1;
        wait
    }

    /// The attempt succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Micros {
        Micros(t * 1000)
    }

    #[test]
    fn a_stream_that_stops_beating_is_frozen_until_it_beats_again() {
        let pulse = StreamPulse::default();
        let mut watch = Watch::new(ms(0));
        assert_eq!(watch.look(&pulse, ms(900)), None, "it may be slow to start");
        assert_eq!(watch.look(&pulse, ms(1000)), Some(Trouble::Frozen));
        pulse.beat();
        assert_eq!(watch.look(&pulse, ms(1100)), None);
        assert_eq!(watch.look(&pulse, ms(2099)), None);
        assert_eq!(watch.look(&pulse, ms(2100)), Some(Trouble::Frozen));
    }

    #[test]
    fn errors_are_a_storm_when_no_sound_moves() {
        let pulse = StreamPulse::default();
        let mut watch = Watch::new(ms(0));
        for t in 1..10 {
            (0..1000).for_each(|_| pulse.error());
            pulse.beat();
            assert_eq!(watch.look(&pulse, ms(t * 100)), None, "sound flows");
        }
        (0..1000).for_each(|_| pulse.error());
        assert_eq!(watch.look(&pulse, ms(1100)), None);
        assert_eq!(watch.look(&pulse, ms(1200)), Some(Trouble::Storming));
        pulse.beat();
        assert_eq!(watch.look(&pulse, ms(1300)), None);
        (0..100).for_each(|_| pulse.error());
        assert_eq!(watch.look(&pulse, ms(1900)), None, "a few errors are no storm");
        // A stream that nobody looked at for long is not judged by what it did meanwhile.
        (0..5000).for_each(|_| pulse.error());
        pulse.beat();
        assert_eq!(watch.look(&pulse, ms(60_000)), None);
    }

    #[test]
    fn a_device_that_says_it_is_gone_is_lost() {
        let pulse = StreamPulse::default();
        pulse.beat();
        pulse.lose();
        assert_eq!(Watch::new(ms(0)).look(&pulse, ms(1)), Some(Trouble::Lost));
    }

    #[test]
    fn sound_that_is_missing_is_an_xrun_and_sound_that_is_late_is_none() {
        let pulse = StreamPulse::default();
        let mut watch = GapWatch::new(16_000);
        let run = |watch: &mut GapWatch, from: u64, to: u64| {
            for t in (from..to).step_by(10) {
                watch.callback_at(ms(t), 160, &pulse);
            }
        };
        run(&mut watch, 1_000, 3_500);
        // 300 ms in which nothing came, then all of it at once.
        (0..30).for_each(|_| watch.callback_at(ms(3_790), 160, &pulse));
        run(&mut watch, 3_800, 6_000);
        assert_eq!(pulse.xruns(), 0);
        // 20 ms that never came: seen once.
        run(&mut watch, 6_020, 9_000);
        assert_eq!(pulse.xruns(), 1);
        // A clock that is slow by 500 ppm.
        for t in 0..6_000u64 {
            watch.callback_at(Micros(9_000_000 + t * 10_005), 160, &pulse);
        }
        assert_eq!(pulse.xruns(), 1);
    }

    #[test]
    fn backs_off_and_starts_over() {
        let mut b = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| b.failed().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 4000, 4000]);
        b.succeeded();
        assert_eq!(b.failed().as_millis(), 250);
    }
}
