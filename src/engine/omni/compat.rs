//! Speech exactly as upstream makes it, its defects included: what the parity tests hold against upstream's numbers,
//! and a second opinion on [`super::speech`].
//!
//! Owns the state of one answer; lives on the engine thread. Sources: MiniCPM-o 2.6's `llm_generate_chunk` and
//! `_generate_mel_spec_audio_streaming`.

use super::codes::ChooseCodes;
use super::dialogue::{Dialogue, Mind, Opening};
use super::probe::Probe;
use super::tokens::{SPEECH_END, TtsTokens};
use super::tts::{FEWEST_FRAMES, SpeechState, Step, TextSight, Tts};
use super::vocoder::{Vocoder, overlap_add};
use crate::engine::sampling::{Outlook, Sampler};
use crate::engine::{CancelToken, EngineError};
use candle_core::Tensor;

/// Frames in one stretch.
const STRETCH: usize = 25;
/// A segment ends at the first sentence end when no more than this many text slots are left.
const SHIFT: usize = 180;
/// Tokens and frames that a new segment takes over from the one before.
const OLD_TEXT: usize = 5;
const OLD_FRAMES: usize = 50;
/// Frames decoded again with each stretch, and the samples of the overlap they make.
const OLD_SOUND: usize = 4;
/// After this many frames a segment is given up.
const LONGEST: usize = 2048;
/// Tokens in one piece of the answer.
const PIECE: usize = 3;

/// The parts of the model that speak.
pub struct Mouth {
    pub tokens: TtsTokens,
    pub tts: Tts,
    pub vocoder: Vocoder,
}

/// Where an answer's words come from: the next piece, or `None` when it is over.
pub trait Pieces {
    fn next_piece(&mut self, probe: &mut dyn Probe) -> Result<Option<String>, EngineError>;
}

/// The language model's answer, three tokens at a time.
pub struct AnswerPieces<'a> {
    pub mind: &'a Mind,
    pub dialogue: &'a mut Dialogue,
    pub sampler: &'a mut Sampler,
    /// What has been fed and not answered yet.
    outlook: Option<Outlook>,
    /// The ids the repetition penalty sees in the next piece besides its own.
    inputs: Vec<u32>,
    left: Vec<u32>,
    /// The tokens of the answer that were fed.
    fed: Vec<u32>,
    made: usize,
    limit: usize,
    over: bool,
}

impl<'a> AnswerPieces<'a> {
    /// An answer of up to `limit` tokens, after the generation prompt with the ids `prompt` gave `opening`.
    pub fn new(
        mind: &'a Mind,
        dialogue: &'a mut Dialogue,
        sampler: &'a mut Sampler,
        opening: &Opening,
        prompt: Vec<u32>,
        limit: usize,
    ) -> Self {
        let outlook = Some(Outlook::All(opening.logits.clone()));
        Self {
            mind,
            dialogue,
            sampler,
            outlook,
            inputs: prompt,
            left: Vec::new(),
            fed: Vec::new(),
            made: 0,
            limit,
            over: false,
        }
    }
}

impl AnswerPieces<'_> {
    /// The tokens of the answer that were fed.
    pub fn fed(&self) -> &[u32] {
        &self.fed
    }
}

impl Pieces for AnswerPieces<'_> {
    fn next_piece(&mut self, probe: &mut dyn Probe) -> Result<Option<String>, EngineError> {
        if self.over {
            return Ok(None);
        }
        // Each piece is a generation of its own upstream: the penalty sees its inputs and outputs only.
        self.sampler.forget();
        self.inputs.iter().for_each(|id| self.sampler.observe(*id));
        let mut new = Vec::with_capacity(PIECE);
        let mut ended = false;
        while new.len() < PIECE && !ended {
            let outlook = match self.outlook.take() {
                Some(outlook) => outlook,
                None => {
                    let last = new.last().or(self.inputs.last()).copied().unwrap_or_default();
                    self.fed.push(last);
                    self.dialogue.say(self.mind, last, self.sampler.needs(), probe)?
                }
            };
            let id = self.sampler.choose(&outlook)?;
            ended = self.mind.tokens.ends(id);
            new.push(id);
        }
        self.made += new.len();
        self.inputs = new.last().copied().into_iter().collect();
        let mut ids = std::mem::take(&mut self.left);
        ids.extend(new);
        let complete = self.mind.tokens.complete(&ids)?;
        self.left = ids.split_off(complete);
        if ended {
            self.dialogue.finish();
        }
        self.over = ended || self.made >= self.limit;
        Ok(Some(self.text(ids)?))
    }
}

impl AnswerPieces<'_> {
    /// The text of a piece, without its id 0, which upstream takes for padding, and without its ends.
    fn text(&self, mut ids: Vec<u32>) -> Result<String, EngineError> {
        ids.retain(|id| *id != 0);
        if ids.first() == Some(&self.mind.tokens.turn_start) {
            ids.remove(0);
        }
        if ids.last().is_some_and(|id| self.mind.tokens.ends(*id)) {
            ids.pop();
        }
        self.mind.tokens.decode(&ids)
    }
}

/// What is said, one chunk of sound with the words that upstream counts to it.
pub struct Utterance {
    pub text: String,
    pub samples: Vec<f32>,
}

/// How speaking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Whole,
    Cancelled,
}

/// One answer being spoken.
pub struct CompatSpeech<'a> {
    pub mouth: &'a mut Mouth,
    /// The voice's embedding, `[1, hidden]`.
    pub speaker: Tensor,
    pub chooser: &'a mut dyn ChooseCodes,
    pub probe: &'a mut dyn Probe,
    pub cancel: &'a CancelToken,
    /// Takes each chunk; `false` stops.
    pub emit: &'a mut dyn FnMut(Utterance) -> bool,
}

/// Where a segment left off.
struct Joint {
    text: Vec<u32>,
    frames: Vec<Vec<u32>>,
    left_over: String,
}

/// A segment in the making.
struct Segment {
    state: SpeechState,
    chunk: usize,
    /// Frames that have been decoded.
    decoded: usize,
    held: Option<Vec<f32>>,
    /// The words so far, as the model generated them.
    raw: String,
    /// How many bytes of `raw` have been given out.
    given: usize,
}

impl CompatSpeech<'_> {
    /// Speaks all of `pieces`. The first piece has been taken already: it brought the speaker.
    pub fn speak(mut self, first: String, pieces: &mut dyn Pieces) -> Result<Spoken, EngineError> {
        let mut text = cut(&first).to_string();
        let mut joint = None;
        loop {
            match self.segment(text, joint, pieces)? {
                Ok(None) => return Ok(Spoken::Whole),
                Ok(Some(next)) => {
                    text = String::new();
                    joint = Some(next);
                }
                Err(Cancelled) => return Ok(Spoken::Cancelled),
            }
        }
    }

    /// Speaks one segment; gives where the next one begins, if there is one.
    fn segment(
        &mut self,
        mut text: String,
        joint: Option<Joint>,
        pieces: &mut dyn Pieces,
    ) -> Result<Result<Option<Joint>, Cancelled>, EngineError> {
        let c = &self.mouth.tts.config;
        let (reserved, chunk_tokens, first_slot) = (c.text_reserved, c.text_chunk, c.text_start());
        let mut s = Segment {
            state: self.mouth.tts.begin(self.chooser)?,
            chunk: 0,
            decoded: 0,
            held: None,
            raw: String::new(),
            given: 0,
        };
        let continued = joint.is_some();
        // A segment that gets no words of its own says nothing, not even what the one before left over.
        let mut worded = !continued;
        let (mut ids, mut tokens) = self.layout(&text)?;
        if let Some(joint) = joint {
            tokens = joint.text.len();
            let start = [&[self.mouth.tokens.start, self.mouth.tokens.speaker], joint.text.as_slice()].concat();
            self.mouth.tts.prefill_text(&mut s.state, &start, 0, Some(&self.speaker), self.probe)?;
            self.mouth.tts.prefill_frames(&mut s.state, &joint.frames, sight(tokens), false)?;
            s.chunk = tokens / chunk_tokens;
            s.decoded = joint.frames.len();
            text = self.mouth.tokens.decode(&joint.text)? + &joint.left_over;
            s.given = text.len();
        }
        s.raw = text.clone();
        let mut chinese = true;
        let mut left_over = None;
        let mut finished = false;
        let mut pieces_taken = 0;
        while let Some(piece) = pieces.next_piece(self.probe)? {
            if self.cancel.is_cancelled() {
                return Ok(Err(Cancelled));
            }
            let piece = cut(&piece);
            s.raw.push_str(piece);
            pieces_taken += 1;
            if pieces_taken == 1 && piece.is_empty() && continued {
                return Ok(Ok(None));
            }
            if pieces_taken <= 2 {
                chinese = mostly_chinese(&s.raw);
            }
            text.push_str(&spell_digits(piece, chinese).replace('*', ""));
            (ids, tokens) = self.layout(&text)?;
            worded = true;
            if tokens + SHIFT >= reserved
                && let Some(end) = sentence_end(piece)
                && let Some(at) = text.rfind(end)
            {
                left_over = Some(text.split_off(at + end.len_utf8()));
                (ids, tokens) = self.layout(&text)?;
                break;
            }
            if tokens >= (s.chunk + 1) * chunk_tokens {
                let end = (s.chunk + 1) * chunk_tokens + first_slot;
                let (from, to) = match s.chunk {
                    0 => (0, end),
                    k => (k * chunk_tokens + first_slot, end.min(reserved + first_slot)),
                };
                self.prefill(&mut s, &ids, from, to)?;
                match self.stretch(&mut s, tokens)? {
                    Ok(true) => {
                        finished = true;
                        break;
                    }
                    Ok(false) => {}
                    Err(Cancelled) => return Ok(Err(Cancelled)),
                }
            }
        }

        let mut given_up = false;
        let end = tokens + first_slot + 1;
        if !finished && worded {
            let from = if s.chunk == 0 { 0 } else { s.chunk * chunk_tokens + first_slot };
            if end > from {
                self.prefill(&mut s, &ids, from, end)?;
            }
            loop {
                match self.stretch(&mut s, tokens)? {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(Cancelled) => return Ok(Err(Cancelled)),
                }
                if s.state.frames().len() > LONGEST {
                    given_up = true;
                    break;
                }
            }
        }
        if let Some(samples) = s.held.take() {
            let text = s.raw[s.given..].to_string();
            if !(self.emit)(Utterance { text, samples }) {
                return Ok(Err(Cancelled));
            }
        }
        Ok(Ok(left_over.filter(|_| !given_up).map(|left_over| {
            let frames = s.state.frames();
            Joint {
                text: ids.get((end - 1).saturating_sub(OLD_TEXT)..end - 1).unwrap_or_default().to_vec(),
                frames: frames[frames.len().saturating_sub(OLD_FRAMES)..].to_vec(),
                left_over,
            }
        })))
    }

    /// The ids of all slots up to `[Ptts]` for `text`, and how many of them are text.
    fn layout(&self, text: &str) -> Result<(Vec<u32>, usize), EngineError> {
        let reserved = self.mouth.tts.config.text_reserved;
        let tokens = &self.mouth.tokens;
        let ids = tokens.encode(text)?;
        let count = ids.len().min(reserved);
        let spelled = if ids.len() < reserved {
            format!("[Stts][spk_emb]{text}[Etts]{}[Ptts]", "[PAD]".repeat(reserved - count - 1))
        } else {
            format!("[Stts][spk_emb]{}[Ptts]", tokens.decode(&ids[..count])?)
        };
        Ok((tokens.encode(&spelled)?, count))
    }

    fn prefill(&mut self, s: &mut Segment, ids: &[u32], from: usize, to: usize) -> Result<(), EngineError> {
        // With all text slots full, upstream's last slice takes in `[Ptts]`, whose key nothing ever sees.
        let to = to.min(ids.len()).min(s.state.cache().len());
        let ids = ids.get(from..to).unwrap_or_default();
        if ids.is_empty() {
            return Ok(());
        }
        self.mouth.tts.prefill_text(&mut s.state, ids, from, Some(&self.speaker), self.probe)
    }

    /// Makes one stretch of frames and gives out sound. Tells whether the speech model ended.
    fn stretch(&mut self, s: &mut Segment, tokens: usize) -> Result<Result<bool, Cancelled>, EngineError> {
        let mut ended = false;
        for i in 0..STRETCH {
            if self.cancel.is_cancelled() {
                return Ok(Err(Cancelled));
            }
            let ban = i < FEWEST_FRAMES;
            if self.mouth.tts.step(&mut s.state, sight(tokens), i, ban, self.chooser, self.probe)? == Step::End {
                ended = true;
                break;
            }
        }
        s.chunk += 1;
        self.probe.generated(s.state.frames(), tokens);
        let from = s.decoded.saturating_sub(OLD_SOUND);
        let (_, sound) = self.mouth.vocoder.decode(&s.state.frames()[from..], self.probe)?;
        s.decoded = s.state.frames().len();
        let Some(held) = s.held.take() else {
            s.held = Some(sound);
            return Ok(Ok(ended));
        };
        let (samples, rest) = overlap_add(&held, &sound, OLD_SOUND * self.mouth.vocoder.frame_samples());
        s.held = Some(rest);
        let text = s.raw[s.given..].to_string();
        s.given = s.raw.len();
        Ok(if (self.emit)(Utterance { text, samples }) { Ok(ended) } else { Err(Cancelled) })
    }
}

/// The listener no longer wants to hear it.
struct Cancelled;

fn sight(tokens: usize) -> TextSight {
    TextSight { tokens, hide_unwritten: false }
}

/// A piece up to where the model ends the speech.
fn cut(piece: &str) -> &str {
    piece.split(SPEECH_END).next().unwrap_or_default()
}

/// The mark that ends a sentence in `piece`, in upstream's order of looking; a full stop after a digit does not count.
fn sentence_end(piece: &str) -> Option<char> {
    ['.', '。', '!', '?', '！', '？'].into_iter().find(|&mark| match piece.find(mark) {
        None => false,
        Some(at) => mark != '.' || !piece[..at].chars().next_back().is_some_and(char::is_numeric),
    })
}

/// Whether there are at least as many Chinese characters as Latin letters.
fn mostly_chinese(text: &str) -> bool {
    let chinese = text.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count();
    chinese >= text.chars().filter(char::is_ascii_alphabetic).count()
}

/// Reads numbers digit by digit.
fn spell_digits(text: &str, chinese: bool) -> String {
    const CHINESE: [&str; 10] = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
    const ENGLISH: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let mut spelled = String::new();
    let mut after_digit = false;
    for c in text.chars() {
        let digit = c.to_digit(10).map(|d| d as usize);
        match digit {
            None => spelled.push(c),
            Some(d) if chinese => spelled.push_str(CHINESE[d]),
            Some(d) => {
                if after_digit {
                    spelled.push(' ');
                }
                spelled.push_str(ENGLISH[d]);
            }
        }
        after_digit = digit.is_some();
    }
    spelled
}
