//! Whisper's log-mel features, shared by speech-to-text, the omni model and the end-of-turn model.
//!
//! Owns the FFT plan, the window and the filterbank, all computed here from their formulas. Runs on whichever thread
//! calls it. Invariant: a result depends on the given samples alone; nothing is carried from call to call.
//!
//! Source: `WhisperFeatureExtractor` of Hugging Face transformers (80 bins on the Slaney scale from 0 to 8 kHz with
//! Slaney's area normalisation, periodic Hann of 400, hop 160, centred frames). It pads with zeros to a fixed length
//! before the transform; here only the frames that see sound are computed, with the same result for them.

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use std::f64::consts::PI;
use std::sync::Arc;

/// Mel bins of a frame.
pub const BINS: usize = 80;
/// Samples between two frames: 10 ms at 16 kHz.
pub const HOP: usize = 160;
/// Samples the Whisper models were trained to hear at once: 30 s.
pub const WHISPER_SAMPLES: usize = 30 * 16_000;
/// Samples the end-of-turn model hears at once: 8 s.
pub const SMART_TURN_SAMPLES: usize = 8 * 16_000;

const N_FFT: usize = 400;
const SPECTRUM: usize = N_FFT / 2 + 1;
const NYQUIST: f64 = 8_000.0;
/// What `WhisperFeatureExtractor` adds to a variance before the root.
const VARIANCE_FLOOR: f64 = 1e-7;

/// Log-mel features of a stretch of sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Mel {
    /// `[BINS, frames]`, row after row (all frames of the lowest bin first).
    pub data: Vec<f32>,
    /// How many frames: one per started 10 ms.
    pub frames: usize,
}

/// One triangular filter: the first spectrum bin it weighs, and its weights.
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

/// Computes log-mel features. Keep one and use it again: it holds the plan and the scratch space.
pub struct LogMel {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    filters: Vec<Filter>,
    frame: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Default for LogMel {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMel {
    pub fn new() -> Self {
        let fft = RealFftPlanner::<f64>::new().plan_fft_forward(N_FFT);
        let window = (0..N_FFT).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f64 / N_FFT as f64).cos()).collect();
        Self {
            frame: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            window,
            filters: slaney_filters(),
            fft,
        }
    }

    /// Features of `pcm` (16 kHz mono) for Whisper and the omni model: `ceil(pcm.len() / 160)` frames, as if the sound
    /// were followed by silence up to 30 s. The range is the chunk's own: 8 decades below its loudest bin.
    pub fn whisper(&mut self, pcm: &[f32]) -> Mel {
        let pcm: Vec<f64> = pcm.iter().map(|&s| f64::from(s)).collect();
        self.features(&pcm, WHISPER_SAMPLES)
    }

    /// Features of the last 8 s of `pcm` (16 kHz mono) for the end-of-turn model: always 800 frames; shorter sound is
    /// preceded by silence. As its feature extractor is told to (`chunk_length=8`, `do_normalize=True`), the 8 s,
    /// silence included, are first brought to mean 0 and variance 1.
    pub fn smart_turn(&mut self, pcm: &[f32]) -> Mel {
        let heard = &pcm[pcm.len().saturating_sub(SMART_TURN_SAMPLES)..];
        let mut window = vec![0.0; SMART_TURN_SAMPLES - heard.len()];
        window.extend(heard.iter().map(|&s| f64::from(s)));
        let mean = window.iter().sum::<f64>() / window.len() as f64;
        let variance = window.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / window.len() as f64;
        let scale = 1.0 / (variance + VARIANCE_FLOOR).sqrt();
        for s in &mut window {
            *s = (*s - mean) * scale;
        }
        self.features(&window, SMART_TURN_SAMPLES)
    }

    /// `padded` is the length with the zeros that follow; both its ends are mirrored, as a centred transform does.
    fn features(&mut self, pcm: &[f64], padded: usize) -> Mel {
        let frames = pcm.len().div_ceil(HOP);
        let padded = padded.max(pcm.len());
        let mut data = vec![0.0_f64; BINS * frames];
        for t in 0..frames {
            self.load_frame(pcm, padded, t);
            // Only a wrong buffer length makes the transform fail, and all three were made by its plan.
            if self.fft.process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch).is_err() {
                unreachable!("the buffers were made by the plan");
            }
            for (bin, filter) in self.filters.iter().enumerate() {
                let seen = &self.spectrum[filter.first..];
                let power: f64 = filter.weights.iter().zip(seen).map(|(w, c)| w * c.norm_sqr()).sum();
                data[bin * frames + t] = power.max(1e-10).log10();
            }
        }
        let floor = data.iter().copied().fold(f64::NEG_INFINITY, f64::max) - 8.0;
        let data = data.into_iter().map(|v| ((v.max(floor) + 4.0) / 4.0) as f32).collect();
        Mel { data, frames }
    }

    /// Puts the windowed frame centred on sample `t * HOP` into `self.frame`.
    fn load_frame(&mut self, pcm: &[f64], padded: usize, t: usize) {
        let start = (t * HOP) as isize - (N_FFT / 2) as isize;
        let last = padded as isize - 1;
        for (i, (out, w)) in self.frame.iter_mut().zip(&self.window).enumerate() {
            let at = start + i as isize;
            let mirrored = if at < 0 {
                -at
            } else if at > last {
                2 * last - at
            } else {
                at
            };
            *out = pcm.get(mirrored as usize).map_or(0.0, |s| s * w);
        }
    }
}

/// The triangular filters, each normalised to the area 2 / width (Slaney, Auditory Toolbox, 1998; as librosa does).
fn slaney_filters() -> Vec<Filter> {
    let top = mel_of(NYQUIST);
    let edges: Vec<f64> = (0..BINS + 2).map(|i| hertz_of(top * i as f64 / (BINS + 1) as f64)).collect();
    let hertz = |bin: usize| NYQUIST * bin as f64 / (SPECTRUM - 1) as f64;
    edges
        .windows(3)
        .map(|e| {
            let weight = |bin| {
                let up = (hertz(bin) - e[0]) / (e[1] - e[0]);
                let down = (e[2] - hertz(bin)) / (e[2] - e[1]);
                up.min(down).max(0.0) * 2.0 / (e[2] - e[0])
            };
            let first = (0..SPECTRUM).find(|&b| weight(b) > 0.0).unwrap_or(0);
            let weights = (first..SPECTRUM).map(weight).take_while(|&w| w > 0.0).collect();
            Filter { first, weights }
        })
        .collect()
}

/// Slaney's scale: linear below 1 kHz (15 mels), logarithmic above, 27 mels for a factor of 6.4.
fn mel_of(hertz: f64) -> f64 {
    if hertz < 1000.0 { hertz * 3.0 / 200.0 } else { 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4_f64.ln() }
}

fn hertz_of(mel: f64) -> f64 {
    if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp() }
}

#[cfg(test)]
mod tests;
