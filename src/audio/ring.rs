//! Single-producer, single-consumer rings of mono samples, with a fill level and loss counters.
//!
//! Owns the storage, shared by exactly two threads: one has the [`RingProducer`], the other the [`RingConsumer`]; one
//! of them may be an audio callback. Nothing here waits, locks, allocates (after [`ring`]) or panics. The counters may
//! be read from any thread. Invariant: `pushed == popped + queued` whenever both ends are at rest.

use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What went through a ring since it was made, in samples.
#[derive(Debug, Default)]
pub struct RingCounters {
    pushed: AtomicU64,
    popped: AtomicU64,
    lost: AtomicU64,
}

impl RingCounters {
    /// Samples that were put into the ring.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Samples that left the ring, read or discarded.
    pub fn popped(&self) -> u64 {
        self.popped.load(Ordering::Acquire)
    }

    /// Samples that found the ring full and are gone.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// Samples in the ring now. May be off by one transfer in progress when read from a third thread.
    pub fn queued(&self) -> u64 {
        let popped = self.popped();
        self.pushed().saturating_sub(popped)
    }
}

/// Makes a ring that holds `capacity` samples (at least one). All of its memory is written to once, so that no callback
/// waits for the system to provide a page of it.
pub fn ring(capacity: usize) -> (RingProducer, RingConsumer) {
    let (mut producer, mut consumer) = HeapRb::<f32>::new(capacity.max(1)).split();
    producer.push_slice(&vec![0.0; capacity.max(1)]);
    consumer.clear();
    let counters = Arc::new(RingCounters::default());
    (RingProducer { inner: producer, counters: counters.clone() }, RingConsumer { inner: consumer, counters })
}

/// The end that samples are put into.
pub struct RingProducer {
    inner: HeapProd<f32>,
    counters: Arc<RingCounters>,
}

impl RingProducer {
    /// Puts in as many of the first samples as fit, and returns how many did. The rest is the caller's to keep.
    pub fn push(&mut self, samples: &[f32]) -> usize {
        let n = self.inner.push_slice(samples);
        self.counters.pushed.fetch_add(n as u64, Ordering::AcqRel);
        n
    }

    /// Puts in as many of the first samples as fit; the rest is lost and counted. Returns how many were lost.
    pub fn push_or_lose(&mut self, samples: &[f32]) -> usize {
        let lost = samples.len() - self.push(samples);
        if lost > 0 {
            self.counters.lost.fetch_add(lost as u64, Ordering::AcqRel);
        }
        lost
    }

    /// How many samples fit now.
    pub fn free(&self) -> usize {
        self.inner.vacant_len()
    }

    /// How many samples wait to be read.
    pub fn queued(&self) -> usize {
        self.inner.occupied_len()
    }

    /// How many samples the ring holds when full.
    pub fn capacity(&self) -> usize {
        self.inner.capacity().get()
    }

    /// What went through the ring.
    pub fn counters(&self) -> &Arc<RingCounters> {
        &self.counters
    }
}

/// The end that samples are taken from.
pub struct RingConsumer {
    inner: HeapCons<f32>,
    counters: Arc<RingCounters>,
}

impl RingConsumer {
    /// Takes the oldest samples into `out`, as many as there are, and returns how many that was.
    pub fn pop(&mut self, out: &mut [f32]) -> usize {
        let n = self.inner.pop_slice(out);
        self.counters.popped.fetch_add(n as u64, Ordering::AcqRel);
        n
    }

    /// Appends everything that is there to `out`, and returns how many samples that was. Allocates when `out` grows.
    pub fn drain_into(&mut self, out: &mut Vec<f32>) -> usize {
        let start = out.len();
        out.resize(start + self.inner.occupied_len(), 0.0);
        let n = self.pop(&mut out[start..]);
        out.truncate(start + n);
        n
    }

    /// Throws away everything that is there, and returns how many samples that was.
    pub fn discard(&mut self) -> usize {
        let n = self.inner.clear();
        self.counters.popped.fetch_add(n as u64, Ordering::AcqRel);
        n
    }

    /// How many samples wait to be read.
    pub fn queued(&self) -> usize {
        self.inner.occupied_len()
    }

    /// What went through the ring.
    pub fn counters(&self) -> &Arc<RingCounters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_passes_what_waits_and_what_is_lost() {
        let (mut tx, mut rx) = ring(4);
        assert_eq!(tx.push(&[1.0, 2.0, 3.0]), 3);
        assert_eq!(tx.push_or_lose(&[4.0, 5.0, 6.0]), 2);
        assert_eq!((tx.queued(), tx.free(), tx.capacity()), (4, 0, 4));
        let mut out = [0.0; 3];
        assert_eq!(rx.pop(&mut out), 3);
        assert_eq!(out, [1.0, 2.0, 3.0]);
        assert_eq!(tx.push(&[7.0]), 1);
        let mut rest = vec![0.5];
        assert_eq!(rx.drain_into(&mut rest), 2);
        assert_eq!(rest, [0.5, 4.0, 7.0]);
        let c = rx.counters();
        assert_eq!((c.pushed(), c.popped(), c.lost(), c.queued()), (5, 5, 2, 0));
    }

    #[test]
    fn keeps_order_and_count_between_two_threads() {
        const N: u32 = 200_000;
        let (mut tx, mut rx) = ring(997);
        let writer = std::thread::spawn(move || {
            let mut next = 0u32;
            while next < N {
                let end = (next + 1 + next % 61).min(N);
                let block: Vec<f32> = (next..end).map(|i| i as f32).collect();
                let mut at = 0;
                while at < block.len() {
                    at += tx.push(&block[at..]);
                    std::thread::yield_now();
                }
                next = end;
            }
        });
        let mut all = Vec::new();
        while all.len() < N as usize {
            rx.drain_into(&mut all);
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert!(all.iter().enumerate().all(|(i, &x)| x == i as f32));
    }

    #[test]
    fn discard_empties_the_ring() {
        let (mut tx, mut rx) = ring(8);
        tx.push(&[1.0; 5]);
        assert_eq!(rx.discard(), 5);
        assert_eq!((rx.queued(), tx.free()), (0, 8));
        assert_eq!(rx.counters().queued(), 0);
    }
}
