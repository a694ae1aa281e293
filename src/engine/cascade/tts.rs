//! A voice: speakable text in, levelled sound out, clause by clause, with pauses between that sound like breathing.
//!
//! Lives on the voice thread of the starter engine. Joins [`Phonemizer`], [`Piper`] and [`Shaper`]. Invariants: every
//! clause begins and ends at zero; no sample leaves -0.95..0.95; the sound of a clause is given piece by piece as it is made,
//! and the cancel token is looked at between them.

use super::clauses::ClauseEnd;
use super::phonemes::Phonemizer;
use super::piper::{Piper, PiperConfig};
use super::shaper::{Shaper, active_rms};
use crate::engine::{CancelToken, EngineError};
use crate::time::Micros;
use std::path::Path;

/// How a voice is run.
#[derive(Clone, Copy, Debug)]
pub struct VoiceOptions {
    /// Threads that compute; the default leaves a core free for the sound.
    pub threads: usize,
}

impl Default for VoiceOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores.saturating_sub(1).max(1) }
    }
}

/// What a voice reports while it speaks a clause.
#[derive(Debug)]
pub enum Spoken {
    /// The text has become frames.
    Prepared { start: Micros, end: Micros, phonemes: usize },
    /// More sound.
    Sound {
        start: Micros,
        end: Micros,
        samples: Vec<f32>,
        /// How much of the clause has been spoken with this, as a share of its phonemes, 0..=1; see [`spoken_bytes`].
        done: f32,
    },
}

/// A voice ready to speak.
pub struct Voice {
    phonemizer: Phonemizer,
    table: super::phonemes::PhonemeTable,
    piper: Piper,
    rate: u32,
    /// Brings this voice to the level all voices have.
    gain: f32,
    unmapped: usize,
}

/// The level of speech, as the root mean square of its loud parts: 20 dB below full scale, so that peaks stay clear.
const LEVEL: f32 = 0.1;

/// Frames that are sounded at a time. The first are few, to be heard early; then more, so that the flow's weights are read
/// less often.
const FIRST: usize = 28;
const NEXT: usize = 64;

impl Voice {
    /// Loads a Piper voice and warms it up. `onnx` and `json` are the voice and its configuration.
    pub fn load(onnx: &Path, json: &Path, options: VoiceOptions) -> Result<Self, EngineError> {
        let config = PiperConfig::read(json)?;
        let piper = Piper::load(onnx, config.inference, options.threads)?;
        let table = config.table()?;
        let mut voice = Self {
            phonemizer: Phonemizer::new(),
            table,
            piper,
            rate: config.audio.sample_rate,
            gain: 1.0,
            unmapped: 0,
        };
        // Also the warm-up. The voice's own level, from a sentence with most sounds of English.
        let sample = voice.synthesize("The quick brown fox jumps over the lazy dog.", &CancelToken::default())?;
        let level = active_rms(&sample, voice.rate);
        if level > 0.0 {
            voice.gain = (LEVEL / level).clamp(0.1, 10.0);
        }
        Ok(voice)
    }

    /// Hertz of the sound.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How many phonemes this voice had no sign for since it was loaded; they were left out.
    pub fn unmapped(&self) -> usize {
        self.unmapped
    }

    /// Starts the voice's variation anew, so that a conversation can be repeated.
    pub fn seed(&mut self, seed: u64) {
        self.piper.seed(seed);
    }

    /// Speaks faster (2 is twice as fast) or slower, without changing its pitch; 1 as it was made.
    pub fn set_speed(&mut self, speed: f32) {
        self.piper.set_speed(speed);
    }

    /// Speaks one clause, which the text room has made speakable, giving its parts to `give` as they are made. `end`
    /// decides the melody at its end and the pause after it. Returns `false` when cancelled, or when `give` did.
    pub fn speak(
        &mut self,
        text: &str,
        end: ClauseEnd,
        cancel: &CancelToken,
        give: &mut dyn FnMut(Spoken) -> bool,
    ) -> Result<bool, EngineError> {
        let start = Micros::now();
        let mut ipa = self.phonemizer.phonemes(text)?;
        if ipa.is_empty() {
            return Ok(true);
        }
        if end != ClauseEnd::Run && ipa.ends_with(|c: char| !".?!,;:".contains(c)) {
            ipa.push('.');
        }
        let encoded = self.table.encode(&ipa);
        self.unmapped += encoded.unmapped;
        if cancel.is_cancelled() {
            return Ok(false);
        }
        let mut frames = self.piper.encode(&encoded.ids)?;
        let phonemes = ipa.chars().count();
        if !give(Spoken::Prepared { start, end: Micros::now(), phonemes }) {
            return Ok(false);
        }

        let mut shaper = Shaper::new(self.rate, self.gain);
        let mut next = FIRST;
        while !frames.is_sounded() {
            if cancel.is_cancelled() {
                return Ok(false);
            }
            let start = Micros::now();
            let mut samples = shaper.push(&self.piper.sound(&mut frames, next)?);
            let mut done = frames.share_sounded();
            if frames.is_sounded() {
                samples.extend(shaper.finish(pause_after(end)));
                done = 1.0;
            }
            if !samples.is_empty() && !give(Spoken::Sound { start, end: Micros::now(), samples, done }) {
                return Ok(false);
            }
            next = NEXT;
        }
        Ok(true)
    }

    /// The whole sound of a sentence, at [`rate`](Self::rate); what there is of it when cancelled.
    pub fn synthesize(&mut self, text: &str, cancel: &CancelToken) -> Result<Vec<f32>, EngineError> {
        let mut out = Vec::new();
        self.speak(text, ClauseEnd::Sentence, cancel, &mut |spoken| {
            if let Spoken::Sound { samples, .. } = spoken {
                out.extend(samples);
            }
            true
        })?;
        Ok(out)
    }
}

/// How many bytes of `text` have been spoken when `done` of its phonemes have: whole words only, all of it at the end.
pub fn spoken_bytes(text: &str, done: f32) -> usize {
    if done >= 1.0 {
        return text.len();
    }
    let reached = (text.len() as f32 * done.max(0.0)) as usize;
    let mut spoken = 0;
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        if at > reached {
            break;
        }
        if c.is_whitespace() && in_word {
            spoken = at;
        }
        in_word = !c.is_whitespace();
    }
    spoken
}

/// How long people pause after a clause, in milliseconds.
fn pause_after(end: ClauseEnd) -> u32 {
    match end {
        ClauseEnd::Sentence | ClauseEnd::Text => 300,
        ClauseEnd::Line => 350,
        ClauseEnd::Comma => 150,
        ClauseEnd::Run => 30,
    }
}

#[cfg(test)]
mod tests {
    use super::spoken_bytes;

    #[test]
    fn spoken_text_ends_with_a_whole_word() {
        let text = " One thrée five.";
        assert_eq!(spoken_bytes(text, 0.0), 0);
        assert_eq!(spoken_bytes(text, 0.3), 4);
        assert_eq!(spoken_bytes(text, 0.6), 4);
        assert_eq!(spoken_bytes(text, 0.7), 11);
        assert_eq!(spoken_bytes(text, 0.99), 11);
        assert_eq!(spoken_bytes(text, 1.0), text.len());
        assert_eq!(spoken_bytes("", 0.5), 0);
        assert!("天空是蓝".is_char_boundary(spoken_bytes("天空是蓝", 0.4)));
    }
}
