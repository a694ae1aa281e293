//! Whisper's text decoder. Immutable once loaded; a transcription owns its [`SelfCache`] and [`CrossAttention`].
//!
//! Query, key and value weights are joined into one matrix, and the attention's scale is folded into the query part: a
//! step is a few large products, which is what a CPU wants. Tensors are loaded by their checkpoint names.

use crate::engine::EngineError;
use crate::engine::plain_linear::Linear;
use candle_core::quantized::GgmlDType;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::{LayerNorm, Module, VarBuilder, ops};

const NORM_EPS: f64 = 1e-5;
/// The quantised product is quick only when the output's width is a multiple of this.
const ROWS: usize = 16;

/// The sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecoderConfig {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub ffn: usize,
    pub vocabulary: usize,
    /// The longest text, in tokens, the opening ones included.
    pub max_positions: usize,
}

pub(super) struct Decoder {
    pub config: DecoderConfig,
    /// `[vocabulary, width]`, in the checkpoint's own number format: only rows are read.
    embeddings: Tensor,
    /// `[max_positions, width]`
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    /// The embeddings again, for the way out.
    head: Linear,
}

struct Layer {
    self_norm: LayerNorm,
    self_qkv: Linear,
    self_out: Linear,
    cross_norm: LayerNorm,
    cross_query: Linear,
    cross_kv: Linear,
    cross_out: Linear,
    ffn_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// What the decoder's layers see of a stretch of sound: keys and values per layer, each
/// `[heads, positions, width / heads]`.
pub struct CrossAttention(Vec<(Tensor, Tensor)>);

impl CrossAttention {
    /// This sound with another behind it.
    pub(super) fn followed_by(&self, tail: &Self) -> Result<Self> {
        let join = |((k, v), (tail_k, tail_v)): (&(Tensor, Tensor), &(Tensor, Tensor))| {
            Ok((Tensor::cat(&[k, tail_k], 1)?, Tensor::cat(&[v, tail_v], 1)?))
        };
        self.0.iter().zip(&tail.0).map(join).collect::<Result<_>>().map(Self)
    }
}

/// The keys and values of the tokens so far, per layer `[heads, len, width / heads]`.
#[derive(Default)]
pub(super) struct SelfCache(Vec<(Tensor, Tensor)>);

impl Decoder {
    pub fn load(
        config: DecoderConfig,
        vb: &VarBuilder,
        quantise: Option<GgmlDType>,
    ) -> std::result::Result<Self, EngineError> {
        Self::read(config, vb, quantise)
            .map_err(|e| EngineError::Model(format!("Whisper's decoder does not fit; pull the model again ({e})")))
    }

    fn read(config: DecoderConfig, vb: &VarBuilder, quantise: Option<GgmlDType>) -> Result<Self> {
        let DecoderConfig { width, layers, heads, ffn, vocabulary, max_positions } = config;
        let scale = ((width / heads) as f64).powf(-0.5);
        let layer = |i: usize| -> Result<Layer> {
            let vb = vb.pp(format!("layers.{i}"));
            let (own, cross) = (vb.pp("self_attn"), vb.pp("encoder_attn"));
            let weight = |vb: &VarBuilder, name: &str| vb.get((width, width), &format!("{name}.weight"));
            let bias = |vb: &VarBuilder, name: &str| vb.get(width, &format!("{name}.bias"));
            let no_bias = Tensor::zeros(width, vb.dtype(), vb.device())?;
            let joined = |weights: &[Tensor], biases: &[Tensor]| {
                Linear::new(&Tensor::cat(weights, 0)?, Some(Tensor::cat(biases, 0)?), quantise)
            };
            let query = |vb: &VarBuilder| -> Result<(Tensor, Tensor)> {
                Ok(((weight(vb, "q_proj")? * scale)?, (bias(vb, "q_proj")? * scale)?))
            };
            let (own_q, own_q_bias) = query(&own)?;
            let (cross_q, cross_q_bias) = query(&cross)?;
            Ok(Layer {
                self_norm: layer_norm(&vb.pp("self_attn_layer_norm"), width)?,
                self_qkv: joined(
                    &[own_q, weight(&own, "k_proj")?, weight(&own, "v_proj")?],
                    &[own_q_bias, no_bias.clone(), bias(&own, "v_proj")?],
                )?,
                self_out: Linear::load(&own.pp("out_proj"), width, width, true, quantise)?,
                cross_norm: layer_norm(&vb.pp("encoder_attn_layer_norm"), width)?,
                cross_query: Linear::new(&cross_q, Some(cross_q_bias), quantise)?,
                cross_kv: joined(
                    &[weight(&cross, "k_proj")?, weight(&cross, "v_proj")?],
                    &[no_bias, bias(&cross, "v_proj")?],
                )?,
                cross_out: Linear::load(&cross.pp("out_proj"), width, width, true, quantise)?,
                ffn_norm: layer_norm(&vb.pp("final_layer_norm"), width)?,
                fc1: Linear::load(&vb.pp("fc1"), width, ffn, true, quantise)?,
                fc2: Linear::load(&vb.pp("fc2"), ffn, width, true, quantise)?,
            })
        };
        let table = vb.get((vocabulary, width), "embed_tokens.weight")?;
        let padding = vocabulary.next_multiple_of(ROWS) - vocabulary;
        let padded = table.pad_with_zeros(0, 0, padding)?;
        Ok(Self {
            config,
            head: Linear::new(&padded, None, quantise)?,
            embeddings: table.to_dtype(DType::F16)?,
            positions: vb.get((max_positions, width), "embed_positions.weight")?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm: layer_norm(&vb.pp("layer_norm"), width)?,
        })
    }

    /// The keys and values of the encoder's states `[positions, width]`, for every layer.
    pub fn cross_attention(&self, encoded: &Tensor) -> Result<CrossAttention> {
        let of_layer = |layer: &Layer| {
            let kv = layer.cross_kv.forward(encoded)?;
            Ok((self.heads_of(&kv, 0)?, self.heads_of(&kv, 1)?))
        };
        self.layers.iter().map(of_layer).collect::<Result<_>>().map(CrossAttention)
    }

    /// The states `[n, width]`, after the final norm, of `tokens` at positions `at..`. Whatever the cache holds from
    /// position `at` on is forgotten first.
    pub fn forward(&self, tokens: &[u32], at: usize, cache: &mut SelfCache, sound: &CrossAttention) -> Result<Tensor> {
        let n = tokens.len();
        let ids = Tensor::from_slice(tokens, n, self.embeddings.device())?;
        let embedded = self.embeddings.index_select(&ids, 0)?.to_dtype(self.positions.dtype())?;
        let mut x = (embedded + self.positions.narrow(0, at, n)?)?;
        let mask = if n > 1 { Some(causal(n, at, &x)?) } else { None };
        for (i, (layer, (sound_k, sound_v))) in self.layers.iter().zip(&sound.0).enumerate() {
            let qkv = layer.self_qkv.forward(&layer.self_norm.forward(&x)?)?;
            let (q, mut k, mut v) = (self.heads_of(&qkv, 0)?, self.heads_of(&qkv, 1)?, self.heads_of(&qkv, 2)?);
            if at > 0 {
                let (past_k, past_v) = &cache.0[i];
                k = Tensor::cat(&[&past_k.narrow(1, 0, at)?, &k], 1)?;
                v = Tensor::cat(&[&past_v.narrow(1, 0, at)?, &v], 1)?;
            }
            let heard = attention(&q, &k, &v, mask.as_ref())?;
            if i < cache.0.len() {
                cache.0[i] = (k, v);
            } else {
                cache.0.push((k, v));
            }
            x = (x + layer.self_out.forward(&heard)?)?;
            let q = layer.cross_query.forward(&layer.cross_norm.forward(&x)?)?;
            let heard = attention(&self.heads_of(&q, 0)?, sound_k, sound_v, None)?;
            x = (x + layer.cross_out.forward(&heard)?)?;
            let h = layer.fc1.forward(&layer.ffn_norm.forward(&x)?)?.gelu_erf()?;
            x = (x + layer.fc2.forward(&h)?)?;
        }
        self.norm.forward(&x)
    }

    /// What each state `[n, width]` makes of every token of the vocabulary: `n` rows of scores.
    pub fn logits(&self, states: &Tensor) -> Result<Vec<Vec<f32>>> {
        let mut rows = self.head.forward(states)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        rows.iter_mut().for_each(|row| row.truncate(self.config.vocabulary));
        Ok(rows)
    }

    /// The `part`-th stretch of `width` columns of `x` `[n, ..]`, by heads: `[heads, n, width / heads]`.
    fn heads_of(&self, x: &Tensor, part: usize) -> Result<Tensor> {
        let DecoderConfig { width, heads, .. } = self.config;
        let n = x.dim(0)?;
        x.narrow(1, part * width, width)?.reshape((n, heads, width / heads))?.transpose(0, 1)?.contiguous()
    }
}

/// Scaled already: the scale is part of the query's weights. Gives `[n, width]`.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let mut scores = q.matmul(&k.transpose(D::Minus2, D::Minus1)?)?;
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    ops::softmax_last_dim(&scores)?.matmul(v)?.transpose(0, 1)?.flatten_from(1)
}

/// `[n, at + n]`: token `i` sees the `at` before and itself.
fn causal(n: usize, at: usize, like: &Tensor) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..n).flat_map(|i| (0..at + n).map(move |j| if j > at + i { f32::NEG_INFINITY } else { 0.0 })).collect();
    Tensor::from_vec(mask, (n, at + n), like.device())?.to_dtype(like.dtype())
}

fn layer_norm(vb: &VarBuilder, width: usize) -> Result<LayerNorm> {
    Ok(LayerNorm::new(vb.get(width, "weight")?, vb.get(width, "bias")?, NORM_EPS))
}
