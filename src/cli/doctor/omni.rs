//! What `doctor` says about the omni engine on the processor alone: what it would take at best, from what this machine was
//! measured to do.
//!
//! Pure: the finding follows from the measurement and from the released model's sizes.

use super::{Finding, Severity, finding};
use crate::engine::floor::Measured;
use crate::engine::omni::ways::released_values;

/// Bytes of a weight in Q8_0 and in Q4_K.
const EIGHT_BITS: f64 = 34.0 / 32.0;
const FOUR_BITS: f64 = 144.0 / 256.0;
/// Frames of a second of speech: 24,000 samples, 512 a frame.
const FRAMES: f64 = 24_000.0 / 512.0;
/// Words are spoken at about so many tokens of text a second.
const TOKENS: f64 = 3.5;
/// Positions of a second of sound in the audio encoder.
const POSITIONS: f64 = 50.0;
/// Of a floor that leaves less than this, nothing is left for what is not in it.
const COMFORTABLE: f64 = 0.6;

/// The released model: values that a step must read, or multiply with.
struct Values {
    language: f64,
    speech: f64,
    hearing: f64,
}

fn released() -> Values {
    let of = |prefix: &str| {
        let matrix = |name: &str, shape: &[usize]| {
            name.starts_with(prefix) && shape.len() == 2 && !name.contains("embed_tokens")
        };
        released_values(&matrix) as f64
    };
    Values { language: of("llm."), speech: of("tts.model."), hearing: of("apm.") }
}

/// The finding about the omni engine without a graphics card.
pub fn on_cpu(machine: &Measured) -> Finding {
    let values = released();
    let token = machine.read_ms(values.language * FOUR_BITS);
    let frame = machine.read_ms(values.speech * EIGHT_BITS);
    let hearing = 2.0 * values.hearing * POSITIONS / machine.dense.max(1.0);
    // Of each second of speech: its text, and its frames.
    let share = (TOKENS * token + FRAMES * frame) / 1000.0;
    let seen = format!(
        "at best, on {} thread(s) that read {:.0} GB/s and do {:.0} GFLOP/s: hearing {hearing:.2} of the time it sounds, a token every \
         {token:.0} ms (q4_k), a frame of speech every {frame:.1} ms of its {:.0} (q8_0)",
        machine.threads,
        machine.bandwidth / 1e9,
        machine.dense / 1e9,
        1000.0 / FRAMES,
    );
    if share <= COMFORTABLE && hearing <= COMFORTABLE {
        let remedy = "with --quantize q4_k --quantize-speech q8_0 it may keep up with its own voice; its first word will take a while";
        return finding(Severity::Good, "omni on cpu", seen, remedy);
    }
    let seen = format!("{seen}; it would speak {share:.1} times slower than it is heard, or worse");
    finding(Severity::Good, "omni on cpu", seen, "use the starter engine here, or a graphics card for the omni engine")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 7.1 billion values in the language model's matrices without its table, 189 million in the speech model's layers
    /// (377.5 MB in bf16), as reckoned in `docs/performance.md`.
    #[test]
    fn the_sizes_are_those_of_the_released_model() {
        let values = released();
        assert!((values.language - 7.07e9).abs() < 0.1e9, "{}", values.language);
        assert!((values.speech - 188.7e6).abs() < 1e6, "{}", values.speech);
        assert!((280e6..340e6).contains(&values.hearing), "{}", values.hearing);
    }

    #[test]
    fn a_laptop_is_told_to_use_the_starter_and_a_server_that_it_may_keep_up() {
        let laptop = Measured { threads: 1, bandwidth: 25e9, dense: 90e9, packed: 150e9 };
        let found = on_cpu(&laptop);
        assert!(found.seen.contains("a token every 159 ms") && found.remedy.contains("starter"), "{found:?}");
        assert!(found.seen.contains("a frame of speech every 8.0 ms of its 21"), "{found:?}");
        let server = Measured { threads: 31, bandwidth: 300e9, dense: 2e12, packed: 4e12 };
        assert!(on_cpu(&server).remedy.contains("may keep up"));
    }
}
