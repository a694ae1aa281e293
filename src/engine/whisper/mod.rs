//! Whisper speech-to-text (Radford et al., 2022) with a decoder of our own: caches for both attentions, greedy
//! decoding with Whisper's rules, and a draft that saves most of the steps when a stretch is transcribed again.
//!
//! A loaded [`Whisper`] is immutable and may be shared; it lives on the engine thread. Checkpoint names are those of
//! Hugging Face transformers (`model.encoder.`, `model.decoder.`); all sizes are read from the tensors' shapes.
//! The sound's context is cut to the sound: positions 0.. of the encoder, not the 30 s of training. Whisper then misses
//! the long silence that tells it that nothing more comes, and tends to say everything twice; so the states of such a
//! silence, encoded once at load, are put behind those of every stretch of sound.

mod decoder;
mod greedy;
mod tokens;

use super::audio_encoder::{Activation, AudioEncoder, AudioEncoderConfig};
use super::{CancelToken, EngineError, HEARING_RATE};
use crate::dsp::mel::{LogMel, Mel, WHISPER_SAMPLES};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use decoder::{Decoder, DecoderConfig};
use std::collections::HashMap;
use std::f32::consts::TAU;
use std::path::Path;

pub use decoder::CrossAttention;
pub use greedy::Transcript;
pub use tokens::Tokens;

/// Every Whisper model has heads of this width.
const HEAD_WIDTH: usize = 64;

/// Of the borrowed silence: the first state used, soon after the sound before it, and how many (2 s). Of 153 utterances
/// (eleven voices, noise, telephone), a context of the sound + 1 s alone went in circles in 43, the sound + 0.5 s with
/// this silence in one.
const SILENCE_FROM: usize = 60;
const SILENCE_LEN: usize = 100;

/// Which number format the linear layers are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As close to the checkpoint as the machine computes.
    Full,
    /// 8-bit blocks: a quarter of the memory to read, quicker on a CPU.
    Eight,
}

/// Which language is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Language {
    /// A code such as `en`: surer than to detect it from a few words.
    Known(String),
    Detect,
}

/// A loaded Whisper model.
pub struct Whisper {
    encoder: AudioEncoder,
    decoder: Decoder,
    tokens: Tokens,
    /// What the decoder sees of a silence after speech.
    silence: CrossAttention,
}

impl Whisper {
    /// Loads `model.safetensors` and `tokenizer.json` from `folder`.
    pub fn load(folder: &Path, precision: Precision, device: &Device) -> Result<Self, EngineError> {
        let path = folder.join("model.safetensors");
        let tensors = candle_core::safetensors::load(&path, device)
            .map_err(|e| EngineError::Model(format!("cannot read {}: {e}; pull the model again", path.display())))?;
        let tokens = Tokens::load(&folder.join("tokenizer.json"))?;
        Self::from_tensors(tensors, tokens, precision, device)
    }

    fn from_tensors(
        tensors: HashMap<String, Tensor>,
        tokens: Tokens,
        precision: Precision,
        device: &Device,
    ) -> Result<Self, EngineError> {
        let quantise = match precision {
            Precision::Full => None,
            Precision::Eight => Some(GgmlDType::Q8_0),
        };
        let sizes = Sizes(&tensors);
        let (vocabulary, width) = sizes.matrix("model.decoder.embed_tokens.weight")?;
        let heads = width / HEAD_WIDTH;
        let encoder = AudioEncoderConfig {
            width,
            layers: sizes.layers("model.encoder.layers")?,
            heads,
            ffn: sizes.matrix("model.encoder.layers.0.fc1.weight")?.0,
            max_positions: sizes.matrix("model.encoder.embed_positions.weight")?.0,
            activation: Activation::Gelu,
        };
        let decoder = DecoderConfig {
            width,
            layers: sizes.layers("model.decoder.layers")?,
            heads,
            ffn: sizes.matrix("model.decoder.layers.0.fc1.weight")?.0,
            vocabulary,
            max_positions: sizes.matrix("model.decoder.embed_positions.weight")?.0,
        };
        tokens.check(vocabulary)?;
        let vb = VarBuilder::from_tensors(tensors, DType::F32, device).pp("model");
        let encoder = AudioEncoder::load(encoder, &vb.pp("encoder"), quantise)?;
        let decoder = Decoder::load(decoder, &vb.pp("decoder"), quantise)?;
        let quiet = encoder.forward(&LogMel::new().whisper(&sound_then_silence()))?;
        let silence = decoder.cross_attention(&quiet.narrow(0, SILENCE_FROM, SILENCE_LEN)?)?;
        Ok(Self { encoder, decoder, tokens, silence })
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The encoder's states for `mel`: `[positions, width]`, 50 positions a second. At most 30 s.
    pub fn encode(&self, mel: &Mel) -> Result<Tensor, EngineError> {
        self.encoder.forward(mel)
    }

    /// Prepares encoder states for the decoder: each layer's keys and values, computed once, a silence behind them.
    pub fn attend(&self, encoded: &Tensor) -> Result<CrossAttention, EngineError> {
        self.decoder.cross_attention(encoded)?.followed_by(&self.silence)
    }

    /// Writes down what was said in `seconds` of sound. `draft` is a guess at the text tokens (what an earlier pass
    /// heard in the same sound, or nothing): a right guess makes it quicker, a wrong one changes nothing.
    /// `None` when cancelled.
    pub fn transcribe(
        &self,
        sound: &CrossAttention,
        seconds: f32,
        language: &Language,
        draft: &[u32],
        cancel: &CancelToken,
    ) -> Result<Option<Transcript>, EngineError> {
        greedy::Greedy { decoder: &self.decoder, tokens: &self.tokens, sound, cancel }.run(seconds, language, draft)
    }
}

/// 30 s: one second of a voice-like tone (19 harmonics of 140 Hz, swelling four times), then silence.
fn sound_then_silence() -> Vec<f32> {
    let tone = |i: usize| {
        let t = i as f32 / HEARING_RATE as f32;
        let voice: f32 = (1..20).map(|k| (TAU * 140.0 * k as f32 * t).sin() / k as f32).sum();
        0.15 * voice * (0.5 - 0.5 * (TAU * 4.0 * t).cos())
    };
    let mut pcm: Vec<f32> = (0..HEARING_RATE as usize).map(tone).collect();
    pcm.resize(WHISPER_SAMPLES, 0.0);
    pcm
}

/// Reads sizes from the shapes in a checkpoint.
struct Sizes<'a>(&'a HashMap<String, Tensor>);

impl Sizes<'_> {
    fn matrix(&self, name: &str) -> Result<(usize, usize), EngineError> {
        match self.0.get(name).map(Tensor::dims) {
            Some(&[rows, columns]) => Ok((rows, columns)),
            Some(other) => Err(EngineError::Model(format!(
                "the tensor {name} has the shape {other:?} where a matrix is due; this is not a Whisper checkpoint"
            ))),
            None => Err(EngineError::Model(format!(
                "the tensor {name} is missing; pull the model again, under the names of transformers' Whisper"
            ))),
        }
    }

    fn layers(&self, prefix: &str) -> Result<usize, EngineError> {
        self.matrix(&format!("{prefix}.0.fc1.weight"))?;
        Ok((0..).take_while(|i| self.0.contains_key(&format!("{prefix}.{i}.fc1.weight"))).count())
    }
}
