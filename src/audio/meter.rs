//! The level of a stream: the highest absolute sample since somebody last looked. One atomic, any thread.

use std::sync::atomic::{AtomicU32, Ordering};

/// A peak meter. Raised by an audio callback, read (and reset) by whoever draws it.
#[derive(Debug, Default)]
pub struct PeakMeter(AtomicU32);

impl PeakMeter {
    /// A level of `peak` was seen; 0 or more (not a number counts as 0).
    pub fn raise(&self, peak: f32) {
        // For numbers that are not negative, the order of the bits is the order of the numbers.
        self.0.fetch_max(peak.max(0.0).abs().to_bits(), Ordering::Relaxed);
    }

    /// The highest level since the last call, and begins anew.
    pub fn take(&self) -> f32 {
        f32::from_bits(self.0.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_highest_until_read() {
        let m = PeakMeter::default();
        for p in [0.1, 0.7, f32::NAN, -3.0, 0.2] {
            m.raise(p);
        }
        assert_eq!((m.take(), m.take()), (0.7, 0.0));
    }
}
