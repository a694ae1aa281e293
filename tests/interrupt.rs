//! Interrupting the real program: its window on a display, its loudspeaker heard by its microphone (12 dB down, 60 ms
//! later, as on open loudspeakers), a hum that must not stop its answer and a word that must. The answer is a script, so
//! that its length is known; the end of turn is judged by the real model.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
mod lab;

use antiphon::dsp::resample::convert;
use antiphon::engine::scripted::{Audio, Script, Sound, Step, Turn};
use anyhow::{Context, Result};
use common::sound::speech;
use lab::display::Display;
use lab::measure;
use lab::process::is_running;
use lab::program;
use lab::sound::{Lab, RATE};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is waited for is waited for this long: not a promise of speed, but the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// How long after the end of the word the answer may sound on at most, in seconds. It is stopped some tenths of a second
/// after the word began; the rest is for a busy machine, whose player and recorder come late.
const ALLOWED_S: f64 = 2.0;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/speech/{name}.wav"))
}

/// An answer of some fifteen seconds; what is said after it is not answered.
fn script() -> Script {
    let names = ["capital", "fruit", "joke", "sky", "capital", "fruit", "joke"];
    let samples = convert(&names.map(speech).concat(), 16_000, 24_000).unwrap();
    // Three decimals are enough, and keep the file small.
    let samples = samples.iter().map(|x| (x * 1000.0).round() / 1000.0).collect();
    let sound = Sound::Samples(samples);
    let audio = Audio { sound, seconds: 0.0, delay_ms: 0, overlap_ms: 0, text_end: None, fault: None };
    let steps = vec![Step::Text { text: "A long answer.".into(), delay_ms: 0 }, Step::Audio(audio)];
    let answered = Turn { heard: "Why is the sky blue?".into(), delay_ms: 0, steps };
    Script { turns: vec![answered], ..Script::default() }
}

/// The microphone hears the loudspeaker.
fn open_loudspeaker(lab: &Lab) -> Result<()> {
    lab.pactl(["load-module", "module-loopback", "source=speaker.monitor", "sink=mouth", "latency_msec=60"])?;
    let inputs = lab.pactl(["list", "short", "sink-inputs"])?;
    let loopback = inputs.lines().find(|line| line.contains("module-loopback")).context(inputs.clone())?;
    let id = loopback.split_whitespace().next().context("a number")?;
    lab.pactl(["set-sink-input-volume", id, "-12dB"])?;
    Ok(())
}

#[test]
fn a_hum_does_not_stop_the_answer_and_a_word_does() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tempfile::tempdir()?;
    let script_file = home.path().join("script.json");
    std::fs::write(&script_file, serde_json::to_string(&script())?)?;
    let sound = Lab::start()?;
    open_loudspeaker(&sound)?;
    let display = Display::start()?;
    let args = ["--engine", "scripted", "--mode", "hands-free", "--script"].map(OsStr::new);
    let args = [args.as_slice(), &[script_file.as_os_str()]].concat();
    let log = kept.join("interrupt.log");
    let antiphon = program::start(&args, (&sound, &display), home.path(), ("debug", &log), LIMIT)?;
    display.window("Antiphon", LIMIT)?;

    let recorder = sound.recorder()?;
    sound.say(&fixture("sky"))?;
    let second = RATE as usize;
    let audible = |signal: &[f32]| measure::spans(signal, RATE, measure::FLOOR_DB, 1.0);
    let program = antiphon.id();
    recorder
        .wait_until("answer", LIMIT, |so_far| {
            audible(&so_far.answer).first().is_some_and(|a| so_far.answer.len() > a.start + 2 * second)
                || !is_running(program)
        })
        .with_context(|| antiphon.said())?;
    sound.say(&fixture("mhm"))?;
    let hummed = recorder.so_far().answer.len();
    recorder.wait_until("second after the hum", LIMIT, |so_far| so_far.answer.len() > hummed + 2 * second)?;
    let before = recorder.so_far().answer.len();
    sound.say(&fixture("stop"))?;
    let stopped = recorder.so_far().answer.len();
    recorder.wait_until("silence", LIMIT, |so_far| so_far.answer.len() > stopped + 5 * second)?;
    let recording = recorder.stop();
    recording.save(&kept.join("interrupt.wav"))?;
    assert!(is_running(program), "the program ended by itself; it said:\n{}", antiphon.said());

    let answers = audible(&recording.answer);
    let seconds = |samples: usize| recording.seconds(samples);
    let told = format!(
        "hum said at {:.2} s, word between {:.2} and {:.2} s, answer at {:?} s; listen to {}",
        seconds(hummed),
        seconds(before),
        seconds(stopped),
        answers.iter().map(|a| (seconds(a.start), seconds(a.end))).collect::<Vec<_>>(),
        kept.join("interrupt.wav").display()
    );
    println!("{told}");
    assert_eq!(answers.len(), 1, "the answer sounds once, and neither hum nor echo tears it: {told}");
    let end = answers[0].end;
    assert!(end > before, "the answer sounded until the word: {told}");
    assert!(seconds(end) < seconds(stopped) + ALLOWED_S, "the word stopped it: {told}");
    assert!(!antiphon.said().contains("panicked"), "{}", antiphon.said());
    Ok(())
}
