//! Mel spectrogram to sound: Vocos (`assets/Vocos.pt`).
//!
//! Owns weights and an inverse FFT plan; runs on the engine thread, in f32. Invariant: `n` mel frames are exactly
//! `256 n` samples at 24 kHz.
//! Sources: Siuzdak, 2023 (arXiv 2306.00814); `vocos` 0.1.0, with its inverse transform's padding "same".

use super::convnext::{Conv, ConvNeXt, Product, layer_norm};
use super::weights::Weights;
use crate::engine::EngineError;
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::LayerNorm;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner};
use std::f64::consts::PI;
use std::sync::Arc;

/// The loudest magnitude a bin may have.
const LOUDEST: f32 = 100.0;

/// A loaded vocoder.
pub struct Vocos {
    embed: Conv,
    norm: LayerNorm,
    blocks: Vec<ConvNeXt>,
    final_norm: LayerNorm,
    head: Product,
    istft: Istft,
}

impl Vocos {
    /// Loads a vocoder for `mel_bins`; its other sizes are those of the tensors.
    pub fn load(weights: &Weights, mel_bins: usize, device: &Device) -> std::result::Result<Self, EngineError> {
        let [width, _, kernel] = weights.shape_of("backbone.embed.weight")?;
        let [output, _] = weights.shape_of("head.out.weight")?;
        if output < 4 || output % 4 != 2 {
            return Err(EngineError::Model(format!(
                "tensor `head.out.weight` of the vocoder gives {output} values, expected a magnitude and a phase for an odd number of bins: pull the model again"
            )));
        }
        Ok(Self {
            embed: Conv::load(weights, "backbone.embed", (mel_bins, width, kernel), device)?,
            norm: layer_norm(weights, "backbone.norm", width, device)?,
            blocks: (0..weights.count("backbone.convnext.", ".gamma"))
                .map(|i| ConvNeXt::load(weights, &format!("backbone.convnext.{i}"), "gamma", 1, device))
                .collect::<std::result::Result<_, _>>()?,
            final_norm: layer_norm(weights, "backbone.final_layer_norm", width, device)?,
            head: Product::load(weights, "head.out", width, output, device)?,
            istft: Istft::new(output - 2),
        })
    }

    /// Samples per mel frame.
    pub fn hop(&self) -> usize {
        self.istft.hop
    }

    /// The sound of `mel` `[n, mel bins]`: `n * hop` samples.
    pub fn decode(&mut self, mel: &Tensor) -> Result<Vec<f32>> {
        let mut x = self.norm.forward(&self.embed.forward(mel)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let spectrum = self.head.forward(&self.final_norm.forward(&x)?)?.to_vec2::<f32>()?;
        self.istft.run(&spectrum)
    }
}

/// The inverse short-time transform, overlapping and adding windowed frames.
struct Istft {
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    hop: usize,
    bins: Vec<Complex<f32>>,
    frame: Vec<f32>,
    scratch: Vec<Complex<f32>>,
}

impl Istft {
    fn new(n_fft: usize) -> Self {
        let inverse = RealFftPlanner::<f32>::new().plan_fft_inverse(n_fft);
        Self {
            window: (0..n_fft).map(|i| (0.5 - 0.5 * (2.0 * PI * i as f64 / n_fft as f64).cos()) as f32).collect(),
            hop: n_fft / 4,
            bins: inverse.make_input_vec(),
            frame: inverse.make_output_vec(),
            scratch: inverse.make_scratch_vec(),
            inverse,
        }
    }

    /// `spectrum`: per frame the logarithms of the magnitudes, then the phases.
    fn run(&mut self, spectrum: &[Vec<f32>]) -> Result<Vec<f32>> {
        let n_fft = self.window.len();
        let count = self.bins.len();
        let length = spectrum.len().saturating_sub(1) * self.hop + n_fft;
        let mut sound = vec![0.0f32; length];
        let mut envelope = vec![0.0f32; length];
        for (t, values) in spectrum.iter().enumerate() {
            let (magnitudes, phases) = values.split_at(count);
            for (bin, (m, p)) in self.bins.iter_mut().zip(magnitudes.iter().zip(phases)) {
                let m = m.exp().min(LOUDEST);
                *bin = Complex::new(m * p.cos(), m * p.sin());
            }
            // A real signal has no imaginary part there; the transform in PyTorch ignores what it is given.
            self.bins[0].im = 0.0;
            self.bins[count - 1].im = 0.0;
            self.inverse
                .process_with_scratch(&mut self.bins, &mut self.frame, &mut self.scratch)
                .map_err(|e| candle_core::Error::Msg(format!("the inverse transform failed: {e}")))?;
            let at = t * self.hop;
            for (i, (&x, &w)) in self.frame.iter().zip(&self.window).enumerate() {
                sound[at + i] += x / n_fft as f32 * w;
                envelope[at + i] += w * w;
            }
        }
        let trim = (n_fft - self.hop) / 2;
        let end = length - trim;
        Ok(sound[trim..end].iter().zip(&envelope[trim..end]).map(|(s, e)| s / e).collect())
    }
}
