//! Audio frames to sound: DVAE and Vocos together, whole or as a stream.
//!
//! Lives on the engine thread. A stretch of frames decodes well only with frames on both its sides; [`SoundStream`] gives
//! each stretch what has sounded on its left, and holds back the last four frames until the next ones are on their
//! right. Invariant: joined by their overlaps, the chunks of a stream are as long as all frames decoded at once.

use super::dvae::Dvae;
use super::probe::Probe;
use super::vocos::Vocos;
use super::weights::Weights;
use crate::engine::EngineError;
use crate::metrics::Stage;
use crate::time::Micros;
use candle_core::{Device, Tensor};

/// Frames that are held back until what follows them is known (85 ms).
pub const HELD_BACK: usize = 4;
/// Frames on the left of a stretch that are decoded with it.
const CONTEXT: usize = 20;
/// Samples over which one chunk fades into the next (11 ms): both were decoded with sound on either side, and differ
/// by little.
pub const FADE: usize = 256;

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
        if sound.iter().any(|s| !s.is_finite()) {
            return Err(EngineError::Model(
                "the vocoder computed a value that is not a number: its files are damaged; pull the model again".into(),
            ));
        }
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

    /// How many frames have not sounded, those held back included.
    pub fn waiting(&self) -> usize {
        self.frames.len() - self.sounded
    }

    /// The sound of what waits, but for the frames that are held back (none when this is the `last`), and how many of
    /// its first samples overlap the last ones of the chunk before. Empty when nothing can sound yet.
    pub fn flush(
        &mut self,
        vocoder: &mut Vocoder,
        last: bool,
        probe: &mut dyn Probe,
    ) -> Result<(Vec<f32>, usize), EngineError> {
        let end = if last { self.frames.len() } else { self.frames.len().saturating_sub(HELD_BACK) };
        if end <= self.sounded {
            return Ok((Vec::new(), 0));
        }
        let per_frame = vocoder.frame_samples();
        let context = self.sounded.min(CONTEXT);
        let overlap = FADE.min(context * per_frame);
        let left = self.sounded - context;
        let (_, sound) = vocoder.decode(&self.frames[left..], probe)?;
        let samples = sound[context * per_frame - overlap..(end - left) * per_frame].to_vec();
        self.sounded = end;
        let forget = end.saturating_sub(CONTEXT);
        self.frames.drain(..forget);
        self.sounded -= forget;
        Ok((samples, overlap))
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
