//! Products with weights of four and six bits (GGUF's Q4_K and Q6_K) on x86 processors with AVX-512 VNNI, as fast as
//! memory gives the weights.
//!
//! Owns the weights, reordered once when loaded; the original is dropped. Used on the engine thread, and on `candle`'s pool.
//! Where the processor or the shape does not fit, `candle`'s own kernel serves ([`Packed::new`] gives `None`).
//!
//! Why there is a kernel of our own: `candle` 0.11 unpacks the scales to f32 (6 bits a weight instead of 4.5), and its inner
//! loop runs over a number of inputs that is only known at run time, so that its sums live in memory. Here sixteen rows
//! stand side by side with their scales as they are stored, and the number of inputs is known when compiling.
//! `docs/performance.md` has both beside llama.cpp's.
//!
//! Invariants: the weights are those of the file, bit for bit; inputs are rounded to 8 bits per block of 256, as `candle`
//! and llama.cpp round them; what is computed does not depend on the number of threads or of inputs computed at once.

use super::EngineError;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor};
use tiles::{Four, Six};

mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Weights in a block, which share their factors.
const BLOCK: usize = 256;
/// Rows that are computed side by side.
const ROWS: usize = 16;

/// The weights, by sixteen rows, then by blocks of columns.
#[derive(Debug)]
enum Tiles {
    Four(Vec<Four>),
    Six(Vec<Six>),
}

/// A weight `[rows, width]`, reordered.
#[derive(Debug)]
pub struct Packed {
    rows: usize,
    width: usize,
    tiles: Tiles,
}

impl Packed {
    /// Reorders `weight`, or says that this kernel is not for it: another format, not on the CPU, a processor without
    /// AVX-512 VNNI, or a shape that does not divide.
    pub fn new(weight: &QTensor) -> Result<Option<Self>, EngineError> {
        let (rows, width) = weight.shape().dims2()?;
        let divides = rows > 0 && width > 0 && rows.is_multiple_of(ROWS) && width.is_multiple_of(BLOCK);
        if !divides || !weight.device().is_cpu() || !supported() {
            return Ok(None);
        }
        let data = weight.data()?;
        let tiles = match weight.dtype() {
            GgmlDType::Q4K => Tiles::Four(reordered(&data, rows, width, Four::BYTES, Four::of)),
            GgmlDType::Q6K => Tiles::Six(reordered(&data, rows, width, Six::BYTES, Six::of)),
            _ => return Ok(None),
        };
        Ok(Some(Self { rows, width, tiles }))
    }

    /// Rows: the outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the inputs.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `x` `[n, width]` (f32) times the weights transposed: `[n, rows]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let (n, width) = x.dims2()?;
        if width != self.width {
            return Err(EngineError::Model(format!(
                "a layer takes inputs {} wide and was given {width}: the model's parts do not belong together",
                self.width
            )));
        }
        let inputs = x.flatten_all()?.to_vec1::<f32>()?;
        Ok(Tensor::from_vec(self.product(&inputs, n), (n, self.rows), x.device())?)
    }

    #[cfg(target_arch = "x86_64")]
    fn product(&self, inputs: &[f32], n: usize) -> Vec<f32> {
        x86::product(self, inputs, n)
    }

    /// Never called: nothing is packed where it is not [`supported`].
    #[cfg(not(target_arch = "x86_64"))]
    fn product(&self, _: &[f32], n: usize) -> Vec<f32> {
        vec![0.0; n * self.rows]
    }
}

/// The blocks of `data`, `bytes` long each, as tiles of sixteen rows.
fn reordered<'a, T>(
    data: &'a [u8],
    rows: usize,
    width: usize,
    bytes: usize,
    of: impl Fn(&dyn Fn(usize) -> &'a [u8]) -> T,
) -> Vec<T> {
    let blocks = width / BLOCK;
    let mut tiles = Vec::with_capacity(rows / ROWS * blocks);
    for first in (0..rows).step_by(ROWS) {
        for block in 0..blocks {
            tiles.push(of(&|row| {
                let at = ((first + row) * blocks + block) * bytes;
                &data[at..at + bytes]
            }));
        }
    }
    tiles
}

/// Whether this processor has what the kernel is made of.
fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::supported();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests;
