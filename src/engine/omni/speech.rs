//! Speech as it should be: words to sound while the words are still being found.
//!
//! [`Speech`] owns one answer's speech: the segment in the making, the words that wait, the frames that wait for the
//! vocoder. Lives on the engine thread, takes one step at a time, and never waits: [`Speech::ready`] tells whether there
//! are words enough for the next frame. What is said depends on the words and the seed, not on when the words came.
//!
//! Unlike upstream ([`super::compat`]): the first chunk of sound goes out at once; an end before all words are spoken
//! begins a new segment with the words that are left; words are never cut; text of any length is spoken; the end code
//! is banned only where a segment begins; slots that nothing was written to are hidden; chunks are decoded with sound on
//! both sides; as many frames are made of a block of text as the model was trained for (50, not 25).

use super::codes::ChooseCodes;
use super::compat::Mouth;
use super::probe::Probe;
use super::tts::{FEWEST_FRAMES, SpeechState, Step, TextSight};
use super::vocoder::{HELD_BACK, SoundStream};
use super::words::{Ends, Unit};
use crate::engine::EngineError;
use candle_core::Tensor;
use std::collections::VecDeque;

/// Tokens and frames that a new segment takes over from the one before.
const OLD_TEXT: usize = 5;
const OLD_FRAMES: usize = 50;
/// Frames of the first chunk and of those after it.
const FIRST_CHUNK: usize = 16;
const CHUNK: usize = 25;
/// No word takes longer than this many frames per token, pauses included (0.6 s).
const SLOWEST: usize = 30;
/// A segment of few words may still take this long.
const SHORTEST_LIMIT: usize = 150;
/// The usual number of frames per token, for telling how far the speech has come.
const USUAL: usize = 11;

/// Where a segment may end, in tokens: at a sentence's end, at a clause's, at any word.
#[derive(Clone, Copy, Debug)]
struct Limits {
    sentence: usize,
    clause: usize,
    word: usize,
    most: usize,
}

/// A chunk of sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    pub samples: Vec<f32>,
    /// How many of the first samples overlap the last ones of the chunk before.
    pub overlap: usize,
    /// How many bytes of the text have been spoken when the chunk has been played.
    pub text_end: usize,
}

/// The segment in the making.
struct Segment {
    state: SpeechState,
    /// Text tokens, the old ones at the start included.
    text: Vec<u32>,
    /// How many of them are old.
    old: usize,
    /// No more text comes: `[Etts]` follows.
    closed: bool,
}

/// One answer being spoken.
pub struct Speech {
    /// The voice's embedding, `[1, hidden]`.
    speaker: Tensor,
    segment: Option<Segment>,
    waiting: VecDeque<Unit>,
    /// All words have been given.
    complete: bool,
    stream: SoundStream,
    sounded: bool,
    limits: Limits,
    /// Tokens spoken in finished segments.
    spoken: usize,
    /// For each unit that was begun: tokens up to its end, and bytes of text up to its end.
    ends: Vec<(usize, usize)>,
    begun: usize,
    frames: usize,
}

impl Speech {
    /// Nothing said yet, in the voice of `speaker`.
    pub fn new(mouth: &Mouth, speaker: Tensor) -> Self {
        let slots = mouth.tts.config.text_reserved;
        // Upstream rolls over at 120 of 300.
        let limits = Limits { sentence: slots * 2 / 5, clause: slots * 2 / 3, word: slots * 9 / 10, most: slots - 1 };
        Self {
            speaker,
            segment: None,
            waiting: VecDeque::new(),
            complete: false,
            stream: SoundStream::new(),
            sounded: false,
            limits,
            spoken: 0,
            ends: Vec::new(),
            begun: 0,
            frames: 0,
        }
    }

    /// More words.
    pub fn say(&mut self, units: Vec<Unit>) {
        self.waiting.extend(units);
    }

    /// There are no more words.
    pub fn finish(&mut self) {
        self.complete = true;
    }

    /// Whether everything has been said and all of it was made sound.
    pub fn done(&self) -> bool {
        self.complete && self.segment.is_none() && self.waiting.is_empty() && self.stream.waiting() == 0
    }

    /// Frames made so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Frames that could become sound now.
    pub fn unheard(&self) -> usize {
        self.stream.waiting().saturating_sub(HELD_BACK)
    }

    /// How many more tokens are known than the next frame needs.
    pub fn ahead(&self, mouth: &Mouth) -> usize {
        let known: usize = self.waiting.iter().map(|u| u.ids.len()).sum();
        match &self.segment {
            None => known,
            Some(s) => {
                let seen = mouth.tts.visible_until(s.state.cache().len()) - mouth.tts.config.text_start();
                (known + s.text.len()).saturating_sub(seen)
            }
        }
    }

    /// Whether [`step`](Self::step) can work now.
    pub fn ready(&mut self, mouth: &Mouth) -> bool {
        self.take_words();
        self.drop_if_empty();
        match &self.segment {
            None => {
                let known: usize = self.waiting.iter().map(|u| u.ids.len()).sum();
                match self.complete {
                    true => known > 0 || self.stream.waiting() > 0,
                    false => known >= mouth.tts.config.text_chunk,
                }
            }
            Some(s) => {
                let needed = mouth.tts.visible_until(s.state.cache().len());
                s.closed || mouth.tts.config.text_start() + s.text.len() >= needed
            }
        }
    }

    /// Moves waiting words into the segment, as far as it takes any.
    fn take_words(&mut self) {
        let Some(segment) = &mut self.segment else { return };
        while !segment.closed {
            let Some(mut unit) = self.waiting.pop_front() else {
                segment.closed = self.complete;
                return;
            };
            let room = self.limits.most - segment.text.len();
            if unit.ids.len() > room {
                // A word longer than a segment; nothing else fits neither.
                let rest = unit.ids.split_off(room);
                self.waiting.push_front(Unit { ids: rest, ..unit });
                segment.text.extend(unit.ids);
                self.begun += room;
                segment.closed = true;
                return;
            }
            self.begun += unit.ids.len();
            self.ends.push((self.begun, unit.text_end));
            segment.text.extend(unit.ids);
            let length = segment.text.len();
            segment.closed = length >= self.limits.word
                || length >= self.limits.clause && unit.ends >= Ends::Clause
                || length >= self.limits.sentence && unit.ends == Ends::Sentence;
        }
    }

    /// Makes the next frame, and sound when there are frames enough. Call it when [`ready`](Self::ready).
    pub fn step(
        &mut self,
        mouth: &mut Mouth,
        chooser: &mut dyn ChooseCodes,
        probe: &mut dyn Probe,
    ) -> Result<Option<Sound>, EngineError> {
        if self.segment.is_none() && !self.waiting.is_empty() {
            self.segment = Some(self.begin(mouth, None, chooser, probe)?);
            self.take_words();
        }
        if let Some(mut segment) = self.segment.take() {
            self.write(mouth, &mut segment, probe)?;
            let made = segment.state.frames().len() - segment.state.prefix();
            let sight = TextSight { tokens: segment.text.len(), hide_unwritten: true };
            let ban = made < FEWEST_FRAMES;
            let limit = SHORTEST_LIMIT.max(SLOWEST * (segment.text.len() - segment.old));
            let spent = mouth.tts.room(&segment.state) == 0 || segment.closed && made >= limit;
            let step = match spent {
                true => Step::End,
                false => mouth.tts.step(&mut segment.state, sight, made, ban, chooser, probe)?,
            };
            if step == Step::End {
                self.end(mouth, segment, chooser, probe)?;
            } else {
                if let Some(frame) = segment.state.frames().last() {
                    self.stream.push(frame.clone());
                }
                self.frames += 1;
                self.segment = Some(segment);
            }
        }
        let over = self.complete && self.segment.is_none() && self.waiting.is_empty();
        let wanted = if self.sounded { CHUNK + HELD_BACK } else { FIRST_CHUNK };
        if self.stream.waiting() == 0 || !over && self.stream.waiting() < wanted {
            return Ok(None);
        }
        self.flush(mouth, probe).map(Some)
    }

    /// Makes sound of the frames that wait, as far as they may sound.
    pub fn flush(&mut self, mouth: &mut Mouth, probe: &mut dyn Probe) -> Result<Sound, EngineError> {
        let over = self.complete && self.segment.is_none() && self.waiting.is_empty();
        let (samples, overlap) = self.stream.flush(&mut mouth.vocoder, over, probe)?;
        self.sounded = true;
        Ok(Sound { samples, overlap, text_end: self.text_end() })
    }

    /// How many bytes of text have been spoken, judged by the number of frames.
    fn text_end(&self) -> usize {
        let in_segment = self.segment.as_ref().map_or(0, |s| {
            let made = s.state.frames().len() - s.state.prefix();
            (made / USUAL).min(s.text.len() - s.old)
        });
        let tokens = self.spoken + in_segment;
        self.ends.iter().take_while(|(end, _)| *end <= tokens).last().map_or(0, |(_, bytes)| *bytes)
    }

    /// A new segment that takes up where `before` ended.
    fn begin(
        &self,
        mouth: &Mouth,
        before: Option<(&[u32], &[Vec<u32>])>,
        chooser: &mut dyn ChooseCodes,
        probe: &mut dyn Probe,
    ) -> Result<Segment, EngineError> {
        let mut state = mouth.tts.begin(chooser)?;
        let (text, frames) = before.unwrap_or_default();
        let text = text[text.len().saturating_sub(OLD_TEXT)..].to_vec();
        let frames = &frames[frames.len().saturating_sub(OLD_FRAMES)..];
        let start = [&[mouth.tokens.start, mouth.tokens.speaker], text.as_slice()].concat();
        mouth.tts.prefill_text(&mut state, &start, 0, Some(&self.speaker), probe)?;
        let sight = TextSight { tokens: text.len(), hide_unwritten: true };
        mouth.tts.prefill_frames(&mut state, frames, sight, true)?;
        Ok(Segment { state, old: text.len(), text, closed: false })
    }

    /// Writes the segment's new text into its slots, if the next frame sees any of it.
    fn write(&self, mouth: &Mouth, s: &mut Segment, probe: &mut dyn Probe) -> Result<(), EngineError> {
        let first = mouth.tts.config.text_start();
        let written = s.state.written() - first;
        let whole = s.text.len() + usize::from(s.closed);
        if written >= whole || s.state.written() >= mouth.tts.visible_until(s.state.cache().len()) {
            return Ok(());
        }
        let mut ids = s.text.get(written..).unwrap_or_default().to_vec();
        if s.closed {
            ids.push(mouth.tokens.text_end);
        }
        mouth.tts.prefill_text(&mut s.state, &ids, first + written, None, probe)
    }

    /// The segment is over: what it never saw is still to be said.
    fn end(
        &mut self,
        mouth: &Mouth,
        s: Segment,
        chooser: &mut dyn ChooseCodes,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        let first = mouth.tts.config.text_start();
        // The step that ended the segment was made at the last position, not after it.
        let position = s.state.cache().len().saturating_sub(1);
        let seen = (mouth.tts.visible_until(position).min(s.state.written()) - first).min(s.text.len()).max(s.old);
        self.spoken += seen - s.old;
        let unseen = s.text[seen..].to_vec();
        if !unseen.is_empty() {
            self.begun -= unseen.len();
            let begun = self.begun;
            let again = self.ends.iter().position(|(end, _)| *end > begun).unwrap_or(self.ends.len());
            let mut from = begun;
            let mut units: Vec<Unit> = Vec::new();
            let mut rest = unseen.as_slice();
            for (end, text_end) in self.ends.drain(again..) {
                let (ids, after) = rest.split_at((end - from).min(rest.len()));
                units.push(Unit { ids: ids.to_vec(), text_end, ends: Ends::Word });
                (rest, from) = (after, end);
            }
            if !rest.is_empty()
                && let Some(split) = self.waiting.front_mut()
            {
                // The first half of a word that was longer than the segment.
                split.ids.splice(0..0, rest.iter().copied());
            }
            units.into_iter().rev().for_each(|u| self.waiting.push_front(u));
        }
        if !(self.complete && self.waiting.is_empty()) {
            let next = self.begin(mouth, Some((&s.text[..seen], s.state.frames())), chooser, probe)?;
            self.segment = Some(next);
            self.take_words();
            self.drop_if_empty();
        }
        Ok(())
    }

    /// A segment that turns out to have no words of its own says nothing.
    fn drop_if_empty(&mut self) {
        if self.segment.as_ref().is_some_and(|s| s.closed && s.text.len() == s.old) {
            self.segment = None;
        }
    }
}
