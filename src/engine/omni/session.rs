//! A conversation with the omni model: the seam's calls, turned into prefill, answer and speech.
//!
//! Owns the dialogue, the memory and the sampling of one conversation and shares the model with its siblings; lives on
//! the engine thread. Sound is taken in as it comes, one second at a time. Invariants: an answer stops within one step of
//! a cancel; after `retract` the state is bit for bit that before `respond`; the voice stays that of the system prompt.

use super::answer::{Answer, SAMPLING};
use super::codes::RandomCodes;
use super::compat::{AnswerPieces, CompatSpeech, Pieces, Spoken};
use super::dialogue::{Dialogue, Mark, Opening};
use super::load::{Omni, OmniOptions};
use super::memory::Memory;
use super::meter::Meter;
use super::probe::Probe;
use super::prompt::{self, Before};
use super::speech::Speech;
use super::words::WordFeed;
use crate::engine::sampling::{Sampler, SamplingConfig};
use crate::engine::{CancelToken, EngineError, EngineSession, PastTurn, PcmChunk, ReplyEnd, ResponseSink};
use crate::time::Micros;
use candle_core::Tensor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Before more words are looked for, so much sound should be ahead of the listener.
const SAFE_SECONDS: f64 = 0.15;
/// With so much sound ahead, words come first.
const AMPLE_SECONDS: f64 = 1.0;
/// Fewer tokens than this ahead of the speech are few.
const FEW_TOKENS: usize = 10;

/// The model, shared by its conversations.
pub type Shared = Arc<Mutex<Omni>>;

/// The model's lock: only the engine thread takes it, so it is always free.
pub fn lock(shared: &Shared) -> MutexGuard<'_, Omni> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was done ahead of `respond`.
struct Ahead {
    undo: Undo,
    opening: Opening,
}

/// The state before an answer.
#[derive(Clone)]
struct Undo {
    mark: Mark,
    feeds: usize,
}

/// The answer that was given last.
struct Given {
    undo: Undo,
    answer: Option<Answer>,
}

/// One conversation.
pub struct OmniSession {
    pub(super) model: Shared,
    options: OmniOptions,
    pub(super) dialogue: Dialogue,
    memory: Memory,
    /// The voice's embedding.
    speaker: Tensor,
    sampler: Sampler,
    codes: RandomCodes,
    /// Sound that is not a whole second yet.
    pub(super) pending: Vec<f32>,
    /// What the turn began after, while there is one.
    turn: Option<Before>,
    ahead: Option<Ahead>,
    given: Option<Given>,
}

impl OmniSession {
    /// A conversation that begins after the system prompt in `dialogue`.
    pub fn new(model: Shared, options: OmniOptions, dialogue: Dialogue, speaker: Tensor, seed: u64) -> Self {
        let memory = Memory::new(dialogue.positions());
        let sampling = SamplingConfig { penalty_window: options.repetition_window, ..SAMPLING };
        Self {
            model,
            options,
            dialogue,
            memory,
            speaker,
            sampler: Sampler::new(sampling, seed),
            codes: RandomCodes::new(seed),
            pending: Vec::new(),
            turn: None,
            ahead: None,
            given: None,
        }
    }

    /// How many turns the model remembers.
    pub fn turns(&self) -> usize {
        self.memory.turns()
    }

    /// Positions of the language model in use.
    pub fn positions(&self) -> usize {
        self.dialogue.positions()
    }

    /// Takes back what was done ahead.
    fn step_back(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            self.undo(&ahead.undo);
        }
    }

    fn undo(&mut self, undo: &Undo) {
        self.dialogue.back_to(&undo.mark);
        self.memory.cut_feeds(undo.feeds);
    }

    /// The last answer stands; what it answered is no longer waiting.
    fn settle(&mut self) {
        if self.given.take().is_some() {
            self.pending.clear();
            self.turn = None;
        }
    }

    fn begin_turn(&mut self, omni: &Omni) -> Result<(), EngineError> {
        if self.turn.is_none() {
            self.turn = Some(self.dialogue.before);
            self.memory.begin(&omni.mind, self.dialogue.before)?;
        }
        Ok(())
    }

    /// Room for `positions` more and for an answer.
    fn make_room(&mut self, omni: &Omni, positions: usize, probe: &mut dyn Probe) -> Result<(), EngineError> {
        let wanted = positions + self.options.answer_tokens + 64;
        let left = self.memory.make_room(&omni.mind, &mut self.dialogue, wanted, probe)?;
        if left && self.memory.turns() == 1 {
            // The turn is now the conversation's first.
            self.turn = Some(Before::Nothing);
            if self.memory.feeds() == 0 {
                self.dialogue.before = Before::Nothing;
            }
        }
        Ok(())
    }

    fn take_in(&mut self, omni: &mut Omni, pcm: &[f32], probe: &mut dyn Probe) -> Result<(), EngineError> {
        self.begin_turn(omni)?;
        self.make_room(omni, 64, probe)?;
        let (ids, audio) = if pcm.len() < prompt::SHORTEST {
            let mut padded = pcm.to_vec();
            padded.resize(prompt::SHORTEST, 0.0);
            self.dialogue.listen(&mut omni.mind, &padded, probe)?
        } else {
            self.dialogue.listen(&mut omni.mind, pcm, probe)?
        };
        self.memory.add(ids, Some(audio));
        Ok(())
    }

    /// Takes in the rest of the sound and begins the answer. `None` when cancelled on the way or nothing was said.
    fn prepare(
        &mut self,
        omni: &mut Omni,
        probe: &mut dyn Probe,
        cancel: &CancelToken,
    ) -> Result<Option<Ahead>, EngineError> {
        if self.turn.is_none() && self.pending.is_empty() {
            return Ok(None);
        }
        self.begin_turn(omni)?;
        self.make_room(omni, 64, probe)?;
        let undo = Undo { mark: self.dialogue.mark(), feeds: self.memory.feeds() };
        if !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            let taken = self.take_in(omni, &rest, probe);
            self.pending = rest;
            taken?;
        }
        if cancel.is_cancelled() {
            self.undo(&undo);
            return Ok(None);
        }
        let opening = self.dialogue.begin_answer(&omni.mind, probe)?;
        self.memory.add(omni.mind.tokens.encode(prompt::ANSWER)?, None);
        Ok(Some(Ahead { undo, opening }))
    }

    /// Thinks and speaks by turns until done. Gives whether it was cancelled.
    fn reply(
        &mut self,
        omni: &mut Omni,
        answer: &mut Answer,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let mut meter = Meter::new(sink);
        let mut feed = WordFeed::new();
        let mut speech = Speech::new(&omni.mouth, self.speaker.clone());
        let mut clock = Lead::new(omni);
        let mut told = false;
        while !speech.done() {
            if cancel.is_cancelled() {
                return Ok(true);
            }
            let ready = speech.ready(&omni.mouth);
            let few = speech.ahead(&omni.mouth) < FEW_TOKENS;
            if !answer.over() && (!ready || clock.allows_thinking(&speech, few)) {
                if !ready && speech.unheard() > 0 && clock.seconds(&speech) < SAFE_SECONDS {
                    let sound = speech.flush(&mut omni.mouth, &mut meter)?;
                    meter.flush();
                    clock.sounded();
                    if !send(sink, sound.samples, sound.overlap, sound.text_end) {
                        return Ok(true);
                    }
                }
                let piece = answer.step(&omni.mind, &mut self.dialogue, &mut meter)?;
                if !piece.is_empty() {
                    sink.text(&piece);
                    speech.say(feed.push(&piece, &omni.mouth.tokens)?);
                }
                continue;
            }
            if answer.over() && !told {
                told = true;
                speech.say(feed.finish(&omni.mouth.tokens)?);
                speech.finish();
                continue;
            }
            if let Some(sound) = speech.step(&mut omni.mouth, &mut self.codes, &mut meter)? {
                meter.flush();
                clock.sounded();
                if !send(sink, sound.samples, sound.overlap, sound.text_end) {
                    return Ok(true);
                }
            }
        }
        let last = PcmChunk { samples: Vec::new(), overlap: 0, text_end: answer.text().len(), last: true };
        Ok(!sink.audio(last))
    }

    /// Answers as upstream does.
    fn reply_like_upstream(
        &mut self,
        omni: &mut Omni,
        opening: &Opening,
        sink: &Arc<dyn ResponseSink>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let Omni { mind, mouth, .. } = omni;
        let mut meter = Meter::new(sink);
        let speaker = mouth.tts.speaker(&opening.speaker)?;
        let prompt = mind.tokens.encode(prompt::ANSWER)?;
        let most = self.options.answer_tokens;
        let mut pieces = AnswerPieces::new(mind, &mut self.dialogue, &mut self.sampler, opening, prompt, most);
        let mut bytes = 0;
        let Some(first) = pieces.next_piece(&mut meter)? else { return Ok(false) };
        let spoken = CompatSpeech {
            mouth,
            speaker,
            chooser: &mut self.codes,
            probe: &mut meter,
            cancel,
            emit: &mut |u| {
                bytes += u.text.len();
                if !u.text.is_empty() {
                    sink.text(&u.text);
                }
                sink.audio(PcmChunk { samples: u.samples, overlap: 0, text_end: bytes, last: false })
            },
        }
        .speak(first, &mut pieces)?;
        drop(meter);
        self.memory.add(pieces.fed().to_vec(), None);
        let last = PcmChunk { samples: Vec::new(), overlap: 0, text_end: bytes, last: true };
        Ok(spoken == Spoken::Cancelled || !sink.audio(last))
    }
}

fn send(sink: &Arc<dyn ResponseSink>, samples: Vec<f32>, overlap: usize, text_end: usize) -> bool {
    sink.audio(PcmChunk { samples, overlap, text_end, last: false })
}

/// How far the speech is ahead of the listener, who began to listen with the first sound.
struct Lead {
    began: Option<Micros>,
    frames_per_second: f64,
}

impl Lead {
    fn new(omni: &Omni) -> Self {
        let samples = omni.mouth.vocoder.frame_samples().max(1);
        Self { began: None, frames_per_second: f64::from(super::OUTPUT_RATE) / samples as f64 }
    }

    fn sounded(&mut self) {
        self.began.get_or_insert_with(Micros::now);
    }

    /// Seconds of speech that have been made but not listened to.
    fn seconds(&self, speech: &Speech) -> f64 {
        let made = speech.frames() as f64 / self.frames_per_second;
        self.began.map_or(0.0, |began| made - Micros::now().ms_since(began) / 1000.0)
    }

    /// Whether there is time to look for more words, of which there are `few`.
    fn allows_thinking(&self, speech: &Speech, few: bool) -> bool {
        let seconds = self.seconds(speech);
        self.began.is_some() && (seconds > AMPLE_SECONDS || few && seconds > SAFE_SECONDS)
    }
}

impl EngineSession for OmniSession {
    /// Feeds the turns as the model would have read and written them; what is said next follows on the last answer.
    fn recall(&mut self, past: &[PastTurn]) -> Result<(), EngineError> {
        let model = self.model.clone();
        let probe = &mut super::probe::NoProbe;
        for turn in past {
            self.read(&turn.user)?;
            let omni = lock(&model);
            let answer = omni.mind.tokens.encode(&omni.mind.tokens.harmless(turn.answer.trim()))?;
            self.make_room(&omni, answer.len() + 64, probe)?;
            self.dialogue.begin_answer(&omni.mind, probe)?;
            self.memory.add(omni.mind.tokens.encode(prompt::ANSWER)?, None);
            if !answer.is_empty() {
                self.dialogue.repeat(&omni.mind, &answer, None, probe)?;
                self.memory.add(answer, None);
            }
            // The next turn's header ends the speech of an answer that counts as broken off: just what is missing here.
            self.turn = None;
        }
        Ok(())
    }

    fn hear(&mut self, pcm: &[f32], sink: &Arc<dyn ResponseSink>) -> Result<(), EngineError> {
        self.step_back();
        self.settle();
        self.pending.extend_from_slice(pcm);
        let model = self.model.clone();
        let mut omni = lock(&model);
        let mut meter = Meter::new(sink);
        while self.pending.len() >= prompt::UNIT {
            let unit: Vec<f32> = self.pending[..prompt::UNIT].to_vec();
            self.take_in(&mut omni, &unit, &mut meter)?;
            self.pending.drain(..prompt::UNIT);
        }
        Ok(())
    }

    fn pause(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<(), EngineError> {
        if self.ahead.is_some() || self.given.is_some() || cancel.is_cancelled() {
            return Ok(());
        }
        let model = self.model.clone();
        let mut omni = lock(&model);
        self.ahead = self.prepare(&mut omni, &mut Meter::new(sink), cancel)?;
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), EngineError> {
        self.step_back();
        self.settle();
        let model = self.model.clone();
        let omni = lock(&model);
        let probe = &mut super::probe::NoProbe;
        let text = text.trim();
        let words = omni.mind.tokens.encode(text)?.len();
        if words + self.options.answer_tokens + 256 > self.dialogue.limit() {
            return Err(EngineError::Unsupported(format!(
                "the text has {words} tokens, too many for a context of {}: say it in parts",
                self.dialogue.limit()
            )));
        }
        self.begin_turn(&omni)?;
        self.make_room(&omni, words + 64, probe)?;
        let ids = self.dialogue.read(&omni.mind, text, probe)?;
        self.memory.add(ids, None);
        Ok(())
    }

    fn respond(&mut self, sink: &Arc<dyn ResponseSink>, cancel: &CancelToken) -> Result<ReplyEnd, EngineError> {
        self.settle();
        let model = self.model.clone();
        let mut omni = lock(&model);
        let ahead = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.prepare(&mut omni, &mut Meter::new(sink), cancel)?,
        };
        let Some(Ahead { undo, opening }) = ahead else {
            return Ok(if cancel.is_cancelled() { ReplyEnd::Cancelled } else { ReplyEnd::NothingHeard });
        };
        if self.options.compat {
            let cancelled = self.reply_like_upstream(&mut omni, &opening, sink, cancel);
            self.given = Some(Given { undo, answer: None });
            return cancelled.map(ended);
        }
        let mut answer = Answer::new(&opening, self.sampler.clone(), self.options.answer_tokens);
        let cancelled = self.reply(&mut omni, &mut answer, sink, cancel);
        self.memory.add(answer.fed().to_vec(), None);
        self.sampler = answer.sampler().clone();
        self.given = Some(Given { undo, answer: Some(answer) });
        cancelled.map(ended)
    }

    fn truncate(&mut self, heard_bytes: usize) -> Result<(), EngineError> {
        let Some(given) = &self.given else { return Ok(()) };
        if let Some(cut) = given.answer.as_ref().and_then(|a| a.cut_at(heard_bytes)) {
            self.dialogue.cache.truncate(self.dialogue.positions() - cut);
            self.memory.cut_ids(cut);
            self.dialogue.before = Before::BrokenOff;
        }
        self.settle();
        Ok(())
    }

    fn retract(&mut self) -> Result<(), EngineError> {
        self.step_back();
        if let Some(given) = self.given.take() {
            self.undo(&given.undo);
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), EngineError> {
        self.step_back();
        if self.given.is_some() {
            self.settle();
            return Ok(());
        }
        if let Some(before) = self.turn.take() {
            let at = self.memory.forget_turn();
            self.dialogue.back_between_turns(at, before);
        }
        self.pending.clear();
        Ok(())
    }
}

fn ended(cancelled: bool) -> ReplyEnd {
    if cancelled { ReplyEnd::Cancelled } else { ReplyEnd::Complete }
}
