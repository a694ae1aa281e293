//! Convolutions over time, as the DVAE and Vocos use them: sound as rows, `[frames, channels]`.
//!
//! Owns weights only; runs on the engine thread, in f32. A depth-wise convolution is a few shifted products, and a full
//! one a single matrix product over neighbouring frames: both are quick on every device, which candle's grouped
//! `conv1d` is not. Invariant: "same" padding with zeros, so `n` frames in are `n` frames out.

use super::weights::Weights;
use crate::engine::EngineError;
use crate::engine::tensor_source::TensorSource;
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::LayerNorm;

/// `LayerNorm`'s epsilon in both models.
pub const NORM_EPS: f64 = 1e-6;

/// A layer norm over channels.
pub fn layer_norm(
    weights: &Weights,
    name: &str,
    width: usize,
    device: &Device,
) -> std::result::Result<LayerNorm, EngineError> {
    let weight = weights.get_f32(&format!("{name}.weight"), &[width], device)?;
    let bias = weights.get_f32(&format!("{name}.bias"), &[width], device)?;
    Ok(LayerNorm::new(weight, bias, NORM_EPS))
}

/// `x` `[n, in]` times a weight kept as `[in, out]`, plus a bias when there is one.
#[derive(Clone, Debug)]
pub struct Product {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Product {
    /// Reads `{name}.weight` `[output, input]` and `{name}.bias` `[output]`.
    pub fn load(
        weights: &Weights,
        name: &str,
        input: usize,
        output: usize,
        device: &Device,
    ) -> std::result::Result<Self, EngineError> {
        let weight = weights.get_f32(&format!("{name}.weight"), &[output, input], device)?;
        let bias = weights.get_f32(&format!("{name}.bias"), &[output], device)?;
        Ok(Self { weight: weight.t()?.contiguous()?, bias: Some(bias) })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A convolution over time with an odd kernel and no dilation.
#[derive(Clone, Debug)]
pub struct Conv {
    product: Product,
    kernel: usize,
}

impl Conv {
    /// Reads `{name}.weight` `[output, input, kernel]` and, when the checkpoint has one, `{name}.bias` `[output]`.
    pub fn load(
        weights: &Weights,
        name: &str,
        (input, output, kernel): (usize, usize, usize),
        device: &Device,
    ) -> std::result::Result<Self, EngineError> {
        let weight = weights.get_f32(&format!("{name}.weight"), &[output, input, kernel], device)?;
        let bias_name = format!("{name}.bias");
        let bias = if weights.has(&bias_name) { Some(weights.get_f32(&bias_name, &[output], device)?) } else { None };
        // [output, input, kernel] -> [kernel * input, output], the order in which `forward` lays frames side by side.
        let weight = weight.permute((2, 1, 0))?.contiguous()?.reshape((kernel * input, output))?;
        Ok(Self { product: Product { weight, bias }, kernel })
    }

    /// `[n, input]` to `[n, output]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.kernel == 1 {
            return self.product.forward(x);
        }
        let n = x.dim(0)?;
        let half = self.kernel / 2;
        let padded = x.pad_with_zeros(0, half, half)?;
        let shifted = (0..self.kernel).map(|k| padded.narrow(0, k, n)).collect::<Result<Vec<_>>>()?;
        self.product.forward(&Tensor::cat(&shifted, 1)?)
    }
}

/// One ConvNeXt block (Liu et al., 2022, in one dimension): depth-wise convolution, norm, two products with GELU
/// between, a scale per channel, and the input added.
#[derive(Clone, Debug)]
pub struct ConvNeXt {
    /// One row per tap of the kernel, `[1, channels]` each.
    taps: Vec<Tensor>,
    bias: Tensor,
    dilation: usize,
    norm: LayerNorm,
    widen: Product,
    narrow: Product,
    scale: Tensor,
}

impl ConvNeXt {
    /// Reads the block `{name}.…`; `scale` is what the checkpoint calls the last factor (`coef` or `gamma`).
    pub fn load(
        weights: &Weights,
        name: &str,
        scale: &str,
        dilation: usize,
        device: &Device,
    ) -> std::result::Result<Self, EngineError> {
        let [width, _, kernel] = weights.shape_of(&format!("{name}.dwconv.weight"))?;
        let [inner, _] = weights.shape_of(&format!("{name}.pwconv1.weight"))?;
        let taps = weights.get_f32(&format!("{name}.dwconv.weight"), &[width, 1, kernel], device)?;
        let taps = taps.squeeze(1)?.t()?.contiguous()?;
        Ok(Self {
            taps: (0..kernel).map(|k| taps.narrow(0, k, 1)).collect::<Result<_>>()?,
            bias: weights.get_f32(&format!("{name}.dwconv.bias"), &[width], device)?,
            dilation,
            norm: layer_norm(weights, &format!("{name}.norm"), width, device)?,
            widen: Product::load(weights, &format!("{name}.pwconv1"), width, inner, device)?,
            narrow: Product::load(weights, &format!("{name}.pwconv2"), inner, width, device)?,
            scale: weights.get_f32(&format!("{name}.{scale}"), &[width], device)?,
        })
    }

    /// `[n, channels]` to the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dim(0)?;
        let reach = self.taps.len() / 2 * self.dilation;
        let padded = x.pad_with_zeros(0, reach, reach)?;
        let mut y = x.zeros_like()?.broadcast_add(&self.bias)?;
        for (k, tap) in self.taps.iter().enumerate() {
            y = (y + padded.narrow(0, k * self.dilation, n)?.broadcast_mul(tap)?)?;
        }
        let y = self.widen.forward(&self.norm.forward(&y)?)?.gelu_erf()?;
        x + self.narrow.forward(&y)?.broadcast_mul(&self.scale)?
    }
}
