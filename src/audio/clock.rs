//! When samples were captured and when they sound: pairs of a sample number and a time, readable without a lock.
//!
//! An audio callback writes (one writer per object), any thread reads. A reader that meets a write in progress tries
//! again a few times and then gives up; the writer never waits.

use crate::time::Micros;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How often a reader tries again when it meets a write in progress.
const READ_ATTEMPTS: usize = 64;

/// `N` numbers that are read and written together (a sequence lock: even sequence numbers mean "at rest").
#[derive(Debug)]
struct Together<const N: usize> {
    sequence: AtomicU64,
    values: [AtomicU64; N],
}

impl<const N: usize> Together<N> {
    fn new() -> Self {
        Self { sequence: AtomicU64::new(0), values: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// To be called by one thread only.
    fn write(&self, values: [u64; N]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, value) in self.values.iter().zip(values) {
            slot.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// The values of one write, or `None` before the first write (or while one never ends).
    fn read(&self) -> Option<[u64; N]> {
        for _ in 0..READ_ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before & 1 == 0 {
                let mut values = [0; N];
                for (value, slot) in values.iter_mut().zip(&self.values) {
                    *value = slot.load(Ordering::Relaxed);
                }
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return Some(values);
                }
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// Says which sample belongs to which moment, for a stream that never pauses.
#[derive(Debug)]
pub struct Anchor {
    pair: Together<2>,
    rate: u32,
}

impl Anchor {
    /// An anchor for a stream of `rate` samples per second.
    pub fn new(rate: u32) -> Self {
        Self { pair: Together::new(), rate }
    }

    /// Sample number `sample` belongs to `time`. One writer only.
    pub fn set(&self, sample: u64, time: Micros) {
        self.pair.write([sample, time.0]);
    }

    /// The last pair that was set.
    pub fn get(&self) -> Option<(u64, Micros)> {
        self.pair.read().map(|[sample, time]| (sample, Micros(time)))
    }

    /// The moment of sample number `sample`, reckoned from the last pair. `None` before anything was set.
    pub fn time_of(&self, sample: u64) -> Option<Micros> {
        self.get().map(|(at, time)| shifted(time, at, sample, self.rate))
    }
}

/// `time` belongs to number `from`; the moment of number `to`.
fn shifted(time: Micros, from: u64, to: u64, rate: u32) -> Micros {
    if to >= from { time + Micros::of_samples(to - from, rate) } else { time - Micros::of_samples(from - to, rate) }
}

/// How many runs of sound a [`PlayedTimeline`] remembers.
const RUNS: usize = 64;

/// Remembers when the samples of a stream with pauses sounded: the last `RUNS` uninterrupted runs of samples, each
/// with the times of its first sample and of the sample that was handed over last.
#[derive(Debug)]
pub struct PlayedTimeline {
    runs: [Together<5>; RUNS],
    count: AtomicU64,
    rate: u32,
}

/// The run that is being written; kept by the writer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    first: u64,
    first_time: u64,
    open: bool,
}

impl PlayedTimeline {
    /// A timeline for samples played at `rate` hertz.
    pub fn new(rate: u32) -> Self {
        Self { runs: std::array::from_fn(|_| Together::new()), count: AtomicU64::new(0), rate }
    }

    /// Samples `first..first + count` were handed over; the first of them sounds at `time`. Opens a run if none is
    /// open, else lengthens it. One writer only, which keeps `run`.
    pub fn played(&self, run: &mut Run, first: u64, count: u64, time: Micros) {
        if !run.open {
            *run = Run { first, first_time: time.0, open: true };
            self.count.fetch_add(1, Ordering::AcqRel);
        }
        let index = self.count.load(Ordering::Relaxed).wrapping_sub(1) as usize % RUNS;
        if let Some(slot) = self.runs.get(index) {
            slot.write([run.first, run.first_time, first, time.0, first + count]);
        }
    }

    /// The run is over: silence follows.
    pub fn paused(&self, run: &mut Run) {
        run.open = false;
    }

    /// When sample number `sample` sounds (or sounded): `None` if it was not handed over yet, or too long ago.
    pub fn time_of(&self, sample: u64) -> Option<Micros> {
        let count = self.count.load(Ordering::Acquire);
        for back in 1..=count.min(RUNS as u64) {
            let index = (count - back) as usize % RUNS;
            let Some([first, first_time, last, last_time, end]) = self.runs.get(index).and_then(Together::read) else {
                continue;
            };
            if (first..end).contains(&sample) {
                // The nearer of the two known moments, so that a drifting clock does not add up.
                let near_start = sample - first < last.saturating_sub(sample);
                let (from, time) = if near_start { (first, first_time) } else { (last, last_time) };
                return Some(shifted(Micros(time), from, sample, self.rate));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_reckons_both_ways() {
        let anchor = Anchor::new(48_000);
        assert_eq!(anchor.time_of(0), None);
        anchor.set(48_000, Micros(5_000_000));
        assert_eq!(anchor.time_of(48_000), Some(Micros(5_000_000)));
        assert_eq!(anchor.time_of(72_000), Some(Micros(5_500_000)));
        assert_eq!(anchor.time_of(0), Some(Micros(4_000_000)));
    }

    #[test]
    fn a_timeline_knows_runs_with_a_pause_between() {
        let line = PlayedTimeline::new(1000);
        let mut run = Run::default();
        line.played(&mut run, 0, 10, Micros(100_000));
        line.played(&mut run, 10, 10, Micros(110_000));
        line.paused(&mut run);
        line.played(&mut run, 20, 5, Micros(900_000));
        assert_eq!(line.time_of(3), Some(Micros(103_000)));
        assert_eq!(line.time_of(19), Some(Micros(119_000)));
        assert_eq!(line.time_of(20), Some(Micros(900_000)));
        assert_eq!(line.time_of(25), None, "not handed over yet");
        for i in 0..RUNS as u64 {
            line.paused(&mut run);
            line.played(&mut run, 25 + i, 1, Micros(2_000_000 + i * 1000));
        }
        assert_eq!(line.time_of(3), None, "forgotten");
        assert_eq!(line.time_of(25 + RUNS as u64 - 1), Some(Micros(2_000_000 + (RUNS as u64 - 1) * 1000)));
    }

    #[test]
    fn a_reader_never_sees_half_a_write() {
        let anchor = std::sync::Arc::new(Anchor::new(1));
        let writer = {
            let anchor = anchor.clone();
            std::thread::spawn(move || (1..300_000u64).for_each(|i| anchor.set(i, Micros(i * 3))))
        };
        let mut seen = 0;
        while !writer.is_finished() || seen == 0 {
            if let Some((sample, time)) = anchor.get() {
                assert_eq!(time.0, sample * 3);
                seen += 1;
            }
        }
        writer.join().unwrap();
        assert_eq!(anchor.get(), Some((299_999, Micros(899_997))));
    }
}
