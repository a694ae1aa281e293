//! The engine on the tiny reference checkpoint: where it must differ from upstream, and the seam's calls.

mod checkpoints;
mod damage;
mod defects;
mod joints;
mod preflight;
mod seam;
mod stand_in;
mod voices;

use super::codes::{ChooseCodes, Moment};
use super::compat::{CompatSpeech, Mouth, Pieces, Utterance};
use super::load::{Omni, OmniOptions};
use super::probe::Probe;
use super::speech::{Sound, Speech};
use super::words::WordFeed;
use crate::engine::kv_cache::KvCache;
use crate::engine::{CancelToken, EngineError, PcmChunk, ResponseSink};
use crate::metrics::StageMark;
use candle_core::{Device, Tensor};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub fn tiny_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/omni-tiny")
}

pub fn tiny() -> Omni {
    Omni::load(&tiny_dir(), &OmniOptions::default(), &mut |_, _| {}).unwrap()
}

/// Some voice.
pub fn speaker(omni: &Omni) -> Tensor {
    let width = omni.config.llm.hidden;
    let hidden: Vec<f32> = (0..width).map(|i| (i as f32 * 0.7).sin()).collect();
    omni.mouth.tts.speaker(&Tensor::from_vec(hidden, (1, width), &Device::Cpu).unwrap()).unwrap()
}

/// Takes the likeliest codes, and the end whenever `frames` frames of a segment have been made and it is allowed.
pub struct EndsAt {
    pub frames: usize,
    made: usize,
}

impl EndsAt {
    pub fn new(frames: usize) -> Self {
        Self { frames, made: 0 }
    }
}

impl ChooseCodes for EndsAt {
    fn segment(&mut self) {
        self.made = 0;
    }

    fn choose(&mut self, logits: &[Vec<f32>], at: Moment) -> Vec<u32> {
        let end = logits[0].len() - 1;
        if self.made >= self.frames && at.may_end {
            return vec![end as u32; logits.len()];
        }
        self.made += 1;
        let best = |row: &Vec<f32>| (0..end).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as u32;
        logits.iter().map(best).collect()
    }
}

/// What the speech model was given and did.
#[derive(Default)]
pub struct Seen {
    /// Text and the slot it was written to.
    pub texts: Vec<(Vec<u32>, usize)>,
    /// Per step, the mask and the slot up to which text had been written.
    pub steps: Vec<(Vec<f32>, usize)>,
    written: usize,
}

impl Probe for Seen {
    fn text(&mut self, ids: &[u32], at: usize, _: Option<&Tensor>, _: &KvCache) {
        if at == 0 {
            self.written = 0;
        }
        self.written = self.written.max(at + ids.len());
        self.texts.push((ids.to_vec(), at));
    }

    fn step(&mut self, _: &Tensor, mask: &Tensor, _: &Tensor, _: &[Vec<f32>]) {
        self.steps.push((mask.flatten_all().unwrap().to_vec1().unwrap(), self.written));
    }
}

impl Seen {
    /// The text tokens given, in order, without what is written again where a segment takes up the one before.
    pub fn new_text(&self, mouth: &Mouth) -> Vec<u32> {
        let special = [mouth.tokens.start, mouth.tokens.speaker, mouth.tokens.text_end, mouth.tokens.audio_start];
        let mut all: Vec<u32> = Vec::new();
        for (ids, at) in &self.texts {
            let text: Vec<u32> = ids.iter().copied().filter(|id| !special.contains(id)).collect();
            if *at == 0 && !all.is_empty() {
                // What was written but never seen is written again.
                while !all.ends_with(&text) {
                    assert!(all.pop().is_some(), "a segment begins with {text:?}, which was not said before");
                }
                continue;
            }
            all.extend(text);
        }
        all
    }
}

/// Speaks `pieces` as the product does, the words coming in between the frames. Gives the chunks.
pub fn speak(omni: &mut Omni, pieces: &[&str], chooser: &mut dyn ChooseCodes, probe: &mut dyn Probe) -> Vec<Sound> {
    let voice = speaker(omni);
    let mouth = &mut omni.mouth;
    let mut feed = WordFeed::new();
    let mut speech = Speech::new(mouth, voice);
    let mut pieces = pieces.iter();
    let mut sounds = Vec::new();
    let mut over = false;
    while !speech.done() {
        if speech.ready(mouth) {
            sounds.extend(speech.step(mouth, chooser, probe).unwrap());
        } else if let Some(piece) = pieces.next() {
            speech.say(feed.push(piece, &mouth.tokens).unwrap());
        } else {
            assert!(!over, "the speech waits for words though there are none");
            over = true;
            speech.say(feed.finish(&mouth.tokens).unwrap());
            speech.finish();
        }
    }
    sounds
}

struct Script<'a> {
    pieces: std::slice::Iter<'a, &'a str>,
}

impl Pieces for Script<'_> {
    fn next_piece(&mut self, _: &mut dyn Probe) -> Result<Option<String>, EngineError> {
        Ok(self.pieces.next().map(|p| p.to_string()))
    }
}

/// Speaks `pieces` as upstream does. Gives the chunks and how many pieces were never taken.
pub fn speak_like_upstream(
    omni: &mut Omni,
    pieces: &[&str],
    chooser: &mut dyn ChooseCodes,
    probe: &mut dyn Probe,
) -> (Vec<Utterance>, usize) {
    let speaker = speaker(omni);
    let mut said = Vec::new();
    let mut script = Script { pieces: pieces.iter() };
    let first = script.next_piece(probe).unwrap().unwrap();
    CompatSpeech {
        mouth: &mut omni.mouth,
        speaker,
        chooser,
        probe,
        cancel: &CancelToken::default(),
        emit: &mut |u| {
            said.push(u);
            true
        },
    }
    .speak(first, &mut script)
    .unwrap();
    (said, script.pieces.len())
}

/// Everything a reply gave, and a cancel after so many chunks.
#[derive(Default)]
pub struct Heard {
    pub text: Mutex<String>,
    pub chunks: Mutex<Vec<PcmChunk>>,
    pub marks: Mutex<Vec<StageMark>>,
    pub cancel: CancelToken,
    pub cancel_after: Option<usize>,
}

impl Heard {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }
}

impl ResponseSink for Heard {
    fn heard(&self, _: &str, _: bool) {}

    fn text(&self, piece: &str) {
        self.text.lock().unwrap().push_str(piece);
    }

    fn audio(&self, chunk: PcmChunk) -> bool {
        let mut chunks = self.chunks.lock().unwrap();
        chunks.push(chunk);
        if self.cancel_after == Some(chunks.len()) {
            self.cancel.cancel();
        }
        true
    }

    fn mark(&self, mark: StageMark) {
        self.marks.lock().unwrap().push(mark);
    }
}
