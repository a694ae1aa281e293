//! What the user said, as it comes: wraps Whisper for one conversation.
//!
//! Lives on the engine thread and owns the sound of the turn so far. Sound is pushed as it arrives; while the user
//! speaks, [`partial`](SpeechToText::partial) keeps up with it, and [`finish`](SpeechToText::finish) does only what is
//! left: nothing, when only silence came since the last pass. Invariants: the text depends on the sound alone, not on
//! how it was cut into pushes; no sound is transcribed beyond Whisper's 30 s at once.

mod loudness;

use crate::dsp::mel::LogMel;
use crate::engine::whisper::{Language, Whisper};
use crate::engine::{CancelToken, EngineError, HEARING_RATE};
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use loudness::Loudness;
use std::sync::Arc;

const RATE: usize = HEARING_RATE as usize;
/// Sound kept around the voice: soft beginnings and endings of words.
const MARGIN: usize = RATE * 3 / 10;
/// Silence put after it: Whisper's convolutions and attention want an end to see.
const SILENCE_AFTER: usize = RATE / 2;
/// Silence put before it. A single word right at the start becomes two ("it's stop"): of seven recordings of "stop", in
/// noise and over the telephone, one was right without, three with 0.3 s and all with 1 s.
const SILENCE_BEFORE: usize = RATE * 3 / 10;
const SILENCE_BEFORE_SHORT: usize = RATE;
const SHORT: usize = RATE * 5 / 2;
/// While the user speaks, a pass is worth its work when this much voice is new.
const NEW_VOICE: usize = RATE;
/// Voice shorter than this is a click.
const SHORTEST_VOICE: usize = RATE * 6 / 100;
/// An utterance is cut at a pause this long: Whisper would take it for the end and leave out what follows.
const LONG_PAUSE: usize = RATE * 7 / 10;
/// One longer than this is cut at a shorter pause, so that the last pass stays short; its first part has this length.
const LONG: usize = RATE * 14;
const FIRST_PART: usize = RATE * 7;
const PAUSE: usize = RATE * 35 / 100;
/// Without a pause, it is cut at the quietest point between these.
const TOO_LONG: usize = RATE * 28;
const CUT_FROM: usize = RATE * 20;

/// One conversation's ear.
pub struct SpeechToText {
    whisper: Arc<Whisper>,
    language: Language,
    mel: LogMel,
    /// The turn's sound that is not settled yet, 16 kHz mono.
    pcm: Vec<f32>,
    loudness: Loudness,
    /// The text of the parts that are settled.
    settled: String,
    /// The last pass over `pcm`.
    last: Option<Pass>,
}

/// One pass over the unsettled sound.
struct Pass {
    /// Samples of the sound it heard.
    covered: usize,
    /// Empty when it was not speech.
    text: String,
    /// The draft of the next pass.
    tokens: Vec<u32>,
}

impl SpeechToText {
    pub fn new(whisper: Arc<Whisper>, language: Language) -> Self {
        Self {
            whisper,
            language,
            mel: LogMel::new(),
            pcm: Vec::new(),
            loudness: Loudness::default(),
            settled: String::new(),
            last: None,
        }
    }

    /// More of the user's sound, 16 kHz mono. Only kept; the work is done by the other calls.
    pub fn push(&mut self, pcm: &[f32]) {
        self.pcm.extend_from_slice(pcm);
        self.loudness.follow(&self.pcm);
    }

    /// Forgets the turn.
    pub fn reset(&mut self) {
        self.pcm.clear();
        self.loudness.clear();
        self.settled.clear();
        self.last = None;
    }

    /// What was heard so far, if enough new voice came to be worth a pass; `None` if not, or when cancelled.
    pub fn partial(
        &mut self,
        cancel: &CancelToken,
        mark: &mut dyn FnMut(StageMark),
    ) -> Result<Option<String>, EngineError> {
        self.listen(NEW_VOICE, cancel, mark)
    }

    /// What was heard, all of it; empty when nothing was said. Costs nothing when only silence came since the last
    /// pass, so it may be called whenever the user pauses, and again when the turn is over. `None` when cancelled.
    pub fn finish(
        &mut self,
        cancel: &CancelToken,
        mark: &mut dyn FnMut(StageMark),
    ) -> Result<Option<String>, EngineError> {
        self.listen(1, cancel, mark)?;
        Ok((!cancel.is_cancelled()).then(|| self.text()))
    }

    /// The text as it stands.
    pub fn text(&self) -> String {
        join(&self.settled, self.last.as_ref().map_or("", |p| &p.text))
    }

    /// Hears what is new, if at least `worth` samples of it are voice. Returns the text if there was a pass.
    fn listen(
        &mut self,
        worth: usize,
        cancel: &CancelToken,
        mark: &mut dyn FnMut(StageMark),
    ) -> Result<Option<String>, EngineError> {
        let mut passed = false;
        while let Some((begin, end)) = self.loudness.voice() {
            let covered = self.last.as_ref().map_or(begin, |p| p.covered);
            if end < covered + worth {
                break;
            }
            let Some(cut) = self.cut() else {
                let Some(pass) = self.pass(begin, end, cancel, mark)? else { return Ok(None) };
                (self.last, passed) = (Some(pass), true);
                break;
            };
            // The last pass may have heard all there was before the cut.
            let text = match self.last.take() {
                Some(last) if self.loudness.voice_before(cut) <= last.covered => last.text,
                last => {
                    self.last = last;
                    let Some(pass) = self.pass(begin, cut, cancel, mark)? else { return Ok(None) };
                    passed = true;
                    pass.text
                }
            };
            self.settle(&text, cut);
        }
        Ok(passed.then(|| self.text()))
    }

    /// Where to cut the sound, if it has to be.
    fn cut(&self) -> Option<usize> {
        let long = self.pcm.len() > LONG;
        let pause = self
            .loudness
            .pause(0, LONG_PAUSE)
            .or_else(|| long.then(|| self.loudness.pause(FIRST_PART, PAUSE)).flatten())
            .filter(|&at| at <= TOO_LONG);
        let too_long = self.pcm.len() > TOO_LONG;
        pause.or_else(|| too_long.then(|| self.loudness.quietest(CUT_FROM, TOO_LONG - MARGIN)))
    }

    /// Settles the text of everything before `cut` (a multiple of a frame) and goes on with the rest.
    fn settle(&mut self, text: &str, cut: usize) {
        self.settled = join(&self.settled, text);
        self.pcm.drain(..cut);
        self.loudness.drop_front(cut);
        self.last = None;
    }

    /// Transcribes the voice from `begin` to `end`. `None` when cancelled.
    fn pass(
        &mut self,
        begin: usize,
        end: usize,
        cancel: &CancelToken,
        mark: &mut dyn FnMut(StageMark),
    ) -> Result<Option<Pass>, EngineError> {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let end = self.loudness.voice_before(end).max(begin);
        let heard = &self.pcm[begin.saturating_sub(MARGIN)..(end + MARGIN).min(self.pcm.len())];
        let draft = self.last.as_ref().map_or(&[][..], |p| &p.tokens);
        if end - begin < SHORTEST_VOICE {
            return Ok(Some(Pass { covered: end, text: String::new(), tokens: Vec::new() }));
        }
        let start = Micros::now();
        let before = if heard.len() < SHORT { SILENCE_BEFORE_SHORT } else { SILENCE_BEFORE };
        let mut context = vec![0.0; before];
        context.extend_from_slice(heard);
        context.resize(context.len() + SILENCE_AFTER, 0.0);
        let encoded = self.whisper.encode(&self.mel.whisper(&context))?;
        let sound = self.whisper.attend(&encoded)?;
        let between = Micros::now();
        mark(StageMark { epoch: 0, stage: Stage::AudioEncode, start, end: between, units: heard.len() as u32 });
        let seconds = heard.len() as f32 / RATE as f32;
        let heard = self.whisper.transcribe(&sound, seconds, &self.language, draft, cancel)?;
        let Some(heard) = heard else { return Ok(None) };
        let (stage, units) = (Stage::Stt, heard.steps as u32);
        mark(StageMark { epoch: 0, stage, start: between, end: Micros::now(), units });
        let text = if heard.is_speech() { heard.text } else { String::new() };
        Ok(Some(Pass { covered: end, text, tokens: heard.tokens }))
    }
}

/// Two parts of a text with one space between them; Chinese and Japanese are written without.
fn join(a: &str, b: &str) -> String {
    let no_space = |c: char| matches!(c, '\u{3000}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}');
    let tight = a.chars().next_back().is_some_and(no_space) && b.chars().next().is_some_and(no_space);
    let space = if a.is_empty() || b.is_empty() || tight { "" } else { " " };
    format!("{a}{space}{b}")
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn parts_are_joined_as_their_script_is_written() {
        assert_eq!(join("", "One."), "One.");
        assert_eq!(join("One.", ""), "One.");
        assert_eq!(join("One.", "Two."), "One. Two.");
        assert_eq!(join("\u{4f60}\u{597d}\u{3002}", "\u{518d}\u{89c1}"), "\u{4f60}\u{597d}\u{3002}\u{518d}\u{89c1}");
    }
}
