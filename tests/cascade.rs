//! The starter engine from end to end, with its real models: a spoken question in, a spoken answer out, and what was
//! said is checked by transcribing it.
//!
//! Needs `whisper-base`, `qwen2.5-coder-1.5b` and `piper-joe` in the folder of test models (see `common/models.rs`).
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::engine::cascade::{CascadeEngine, CascadeOptions, CascadePaths};
use antiphon::engine::{CancelToken, Engine, EngineSession, PcmChunk, ReplyEnd, ResponseSink, SessionSetup};
use antiphon::metrics::{Stage, StageMark};
use common::words::misunderstood;
use common::{models, sound};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

fn paths() -> CascadePaths {
    let voice = models::folder("piper-joe");
    CascadePaths {
        whisper_dir: models::folder("whisper-base"),
        llm_gguf: models::folder("qwen2.5-coder-1.5b").join("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        voice_onnx: voice.join("en_US-joe-medium.onnx"),
        voice_json: voice.join("en_US-joe-medium.onnx.json"),
    }
}

/// Loaded once for all tests, which take turns with it.
static ENGINE: LazyLock<Mutex<CascadeEngine>> = LazyLock::new(|| {
    let engine = CascadeEngine::load(&paths(), &CascadeOptions::default(), &mut |_, _| {});
    Mutex::new(engine.expect("the engine loads"))
});

#[derive(Default)]
struct Got {
    heard: Vec<(String, bool)>,
    text: String,
    chunks: Vec<PcmChunk>,
    marks: Vec<StageMark>,
    first_sound: Option<Instant>,
}

/// Keeps what it is given; cancels at the first sound if told to.
#[derive(Default)]
struct Sink {
    got: Mutex<Got>,
    cancel: Option<CancelToken>,
}

impl ResponseSink for Sink {
    fn heard(&self, text: &str, is_final: bool) {
        self.got.lock().unwrap().heard.push((text.to_owned(), is_final));
    }
    fn text(&self, piece: &str) {
        self.got.lock().unwrap().text.push_str(piece);
    }
    fn audio(&self, chunk: PcmChunk) -> bool {
        let mut got = self.got.lock().unwrap();
        got.first_sound.get_or_insert_with(Instant::now);
        got.chunks.push(chunk);
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        self.cancel.is_none()
    }
    fn mark(&self, mark: StageMark) {
        self.got.lock().unwrap().marks.push(mark);
    }
}

fn open(engine: &mut CascadeEngine) -> Box<dyn EngineSession> {
    engine.open(&SessionSetup { seed: 1, ..SessionSetup::default() }).expect("a conversation")
}

/// Says `pcm` to the session as a microphone would, and pauses.
fn say(session: &mut dyn EngineSession, pcm: &[f32], sink: &Arc<dyn ResponseSink>) {
    for piece in pcm.chunks(1600) {
        session.hear(piece, sink).expect("hearing");
    }
    session.pause(sink, &CancelToken::default()).expect("a pause");
}

#[test]
fn a_spoken_question_is_answered_in_words_that_can_be_understood() {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let rate = engine.info().output_rate;
    let mut session = open(&mut engine);
    let sink = Arc::new(Sink::default());
    let dynamic: Arc<dyn ResponseSink> = sink.clone();
    say(session.as_mut(), &sound::speech("capital"), &dynamic);
    let asked = Instant::now();
    assert_eq!(session.respond(&dynamic, &CancelToken::default()).expect("an answer"), ReplyEnd::Complete);

    let got = sink.got.lock().unwrap();
    let (heard, is_final) = got.heard.last().expect("something was heard");
    assert!(*is_final && heard.to_lowercase().contains("capital of france"), "{heard}");
    assert!(got.text.contains("Paris"), "{}", got.text);

    // The sound follows the text, and its last chunk says so.
    let ends: Vec<usize> = got.chunks.iter().map(|c| c.text_end).collect();
    assert!(ends.is_sorted() && ends.iter().all(|e| got.text.is_char_boundary(*e)), "{ends:?}");
    assert_eq!(ends.last(), Some(&got.text.len()));
    assert_eq!(got.chunks.iter().filter(|c| c.last).count(), 1);
    assert!(got.chunks.iter().all(|c| c.overlap == 0));

    let pcm: Vec<f32> = got.chunks.iter().flat_map(|c| c.samples.clone()).collect();
    let seconds = pcm.len() as f32 / rate as f32;
    let (wrong, words, understood) = misunderstood(&got.text, &pcm, rate);
    let first = got.first_sound.expect("sound").duration_since(asked);
    println!("{:?}; first sound after {first:?}, {seconds:.1} s of sound; understood {understood:?}", got.text);
    assert!(10 * wrong <= 2 * words, "{wrong} of {words} words were not understood: {understood:?}");

    let stages =
        [Stage::AudioEncode, Stage::Stt, Stage::LlmPrefill, Stage::LlmDecode, Stage::TtsPrefill, Stage::TtsDecode];
    for stage in stages {
        assert!(got.marks.iter().any(|m| m.stage == stage && m.units > 0), "no mark of {}", stage.name());
    }
    let spoken: usize = got.marks.iter().filter(|m| m.stage == Stage::TtsDecode).map(|m| m.units as usize).sum();
    assert_eq!(spoken, pcm.len());
}

#[test]
fn cancelling_at_the_first_sound_gives_no_more_and_the_conversation_goes_on() {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut session = open(&mut engine);
    let cancel = CancelToken::default();
    let cut = Arc::new(Sink { cancel: Some(cancel.clone()), ..Sink::default() });
    let dynamic: Arc<dyn ResponseSink> = cut.clone();
    session.read("Count from one to ten, please.").expect("reading");
    assert_eq!(session.respond(&dynamic, &cancel).expect("an answer"), ReplyEnd::Cancelled);
    assert_eq!(cut.got.lock().unwrap().chunks.len(), 1);
    let heard = cut.got.lock().unwrap().chunks[0].text_end;
    session.truncate(heard).expect("truncated");

    let sink = Arc::new(Sink::default());
    let dynamic: Arc<dyn ResponseSink> = sink.clone();
    say(session.as_mut(), &sound::speech("capital"), &dynamic);
    assert_eq!(session.respond(&dynamic, &CancelToken::default()).expect("an answer"), ReplyEnd::Complete);
    assert!(sink.got.lock().unwrap().text.contains("Paris"));
}

#[test]
fn a_retracted_answer_is_given_anew_and_silence_is_not_answered() {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut session = open(&mut engine);
    let sink = Arc::new(Sink::default());
    let dynamic: Arc<dyn ResponseSink> = sink.clone();
    say(session.as_mut(), &[0.0; 16_000], &dynamic);
    assert_eq!(session.respond(&dynamic, &CancelToken::default()).expect("no error"), ReplyEnd::NothingHeard);

    say(session.as_mut(), &sound::speech("capital"), &dynamic);
    let stopped = CancelToken::default();
    stopped.cancel();
    assert_eq!(session.respond(&dynamic, &stopped).expect("no error"), ReplyEnd::Cancelled);
    session.retract().expect("retracted");
    say(session.as_mut(), &[0.0; 8_000], &dynamic);
    assert_eq!(session.respond(&dynamic, &CancelToken::default()).expect("an answer"), ReplyEnd::Complete);
    assert!(sink.got.lock().unwrap().text.contains("Paris"), "the question was still part of the turn");

    say(session.as_mut(), &sound::speech("capital"), &dynamic);
    session.discard().expect("discarded");
    assert_eq!(session.respond(&dynamic, &CancelToken::default()).expect("no error"), ReplyEnd::NothingHeard);
}
