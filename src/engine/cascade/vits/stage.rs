//! One stage of the decoder: more moments from each, then several stacks of residual convolutions beside each other, whose
//! results are averaged (HiFi-GAN, Kong et al. 2020, section 2.2: multi-receptive field fusion).
//!
//! Part of the network of a voice. Streams: every convolution keeps as much of what it reads as it will want again.
//! Invariants: no moment is computed twice; what comes out does not depend on how much is put in at a time.

use super::conv::{Conv, Finish, Weights, stride_of};
use super::rows::Rows;

/// The shape of a stage and its weights, as read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StageWeights {
    pub up: Weights,
    pub blocks: Vec<Vec<UnitWeights>>,
    /// What the sum of the blocks is multiplied with.
    pub scale: f32,
    /// Of the leaky rectifier that follows.
    pub slope: f32,
}

/// What is added to what goes in: one or two convolutions, each behind a leaky rectifier of the given slope.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitWeights {
    pub layers: Vec<(f32, Weights)>,
}

/// A stage, ready to run.
pub struct Stage {
    up: Conv,
    /// Moments that each of its inputs becomes.
    factor: usize,
    /// Moments at the beginning that are cut off.
    crop: usize,
    stride: usize,
    blocks: Vec<Vec<Unit>>,
    scale: f32,
    slope: f32,
    /// Moments that a result looks ahead.
    lookahead: usize,
    /// Rows that the first layers read before and after the moment.
    margins: [usize; 2],
}

struct Unit {
    layers: Vec<Layer>,
}

struct Layer {
    slope: f32,
    conv: Conv,
}

/// What a stage remembers.
pub struct StageState {
    /// What goes in.
    pub input: Rows,
    /// How much of it has been taken.
    pub taken: usize,
    /// What `up` gives.
    spread: Rows,
    /// Of that, the moments of the signal; and rectified, with margins.
    plain: Rows,
    active: Rows,
    blocks: Vec<Vec<UnitState>>,
    sums: Rows,
    /// Moments that are done.
    done: usize,
}

struct UnitState {
    /// What its layers read, but for the first.
    inner: Vec<Rows>,
    /// What it gives, and that rectified for the next unit; the last gives to the sum of the blocks.
    plain: Rows,
    active: Rows,
}

impl Unit {
    fn new(weights: &UnitWeights, stride: usize) -> Self {
        let layers = weights.layers.iter();
        Unit { layers: layers.map(|(slope, w)| Layer { slope: *slope, conv: Conv::new(w, stride) }).collect() }
    }

    fn first(&self) -> &Layer {
        &self.layers[0]
    }

    fn lookahead(&self) -> usize {
        self.layers.iter().map(|l| l.conv.right).sum()
    }
}

impl Stage {
    /// Rows of what goes in have `input_stride` numbers.
    pub fn new(weights: &StageWeights, input_stride: usize) -> Self {
        let stride = stride_of(weights.up.outputs);
        let units = |block: &Vec<UnitWeights>| block.iter().map(|unit| Unit::new(unit, stride)).collect();
        let blocks: Vec<Vec<Unit>> = weights.blocks.iter().map(units).collect();
        let widest = |side: &dyn Fn(&Conv) -> usize| {
            blocks.iter().filter_map(|b| b.first()).map(|u| side(&u.first().conv)).max().unwrap_or(0)
        };
        Stage {
            up: Conv::transposed(&weights.up, input_stride),
            factor: weights.up.stride,
            crop: weights.up.pads[0],
            stride,
            scale: weights.scale,
            slope: weights.slope,
            lookahead: blocks.iter().map(|b| b.iter().map(Unit::lookahead).sum()).max().unwrap_or(0),
            margins: [widest(&|c| c.left), widest(&|c| c.right)],
            blocks,
        }
    }

    /// Numbers in a row of what comes out.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Moments that each of its inputs becomes.
    pub fn factor(&self) -> usize {
        self.factor
    }

    /// How many of its inputs the first `rows` moments depend on.
    pub fn needs(&self, rows: usize) -> usize {
        (rows + self.lookahead + self.crop).div_ceil(self.factor)
    }

    /// The state before the first moment.
    pub fn begin(&self) -> StageState {
        let unit = |unit: &Unit, next: Option<&Unit>| UnitState {
            inner: unit.layers[1..].iter().map(|l| Rows::new(self.stride, l.conv.left)).collect(),
            plain: Rows::new(self.stride, 0),
            active: Rows::new(self.stride, next.map_or(0, |n| n.first().conv.left)),
        };
        let block = |units: &Vec<Unit>| units.iter().enumerate().map(|(i, u)| unit(u, units.get(i + 1))).collect();
        StageState {
            input: Rows::new(self.up.input_stride, self.up.left),
            taken: 0,
            spread: Rows::new(self.up.columns(), 0),
            plain: Rows::new(self.stride, 0),
            active: Rows::new(self.stride, self.margins[0]),
            blocks: self.blocks.iter().map(block).collect(),
            sums: Rows::new(self.stride, 0),
            done: 0,
        }
    }

    /// Takes the inputs before `to` that it has not taken yet, the `last` there are or not, and gives what they make
    /// certain, rectified, to `out`.
    pub fn step(&self, state: &mut StageState, to: usize, last: bool, threads: usize, out: &mut Rows) {
        self.upsample(state, to, last, threads);
        let available = state.plain.end();
        let target = if last { available } else { available.saturating_sub(self.lookahead) };
        if target == state.done && !last {
            return;
        }
        if last {
            state.active.pad(self.margins[1]);
        }
        let n = target - state.done;
        let (given, sums) = (out.grow(n), state.sums.grow(n));
        for (b, (units, states)) in self.blocks.iter().zip(&mut state.blocks).enumerate() {
            let mut finish = Finish::new(self.stride);
            finish.plain = Some(&mut *sums);
            finish.onto = b > 0;
            if b + 1 == self.blocks.len() {
                finish.active = Some((&mut *given, self.slope));
                finish.scale = self.scale;
            }
            let input = (&state.plain, &state.active);
            block(units, states, input, state.done..target, available, last, threads, finish);
        }
        state.plain.forget(target);
        state.active.forget(target);
        state.sums.forget(target);
        state.done = target;
    }

    fn upsample(&self, state: &mut StageState, to: usize, last: bool, threads: usize) {
        let from = state.taken;
        let behind = if last { self.up.left } else { 0 };
        if last {
            state.input.pad(behind);
        }
        // Every input gives `factor` rows; the first of all come before the beginning, the last behind the end.
        let n = to - from + behind;
        if n == 0 {
            return;
        }
        let spread = state.spread.grow(n);
        let mut finish = Finish::new(self.up.columns());
        finish.plain = Some(&mut *spread);
        self.up.run(state.input.since(from, self.up.left), n, threads, finish);
        let early = self.crop.saturating_sub(from * self.factor);
        let mut end = ((to + behind) * self.factor).saturating_sub(self.crop);
        if last {
            end = end.min(to * self.factor);
        }
        let wanted = end - state.plain.end();
        let new = &spread[early * self.stride..][..wanted * self.stride];
        state.plain.grow(wanted).copy_from_slice(new);
        let slope = self.blocks.first().and_then(|b| b.first()).map_or(1.0, |u| u.first().slope);
        for (y, x) in state.active.grow(wanted).iter_mut().zip(new) {
            *y = x.max(x * slope);
        }
        state.taken = to;
        state.input.forget(to);
        state.spread.forget(state.spread.end());
    }
}

/// Computes the moments `wanted` of a block and what they need, of the `available` moments that went in.
#[expect(clippy::too_many_arguments, reason = "one call, with what it needs of the stage and of its state")]
fn block(
    units: &[Unit],
    states: &mut [UnitState],
    input: (&Rows, &Rows),
    wanted: std::ops::Range<usize>,
    available: usize,
    last: bool,
    threads: usize,
    finish: Finish<'_>,
) {
    let mut finish = Some(finish);
    let mut ahead: usize = units.iter().map(Unit::lookahead).sum();
    for (u, unit) in units.iter().enumerate() {
        let (before, rest) = states.split_at_mut(u);
        let (plain, active) = before.last().map_or(input, |s| (&s.plain, &s.active));
        let UnitState { inner, plain: given, active: rectified } = &mut rest[0];
        for (l, layer) in unit.layers.iter().enumerate() {
            // What is looked ahead of this layer's results; at the end there is nothing to look at.
            ahead -= layer.conv.right;
            let to = (wanted.end + ahead).min(available);
            let (read, own) = inner.split_at_mut(l);
            let x = read.last().unwrap_or(active);
            if let Some(next) = unit.layers.get(l + 1) {
                let from = own[0].end();
                let mut finish = Finish::new(x.stride());
                finish.active = Some((own[0].grow(to - from), next.slope));
                layer.conv.run(x.since(from, layer.conv.left), to - from, threads, finish);
                if last {
                    own[0].pad(next.conv.right);
                }
            } else if let Some(next) = units.get(u + 1) {
                let (from, next) = (given.end(), next.first());
                let mut finish = Finish::new(x.stride());
                finish.residual = Some(plain.since(from, 0));
                finish.plain = Some(given.grow(to - from));
                finish.active = Some((rectified.grow(to - from), next.slope));
                layer.conv.run(x.since(from, layer.conv.left), to - from, threads, finish);
                if last {
                    rectified.pad(next.conv.right);
                }
            } else if let Some(mut finish) = finish.take() {
                finish.residual = Some(plain.since(wanted.start, 0));
                layer.conv.run(x.since(wanted.start, layer.conv.left), wanted.len(), threads, finish);
            }
        }
    }
    for state in states {
        state.inner.iter_mut().for_each(|rows| rows.forget(wanted.end));
        state.plain.forget(wanted.end);
        state.active.forget(wanted.end);
    }
}
