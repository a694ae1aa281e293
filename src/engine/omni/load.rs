//! The model's parts, loaded and put together.
//!
//! Owns nothing but the choices of how to load; runs on the engine thread. Invariant: when loading succeeds, every
//! tensor of the checkpoint has been used or is known to be dead weight.

use super::answer::SAMPLING;
use super::compat::Mouth;
use super::config::OmniConfig;
use super::dialogue::Mind;
use super::ear::Ear;
use super::gpu::verify::Agreement;
use super::gpu::{self, GpuStep, Machine};
use super::llm::Llm;
use super::needs::Headers;
use super::prompt::Language;
use super::tokens::{LlmTokens, TtsTokens};
use super::tts::Tts;
use super::vocoder::Vocoder;
use super::weights::{LANGUAGE, Reported, Weights};
use crate::engine::EngineError;
pub use crate::engine::device::Compute;
use crate::engine::linear::Placement;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};
use std::path::{Path, PathBuf};
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

/// How many text tokens the speech model is shown with every block of audio, 7 to 10. It was trained with 10; with fewer
/// it begins sooner (after so many tokens), and loses the thread more easily. Below 7 it has been seen to break up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextChunk(usize);

impl TextChunk {
    pub fn new(tokens: usize) -> Result<Self, EngineError> {
        match tokens {
            7..=10 => Ok(Self(tokens)),
            _ => Err(unknown("text chunk", &tokens.to_string(), "7, 8, 9, 10")),
        }
    }

    pub fn tokens(self) -> usize {
        self.0
    }
}

impl FromStr for TextChunk {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        s.parse().map_err(|_| unknown("text chunk", s, "7, 8, 9, 10")).and_then(Self::new)
    }
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
    /// A GGUF file of the language model, to take the place of the checkpoint's own.
    pub llm: Option<PathBuf>,
    /// Bytes that are free where the model computes; a model that needs more is refused before it is loaded.
    pub room: Option<u64>,
    /// Speak exactly as upstream does, its defects included.
    pub compat: bool,
    /// Text tokens that become visible to the speech with every block; `None`: as the checkpoint says.
    pub text_chunk: Option<TextChunk>,
    /// Over how many of the latest tokens the answer's repetition penalty looks (upstream: three at most).
    pub repetition_window: usize,
    /// Language of the prompt's own words; `None`: that of the persona.
    pub language: Option<Language>,
    /// Be the person of the reference voice.
    pub role_play: bool,
    /// How many positions a conversation may take before its oldest turns leave.
    pub context: usize,
    /// The longest answer, in tokens.
    pub answer_tokens: usize,
    /// How frames of speech are made on a GPU.
    pub speech_step: GpuStep,
    /// How words are found on a GPU.
    pub language_step: GpuStep,
}

impl Default for OmniOptions {
    fn default() -> Self {
        Self {
            device: Compute::Cpu,
            dtype: Precision::F32,
            quantize: None,
            quantize_speech: None,
            llm: None,
            room: None,
            compat: false,
            text_chunk: None,
            repetition_window: SAMPLING.penalty_window,
            language: None,
            role_play: false,
            context: 8192,
            answer_tokens: 512,
            speech_step: GpuStep::default(),
            language_step: GpuStep::default(),
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
    /// How frames of speech are made, where there is a choice.
    pub speech_step: Option<GpuStep>,
    /// How words are found, where there is a choice.
    pub language_step: Option<GpuStep>,
}

impl Omni {
    /// Loads the checkpoint in `dir`. `progress` is told the part at hand and the share of the checkpoint done, 0 to 1.
    ///
    /// # Errors
    /// Names the file, and the tensor or key in it, that is missing, unknown, or not as expected.
    pub fn load(dir: &Path, options: &OmniOptions, progress: &mut dyn FnMut(&str, f32)) -> Result<Self, EngineError> {
        let mut config = OmniConfig::read(&dir.join("config.json"))?;
        if let Some(chunk) = options.text_chunk {
            config.tts.text_chunk = chunk.tokens();
        }
        let llm_tokens = LlmTokens::load(dir, config.vocab)?;
        let tts_tokens = TtsTokens::load(dir, config.tts.text_tokens)?;
        tts_tokens.agree(&config.tts)?;
        let weights = Weights::open(dir, options.llm.as_ref().map(|_| LANGUAGE))?;
        let vocoder = Weights::open_vocoder(dir)?;
        let mut gguf = options.llm.as_deref().map(|file| Llm::open_gguf(file, &config)).transpose()?;
        let headers = Headers { config: &config, weights: &weights, vocoder: &vocoder, gguf: gguf.as_ref() };
        let needs = headers.check(options)?;
        tracing::info!("{needs}");
        progress(&needs, 0.0);
        let device = options.device.open()?;
        let quantize = |q: Option<Quantization>| q.map(Quantization::kind);
        let plain = Placement::new(options.dtype.dtype(), &device, None);
        let thinking = Placement::new(options.dtype.dtype(), &device, quantize(options.quantize));
        let speaking = Placement::new(DType::F32, &device, quantize(options.quantize_speech));

        // Most of the values are the language model's; with a GGUF file they are not among the checkpoint's.
        let share = if gguf.is_some() { 0.2 } else { 1.0 };
        let mut scaled = |what: &str, done: f32| progress(what, done * share);
        let ear = Ear::load(&config, &weights, &Reported::new(&weights, "hearing", &mut scaled), &plain)?;
        let mut tts = Tts::load(&config.tts, &weights, &Reported::new(&weights, "speech", &mut scaled), &speaking)?;
        let speech_step = quicken("frames of speech", &device, options.speech_step, &mut |m| tts.quicken(m));
        let vocoder = Vocoder::load(&weights, &vocoder, config.tts.mel_bins, &device)?;
        let mut llm = match &mut gguf {
            Some(file) => {
                let mut rest = |done: f32| progress("language (GGUF)", share + (1.0 - share) * done);
                Llm::from_gguf(&config, file, &plain, &mut rest)?
            }
            None => Llm::load(&config, &Reported::new(&weights, "language", progress), &thinking)?,
        };
        weights.finish()?;
        let language_step = quicken("words", &device, options.language_step, &mut |m| llm.quicken(m));
        Ok(Self {
            mind: Mind { tokens: llm_tokens, ear, llm },
            mouth: Mouth { tokens: tts_tokens, tts, vocoder },
            speech_step,
            language_step,
            config,
        })
    }
}

/// Has a model make its steps, which bring `what`, by kernels of our own, where `device` runs them and they agree with the
/// plain decoder. Gives how they are made, where there is a choice.
fn quicken(
    what: &str,
    device: &Device,
    wanted: GpuStep,
    with: &mut dyn FnMut(Box<dyn Machine>) -> Result<Agreement, EngineError>,
) -> Option<GpuStep> {
    let Some(machine) = gpu::machine(device, wanted) else { return device.is_cuda().then_some(GpuStep::Plain) };
    match with(machine) {
        Ok(found) if found.holds() => {
            tracing::info!(
                "{what} by {wanted}: {:.2} ms each, {:.2} ms in the plain way; logits apart by {:e} of {:.2}",
                found.fused_ms,
                found.plain_ms,
                found.apart,
                found.largest
            );
            Some(wanted)
        }
        Ok(found) => {
            tracing::warn!(
                "the kernels for {what} do not agree with the plain way (logits apart by {:e} of {:.2}), which is taken \
                 instead; please report it, with the name of the GPU",
                found.apart,
                found.largest
            );
            Some(GpuStep::Plain)
        }
        Err(error) => {
            tracing::warn!("{what} are made in the plain way: {error}");
            Some(GpuStep::Plain)
        }
    }
}
