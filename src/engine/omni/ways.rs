//! In which precisions the released model fits which graphics card, told before anything of it is here.
//!
//! Pure arithmetic over the published sizes. What a checkpoint on the disk really needs is told by [`needs`](super::needs)
//! from its headers.

use super::Quantization;
use super::random_checkpoint::{Sizes, tensors};

/// Keys and values of the default context, and what a step computes with, beside the weights.
const WORK: u64 = 1_500_000_000;
/// What the display, the driver and the libraries keep of a card's memory.
const TAKEN: u64 = 1_000_000_000;

/// A precision to load the released model in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name for people.
    pub name: &'static str,
    /// How it is asked for on the command line.
    pub flag: &'static str,
    /// What the language model is quantised to.
    pub quantize: Option<Quantization>,
    /// Bytes of the graphics card's memory that it needs.
    pub bytes: u64,
}

/// What a card with `memory` bytes has for a model.
pub const fn room(memory: u64) -> u64 {
    memory.saturating_sub(TAKEN)
}

/// How many values the released model's tensors hold whose name and shape `keep` says yes to. The speech model's own table
/// of words is none of them: nothing reads it, so nothing loads it.
pub fn released_values(keep: &dyn Fn(&str, &[usize]) -> bool) -> u64 {
    let all = tensors(&Sizes::FULL);
    let kept =
        all.iter().filter(|(name, shape)| !name.starts_with("tts.model.embed_tokens.") && keep(name, shape.as_slice()));
    kept.map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
}

/// The released model in bf16, or with its language model quantised; the largest first.
pub fn ways() -> [Way; 3] {
    let values = released_values;
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
    let quantised = |name, flag, kind| Way { name, flag, quantize: Some(kind), bytes: total(packed(kind)) };
    [
        Way { name: "bf16", flag: "--dtype bf16", quantize: None, bytes: total(2 * matrices) },
        quantised("q8_0", "--quantize q8_0", Quantization::Q8_0),
        quantised("q4_k", "--quantize q4_k", Quantization::Q4K),
    ]
}

/// The way to load the released model into so many free bytes of a graphics card when nobody has said how: the largest
/// that fits. `None`: none does.
pub fn fitting(free: u64) -> Option<Way> {
    ways().into_iter().find(|way| way.bytes <= free)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the released files, as their makers publish them: 8.1 billion parameters of which 7.6 are the language
    /// model's (Qwen2.5 7B, whose own Q4_K and Q8_0 files are 4.4 and 8.1 GB with the embedding table packed too).
    #[test]
    fn the_needs_are_those_of_the_released_model() {
        let [bf16, q8_0, q4_k] = ways().map(|way| way.bytes as f64 / 1e9);
        assert!((16.9..19.5).contains(&bf16), "{bf16}");
        assert!((10.0..12.5).contains(&q8_0), "{q8_0}");
        assert!((6.5..9.0).contains(&q4_k), "{q4_k}");
        let fits = |gigabytes: u64| fitting(gigabytes * 1_000_000_000).map(|way| way.quantize);
        assert_eq!([fits(6), fits(9)], [None, Some(Some(Quantization::Q4K))]);
        assert_eq!([fits(14), fits(22)], [Some(Some(Quantization::Q8_0)), Some(None)]);
    }
}
