//! One monotonic clock for the whole process.
//!
//! Owns nothing but its start; may be read from any thread, audio callbacks included (reading the monotonic clock is
//! not a system call on the platforms we support). Pure rooms never read it: they are given [`Micros`] as an argument.

use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A point in time, in microseconds since the process first asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Micros {
    /// Now. Call it once from an ordinary thread before an audio callback does (the first call initialises the start).
    pub fn now() -> Self {
        Micros(START.elapsed().as_micros() as u64)
    }

    /// Milliseconds since `earlier`; negative when `earlier` is later.
    pub fn ms_since(self, earlier: Micros) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1000.0
    }

    /// The time from `earlier` until now, zero if `earlier` is later.
    pub fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// How long `samples` take at `rate` hertz.
    pub fn of_samples(samples: u64, rate: u32) -> Duration {
        Duration::from_micros(samples * 1_000_000 / u64::from(rate.max(1)))
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;
    fn add(self, d: Duration) -> Micros {
        Micros(self.0 + d.as_micros() as u64)
    }
}

impl Sub<Duration> for Micros {
    type Output = Micros;
    fn sub(self, d: Duration) -> Micros {
        Micros(self.0.saturating_sub(d.as_micros() as u64))
    }
}
