//! Which kernels make a step of the speech model, on what, and in how many blocks.
//!
//! Owns the machine, the plan and the addresses of what changes from step to step; lives on the engine thread. The
//! launches mirror the signatures in `kernels/speech_step.cu`. Invariant: the plan never changes; a step's own numbers
//! are in the memory at `moment` and `caches`, which every step writes anew.

use super::{Argument, Launch, Machine};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use crate::engine::transformer::Decoder;
use candle_core::{DType, Tensor};

/// Threads of a block, and of a warp, in every kernel.
pub const THREADS: usize = 128;
const WARPS: usize = THREADS / 32;
/// Rows that a block of the down projection makes.
const DOWN_ROWS: usize = 4;
/// Into how many shares the keys of a head are divided.
const SHARES: usize = 8;
/// The widest head of the attention kernel.
const WIDEST_HEAD: usize = 128;
/// Shared memory that every GPU gives a block unasked.
const SHARED: usize = 48 * 1024;

/// What the step is made of, besides the decoder's blocks.
pub struct Parts<'a> {
    pub decoder: &'a Decoder,
    /// One `[codes, hidden]` per codebook.
    pub codes: &'a [Tensor],
    /// What begins the sound, `[1, hidden]`.
    pub beginning: &'a Tensor,
    /// `[codebooks * codes, hidden]`
    pub heads: &'a Tensor,
}

/// What one step sees and continues from.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Text slots before this one are seen; at least one is.
    pub text_end: usize,
    /// Slots after this one, of `[Ptts]`, are seen.
    pub audio_start: usize,
    /// The last frame; `None` begins.
    pub frame: Option<&'a [u32]>,
}

/// The step, ready to run.
pub struct FusedStep {
    machine: Box<dyn Machine>,
    moment: u64,
    caches: u64,
    state: u64,
    logits: u64,
    hidden: usize,
    codes: usize,
    codebooks: usize,
}

fn unfit(why: &str) -> EngineError {
    EngineError::Unsupported(format!("the kernels for this step do not fit the model: {why}"))
}

/// A matrix as the kernels read it: in bf16 when that loses nothing (the released weights are bf16 numbers), with the
/// suffix of the kernels' names.
fn narrow(matrix: &Tensor) -> Result<(&'static str, Tensor), EngineError> {
    let columns = matrix.dim(1)?;
    let narrow = matrix.to_dtype(DType::BF16)?;
    let lost = (narrow.to_dtype(DType::F32)? - matrix)?.abs()?.max_all()?.to_scalar::<f32>()?;
    match (lost == 0.0, columns) {
        (true, n) if n.is_multiple_of(8) => Ok(("bf16", narrow)),
        (_, n) if n.is_multiple_of(4) => Ok(("f32", matrix.contiguous()?)),
        (_, n) => Err(unfit(&format!("a matrix has {n} columns, which do not divide into units of 4"))),
    }
}

impl FusedStep {
    /// Lays out the step of `parts` on `machine`.
    ///
    /// # Errors
    /// When the kernels cannot compute this model (quantised weights, another precision, unusual widths), or the machine
    /// fails.
    pub fn new(parts: &Parts<'_>, mut machine: Box<dyn Machine>) -> Result<Self, EngineError> {
        let cfg = parts.decoder.config();
        let stack = parts.decoder.plain().ok_or_else(|| unfit("its weights are quantised, or have biases"))?;
        if parts.decoder.dtype() != DType::F32 {
            return Err(unfit("it does not compute in f32"));
        }
        if !cfg.head_dim.is_multiple_of(4) || cfg.head_dim > WIDEST_HEAD {
            return Err(unfit(&format!("its heads are {} wide", cfg.head_dim)));
        }
        let (hidden, heads, width, ffn) = (cfg.hidden, cfg.heads, cfg.head_dim, cfg.ffn);
        let (of_hidden, of_heads) = (4 * hidden, 4 * (heads * width + heads * SHARES));
        if of_hidden.max(of_heads) > SHARED {
            return Err(unfit(&format!("it is {hidden} wide")));
        }
        let codes = parts.codes.first().map_or(Ok(0), |t| t.dim(0))?;
        let outputs = codes * parts.codes.len();
        let m = &mut machine;
        let moment = m.room(4 * (5 + parts.codes.len()))?;
        let caches = m.room(8 * 2 * cfg.layers)?;
        let x = m.room(4 * hidden)?;
        let q = m.room(4 * heads * width)?;
        let mixed = m.room(4 * heads * SHARES * width)?;
        let stats = m.room(4 * heads * SHARES * 2)?;
        let inner = m.room(4 * ffn)?;
        let state = m.room(4 * hidden)?;
        let logits = m.room(4 * outputs)?;

        use Argument::{Address as A, Factor as F, Number as N};
        let n = |number: usize| N(number as u32);
        let eps = F(cfg.rms_eps as f32);
        let mut plan = Vec::with_capacity(2 + 5 * cfg.layers);
        let mut launch = |kernel: String, blocks: usize, down: usize, shared: usize, arguments: Vec<Argument>| {
            plan.push(Launch { kernel, grid: (blocks as u32, down as u32), shared, arguments });
        };
        let table = m.place(&Tensor::cat(parts.codes, 0)?)?;
        let beginning = m.place(&parts.beginning.contiguous()?)?;
        let begin = vec![A(moment), A(table), A(beginning), A(x), n(codes), n(hidden)];
        launch("embed".into(), hidden.div_ceil(THREADS), 1, 0, begin);
        let (cos, sin) = (m.place(&stack.cos.contiguous()?)?, m.place(&stack.sin.contiguous()?)?);
        let scale = F((width as f64).powf(-0.5) as f32);
        for (layer, block) in stack.blocks.iter().enumerate() {
            let mut matrix = |matrix: &Tensor| -> Result<(&'static str, Argument), EngineError> {
                let (suffix, matrix) = narrow(matrix)?;
                Ok((suffix, A(m.place(&matrix)?)))
            };
            let (qkv_kind, qkv) = matrix(block.qkv)?;
            let (output_kind, output) = matrix(block.output)?;
            let (gate_up_kind, gate_up) = matrix(block.gate_up)?;
            let (down_kind, down) = matrix(block.down)?;
            let attention_norm = A(m.place(&block.attention_norm.contiguous()?)?);
            let ffn_norm = A(m.place(&block.ffn_norm.contiguous()?)?);
            let pairs = (heads + 2 * cfg.kv_heads) * width / 2;
            let of_qkv = vec![
                A(x),
                attention_norm,
                qkv,
                A(cos),
                A(sin),
                A(moment),
                A(caches),
                A(q),
                eps,
                n(hidden),
                n(heads),
                n(cfg.kv_heads),
                n(width),
                n(layer),
            ];
            launch(format!("qkv_{qkv_kind}"), pairs.div_ceil(WARPS), 1, of_hidden, of_qkv);
            let group = heads / cfg.kv_heads;
            let of_attend = vec![A(q), A(moment), A(caches), A(mixed), A(stats), scale, n(group), n(width), n(layer)];
            launch("attend".into(), heads, SHARES, 0, of_attend);
            let of_project = vec![A(mixed), A(stats), output, A(x), n(hidden), n(heads), n(width), n(SHARES)];
            launch(format!("project_{output_kind}"), hidden.div_ceil(WARPS), 1, of_heads, of_project);
            let of_gate_up = vec![A(x), ffn_norm, gate_up, A(inner), eps, n(hidden), n(ffn)];
            launch(format!("gate_up_{gate_up_kind}"), ffn.div_ceil(WARPS), 1, of_hidden, of_gate_up);
            let of_down = vec![A(inner), down, A(x), n(hidden), n(ffn)];
            launch(format!("down_{down_kind}"), hidden.div_ceil(DOWN_ROWS), 1, 0, of_down);
        }
        let norm = m.place(&stack.norm.contiguous()?)?;
        let weights = m.place(&parts.heads.contiguous()?)?;
        let of_heads = vec![A(x), A(norm), A(weights), A(state), A(logits), eps, n(hidden), n(outputs)];
        launch("heads".into(), outputs.div_ceil(WARPS), 1, of_hidden, of_heads);
        machine.prepare(plan)?;
        Ok(Self { machine, moment, caches, state, logits, hidden, codes, codebooks: parts.codes.len() })
    }

    /// Makes a step at the end of `cache`: writes its slot, and gives the logits of the next frame, one row per codebook.
    ///
    /// # Errors
    /// When the cache is full, the frame is none of this model's, or the machine fails.
    pub fn run(&mut self, sight: Sight<'_>, cache: &mut KvCache) -> Result<Vec<Vec<f32>>, EngineError> {
        let at = cache.len();
        cache.reserve(at + 1)?;
        let frame = sight.frame.unwrap_or_default();
        let fits = frame.iter().all(|code| (*code as usize) < self.codes);
        if !fits || (sight.frame.is_some() && frame.len() != self.codebooks) {
            return Err(EngineError::Unsupported(format!("{frame:?} is no frame of this speech model")));
        }
        let head = [at, sight.text_end, sight.audio_start, cache.capacity(), frame.len()];
        let numbers = head.into_iter().map(|n| n as u32).chain(frame.iter().copied());
        let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        self.machine.write(self.moment, &bytes)?;
        self.machine.run(self.caches, cache, at)?;
        let mut logits = vec![0.0; self.codebooks * self.codes];
        self.machine.read(self.logits, &mut logits)?;
        cache.advance(at + 1);
        Ok(logits.chunks(self.codes.max(1)).map(<[f32]>::to_vec).collect())
    }

    /// The hidden state of the last step, after the last norm.
    pub fn hidden(&mut self) -> Result<Vec<f32>, EngineError> {
        let mut hidden = vec![0.0; self.hidden];
        self.machine.read(self.state, &mut hidden)?;
        Ok(hidden)
    }
}
