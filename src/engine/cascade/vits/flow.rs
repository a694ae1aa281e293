//! The flow of a voice, inverted (VITS, Kim et al. 2021, section 2.2.3; its WaveNet layers after van den Oord et al. 2016):
//! it makes the draft of a clause true, frame by frame.
//!
//! Part of the network of a voice. A row of couplings; each reads one half of the channels and subtracts what it makes of
//! them from the other half, and the channels are turned round between two of them. Nothing is turned round here: every
//! second coupling has its weights in reverse order. Streams like the decoder, with the same invariants.

use super::conv::{Conv, Finish, Shape, Weights, stride_of};
use super::graph::Unexpected;
use super::kernel::{Gate, Lanes};
use super::rows::Rows;
use rten_simd::SimdOp;

/// A coupling and its weights, as read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct CouplingWeights {
    /// From half of the channels to the hidden ones.
    pub pre: Weights,
    /// Per layer: to twice the hidden channels, which become a gate; and from the gate to what is added to the hidden
    /// channels and to the result, side by side, in the last layer the latter alone.
    pub layers: Vec<(Weights, Weights)>,
    /// From the result to the other half of the channels.
    pub post: Weights,
}

/// A flow, ready to run.
pub struct Flow {
    couplings: Vec<Coupling>,
    channels: usize,
}

struct Coupling {
    pre: Conv,
    layers: Vec<Layer>,
    hidden: usize,
    /// The first channel of the half that is read, and of the half that is changed.
    halves: [usize; 2],
    lookahead: usize,
}

struct Layer {
    spread: Conv,
    /// To the hidden channels, but for the last layer.
    residual: Option<Conv>,
    /// Straight to the other half, with `post` multiplied in, negative.
    skip: Conv,
}

/// What a flow remembers in the middle of a clause.
pub struct FlowState {
    couplings: Vec<CouplingState>,
    out: Rows,
}

struct CouplingState {
    /// All channels; the half that is changed is complete up to `done`.
    input: Rows,
    /// What each layer reads.
    hidden: Vec<Rows>,
    /// How far each layer has come.
    reached: Vec<usize>,
    spread: Rows,
    gated: Rows,
    done: usize,
}

impl Flow {
    /// Fails where the channels do not divide into halves of whole vectors, or do not end up in order.
    pub fn new(weights: &[CouplingWeights]) -> Result<Self, Unexpected> {
        let half = weights.first().map_or(0, |c| c.pre.inputs);
        let channels = 2 * half;
        if half == 0 || stride_of(half) != half || !weights.len().is_multiple_of(2) {
            return Err(Unexpected(format!("a flow of {} couplings over {channels} channels", weights.len())));
        }
        // The channels are turned round before the first already.
        let couplings = weights.iter().enumerate().map(|(i, w)| Coupling::new(w, half, i % 2 == 0));
        Ok(Flow { couplings: couplings.collect::<Result<_, _>>()?, channels })
    }

    /// Channels of a frame; numbers in its row, too.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How many frames of the draft the first `frames` depend on.
    pub fn needs(&self, frames: usize) -> usize {
        frames + self.couplings.iter().map(|c| c.lookahead).sum::<usize>()
    }

    /// The state before the first frame.
    pub fn begin(&self) -> FlowState {
        FlowState {
            couplings: self.couplings.iter().map(|c| c.begin(self.channels)).collect(),
            out: Rows::new(self.channels, 0),
        }
    }

    /// Takes more of the draft (rows of [`channels`](Self::channels) numbers), the `last` of the clause among them or not,
    /// and gives the frames that are certain now.
    pub fn push(&self, state: &mut FlowState, draft: &[f32], last: bool, threads: usize) -> Vec<f32> {
        let rows = draft.len() / self.channels;
        let FlowState { couplings, out } = state;
        let from = out.end();
        let first = couplings.first_mut().map_or(&mut *out, |c| &mut c.input);
        first.grow(rows).copy_from_slice(draft);
        for (i, coupling) in self.couplings.iter().enumerate() {
            let (own, others) = couplings.split_at_mut(i + 1);
            let next = others.first_mut().map_or(&mut *out, |c| &mut c.input);
            coupling.step(&mut own[i], last, threads, next);
        }
        let given = out.since(from, 0).to_vec();
        out.forget(out.end());
        given
    }
}

impl Coupling {
    fn new(w: &CouplingWeights, half: usize, turned: bool) -> Result<Self, Unexpected> {
        let (hidden, lanes) = (w.pre.outputs, Lanes.dispatch());
        let ends = w.pre.taps == 1 && w.post.taps == 1 && w.post.inputs == hidden && w.post.outputs == half;
        if !ends || w.pre.inputs != half || w.layers.is_empty() {
            return Err(Unexpected("a coupling of the flow has another shape".into()));
        }
        let stride = stride_of(hidden);
        let place = |channel: usize| if turned { half - 1 - channel } else { channel };
        let one = |columns: usize, inputs: usize, input_stride: usize| Shape {
            input_stride,
            columns,
            inputs,
            taps: 1,
            dilation: 1,
        };
        let pre = Conv::pack(
            lanes,
            one(hidden, half, 2 * half),
            &|column, input, _| w.pre.values.get(column * half + place(input)).copied().unwrap_or(0.0),
            &|column| w.pre.bias.get(column).copied().unwrap_or(0.0),
        );
        let mut layers = Vec::new();
        for (l, (spread, mix)) in w.layers.iter().enumerate() {
            let last = l + 1 == w.layers.len();
            let fits = spread.inputs == hidden && spread.outputs == 2 * hidden && mix.inputs == hidden;
            if !fits || mix.outputs != if last { hidden } else { 2 * hidden } || stride != hidden || mix.taps != 1 {
                return Err(Unexpected(format!("layer {l} of a coupling of the flow has another shape")));
            }
            let skipped = if last { 0 } else { hidden };
            // `post` of what the layer adds to the result, as one product; in f64, so that nothing is lost.
            let row = |column: usize| &w.post.values[place(column) * hidden..][..hidden];
            let through = |column: usize, of: &dyn Fn(usize) -> f32| {
                let terms = row(column).iter().enumerate().map(|(k, p)| f64::from(*p) * f64::from(of(skipped + k)));
                -terms.sum::<f64>()
            };
            let skip = Conv::pack(
                lanes,
                one(half, hidden, stride),
                &|column, input, _| through(column, &|k| mix.values[k * hidden + input]) as f32,
                &|column| {
                    let own = if last { f64::from(w.post.bias[place(column)]) } else { 0.0 };
                    (through(column, &|k| mix.bias[k]) - own) as f32
                },
            );
            let residual = (!last).then(|| {
                Conv::pack(
                    lanes,
                    one(hidden, hidden, stride),
                    &|column, input, _| mix.values[column * hidden + input],
                    &|column| mix.bias[column],
                )
            });
            layers.push(Layer { spread: Conv::new(spread, stride), residual, skip });
        }
        let halves = if turned { [half, 0] } else { [0, half] };
        let lookahead = layers.iter().map(|l| l.spread.right).sum();
        Ok(Coupling { pre, layers, hidden: stride, halves, lookahead })
    }

    fn begin(&self, channels: usize) -> CouplingState {
        CouplingState {
            input: Rows::new(channels, 0),
            hidden: self.layers.iter().map(|l| Rows::new(self.hidden, l.spread.left)).collect(),
            reached: vec![0; self.layers.len()],
            spread: Rows::new(2 * self.hidden, 0),
            gated: Rows::new(self.hidden, 0),
            done: 0,
        }
    }

    fn step(&self, state: &mut CouplingState, last: bool, threads: usize, out: &mut Rows) {
        let CouplingState { input, hidden, reached, spread, gated, done } = state;
        let available = input.end();
        let target = if last { available } else { available.saturating_sub(self.lookahead) };
        if target == *done && !last {
            return;
        }
        let [read, changed] = self.halves;
        let from = hidden[0].end();
        if available > from {
            let mut finish = Finish::new(self.hidden);
            finish.plain = Some(hidden[0].grow(available - from));
            self.pre.run(&input.since(from, 0)[read..], available - from, threads, finish);
        }
        let mut ahead = self.lookahead;
        for (l, layer) in self.layers.iter().enumerate() {
            if last {
                hidden[l].pad(layer.spread.right);
            }
            ahead -= layer.spread.right;
            let (from, to) = (reached[l], (target + ahead).min(available));
            let n = to - from;
            let (before, behind) = hidden.split_at_mut(l + 1);
            let x = &before[l];
            let (wide, gate) = (spread.grow(n), gated.grow(n));
            let mut finish = Finish::new(2 * self.hidden);
            finish.plain = Some(&mut *wide);
            layer.spread.run(x.since(from, layer.spread.left), n, threads, finish);
            Gate { rows: wide, width: self.hidden, out: &mut *gate }.dispatch();
            if let (Some(residual), Some(next)) = (&layer.residual, behind.first_mut()) {
                let mut finish = Finish::new(self.hidden);
                finish.residual = Some(x.since(from, 0));
                finish.plain = Some(next.grow(n));
                residual.run(gate, n, threads, finish);
            }
            if n > 0 {
                let mut finish = Finish::new(input.stride());
                (finish.plain, finish.onto) = (Some(&mut input.since_mut(from)[changed..]), true);
                layer.skip.run(gate, n, threads, finish);
            }
            reached[l] = to;
            spread.forget(spread.end());
            gated.forget(gated.end());
        }
        let n = target - *done;
        out.grow(n).copy_from_slice(&input.since(*done, 0)[..n * input.stride()]);
        input.forget(target);
        hidden.iter_mut().for_each(|rows| rows.forget(target));
        *done = target;
    }
}
