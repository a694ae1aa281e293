//! The decoder stack of the Qwen2 and Llama families: the cascade's language model, and the omni model's language and
//! speech models.
//!
//! Owns weights only, so one [`Decoder`] may serve many sequences, each with its own [`KvCache`]; lives on the engine
//! thread. Pre-norm blocks of grouped-query attention and a SwiGLU feed-forward, with rotary positions.
//! Invariants: the position of an input is the index of its cache slot; keys and values are never repeated per query
//! head (queries are folded into `[kv_heads, group * n, head_dim]` instead); scores are normalised in f32.
//!
//! Sources: Qwen2 technical report (arXiv 2407.10671) section 2.2; Llama 2 (arXiv 2307.09288); RoPE (arXiv 2104.09864).

use super::EngineError;
use super::kv_cache::KvCache;
use super::linear::{Linear, Matrix, Placement, Stacked};
use super::tensor_source::TensorSource;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{ops, rotary_emb};
use std::ops::Range;

mod attention;
mod gguf;
pub use gguf::{load_linear, supported_architecture};

/// How many inputs a causal forward works on at a time: bounds the score matrix of a long prompt.
const PREFILL_ROWS: usize = 512;

/// The shape of a decoder stack.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Inner width of the feed-forward.
    pub ffn: usize,
    pub rms_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the q, k and v projections have biases (Qwen2: yes, Llama: no).
    pub qkv_bias: bool,
    /// Positions the rotary tables are made for; no slot at or past it can be written.
    pub max_positions: usize,
}

impl DecoderConfig {
    fn check(&self) -> Result<(), EngineError> {
        let positive =
            [self.hidden, self.layers, self.heads, self.kv_heads, self.head_dim, self.ffn, self.max_positions];
        if positive.contains(&0) || !self.heads.is_multiple_of(self.kv_heads) || !self.head_dim.is_multiple_of(2) {
            return Err(EngineError::Model(format!(
                "a decoder cannot have this shape: {self:?}; the model's configuration is damaged, fetch it again"
            )));
        }
        Ok(())
    }
}

/// Which keys each input may attend to.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// Input `i` sees the slots `0..=at+i`.
    Causal,
    /// Added to the scores before the softmax: f32, `[n or 1, at+n]`, a large negative number where a key is hidden.
    Additive(&'a Tensor),
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// Element `i` with `i + head_dim / 2` (checkpoints in safetensors, and GGUF of the Qwen2 family).
    Halves,
    /// Element `2i` with `2i + 1` (GGUF of the llama architecture, whose q and k rows are permuted to suit).
    Neighbours,
}

/// The rotary tables, each `[max_positions, head_dim / 2]`.
#[derive(Clone, Debug)]
struct Rotary {
    cos: Tensor,
    sin: Tensor,
    rotation: Rotation,
}

impl Rotary {
    /// `slowdown`, `[head_dim / 2]`, divides the frequencies (Llama 3's `rope_freqs.weight`).
    fn new(
        cfg: &DecoderConfig,
        rotation: Rotation,
        slowdown: Option<&[f32]>,
        place: &Placement,
    ) -> Result<Self, EngineError> {
        let half = cfg.head_dim / 2;
        // In f32, as the models' own code does: at position 1000 the rounded angle is off by 6e-5, and the weights were
        // trained with it.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let slower = slowdown.and_then(|s| s.get(i)).copied().unwrap_or(1.0);
                1.0 / (cfg.rope_theta as f32).powf((2 * i) as f32 / cfg.head_dim as f32) / slower
            })
            .collect();
        let angles = (0..cfg.max_positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        let table = |t: Vec<f32>| place.dense(&Tensor::from_vec(t, (cfg.max_positions, half), &Device::Cpu)?);
        Ok(Self { cos: table(cos)?, sin: table(sin)?, rotation })
    }

    /// Turns `x` `[heads, n, head_dim]`, whose first row is at position `at`.
    fn turn(&self, x: &Tensor, at: usize) -> Result<Tensor, EngineError> {
        let n = x.dim(1)?;
        self.turn_by(x, &self.cos.narrow(0, at, n)?, &self.sin.narrow(0, at, n)?)
    }

    /// Turns `x` `[heads, n, head_dim]`, turned already, to positions that are `by` smaller.
    fn turn_back(&self, x: &Tensor, by: usize) -> Result<Tensor, EngineError> {
        let (n, half) = (x.dim(1)?, self.cos.dim(1)?);
        let row = |table: &Tensor| table.narrow(0, by, 1)?.broadcast_as((n, half))?.contiguous();
        self.turn_by(x, &row(&self.cos)?, &row(&self.sin)?.neg()?)
    }

    fn turn_by(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, EngineError> {
        let x = x.contiguous()?.unsqueeze(0)?;
        let turned = match self.rotation {
            Rotation::Halves => rotary_emb::rope(&x, cos, sin)?,
            Rotation::Neighbours => rotary_emb::rope_i(&x, cos, sin)?,
        };
        Ok(turned.squeeze(0)?)
    }
}

#[derive(Clone, Debug)]
struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        Ok(ops::rms_norm(&x.contiguous()?, &self.weight, self.eps)?)
    }
}

#[derive(Clone, Debug)]
struct Block {
    attention_norm: RmsNorm,
    qkv: Stacked,
    output: Linear,
    ffn_norm: RmsNorm,
    gate_up: Stacked,
    down: Linear,
}

impl Block {
    fn plain(&self) -> Option<PlainBlock<'_>> {
        let (qkv, qkv_bias) = self.qkv.plain()?;
        // Only the former have biases in these families.
        let [output, gate_up, down] = [self.output.plain()?, self.gate_up.plain()?, self.down.plain()?];
        Some(PlainBlock {
            attention_norm: &self.attention_norm.weight,
            qkv,
            qkv_bias,
            output: output.0,
            ffn_norm: &self.ffn_norm.weight,
            gate_up: gate_up.0,
            down: down.0,
        })
    }
}

/// The weights of a block, for kernels that compute it in their own way.
#[derive(Clone, Copy, Debug)]
pub struct PlainBlock<'a> {
    /// `[hidden]`
    pub attention_norm: &'a Tensor,
    /// Queries, keys and values, one below the other: `[(heads + 2 kv_heads) * head_dim, hidden]`.
    pub qkv: Matrix<'a>,
    pub qkv_bias: Option<&'a Tensor>,
    /// `[hidden, heads * head_dim]`
    pub output: Matrix<'a>,
    /// `[hidden]`
    pub ffn_norm: &'a Tensor,
    /// Gate above up: `[2 ffn, hidden]`.
    pub gate_up: Matrix<'a>,
    /// `[hidden, ffn]`
    pub down: Matrix<'a>,
}

/// The weights of a stack whose heads are not permuted.
#[derive(Clone, Debug)]
pub struct PlainStack<'a> {
    pub blocks: Vec<PlainBlock<'a>>,
    /// Of the last norm, `[hidden]`.
    pub norm: &'a Tensor,
    /// The rotary tables, each `[max_positions, head_dim / 2]`.
    pub cos: &'a Tensor,
    pub sin: &'a Tensor,
}

/// A decoder stack: embeddings in, hidden states after the final norm out. Holds neither the embedding table nor the head.
#[derive(Clone, Debug)]
pub struct Decoder {
    cfg: DecoderConfig,
    rotary: Rotary,
    blocks: Vec<Block>,
    norm: RmsNorm,
    dtype: DType,
    device: Device,
}

impl Decoder {
    /// Loads `{prefix}layers.{i}.…` and `{prefix}norm.weight` under the names of the Hugging Face checkpoints
    /// (`prefix` for example `llm.model.` or `tts.model.`).
    ///
    /// # Errors
    /// Names the tensor that is missing, wrongly shaped, or too narrow for the quantisation.
    pub fn from_safetensors(
        cfg: &DecoderConfig,
        source: &dyn TensorSource,
        prefix: &str,
        place: &Placement,
    ) -> Result<Self, EngineError> {
        cfg.check()?;
        let norm = |name: &str| -> Result<RmsNorm, EngineError> {
            let weight = place.dense(&source.get(&format!("{prefix}{name}.weight"), &[cfg.hidden])?)?;
            Ok(RmsNorm { weight, eps: cfg.rms_eps as f32 })
        };
        let (q_out, kv_out) = (cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim);
        let mut blocks = Vec::with_capacity(cfg.layers);
        for i in 0..cfg.layers {
            let linear = |name: &str, shape, bias| {
                Linear::load(source, &format!("{prefix}layers.{i}.{name}"), shape, bias, place)
            };
            blocks.push(Block {
                attention_norm: norm(&format!("layers.{i}.input_layernorm"))?,
                qkv: Stacked::new(vec![
                    linear("self_attn.q_proj", (q_out, cfg.hidden), cfg.qkv_bias)?,
                    linear("self_attn.k_proj", (kv_out, cfg.hidden), cfg.qkv_bias)?,
                    linear("self_attn.v_proj", (kv_out, cfg.hidden), cfg.qkv_bias)?,
                ])?,
                output: linear("self_attn.o_proj", (cfg.hidden, q_out), false)?.packed()?,
                ffn_norm: norm(&format!("layers.{i}.post_attention_layernorm"))?,
                gate_up: Stacked::new(vec![
                    linear("mlp.gate_proj", (cfg.ffn, cfg.hidden), false)?,
                    linear("mlp.up_proj", (cfg.ffn, cfg.hidden), false)?,
                ])?,
                down: linear("mlp.down_proj", (cfg.hidden, cfg.ffn), false)?.packed()?,
            });
        }
        let norm = norm("norm")?;
        let rotary = Rotary::new(cfg, Rotation::Halves, None, place)?;
        Ok(Self { cfg: cfg.clone(), rotary, blocks, norm, dtype: place.dtype(), device: place.device().clone() })
    }

    pub fn config(&self) -> &DecoderConfig {
        &self.cfg
    }

    /// The precision of inputs and outputs.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The weights as they are; `None` when some have been reordered or lie apart, or neighbours turn together.
    pub fn plain(&self) -> Option<PlainStack<'_>> {
        let blocks = self.blocks.iter().map(Block::plain).collect::<Option<Vec<_>>>()?;
        let Rotary { cos, sin, rotation } = &self.rotary;
        (*rotation == Rotation::Halves).then_some(PlainStack { blocks, norm: &self.norm.weight, cos, sin })
    }

    /// An empty cache that fits this decoder and may grow to `limit` slots (at most the positions it was made for).
    pub fn new_cache(&self, limit: usize) -> Result<KvCache, EngineError> {
        self.new_cache_in(self.dtype, limit)
    }

    /// The same, with keys and values kept in another precision than the decoder's: half of it is read in half the time.
    pub fn new_cache_in(&self, kept: DType, limit: usize) -> Result<KvCache, EngineError> {
        let c = &self.cfg;
        KvCache::new(c.layers, c.kv_heads, c.head_dim, limit.min(c.max_positions), kept, &self.device)
    }

    /// Runs `embeds` `[n, hidden]` through the stack: writes their keys and values into the cache slots `at..at+n`
    /// (whose positions they take), lets them attend to the slots `0..at+n` as `mask` allows, and returns the hidden
    /// states after the final norm, `[n, hidden]`. The cache's length becomes at least `at+n`.
    ///
    /// # Errors
    /// When `at` lies past the cache's length (the slots between were never written), or the cache's limit is reached.
    pub fn forward(
        &self,
        embeds: &Tensor,
        at: usize,
        cache: &mut KvCache,
        mask: Mask<'_>,
    ) -> Result<Tensor, EngineError> {
        let (n, width) = embeds.dims2()?;
        if width != self.cfg.hidden {
            return Err(EngineError::Unsupported(format!(
                "the decoder takes inputs {} wide and was given {width}: the model's parts do not belong together",
                self.cfg.hidden
            )));
        }
        if at > cache.len() {
            return Err(EngineError::Unsupported(format!(
                "input at position {at} would leave a hole: the cache holds {} positions",
                cache.len()
            )));
        }
        if n == 0 {
            return Ok(embeds.clone());
        }
        cache.reserve(at + n)?;
        match mask {
            Mask::Causal if n > PREFILL_ROWS => {
                let mut parts = Vec::new();
                for from in (0..n).step_by(PREFILL_ROWS) {
                    let rows = embeds.narrow(0, from, PREFILL_ROWS.min(n - from))?;
                    parts.push(self.run(&rows, at + from, cache, Mask::Causal)?);
                }
                Ok(Tensor::cat(&parts, 0)?)
            }
            _ => self.run(embeds, at, cache, mask),
        }
    }

    /// Takes the slots `range` out of the cache; what lies behind moves up to their positions. Nothing is computed anew:
    /// the keys and values behind were made while those that go could still be seen, and keep what they learned of them
    /// (as in llama.cpp's context shift).
    ///
    /// # Errors
    /// When the range is not one of slots in use. After any error the cache is empty.
    pub fn forget(&self, cache: &mut KvCache, range: Range<usize>) -> Result<(), EngineError> {
        let done = cache.remove(range.clone(), |keys| self.rotary.turn_back(&keys.to_dtype(self.dtype)?, range.len()));
        if done.is_err() {
            cache.truncate(0);
        }
        done
    }

    fn run(&self, embeds: &Tensor, at: usize, cache: &mut KvCache, mask: Mask<'_>) -> Result<Tensor, EngineError> {
        let n = embeds.dim(0)?;
        let seen = match mask {
            Mask::Causal if n == 1 => Seen::All,
            Mask::Causal if self.device.is_cpu() => Seen::UpToItself,
            Mask::Causal => Seen::Masked(self.causal(n, at)?),
            Mask::Additive(m) => {
                let (rows, keys) = m.dims2()?;
                if keys != at + n || (rows != 1 && rows != n) {
                    return Err(EngineError::Unsupported(format!(
                        "a mask of {rows} x {keys} does not fit {n} inputs over {} keys",
                        at + n
                    )));
                }
                Seen::Masked(m.to_device(&self.device)?.to_dtype(DType::F32)?)
            }
        };
        let mut x = embeds.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let attended = self.attend(block, &block.attention_norm.forward(&x)?, i, at, cache, &seen)?;
            x = (x + attended)?;
            let gated = block.gate_up.forward(&block.ffn_norm.forward(&x)?)?;
            let inner = (ops::silu(&gated[0])? * &gated[1])?;
            x = (x + block.down.forward(&inner)?)?;
        }
        cache.advance(at + n);
        self.norm.forward(&x)
    }

    /// Attention of one block: `x` `[n, hidden]`, normalised, to `[n, hidden]`.
    fn attend(
        &self,
        block: &Block,
        x: &Tensor,
        layer: usize,
        at: usize,
        cache: &KvCache,
        seen: &Seen,
    ) -> Result<Tensor, EngineError> {
        let c = &self.cfg;
        let n = x.dim(0)?;
        let group = c.heads / c.kv_heads;
        let qkv = block.qkv.forward(x)?;
        let heads = |t: &Tensor, heads: usize| -> Result<Tensor, EngineError> {
            Ok(t.contiguous()?.reshape((n, heads, c.head_dim))?.transpose(0, 1)?)
        };
        let q = self.rotary.turn(&heads(&qkv[0], c.heads)?, at)?;
        let k = self.rotary.turn(&heads(&qkv[1], c.kv_heads)?, at)?;
        let (keys, values) = cache.write(layer, at, &k, &heads(&qkv[2], c.kv_heads)?)?;

        let q = (q * (c.head_dim as f64).powf(-0.5))?;
        if matches!(seen, Seen::All)
            && let Some(mixed) = attention::of_one(&q, &keys, &values)?
        {
            return block.output.forward(&mixed.reshape((n, c.heads * c.head_dim))?);
        }
        let (keys, values) =
            (attention::in_precision(&keys, self.dtype)?, attention::in_precision(&values, self.dtype)?);
        let q = q.reshape((c.kv_heads, group * n, c.head_dim))?;
        let scores = q.matmul(&keys.t()?)?.to_dtype(DType::F32)?;
        let weights = match seen {
            Seen::All => ops::softmax_last_dim(&scores)?,
            Seen::UpToItself => attention::causal_softmax(scores, n, at)?,
            Seen::Masked(mask) => {
                let masked = scores.reshape((c.kv_heads, group, n, at + n))?.broadcast_add(mask)?;
                ops::softmax_last_dim(&masked.reshape((c.kv_heads, group * n, at + n))?)?
            }
        };
        let weights = weights.to_dtype(self.dtype)?;
        let mixed = weights.matmul(&values)?.reshape((c.heads, n, c.head_dim))?;
        block.output.forward(&mixed.transpose(0, 1)?.reshape((n, c.heads * c.head_dim))?)
    }

    /// The additive causal mask of `n` inputs from slot `at` on, `[n, at+n]`.
    fn causal(&self, n: usize, at: usize) -> Result<Tensor, EngineError> {
        let keys = at + n;
        let mask: Vec<f32> =
            (0..n).flat_map(|i| (0..keys).map(move |j| if j <= at + i { 0.0 } else { f32::NEG_INFINITY })).collect();
        Ok(Tensor::from_vec(mask, (n, keys), &self.device)?)
    }
}

/// What the inputs of one pass may attend to.
enum Seen {
    /// All slots, themselves included.
    All,
    /// Every input all slots before it, and itself.
    UpToItself,
    /// What this is added to, `[n or 1, slots]`.
    Masked(Tensor),
}

/// The last row of `[n, hidden]`, as `[1, hidden]`.
pub fn last_row(hidden: &Tensor) -> Result<Tensor, EngineError> {
    let n = hidden.dim(D::Minus2)?;
    Ok(hidden.narrow(D::Minus2, n.saturating_sub(1), 1)?)
}

#[cfg(test)]
mod tests;
