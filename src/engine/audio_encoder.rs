//! Whisper's audio encoder, the ear of both engines: `apm.` in MiniCPM-o 2.6, `model.encoder.` in Whisper.
//!
//! Immutable once loaded; lives on the engine thread. Whoever streams owns an [`EncoderCache`]. Tensors are loaded by
//! their checkpoint names, and one that is missing or of another shape is an error that names it.
//!
//! Structure (Radford et al., 2022): two convolutions (the second halves the frame rate to 50 a second), learned or
//! sinusoidal positions read from the checkpoint, then layers of pre-norm attention and feed-forward with a
//! GELU (the exact one unless the configuration says otherwise), and a final norm.

use super::EngineError;
use super::linear::Linear;
use crate::dsp::mel::{self, Mel};
use candle_core::quantized::GgmlDType;
use candle_core::{D, Device, Tensor};
use candle_nn::{Conv1d, Conv1dConfig, LayerNorm, Module, VarBuilder, ops};

const NORM_EPS: f64 = 1e-5;

/// What stands between two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// The exact GELU, x times the normal distribution's cumulative function: Whisper's.
    #[default]
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
}

impl Activation {
    /// By its name in a checkpoint's configuration (`activation_function`, as in Hugging Face's `ACT2FN`).
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            _ => None,
        }
    }

    fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
        }
    }
}

/// The sizes of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioEncoderConfig {
    /// Width of the residual stream (`d_model`).
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Width of the feed-forward layer (`encoder_ffn_dim`).
    pub ffn: usize,
    /// Positions there are embeddings for (1500: 30 s).
    pub max_positions: usize,
    pub activation: Activation,
}

/// A loaded encoder.
#[derive(Clone, Debug)]
pub struct AudioEncoder {
    config: AudioEncoderConfig,
    conv1: Conv1d,
    conv2: Conv1d,
    /// `[max_positions, width]`
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    ffn_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// The keys and values of everything a stream has heard so far. Cloning is cheap and makes a snapshot.
#[derive(Clone, Debug, Default)]
pub struct EncoderCache {
    /// Per layer: keys and values, each `[heads, len, width / heads]`.
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl EncoderCache {
    /// Positions heard so far, 50 a second.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.layers.clear();
        self.len = 0;
    }

    /// The keys of a layer, `[heads, len, width / heads]`; `None` before anything was heard.
    pub fn keys(&self, layer: usize) -> Option<&Tensor> {
        self.layers.get(layer).map(|(k, _)| k)
    }
}

impl AudioEncoder {
    /// Loads the encoder whose tensors start at `vb`'s prefix. `quantise` makes the linear layers smaller and, on a
    /// CPU, quicker; `None` keeps them as `vb` gives them.
    pub fn load(config: AudioEncoderConfig, vb: &VarBuilder, quantise: Option<GgmlDType>) -> Result<Self, EngineError> {
        Self::read(config, vb, quantise).map_err(|e| {
            EngineError::Model(format!("the audio encoder's weights do not fit; pull the model again ({e})"))
        })
    }

    fn read(config: AudioEncoderConfig, vb: &VarBuilder, quantise: Option<GgmlDType>) -> Result<Self, EngineError> {
        let AudioEncoderConfig { width, layers, heads, ffn, max_positions, .. } = config;
        if heads == 0 || width % heads != 0 {
            return Err(EngineError::Model(format!("a width of {width} does not divide into {heads} heads")));
        }
        let layer = |i: usize| -> Result<Layer, EngineError> {
            let vb = vb.pp(format!("layers.{i}"));
            let attention = vb.pp("self_attn");
            let square = |name: &str, bias| Linear::read(&attention.pp(name), width, width, bias, quantise);
            Ok(Layer {
                attention_norm: layer_norm(&vb.pp("self_attn_layer_norm"), width)?,
                query: square("q_proj", true)?,
                key: square("k_proj", false)?,
                value: square("v_proj", true)?,
                out: square("out_proj", true)?,
                ffn_norm: layer_norm(&vb.pp("final_layer_norm"), width)?,
                fc1: Linear::read(&vb.pp("fc1"), width, ffn, true, quantise)?,
                fc2: Linear::read(&vb.pp("fc2"), ffn, width, true, quantise)?,
            })
        };
        Ok(Self {
            config,
            conv1: conv(&vb.pp("conv1"), mel::BINS, width, 1)?,
            conv2: conv(&vb.pp("conv2"), width, width, 2)?,
            positions: vb.get((max_positions, width), "embed_positions.weight")?,
            layers: (0..layers).map(layer).collect::<Result<_, EngineError>>()?,
            norm: layer_norm(&vb.pp("layer_norm"), width)?,
        })
    }

    pub fn config(&self) -> &AudioEncoderConfig {
        &self.config
    }

    /// How many positions come out for `frames` mel frames.
    pub fn positions_of(frames: usize) -> usize {
        frames.div_ceil(2)
    }

    /// Encodes a whole stretch of sound, every position seeing every other: `[positions, width]`. The stretch may be
    /// shorter than the 30 s of training: positions 0.. are used, and the work shrinks with it.
    pub fn forward(&self, mel: &Mel) -> Result<Tensor, EngineError> {
        self.layers_over(self.embed(mel, 0)?, None, None)
    }

    /// As [`forward`](Self::forward), but a position sees only what was heard up to the end of its own block of
    /// `block` positions (50: one second), as MiniCPM-o was trained to hear.
    pub fn forward_in_blocks(&self, mel: &Mel, block: usize) -> Result<Tensor, EngineError> {
        let x = self.embed(mel, 0)?;
        let n = x.dim(0)?;
        let mask: Vec<f32> = (0..n)
            .flat_map(|i| {
                let end = (i / block + 1) * block;
                (0..n).map(move |j| if j < end { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (n, n), x.device())?.to_dtype(x.dtype())?;
        self.layers_over(x, Some(&mask), None)
    }

    /// Encodes the next chunk of a stream: `[positions of this chunk, width]`. Each position sees everything in the
    /// cache and the whole chunk. When the chunk would reach the last position there is an embedding for, the stream
    /// starts afresh (as upstream does after 30 s).
    pub fn forward_streaming(&self, mel: &Mel, cache: &mut EncoderCache) -> Result<Tensor, EngineError> {
        if cache.len + Self::positions_of(mel.frames) >= self.config.max_positions {
            cache.clear();
        }
        let x = self.embed(mel, cache.len)?;
        self.layers_over(x, None, Some(cache))
    }

    /// The two convolutions alone: `[width, positions]`, before the position embeddings.
    pub fn convolve(&self, mel: &Mel) -> Result<Tensor, EngineError> {
        if mel.frames == 0 {
            return Err(EngineError::Unsupported("there is no sound to encode".into()));
        }
        let device: &Device = self.positions.device();
        let x = Tensor::from_slice(&mel.data, (1, mel::BINS, mel.frames), device)?.to_dtype(self.positions.dtype())?;
        let activation = self.config.activation;
        let x = activation.of(&self.conv1.forward(&x)?)?;
        Ok(activation.of(&self.conv2.forward(&x)?)?.squeeze(0)?)
    }

    /// `[positions, width]`: convolutions and position embeddings from `first` on.
    fn embed(&self, mel: &Mel, first: usize) -> Result<Tensor, EngineError> {
        let x = self.convolve(mel)?.t()?.contiguous()?;
        let n = x.dim(0)?;
        if first + n > self.config.max_positions {
            return Err(EngineError::Unsupported(format!(
                "{n} positions after {first} are more than the {} this encoder has; give it shorter sound",
                self.config.max_positions
            )));
        }
        Ok((x + self.positions.narrow(0, first, n)?)?)
    }

    fn layers_over(
        &self,
        mut x: Tensor,
        mask: Option<&Tensor>,
        mut cache: Option<&mut EncoderCache>,
    ) -> Result<Tensor, EngineError> {
        let new = x.dim(0)?;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &self.config, mask, i, cache.as_deref_mut())?;
        }
        if let Some(cache) = cache {
            cache.len += new;
        }
        Ok(self.norm.forward(&x)?)
    }
}

impl Layer {
    fn forward(
        &self,
        x: &Tensor,
        &AudioEncoderConfig { heads, activation, .. }: &AudioEncoderConfig,
        mask: Option<&Tensor>,
        index: usize,
        cache: Option<&mut EncoderCache>,
    ) -> Result<Tensor, EngineError> {
        let (n, width) = x.dims2()?;
        let split = |t: Tensor| t.reshape((n, heads, width / heads))?.transpose(0, 1)?.contiguous();
        let h = self.attention_norm.forward(x)?;
        let scale = ((width / heads) as f64).powf(-0.5);
        let q = split((self.query.forward(&h)? * scale)?)?;
        let mut k = split(self.key.forward(&h)?)?;
        let mut v = split(self.value.forward(&h)?)?;
        if let Some(cache) = cache {
            if let Some((past_k, past_v)) = cache.layers.get(index) {
                k = Tensor::cat(&[past_k, &k], 1)?;
                v = Tensor::cat(&[past_v, &v], 1)?;
                cache.layers[index] = (k.clone(), v.clone());
            } else {
                cache.layers.push((k.clone(), v.clone()));
            }
        }
        let mut scores = q.matmul(&k.transpose(D::Minus2, D::Minus1)?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let heard = ops::softmax_last_dim(&scores)?.matmul(&v)?;
        let x = (x + self.out.forward(&heard.transpose(0, 1)?.reshape((n, width))?)?)?;
        let h = activation.of(&self.fc1.forward(&self.ffn_norm.forward(&x)?)?)?;
        Ok((x + self.fc2.forward(&h)?)?)
    }
}

fn conv(vb: &VarBuilder, input: usize, output: usize, stride: usize) -> Result<Conv1d, EngineError> {
    let weight = vb.get((output, input, 3), "weight")?;
    let bias = vb.get(output, "bias")?;
    Ok(Conv1d::new(weight, Some(bias), Conv1dConfig { padding: 1, stride, ..Default::default() }))
}

fn layer_norm(vb: &VarBuilder, width: usize) -> Result<LayerNorm, EngineError> {
    Ok(LayerNorm::new(vb.get(width, "weight")?, vb.get(width, "bias")?, NORM_EPS))
}

#[cfg(test)]
mod tests;
