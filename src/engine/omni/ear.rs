//! Sound to embeddings of the language model: features, encoder (`apm.`), projector (`audio_projection_layer.`), pooling.
//!
//! Owns weights and the feature extractor's plan; whoever listens owns the [`EncoderCache`]. Lives on the engine thread.

use super::config::OmniConfig;
use super::prompt;
use super::weights::{Reported, Weights, must_be_numbers};
use crate::dsp::mel::{LogMel, Mel};
use crate::engine::EngineError;
use crate::engine::audio_encoder::{AudioEncoder, EncoderCache};
use crate::engine::linear::{Linear, Placement};
use candle_core::{DType, Tensor};

/// The loaded ear.
pub struct Ear {
    mel: LogMel,
    encoder: AudioEncoder,
    projector: [Linear; 2],
    pool: usize,
    block: usize,
    dtype: DType,
}

impl Ear {
    /// Loads `apm.` and `audio_projection_layer.`.
    pub fn load(
        config: &OmniConfig,
        weights: &Weights,
        source: &Reported<'_, '_>,
        place: &Placement,
    ) -> Result<Self, EngineError> {
        let (width, hidden) = (config.audio.width, config.llm.hidden);
        let plain = Placement::new(place.dtype(), place.device(), None);
        let builder = weights.builder(place.dtype(), place.device());
        Ok(Self {
            mel: LogMel::new(),
            encoder: AudioEncoder::load(config.audio, &builder.pp("apm"), None)?,
            projector: [
                Linear::load(source, "audio_projection_layer.linear1", (hidden, width), true, &plain)?,
                Linear::load(source, "audio_projection_layer.linear2", (hidden, hidden), true, &plain)?,
            ],
            pool: config.audio_pool,
            block: config.audio_block,
            dtype: place.dtype(),
        })
    }

    /// Positions of the language model in one placeholder group: one second, unless the configuration says otherwise.
    pub fn group(&self) -> usize {
        (self.block / self.pool).max(1)
    }

    /// Positions of the language model that `samples` of sound take.
    pub fn positions(&self, samples: usize) -> usize {
        prompt::positions(samples, self.pool)
    }

    /// The most samples that are heard at once.
    pub fn longest(&self) -> usize {
        (self.encoder.config().max_positions - 1) * 2 * crate::dsp::mel::HOP
    }

    pub fn encoder(&self) -> &AudioEncoder {
        &self.encoder
    }

    /// Log-mel features of `pcm`, 16 kHz mono.
    pub fn features(&mut self, pcm: &[f32]) -> Mel {
        self.mel.whisper(pcm)
    }

    /// The next chunk of a stream, `[positions, llm hidden]`.
    pub fn hear(&mut self, pcm: &[f32], cache: &mut EncoderCache) -> Result<Tensor, EngineError> {
        if self.positions(pcm.len()) == 0 {
            return Err(EngineError::Unsupported(format!(
                "{} samples are too short to be heard; give at least {}",
                pcm.len(),
                prompt::SHORTEST
            )));
        }
        let mel = self.features(pcm);
        let states = self.encoder.forward_streaming(&mel, cache)?;
        self.project(&states)
    }

    /// A whole stretch of sound, with or without the mask of one-second blocks that the model was trained with.
    pub fn hear_whole(&mut self, pcm: &[f32], blocks: bool) -> Result<Tensor, EngineError> {
        let mel = self.features(pcm);
        let states =
            if blocks { self.encoder.forward_in_blocks(&mel, self.block)? } else { self.encoder.forward(&mel)? };
        self.project(&states)
    }

    /// Encoder states `[n, width]` to embeddings `[n / pool, llm hidden]`.
    fn project(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        must_be_numbers(states, "audio encoder")?;
        let [first, second] = &self.projector;
        let projected = second.forward(&first.forward(&states.to_dtype(self.dtype)?)?.relu()?)?;
        let (n, hidden) = projected.dims2()?;
        let pooled = n / self.pool;
        Ok(projected.narrow(0, 0, pooled * self.pool)?.reshape((pooled, self.pool, hidden))?.mean(1)?)
    }
}
