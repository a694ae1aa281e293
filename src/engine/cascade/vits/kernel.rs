//! The inner loop of a convolution: tiles of its output, a few rows high and two vectors wide, whose sums stay in registers
//! while all taps and channels pass by.
//!
//! Part of the network of a voice. Written once, with the vectors of `rten-simd`: AVX-512, AVX2 and FMA, NEON or plain,
//! chosen when it runs. Invariant: the sum of an output is taken in the same order in any tile, so that a result does not
//! depend on how many rows are computed at once.

use super::conv::{Conv, Finish};
use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::{Sigmoid, Tanh};

/// How many numbers a vector of this processor holds.
pub struct Lanes;

impl SimdOp for Lanes {
    type Output = usize;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> usize {
        isa.f32().len()
    }
}

/// A convolution over some rows.
pub struct Run<'a> {
    pub conv: &'a Conv,
    /// From the first tap of the first row on.
    pub input: &'a [f32],
    pub rows: usize,
    pub finish: Finish<'a>,
}

/// Where a tile's results go.
#[derive(Clone, Copy)]
struct Ends {
    residual: Option<*const f32>,
    plain: Option<*mut f32>,
    onto: bool,
    scale: f32,
    active: Option<(*mut f32, f32)>,
}

impl SimdOp for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let Run { conv, input, rows, finish } = self;
        if rows == 0 {
            return;
        }
        assert_eq!(conv.lanes, ops.len(), "the weights are laid out for this processor");
        let reach = (rows - 1 + (conv.taps - 1) * conv.dilation) * conv.input_stride + conv.inputs;
        assert!(input.len() >= reach, "{} of {reach} inputs", input.len());
        let written = (rows - 1) * finish.stride + conv.columns;
        assert!(finish.residual.is_none_or(|r| r.len() >= written), "rows of the residual");
        assert!(finish.plain.as_ref().is_none_or(|p| p.len() >= written), "rows of the output");
        assert!(finish.active.as_ref().is_none_or(|(a, _)| a.len() >= written), "rows of the output");
        let (stride, input) = (finish.stride, input.as_ptr());
        let ends = Ends {
            residual: finish.residual.map(<[f32]>::as_ptr),
            plain: finish.plain.map(<[f32]>::as_mut_ptr),
            onto: finish.onto,
            scale: finish.scale,
            active: finish.active.map(|(a, slope)| (a.as_mut_ptr(), slope)),
        };
        let mut column = 0;
        while column < conv.columns {
            // Registers: sums, a vector of weights for each column, one input. 32 of them on these, 16 elsewhere.
            let many = ops.len() == 16 || cfg!(target_arch = "aarch64");
            let wide = column + 2 * ops.len() <= conv.columns;
            let strip = Strip { conv, column, input, stride, rows, ends };
            // SAFETY: the inputs and outputs of all rows and columns are there, as asserted above; a column is a multiple
            // of the lanes, and as many follow as the strip is wide.
            #[expect(unsafe_code, reason = "unchecked access in the inner loop")]
            unsafe {
                match (wide, many) {
                    (true, true) => strip.run::<_, 12, 2>(ops),
                    (true, false) => strip.run::<_, 6, 2>(ops),
                    (false, true) => strip.run::<_, 12, 1>(ops),
                    (false, false) => strip.run::<_, 6, 1>(ops),
                }
            }
            column += if wide { 2 * ops.len() } else { ops.len() };
        }
    }
}

/// One or two vectors of columns, over all rows.
#[derive(Clone, Copy)]
struct Strip<'a> {
    conv: &'a Conv,
    column: usize,
    input: *const f32,
    stride: usize,
    rows: usize,
    ends: Ends,
}

#[expect(unsafe_code, reason = "unchecked access in the inner loop")]
impl Strip<'_> {
    /// # Safety
    /// The strip lies inside the weights, inputs and outputs.
    #[inline(always)]
    unsafe fn run<O: FloatOps<f32>, const T: usize, const V: usize>(self, ops: O) {
        let mut row = 0;
        // SAFETY: rows below `rows` only.
        unsafe {
            while row + T <= self.rows {
                self.tile::<O, T, V>(ops, row);
                row += T;
            }
            while row + 3 <= self.rows {
                self.tile::<O, 3, V>(ops, row);
                row += 3;
            }
            while row < self.rows {
                self.tile::<O, 1, V>(ops, row);
                row += 1;
            }
        }
    }

    /// # Safety
    /// The strip lies inside the weights, inputs and outputs, and has `T` rows from `row` on.
    #[inline(always)]
    unsafe fn tile<O: FloatOps<f32>, const T: usize, const V: usize>(self, ops: O, row: usize) {
        let Strip { conv, column, input, stride, ends, .. } = self;
        let lanes = ops.len();
        // SAFETY: the weights of a column begin `taps * inputs` times its number, the bias at its number; inputs and
        // outputs as the caller promises.
        unsafe {
            let mut sums = [[ops.zero(); V]; T];
            for v in 0..V {
                let bias = ops.load_ptr(conv.bias.as_slice().as_ptr().add(column + v * lanes));
                for t in 0..T {
                    sums[t][v] = bias;
                }
            }
            let mut weights = conv.weights.as_slice().as_ptr().add(column * conv.taps * conv.inputs);
            let first = input.add(row * conv.input_stride);
            for tap in 0..conv.taps {
                let x = first.add(tap * conv.dilation * conv.input_stride);
                for channel in 0..conv.inputs {
                    let mut w = [ops.zero(); V];
                    for v in 0..V {
                        w[v] = ops.load_ptr(weights.add(v * lanes));
                    }
                    for t in 0..T {
                        let value = ops.splat(*x.add(t * conv.input_stride + channel));
                        for v in 0..V {
                            sums[t][v] = ops.mul_add(value, w[v], sums[t][v]);
                        }
                    }
                    weights = weights.add(V * lanes);
                }
            }
            // One thing at a time: a body that is small enough to be unrolled keeps the sums in registers.
            let at = |t: usize, v: usize| (row + t) * stride + column + v * lanes;
            if let Some(residual) = ends.residual {
                for t in 0..T {
                    for v in 0..V {
                        sums[t][v] = ops.add(sums[t][v], ops.load_ptr(residual.add(at(t, v))));
                    }
                }
            }
            if let Some(plain) = ends.plain {
                if ends.onto {
                    for t in 0..T {
                        for v in 0..V {
                            sums[t][v] = ops.add(sums[t][v], ops.load_ptr(plain.add(at(t, v))));
                        }
                    }
                }
                for t in 0..T {
                    for v in 0..V {
                        ops.store_ptr(sums[t][v], plain.add(at(t, v)));
                    }
                }
            }
            if let Some((active, slope)) = ends.active {
                let (scale, slope) = (ops.splat(ends.scale), ops.splat(slope));
                for t in 0..T {
                    for v in 0..V {
                        let y = ops.mul(sums[t][v], scale);
                        ops.store_ptr(ops.max(y, ops.mul(y, slope)), active.add(at(t, v)));
                    }
                }
            }
        }
    }
}

/// The gate of a WaveNet layer (van den Oord et al. 2016, equation 2): of rows twice `width` wide, the hyperbolic tangent
/// of the first half times the logistic function of the second. A width is a whole number of vectors.
pub struct Gate<'a> {
    pub rows: &'a [f32],
    pub width: usize,
    pub out: &'a mut [f32],
}

impl SimdOp for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for (row, out) in self.rows.chunks_exact(2 * self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let (signal, gate) = row.split_at(self.width);
            let n = ops.len();
            let lanes = signal.chunks_exact(n).zip(gate.chunks_exact(n)).zip(out.chunks_exact_mut(n));
            for ((signal, gate), out) in lanes {
                let (signal, gate) = (Tanh {}.eval(isa, ops.load(signal)), Sigmoid {}.eval(isa, ops.load(gate)));
                ops.store(ops.mul(signal, gate), out);
            }
        }
    }
}
