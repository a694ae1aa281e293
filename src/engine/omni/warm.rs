//! The first steps of a loaded model, before anyone waits for them.
//!
//! A GPU compiles and loads a kernel when it is first asked for it, its libraries plan a product when they first see its
//! shape, and on the CPU packed copies of quantised weights are made at their first product. [`up`] has every stage work
//! once, on sound and words that nobody hears, so that the first turn is as fast as the tenth. Runs on the engine thread.
//! Invariant: the model is left as it was; only what lies beside it (kernels, plans, packed weights) is new.

use super::codes::RandomCodes;
use super::dialogue::Dialogue;
use super::load::Omni;
use super::probe::Probe;
use super::prompt::{Language, Mode, UNIT, placeholders, system_prompt};
use super::speech::Speech;
use super::words::WordFeed;
use crate::engine::EngineError;
use crate::engine::sampling::{Outlook, Sampler, SamplingConfig};

/// Steps of the language model, and at most so many of the speech model (its first sound takes 16).
const WORDS: usize = 3;
const FRAMES: usize = 24;
/// Words enough for the speech model to begin, and to be given its text in two parts.
const TEXT: &str = "One moment, please: these are the very first words, and nobody hears them.";
/// Room for the prompt, two pieces of sound and a few words.
const POSITIONS: usize = 512;

/// Has every stage of `omni` work once. `probe` sees it.
pub fn up(omni: &mut Omni, probe: &mut dyn Probe) -> Result<(), EngineError> {
    let mind = &mut omni.mind;
    // A hum, so that no stage meets an input of nothing but zeros.
    let hum: Vec<f32> = (0..UNIT + UNIT / 2).map(|i| (i as f32 * 0.05).sin() * 0.1).collect();
    let places = placeholders(mind.ear.positions(UNIT), mind.ear.group());
    let message = system_prompt(Mode::Assistant, Language::English, Some(&places), "");
    let limit = POSITIONS.min(omni.config.llm.max_positions);
    let mut dialogue = Dialogue::new(mind, limit)?;
    if mind.tokens.encode(&message)?.len() + 2 * mind.ear.group() + 64 > limit {
        // A model with so little room has nothing to warm.
        return Ok(());
    }
    dialogue.open(mind, &message, Some(&hum[..UNIT]), probe)?;
    let hidden = dialogue.voice(mind)?;
    for piece in hum.chunks(UNIT) {
        dialogue.listen(mind, piece, probe)?;
    }
    // The likeliest word: the copy back from the device is part of a step.
    let mut likeliest = Sampler::new(SamplingConfig::GREEDY, 0);
    let mut outlook = Outlook::All(dialogue.begin_answer(mind, probe)?.logits);
    for _ in 0..WORDS {
        let id = likeliest.choose(&outlook)?;
        outlook = dialogue.say(mind, id, likeliest.needs(), probe)?;
    }

    let mouth = &mut omni.mouth;
    let voice = mouth.tts.speaker(&hidden)?;
    let mut codes = RandomCodes::new(0);
    let mut feed = WordFeed::new();
    let mut speech = Speech::new(mouth, voice);
    speech.say(feed.push(TEXT, &mouth.tokens)?);
    speech.say(feed.finish(&mouth.tokens)?);
    speech.finish();
    let mut sounded = false;
    while !sounded && speech.frames() < FRAMES && speech.ready(mouth) {
        sounded = speech.step(mouth, &mut codes, probe)?.is_some();
    }
    Ok(())
}
