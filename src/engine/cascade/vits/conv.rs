//! A convolution over rows: its weights laid out for the inner loop, and how its results are finished.
//!
//! Part of the network of a voice. The weights are reordered once, when the voice is loaded. Invariant: columns beyond the
//! convolution's outputs have no weights, so that what they hold stays zero.

use super::kernel::{Lanes, Run};
use super::rows::Aligned;
use rten_simd::SimdOp;

/// A convolution's weights, as an ONNX file has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `[outputs, inputs, taps]`; of a transposed convolution `[inputs, outputs, taps]`.
    pub values: Vec<f32>,
    /// Per output.
    pub bias: Vec<f32>,
    pub outputs: usize,
    pub inputs: usize,
    pub taps: usize,
    pub dilation: usize,
    /// 1, but for a transposed convolution.
    pub stride: usize,
    /// Zeros before the signal and after it; of a transposed convolution: outputs that are cut off there.
    pub pads: [usize; 2],
}

/// A convolution, ready to run.
pub struct Conv {
    pub(super) lanes: usize,
    pub(super) inputs: usize,
    /// Numbers from one row of the input to the next.
    pub(super) input_stride: usize,
    /// Outputs, up to a multiple of the lanes.
    pub(super) columns: usize,
    pub(super) taps: usize,
    pub(super) dilation: usize,
    /// Rows that are read before the moment that is computed, and after it.
    pub left: usize,
    pub right: usize,
    /// By strips of one or two vectors of columns, then taps, then inputs.
    pub(super) weights: Aligned,
    pub(super) bias: Aligned,
}

/// What becomes of the sums of a convolution.
pub struct Finish<'a> {
    /// Numbers from one row to the next, of everything here.
    pub stride: usize,
    /// Added first: the residual connection.
    pub residual: Option<&'a [f32]>,
    /// Takes the sums; `onto` what it holds.
    pub plain: Option<&'a mut [f32]>,
    pub onto: bool,
    /// Takes them times `scale`, after a leaky rectifier with this slope (0..=1).
    pub active: Option<(&'a mut [f32], f32)>,
    pub scale: f32,
}

impl<'a> Finish<'a> {
    /// Nothing yet.
    pub fn new(stride: usize) -> Self {
        Finish { stride, residual: None, plain: None, onto: false, active: None, scale: 1.0 }
    }

    /// The first `rows`, and the others.
    fn split(self, rows: usize) -> (Finish<'a>, Finish<'a>) {
        let Finish { stride, residual, plain, onto, active, scale } = self;
        let at = |len: usize| len.min(rows * stride);
        let (r0, r1) = residual.map(|r| r.split_at(at(r.len()))).unzip();
        let (p0, p1) = plain
            .map(|p| {
                let n = at(p.len());
                p.split_at_mut(n)
            })
            .unzip();
        let (a0, a1) = active
            .map(|(a, slope)| {
                let n = at(a.len());
                let (first, rest) = a.split_at_mut(n);
                ((first, slope), (rest, slope))
            })
            .unzip();
        (
            Finish { stride, residual: r0, plain: p0, onto, active: a0, scale },
            Finish { stride, residual: r1, plain: p1, onto, active: a1, scale },
        )
    }
}

/// Numbers in a row of `channels` on this processor.
pub fn stride_of(channels: usize) -> usize {
    channels.next_multiple_of(Lanes.dispatch())
}

impl Conv {
    /// Of a convolution from rows of `input_stride` to rows of its outputs.
    pub fn new(w: &Weights, input_stride: usize) -> Self {
        let value = |column: usize, input: usize, tap: usize| {
            if column < w.outputs { w.values[(column * w.inputs + input) * w.taps + tap] } else { 0.0 }
        };
        let bias = |column: usize| w.bias.get(column).copied().unwrap_or(0.0);
        let shape = Shape { input_stride, columns: w.outputs, inputs: w.inputs, taps: w.taps, dilation: w.dilation };
        Conv { left: w.pads[0], right: w.pads[1], ..Self::pack(Lanes.dispatch(), shape, &value, &bias) }
    }

    /// Of a transposed convolution, as a plain one that gives the `stride` moments between two of its inputs as so many
    /// times the outputs, side by side: read as rows, they are in order.
    /// Its first row is as many moments too early as `pads[0]` says, and the last as many too late as `pads[1]`.
    pub fn transposed(w: &Weights, input_stride: usize) -> Self {
        let (width, taps) = (stride_of(w.outputs), w.taps.div_ceil(w.stride));
        // Output `i * stride + k` takes input `i` by weight `k`.
        let value = |column: usize, input: usize, tap: usize| {
            let (phase, output) = (column / width, column % width);
            let k = (taps - 1 - tap) * w.stride + phase;
            if output < w.outputs && k < w.taps { w.values[(input * w.outputs + output) * w.taps + k] } else { 0.0 }
        };
        let bias = |column: usize| w.bias.get(column % width).copied().unwrap_or(0.0);
        let shape = Shape { input_stride, columns: width * w.stride, inputs: w.inputs, taps, dilation: 1 };
        Conv { left: taps - 1, right: 0, ..Self::pack(Lanes.dispatch(), shape, &value, &bias) }
    }

    /// Lays out weights `value(column, input, tap)` for vectors of `lanes`.
    pub(super) fn pack(
        lanes: usize,
        shape: Shape,
        value: &dyn Fn(usize, usize, usize) -> f32,
        bias: &dyn Fn(usize) -> f32,
    ) -> Self {
        let Shape { input_stride, inputs, taps, dilation, .. } = shape;
        let columns = shape.columns.next_multiple_of(lanes);
        let mut weights = Vec::with_capacity(columns * taps * inputs);
        let mut column = 0;
        while column < columns {
            let strip = if column + 2 * lanes <= columns { 2 * lanes } else { lanes };
            for tap in 0..taps {
                for input in 0..inputs {
                    weights.extend((column..column + strip).map(|c| value(c, input, tap)));
                }
            }
            column += strip;
        }
        let bias: Vec<f32> = (0..columns).map(bias).collect();
        Conv {
            lanes,
            inputs,
            input_stride,
            columns,
            taps,
            dilation,
            left: 0,
            right: (taps - 1) * dilation,
            weights: Aligned::of(&weights),
            bias: Aligned::of(&bias),
        }
    }

    /// Outputs of a row, up to a whole number of vectors.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Computes `rows` rows, on `threads` threads of the pool this is called in. `input` begins with the first tap of the
    /// first row.
    pub fn run(&self, input: &[f32], rows: usize, threads: usize, finish: Finish<'_>) {
        // Less than this is sooner done than handed over.
        const SHARE: usize = 1 << 20;
        let work = rows * self.columns * self.taps * self.inputs;
        let pieces = threads.min(work / SHARE).max(1);
        if pieces == 1 {
            Run { conv: self, input, rows, finish }.dispatch();
            return;
        }
        // Whole tiles.
        let piece = rows.div_ceil(pieces).next_multiple_of(12);
        rayon::scope(|scope| {
            let (mut rest, mut from) = (finish, 0);
            while from < rows {
                let n = piece.min(rows - from);
                let (finish, others) = rest.split(n);
                let input = &input[from * self.input_stride..];
                scope.spawn(move |_| Run { conv: self, input, rows: n, finish }.dispatch());
                (rest, from) = (others, from + n);
            }
        });
    }
}

/// The size of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub input_stride: usize,
    pub columns: usize,
    pub inputs: usize,
    pub taps: usize,
    pub dilation: usize,
}
