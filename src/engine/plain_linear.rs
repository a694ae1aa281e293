//! A linear layer whose weight is kept plain or quantised. Immutable once loaded; runs on the engine thread.
//!
//! On a CPU a decoder step reads every weight once, so its time is the weights' size: `Q8_0` reads a quarter of `f32`,
//! and candle has a fast kernel for it when the input width is a multiple of 256 and the output width one of 16.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
enum Weight {
    /// Transposed view `[in, out]` of the checkpoint's `[out, in]`.
    Plain(Tensor),
    Quantised(QMatMul),
}

impl Linear {
    /// From `weight` `[out, in]` and, when the layer has one, `bias` `[out]`.
    pub fn new(weight: &Tensor, bias: Option<Tensor>, quantise: Option<GgmlDType>) -> Result<Self> {
        let weight = match quantise {
            Some(kind) => Weight::Quantised(QMatMul::from_qtensor(QTensor::quantize(weight, kind)?)?),
            None => Weight::Plain(weight.t()?),
        };
        Ok(Self { weight, bias })
    }

    /// Reads the tensors `weight` and `bias` at `vb`.
    pub fn load(vb: &VarBuilder, input: usize, output: usize, bias: bool, quantise: Option<GgmlDType>) -> Result<Self> {
        let weight = vb.get((output, input), "weight")?;
        let bias = if bias { Some(vb.get(output, "bias")?) } else { None };
        Self::new(&weight, bias, quantise)
    }

    /// `x` is `[n, in]`, contiguous; gives `[n, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.weight {
            Weight::Plain(w) => x.matmul(w)?,
            Weight::Quantised(w) => w.forward(x)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}
