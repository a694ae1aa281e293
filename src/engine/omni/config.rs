//! The model's sizes, read from the checkpoint's `config.json`.
//!
//! Owns plain numbers; read once, on the thread that loads the model. Nothing is fixed to one size of the model: keys
//! that the released file leaves out take the defaults of upstream's configuration classes (`ConditionalChatTTSConfig`,
//! `WhisperConfig`). Invariant: every size is positive and within bounds, so that no later arithmetic can overflow or
//! divide by zero.

use super::weights::packed_weights;
use crate::engine::EngineError;
use crate::engine::audio_encoder::{Activation, AudioEncoderConfig};
use crate::engine::transformer::DecoderConfig;
use serde_json::Value;
use std::path::Path;

/// No size in a configuration is larger than this.
const LARGEST: u64 = 1 << 24;

/// All sizes of a MiniCPM-o 2.6 checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct OmniConfig {
    /// The language model (`llm.model.`, Qwen2).
    pub llm: DecoderConfig,
    /// Rows of `llm.model.embed_tokens.weight`.
    pub vocab: usize,
    /// Whether the output head is the embedding table.
    pub tie_embeddings: bool,
    /// The audio encoder (`apm.`, Whisper).
    pub audio: AudioEncoderConfig,
    /// How many encoder positions are averaged into one position of the language model.
    pub audio_pool: usize,
    /// Encoder positions in one block of the offline attention mask (50 a second).
    pub audio_block: usize,
    /// The speech model (`tts.`).
    pub tts: TtsConfig,
}

/// Sizes and constants of the speech model (`tts_config`, upstream's `ConditionalChatTTSConfig`).
#[derive(Clone, Debug, PartialEq)]
pub struct TtsConfig {
    /// The decoder stack (`tts.model.`, Llama).
    pub decoder: DecoderConfig,
    /// Width of the language model's hidden states that the projector takes.
    pub llm_dim: usize,
    /// Audio codes a codebook has, the end code included (it is the last).
    pub audio_codes: usize,
    /// Rows of `tts.emb_text.weight`.
    pub text_tokens: usize,
    /// Codebooks.
    pub codebooks: usize,
    pub mel_bins: usize,
    pub speaker_token: u32,
    /// Slots the speaker takes.
    pub speaker_slots: usize,
    pub audio_bos_token: u32,
    pub text_eos_token: u32,
    /// Text tokens that become visible with every started block of audio positions.
    pub text_chunk: usize,
    /// Slots reserved for text.
    pub text_reserved: usize,
    /// Audio positions in a block.
    pub audio_chunk: usize,
    pub top_p: f32,
    pub top_k: usize,
    pub repetition_penalty: f32,
}

impl TtsConfig {
    /// The first slot of the text: after `[Stts]` and the speaker.
    pub fn text_start(&self) -> usize {
        1 + self.speaker_slots
    }

    /// The slot of `[Ptts]`, which is also how many slots the text region has.
    pub fn audio_start(&self) -> usize {
        self.text_start() + self.text_reserved
    }

    /// The code that ends the speech.
    pub fn end_code(&self) -> u32 {
        self.audio_codes as u32 - 1
    }
}

impl OmniConfig {
    /// Reads `config.json`.
    pub fn read(file: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(file).map_err(|e| {
            EngineError::Model(format!(
                "cannot read the model's configuration {}: {e}; pull the model again",
                file.display()
            ))
        })?;
        Self::parse(&text, &file.display().to_string())
    }

    /// Parses the text of a `config.json`; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, EngineError> {
        let root: Value = serde_json::from_str(text).map_err(|e| {
            EngineError::Model(format!("{origin} is not a model configuration: {e}; pull the model again"))
        })?;
        let top = Section { value: &root, path: String::new(), origin };
        if root.get("quantization_config").is_some_and(|q| !q.is_null()) {
            return Err(packed_weights(Path::new(origin), "`quantization_config`"));
        }
        let audio = top.section("audio_config")?;
        let tts = top.section("tts_config")?;
        let llm = top.decoder(1e-6, 1e6, true)?;
        let audio_pool = top.size("audio_pool_step", Some(2))?;
        let seconds = top.number("audio_chunk_length", Some(1.0))?;
        if !(0.02..=30.0).contains(&seconds) {
            return Err(top.bad("audio_chunk_length", "0.02 to 30 seconds"));
        }
        let bins = audio.size("num_mel_bins", Some(crate::dsp::mel::BINS))?;
        if bins != crate::dsp::mel::BINS {
            return Err(audio.bad("num_mel_bins", "80, the only features this program computes"));
        }
        let config = Self {
            vocab: top.size("vocab_size", None)?,
            tie_embeddings: top.flag("tie_word_embeddings", false)?,
            audio: AudioEncoderConfig {
                width: audio.size("d_model", None)?,
                layers: audio.size("encoder_layers", None)?,
                heads: audio.size("encoder_attention_heads", None)?,
                ffn: audio.size("encoder_ffn_dim", None)?,
                max_positions: audio.size("max_source_positions", Some(1500))?,
                activation: match audio.value.get("activation_function") {
                    None | Some(Value::Null) => Activation::default(),
                    Some(name) => name.as_str().and_then(Activation::named).ok_or_else(|| {
                        audio.bad("activation_function", "gelu, gelu_new, gelu_fast or gelu_pytorch_tanh")
                    })?,
                },
            },
            audio_pool,
            audio_block: (seconds * 50.0) as usize,
            tts: Self::parse_tts(&tts, llm.hidden)?,
            llm,
        };
        if !config.audio.width.is_multiple_of(config.audio.heads) {
            return Err(audio.bad("encoder_attention_heads", "a divisor of d_model"));
        }
        Ok(config)
    }

    fn parse_tts(tts: &Section<'_>, llm_hidden: usize) -> Result<TtsConfig, EngineError> {
        let defaults = DecoderConfig {
            hidden: 768,
            layers: 20,
            heads: 12,
            kv_heads: 12,
            head_dim: 64,
            ffn: 3072,
            rms_eps: 1e-6,
            rope_theta: 10_000.0,
            qkv_bias: false,
            max_positions: 4096,
        };
        let heads = tts.size("num_attention_heads", Some(defaults.heads))?;
        let hidden = tts.size("hidden_size", Some(defaults.hidden))?;
        let config = TtsConfig {
            decoder: DecoderConfig {
                hidden,
                layers: tts.size("num_hidden_layers", Some(defaults.layers))?,
                heads,
                kv_heads: heads,
                head_dim: hidden / heads,
                ffn: tts.size("intermediate_size", Some(defaults.ffn))?,
                max_positions: tts.size("max_position_embeddings", Some(defaults.max_positions))?,
                ..defaults
            },
            llm_dim: tts.size("llm_dim", Some(llm_hidden))?,
            audio_codes: tts.size("num_audio_tokens", Some(626))?,
            text_tokens: tts.size("num_text_tokens", Some(21_178))?,
            codebooks: tts.size("num_vq", Some(4))?,
            mel_bins: tts.size("num_mel_bins", Some(100))?,
            speaker_token: tts.size("spk_emb_token_id", Some(21_143))? as u32,
            speaker_slots: tts.size("num_spk_embs", Some(1))?,
            audio_bos_token: tts.size("audio_bos_token_id", Some(21_132))? as u32,
            text_eos_token: tts.size("text_eos_token_id", Some(21_133))? as u32,
            text_chunk: tts.size("streaming_text_chunk_size", Some(10))?,
            text_reserved: tts.size("streaming_text_reserved_len", Some(300))?,
            audio_chunk: tts.size("streaming_audio_chunk_size", Some(50))?,
            top_p: tts.number("top_p", Some(0.7))? as f32,
            top_k: tts.size("top_k", Some(20))?,
            repetition_penalty: tts.number("repetition_penalty", Some(1.0))? as f32,
        };
        if hidden % heads != 0 || (hidden / heads) % 2 != 0 {
            return Err(tts.bad("num_attention_heads", "a divisor of hidden_size that leaves an even head width"));
        }
        if config.llm_dim != llm_hidden {
            return Err(tts.bad("llm_dim", &format!("{llm_hidden}, the language model's hidden_size")));
        }
        if config.speaker_slots != 1 {
            return Err(tts.bad("num_spk_embs", "1, the only layout this program knows"));
        }
        if config.audio_codes < 2 || !config.codebooks.is_multiple_of(2) {
            return Err(tts.bad("num_vq", "an even number of codebooks with at least two codes"));
        }
        if config.decoder.max_positions <= config.audio_start() + config.audio_chunk {
            return Err(tts.bad("max_position_embeddings", "more than the slots reserved for text"));
        }
        for (key, id) in [
            ("spk_emb_token_id", config.speaker_token),
            ("audio_bos_token_id", config.audio_bos_token),
            ("text_eos_token_id", config.text_eos_token),
        ] {
            if id as usize >= config.text_tokens {
                return Err(tts.bad(key, &format!("below num_text_tokens, {}", config.text_tokens)));
            }
        }
        if !(config.top_p > 0.0 && config.top_p <= 1.0 && config.repetition_penalty > 0.0) {
            return Err(tts.bad("top_p", "over 0 and at most 1, and repetition_penalty over 0"));
        }
        Ok(config)
    }
}

/// An object within the configuration, for errors that say where a key belongs.
struct Section<'a> {
    value: &'a Value,
    path: String,
    origin: &'a str,
}

impl<'a> Section<'a> {
    fn bad(&self, key: &str, expected: &str) -> EngineError {
        let found = self.value.get(key).map_or("nothing".to_string(), Value::to_string);
        EngineError::Model(format!(
            "{}: `{}{key}` is {found}, expected {expected}; pull the model again",
            self.origin, self.path
        ))
    }

    fn section(&self, key: &str) -> Result<Section<'a>, EngineError> {
        match self.value.get(key) {
            Some(value) if value.is_object() => {
                Ok(Section { value, path: format!("{}{key}.", self.path), origin: self.origin })
            }
            _ => Err(self.bad(key, "an object: this is not a MiniCPM-o 2.6 configuration")),
        }
    }

    /// A count of something, or an id. With a default, `null` and absence mean the default.
    fn size(&self, key: &str, default: Option<usize>) -> Result<usize, EngineError> {
        match (self.value.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (Some(v), _) => match v.as_u64() {
                Some(n) if (1..=LARGEST).contains(&n) => Ok(n as usize),
                _ => Err(self.bad(key, "a whole number from 1 to 16777216")),
            },
            (None, None) => Err(self.bad(key, "a whole number")),
        }
    }

    fn number(&self, key: &str, default: Option<f64>) -> Result<f64, EngineError> {
        match (self.value.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (Some(v), _) => v.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.bad(key, "a number")),
            (None, None) => Err(self.bad(key, "a number")),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, EngineError> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.bad(key, "true or false")),
        }
    }

    /// The language model's stack, whose sizes lie at the top of the file.
    fn decoder(&self, rms_eps: f64, rope_theta: f64, qkv_bias: bool) -> Result<DecoderConfig, EngineError> {
        let heads = self.size("num_attention_heads", None)?;
        let hidden = self.size("hidden_size", None)?;
        let kv_heads = self.size("num_key_value_heads", Some(heads))?;
        if hidden % heads != 0 || (hidden / heads) % 2 != 0 || heads % kv_heads != 0 {
            return Err(
                self.bad("num_attention_heads", "a divisor of hidden_size and a multiple of num_key_value_heads")
            );
        }
        let theta = self.number("rope_theta", Some(rope_theta))?;
        let eps = self.number("rms_norm_eps", Some(rms_eps))?;
        if theta <= 1.0 || eps <= 0.0 {
            return Err(self.bad("rope_theta", "over 1, and rms_norm_eps over 0"));
        }
        Ok(DecoderConfig {
            hidden,
            layers: self.size("num_hidden_layers", None)?,
            heads,
            kv_heads,
            head_dim: hidden / heads,
            ffn: self.size("intermediate_size", None)?,
            rms_eps: eps,
            rope_theta: theta,
            qkv_bias,
            max_positions: self.size("max_position_embeddings", Some(32_768))?,
        })
    }
}
