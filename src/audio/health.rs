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
    /// The device reports errors in quick succession.
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

/// More errors than this in one [`STORM_WINDOW`] are a storm. Some hosts report a short burst when a stream starts.
const STORM_ERRORS: u64 = 200;

/// The span over which errors are counted.
const STORM_WINDOW: Duration = Duration::from_millis(500);

/// Judges one stream from its pulse.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    beats: u64,
    beat_at: Micros,
    errors: u64,
    errors_at: Micros,
    storming: bool,
}

impl Watch {
    /// Watches a stream that was started at `now`.
    pub fn new(now: Micros) -> Self {
        Self { beats: 0, beat_at: now, errors: 0, errors_at: now, storming: false }
    }

    /// Looks at the pulse, and says what is wrong. To be called several times a second.
    pub fn look(&mut self, pulse: &StreamPulse, now: Micros) -> Option<Trouble> {
        let beats = pulse.beats();
        if beats != self.beats {
            (self.beats, self.beat_at) = (beats, now);
        }
        let errors = pulse.errors();
        if errors - self.errors > STORM_ERRORS {
            self.storming = true;
        } else if now.since(self.errors_at) >= STORM_WINDOW {
            self.storming = false;
        }
        if now.since(self.errors_at) >= STORM_WINDOW {
            (self.errors, self.errors_at) = (errors, now);
        }
        if pulse.is_lost() {
            Some(Trouble::Lost)
        } else if self.storming {
            Some(Trouble::Storming)
        } else if now.since(self.beat_at) >= FROZEN_AFTER {
            Some(Trouble::Frozen)
        } else {
            None
        }
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
    fn a_burst_at_the_start_is_forgiven_and_a_storm_is_not() {
        let pulse = StreamPulse::default();
        let mut watch = Watch::new(ms(0));
        (0..50).for_each(|_| pulse.error());
        pulse.beat();
        assert_eq!(watch.look(&pulse, ms(100)), None);
        for t in 6..20 {
            pulse.beat();
            (0..1000).for_each(|_| pulse.error());
            assert_eq!(watch.look(&pulse, ms(t * 100)), Some(Trouble::Storming), "beats do not excuse it");
        }
        for t in 20..40 {
            pulse.beat();
            let trouble = watch.look(&pulse, ms(t * 100));
            assert!(t < 30 || trouble.is_none(), "over when the errors stop");
        }
    }

    #[test]
    fn a_device_that_says_it_is_gone_is_lost() {
        let pulse = StreamPulse::default();
        pulse.beat();
        pulse.lose();
        assert_eq!(Watch::new(ms(0)).look(&pulse, ms(1)), Some(Trouble::Lost));
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
