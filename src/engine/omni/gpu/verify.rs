//! Whether the kernels' steps are those of the plain decoder, and how long either takes.
//!
//! Owns two segments of speech and two of writing that nobody hears, one made in each way from the same inputs; runs on the engine
//! thread when the model is loaded. Invariant: what disagrees is never used.

use super::super::codes::RandomCodes;
use super::super::llm::Llm;
use super::super::probe::NoProbe;
use super::super::tts::{SpeechState, TextSight, Tts};
use super::language::{LanguageStep, SHORTLIST};
use super::step::FusedStep;
use crate::engine::EngineError;
use crate::engine::kv_cache::{BLOCK, KvCache};
use crate::engine::sampling::Outlook;
use crate::time::Micros;
use candle_core::DType;

/// How far logits may be apart, of the largest, where both ways compute in f32: they add up in different orders.
const TOLERANCE: f32 = 1e-3;
/// The same where the plain way rounds what passes between its steps, and the kernels do not. A step that does something
/// else is off by as much as the logits themselves.
const ROUNDED: f32 = 0.1;
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
    /// What part of it the difference may be.
    pub tolerance: f32,
    /// Milliseconds of a step, in the plain way and in this one.
    pub plain_ms: f64,
    pub fused_ms: f64,
}

impl Agreement {
    fn none(tolerance: f32) -> Self {
        Self { apart: 0.0, largest: 0.0, tolerance, plain_ms: f64::INFINITY, fused_ms: f64::INFINITY }
    }

    /// Whether the kernels may be used.
    pub fn holds(&self) -> bool {
        self.apart <= self.tolerance * self.largest
    }

    fn add<'a>(&mut self, made: impl IntoIterator<Item = &'a f32>, expected: impl IntoIterator<Item = &'a f32>) {
        for (a, b) in made.into_iter().zip(expected) {
            // A difference that is not a number is larger than any.
            let apart = (a - b).abs();
            self.apart = if apart.is_nan() { f32::INFINITY } else { self.apart.max(apart) };
            self.largest = self.largest.max(b.abs());
        }
    }

    /// Times of a step in the plain way, from `start` to `between`, and of one in the other, until now. The best count.
    fn took(&mut self, start: Micros, between: Micros) {
        self.plain_ms = self.plain_ms.min(between.ms_since(start));
        self.fused_ms = self.fused_ms.min(Micros::now().ms_since(between));
    }
}

/// Makes the same frames in both ways: from the beginning, after more text has come, and where the cache grows.
pub fn compare(tts: &Tts, fused: &mut FusedStep) -> Result<Agreement, EngineError> {
    let mut found = Agreement::none(TOLERANCE);
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
    for frame in 0..FRAMES as u32 {
        let start = Micros::now();
        let expected = tts.plain_step(plainly, sight)?.logits;
        let between = Micros::now();
        let made = tts.fused_step(fused, quickly, sight)?;
        found.took(start, between);
        found.add(made.iter().flatten(), expected.iter().flatten());
        let next: Vec<u32> = (0..tts.config.codebooks as u32).map(|q| (q * 131 + frame * 29 + 7) % codes).collect();
        plainly.add(next.clone());
        quickly.add(next);
    }
    Ok(())
}

/// Writes the same words in both ways: after a prompt, and where the cache grows.
pub fn compare_words(llm: &Llm, fused: &mut LanguageStep) -> Result<Agreement, EngineError> {
    let exact = llm.dtype() == DType::F32 && !llm.is_quantised();
    let mut found = Agreement::none(if exact { TOLERANCE } else { ROUNDED });
    let mut caches = [llm.new_cache(2 * BLOCK)?, llm.new_cache(2 * BLOCK)?];
    let prompt: Vec<u32> = (0..TEXT).map(|i| llm.some_token(i)).collect();
    for cache in &mut caches {
        llm.forward(&llm.embed(&prompt)?, cache)?;
    }
    words(llm, fused, &mut caches, &mut found)?;
    if BLOCK + FRAMES <= caches[0].limit() {
        for cache in &mut caches {
            cache.set_len(BLOCK - FRAMES / 2)?;
        }
        words(llm, fused, &mut caches, &mut found)?;
    }
    Ok(found)
}

fn words(
    llm: &Llm,
    fused: &mut LanguageStep,
    [plainly, quickly]: &mut [KvCache; 2],
    found: &mut Agreement,
) -> Result<(), EngineError> {
    for word in 0..FRAMES {
        let id = llm.some_token(TEXT + word);
        let start = Micros::now();
        let expected = llm.logits(&llm.forward(&llm.embed(&[id])?, plainly)?)?.flatten_all()?.to_vec1::<f32>()?;
        let between = Micros::now();
        let outlook = fused.run(id, Some(SHORTLIST), quickly)?;
        found.took(start, between);
        let made = fused.logits()?;
        found.add(&made, &expected);
        if !covers(&outlook, &made) {
            found.apart = f32::INFINITY;
        }
    }
    Ok(())
}

/// Whether `outlook` has the largest of `logits`, as they are.
fn covers(outlook: &Outlook, logits: &[f32]) -> bool {
    let Outlook::Likeliest(some) = outlook else { return true };
    let mut sorted = logits.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let least = sorted.get(SHORTLIST - 1).copied().unwrap_or(f32::NEG_INFINITY);
    let reach = logits.iter().filter(|logit| **logit >= least).count();
    let same = some.iter().all(|(id, logit)| logits.get(*id as usize) == Some(logit));
    same && some.iter().filter(|(_, logit)| *logit >= least).count() == reach
}
