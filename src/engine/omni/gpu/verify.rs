//! Whether the kernels' frames are those of the plain decoder, and how long either takes.
//!
//! Owns two segments of speech that nobody hears, one made in each way from the same text and frames; runs on the engine
//! thread when the model is loaded. Invariant: what disagrees is never used.

use super::super::codes::RandomCodes;
use super::super::probe::NoProbe;
use super::super::tts::{SpeechState, TextSight, Tts};
use super::step::FusedStep;
use crate::engine::EngineError;
use crate::engine::kv_cache::BLOCK;
use crate::time::Micros;

/// How far logits may be apart, of the largest: both ways compute in f32, and add up in different orders.
const TOLERANCE: f32 = 1e-3;
/// Tokens of text that are given at once, and frames made after them.
const TEXT: usize = 15;
const FRAMES: usize = 8;

/// What came of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// The largest difference of two logits.
    pub apart: f32,
    /// The largest logit.
    pub largest: f32,
    /// Milliseconds of a frame, in the plain way and in this one.
    pub plain_ms: f64,
    pub fused_ms: f64,
}

impl Agreement {
    /// Whether the kernels may be used.
    pub fn holds(&self) -> bool {
        self.apart <= TOLERANCE * self.largest
    }
}

/// Makes the same frames in both ways: from the beginning, after more text has come, and where the cache grows.
pub fn compare(tts: &Tts, fused: &mut FusedStep) -> Result<Agreement, EngineError> {
    let mut found = Agreement { apart: 0.0, largest: 0.0, plain_ms: 0.0, fused_ms: 0.0 };
    let mut states = [tts.begin(&mut RandomCodes::new(0))?, tts.begin(&mut RandomCodes::new(0))?];
    let first_words: Vec<u32> = (0..).filter(|id| *id != tts.config.speaker_token).take(2 * TEXT).collect();
    for (part, ids) in first_words.chunks(TEXT).enumerate() {
        for state in &mut states {
            tts.prefill_text(state, ids, part * TEXT, None, &mut NoProbe)?;
        }
        stretch(tts, fused, &mut states, &mut found)?;
    }
    // Far enough for the cache to have grown once, and to grow again on the way. Slots that are skipped hold zeros.
    let edge = (states[0].cache().len() + BLOCK).next_multiple_of(BLOCK);
    if edge + FRAMES <= states[0].cache().limit() {
        for state in &mut states {
            state.skip_to(edge - FRAMES / 2)?;
        }
        stretch(tts, fused, &mut states, &mut found)?;
    }
    Ok(found)
}

fn stretch(
    tts: &Tts,
    fused: &mut FusedStep,
    [plainly, quickly]: &mut [SpeechState; 2],
    found: &mut Agreement,
) -> Result<(), EngineError> {
    let sight = TextSight { tokens: 2 * TEXT, hide_unwritten: true };
    let codes = tts.config.end_code();
    let (mut plain_ms, mut fused_ms) = (f64::INFINITY, f64::INFINITY);
    for frame in 0..FRAMES as u32 {
        let start = Micros::now();
        let expected = tts.plain_step(plainly, sight)?.logits;
        let between = Micros::now();
        let made = tts.fused_step(fused, quickly, sight)?;
        plain_ms = plain_ms.min(between.ms_since(start));
        fused_ms = fused_ms.min(Micros::now().ms_since(between));
        for (a, b) in made.iter().flatten().zip(expected.iter().flatten()) {
            // A difference that is not a number is larger than any.
            let apart = (a - b).abs();
            found.apart = if apart.is_nan() { f32::INFINITY } else { found.apart.max(apart) };
            found.largest = found.largest.max(b.abs());
        }
        let next: Vec<u32> = (0..tts.config.codebooks as u32).map(|q| (q * 131 + frame * 29 + 7) % codes).collect();
        plainly.add(next.clone());
        quickly.add(next);
    }
    (found.plain_ms, found.fused_ms) = (plain_ms, fused_ms);
    Ok(())
}
