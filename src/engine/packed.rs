//! Products with four-bit weights (GGUF's Q4_K) on x86 processors with AVX-512 VNNI, as fast as memory gives the weights.
//!
//! Owns the weights, reordered once when loaded; the original is dropped. Used on the engine thread, and on `candle`'s pool.
//! Where the processor or the shape does not fit, `candle`'s own kernel serves ([`PackedQ4K::new`] gives `None`).
//!
//! Why there is a kernel of our own: `candle` 0.11 unpacks the scales to f32 (6 bits a weight instead of 4.5), and its inner
//! loop runs over a number of inputs that is only known at run time, so that its sums live in memory. Here sixteen rows
//! stand side by side with their scales as they are stored, and the number of inputs is known when compiling.
//! `docs/performance.md` has both beside llama.cpp's.
//!
//! Invariants: the weights are those of the file, bit for bit; inputs are rounded to 8 bits per block of 256, as `candle`
//! and llama.cpp round them; what is computed does not depend on the number of threads or of inputs computed at once.
//!
//! The format is that of `block_q4_K` in llama.cpp's `ggml-common.h`: per 256 weights two half-precision factors, eight
//! six-bit scales and minima, and 128 bytes of nibbles; a weight is `d * scale * q - dmin * min`.

use super::EngineError;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Weights in a block, which share two factors.
const BLOCK: usize = 256;
/// Bytes of a block in a file: two factors, scales and minima, nibbles.
const BLOCK_BYTES: usize = 2 + 2 + 12 + BLOCK / 2;
/// Weights of a part of a block, which share a scale and a minimum.
const PART: usize = 32;
const PARTS: usize = BLOCK / PART;
/// Rows that are computed side by side.
const ROWS: usize = 16;

/// The same block of sixteen rows.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Tile {
    /// Half-precision factors of the scales and of the minima, per row.
    d: [u16; ROWS],
    dmin: [u16; ROWS],
    /// Six-bit scales and minima, per part and row.
    scales: [[u8; ROWS]; PARTS],
    minima: [[u8; ROWS]; PARTS],
    /// Nibbles, by groups of eight columns: per row four bytes, the low halves for the first four columns.
    nibbles: [[u8; 4 * ROWS]; BLOCK / 8],
}

/// A weight `[rows, width]` of four bits, reordered.
#[derive(Debug)]
pub struct PackedQ4K {
    rows: usize,
    width: usize,
    /// By sixteen rows, then by blocks of columns.
    tiles: Vec<Tile>,
}

impl PackedQ4K {
    /// Reorders `weight`, or says that this kernel is not for it: another format, not on the CPU, a processor without
    /// AVX-512 VNNI, or a shape that does not divide.
    pub fn new(weight: &QTensor) -> Result<Option<Self>, EngineError> {
        let (rows, width) = weight.shape().dims2()?;
        let fits = weight.dtype() == GgmlDType::Q4K && weight.device().is_cpu();
        if !fits || !supported() || rows == 0 || rows % ROWS != 0 || width == 0 || width % BLOCK != 0 {
            return Ok(None);
        }
        let data = weight.data()?;
        let blocks = width / BLOCK;
        let mut tiles = Vec::with_capacity(rows / ROWS * blocks);
        for first in (0..rows).step_by(ROWS) {
            for block in 0..blocks {
                let of_row = |row: usize| {
                    let at = ((first + row) * blocks + block) * BLOCK_BYTES;
                    &data[at..at + BLOCK_BYTES]
                };
                tiles.push(Tile::of(&of_row));
            }
        }
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

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.tiles.len() * size_of::<Tile>()
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

/// Whether this processor has what the kernel is made of.
fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::supported();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Tile {
    /// From the blocks of sixteen rows, as they are stored.
    fn of<'a>(row: &dyn Fn(usize) -> &'a [u8]) -> Self {
        let mut tile = Tile {
            d: [0; ROWS],
            dmin: [0; ROWS],
            scales: [[0; ROWS]; PARTS],
            minima: [[0; ROWS]; PARTS],
            nibbles: [[0; 4 * ROWS]; BLOCK / 8],
        };
        for r in 0..ROWS {
            let block = row(r);
            tile.d[r] = u16::from_le_bytes([block[0], block[1]]);
            tile.dmin[r] = u16::from_le_bytes([block[2], block[3]]);
            let (packed, nibbles) = (&block[4..16], &block[16..]);
            for part in 0..PARTS {
                let (scale, minimum) = scale_and_minimum(packed, part);
                tile.scales[part][r] = scale;
                tile.minima[part][r] = minimum;
            }
            // Each 32 bytes hold two parts: one in the low halves, the next in the high ones.
            let weight = |column: usize| {
                let byte = nibbles[column / (2 * PART) * PART + column % PART];
                if column / PART % 2 == 0 { byte & 15 } else { byte >> 4 }
            };
            for (group, bytes) in tile.nibbles.iter_mut().enumerate() {
                for j in 0..4 {
                    bytes[4 * r + j] = weight(8 * group + j) | (weight(8 * group + 4 + j) << 4);
                }
            }
        }
        tile
    }
}

/// The six-bit scale and minimum of a part, from the twelve bytes that hold all eight (`get_scale_min_k4` in llama.cpp's
/// `ggml-quants.c`).
fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let high = |byte: u8| byte >> 6 << 4;
    ((packed[part + 4] & 15) | high(packed[part - 4]), (packed[part + 4] >> 4) | high(packed[part]))
}

#[cfg(test)]
mod tests;
