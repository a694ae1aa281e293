//! The key that talks while another program has the keyboard: the real program on a display without a window manager, its
//! key chosen in its settings, pressed while a picture viewer has the focus. The answers are the built-in script's.
#![cfg(target_os = "linux")]

mod lab;

use anyhow::{Context, Result};
use lab::display::Display;
use lab::measure::{self, Recording};
use lab::process::{Running, is_running};
use lab::program;
use lab::sound::Lab;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What is waited for is waited for this long: not a promise of speed, but the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(90);
const KEY: &str = "F9";
/// Its number in X's `keysymdef.h`.
const KEYSYM: u32 = 0xffc6;

#[test]
fn the_key_talks_while_another_program_has_the_keyboard() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let question = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/question.wav");
    let home = tempfile::tempdir()?;
    std::fs::create_dir(home.path().join("antiphon"))?;
    let settings = format!("hands_free = false\nengine = \"scripted\"\nhotkey = \"{KEY}\"\n");
    std::fs::write(home.path().join("antiphon/settings.toml"), settings)?;
    let sound = Lab::start()?;
    let display = Display::start()?;
    let log = kept.join("hotkey.log");
    let no_arguments: [&str; 0] = [];
    let antiphon = program::start(&no_arguments, (&sound, &display), home.path(), ("info", &log), LIMIT)?;
    display.window("Antiphon", LIMIT)?;
    let viewer_log = home.path().join("viewer.log");
    let viewer = ["-title", "gradient", "-size", "300x200", "gradient:red-blue"];
    let _viewer = Running::start(Command::new("display").args(viewer).envs(display.env()), &viewer_log)?;
    let other = display.window("gradient", LIMIT)?;
    display.focus(&other)?;

    let recorder = sound.recorder()?;
    let program = antiphon.id();
    let answered = |so_far: &Recording| !measure::spans(&so_far.answer, so_far.rate, measure::FLOOR_DB, 0.5).is_empty();
    // Without the key nobody listens.
    sound.say(&question)?;
    assert!(!answered(&recorder.so_far()), "an answer that nobody asked for");
    display.hold(KEY)?;
    sound.say(&question)?;
    display.release(KEY)?;
    let heard = recorder.wait_until("answer", LIMIT, |so_far| answered(so_far) || !is_running(program));
    heard.with_context(|| format!("the program said:\n{}", antiphon.said()))?;
    assert!(is_running(program), "the program ended by itself; it said:\n{}", antiphon.said());
    assert_eq!(display.focused()?, other, "the other window has the keyboard still");
    let recording = recorder.stop();
    recording.save(&kept.join("hotkey.wav"))?;
    // Two questions, one answer, and that after the second.
    let answer = recording.turns().last().and_then(|turn| turn.answer.clone()).context("an answer")?;
    assert!(measure::spans(&recording.answer[..answer.start], recording.rate, measure::FLOOR_DB, 0.5).is_empty());
    assert!(!antiphon.said().contains("panicked"), "{}", antiphon.said());
    Ok(())
}

/// A key that another program has is told of, and the program goes on without it.
#[test]
fn a_key_of_another_program_is_refused_and_no_harm_is_done() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tempfile::tempdir()?;
    std::fs::create_dir(home.path().join("antiphon"))?;
    std::fs::write(home.path().join("antiphon/settings.toml"), format!("engine = \"scripted\"\nhotkey = \"{KEY}\"\n"))?;
    let sound = Lab::start()?;
    let display = Display::start()?;
    let _taken = display.take_key(KEYSYM)?;
    let log = kept.join("hotkey-taken.log");
    let no_arguments: [&str; 0] = [];
    let antiphon = program::start(&no_arguments, (&sound, &display), home.path(), ("info", &log), LIMIT)?;
    display.window("Antiphon", LIMIT)?;
    assert!(antiphon.said().contains("no key for all programs: Taken"), "{}", antiphon.said());
    assert!(is_running(antiphon.id()) && !antiphon.said().contains("panicked"), "{}", antiphon.said());
    Ok(())
}
