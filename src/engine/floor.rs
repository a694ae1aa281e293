//! What this machine can do at best, measured by the program itself: how quickly memory is read, and how quickly it
//! multiplies. A floor is what a piece of work would take if nothing else were in its way.
//!
//! Runs on the caller's thread, for half a second. The threads are those of the engines (all cores but one).

use super::EngineError;
use super::linear::Linear;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Far more than any cache holds.
const READ_BYTES: usize = 256 << 20;
/// Every measurement is the best of what fits into this time: what disturbs it only makes it slower.
const LONG_ENOUGH: Duration = Duration::from_millis(150);
/// Side of the matrices that are multiplied: large enough to keep the processor busy, small enough for its caches.
const SIDE: usize = 768;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Threads that worked.
    pub threads: usize,
    /// Bytes of memory read per second.
    pub bandwidth: f64,
    /// Operations per second on f32: a multiplication and an addition are two.
    pub dense: f64,
    /// The same on four-bit weights, as the language model multiplies them.
    pub packed: f64,
}

impl Measured {
    /// Milliseconds to read `bytes`.
    pub fn read_ms(&self, bytes: f64) -> f64 {
        bytes / self.bandwidth.max(1.0) * 1000.0
    }
}

/// The engines' threads, as `main` set them.
pub fn threads() -> usize {
    std::env::var("CANDLE_NUM_THREADS").ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(1)
}

/// Measures this machine.
pub fn measure() -> Result<Measured, EngineError> {
    let threads = threads();
    let flat = |n: usize| (0..n).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect::<Vec<_>>();
    let square = Tensor::from_vec(flat(SIDE * SIDE), (SIDE, SIDE), &Device::Cpu)?;
    let operations = 2.0 * (SIDE * SIDE * SIDE) as f64;
    let weight = Arc::new(QTensor::quantize(&square, GgmlDType::Q4K)?);
    let packed = Linear::quantised(weight, None, DType::F32)?.packed()?;
    Ok(Measured {
        threads,
        bandwidth: READ_BYTES as f64 / bandwidth_seconds(threads),
        dense: operations / best(|| Ok(square.matmul(&square)?))?,
        packed: operations / best(|| packed.forward(&square))?,
    })
}

/// The shortest of the calls, in seconds.
fn best(work: impl Fn() -> Result<Tensor, EngineError>) -> Result<f64, EngineError> {
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    while began.elapsed() < LONG_ENOUGH || best.is_infinite() {
        let start = Instant::now();
        black_box(work()?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Seconds to read a large buffer once, on all threads.
fn bandwidth_seconds(threads: usize) -> f64 {
    let buffer = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let share = buffer.len().div_ceil(threads.max(1));
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    while began.elapsed() < LONG_ENOUGH || best.is_infinite() {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in buffer.chunks(share) {
                scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, x| sum.wrapping_add(*x))));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_can_do_something_and_a_floor_is_bytes_over_bandwidth() {
        let here = measure().unwrap();
        assert!(here.bandwidth > 1e7 && here.dense > 1e7 && here.packed > 1e7, "{here:?}");
        let known = Measured { threads: 1, bandwidth: 20e9, dense: 100e9, packed: 200e9 };
        assert!((known.read_ms(200e6) - 10.0).abs() < 1e-9);
    }
}
