//! The model's parts, loaded and put together.
//!
//! Owns nothing but the choices of how to load; runs on the engine thread. Invariant: when loading succeeds, every
//! tensor of the checkpoint has been used or is known to be dead weight.

use super::compat::Mouth;
use super::config::OmniConfig;
use super::dialogue::Mind;
use super::ear::Ear;
use super::llm::Llm;
use super::tokens::{LlmTokens, TtsTokens};
use super::tts::Tts;
use super::vocoder::Vocoder;
use super::weights::{Reported, Weights};
use crate::engine::EngineError;
use crate::engine::device::Compute;
use crate::engine::linear::Placement;
use candle_core::DType;
use candle_core::quantized::GgmlDType;
use std::path::Path;
use std::str::FromStr;

/// The precision of activations and of weights that are not quantised. A CPU always computes in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    F16,
    Bf16,
}

/// How linear weights are made smaller when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight; widths must be multiples of 256.
    Q4K,
}

/// How to load the model.
#[derive(Clone, Debug, PartialEq)]
pub struct OmniOptions {
    pub device: Compute,
    /// Of the ear and the language model. Speech and vocoder compute in f32, as upstream advises.
    pub dtype: Precision,
    /// Of the language model.
    pub quantize: Option<Quantization>,
    /// Of the speech model.
    pub quantize_speech: Option<Quantization>,
    /// Speak exactly as upstream does, its defects included.
    pub compat: bool,
    /// How many positions a conversation may take before its oldest turns leave.
    pub context: usize,
    /// The longest answer, in tokens.
    pub answer_tokens: usize,
}

impl Default for OmniOptions {
    fn default() -> Self {
        Self {
            device: Compute::Cpu,
            dtype: Precision::F32,
            quantize: None,
            quantize_speech: None,
            compat: false,
            context: 8192,
            answer_tokens: 512,
        }
    }
}

fn unknown(what: &str, found: &str, known: &str) -> EngineError {
    EngineError::Unsupported(format!("{found:?} is no {what}; choose one of {known}"))
}

impl FromStr for Precision {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        match s {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(unknown("precision", s, "f32, f16, bf16")),
        }
    }
}

impl FromStr for Quantization {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        match s {
            "q8_0" => Ok(Self::Q8_0),
            "q4_k" => Ok(Self::Q4K),
            _ => Err(unknown("quantization", s, "q8_0, q4_k")),
        }
    }
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl Quantization {
    /// The kind of block it packs weights into.
    pub fn kind(self) -> GgmlDType {
        match self {
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4K => GgmlDType::Q4K,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }
}

/// All parts of a loaded model.
pub struct Omni {
    pub config: OmniConfig,
    pub mind: Mind,
    pub mouth: Mouth,
}

impl Omni {
    /// Loads the checkpoint in `dir`. `progress` is told the part at hand and the share of the checkpoint done, 0 to 1.
    ///
    /// # Errors
    /// Names the file, and the tensor or key in it, that is missing, unknown, or not as expected.
    pub fn load(dir: &Path, options: &OmniOptions, progress: &mut dyn FnMut(&str, f32)) -> Result<Self, EngineError> {
        let config = OmniConfig::read(&dir.join("config.json"))?;
        let llm_tokens = LlmTokens::load(dir, config.vocab)?;
        let tts_tokens = TtsTokens::load(dir, config.tts.text_tokens)?;
        tts_tokens.agree(&config.tts)?;
        let device = options.device.open()?;
        let weights = Weights::open(dir)?;
        let vocoder = Weights::open_vocoder(dir)?;
        let quantize = |q: Option<Quantization>| q.map(Quantization::kind);
        let plain = Placement::new(options.dtype.dtype(), &device, None);
        let thinking = Placement::new(options.dtype.dtype(), &device, quantize(options.quantize));
        let speaking = Placement::new(DType::F32, &device, quantize(options.quantize_speech));

        let ear = Ear::load(&config, &weights, &Reported::new(&weights, "hearing", progress), &plain)?;
        let tts = Tts::load(&config.tts, &weights, &Reported::new(&weights, "speech", progress), &speaking)?;
        let vocoder = Vocoder::load(&weights, &vocoder, config.tts.mel_bins, &device)?;
        let llm = Llm::load(&config, &Reported::new(&weights, "language", progress), &thinking)?;
        weights.finish()?;
        Ok(Self {
            mind: Mind { tokens: llm_tokens, ear, llm },
            mouth: Mouth { tokens: tts_tokens, tts, vocoder },
            config,
        })
    }
}
