//! Loading a decoder stack from a GGUF file of the Qwen2 or Llama family.
//!
//! Part of the transformer room. The metadata says which family: Qwen2 files have biases on q, k and v and turn the
//! halves of a head; llama files have q and k rows permuted so that neighbours turn, and may carry frequency factors
//! (`rope_freqs.weight`, Llama 3). Names and conventions: `gguf-py/gguf/constants.py` and `src/llama-model.cpp` of
//! llama.cpp.

use super::{Block, Decoder, DecoderConfig, EngineError, RmsNorm, Rotary, Rotation};
use crate::engine::gguf::Gguf;
use crate::engine::linear::{Linear, Placement, Stacked};
use candle_core::DType;
use std::sync::Arc;

/// The family of a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Qwen2,
    Llama,
}

/// The `general.architecture` of `file` if this decoder can run it.
///
/// # Errors
/// Names the architecture that cannot be run, and those that can.
pub fn supported_architecture(file: &Gguf) -> Result<&'static str, EngineError> {
    Ok(match family(file)? {
        Family::Qwen2 => "qwen2",
        Family::Llama => "llama",
    })
}

fn family(file: &Gguf) -> Result<Family, EngineError> {
    match file.text("general.architecture") {
        Some("qwen2") => Ok(Family::Qwen2),
        Some("llama") => Ok(Family::Llama),
        other => Err(EngineError::Unsupported(format!(
            "{} is a model of architecture `{}`; this program runs `qwen2` and `llama`: choose another model",
            file.path().display(),
            other.unwrap_or("unknown")
        ))),
    }
}

impl DecoderConfig {
    /// Reads the shape from the metadata; positions are capped at `max_positions`.
    pub fn from_gguf(file: &Gguf, max_positions: usize) -> Result<Self, EngineError> {
        let arch = supported_architecture(file)?;
        let key = |name: &str| format!("{arch}.{name}");
        let hidden = file.required(&key("embedding_length"))?;
        let heads = file.required(&key("attention.head_count"))?;
        let head_dim = match file.integer(&key("attention.key_length"))? {
            Some(n) => n,
            None => hidden / heads.max(1),
        };
        let cfg = Self {
            hidden,
            layers: file.required(&key("block_count"))?,
            heads,
            kv_heads: file.integer(&key("attention.head_count_kv"))?.unwrap_or(heads),
            head_dim,
            ffn: file.required(&key("feed_forward_length"))?,
            rms_eps: file.real(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-6),
            rope_theta: file.real(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            qkv_bias: file.has("blk.0.attn_q.bias"),
            max_positions: file.required(&key("context_length"))?.min(max_positions),
        };
        cfg.check()?;
        if let Some(scaling) = file.text(&key("rope.scaling.type")).filter(|s| *s != "none") {
            return Err(EngineError::Unsupported(format!(
                "{} scales its rotary positions by `{scaling}`, which is not supported: choose another model",
                file.path().display()
            )));
        }
        if let Some(turned) = file.integer(&key("rope.dimension_count"))?.filter(|&d| d != cfg.head_dim) {
            return Err(EngineError::Unsupported(format!(
                "{} turns only {turned} of {} elements of a head, which is not supported: choose another model",
                file.path().display(),
                cfg.head_dim
            )));
        }
        Ok(cfg)
    }
}

impl Decoder {
    /// Loads the stack of `file`, keeping its quantisation. `progress` is given the share done, from 0 to 1.
    ///
    /// # Errors
    /// An architecture that cannot be run; a tensor that is missing or does not fit the metadata, by name.
    pub fn from_gguf(
        file: &mut Gguf,
        max_positions: usize,
        place: &Placement,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, EngineError> {
        let cfg = DecoderConfig::from_gguf(file, max_positions)?;
        let rotation = match family(file)? {
            Family::Qwen2 => Rotation::Halves,
            Family::Llama => Rotation::Neighbours,
        };
        let slowdown = match file.has("rope_freqs.weight") {
            true => Some(
                file.tensor("rope_freqs.weight", &[cfg.head_dim / 2], place.device())?
                    .dequantize(place.device())?
                    .to_dtype(DType::F32)?
                    .to_vec1::<f32>()?,
            ),
            false => None,
        };
        let rotary = Rotary::new(&cfg, rotation, slowdown.as_deref(), place)?;
        let mut blocks = Vec::with_capacity(cfg.layers);
        for i in 0..cfg.layers {
            blocks.push(load_block(file, &cfg, i, place)?);
            progress((i + 1) as f32 / cfg.layers as f32);
        }
        let norm = load_norm(file, &cfg, "output_norm.weight", place)?;
        Ok(Self { cfg, rotary, blocks, norm, dtype: place.dtype(), device: place.device().clone() })
    }
}

fn load_norm(file: &mut Gguf, cfg: &DecoderConfig, name: &str, place: &Placement) -> Result<RmsNorm, EngineError> {
    let weight = file.tensor(name, &[cfg.hidden], place.device())?.dequantize(place.device())?;
    Ok(RmsNorm { weight: place.dense(&weight)?, eps: cfg.rms_eps as f32 })
}

/// Loads `{name}.weight` `[outputs, inputs]` and, when `bias`, `{name}.bias`.
pub fn load_linear(
    file: &mut Gguf,
    name: &str,
    (outputs, inputs): (usize, usize),
    bias: bool,
    place: &Placement,
) -> Result<Linear, EngineError> {
    let weight = file.tensor(&format!("{name}.weight"), &[outputs, inputs], place.device())?;
    let bias = match bias {
        true => {
            let b = file.tensor(&format!("{name}.bias"), &[outputs], place.device())?;
            Some(place.dense(&b.dequantize(place.device())?)?)
        }
        false => None,
    };
    Linear::quantised(Arc::new(weight), bias, place.dtype())
}

fn load_block(file: &mut Gguf, cfg: &DecoderConfig, i: usize, place: &Placement) -> Result<Block, EngineError> {
    let (q_out, kv_out) = (cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim);
    let mut linear = |name: &str, shape, bias| load_linear(file, &format!("blk.{i}.{name}"), shape, bias, place);
    let qkv = Stacked::new(vec![
        linear("attn_q", (q_out, cfg.hidden), cfg.qkv_bias)?,
        linear("attn_k", (kv_out, cfg.hidden), cfg.qkv_bias)?,
        linear("attn_v", (kv_out, cfg.hidden), cfg.qkv_bias)?,
    ])?;
    let output = linear("attn_output", (cfg.hidden, q_out), false)?.packed()?;
    let gate_up = Stacked::new(vec![
        linear("ffn_gate", (cfg.ffn, cfg.hidden), false)?,
        linear("ffn_up", (cfg.ffn, cfg.hidden), false)?,
    ])?;
    let down = linear("ffn_down", (cfg.hidden, cfg.ffn), false)?.packed()?;
    Ok(Block {
        attention_norm: load_norm(file, cfg, &format!("blk.{i}.attn_norm.weight"), place)?,
        qkv,
        output,
        ffn_norm: load_norm(file, cfg, &format!("blk.{i}.ffn_norm.weight"), place)?,
        gate_up,
        down,
    })
}
