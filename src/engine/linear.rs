//! Linear layers over dense or quantised weights, and several of them as one.
//!
//! Owns weights only; used on the engine thread. A model multiplies the same input by q, k and v, and by gate and up:
//! [`Stacked`] lays such weights one under the other at load, so that each step runs one product instead of two or three.
//! Invariants: activations keep their precision; on the CPU dense weights are f32 (half-precision weights would be
//! widened at every call there).

use super::EngineError;
use super::packed::Packed;
use super::tensor_source::TensorSource;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use std::borrow::Cow;
use std::sync::Arc;

/// How weights are to be held: the precision of activations and dense weights, where, and whether linear weights are
/// quantised when loaded.
#[derive(Clone, Debug)]
pub struct Placement {
    dtype: DType,
    device: Device,
    quantize: Option<GgmlDType>,
}

impl Placement {
    /// `dtype` is the precision of activations and dense weights; on the CPU it is always taken as f32.
    pub fn new(dtype: DType, device: &Device, quantize: Option<GgmlDType>) -> Self {
        let dtype = if device.is_cpu() { DType::F32 } else { dtype };
        Self { dtype, device: device.clone(), quantize }
    }

    /// The precision of activations and dense weights.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Moves a tensor to its place.
    pub fn dense(&self, tensor: &Tensor) -> Result<Tensor, EngineError> {
        Ok(tensor.to_device(&self.device)?.to_dtype(self.dtype)?)
    }
}

#[derive(Clone, Debug)]
enum Weight {
    /// `[out, in]`
    Dense(Tensor),
    /// `[out, in]`
    Quantised(Arc<QTensor>),
    /// In the order of our own kernel.
    Packed(Arc<Packed>),
}

/// A weight `[out, in]` as it lies in memory, for kernels that read it in their own way.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a> {
    Dense(&'a Tensor),
    Quantised(&'a Arc<QTensor>),
}

/// `y = x Wᵀ (+ b)`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    /// How many columns of zeros the weight has been given at its right, and the inputs must be given too.
    padding: usize,
}

impl Linear {
    /// A dense layer from `weight` `[out, in]` and `bias` `[out]`.
    pub fn dense(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Dense(weight), bias, padding: 0 }
    }

    /// A quantised layer from `weight` `[out, in]`; stored half- and full-precision kinds become dense in `dtype`.
    pub fn quantised(weight: Arc<QTensor>, bias: Option<Tensor>, dtype: DType) -> Result<Self, EngineError> {
        let (weight, padding) = match weight.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                (Weight::Dense(weight.dequantize(&weight.device())?.to_dtype(dtype)?), 0)
            }
            _ => {
                let (weight, padding) = widen(weight)?;
                (Weight::Quantised(weight), padding)
            }
        };
        Ok(Self { weight, bias, padding })
    }

    /// Loads `{name}.weight` `[out, in]` and, when `bias`, `{name}.bias` `[out]`, quantising if the placement says so.
    ///
    /// # Errors
    /// Names the tensor when it is missing or of another shape, or when `in` does not divide into quantisation blocks.
    pub fn load(
        source: &dyn TensorSource,
        name: &str,
        (outputs, inputs): (usize, usize),
        bias: bool,
        place: &Placement,
    ) -> Result<Self, EngineError> {
        let weight_name = format!("{name}.weight");
        let weight = source.get(&weight_name, &[outputs, inputs])?;
        let bias = match bias {
            true => Some(place.dense(&source.get(&format!("{name}.bias"), &[outputs])?)?),
            false => None,
        };
        match place.quantize {
            Some(kind) if inputs % kind.block_size() != 0 => Err(EngineError::Unsupported(format!(
                "`{weight_name}` is {inputs} wide, which does not divide into {kind:?} blocks of {}: choose another quantisation",
                kind.block_size()
            ))),
            Some(kind) => Self::quantised(Arc::new(quantise(&weight, kind, &place.device)?), bias, place.dtype),
            None => Ok(Self::dense(place.dense(&weight)?, bias)),
        }
    }

    /// How many outputs.
    pub fn outputs(&self) -> Result<usize, EngineError> {
        Ok(match &self.weight {
            Weight::Dense(w) => w.dim(0)?,
            Weight::Quantised(w) => w.shape().dims2()?.0,
            Weight::Packed(w) => w.rows(),
        })
    }

    /// A dense layer, or one quantised here, from `weight` `[out, in]` and `bias` `[out]`.
    pub fn new(weight: &Tensor, bias: Option<Tensor>, quantize: Option<GgmlDType>) -> Result<Self, EngineError> {
        match quantize {
            Some(kind) => Self::quantised(Arc::new(QTensor::quantize(weight, kind)?), bias, weight.dtype()),
            None => Ok(Self::dense(weight.clone(), bias)),
        }
    }

    /// Reads the tensors `weight` and, when `bias`, `bias` at `vb`.
    pub fn read(
        vb: &VarBuilder,
        inputs: usize,
        outputs: usize,
        bias: bool,
        quantize: Option<GgmlDType>,
    ) -> Result<Self, EngineError> {
        let weight = vb.get((outputs, inputs), "weight")?;
        let bias = if bias { Some(vb.get(outputs, "bias")?) } else { None };
        Self::new(&weight, bias, quantize)
    }

    /// The weight `[out, in]` as it lies in memory, and the bias; `None` where it has been padded or reordered.
    pub fn plain(&self) -> Option<(Matrix<'_>, Option<&Tensor>)> {
        let weight = match &self.weight {
            Weight::Dense(w) => Matrix::Dense(w),
            Weight::Quantised(w) if self.padding == 0 => Matrix::Quantised(w),
            Weight::Quantised(_) | Weight::Packed(_) => return None,
        };
        Some((weight, self.bias.as_ref()))
    }

    /// `x` `[n, in]` to `[n, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let y = match &self.weight {
            Weight::Dense(w) => x.matmul(&w.t()?)?,
            Weight::Quantised(w) if self.padding > 0 => {
                x.pad_with_zeros(1, 0, self.padding)?.contiguous()?.apply_op1_no_bwd(w.as_ref())?
            }
            Weight::Quantised(w) => x.contiguous()?.apply_op1_no_bwd(w.as_ref())?,
            Weight::Packed(w) => w.forward(x)?,
        };
        Ok(match &self.bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }

    /// This layer in the order of our own kernel, where that is the quicker one. For layers that are complete: packed
    /// weights are not stacked any more.
    pub fn packed(self) -> Result<Self, EngineError> {
        let Weight::Quantised(weight) = &self.weight else { return Ok(self) };
        Ok(match Packed::new(weight)? {
            Some(packed) => Linear { weight: Weight::Packed(Arc::new(packed)), ..self },
            None => self,
        })
    }

    /// One layer that computes `self` and `below` side by side; `None` when their weights are of different kinds.
    fn stack(&self, below: &Linear) -> Result<Option<Linear>, EngineError> {
        let weight = match (&self.weight, &below.weight) {
            (Weight::Dense(a), Weight::Dense(b)) => Weight::Dense(Tensor::cat(&[a, b], 0)?),
            (Weight::Quantised(a), Weight::Quantised(b)) if a.dtype() == b.dtype() && self.padding == below.padding => {
                let ((n_a, width), (n_b, _)) = (a.shape().dims2()?, b.shape().dims2()?);
                let bytes = [a.data()?, b.data()?].concat();
                let storage = QStorage::from_data(Cow::Owned(bytes), &a.device(), a.dtype())?;
                Weight::Quantised(Arc::new(QTensor::new(storage, (n_a + n_b, width))?))
            }
            _ => return Ok(None),
        };
        let bias = match (&self.bias, &below.bias) {
            (None, None) => None,
            (Some(a), Some(b)) => Some(Tensor::cat(&[a, b], 0)?),
            _ => return Ok(None),
        };
        Ok(Some(Linear { weight, bias, padding: self.padding }))
    }
}

/// Quantises `weight` `[out, in]` on all cores: billions of weights take one core many minutes. `in` must divide into
/// blocks.
fn quantise(weight: &Tensor, kind: GgmlDType, device: &Device) -> Result<QTensor, EngineError> {
    let (rows, width) = weight.dims2()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = rows.div_ceil(cores).max(1);
    let part = |from: usize| -> candle_core::Result<Vec<u8>> {
        // A copy: candle quantises from the start of the storage, wherever a view of it begins.
        let rows = weight.narrow(0, from, share.min(rows - from))?.to_dtype(DType::F32)?.force_contiguous()?;
        Ok(QTensor::quantize(&rows, kind)?.data()?.into_owned())
    };
    let parts: Vec<candle_core::Result<Vec<u8>>> = std::thread::scope(|scope| {
        let part = &part;
        let workers: Vec<_> = (0..rows).step_by(share).map(|from| scope.spawn(move || part(from))).collect();
        // A worker panics only if candle does, and then this thread goes the same way.
        workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut bytes = Vec::with_capacity(rows * width / kind.block_size() * kind.type_size());
    for part in parts {
        bytes.extend(part?);
    }
    Ok(QTensor::new(QStorage::from_data(Cow::Owned(bytes), device, kind)?, (rows, width))?)
}

/// The width that `candle`'s vectorised Q8_0 kernel for x86 works in.
const KERNEL_WIDTH: usize = 256;

/// Gives a Q8_0 weight on an x86 CPU columns of zeros up to the next width its quick kernel takes (models 896 wide would
/// otherwise fall to a kernel several times slower at prefill), and says how many.
fn widen(weight: Arc<QTensor>) -> Result<(Arc<QTensor>, usize), EngineError> {
    let (rows, width) = weight.shape().dims2()?;
    let padding = width.next_multiple_of(KERNEL_WIDTH) - width;
    let helps = cfg!(target_arch = "x86_64") && weight.device().is_cpu() && weight.dtype() == GgmlDType::Q8_0;
    if !helps || padding == 0 || padding * 4 > width {
        return Ok((weight, 0));
    }
    let bytes_of = |columns: usize| columns / GgmlDType::Q8_0.block_size() * GgmlDType::Q8_0.type_size();
    let data = weight.data()?;
    let mut wide = Vec::with_capacity(rows * bytes_of(width + padding));
    for row in data.chunks_exact(bytes_of(width)) {
        wide.extend_from_slice(row);
        // A block of zero bytes has scale zero: thirty-two zeros.
        wide.resize(wide.len() + bytes_of(padding), 0);
    }
    let storage = QStorage::from_data(Cow::Owned(wide), &weight.device(), GgmlDType::Q8_0)?;
    Ok((Arc::new(QTensor::new(storage, (rows, width + padding))?), padding))
}

/// Several linear layers over the same input; neighbours of one kind are computed as one product.
#[derive(Clone, Debug)]
pub struct Stacked {
    products: Vec<Linear>,
    outputs: Vec<usize>,
}

impl Stacked {
    pub fn new(layers: Vec<Linear>) -> Result<Self, EngineError> {
        let outputs = layers.iter().map(Linear::outputs).collect::<Result<Vec<_>, _>>()?;
        let mut products: Vec<Linear> = Vec::new();
        for layer in layers {
            let joined = match products.last() {
                Some(above) => above.stack(&layer)?,
                None => None,
            };
            match joined {
                Some(joined) => {
                    products.pop();
                    products.push(joined);
                }
                None => products.push(layer),
            }
        }
        let products = products.into_iter().map(Linear::packed).collect::<Result<_, _>>()?;
        Ok(Self { products, outputs })
    }

    /// The weight of all layers, one below the other, and the bias, when they are one and lie plainly in memory.
    pub fn plain(&self) -> Option<(Matrix<'_>, Option<&Tensor>)> {
        match self.products.as_slice() {
            [all] => all.plain(),
            _ => None,
        }
    }

    /// `x` `[n, in]` to one `[n, out_i]` per layer, in the order given to [`new`](Self::new). The results may be views
    /// that are not contiguous.
    pub fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>, EngineError> {
        let mut wanted = self.outputs.iter();
        let mut results = Vec::with_capacity(self.outputs.len());
        for product in &self.products {
            let y = product.forward(x)?;
            let width = y.dim(1)?;
            let mut from = 0;
            while from < width {
                let Some(&n) = wanted.next() else { break };
                results.push(y.narrow(1, from, n)?);
                from += n;
            }
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize, k: usize, step: f32) -> Tensor {
        let data: Vec<f32> = (0..n * k).map(|i| (i as f32 * step).sin()).collect();
        Tensor::from_vec(data, (n, k), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_dense_layer_is_x_times_w_transposed_plus_b() {
        let w = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[10f32, 20., 30.], &Device::Cpu).unwrap();
        let x = Tensor::new(&[[1f32, -1.]], &Device::Cpu).unwrap();
        let y = Linear::dense(w, Some(b)).forward(&x).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[9., 19., 29.]]);
    }

    #[test]
    fn stacking_gives_what_the_layers_give_one_by_one() {
        for kind in [None, Some(GgmlDType::Q8_0)] {
            let layer = |n: usize, step: f32| {
                let w = ramp(n, 64, step);
                match kind {
                    None => Linear::dense(w, None),
                    Some(k) => {
                        Linear::quantised(Arc::new(QTensor::quantize(&w, k).unwrap()), None, DType::F32).unwrap()
                    }
                }
            };
            let layers = vec![layer(32, 0.37), layer(16, 0.11), layer(16, 0.73)];
            let x = ramp(3, 64, 0.05);
            let apart: Vec<_> = layers.iter().map(|l| l.forward(&x).unwrap().to_vec2::<f32>().unwrap()).collect();
            let stacked = Stacked::new(layers).unwrap();
            assert_eq!(stacked.products.len(), 1);
            let together: Vec<_> = stacked.forward(&x).unwrap().iter().map(|y| y.to_vec2::<f32>().unwrap()).collect();
            for (a, b) in apart.iter().flatten().flatten().zip(together.iter().flatten().flatten()) {
                assert!((a - b).abs() < 1e-5, "{kind:?}: {a} against {b}");
            }
            assert_eq!(apart.iter().map(|a| a[0].len()).collect::<Vec<_>>(), [32, 16, 16]);
            assert_eq!(together.iter().map(|a| a[0].len()).collect::<Vec<_>>(), [32, 16, 16]);
        }
    }

    #[test]
    fn a_widened_weight_computes_the_same() {
        let w = ramp(48, 896, 0.013);
        let x = ramp(5, 896, 0.07);
        let quantised = Arc::new(QTensor::quantize(&w, GgmlDType::Q8_0).unwrap());
        let exact = x.matmul(&quantised.dequantize(&Device::Cpu).unwrap().t().unwrap()).unwrap();
        let layer = Linear::quantised(quantised, None, DType::F32).unwrap();
        let apart = (layer.forward(&x).unwrap() - &exact).unwrap().sqr().unwrap().mean_all().unwrap();
        let size = exact.sqr().unwrap().mean_all().unwrap();
        let relative = (apart.to_scalar::<f32>().unwrap() / size.to_scalar::<f32>().unwrap()).sqrt();
        // What remains is the rounding of the inputs to 8 bits.
        assert!(relative < 0.01, "{relative}");
        assert_eq!(layer.padding, if cfg!(target_arch = "x86_64") { 128 } else { 0 });
    }

    #[test]
    fn quantising_on_all_cores_gives_what_one_core_gives() {
        for (rows, width, kind) in [(1, 256, GgmlDType::Q4K), (37, 512, GgmlDType::Q4K), (130, 96, GgmlDType::Q8_0)] {
            let w = ramp(rows, width, 0.0171);
            let found = quantise(&w, kind, &Device::Cpu).unwrap();
            let expected = QTensor::quantize(&w, kind).unwrap();
            assert_eq!(found.shape(), expected.shape());
            assert!(found.data().unwrap() == expected.data().unwrap(), "{rows} rows of {width} as {kind:?}");
        }
    }

    #[test]
    fn different_kinds_are_not_stacked() {
        let q = |kind| {
            Linear::quantised(Arc::new(QTensor::quantize(&ramp(16, 64, 0.3), kind).unwrap()), None, DType::F32).unwrap()
        };
        let stacked = Stacked::new(vec![q(GgmlDType::Q8_0), q(GgmlDType::Q8_0), q(GgmlDType::Q4_0)]).unwrap();
        assert_eq!(stacked.products.len(), 2);
        assert_eq!(stacked.forward(&ramp(1, 64, 0.2)).unwrap().len(), 3);
    }

    #[test]
    fn a_width_that_does_not_fit_the_blocks_is_refused_by_name() {
        let source = std::collections::HashMap::from([("w.weight".to_string(), ramp(4, 896 / 7, 0.1))]);
        let place = Placement::new(DType::F32, &Device::Cpu, Some(GgmlDType::Q4K));
        let err = Linear::load(&source, "w", (4, 128), false, &place).unwrap_err().to_string();
        assert!(err.contains("w.weight") && err.contains("256"), "{err}");
    }
}
