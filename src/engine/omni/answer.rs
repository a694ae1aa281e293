//! The language model's answer, token by token.
//!
//! [`Answer`] owns the sampler's state and what has been said; lives on the engine thread. It remembers at which
//! byte of the text each token ended, so that an answer can be cut back to what was heard.
//! Invariant: the text given out never splits a character and holds no special token.

use super::dialogue::{Dialogue, Mind, Opening};
use super::probe::Probe;
use crate::engine::EngineError;
use crate::engine::sampling::{Outlook, Sampler, SamplingConfig};

/// Upstream's sampling of the language model, with a window of a useful length for the repetition penalty (upstream
/// forgets it every three tokens).
pub const SAMPLING: SamplingConfig =
    SamplingConfig { temperature: 0.7, top_k: 100, top_p: 0.8, repetition_penalty: 1.05, penalty_window: 128 };
/// No character has more tokens than this: what does not decode by then never will.
const LONGEST_CHARACTER: usize = 4;

/// An answer in the making.
pub struct Answer {
    outlook: Option<Outlook>,
    sampler: Sampler,
    /// Ids that do not decode to whole characters yet.
    held: Vec<u32>,
    text: String,
    /// The tokens that were fed, and after each the bytes of text so far.
    fed: Vec<u32>,
    ends: Vec<usize>,
    left: usize,
    over: bool,
}

impl Answer {
    /// An answer to `opening` of up to `most` tokens.
    pub fn new(opening: &Opening, sampler: Sampler, most: usize) -> Self {
        Self {
            outlook: Some(Outlook::All(opening.logits.clone())),
            sampler,
            held: Vec::new(),
            text: String::new(),
            fed: Vec::new(),
            ends: Vec::new(),
            left: most,
            over: false,
        }
    }

    pub fn over(&self) -> bool {
        self.over
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sampler, to go on with in the next answer.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Finds the next token; gives the text that is certain now.
    pub fn step(&mut self, mind: &Mind, dialogue: &mut Dialogue, probe: &mut dyn Probe) -> Result<String, EngineError> {
        let Some(outlook) = self.outlook.take().filter(|_| !self.over) else {
            self.over = true;
            return Ok(String::new());
        };
        let id = self.sampler.choose(&outlook)?;
        if mind.tokens.ends(id) {
            dialogue.finish();
            self.over = true;
            return self.release(mind, true);
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || dialogue.positions() + 1 >= dialogue.limit() {
            self.over = true;
        }
        let silent = mind.tokens.is_silent(id);
        if !silent {
            self.held.push(id);
        }
        let piece = self.release(mind, silent || self.over)?;
        self.outlook = Some(dialogue.say(mind, id, self.sampler.needs(), probe)?);
        self.fed.push(id);
        self.ends.push(self.text.len());
        // After the end of the speech nothing more is said; the end of the turn is fed with the next one.
        if id == mind.tokens.speech_end {
            dialogue.finish();
            self.over = true;
        }
        Ok(piece)
    }

    /// The text of the ids held, as far as it is certain; all of it with `all`.
    fn release(&mut self, mind: &Mind, all: bool) -> Result<String, EngineError> {
        let ready = match mind.tokens.complete(&self.held)? {
            _ if all || self.held.len() >= LONGEST_CHARACTER => self.held.len(),
            ready => ready,
        };
        if ready == 0 {
            return Ok(String::new());
        }
        let ids: Vec<u32> = self.held.drain(..ready).collect();
        let piece = mind.tokens.decode(&ids)?;
        self.text.push_str(&piece);
        Ok(piece)
    }

    /// The tokens that were fed.
    pub fn fed(&self) -> &[u32] {
        &self.fed
    }

    /// How many of the tokens fed must go so that the text is at most its first `bytes` bytes; `None` when all of it
    /// may stay.
    pub fn cut_at(&self, bytes: usize) -> Option<usize> {
        let kept = self.ends.iter().take_while(|end| **end <= bytes).count();
        (bytes < self.text.len()).then(|| self.fed.len() - kept)
    }
}
