//! How much memory a checkpoint will need, told from its headers before anything of it is loaded.
//!
//! Pure arithmetic over names, shapes and options; runs on the thread that loads the model. Invariant: nothing here
//! knows the released model's sizes; another checkpoint gives other numbers.

use super::config::OmniConfig;
use super::gpu::GpuStep;
use super::load::{Compute, OmniOptions, Precision, Quantization};
use super::weights::Weights;
use crate::engine::EngineError;
use crate::engine::gguf::Gguf;
use candle_core::quantized::GgmlDType;

/// Positions that are fed at once at most, and that they look at: a reference voice of 30 s and the words around it.
const ROWS: u64 = 512;
const KEYS: u64 = 1024;
/// The speech model and the vocoder compute in f32.
const FULL_WIDTH: u64 = 4;

/// The memory a model needs where it computes, in bytes, by what needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The language model's weights (and, on a CPU, the reordered copies of what is packed, the speech's included).
    pub language: u64,
    /// The audio encoder's and the projector's.
    pub hearing: u64,
    /// The speech model's (on an NVIDIA GPU, with the copy that its kernels read) and the vocoder's.
    pub speech: u64,
    /// Keys and values of a full conversation and of the longest stretch of speech.
    pub context: u64,
    /// What a step of the computation, or the conversion of the largest tensor, takes besides.
    pub work: u64,
}

impl Needs {
    pub fn total(&self) -> u64 {
        self.language + self.hearing + self.speech + self.context + self.work
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (language {}, hearing {}, speech {}, context {}, work {})",
            bytes(self.total()),
            bytes(self.language),
            bytes(self.hearing),
            bytes(self.speech),
            bytes(self.context),
            bytes(self.work)
        )
    }
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 1_000_000_000 => format!("{:.1} GB", n as f64 / 1e9),
        n => format!("{:.0} MB", n as f64 / 1e6),
    }
}

/// What is known of a model before it is loaded.
pub struct Headers<'a> {
    pub config: &'a OmniConfig,
    pub weights: &'a Weights,
    pub vocoder: &'a Weights,
    /// What stands in for the language model.
    pub gguf: Option<&'a Gguf>,
}

impl Headers<'_> {
    /// What loading with `options` will need.
    pub fn needs(&self, options: &OmniOptions) -> Needs {
        let on_cpu = options.device == Compute::Cpu;
        let plain = match options.dtype {
            _ if on_cpu => FULL_WIDTH,
            Precision::F32 => FULL_WIDTH,
            Precision::F16 | Precision::Bf16 => 2,
        };
        let has_kernels = matches!(options.device, Compute::Cuda(_))
            && options.quantize_speech.is_none()
            && options.speech_step != GpuStep::Plain;
        let mut needs = Needs::default();
        let (mut largest, mut copies) = (0, 0);
        let mut packed = |values: u64, quantize: Option<Quantization>, width: u64| match quantize {
            None => values * width,
            Some(q) => {
                let bytes = blocks(values, q.kind());
                copies += bytes;
                bytes
            }
        };
        let tied = !self.weights.wanted().any(|(name, ..)| name == "llm.lm_head.weight");
        for (name, shape, stored) in self.weights.wanted() {
            let values: u64 = shape.iter().map(|&d| d as u64).product();
            let matrix = shape.len() == 2;
            largest = largest.max(values * (stored as u64 + FULL_WIDTH));
            if name == "llm.model.embed_tokens.weight" {
                let head = if tied { packed(values, options.quantize, plain) } else { 0 };
                needs.language += values * stored as u64 + head;
            } else if name.starts_with("llm.") {
                needs.language += packed(values, options.quantize.filter(|_| matrix), plain);
            } else if name.starts_with("tts.") {
                let layers = matrix && name.starts_with("tts.model.");
                needs.speech += packed(values, options.quantize_speech.filter(|_| layers), FULL_WIDTH);
                // Kernels of our own read the same matrices in bf16.
                needs.speech += if layers && has_kernels { values * 2 } else { 0 };
            } else {
                needs.hearing += values * plain;
            }
        }
        needs.speech +=
            self.vocoder.wanted().map(|(_, s, _)| s.iter().product::<usize>() as u64 * FULL_WIDTH).sum::<u64>();
        for info in self.gguf.iter().flat_map(|g| g.content().tensor_infos.values()) {
            let values = info.shape.elem_count() as u64;
            needs.language += match info.ggml_dtype {
                GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => values * plain,
                kind => {
                    copies += blocks(values, kind);
                    blocks(values, kind)
                }
            };
        }
        // On a CPU candle keeps a copy of packed weights in the order its kernels read them, from their first use on.
        needs.language += if on_cpu { copies } else { 0 };
        needs.context = self.context(options, plain);
        // The largest tensor is converted in the main memory, before there are copies or a conversation.
        let converting = if on_cpu { largest.saturating_sub(needs.context + copies) } else { 0 };
        needs.work = self.work(plain).max(converting);
        needs
    }

    fn context(&self, options: &OmniOptions, plain: u64) -> u64 {
        let (llm, tts) = (&self.config.llm, &self.config.tts.decoder);
        let positions = options.context.min(llm.max_positions);
        let cache = |layers: usize, heads: usize, width: usize, positions: usize, bytes: u64| {
            2 * (layers * heads * width * positions) as u64 * bytes
        };
        cache(llm.layers, llm.kv_heads, llm.head_dim, positions, plain)
            + cache(tts.layers, tts.kv_heads, tts.head_dim, tts.max_positions, FULL_WIDTH)
    }

    /// Scores and their softmax, and the feed-forward's inner values, of one block.
    fn work(&self, plain: u64) -> u64 {
        let llm = &self.config.llm;
        2 * llm.heads as u64 * ROWS * KEYS * FULL_WIDTH + 3 * llm.ffn as u64 * ROWS * plain
    }

    /// Whether the language model's matrices can be packed so.
    fn packs(&self, quantize: Option<Quantization>) -> bool {
        let Some(block) = quantize.map(|q| q.kind().block_size()) else { return true };
        self.gguf.is_none()
            && self
                .weights
                .wanted()
                .all(|(name, shape, _)| !name.starts_with("llm.") || shape.len() != 2 || shape[1].is_multiple_of(block))
    }

    /// Says what will be needed, and of what.
    ///
    /// # Errors
    /// When it is more than [`OmniOptions::room`]; the message says what would fit instead.
    pub fn check(&self, options: &OmniOptions) -> Result<String, EngineError> {
        let needs = self.needs(options);
        let memory = match options.device {
            Compute::Cpu | Compute::Metal => "memory",
            Compute::Cuda(_) => "the graphics card's memory",
        };
        let Some(room) = options.room else { return Ok(format!("the model needs {needs} of {memory}")) };
        if needs.total() <= room {
            return Ok(format!("the model needs {needs} of {memory}, and {} are free", bytes(room)));
        }
        let smaller: Vec<String> = self.smaller(options, room);
        let remedy = match smaller.as_slice() {
            [] => "nothing smaller fits either: close other programs, or use the starter (--engine cascade)".to_owned(),
            some => format!("use {}", some.join(" or ")),
        };
        Err(EngineError::Unsupported(format!(
            "the model needs {needs} of {memory}, and {} are free: {remedy}",
            bytes(room)
        )))
    }

    /// The ways of loading it that fit into `room`, as they are asked for on the command line, the best first.
    fn smaller(&self, options: &OmniOptions, room: u64) -> Vec<String> {
        let half = if options.device == Compute::Cpu { options.dtype } else { Precision::Bf16 };
        let ways = [(half, None), (half, Some(Quantization::Q8_0)), (half, Some(Quantization::Q4K))];
        ways.into_iter()
            .filter(|&(_, quantize)| self.packs(quantize))
            .filter_map(|(dtype, quantize)| {
                let needs = self.needs(&OmniOptions { dtype, quantize, ..options.clone() }).total();
                let mut flags = Vec::new();
                if dtype != options.dtype {
                    flags.push(format!("--dtype {}", dtype.name()));
                }
                flags.extend(quantize.map(|q| format!("--quantize {}", q.name())));
                (needs <= room).then(|| format!("{} ({})", flags.join(" "), bytes(needs)))
            })
            .collect()
    }
}

fn blocks(values: u64, kind: GgmlDType) -> u64 {
    values.div_ceil(kind.block_size() as u64) * kind.type_size() as u64
}
