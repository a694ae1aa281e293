//! What `doctor` says about the graphics card, and about the omni engine on it.
//!
//! Pure: the findings follow from the machine and from what this build could do with its GPU.

use super::{Finding, Severity, finding};
use crate::engine::device::GpuUse;
use crate::engine::omni::Quantization;
use crate::engine::omni::random_checkpoint::{Sizes, tensors};
use crate::weights::Size;
use crate::weights::fit::{Gpu, Machine};

/// Keys and values of the default context, and what a step computes with, beside the weights.
const WORK: u64 = 1_500_000_000;
/// What the display, the driver and the libraries keep of a card's memory.
const TAKEN: u64 = 1_000_000_000;

/// The released model in bf16, or with its language model quantised: what to ask for, and bytes of memory.
fn ways() -> [(&'static str, u64); 3] {
    let mut all = tensors(&Sizes::FULL);
    // Nothing reads it, so nothing loads it.
    all.retain(|name, _| !name.starts_with("tts.model.embed_tokens."));
    let values = |keep: &dyn Fn(&str, &[usize]) -> bool| -> u64 {
        let kept = all.iter().filter(|(name, shape)| keep(name, shape.as_slice()));
        kept.map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
    };
    let table = "llm.model.embed_tokens.weight";
    let matrices = values(&|n, s| n.starts_with("llm.") && n != table && s.len() == 2);
    // Speech computes in f32; the embedding table, the ear and all vectors in bf16.
    let rest = 4 * values(&|n, _| n.starts_with("tts."))
        + 2 * values(&|n, s| !n.starts_with("tts.") && (!n.starts_with("llm.") || n == table || s.len() != 2));
    let packed = |kind: Quantization| {
        let block = kind.kind();
        matrices / block.block_size() as u64 * block.type_size() as u64
    };
    let total = |language: u64| language + rest + WORK;
    [
        ("--dtype bf16", total(2 * matrices)),
        ("--quantize q8_0", total(packed(Quantization::Q8_0))),
        ("--quantize q4_k", total(packed(Quantization::Q4K))),
    ]
}

/// The finding about the GPU.
pub fn gpu(machine: &Machine, use_of: &GpuUse) -> Finding {
    let good = |seen: String| finding(Severity::Good, "gpu", seen, "");
    let warning = |seen: String, remedy: &str| finding(Severity::Warning, "gpu", seen, remedy);
    if let Some(trouble) = &machine.gpu_trouble {
        let remedy = "install the NVIDIA driver anew, or ignore this: the starter models do not need a GPU";
        return warning(format!("nvidia-smi says: {trouble}"), remedy);
    }
    let Some(largest) = machine.gpus.iter().max_by_key(|g| g.memory) else {
        return match use_of {
            GpuUse::Works(what) => good(format!("{what} works; the omni engine computes on it")),
            _ => good("no NVIDIA card; the starter models do not need one".into()),
        };
    };
    let name = |g: &Gpu| format!("{}, {}, driver {}", g.name, Size(g.memory), g.driver);
    let seen = machine.gpus.iter().map(name).collect::<Vec<_>>().join("; ");
    match use_of {
        GpuUse::NotBuilt => {
            warning(seen, "this program was built for the CPU alone: build it with `make cuda` for the omni engine")
        }
        GpuUse::Fails(why) => warning(format!("{seen}; it cannot be used"), why),
        GpuUse::Works(what) => {
            let room = largest.memory.saturating_sub(TAKEN);
            match ways().into_iter().find(|(_, bytes)| *bytes <= room) {
                Some((way, bytes)) => {
                    good(format!("{seen}; {what} works; MiniCPM-o 2.6 fits with {way} ({})", Size(bytes)))
                }
                None => warning(
                    format!("{seen}; {what} works"),
                    &format!(
                        "MiniCPM-o 2.6 needs {} of its memory even with --quantize q4_k: use the starter engine",
                        Size(ways()[2].1)
                    ),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the released files, as their makers publish them: 8.1 billion parameters of which 7.6 are the language
    /// model's (Qwen2.5 7B, whose own Q4_K and Q8_0 files are 4.4 and 8.1 GB with the embedding table packed too).
    #[test]
    fn the_needs_are_those_of_the_released_model() {
        let [bf16, q8_0, q4_k] = ways().map(|(_, bytes)| bytes as f64 / 1e9);
        assert!((16.9..19.5).contains(&bf16), "{bf16}");
        assert!((10.0..12.5).contains(&q8_0), "{q8_0}");
        assert!((6.5..9.0).contains(&q4_k), "{q4_k}");
    }
}
