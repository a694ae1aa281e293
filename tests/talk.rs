//! A spoken turn with the real program: its window on a display, a question said into its microphone, its answer
//! recorded from its loudspeaker, and the end. Models are the real starter models, from the store that the program
//! itself would use (`make test` fills it); settings are its defaults.
#![cfg(target_os = "linux")]

mod common;
mod lab;

use antiphon::conversation::archive::Archive;
use anyhow::{Context, Result};
use common::words::misunderstood;
use lab::display::Display;
use lab::measure::{self, Recording};
use lab::process::{descendants, is_running};
use lab::program;
use lab::sound::Lab;
use rustix::process::Signal;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is waited for is waited for this long: not a promise of speed, but the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(180);
/// The answer is over when it has been silent for so many seconds: longer than the pause between two clauses on a busy
/// machine.
const SILENCE_S: f64 = 4.0;
/// The program promises to end within a second of being asked; a busy machine gets a little more.
const GOODBYE: Duration = Duration::from_secs(3);
/// A sound server that shares two busy cores with the engine and a window drawn without a graphics card comes late now
/// and then; a program that tears its own sound does so at every seam.
const MISHAPS: usize = 3;
/// A step from one sample to the next that no speech takes, in parts of full scale: a 4 kHz tone at half of full scale
/// takes 0.26.
const CLICK: f32 = 0.5;

#[test]
fn a_question_said_aloud_is_answered_aloud() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let question = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/question.wav");
    let home = tempfile::tempdir()?;
    let _alone = one_at_a_time();
    let sound = Lab::start()?;
    let display = Display::start()?;

    let log = kept.join("talk.log");
    let no_arguments: [&str; 0] = [];
    let mut antiphon = program::start(&no_arguments, (&sound, &display), home.path(), ("info", &log), LIMIT)?;
    let window = display.window("Antiphon", LIMIT)?;

    let recorder = sound.recorder()?;
    sound.say(&question)?;
    let program = antiphon.id();
    let heard = recorder.wait_until("end of the answer", LIMIT, |so_far| answered(so_far) || !is_running(program));
    display.screenshot(&kept.join("talk.png"))?;
    let colours = display.colours()?;
    let recording = recorder.stop();
    recording.save(&kept.join("talk.wav"))?;
    heard.with_context(|| format!("the program said:\n{}", antiphon.said()))?;
    assert!(is_running(program), "the program ended by itself; it said:\n{}", antiphon.said());

    // The answer came after the question, and is whole.
    let turns = recording.turns();
    assert_eq!(turns.len(), 1, "the question is one turn: {turns:?}");
    let turn = &turns[0];
    let answer = turn.answer.clone().context("an answer")?;
    assert!(turn.gap_ms.is_some_and(|gap| gap > 0.0), "{turn:?}");
    let early = measure::spans(&recording.answer[..turn.user.end], recording.rate, measure::FLOOR_DB, 1.0);
    assert!(early.is_empty(), "the program spoke while the user did: {early:?}");
    assert!(recording.seconds(answer.len()) > 0.5, "an answer of {} s", recording.seconds(answer.len()));
    let torn: Vec<_> = turn.holes.iter().filter(|hole| hole.inside_clause()).collect();
    let listen = kept.join("talk.wav");
    assert!(torn.len() <= MISHAPS, "torn in {} places: {torn:?}; listen to {}", torn.len(), listen.display());
    println!("torn in {} places: {torn:?}", torn.len());
    let (at, jump) = measure::largest_jump(&recording.answer[answer.clone()]);
    assert!(jump < CLICK, "a step of {jump} at {:.3} s", recording.seconds(answer.start + at));

    // What was heard is what the history says, on both sides: the answer from the loudspeaker is written down by a second
    // run of speech-to-text.
    let kept_turns = Archive::new(home.path().join("home/conversations")).newest().context("a conversation")?.turns;
    assert_eq!(kept_turns.len(), 1, "{kept_turns:?}");
    assert!(kept_turns[0].heard.to_lowercase().contains("sky blue"), "{kept_turns:?}");
    let (wrong, words, understood) =
        misunderstood(&kept_turns[0].answer, &recording.answer[answer.clone()], recording.rate);
    println!("{wrong} of {words} words wrong: {understood:?} for {:?}", kept_turns[0].answer);
    assert!(5 * wrong <= words, "{wrong} of {words} words were not understood: {understood:?} for {kept_turns:?}");

    // The window shows something: text, panels, meters, and not one flat colour.
    assert!(colours > 50, "the display shows {colours} colours: {}", kept.join("talk.png").display());

    // Its window is closed in the middle of another answer: it ends, and leaves nobody behind.
    let recorder = sound.recorder()?;
    sound.say(&question)?;
    let speaks = |so_far: &Recording| !measure::spans(&so_far.answer, so_far.rate, measure::FLOOR_DB, 0.5).is_empty();
    let heard = recorder.wait_until("second answer", LIMIT, |so_far| speaks(so_far) || !is_running(program));
    let children = descendants(program);
    let asked = Instant::now();
    display.close(&window)?;
    let status = antiphon.wait(GOODBYE)?;
    println!("gap {:.0} ms, ended in {:.0} ms", turn.gap_ms.unwrap_or_default(), asked.elapsed().as_secs_f64() * 1e3);
    heard.with_context(|| format!("the program said:\n{}", antiphon.said()))?;
    assert_eq!(status.code(), Some(0), "{status}; the program said:\n{}", antiphon.said());
    let left: Vec<_> = children.into_iter().filter(|id| is_running(*id)).collect();
    assert!(left.is_empty(), "processes left behind: {left:?}");
    assert!(!antiphon.said().contains("panicked"), "{}", antiphon.said());
    Ok(())
}

/// Whether the question has been answered, and the answer is over.
fn answered(so_far: &Recording) -> bool {
    let silence = (SILENCE_S * f64::from(so_far.rate)) as usize;
    measure::spans(&so_far.answer, so_far.rate, measure::FLOOR_DB, SILENCE_S)
        .last()
        .is_some_and(|answer| so_far.answer.len() > answer.end + silence)
}

/// The same with the omni engine, which goes from sound to sound: here on a tiny checkpoint that answers in noise, in
/// the voice of a recording.
#[test]
fn the_omni_engine_answers_in_the_window_too() -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = tempfile::tempdir()?;
    let _alone = one_at_a_time();
    let sound = Lab::start()?;
    let display = Display::start()?;
    let (model, voice) = (root.join("tests/fixtures/omni-tiny"), root.join("tests/fixtures/speech/pause.wav"));
    let args = [
        "--engine".as_ref(),
        "omni".as_ref(),
        "--model".as_ref(),
        model.as_os_str(),
        "--voice".as_ref(),
        voice.as_ref(),
    ];
    let log = kept.join("talk-omni.log");
    let mut antiphon = program::start(&args, (&sound, &display), home.path(), ("info", &log), LIMIT)?;
    assert!(antiphon.said().contains("the model needs"), "{}", antiphon.said());
    display.window("Antiphon", LIMIT)?;

    let recorder = sound.recorder()?;
    sound.say(&root.join("assets/question.wav"))?;
    let program = antiphon.id();
    // The tiny model has no reason to end; a few seconds of it are enough.
    let heard = recorder.wait_until("answer", LIMIT, |so_far| answer_seconds(so_far) > 3.0 || !is_running(program));
    display.screenshot(&kept.join("talk-omni.png"))?;
    let recording = recorder.stop();
    recording.save(&kept.join("talk-omni.wav"))?;
    heard.with_context(|| format!("the program said:\n{}", antiphon.said()))?;
    assert!(is_running(program), "the program ended by itself; it said:\n{}", antiphon.said());
    let turns = recording.turns();
    assert_eq!(turns.len(), 1, "the question is one turn: {turns:?}");
    assert!(turns[0].gap_ms.is_some_and(|gap| gap > 0.0), "{:?}", turns[0]);

    // Closed in the middle of its answer, it ends as promptly as ever.
    antiphon.signal(Signal::TERM)?;
    let status = antiphon.wait(GOODBYE)?;
    assert_eq!(status.code(), Some(0), "{status}; the program said:\n{}", antiphon.said());
    assert!(!antiphon.said().contains("panicked"), "{}", antiphon.said());
    Ok(())
}

/// Seconds of sound that came from the loudspeaker.
fn answer_seconds(so_far: &Recording) -> f64 {
    let spans = measure::spans(&so_far.answer, so_far.rate, measure::FLOOR_DB, SILENCE_S);
    spans.iter().map(|span| so_far.seconds(span.len())).sum()
}

/// Two programs that speak at once would wait for each other's share of the processor.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LAB: Mutex<()> = Mutex::new(());
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}
