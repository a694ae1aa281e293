//! The last values of one quantity and their percentiles. Owned by whoever shows them; no threads, no clock.
//!
//! The window is bounded and small (a percentile sorts a copy): it is read a few times a second, for people.

use std::collections::VecDeque;

/// The last values of one quantity, at most `window` of them.
#[derive(Clone, Debug)]
pub struct Histogram {
    values: VecDeque<f64>,
    window: usize,
}

impl Histogram {
    /// Keeps the last `window` values; at least one.
    pub fn new(window: usize) -> Self {
        Histogram { values: VecDeque::with_capacity(window.max(1)), window: window.max(1) }
    }

    /// Adds a value. One that is not a number is ignored: it says nothing.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        if self.values.len() == self.window {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value added last.
    pub fn last(&self) -> Option<f64> {
        self.values.back().copied()
    }

    /// The newest values, at most `count` of them, oldest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = f64> {
        self.values.iter().skip(self.values.len().saturating_sub(count)).copied()
    }

    pub fn p50(&self) -> Option<f64> {
        self.percentile(50.0)
    }

    pub fn p95(&self) -> Option<f64> {
        self.percentile(95.0)
    }

    pub fn p99(&self) -> Option<f64> {
        self.percentile(99.0)
    }

    /// The `percent`-th percentile (0 to 100), between two values by linear interpolation, as numpy's `percentile` does
    /// by default. `None` while there are no values.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let place = percent.clamp(0.0, 100.0) / 100.0 * (sorted.len().checked_sub(1)? as f64);
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        Some(low + (high - low) * place.fract())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: impl IntoIterator<Item = f64>, window: usize, expected: [f64; 3]) {
        let mut histogram = Histogram::new(window);
        for value in values {
            histogram.add(value);
        }
        let got = [histogram.p50(), histogram.p95(), histogram.p99()].map(Option::unwrap);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-9, "{got} is not {expected}");
        }
    }

    // Expected values: numpy 2.4.6, `numpy.percentile(values, [50, 95, 99])`.
    #[test]
    fn percentiles_are_those_of_numpy() {
        let spread = || (0..100).map(|i| f64::from(i * 7919 % 1009) / 10.0);
        check([3.0, 1.0, 2.0, 10.0], 8, [2.5, 8.95, 9.79]);
        check(spread(), 100, [51.1, 96.82, 100.104]);
        check(spread(), 64, [49.65, 96.425, 99.848]);
        check([7.5], 4, [7.5, 7.5, 7.5]);
    }

    #[test]
    fn an_empty_one_has_no_values_and_nonsense_is_ignored() {
        let mut histogram = Histogram::new(0);
        histogram.add(f64::NAN);
        assert!(histogram.is_empty());
        assert_eq!((histogram.last(), histogram.p50()), (None, None));
        histogram.add(1.0);
        histogram.add(2.0);
        assert_eq!((histogram.len(), histogram.last(), histogram.p50()), (1, Some(2.0), Some(2.0)));
        let mut histogram = Histogram::new(3);
        [1.0, 2.0, 3.0, 4.0].into_iter().for_each(|value| histogram.add(value));
        assert_eq!(histogram.newest(2).collect::<Vec<_>>(), [3.0, 4.0]);
        assert_eq!(histogram.newest(9).collect::<Vec<_>>(), [2.0, 3.0, 4.0]);
    }
}
