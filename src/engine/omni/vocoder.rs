//! Audio frames to sound: DVAE and Vocos together, whole or as a stream.
//!
//! Lives on the engine thread. A stretch of frames decodes best with frames on both its sides; [`SoundStream`] gives
//! each new stretch what it has heard before on its left, and decodes the last four frames of a chunk again, with the
//! next ones on their right, for the listener to fade over to. Invariant: joined by their overlaps, the chunks of a
//! stream are as long as all frames decoded at once.

use super::dvae::Dvae;
use super::probe::Probe;
use super::vocos::Vocos;
use super::weights::Weights;
use crate::engine::EngineError;
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::{Device, Tensor};

/// Frames at the end of a chunk that are decoded again with what follows them (85 ms).
pub const HELD_BACK: usize = 4;
/// Frames on the left of a stretch that are decoded with it, beyond those held back.
const CONTEXT: usize = 20;

/// DVAE and Vocos.
pub struct Vocoder {
    dvae: Dvae,
    vocos: Vocos,
}

impl Vocoder {
    /// Loads both; `model` is the checkpoint and `vocoder` the vocoder's own file.
    pub fn load(model: &Weights, vocoder: &Weights, mel_bins: usize, device: &Device) -> Result<Self, EngineError> {
        let dvae = Dvae::load(model, mel_bins, device)?;
        let vocos = Vocos::load(vocoder, mel_bins, device)?;
        vocoder.finish()?;
        Ok(Self { dvae, vocos })
    }

    pub fn dvae(&self) -> &Dvae {
        &self.dvae
    }

    pub fn vocos(&mut self) -> &mut Vocos {
        &mut self.vocos
    }

    /// Samples per audio frame.
    pub fn frame_samples(&self) -> usize {
        2 * self.vocos.hop()
    }

    /// The mel spectrogram `[2n, bins]` and the sound of `frames`, decoded together.
    pub fn decode(&mut self, frames: &[Vec<u32>], probe: &mut dyn Probe) -> Result<(Tensor, Vec<f32>), EngineError> {
        let start = Micros::now();
        let mel = self.dvae.decode(frames)?;
        let sound = self.vocos.decode(&mel)?;
        probe.worked(Stage::Vocoder, start, sound.len());
        probe.vocoded(frames, &mel, &sound);
        Ok((mel, sound))
    }
}

/// The sound of one answer, chunk by chunk.
#[derive(Clone, Debug, Default)]
pub struct SoundStream {
    /// The latest frames, enough for the next stretch's left side.
    frames: Vec<Vec<u32>>,
    /// How many of `frames` have sounded.
    sounded: usize,
}

impl SoundStream {
    pub fn new() -> Self {
        Self::default()
    }

    /// One more frame.
    pub fn push(&mut self, frame: Vec<u32>) {
        self.frames.push(frame);
    }

    /// How many frames wait to be decoded.
    pub fn waiting(&self) -> usize {
        self.frames.len() - self.sounded
    }

    /// Decodes what waits: the sound, and how many of its first samples overlap the last ones of the chunk before.
    /// Empty when nothing waits.
    pub fn flush(&mut self, vocoder: &mut Vocoder, probe: &mut dyn Probe) -> Result<(Vec<f32>, usize), EngineError> {
        if self.waiting() == 0 {
            return Ok((Vec::new(), 0));
        }
        let again = self.sounded.min(HELD_BACK);
        let left = self.sounded - again;
        let context = left.min(CONTEXT);
        let (_, sound) = vocoder.decode(&self.frames[left - context..], probe)?;
        let per_frame = vocoder.frame_samples();
        self.frames.drain(..left - context);
        self.sounded = self.frames.len();
        Ok((sound[context * per_frame..].to_vec(), again * per_frame))
    }
}

/// Joins two chunks as upstream does: `a` is overlapped with the first `overlap` samples of `b`. Gives the first
/// `a.len()` samples and the rest.
pub fn overlap_add(a: &[f32], b: &[f32], overlap: usize) -> (Vec<f32>, Vec<f32>) {
    let overlap = overlap.min(a.len()).min(b.len());
    let start = a.len() - overlap;
    let mut joined = a[..start].to_vec();
    let steps = (overlap + 1) as f32;
    joined.extend((0..overlap).map(|i| {
        let fade_in = (i + 1) as f32 / steps;
        a[start + i] * (1.0 - fade_in) + b[i] * fade_in
    }));
    (joined, b[overlap..].to_vec())
}
