//! Which kernels make a step of a decoder, on what, and in how many blocks.
//!
//! A [`Layout`] collects the launches of one step; the [`LaidOut`] step that comes of it owns the machine, the plan and
//! the addresses of what changes from step to step; lives on the engine thread. The launches mirror the signatures in
//! `kernels/`. Invariant: the plan never changes; a step's own numbers are in the memory at `moment` and `caches`, which
//! every step writes anew.

use super::Argument::{self, Address as A, Factor as F, Number as N};
use super::{Launch, Machine};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::linear::Matrix;
use crate::engine::transformer::{Decoder, PlainBlock, PlainStack};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Tensor};

/// Threads of a block, and of a warp, in every kernel.
pub const THREADS: usize = 128;
pub const WARPS: usize = THREADS / 32;
/// Blocks that a processor has room for at once: the kernels' registers are shared out for as many.
const BLOCKS: usize = 6;
/// Rows that a block of the down projection makes.
const DOWN_ROWS: usize = 4;
/// Query heads that a block of the attention looks up together.
const QUERIES: usize = 4;
/// Into how many blocks attention is divided, about: one for each processor of a large GPU. And the most shares of keys.
const ATTENTION_BLOCKS: usize = 128;
const MOST_SHARES: usize = 16;
/// The widest head of the attention kernel.
const WIDEST_HEAD: usize = 128;
/// Shared memory that every GPU gives a block unasked.
const SHARED: usize = 48 * 1024;
/// Numbers of `moment` before those that the model continues from.
const PLACES: usize = 4;

pub fn unfit(why: &str) -> EngineError {
    EngineError::Unsupported(format!("the kernels for this step do not fit the model: {why}"))
}

pub fn n(number: usize) -> Argument {
    N(number as u32)
}

/// How a matrix lies in memory: the suffix of the kernels that read it, and how the vector it is multiplied with lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub suffix: &'static str,
    planes: usize,
}

const F32: Kind = Kind { suffix: "f32", planes: 1 };
const BF16: Kind = Kind { suffix: "bf16", planes: 2 };
const Q8_0: Kind = Kind { suffix: "q8_0", planes: 2 };

/// A step in the laying out.
pub struct Layout {
    machine: Box<dyn Machine>,
    plan: Vec<Launch>,
    /// Whether f32 matrices are copied in bf16 where that loses nothing.
    narrow: bool,
    hidden: usize,
    eps: Argument,
    /// The precision of keys and values.
    kept: DType,
    pub moment: u64,
    caches: u64,
    /// The residual stream.
    pub x: u64,
}

/// What a step sees and continues from.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Slots before this one are seen; at least one is.
    pub seen_before: usize,
    /// Slots after this one are seen.
    pub seen_after: usize,
    /// The last token; or how many codes follow, and the codes.
    pub last: &'a [u32],
}

impl Layout {
    /// Begins the step of `decoder` on `machine`, which continues from up to `last` numbers. With `narrow`, f32 matrices
    /// are copied in bf16 where that loses nothing (the released weights are bf16 numbers).
    pub fn new(
        decoder: &Decoder,
        mut machine: Box<dyn Machine>,
        last: usize,
        narrow: bool,
    ) -> Result<Self, EngineError> {
        let cfg = decoder.config();
        let widest = 4 * cfg.hidden.max(cfg.heads * cfg.head_dim);
        if widest > SHARED {
            return Err(unfit(&format!("it is {} wide", cfg.hidden)));
        }
        let moment = machine.room(4 * (PLACES + last))?;
        let caches = machine.room(8 * 2 * cfg.layers)?;
        let x = machine.room(4 * cfg.hidden)?;
        let eps = F(cfg.rms_eps as f32);
        Ok(Self {
            machine,
            plan: Vec::new(),
            narrow,
            hidden: cfg.hidden,
            eps,
            kept: decoder.dtype(),
            moment,
            caches,
            x,
        })
    }

    pub fn launch(&mut self, kernel: String, grid: (usize, usize), shared: usize, arguments: Vec<Argument>) {
        self.plan.push(Launch { kernel, grid: (grid.0 as u32, grid.1 as u32), shared, arguments });
    }

    pub fn room(&mut self, bytes: usize) -> Result<u64, EngineError> {
        self.machine.room(bytes)
    }

    /// New memory, all zeros.
    fn zeros(&mut self, bytes: usize) -> Result<u64, EngineError> {
        let room = self.machine.room(bytes)?;
        self.machine.write(room, &vec![0; bytes])?;
        Ok(room)
    }

    /// A vector or a table as the kernels read it.
    pub fn floats(&mut self, tensor: &Tensor) -> Result<Argument, EngineError> {
        Ok(A(self.machine.place(&tensor.to_dtype(DType::F32)?.contiguous()?)?))
    }

    /// A matrix as the kernels read it.
    pub fn matrix(&mut self, matrix: Matrix<'_>) -> Result<(Kind, Argument), EngineError> {
        let matrix = match matrix {
            Matrix::Quantised(blocks) if blocks.dtype() == GgmlDType::Q8_0 => {
                return Ok((Q8_0, A(self.machine.place_blocks(blocks)?)));
            }
            Matrix::Quantised(blocks) => return Err(unfit(&format!("its weights are in {:?}", blocks.dtype()))),
            Matrix::Dense(matrix) => matrix,
        };
        let columns = matrix.dim(1)?;
        let (kind, matrix) = match matrix.dtype() {
            DType::BF16 if columns.is_multiple_of(8) => (BF16, matrix.clone()),
            DType::F32 if columns.is_multiple_of(4) => match self.narrow && columns.is_multiple_of(8) {
                true => narrowed(matrix)?,
                false => (F32, matrix.clone()),
            },
            dtype => return Err(unfit(&format!("a matrix has {columns} columns in {dtype:?}"))),
        };
        Ok((kind, A(self.machine.place(&matrix.contiguous()?)?)))
    }

    /// Over how many blocks work in `groups` is dealt out, so that all are as busy.
    pub fn dealt(&self, groups: usize) -> usize {
        let rounds = groups.div_ceil(BLOCKS * self.machine.processors()).max(1);
        groups.div_ceil(rounds)
    }

    /// All layers of `decoder`.
    pub fn layers(&mut self, decoder: &Decoder, stack: &PlainStack<'_>) -> Result<(), EngineError> {
        let cfg = decoder.config();
        let (heads, kv_heads, width) = (cfg.heads, cfg.kv_heads, cfg.head_dim);
        let (cache, unit) = match self.kept {
            DType::F32 => ("f32", 4),
            DType::BF16 => ("bf16", 8),
            other => return Err(unfit(&format!("it computes in {other:?}"))),
        };
        if !width.is_multiple_of(unit) || width > WIDEST_HEAD {
            return Err(unfit(&format!("its heads are {width} wide")));
        }
        let across = kv_heads * (heads / kv_heads).div_ceil(QUERIES);
        let shares = (ATTENTION_BLOCKS / across).clamp(1, MOST_SHARES);
        let rooms = Rooms {
            q: self.room(4 * heads * width)?,
            mixed: self.room(4 * heads * shares * width)?,
            stats: self.room(4 * heads * shares * 2)?,
            arrived: self.zeros(4 * across)?,
            attended: self.room(4 * heads * width)?,
            inner: self.room(4 * cfg.ffn)?,
            cos: self.floats(stack.cos)?,
            sin: self.floats(stack.sin)?,
        };
        for (layer, block) in stack.blocks.iter().enumerate() {
            self.attention(block, layer, decoder, &rooms, (cache, across, shares))?;
            self.feed_forward(block, cfg.ffn, rooms.inner)?;
        }
        Ok(())
    }

    fn attention(
        &mut self,
        block: &PlainBlock<'_>,
        layer: usize,
        decoder: &Decoder,
        rooms: &Rooms,
        (cache, across, shares): (&str, usize, usize),
    ) -> Result<(), EngineError> {
        let cfg = decoder.config();
        let (heads, kv_heads, width, hidden) = (cfg.heads, cfg.kv_heads, cfg.head_dim, self.hidden);
        let norm = self.floats(block.attention_norm)?;
        let (kind, weights) = self.matrix(block.qkv)?;
        let bias = block.qkv_bias.map_or(Ok(A(0)), |bias| self.floats(bias))?;
        let (x, moment, caches) = (A(self.x), A(self.moment), A(self.caches));
        let of_qkv = vec![
            x,
            norm,
            weights,
            bias,
            rooms.cos,
            rooms.sin,
            moment,
            caches,
            A(rooms.q),
            self.eps,
            n(hidden),
            n(heads),
            n(kv_heads),
            n(width),
            n(layer),
            n(usize::from(cache == "bf16")),
        ];
        let pairs = (heads + 2 * kv_heads) * width / 2;
        self.launch(format!("qkv_{}", kind.suffix), (self.dealt(pairs.div_ceil(WARPS)), 1), 4 * hidden, of_qkv);
        let of_attend = vec![
            A(rooms.q),
            moment,
            caches,
            A(rooms.mixed),
            A(rooms.stats),
            A(rooms.arrived),
            A(rooms.attended),
            F((width as f64).powf(-0.5) as f32),
            n(heads / kv_heads),
            n(width),
            n(layer),
        ];
        self.launch(format!("attend_{cache}"), (across, shares), 0, of_attend);
        let (kind, weights) = self.matrix(block.output)?;
        let columns = heads * width;
        let of_project = vec![A(rooms.attended), weights, x, n(hidden), n(columns)];
        let blocks = self.dealt(hidden.div_ceil(WARPS));
        self.launch(format!("project_{}", kind.suffix), (blocks, 1), 4 * columns, of_project);
        Ok(())
    }

    fn feed_forward(&mut self, block: &PlainBlock<'_>, ffn: usize, inner: u64) -> Result<(), EngineError> {
        let (hidden, x) = (self.hidden, A(self.x));
        let norm = self.floats(block.ffn_norm)?;
        let (kind, weights) = self.matrix(block.gate_up)?;
        let (down_kind, down) = self.matrix(block.down)?;
        let of_gate_up = vec![x, norm, weights, A(inner), self.eps, n(hidden), n(ffn), n(down_kind.planes)];
        let blocks = self.dealt(ffn.div_ceil(WARPS));
        self.launch(format!("gate_up_{}", kind.suffix), (blocks, 1), 4 * hidden, of_gate_up);
        let blocks = self.dealt(hidden.div_ceil(DOWN_ROWS));
        self.launch(format!("down_{}", down_kind.suffix), (blocks, 1), 0, vec![A(inner), down, x, n(hidden), n(ffn)]);
        Ok(())
    }

    /// The last norm and `outputs` logits; gives the addresses of the hidden state and of the logits.
    pub fn head(&mut self, norm: &Tensor, matrix: Matrix<'_>, outputs: usize) -> Result<(u64, u64), EngineError> {
        let (state, logits) = (self.room(4 * self.hidden)?, self.room(4 * outputs)?);
        let norm = self.floats(norm)?;
        let (kind, weights) = self.matrix(matrix)?;
        let arguments = vec![A(self.x), norm, weights, A(state), A(logits), self.eps, n(self.hidden), n(outputs)];
        let blocks = self.dealt(outputs.div_ceil(2 * WARPS));
        self.launch(format!("head_{}", kind.suffix), (blocks, 1), 4 * self.hidden, arguments);
        Ok((state, logits))
    }

    /// The step is complete.
    pub fn finish(mut self) -> Result<LaidOut, EngineError> {
        self.machine.prepare(self.plan)?;
        Ok(LaidOut { machine: self.machine, kept: self.kept, moment: self.moment, caches: self.caches })
    }
}

/// What the layers work in.
struct Rooms {
    q: u64,
    mixed: u64,
    stats: u64,
    arrived: u64,
    attended: u64,
    inner: u64,
    cos: Argument,
    sin: Argument,
}

fn narrowed(matrix: &Tensor) -> Result<(Kind, Tensor), EngineError> {
    let narrow = matrix.to_dtype(DType::BF16)?;
    let lost = (narrow.to_dtype(DType::F32)? - matrix)?.abs()?.max_all()?.to_scalar::<f32>()?;
    Ok(if lost == 0.0 { (BF16, narrow) } else { (F32, matrix.clone()) })
}

/// A step, ready to run.
pub struct LaidOut {
    pub machine: Box<dyn Machine>,
    kept: DType,
    moment: u64,
    caches: u64,
}

impl LaidOut {
    /// Makes a step at the end of `cache`: writes its slot, and leaves the rest in the machine's memory.
    ///
    /// # Errors
    /// When the cache is full or of another precision, or the machine fails.
    pub fn run(&mut self, moment: Moment<'_>, cache: &mut KvCache) -> Result<(), EngineError> {
        if cache.slots().any(|(keys, _)| keys.dtype() != self.kept) {
            return Err(unfit("its keys and values are kept in another precision"));
        }
        let at = cache.len();
        cache.reserve(at + 1)?;
        let places = [at, moment.seen_before, moment.seen_after, cache.capacity()].map(|n| n as u32);
        let numbers = places.into_iter().chain(moment.last.iter().copied());
        let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        self.machine.write(self.moment, &bytes)?;
        self.machine.run(self.caches, cache, at)?;
        cache.advance(at + 1);
        Ok(())
    }
}
