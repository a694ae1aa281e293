//! A voice's state on disk: what a second start finds, and what it does with what does not fit.

use super::super::OmniEngine;
use super::super::load::OmniOptions;
use super::super::probe::{NoProbe, Probe};
use super::super::prompt::Mode;
use super::{Heard, tiny_dir};
use crate::engine::{CancelToken, Engine, ResponseSink, SessionSetup};
use crate::metrics::Stage;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// As another process would: nothing is left in memory.
fn start(options: OmniOptions) -> OmniEngine {
    OmniEngine::load(&tiny_dir(), options, &mut |_, _| {}).unwrap()
}

fn options() -> OmniOptions {
    OmniOptions { answer_tokens: 16, ..OmniOptions::default() }
}

fn tone(samples: usize) -> Vec<f32> {
    (0..samples).map(|i| (i as f32 * 0.05).sin() * 0.3 + (i as f32 * 0.013).sin() * 0.2).collect()
}

fn setup(state: &Path) -> SessionSetup {
    let voice = Some(tone(48_000).into());
    SessionSetup { reference_voice: voice, voice_state: Some(state.into()), seed: 3, ..SessionSetup::default() }
}

/// How much of each stage was done.
#[derive(Default)]
struct Work(BTreeMap<Stage, usize>);

impl Probe for Work {
    fn worked(&mut self, stage: Stage, _: Micros, units: usize) {
        *self.0.entry(stage).or_default() += units;
    }
}

/// The work that a conversation's beginning costs, and everything it leaves: keys, values and embedding.
fn begin(engine: &mut OmniEngine, setup: &SessionSetup) -> (Work, Vec<Vec<f32>>) {
    let mut work = Work::default();
    let voice = engine.voice(Mode::Assistant, setup, &mut work).unwrap();
    let mut all = vec![voice.speaker.flatten_all().unwrap().to_vec1().unwrap()];
    for layer in 0..voice.cache.layers() {
        let (k, v) = voice.cache.layer(layer).unwrap();
        all.extend([k, v].map(|t| t.contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()));
    }
    (work, all)
}

/// One spoken turn: the text and the sound of the answer.
fn answer(engine: &mut OmniEngine, setup: &SessionSetup) -> (String, Vec<f32>) {
    let heard = Heard::new();
    let sink: Arc<dyn ResponseSink> = heard.clone();
    let mut session = engine.open(setup).unwrap();
    session.hear(&tone(18_000), &sink).unwrap();
    session.respond(&sink, &CancelToken::default()).unwrap();
    let sound = heard.chunks.lock().unwrap().iter().flat_map(|c| c.samples.clone()).collect();
    (heard.text.lock().unwrap().clone(), sound)
}

/// A text read aloud: its sound, and the samples that were encoded for it.
fn read(engine: &mut OmniEngine, setup: &SessionSetup) -> (Vec<f32>, u32) {
    let heard = Heard::new();
    let sink: Arc<dyn ResponseSink> = heard.clone();
    engine.read_aloud("Good morning.", setup, &sink, &CancelToken::default()).unwrap();
    let sound = heard.chunks.lock().unwrap().iter().flat_map(|c| c.samples.clone()).collect();
    let marks = heard.marks.lock().unwrap();
    let encoded = marks.iter().filter(|m| m.stage == Stage::AudioEncode).map(|m| m.units).sum();
    (sound, encoded)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_second_start_encodes_nothing_and_sounds_the_same() {
    let home = tempfile::tempdir().unwrap();
    let setup = setup(&home.path().join("state"));
    let mut first = start(options());
    let (work, made) = begin(&mut first, &setup);
    assert_eq!(work.0.get(&Stage::AudioEncode), Some(&48_000), "the first time, the whole sample is encoded");
    assert!(work.0[&Stage::LlmPrefill] > 70);
    let (said, (sound, encoded)) = (answer(&mut first, &setup), read(&mut first, &setup));
    assert_eq!(encoded, 48_000);
    drop(first);
    assert_eq!(files(&home.path().join("state")).len(), 2, "one for talking, one for reading aloud");

    let mut second = start(options());
    let (work, found) = begin(&mut second, &setup);
    assert!(work.0.is_empty(), "the second time, nothing is computed: {:?}", work.0);
    assert_eq!(found, made);
    assert_eq!(answer(&mut second, &setup), said);
    assert_eq!(read(&mut second, &setup), (sound, 0));
}

#[test]
fn what_does_not_fit_is_made_anew_without_a_word() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let setup = setup(&state);
    let made = begin(&mut start(options()), &setup).1;
    let file = files(&state).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&[][..], b"not a tensor", &whole[..whole.len() / 2], &flipped] {
        std::fs::write(&file, damaged).unwrap();
        let (work, found) = begin(&mut start(options()), &setup);
        assert!(work.0.contains_key(&Stage::AudioEncode));
        assert_eq!(found, made);
        assert_eq!(std::fs::read(&file).unwrap().len(), whole.len(), "mended");
    }
    // Another persona, another sample and another model are other states.
    let others = [
        (options(), SessionSetup { system_prompt: "You are Ann.".into(), ..setup.clone() }),
        (options(), SessionSetup { reference_voice: Some(tone(50_000).into()), ..setup.clone() }),
        (OmniOptions { context: 4096, ..options() }, setup.clone()),
    ];
    for (options, setup) in others {
        assert!(begin(&mut start(options), &setup).0.0.contains_key(&Stage::AudioEncode));
    }
    assert_eq!(files(&state).len(), 4);
    // Where nothing can be kept, the voice is made all the same.
    std::fs::write(home.path().join("file"), "").unwrap();
    let nowhere = SessionSetup { voice_state: Some(home.path().join("file/state")), ..setup };
    assert_eq!(begin(&mut start(options()), &nowhere).1, made);
    let _ = start(options()).voice(Mode::Assistant, &SessionSetup::default(), &mut NoProbe).unwrap();
}

#[test]
fn a_voice_keeps_a_few_states() {
    let home = tempfile::tempdir().unwrap();
    let mut engine = start(options());
    for i in 0..9 {
        begin(&mut engine, &SessionSetup { system_prompt: format!("You are number {i}."), ..setup(home.path()) });
    }
    assert_eq!(files(home.path()).len(), 6);
}
