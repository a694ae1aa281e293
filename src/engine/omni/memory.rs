//! What has been said, kept so that a conversation can go on when it outgrows the model's context.
//!
//! Owns the ids and sound embeddings of every turn since the system prompt; lives on the engine thread. When the context
//! fills up, the oldest turns leave and the rest is fed again, at new positions. Invariant: the recorded turns are what
//! the cache holds after the system prompt.

use super::dialogue::{Dialogue, Mind};
use super::probe::Probe;
use super::prompt::{self, Before};
use crate::engine::EngineError;
use candle_core::Tensor;
use std::collections::VecDeque;

/// When turns leave, so many that the rest fills at most this share of the context.
const KEEP: f64 = 0.6;

/// Something that was fed in one go.
#[derive(Clone, Debug)]
pub struct Feed {
    pub ids: Vec<u32>,
    /// Embeddings of the sound in it.
    pub audio: Option<Tensor>,
}

/// One turn of the user's and the answer to it.
#[derive(Clone, Debug, Default)]
struct Turn {
    /// Ids at the start of the first feed that end the answer before.
    header: usize,
    feeds: Vec<Feed>,
}

impl Turn {
    fn positions(&self) -> usize {
        self.feeds.iter().map(|f| f.ids.len()).sum()
    }
}

/// The turns since the system prompt.
#[derive(Debug, Default)]
pub struct Memory {
    turns: VecDeque<Turn>,
    /// Positions of the system prompt, which never leaves.
    system: usize,
}

impl Memory {
    pub fn new(system: usize) -> Self {
        Self { turns: VecDeque::new(), system }
    }

    /// How many turns there are.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// A turn begins, after an answer that was left like `before`.
    pub fn begin(&mut self, mind: &Mind, before: Before) -> Result<(), EngineError> {
        let header = mind.tokens.encode(&prompt::turn_start(before))?.len();
        self.turns.push_back(Turn { header, feeds: Vec::new() });
        Ok(())
    }

    pub fn add(&mut self, ids: Vec<u32>, audio: Option<Tensor>) {
        if let Some(turn) = self.turns.back_mut() {
            turn.feeds.push(Feed { ids, audio });
        }
    }

    /// How many feeds the current turn has.
    pub fn feeds(&self) -> usize {
        self.turns.back().map_or(0, |t| t.feeds.len())
    }

    /// Forgets the current turn's feeds from `n` on.
    pub fn cut_feeds(&mut self, n: usize) {
        if let Some(turn) = self.turns.back_mut() {
            turn.feeds.truncate(n);
        }
    }

    /// Forgets the current turn. Gives the position at which it began.
    pub fn forget_turn(&mut self) -> usize {
        self.turns.pop_back();
        self.system + self.turns.iter().map(Turn::positions).sum::<usize>()
    }

    /// Forgets the last `n` ids of the current turn (the end of an answer that was not heard).
    pub fn cut_ids(&mut self, mut n: usize) {
        let Some(turn) = self.turns.back_mut() else { return };
        while n > 0 {
            let Some(feed) = turn.feeds.last_mut() else { return };
            let cut = n.min(feed.ids.len());
            feed.ids.truncate(feed.ids.len() - cut);
            n -= cut;
            if feed.ids.is_empty() {
                turn.feeds.pop();
            }
        }
    }

    /// Makes room for `wanted` more positions: the oldest turns leave, then the oldest sound of the current turn.
    /// Tells whether anything left.
    pub fn make_room(
        &mut self,
        mind: &Mind,
        dialogue: &mut Dialogue,
        wanted: usize,
        probe: &mut dyn Probe,
    ) -> Result<bool, EngineError> {
        let limit = dialogue.limit();
        if dialogue.positions() + wanted <= limit {
            return Ok(false);
        }
        let most = ((limit as f64 * KEEP) as usize).min(limit.saturating_sub(wanted));
        let used = |turns: &VecDeque<Turn>| self.system + turns.iter().map(Turn::positions).sum::<usize>();
        let mut turns = std::mem::take(&mut self.turns);
        while turns.len() > 1 && used(&turns) > most {
            turns.pop_front();
        }
        // The first feed stays: it has the turn's header.
        while used(&turns) > most && turns.front().is_some_and(|t| t.feeds.len() > 1) {
            if let Some(turn) = turns.front_mut() {
                turn.feeds.remove(1);
            }
        }
        // The turn that is the first now follows the system prompt, not an answer.
        if let Some(turn) = turns.front_mut() {
            let header = mind.tokens.encode(&prompt::turn_start(Before::Nothing))?;
            if let Some(feed) = turn.feeds.first_mut()
                && turn.header != header.len()
            {
                feed.ids.splice(..turn.header.min(feed.ids.len()), header.iter().copied());
            }
            turn.header = header.len();
        }
        self.turns = turns;
        dialogue.cache.truncate(self.system);
        for feed in self.turns.iter().flat_map(|t| &t.feeds) {
            dialogue.repeat(mind, &feed.ids, feed.audio.as_ref(), probe)?;
        }
        Ok(true)
    }
}
