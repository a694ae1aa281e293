//! The decoder of a voice (HiFi-GAN, Kong et al. 2020): sound from frames, a few at a time.
//!
//! Part of the network of a voice. A convolution, stages that make more moments of fewer channels, a convolution to one
//! channel, and a hyperbolic tangent. Invariants: no moment is computed twice; the sound does not depend on how many frames
//! are put in at a time. Later stages run in shorter pieces, so that what they write is read again from the processor's
//! caches.

use super::conv::{Conv, Finish, Shape, Weights, stride_of};
use super::kernel::Lanes;
use super::rows::Rows;
use super::stage::{Stage, StageState, StageWeights};
use rten_simd::SimdOp;

/// Numbers that one signal of a piece may have: several of them fit into a core's own cache.
const PIECE: usize = 1 << 14;

/// The shape of a decoder and its weights, as read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderWeights {
    pub pre: Weights,
    /// Of the leaky rectifier after it.
    pub slope: f32,
    pub stages: Vec<StageWeights>,
    /// To one channel.
    pub post: Weights,
}

/// A decoder, ready to run.
pub struct Decoder {
    pre: Conv,
    slope: f32,
    stages: Vec<Stage>,
    post: Post,
}

/// The last convolution. It has one output, far fewer than a vector holds, so its taps take the place of the outputs: each
/// moment times each of the taps, then the sum of what belongs together.
struct Post {
    taps: Conv,
    count: usize,
    dilation: usize,
    left: usize,
    right: usize,
    bias: f32,
}

/// What a decoder remembers in the middle of a clause.
pub struct DecoderState {
    input: Rows,
    stages: Vec<StageState>,
    tail: Tail,
}

struct Tail {
    input: Rows,
    products: Rows,
    done: usize,
}

impl Decoder {
    pub fn new(weights: &DecoderWeights) -> Self {
        let pre = Conv::new(&weights.pre, stride_of(weights.pre.inputs));
        let mut stride = stride_of(weights.pre.outputs);
        let mut stages = Vec::new();
        for stage in &weights.stages {
            let stage = Stage::new(stage, stride);
            stride = stage.stride();
            stages.push(stage);
        }
        Decoder { pre, slope: weights.slope, stages, post: Post::new(&weights.post, stride) }
    }

    /// Numbers in a row of a frame.
    pub fn stride(&self) -> usize {
        self.pre.input_stride
    }

    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.stages.iter().map(Stage::factor).product()
    }

    /// How many frames the sound of the first `frames` depends on.
    pub fn needs(&self, frames: usize) -> usize {
        let samples = frames * self.hop() + self.post.right;
        self.stages.iter().rev().fold(samples, |rows, stage| stage.needs(rows)) + self.pre.right
    }

    /// The state before the first frame.
    pub fn begin(&self) -> DecoderState {
        let last = self.stages.last().map_or(self.pre.columns(), Stage::stride);
        DecoderState {
            input: Rows::new(self.stride(), self.pre.left),
            stages: self.stages.iter().map(Stage::begin).collect(),
            tail: Tail {
                input: Rows::new(last, 0),
                products: Rows::new(self.post.taps.columns(), self.post.left),
                done: 0,
            },
        }
    }

    /// Takes more frames (rows of [`stride`](Self::stride) numbers), the `last` of the clause among them or not, and gives
    /// the sound that is certain now, within -1..1. On `threads` threads of the pool it is called in.
    pub fn push(&self, state: &mut DecoderState, frames: &[f32], last: bool, threads: usize) -> Vec<f32> {
        let rows = frames.len() / self.stride();
        state.input.grow(rows).copy_from_slice(frames);
        let available = state.input.end();
        let to = if last { available } else { available.saturating_sub(self.pre.right) };
        if last {
            state.input.pad(self.pre.right);
        }
        let next = state.stages.first_mut().map_or(&mut state.tail.input, |s| &mut s.input);
        let from = next.end();
        let mut finish = Finish::new(next.stride());
        finish.active = Some((next.grow(to - from), self.slope));
        self.pre.run(state.input.since(from, self.pre.left), to - from, threads, finish);
        state.input.forget(to);
        let mut sound = Vec::with_capacity(rows * self.hop());
        self.descend(&self.stages, &mut state.stages, &mut state.tail, last, threads, &mut sound);
        sound
    }

    /// Runs a stage piece by piece, and after each piece the stages behind it.
    fn descend(
        &self,
        stages: &[Stage],
        states: &mut [StageState],
        tail: &mut Tail,
        last: bool,
        threads: usize,
        sound: &mut Vec<f32>,
    ) {
        let (Some((stage, stages)), Some((state, states))) = (stages.split_first(), states.split_first_mut()) else {
            return self.post.run(tail, last, threads, sound);
        };
        let piece = (PIECE * threads / (stage.factor() * stage.stride())).max(1);
        let available = state.input.end();
        loop {
            let to = available.min(state.taken + piece);
            let last = last && to == available;
            let out = states.first_mut().map_or(&mut tail.input, |s| &mut s.input);
            stage.step(state, to, last, threads, out);
            self.descend(stages, states, tail, last, threads, sound);
            if to == available {
                return;
            }
        }
    }
}

impl Post {
    fn new(w: &Weights, input_stride: usize) -> Self {
        let value = |tap: usize, input: usize, _: usize| {
            if tap < w.taps { w.values[input * w.taps + tap] } else { 0.0 }
        };
        let shape = Shape { input_stride, columns: w.taps, inputs: w.inputs, taps: 1, dilation: 1 };
        Post {
            taps: Conv::pack(Lanes.dispatch(), shape, &value, &|_| 0.0),
            count: w.taps,
            dilation: w.dilation,
            left: w.pads[0],
            right: w.pads[1],
            bias: w.bias.first().copied().unwrap_or(0.0),
        }
    }

    fn run(&self, tail: &mut Tail, last: bool, threads: usize, sound: &mut Vec<f32>) {
        let Tail { input, products, done } = tail;
        let (from, available, width) = (products.end(), input.end(), products.stride());
        let mut finish = Finish::new(width);
        finish.plain = Some(products.grow(available - from));
        self.taps.run(input.since(from, 0), available - from, threads, finish);
        input.forget(available);
        let to = if last { available } else { available.saturating_sub(self.right) };
        if last {
            products.pad(self.right);
        }
        let rows = products.since(*done, self.left);
        sound.extend((0..to - *done).map(|moment| {
            let of_tap = |tap: usize| rows[(moment + tap * self.dilation) * width + tap];
            (0..self.count).map(of_tap).fold(self.bias, |sum, y| sum + y).tanh()
        }));
        products.forget(to);
        *done = to;
    }
}
