//! Interrupting the real program: its window on a display, its loudspeaker heard by its microphone (60 ms later, 6, 12
//! and 20 dB down, as on open loudspeakers), a hum that must not stop its answers and a word that must, at each of these
//! levels. The answers are a script, so that their length is known; the end of turn is judged by the real model.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
mod lab;

use antiphon::dsp::resample::convert;
use antiphon::engine::scripted::{Audio, Script, Sound, Step, Turn};
use anyhow::{Context, Result};
use common::sound::speech;
use lab::display::Display;
use lab::measure::{self, Recording};
use lab::process::is_running;
use lab::program;
use lab::sound::{Lab, RATE};
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is waited for is waited for this long: not a promise of speed, but the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// The loudspeaker in the microphone, in dB: one answer each.
const ECHOES_DB: [i32; 3] = [-6, -20, -12];
/// Seconds of an answer that nobody disturbs, those after the hum, and the silence after the word.
const UNDISTURBED_S: usize = 3;
const AFTER_HUM_S: usize = 2;
const SILENCE_S: usize = 4;
/// How long after the end of the word the answer may sound on at most, in seconds. It is stopped some tenths of a second
/// after the word began; the rest is for a busy machine, whose player and recorder come late.
const ALLOWED_S: f64 = 2.0;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/speech/{name}.wav"))
}

/// Answers of fifteen seconds; the word that breaks one off is not answered.
fn script() -> Script {
    let answer = turn(&["capital", "fruit", "joke", "sky", "capital", "fruit", "joke"]);
    let turns = ECHOES_DB.iter().flat_map(|_| [answer.clone(), Turn::default()]).collect();
    Script { turns, ..Script::default() }
}

fn turn(names: &[&str]) -> Turn {
    let samples = names.iter().flat_map(|name| speech(name)).collect::<Vec<f32>>();
    let samples = convert(&samples, 16_000, 24_000).unwrap();
    // Three decimals are enough, and keep the file small.
    let samples = samples.iter().map(|x| (x * 1000.0).round() / 1000.0).collect();
    let sound = Sound::Samples(samples);
    let audio = Audio { sound, seconds: 0.0, delay_ms: 0, overlap_ms: 0, text_end: None, fault: None };
    let steps = vec![Step::Text { text: "An answer.".into(), delay_ms: 0 }, Step::Audio(audio)];
    Turn { heard: "Why is the sky blue?".into(), delay_ms: 0, steps }
}

/// The microphone hears the loudspeaker. Gives what its loudness is set by.
fn open_loudspeaker(lab: &Lab) -> Result<String> {
    lab.pactl(["load-module", "module-loopback", "source=speaker.monitor", "sink=mouth", "latency_msec=60"])?;
    let inputs = lab.pactl(["list", "short", "sink-inputs"])?;
    let loopback = inputs.lines().find(|line| line.contains("module-loopback")).context(inputs.clone())?;
    Ok(loopback.split_whitespace().next().context("a number")?.to_owned())
}

#[test]
fn neither_echoes_nor_a_hum_stop_an_answer_and_a_word_does() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tempfile::tempdir()?;
    let script_file = home.path().join("script.json");
    std::fs::write(&script_file, serde_json::to_string(&script())?)?;
    let sound = Lab::start()?;
    let echo = open_loudspeaker(&sound)?;
    let display = Display::start()?;
    let args = ["--engine", "scripted", "--mode", "hands-free", "--script"].map(OsStr::new);
    let args = [args.as_slice(), &[script_file.as_os_str()]].concat();
    let log = kept.join("interrupt.log");
    let antiphon = program::start(&args, (&sound, &display), home.path(), ("debug", &log), LIMIT)?;
    display.window("Antiphon", LIMIT)?;

    let recorder = sound.recorder()?;
    let second = RATE as usize;
    let audible = |signal: &[f32]| measure::spans(signal, RATE, measure::FLOOR_DB, 1.0);
    let program = antiphon.id();
    let mut said = Vec::new();
    for (i, db) in ECHOES_DB.into_iter().enumerate() {
        sound.pactl(["set-sink-input-volume", echo.as_str(), format!("{db}dB").as_str()])?;
        sound.say(&fixture("sky"))?;
        let goes_on = |so_far: &Recording| {
            let answer = audible(&so_far.answer).into_iter().nth(i);
            answer.is_some_and(|answer| so_far.answer.len() > answer.start + UNDISTURBED_S * second)
        };
        recorder
            .wait_until("answer", LIMIT, |so_far| goes_on(so_far) || !is_running(program))
            .with_context(|| antiphon.said())?;
        sound.say(&fixture("mhm"))?;
        let hummed = recorder.so_far().answer.len();
        recorder.wait_until("seconds after the hum", LIMIT, |r| r.answer.len() > hummed + AFTER_HUM_S * second)?;
        let before = recorder.so_far().answer.len();
        sound.say(&fixture("stop"))?;
        let word = before..recorder.so_far().answer.len();
        recorder.wait_until("silence", LIMIT, |r| r.answer.len() > word.end + SILENCE_S * second)?;
        said.push(word);
    }
    let recording = recorder.stop();
    recording.save(&kept.join("interrupt.wav"))?;
    assert!(is_running(program), "the program ended by itself; it said:\n{}", antiphon.said());

    let answers = audible(&recording.answer);
    let seconds = |span: &Range<usize>| (recording.seconds(span.start), recording.seconds(span.end));
    let told = format!(
        "words at {:?} s, answers at {:?} s; listen to {}",
        said.iter().map(seconds).collect::<Vec<_>>(),
        answers.iter().map(seconds).collect::<Vec<_>>(),
        kept.join("interrupt.wav").display()
    );
    println!("{told}");
    let log = antiphon.said();
    let certain: Vec<_> = log.lines().filter(|line| line.contains("was certain")).collect();
    println!("{certain:?}");
    assert_eq!(certain.len(), ECHOES_DB.len(), "one interruption of each answer: {told}");
    assert_eq!(answers.len(), ECHOES_DB.len(), "each answer sounds once, and neither hum nor echo tears it: {told}");
    for (answer, word) in answers.iter().zip(&said) {
        assert!(answer.end > word.start, "the answer sounded until the word: {told}");
        assert!(recording.seconds(answer.end) < recording.seconds(word.end) + ALLOWED_S, "it stopped it: {told}");
    }
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}
