//! One conversation with the language model, held as words and kept in step with a cache.
//!
//! Owns the turns and the cache of one conversation; lives on the engine thread. The turns are the truth: every change to
//! them (a new turn, an answer cut short, a turn taken back, old turns forgotten) is made on the words, and the cache is
//! then brought in step by keeping what still agrees and feeding the rest. So a turn begun on a guess of what the user
//! says costs nothing when the guess was right, and leaves nothing behind when it was wrong. Old turns that are forgotten
//! are cut out of the cache, and what follows moves up: nobody waits for a long conversation to be read again.
//! Invariants: the system prompt never leaves; the ids in the cache are always a beginning of some written conversation;
//! an answer holds whole characters only.

use super::llm::{DEFAULT_SYSTEM_PROMPT, LanguageModel};
use super::template::Role;
use super::vocabulary::Utf8Stream;
use crate::engine::kv_cache::KvCache;
use crate::engine::sampling::{Sampler, SamplingConfig};
use crate::engine::{CancelToken, EngineError, PastTurn};
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use candle_core::Tensor;
use std::sync::Arc;

/// How a conversation is to be led.
#[derive(Clone, Debug)]
pub struct ChatConfig {
    /// Who the assistant is; empty for [`DEFAULT_SYSTEM_PROMPT`].
    pub system_prompt: String,
    pub sampling: SamplingConfig,
    pub seed: u64,
    /// The most positions that the conversation and an answer may take. Beyond half of them, its oldest turns are forgotten.
    pub context: usize,
    /// The most tokens of one answer.
    pub max_answer: usize,
}

impl Default for ChatConfig {
    /// Made for short factual answers: little chance, and a light penalty against going round in circles.
    fn default() -> Self {
        Self {
            system_prompt: String::new(),
            sampling: SamplingConfig {
                temperature: 0.3,
                top_k: 40,
                top_p: 0.9,
                repetition_penalty: 1.05,
                penalty_window: 64,
            },
            seed: 0,
            context: super::llm::MAX_POSITIONS,
            max_answer: 256,
        }
    }
}

/// One token of an answer.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    id: u32,
    /// Where the answer's text ends with it, in bytes; `None` while its character is not whole.
    end: Option<usize>,
}

#[derive(Clone, Debug)]
struct Turn {
    user: Vec<u32>,
    answer: Vec<Spoken>,
    /// How many bytes of text the answer has.
    text: usize,
    /// Whether the answer may still grow.
    open: bool,
}

/// What it takes to undo the last turn.
struct Undo {
    sampler: Sampler,
    /// Older turns that were forgotten since it began.
    forgotten: Vec<Turn>,
}

/// One conversation.
pub struct Chat {
    model: Arc<LanguageModel>,
    config: ChatConfig,
    beginning: Vec<u32>,
    turns: Vec<Turn>,
    cache: KvCache,
    /// The ids whose keys and values the cache holds.
    cached: Vec<u32>,
    /// The logits after all of `cached`, while they are known.
    logits: Option<Tensor>,
    sampler: Sampler,
    stream: Utf8Stream,
    undo: Option<Undo>,
    marks: Vec<StageMark>,
}

impl Chat {
    /// Begins a conversation. The default system prompt is in the cache already; another is prefilled here.
    pub fn new(model: Arc<LanguageModel>, mut config: ChatConfig) -> Result<Self, EngineError> {
        let system = if config.system_prompt.is_empty() { DEFAULT_SYSTEM_PROMPT } else { &config.system_prompt };
        let beginning = model.beginning(system)?;
        let (cached, cache) = model.primed()?;
        config.context = config.context.min(cache.limit());
        if beginning.len() + config.max_answer > config.context {
            return Err(EngineError::Unsupported(format!(
                "the system prompt takes {} of {} positions, which leaves no room for an answer: shorten it",
                beginning.len(),
                config.context
            )));
        }
        let sampler = Sampler::new(config.sampling.clone(), config.seed);
        let stream = Utf8Stream::default();
        let mut chat = Self {
            model,
            config,
            beginning,
            turns: Vec::new(),
            cache,
            cached,
            logits: None,
            sampler,
            stream,
            undo: None,
            marks: Vec::new(),
        };
        chat.settle(&CancelToken::default())?;
        Ok(chat)
    }

    /// Goes on from turns of an earlier conversation, oldest first; of too many, the oldest are forgotten.
    pub fn recall(&mut self, past: &[PastTurn], cancel: &CancelToken) -> Result<(), EngineError> {
        let vocabulary = self.model.vocabulary();
        for turn in past {
            let text = turn.answer.trim();
            let spoken = |id| Spoken { id, end: Some(text.len()) };
            self.turns.push(Turn {
                user: vocabulary.encode(turn.user.trim())?,
                answer: vocabulary.encode(text)?.into_iter().map(spoken).collect(),
                text: text.len(),
                open: false,
            });
        }
        self.forget_oldest()?;
        self.settle(cancel)
    }

    /// The user said `text`: prefills what of it is not in the cache yet and opens the answer. An answer still open is
    /// closed first. When cancelled, the turn stands and the rest is prefilled by the first
    /// [`next_token`](Self::next_token).
    ///
    /// # Errors
    /// When the text alone is longer than the context.
    pub fn begin_turn(&mut self, text: &str, cancel: &CancelToken) -> Result<(), EngineError> {
        self.close_answer();
        let user = self.model.vocabulary().encode(text.trim())?;
        self.undo = Some(Undo { sampler: self.sampler.clone(), forgotten: Vec::new() });
        self.turns.push(Turn { user, answer: Vec::new(), text: 0, open: true });
        self.sampler.forget();
        self.stream = Utf8Stream::default();
        if let Err(e) = self.make_room() {
            self.retract_turn();
            return Err(e);
        }
        self.in_step(cancel)?;
        Ok(())
    }

    /// The next piece of the answer, of one or more tokens, always whole characters; `None` when the answer is complete
    /// or `cancel` was set.
    pub fn next_token(&mut self, cancel: &CancelToken) -> Result<Option<String>, EngineError> {
        loop {
            if !self.turns.last().is_some_and(|t| t.open) || cancel.is_cancelled() {
                return Ok(None);
            }
            if !self.in_step(cancel)? {
                return Ok(None);
            }
            let Some(logits) = &self.logits else { return Ok(None) };
            let id = self.sampler.sample(logits)?;
            let Some(turn) = self.turns.last_mut() else { return Ok(None) };
            let ends = self.model.template().ends(id);
            let mut piece = String::new();
            if !ends {
                self.model.vocabulary().append_bytes(id, self.stream.pending());
                piece = self.stream.take();
                turn.answer.push(Spoken { id, end: None });
            }
            if ends || turn.answer.len() >= self.config.max_answer {
                turn.open = false;
                piece.push_str(&self.stream.finish());
            }
            if turn.text == 0 {
                piece = without_stray_marks(&piece).to_owned();
            }
            if !piece.is_empty() {
                turn.text += piece.len();
                let end = turn.text;
                turn.answer.iter_mut().for_each(|s| s.end = s.end.or(Some(end)));
                return Ok(Some(piece));
            }
        }
    }

    /// The answer is over: closes it, and prefills up to where the user's next words will go. Best called while the
    /// answer is still being played.
    pub fn end_turn(&mut self, cancel: &CancelToken) -> Result<(), EngineError> {
        self.close_answer();
        self.forget_oldest()?;
        self.settle(cancel)
    }

    /// Of the last answer only the first `heard_bytes` bytes were heard: forgets the tokens that were not heard whole,
    /// and closes the turn. Works on an open and on a closed answer.
    pub fn truncate_to(&mut self, heard_bytes: usize, cancel: &CancelToken) -> Result<(), EngineError> {
        if let Some(turn) = self.turns.last_mut() {
            let heard = turn.answer.iter().take_while(|s| s.end.is_some_and(|end| end <= heard_bytes)).count();
            turn.answer.truncate(heard);
        }
        self.end_turn(cancel)
    }

    /// Takes the last turn back, the user's words included, as if [`begin_turn`](Self::begin_turn) had never been
    /// called. What the cache holds of it stays until the next turn shows how much of it is said again.
    pub fn retract_turn(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.turns.pop();
            self.turns.splice(0..0, undo.forgotten);
            self.sampler = undo.sampler;
            self.stream = Utf8Stream::default();
        }
    }

    /// How many turns are remembered.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The whole conversation as the model sees it, in ids.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = self.beginning.clone();
        for (i, turn) in self.turns.iter().enumerate() {
            if i > 0 {
                ids.extend(self.model.template().head(Role::User));
            }
            ids.extend(self.exchange(turn));
        }
        if self.turns.last().is_some_and(|t| !t.open) {
            ids.extend(self.model.template().head(Role::User));
        }
        ids
    }

    /// A turn in ids, from the user's first words on.
    fn exchange(&self, turn: &Turn) -> Vec<u32> {
        let template = self.model.template();
        let mut ids = turn.user.clone();
        ids.extend(template.tail());
        if turn.open || !turn.answer.is_empty() {
            ids.extend(template.head(Role::Assistant));
            ids.extend(turn.answer.iter().map(|s| s.id));
        }
        if !turn.open && !turn.answer.is_empty() {
            ids.extend(template.tail());
        }
        ids
    }

    /// The work done since the last call: prefill and decode, in tokens.
    pub fn take_marks(&mut self) -> Vec<StageMark> {
        std::mem::take(&mut self.marks)
    }

    fn close_answer(&mut self) {
        if let Some(turn) = self.turns.last_mut() {
            turn.open = false;
            // A character that was never completed was never part of the answer's text.
            turn.answer.retain(|s| s.end.is_some());
        }
    }

    fn settle(&mut self, cancel: &CancelToken) -> Result<(), EngineError> {
        self.in_step(cancel).map(|_| ())
    }

    /// Forgets the oldest turn, and cuts out of the cache what that holds of it.
    fn forget_one(&mut self) -> Result<(), EngineError> {
        let oldest = self.turns.remove(0);
        let mut ids = self.exchange(&oldest);
        ids.extend(self.model.template().head(Role::User));
        let cut = self.beginning.len()..self.beginning.len() + ids.len();
        if let Some(undo) = &mut self.undo {
            undo.forgotten.push(oldest);
        }
        if self.cached.starts_with(&self.beginning) && self.cached.get(cut.clone()) == Some(&ids) {
            if let Err(e) = self.model.forget(&mut self.cache, cut.clone()) {
                self.cached.clear();
                return Err(e);
            }
            self.cached.drain(cut);
        }
        Ok(())
    }

    /// Forgets the oldest turns when the conversation takes half of the context, and then enough of them that this is rare.
    /// The other half is for one long question; and what is remembered is attended to at every token.
    fn forget_oldest(&mut self) -> Result<(), EngineError> {
        let remembered = |c: &Self| c.turns.iter().map(Turn::length).sum::<usize>();
        let room = self.config.context.saturating_sub(self.beginning.len());
        if remembered(self) <= room / 2 {
            return Ok(());
        }
        while self.turns.len() > 1 && remembered(self) > room * 3 / 8 {
            self.forget_one()?;
        }
        Ok(())
    }

    /// Makes sure that the open turn and an answer to it fit.
    fn make_room(&mut self) -> Result<(), EngineError> {
        loop {
            let needed = self.ids().len() + self.config.max_answer;
            if needed <= self.config.context {
                return Ok(());
            }
            if self.turns.len() == 1 {
                return Err(EngineError::Unsupported(format!(
                    "what was said takes {needed} of {} positions: say it in parts",
                    self.config.context
                )));
            }
            self.forget_one()?;
        }
    }

    /// Brings the cache in step with the turns. `false` when cancelled on the way.
    fn in_step(&mut self, cancel: &CancelToken) -> Result<bool, EngineError> {
        let ids = self.ids();
        let agreed = ids.iter().zip(&self.cached).take_while(|(a, b)| a == b).count();
        if agreed == ids.len() && self.cached.len() == agreed && self.logits.is_some() {
            return Ok(true);
        }
        // The logits after the last id are wanted, so at least that one is fed, unless no answer is open.
        let open = self.turns.last().is_some_and(|t| t.open);
        let keep = if open { agreed.min(ids.len() - 1) } else { agreed };
        self.cache.truncate(keep);
        self.cached.truncate(keep);
        self.logits = None;
        let rest = &ids[keep..];
        if rest.is_empty() {
            return Ok(true);
        }
        let stage = if rest.len() == 1 && open { Stage::LlmDecode } else { Stage::LlmPrefill };
        let start = Micros::now();
        self.logits = self.model.feed(rest, &mut self.cache, cancel)?;
        let fed = self.cache.len() - keep;
        self.cached.extend(&rest[..fed]);
        self.marks.push(StageMark { epoch: 0, stage, start, end: Micros::now(), units: fed as u32 });
        Ok(self.logits.is_some())
    }
}

/// The beginning of an answer without marks that end something: a small model that is given half a sentence sometimes
/// puts the full stop first.
fn without_stray_marks(piece: &str) -> &str {
    piece.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '…' | '，' | '。')
    })
}

impl Turn {
    /// Tokens, with some allowance for the heads and ends of its two messages.
    fn length(&self) -> usize {
        self.user.len() + self.answer.len() + 12
    }
}

#[cfg(test)]
mod tests {
    use super::without_stray_marks;

    #[test]
    fn an_answer_begins_with_its_first_word() {
        for (written, kept) in [
            (". Sure, go on.", "Sure, go on."),
            ("，好的。", "好的。"),
            ("...", ""),
            ("-5 degrees", "-5 degrees"),
            ("\"Yes.\"", "\"Yes.\""),
        ] {
            assert_eq!(without_stray_marks(written), kept, "{written:?}");
        }
    }
}
