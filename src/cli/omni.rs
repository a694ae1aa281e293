//! What can be said about the omni engine, on the command line and in the settings.
//!
//! Pure; main thread. Invariant: the command line goes before the settings, and the settings before the defaults.

use super::Failure;
use crate::engine::EngineError;
use crate::engine::device::DeviceChoice;
use crate::engine::omni::gpu::GpuStep;
use crate::engine::omni::prompt::Language;
use crate::engine::omni::{OmniOptions, Precision, Quantization, TextChunk};
use crate::session::OmniSelection;
use crate::settings::{OmniSettings, Settings};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

const HEADING: &str = "The omni engine";

/// The omni engine's flags.
#[derive(Args, Clone, Debug, Default)]
pub struct OmniArgs {
    /// The folder of a MiniCPM-o 2.6 checkpoint [default: the one that was pulled]
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING)]
    pub model: Option<PathBuf>,
    /// Where it computes: auto (a GPU if there is one), cpu, cuda, cuda:N or metal [default: auto]
    #[arg(long, global = true, value_name = "DEVICE", help_heading = HEADING)]
    pub device: Option<DeviceChoice>,
    /// Precision of hearing and language: f32, f16 or bf16; a CPU always computes in f32 [default: bf16 on a GPU]
    #[arg(long, global = true, value_name = "KIND", help_heading = HEADING)]
    pub dtype: Option<Precision>,
    /// Make the language model smaller while it loads: q8_0 (half of bf16, hardly a difference) or q4_k (a quarter)
    #[arg(long, global = true, value_name = "KIND", help_heading = HEADING)]
    pub quantize: Option<Quantization>,
    /// The same for the speech model, which is small: quicker on a CPU, at some cost to the voice
    #[arg(long, global = true, value_name = "KIND", help_heading = HEADING)]
    pub quantize_speech: Option<Quantization>,
    /// The longest answer, in tokens [default: 512]
    #[arg(long, global = true, value_name = "TOKENS", help_heading = HEADING, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub answer_tokens: Option<u16>,
    /// How many tokens of text (7 to 10) the voice wants to know before it goes on. Fewer: it begins a little sooner, and
    /// reads with less of the sentence in view; the model was trained with 10 [default: 10]
    #[arg(long, global = true, value_name = "TOKENS", help_heading = HEADING)]
    pub text_chunk: Option<TextChunk>,
    /// Over how many of the latest tokens the answer is kept from repeating itself; 0: not at all [default: 128]
    #[arg(long, global = true, value_name = "TOKENS", help_heading = HEADING)]
    pub repetition_window: Option<usize>,
    /// Language of the instructions around the voice: en or zh [default: that of the persona]
    #[arg(long, global = true, value_name = "LANGUAGE", help_heading = HEADING)]
    pub language: Option<Language>,
    /// Be the person of the reference voice, rather than an assistant who speaks like them
    #[arg(long, global = true, help_heading = HEADING)]
    pub role_play: bool,
    /// How speech is made on an NVIDIA GPU: graph (kernels of our own, recorded), launches (the same, one by one), or plain
    /// [default: graph, where it is found to agree with plain]
    #[arg(long, global = true, value_name = "WAY", help_heading = HEADING)]
    pub speech_step: Option<GpuStep>,
    /// The same for how words are found
    #[arg(long, global = true, value_name = "WAY", help_heading = HEADING)]
    pub language_step: Option<GpuStep>,
    /// Speak exactly as the reference implementation does, its defects included: to compare with it
    #[arg(long, global = true, help_heading = HEADING)]
    pub compat: bool,
}

impl OmniArgs {
    /// The checkpoint's folder.
    pub fn model(&self, settings: &Settings) -> Option<PathBuf> {
        self.model.clone().or_else(|| settings.omni.model.clone())
    }

    /// How to load the engine. `llm` is the file given with `--llm`.
    ///
    /// # Errors
    /// Names the setting that is none of what it can be.
    pub fn options(&self, llm: Option<PathBuf>, settings: &Settings) -> Result<OmniOptions, Failure> {
        let (kept, defaults) = (&settings.omni, OmniOptions::default());
        let OmniSettings { quantize, quantize_speech, .. } = kept;
        Ok(OmniOptions {
            quantize: self.quantize.map_or_else(|| setting("quantize", quantize), |q| Ok(Some(q)))?,
            quantize_speech: self
                .quantize_speech
                .map_or_else(|| setting("quantize_speech", quantize_speech), |q| Ok(Some(q)))?,
            llm: llm.or_else(|| kept.llm.clone()),
            text_chunk: match (self.text_chunk, kept.text_chunk) {
                (None, Some(tokens)) => Some(TextChunk::new(tokens).map_err(|e| bad("text_chunk", &e))?),
                (given, _) => given,
            },
            repetition_window: self.repetition_window.or(kept.repetition_window).unwrap_or(defaults.repetition_window),
            language: self.language.or_else(|| spoken(&settings.language)),
            role_play: self.role_play || kept.role_play,
            compat: self.compat || kept.compat,
            speech_step: self.speech_step.unwrap_or(defaults.speech_step),
            language_step: self.language_step.unwrap_or(defaults.language_step),
            answer_tokens: self.answer_tokens.map_or(defaults.answer_tokens, usize::from),
            ..defaults
        })
    }

    /// Where the engine is to compute, and in which precision (`None`: what suits the place).
    ///
    /// # Errors
    /// Names the setting that is none of what it can be.
    pub fn place(&self, settings: &Settings) -> Result<(DeviceChoice, Option<Precision>), Failure> {
        let OmniSettings { device, dtype, .. } = &settings.omni;
        let device = self.device.map_or_else(|| setting("device", device), |d| Ok(Some(d)))?.unwrap_or_default();
        let dtype = self.dtype.map_or_else(|| setting("dtype", dtype), |d| Ok(Some(d)))?;
        Ok((device, dtype))
    }
}

/// What the user selects in the window goes before all that was said. A word that is none of the engine's is left out.
pub fn choose(selection: &OmniSelection, dtype: &mut Option<Precision>, options: &mut OmniOptions) {
    *dtype = selection.dtype.as_deref().and_then(|text| text.parse().ok());
    options.quantize = selection.quantize.as_deref().and_then(|text| text.parse().ok());
    options.text_chunk = selection.text_chunk.and_then(|tokens| TextChunk::new(tokens).ok());
    options.language = spoken(&selection.language);
}

/// The language of the instructions around the voice; `None`: that of the persona.
fn spoken(language: &str) -> Option<Language> {
    language.starts_with("zh").then_some(Language::Chinese)
}

fn bad(key: &str, error: &EngineError) -> Failure {
    Failure::usage(format!("the setting omni.{key}: {error}"))
}

fn setting<T: FromStr<Err = EngineError>>(key: &str, value: &Option<String>) -> Result<Option<T>, Failure> {
    value.as_deref().map(|text| text.parse().map_err(|e| bad(key, &e))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::device::Compute;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_command_line_goes_before_the_settings_and_those_before_the_defaults() {
        let kept = settings(
            "language = \"zh\"\n[omni]\nmodel = \"/models/o\"\ndevice = \"cuda:1\"\ndtype = \"bf16\"\nquantize = \"q4_k\"\n\
             text_chunk = 8\nrole_play = true\n",
        );
        let args = OmniArgs { dtype: Some(Precision::F16), ..OmniArgs::default() };
        let options = args.options(None, &kept).unwrap();
        assert_eq!(args.place(&kept).unwrap(), (DeviceChoice::At(Compute::Cuda(1)), Some(Precision::F16)));
        assert_eq!((options.quantize, options.quantize_speech), (Some(Quantization::Q4K), None));
        assert_eq!(options.text_chunk.map(TextChunk::tokens), Some(8));
        assert_eq!((options.language, options.role_play, options.compat), (Some(Language::Chinese), true, false));
        assert_eq!((options.repetition_window, options.answer_tokens), (128, 512));
        assert_eq!(args.model(&kept), Some("/models/o".into()));
        let nothing = OmniArgs::default();
        assert_eq!(nothing.options(None, &Settings::default()).unwrap(), OmniOptions::default());
        assert_eq!(nothing.place(&Settings::default()).unwrap(), (DeviceChoice::Auto, None));
        let short = OmniArgs { answer_tokens: Some(3), ..nothing };
        assert_eq!(short.options(None, &kept).unwrap().answer_tokens, 3);
    }

    #[test]
    fn what_is_selected_in_the_window_goes_before_everything() {
        let args = OmniArgs { quantize: Some(Quantization::Q8_0), role_play: true, ..OmniArgs::default() };
        let mut options = args.options(None, &Settings::default()).unwrap();
        let mut dtype = Some(Precision::F16);
        let kept = settings("language = \"zh\"\n[omni]\nquantize = \"q4_k\"\ntext_chunk = 8\n");
        let selection = kept.engine_selection_anew().omni.unwrap();
        choose(&selection, &mut dtype, &mut options);
        assert_eq!((dtype, options.quantize), (None, Some(Quantization::Q4K)));
        assert_eq!(options.text_chunk.map(TextChunk::tokens), Some(8));
        assert_eq!((options.language, options.role_play), (Some(Language::Chinese), true));
        let plain = OmniSelection { dtype: Some("bf16".into()), language: "en".into(), ..OmniSelection::default() };
        choose(&plain, &mut dtype, &mut options);
        assert_eq!((dtype, options.quantize, options.text_chunk), (Some(Precision::Bf16), None, None));
        assert_eq!(options.language, None);
    }

    #[test]
    fn a_setting_that_cannot_be_is_named() {
        for (key, value) in [("device", "\"gpu\""), ("quantize_speech", "\"q2\""), ("text_chunk", "3")] {
            let kept = settings(&format!("[omni]\n{key} = {value}\n"));
            let args = OmniArgs::default();
            let read = args.options(None, &kept).map(drop).and(args.place(&kept).map(drop));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(&format!("omni.{key}")), "{error}");
        }
    }
}
