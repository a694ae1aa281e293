//! The kernels for x86 processors with AVX-512 VNNI.
//!
//! Part of the packed room. A tile of sixteen rows takes up to eight inputs at a time: the bits are unpacked once and
//! multiplied with each (`vpdpbusd`: four products of bytes per lane), each row in a lane of its own, so that nothing has
//! to be summed across lanes. Invariant: nothing here runs on a processor that [`supported`] denies.

use super::tiles::{FOURS, Four, SIXES, Six};
use super::{BLOCK, Packed, ROWS, Tiles};
use candle_core::utils::barrier_pool;
use std::arch::x86_64::*;
use std::sync::LazyLock;

/// Inputs that are computed at a time: their sums stay in registers.
const AT_ONCE: usize = 8;

/// Whether this processor can run the kernels.
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
    /// The sums of the values of each part of a four-bit block.
    sums: [f32; BLOCK / FOURS],
    /// What is to be taken off for six-bit weights, which are stored 32 too large, per part.
    less: [i32; BLOCK / SIXES],
}

/// `inputs` `[n, width]` times the weights: `[n, rows]`.
pub(super) fn product(weights: &Packed, inputs: &[f32], n: usize) -> Vec<f32> {
    let blocks = weights.width / BLOCK;
    // SAFETY: a `Packed` exists only where `supported` said yes.
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
            let job = Job {
                inputs: &rounded[from * blocks..to * blocks],
                tiles: down * blocks..(down + 1) * blocks,
                // SAFETY: inside `outputs`, which outlives the call.
                #[expect(unsafe_code, reason = "threads that write to disjoint parts")]
                out: unsafe { (place as *mut f32).add(from * weights.rows + down * ROWS) },
                stride: weights.rows,
            };
            // SAFETY: the processor is supported, as above; each unit writes sixteen columns of its own in the rows of its
            // own group.
            #[expect(unsafe_code, reason = "vector instructions, and threads that write to disjoint parts")]
            unsafe {
                match to - from {
                    1 => job.run::<1>(&weights.tiles),
                    2 => job.run::<2>(&weights.tiles),
                    3 => job.run::<3>(&weights.tiles),
                    4 => job.run::<4>(&weights.tiles),
                    5 => job.run::<5>(&weights.tiles),
                    6 => job.run::<6>(&weights.tiles),
                    7 => job.run::<7>(&weights.tiles),
                    _ => job.run::<AT_ONCE>(&weights.tiles),
                }
            }
        }
    });
    outputs
}

/// Sixteen rows of the products of a few inputs.
struct Job<'a> {
    /// The blocks of each input, one input after the other.
    inputs: &'a [Rounded],
    tiles: std::ops::Range<usize>,
    out: *mut f32,
    /// From one input's results to the next's.
    stride: usize,
}

impl Job<'_> {
    /// # Safety
    /// The processor is supported; there are `N` inputs; `out` has room for sixteen values at `N` strides.
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn run<const N: usize>(&self, tiles: &Tiles) {
        // SAFETY: as the caller promises.
        unsafe {
            match tiles {
                Tiles::Four(tiles) => fours::<N>(&tiles[self.tiles.clone()], self),
                Tiles::Six(tiles) => sixes::<N>(&tiles[self.tiles.clone()], self),
            }
        }
    }
}

/// Rounds a block of an input to 8 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn round(block: &[f32]) -> Rounded {
    let mut rounded = Rounded { values: [0; BLOCK], step: 0.0, sums: [0.0; BLOCK / FOURS], less: [0; BLOCK / SIXES] };
    // SAFETY: `block` has `BLOCK` values, and so has `values`; every access is at a multiple of 16 below that.
    unsafe {
        let mut most = _mm512_setzero_ps();
        for at in (0..BLOCK).step_by(16) {
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(block.as_ptr().add(at))));
        }
        let most = _mm512_reduce_max_ps(most);
        if most == 0.0 {
            return rounded;
        }
        rounded.step = most / 127.0;
        let scale = _mm512_set1_ps(127.0 / most);
        for part in 0..BLOCK / SIXES {
            let at = part * SIXES;
            let whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(block.as_ptr().add(at)), scale));
            _mm_storeu_si128(rounded.values.as_mut_ptr().add(at).cast(), _mm512_cvtepi32_epi8(whole));
            let sum = _mm512_reduce_add_epi32(whole);
            rounded.less[part] = -32 * sum;
            rounded.sums[part * SIXES / FOURS] += sum as f32;
        }
    }
    rounded
}

/// Half-precision factors of sixteen rows.
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

/// Writes the results, a row of sixteen per input.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[expect(unsafe_code, reason = "vector instructions")]
#[inline]
unsafe fn store<const N: usize>(totals: &[__m512; N], job: &Job<'_>) {
    for (i, total) in totals.iter().enumerate() {
        // SAFETY: there is room for sixteen values at every stride, as the caller of `run` promises.
        unsafe { _mm512_storeu_ps(job.out.add(i * job.stride), *total) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn fours<const N: usize>(tiles: &[Four], job: &Job<'_>) {
    let mut totals = [_mm512_setzero_ps(); N];
    let low = _mm512_set1_epi8(15);
    for (block, tile) in tiles.iter().enumerate() {
        let input: [&Rounded; N] = std::array::from_fn(|i| &job.inputs[i * tiles.len() + block]);
        // SAFETY: loads stay inside the tile and the inputs' blocks.
        unsafe {
            let number =
                |bytes: &[u8; ROWS]| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())));
            let (d, dmin) = (halves(&tile.d), halves(&tile.dmin));
            let mut of_block = [_mm512_setzero_ps(); N];
            for part in 0..BLOCK / FOURS {
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
                let scale = _mm512_mul_ps(number(&tile.scales[part]), d);
                let minimum = _mm512_mul_ps(number(&tile.minima[part]), dmin);
                for i in 0..N {
                    let less = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(input[i].sums[part]), of_block[i]);
                    of_block[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), scale, less);
                }
            }
            for i in 0..N {
                totals[i] = _mm512_fmadd_ps(of_block[i], _mm512_set1_ps(input[i].step), totals[i]);
            }
        }
    }
    // SAFETY: as the caller promises.
    unsafe { store(&totals, job) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn sixes<const N: usize>(tiles: &[Six], job: &Job<'_>) {
    let mut totals = [_mm512_setzero_ps(); N];
    let (low, pair) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    for (block, tile) in tiles.iter().enumerate() {
        let input: [&Rounded; N] = std::array::from_fn(|i| &job.inputs[i * tiles.len() + block]);
        // SAFETY: loads stay inside the tile and the inputs' blocks.
        unsafe {
            let d = halves(&tile.d);
            let mut of_block = [_mm512_setzero_ps(); N];
            for part in 0..BLOCK / SIXES {
                let first = _mm512_loadu_si512(tile.nibbles[2 * part].as_ptr().cast());
                let second = _mm512_loadu_si512(tile.nibbles[2 * part + 1].as_ptr().cast());
                let pairs = _mm512_loadu_si512(tile.pairs[part].as_ptr().cast());
                // The low bits of a weight, and its high bits moved above them: `(high & 0x30) | low`.
                let whole = |low, high| _mm512_ternarylogic_epi32::<0xF8>(low, high, pair);
                let columns = [
                    whole(_mm512_and_si512(first, low), _mm512_slli_epi16::<4>(pairs)),
                    whole(_mm512_and_si512(_mm512_srli_epi16::<4>(first), low), _mm512_slli_epi16::<2>(pairs)),
                    whole(_mm512_and_si512(second, low), pairs),
                    whole(_mm512_and_si512(_mm512_srli_epi16::<4>(second), low), _mm512_srli_epi16::<2>(pairs)),
                ];
                let mut sums = [_mm512_setzero_si512(); N];
                for i in 0..N {
                    sums[i] = _mm512_set1_epi32(input[i].less[part]);
                }
                for (group, weights) in columns.into_iter().enumerate() {
                    for i in 0..N {
                        sums[i] = _mm512_dpbusd_epi32(sums[i], weights, four(input[i], part * SIXES + 4 * group));
                    }
                }
                let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(tile.scales[part].as_ptr().cast()));
                let scale = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), d);
                for i in 0..N {
                    of_block[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), scale, of_block[i]);
                }
            }
            for i in 0..N {
                totals[i] = _mm512_fmadd_ps(of_block[i], _mm512_set1_ps(input[i].step), totals[i]);
            }
        }
    }
    // SAFETY: as the caller promises.
    unsafe { store(&totals, job) }
}
