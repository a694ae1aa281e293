//! The same block of sixteen rows, side by side. Plain data, made once when a weight is loaded.
//!
//! Part of the packed room. The formats are those of `block_q4_K` and `block_q6_K` in llama.cpp's `ggml-common.h`.

use super::{BLOCK, ROWS};

/// Weights of a part of a four-bit block, which share a scale and a minimum.
pub const FOURS: usize = 32;
/// Weights of a part of a six-bit block, which share a scale.
pub const SIXES: usize = 16;

/// Sixteen rows of four-bit weights: per 256 weights two half-precision factors, and per 32 of them a six-bit scale and a
/// six-bit minimum. A weight is `d * scale * q - dmin * minimum`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Four {
    /// Half-precision factors of the scales and of the minima, per row.
    pub d: [u16; ROWS],
    pub dmin: [u16; ROWS],
    /// Per part and row.
    pub scales: [[u8; ROWS]; BLOCK / FOURS],
    pub minima: [[u8; ROWS]; BLOCK / FOURS],
    /// By groups of eight columns: per row four bytes, the low halves for the first four columns.
    pub nibbles: [[u8; 4 * ROWS]; BLOCK / 8],
}

impl Four {
    /// Bytes of a block in a file: two factors, scales and minima, nibbles.
    pub const BYTES: usize = 2 + 2 + 12 + BLOCK / 2;

    /// From the blocks of sixteen rows, as they are stored.
    pub fn of<'a>(row: &dyn Fn(usize) -> &'a [u8]) -> Self {
        let mut tile = Four {
            d: [0; ROWS],
            dmin: [0; ROWS],
            scales: [[0; ROWS]; BLOCK / FOURS],
            minima: [[0; ROWS]; BLOCK / FOURS],
            nibbles: [[0; 4 * ROWS]; BLOCK / 8],
        };
        for r in 0..ROWS {
            let block = row(r);
            tile.d[r] = u16::from_le_bytes([block[0], block[1]]);
            tile.dmin[r] = u16::from_le_bytes([block[2], block[3]]);
            let (packed, nibbles) = (&block[4..16], &block[16..]);
            for part in 0..BLOCK / FOURS {
                (tile.scales[part][r], tile.minima[part][r]) = scale_and_minimum(packed, part);
            }
            // Each 32 bytes hold two parts: one in the low halves, the next in the high ones.
            let weight = |column: usize| {
                let byte = nibbles[column / (2 * FOURS) * FOURS + column % FOURS];
                if (column / FOURS).is_multiple_of(2) { byte & 15 } else { byte >> 4 }
            };
            put(&mut tile.nibbles, r, &weight);
        }
        tile
    }
}

/// Sixteen rows of six-bit weights: per 256 weights a half-precision factor, and per 16 of them a signed scale. A weight
/// is `d * scale * (q - 32)`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Six {
    /// The low four bits of the weights, as in [`Four`].
    pub nibbles: [[u8; 4 * ROWS]; BLOCK / 8],
    /// The high two bits, by groups of sixteen columns: per row four bytes; two bits each for the first four columns, the
    /// second, and so on.
    pub pairs: [[u8; 4 * ROWS]; BLOCK / 16],
    /// Per part and row.
    pub scales: [[i8; ROWS]; BLOCK / SIXES],
    /// The half-precision factor, per row.
    pub d: [u16; ROWS],
}

impl Six {
    /// Bytes of a block in a file: low bits, high bits, scales, the factor.
    pub const BYTES: usize = BLOCK / 2 + BLOCK / 4 + BLOCK / SIXES + 2;

    /// From the blocks of sixteen rows, as they are stored.
    pub fn of<'a>(row: &dyn Fn(usize) -> &'a [u8]) -> Self {
        let mut tile = Six {
            nibbles: [[0; 4 * ROWS]; BLOCK / 8],
            pairs: [[0; 4 * ROWS]; BLOCK / 16],
            scales: [[0; ROWS]; BLOCK / SIXES],
            d: [0; ROWS],
        };
        for r in 0..ROWS {
            let (low, rest) = row(r).split_at(BLOCK / 2);
            let (high, rest) = rest.split_at(BLOCK / 4);
            for (part, scale) in rest[..BLOCK / SIXES].iter().enumerate() {
                tile.scales[part][r] = scale.cast_signed();
            }
            tile.d[r] = u16::from_le_bytes([rest[BLOCK / SIXES], rest[BLOCK / SIXES + 1]]);
            // Each half of the block has its own bytes; in it, quarters of 32 columns share them bit by bit.
            let weight = |column: usize| {
                let (half, quarter, j) = (column / 128, column % 128 / 32, column % 32);
                let low = low[half * 64 + quarter % 2 * 32 + j] >> (quarter / 2 * 4) & 15;
                let high = high[half * 32 + j] >> (2 * quarter) & 3;
                low | (high << 4)
            };
            put(&mut tile.nibbles, r, &|column| weight(column) & 15);
            for (group, bytes) in tile.pairs.iter_mut().enumerate() {
                for j in 0..4 {
                    let of = |i: usize| weight(16 * group + 4 * i + j) >> 4 << (2 * i);
                    bytes[4 * r + j] = of(0) | of(1) | of(2) | of(3);
                }
            }
        }
        tile
    }
}

/// Lays the nibbles of row `r` where the kernel wants them.
fn put(nibbles: &mut [[u8; 4 * ROWS]; BLOCK / 8], r: usize, weight: &dyn Fn(usize) -> u8) {
    for (group, bytes) in nibbles.iter_mut().enumerate() {
        for j in 0..4 {
            bytes[4 * r + j] = weight(8 * group + j) | (weight(8 * group + 4 + j) << 4);
        }
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
