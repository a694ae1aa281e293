//! Audio codes to mel spectrogram: the decoding half of the DVAE with its grouped finite scalar quantiser (`tts.dvae.`).
//!
//! Owns weights only; runs on the engine thread, in f32. Invariant: one audio frame (4 codes) is two mel frames.
//! Sources: ChatTTS's `dvae.py` (names and order); FSQ: Mentzer et al., 2023 (arXiv 2309.15505).

use super::convnext::{Conv, ConvNeXt, Product};
use super::weights::Weights;
use crate::engine::EngineError;
use candle_core::{Device, Result, Tensor};

/// Levels of each of the quantiser's dimensions.
const LEVELS: u32 = 5;
/// How much smaller the second residual's codes are: `(levels - 1)^-1`.
const RESIDUAL_SCALE: f32 = 0.25;

/// The point that code `n` stands for, a value of -1, -0.5, 0, 0.5 or 1 in each of `dimensions`.
pub fn fsq_point(n: u32, dimensions: usize) -> Vec<f32> {
    let mut rest = n;
    let half = (LEVELS / 2) as f32;
    (0..dimensions)
        .map(|_| {
            let digit = rest % LEVELS;
            rest /= LEVELS;
            (digit as f32 - half) / half
        })
        .collect()
}

/// The decoding half of the DVAE.
#[derive(Clone, Debug)]
pub struct Dvae {
    /// One projection per group, from the quantiser's dimensions to the decoder's width.
    project_out: Vec<Product>,
    /// Dimensions of the quantiser.
    dimensions: usize,
    conv_in: [Conv; 2],
    blocks: Vec<ConvNeXt>,
    conv_out: Conv,
    out_conv: Conv,
    /// `[mel bins]`
    coef: Tensor,
    device: Device,
}

impl Dvae {
    /// Loads `tts.dvae.`; sizes are those of the checkpoint, but for the `mel_bins` that the vocoder expects.
    pub fn load(weights: &Weights, mel_bins: usize, device: &Device) -> std::result::Result<Self, EngineError> {
        let quantiser = "tts.dvae.vq_layer.quantizer.rvqs.";
        let groups = weights.count(quantiser, ".project_out.weight").max(1);
        let [width, dimensions] = weights.shape_of(&format!("{quantiser}0.project_out.weight"))?;
        let d = "tts.dvae.decoder";
        let [bottleneck, _, first] = weights.shape_of(&format!("{d}.conv_in.0.weight"))?;
        let [hidden, _, second] = weights.shape_of(&format!("{d}.conv_in.2.weight"))?;
        let [output, _, _] = weights.shape_of(&format!("{d}.conv_out.weight"))?;
        let [_, _, last] = weights.shape_of("tts.dvae.out_conv.weight")?;
        Ok(Self {
            project_out: (0..groups)
                .map(|g| Product::load(weights, &format!("{quantiser}{g}.project_out"), dimensions, width, device))
                .collect::<std::result::Result<_, _>>()?,
            dimensions,
            conv_in: [
                Conv::load(weights, &format!("{d}.conv_in.0"), (width, bottleneck, first), device)?,
                Conv::load(weights, &format!("{d}.conv_in.2"), (bottleneck, hidden, second), device)?,
            ],
            blocks: (0..weights.count(&format!("{d}.decoder_block."), ".coef"))
                .map(|i| ConvNeXt::load(weights, &format!("{d}.decoder_block.{i}"), "coef", 2, device))
                .collect::<std::result::Result<_, _>>()?,
            conv_out: Conv::load(weights, &format!("{d}.conv_out"), (hidden, output, 1), device)?,
            out_conv: Conv::load(weights, "tts.dvae.out_conv", (output, mel_bins, last), device)?,
            coef: weights.get_f32("tts.dvae.coef", &[1, mel_bins, 1], device)?.flatten_all()?,
            device: device.clone(),
        })
    }

    /// The features of `frames` (each one code per codebook), group by group: `[groups][n, width]`.
    ///
    /// The codebooks of a frame are in the order group 0 residual 0, group 0 residual 1, group 1 residual 0, …
    pub fn features(&self, frames: &[Vec<u32>]) -> Result<Vec<Tensor>> {
        let groups = self.project_out.len();
        let codebooks = frames.first().map_or(groups, Vec::len);
        let residuals = codebooks / groups;
        let largest = LEVELS.pow(self.dimensions as u32);
        let mut features = Vec::with_capacity(groups);
        for (group, project) in self.project_out.iter().enumerate() {
            let mut points = Vec::with_capacity(frames.len() * self.dimensions);
            for frame in frames {
                let mut point = vec![0.0; self.dimensions];
                let mut scale = 1.0;
                for &code in frame.iter().skip(group * residuals).take(residuals) {
                    if code >= largest {
                        candle_core::bail!("audio code {code} is not one of the quantiser's {largest}");
                    }
                    for (sum, c) in point.iter_mut().zip(fsq_point(code, self.dimensions)) {
                        *sum += scale * c;
                    }
                    scale *= RESIDUAL_SCALE;
                }
                points.extend(point);
            }
            let points = Tensor::from_vec(points, (frames.len(), self.dimensions), &self.device)?;
            features.push(project.forward(&points)?);
        }
        Ok(features)
    }

    /// The mel spectrogram of `frames`, `[2 * frames, mel bins]`.
    pub fn decode(&self, frames: &[Vec<u32>]) -> Result<Tensor> {
        let features = self.features(frames)?;
        // The groups take turns in time: feature 0 of frame 0, feature 1 of frame 0, feature 0 of frame 1, …
        let mut x = Tensor::stack(&features, 1)?.flatten(0, 1)?;
        let [first, second] = &self.conv_in;
        x = second.forward(&first.forward(&x)?.gelu_erf()?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.out_conv.forward(&self.conv_out.forward(&x)?)?.broadcast_mul(&self.coef)
    }
}
