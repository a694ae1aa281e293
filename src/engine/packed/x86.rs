//! The kernel for x86 processors with AVX-512 VNNI.
//!
//! Part of the packed room. A tile of sixteen rows takes up to eight inputs at a time: the nibbles are unpacked once and
//! multiplied with each (`vpdpbusd`: four products of bytes per lane), each row in a lane of its own, so that nothing has
//! to be summed across lanes. Invariant: nothing here runs on a processor that [`supported`] denies.

use super::{BLOCK, PART, PARTS, PackedQ4K, ROWS, Tile};
use candle_core::utils::barrier_pool;
use std::arch::x86_64::*;
use std::sync::LazyLock;

/// Inputs that are computed at a time: their sums stay in registers.
const AT_ONCE: usize = 8;

/// Whether this processor can run the kernel.
pub(super) fn supported() -> bool {
    static SUPPORTED: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    });
    *SUPPORTED
}

/// A block of an input, rounded to 8 bits.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Rounded {
    values: [i8; BLOCK],
    /// What one step of the values is worth.
    step: f32,
    /// The sums of the values of each part.
    sums: [f32; PARTS],
}

/// `inputs` `[n, width]` times the weights: `[n, rows]`.
pub(super) fn product(weights: &PackedQ4K, inputs: &[f32], n: usize) -> Vec<f32> {
    let blocks = weights.width / BLOCK;
    // SAFETY: a `PackedQ4K` exists only where `supported` said yes.
    #[expect(unsafe_code, reason = "vector instructions")]
    let rounded: Vec<Rounded> = inputs.chunks_exact(BLOCK).map(|block| unsafe { round(block) }).collect();
    let mut outputs = vec![0.0; n * weights.rows];
    let place = outputs.as_mut_ptr() as usize;
    let groups = n.div_ceil(AT_ONCE);
    let tiles_down = weights.rows / ROWS;
    barrier_pool().execute_chunked(tiles_down * groups, |range| {
        for unit in range {
            let (down, group) = (unit / groups, unit % groups);
            let (from, to) = (group * AT_ONCE, n.min((group + 1) * AT_ONCE));
            let tiles = &weights.tiles[down * blocks..(down + 1) * blocks];
            let some = &rounded[from * blocks..to * blocks];
            // SAFETY: the processor is supported, as above; each unit writes its own sixteen columns of its own rows of
            // `outputs`, which outlives the call.
            #[expect(unsafe_code, reason = "vector instructions, and threads that write to disjoint parts")]
            unsafe {
                let out = (place as *mut f32).add(from * weights.rows + down * ROWS);
                match to - from {
                    1 => rows_of_one(tiles, some, out),
                    2 => rows_of::<2>(tiles, some, out, weights.rows),
                    3 => rows_of::<3>(tiles, some, out, weights.rows),
                    4 => rows_of::<4>(tiles, some, out, weights.rows),
                    5 => rows_of::<5>(tiles, some, out, weights.rows),
                    6 => rows_of::<6>(tiles, some, out, weights.rows),
                    7 => rows_of::<7>(tiles, some, out, weights.rows),
                    _ => rows_of::<AT_ONCE>(tiles, some, out, weights.rows),
                }
            }
        }
    });
    outputs
}

/// Rounds a block of an input to 8 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn round(block: &[f32]) -> Rounded {
    let mut rounded = Rounded { values: [0; BLOCK], step: 0.0, sums: [0.0; PARTS] };
    // SAFETY: `block` has `BLOCK` values, and so has `values`; every access is at a multiple of 16 below that.
    unsafe {
        let mut most = _mm512_setzero_ps();
        for i in (0..BLOCK).step_by(16) {
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(block.as_ptr().add(i))));
        }
        let most = _mm512_reduce_max_ps(most);
        if most == 0.0 {
            return rounded;
        }
        rounded.step = most / 127.0;
        let scale = _mm512_set1_ps(127.0 / most);
        for part in 0..PARTS {
            let mut sum = _mm512_setzero_si512();
            for i in (0..PART).step_by(16) {
                let at = part * PART + i;
                let whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(block.as_ptr().add(at)), scale));
                sum = _mm512_add_epi32(sum, whole);
                _mm_storeu_si128(rounded.values.as_mut_ptr().add(at).cast(), _mm512_cvtepi32_epi8(whole));
            }
            rounded.sums[part] = _mm512_reduce_add_epi32(sum) as f32;
        }
    }
    rounded
}

/// Scales and minima of one part of a tile, as numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
#[inline]
unsafe fn factors(tile: &Tile, part: usize) -> (__m512, __m512) {
    // SAFETY: each array is sixteen bytes long.
    unsafe {
        let number =
            |bytes: &[u8; ROWS]| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())));
        (number(&tile.scales[part]), number(&tile.minima[part]))
    }
}

/// The tile's own factors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
#[inline]
unsafe fn halves(of_rows: &[u16; ROWS]) -> __m512 {
    // SAFETY: the array is 32 bytes long.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(of_rows.as_ptr().cast())) }
}

/// Four values of an input, in every lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
#[inline]
unsafe fn four(input: &Rounded, at: usize) -> __m512i {
    // SAFETY: `at` is a multiple of four below `BLOCK`.
    unsafe { _mm512_set1_epi32(input.values.as_ptr().add(at).cast::<i32>().read_unaligned()) }
}

/// Sixteen rows of the product of one input: bound by how quickly the weights arrive.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn rows_of_one(tiles: &[Tile], input: &[Rounded], out: *mut f32) {
    // SAFETY: loads stay inside a tile and a block; `out` has room for sixteen values, as the caller promises.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let mut total = _mm512_setzero_ps();
        for (tile, input) in tiles.iter().zip(input) {
            let (mut scaled, mut less) = (_mm512_setzero_ps(), _mm512_setzero_ps());
            for part in 0..PARTS {
                let (mut first, mut second) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                for group in part * 4..part * 4 + 4 {
                    let nibbles = _mm512_loadu_si512(tile.nibbles[group].as_ptr().cast());
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles), low);
                    first = _mm512_dpbusd_epi32(first, _mm512_and_si512(nibbles, low), four(input, group * 8));
                    second = _mm512_dpbusd_epi32(second, high, four(input, group * 8 + 4));
                }
                let (scale, minimum) = factors(tile, part);
                scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(first, second)), scale, scaled);
                less = _mm512_fmadd_ps(minimum, _mm512_set1_ps(input.sums[part]), less);
            }
            let of_block = _mm512_fmsub_ps(scaled, halves(&tile.d), _mm512_mul_ps(less, halves(&tile.dmin)));
            total = _mm512_fmadd_ps(of_block, _mm512_set1_ps(input.step), total);
        }
        _mm512_storeu_ps(out, total);
    }
}

/// Sixteen rows of the products of `N` inputs: bound by multiplying. `stride`: from one input's results to the next's.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn rows_of<const N: usize>(tiles: &[Tile], inputs: &[Rounded], out: *mut f32, stride: usize) {
    // SAFETY: as for one input; `out` has room for sixteen values at every stride.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let blocks = tiles.len();
        let mut total = [_mm512_setzero_ps(); N];
        for (block, tile) in tiles.iter().enumerate() {
            let input: [&Rounded; N] = std::array::from_fn(|i| &inputs[i * blocks + block]);
            let (d, dmin) = (halves(&tile.d), halves(&tile.dmin));
            let mut of_block = [_mm512_setzero_ps(); N];
            for part in 0..PARTS {
                let mut sums = [_mm512_setzero_si512(); N];
                for group in part * 4..part * 4 + 4 {
                    let nibbles = _mm512_loadu_si512(tile.nibbles[group].as_ptr().cast());
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles), low);
                    let nibbles = _mm512_and_si512(nibbles, low);
                    for i in 0..N {
                        sums[i] = _mm512_dpbusd_epi32(sums[i], nibbles, four(input[i], group * 8));
                    }
                    for i in 0..N {
                        sums[i] = _mm512_dpbusd_epi32(sums[i], high, four(input[i], group * 8 + 4));
                    }
                }
                let (scale, minimum) = factors(tile, part);
                let (scale, minimum) = (_mm512_mul_ps(scale, d), _mm512_mul_ps(minimum, dmin));
                for i in 0..N {
                    let less = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(input[i].sums[part]), of_block[i]);
                    of_block[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), scale, less);
                }
            }
            for i in 0..N {
                total[i] = _mm512_fmadd_ps(of_block[i], _mm512_set1_ps(input[i].step), total[i]);
            }
        }
        for (i, total) in total.iter().enumerate() {
            _mm512_storeu_ps(out.add(i * stride), *total);
        }
    }
}
