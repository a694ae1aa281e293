//! The laboratory itself: a measure that is wrong, a card that loses sound or a daemon that stays behind would make
//! every test that uses them worthless.
#![cfg(target_os = "linux")]

mod lab;

use anyhow::Result;
use lab::display::Display;
use lab::measure::{self, FLOOR_DB, Recording};
use lab::process::{Running, descendants, is_running};
use lab::sound::{Lab, Plug, RATE};
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn question() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/question.wav")
}

/// Seconds to samples.
fn at(seconds: f64) -> usize {
    (seconds * f64::from(RATE)).round() as usize
}

/// A 440 Hz tone at half of full scale from `from` to `to` seconds, which begins at its crest.
fn tone(signal: &mut [f32], from: f64, to: f64) {
    for (i, sample) in signal[at(from)..at(to)].iter_mut().enumerate() {
        *sample = (0.5 * (TAU * 440.0 * i as f64 / f64::from(RATE)).cos()) as f32;
    }
}

/// Two seconds: the user speaks from 0.5 to 1.0, the answer from 1.4 to 1.9.
fn conversation() -> Recording {
    let mut recording = Recording { rate: RATE, user: vec![0.0; at(2.0)], answer: vec![0.0; at(2.0)] };
    tone(&mut recording.user, 0.5, 1.0);
    tone(&mut recording.answer, 1.4, 1.9);
    recording
}

#[test]
fn a_turn_is_measured_to_the_sample() {
    let turns = conversation().turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].user.start, at(0.5));
    // The tone's last samples may lie under the floor, near a zero crossing: a quarter of a period at the most.
    assert!(at(1.0) - turns[0].user.end < RATE as usize / 440 / 4, "{turns:?}");
    let answer = turns[0].answer.clone().expect("an answer");
    assert_eq!(answer.start, at(1.4));
    let gap = turns[0].gap_ms.expect("a gap");
    assert!((gap - 400.0).abs() < 0.6, "{gap}");
    assert_eq!(turns[0].holes, []);
}

#[test]
fn an_answer_before_the_end_of_the_question_is_no_answer_to_it() {
    let mut recording = Recording { rate: RATE, user: vec![0.0; at(4.0)], answer: vec![0.0; at(4.0)] };
    tone(&mut recording.user, 1.0, 2.0);
    tone(&mut recording.answer, 1.5, 3.0);
    let turns = recording.turns();
    assert_eq!((turns.len(), &turns[0].answer, turns[0].gap_ms), (1, &None, None));
}

#[test]
fn pauses_part_turns_only_when_they_are_long() {
    let mut recording = Recording { rate: RATE, user: vec![0.0; at(6.0)], answer: vec![0.0; at(6.0)] };
    tone(&mut recording.user, 0.5, 1.0);
    tone(&mut recording.user, 1.8, 2.2); // 0.8 s later: the same turn
    tone(&mut recording.user, 4.0, 4.5); // 1.8 s later: another one
    tone(&mut recording.answer, 5.0, 5.5);
    let turns = recording.turns();
    let starts: Vec<usize> = turns.iter().map(|turn| turn.user.start).collect();
    assert_eq!(starts, [at(0.5), at(4.0)]);
    // Nothing came of the first but what followed the second.
    assert!(turns.iter().all(|turn| turn.answer.as_ref().is_some_and(|answer| answer.start == at(5.0))));
}

#[test]
fn silence_and_hiss_below_the_floor_are_nobody() {
    let mut recording = Recording { rate: RATE, user: vec![0.0; at(1.0)], answer: vec![0.0; at(1.0)] };
    for (i, sample) in recording.user.iter_mut().enumerate() {
        *sample = if i % 2 == 0 { 0.001 } else { -0.001 }; // -60 dB
    }
    assert_eq!(recording.turns(), []);
    assert!((measure::level_db(&recording.user) + 60.0).abs() < 0.01);
    assert_eq!(measure::spans(&recording.user, RATE, -70.0, 0.1).as_slice(), std::slice::from_ref(&(0..at(1.0))));
}

#[test]
fn a_hole_torn_into_a_clause_is_found_where_it_is() {
    let mut recording = conversation();
    recording.answer[at(1.6)..at(1.610)].fill(0.0); // 10 ms
    recording.answer[at(1.7)..at(1.704)].fill(0.0); // 4 ms: too short to count
    let holes = recording.turns().remove(0).holes;
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert_eq!(holes[0].at, at(1.6)..at(1.610));
    assert!((holes[0].ms - 10.0).abs() < 1e-9);
    // A tone of amplitude 0.5 has an effective value of 0.5/sqrt(2): -9.03 dB.
    assert!((holes[0].before_db + 9.03).abs() < 0.2 && (holes[0].after_db + 9.03).abs() < 0.2, "{holes:?}");
    assert!(holes[0].inside_clause());
}

#[test]
fn a_hole_between_two_clauses_is_a_pause() {
    let mut recording = conversation();
    // The sound dies away over 60 ms, is silent for 100 ms and starts again.
    for i in 0..at(0.06) {
        recording.answer[at(1.5) + i] *= (-8.0 * i as f32 / at(0.06) as f32).exp();
    }
    recording.answer[at(1.56)..at(1.66)].fill(0.0);
    let holes = recording.turns().remove(0).holes;
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert!(!holes[0].inside_clause(), "{holes:?}");
}

#[test]
fn the_largest_jump_is_the_click() {
    let mut signal = vec![0.0; at(1.0)];
    tone(&mut signal, 0.0, 1.0);
    // The steepest step of a sampled sine: 2 A sin(pi f / rate).
    let steepest = (2.0 * 0.5 * (TAU / 2.0 * 440.0 / f64::from(RATE)).sin()) as f32;
    assert!((measure::largest_jump(&signal).1 - steepest).abs() < 1e-4);
    signal[at(0.25)] += 0.4;
    let (index, jump) = measure::largest_jump(&signal);
    assert!(index == at(0.25) || index == at(0.25) + 1, "{index}");
    assert!((jump - 0.4).abs() <= steepest + 1e-4, "{jump}");
}

#[test]
fn what_is_said_and_what_is_played_are_heard_whole_and_apart() -> Result<()> {
    let lab = Lab::start()?;
    let recorder = lab.recorder()?;
    lab.say(&question())?;
    std::thread::sleep(Duration::from_millis(1200));
    lab.play(&question(), "speaker")?;
    std::thread::sleep(Duration::from_millis(300));
    let recording = recorder.stop();

    let turns = recording.turns();
    assert_eq!(turns.len(), 1, "{turns:?}");
    let answer = turns[0].answer.clone().expect("an answer");
    assert!(turns[0].gap_ms.is_some_and(|gap| gap > 1000.0), "{turns:?}");
    // The same sound on both sides, sample for sample as loud and as long; nothing crosses over.
    let long = |span: &std::ops::Range<usize>| recording.seconds(span.len());
    assert!((long(&turns[0].user) - long(&answer)).abs() < 0.005, "{turns:?}");
    let spoken = measure::level_db(&recording.user[turns[0].user.clone()]);
    let played = measure::level_db(&recording.answer[answer.clone()]);
    assert!((spoken - played).abs() < 0.1, "{spoken} {played}");
    assert!(measure::spans(&recording.user[answer.clone()], RATE, FLOOR_DB, 0.1).is_empty());
    assert!(measure::spans(&recording.answer[turns[0].user.clone()], RATE, FLOOR_DB, 0.1).is_empty());
    // As long as the file says it is: 2.275 s, less the silence at its ends.
    let file = hound::WavReader::open(question())?;
    let rate = file.spec().sample_rate;
    let samples: Vec<f32> =
        file.into_samples::<i16>().map(|s| s.map(|s| f32::from(s) / 32768.0)).collect::<Result<_, _>>()?;
    let spans = measure::spans(&samples, rate, FLOOR_DB, 1.0);
    let seconds = spans[0].len() as f64 / f64::from(rate);
    assert!((long(&answer) - seconds).abs() < 0.005, "{} {seconds}", long(&answer));
    Ok(())
}

#[test]
fn a_recording_is_as_long_as_asked_for() -> Result<()> {
    let recording = Lab::start()?.record(0.5)?;
    assert_eq!((recording.user.len(), recording.answer.len()), (at(0.5), at(0.5)));
    Ok(())
}

#[test]
fn what_is_unplugged_is_gone_until_it_is_plugged_in() -> Result<()> {
    let mut lab = Lab::start()?;
    for (plug, list, name) in [(Plug::Microphone, "sources", "mic"), (Plug::Loudspeaker, "sinks", "speaker")] {
        let there = |lab: &Lab| -> Result<bool> {
            Ok(lab.pactl(["list", "short", list])?.lines().any(|line| line.split('\t').nth(1) == Some(name)))
        };
        assert!(there(&lab)?, "{name}");
        lab.unplug(plug)?;
        assert!(!there(&lab)?, "{name}");
        assert!(lab.unplug(plug).is_err());
        lab.plug(plug)?;
        assert!(there(&lab)?, "{name}");
        assert!(lab.plug(plug).is_err());
    }
    assert_eq!(lab.pactl(["get-default-source"])?.trim(), "mic");
    assert_eq!(lab.pactl(["get-default-sink"])?.trim(), "speaker");
    Ok(())
}

/// Whether the card's daemon answers.
fn answers(lab: &Lab) -> Result<bool> {
    let asked = Command::new("timeout").args(["1", "pactl", "info"]).envs(lab.env()).output()?;
    Ok(asked.status.success())
}

#[test]
fn a_frozen_card_answers_nobody_until_it_thaws() -> Result<()> {
    let lab = Lab::start()?;
    lab.freeze()?;
    assert!(!answers(&lab)?);
    lab.thaw()?;
    assert!(answers(&lab)?);
    Ok(())
}

#[test]
fn no_daemon_stays_behind() -> Result<()> {
    // dropped while frozen
    let lab = Lab::start()?;
    let id = lab.daemon_id();
    lab.freeze()?;
    assert!(is_running(id));
    drop(lab);
    assert!(!is_running(id));

    // killed, then dropped
    let mut lab = Lab::start()?;
    let id = lab.daemon_id();
    lab.kill()?;
    assert!(!is_running(id) && !answers(&lab)?);
    drop(lab);

    // dropped while a panic unwinds
    let (tell, told) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || -> Result<()> {
        let lab = Lab::start()?;
        let display = Display::start()?;
        let _recorder = lab.recorder()?;
        tell.send((lab.daemon_id(), display.server_id()))?;
        panic!("a failed test");
    });
    let (daemon, server) = told.recv()?;
    assert!(test.join().is_err());
    assert!(!is_running(daemon) && !is_running(server));
    Ok(())
}

#[test]
fn descendants_are_counted_down_to_the_grandchild() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let shell = Running::start(Command::new("sh").args(["-c", "sh -c 'sleep 30; :' ; :"]), &dir.path().join("log"))?;
    let mut found = Vec::new();
    for _ in 0..200 {
        found = descendants(shell.id());
        if found.len() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(found.len(), 2, "the inner shell and its sleep");
    for id in found {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(id.cast_signed()).expect("a process id"),
            rustix::process::Signal::KILL,
        )?;
    }
    Ok(())
}

#[test]
fn a_window_is_seen_and_takes_keys_and_clicks() -> Result<()> {
    let display = Display::start()?;
    assert_eq!(display.colours()?, 1, "an empty display is of one colour");

    // ImageMagick's viewer ends on the key q and opens a menu on a click.
    let dir = tempfile::tempdir()?;
    let mut viewer = Running::start(
        Command::new("display")
            .args(["-title", "gradient", "-geometry", "+50+50", "-size", "400x300", "gradient:red-blue"])
            .envs(display.env()),
        &dir.path().join("log"),
    )?;
    let window = display.window("gradient", Duration::from_secs(20))?;
    let mut colours = 0;
    for _ in 0..100 {
        colours = display.colours()?;
        if colours > 100 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(colours > 100, "{colours} colours");

    let before = dir.path().join("before.png");
    display.screenshot(&before)?;
    assert!(std::fs::read(&before)?.starts_with(b"\x89PNG\r\n\x1a\n"));
    display.click(100, 100)?;
    let menu = display.window("Commands", Duration::from_secs(20))?;
    assert_ne!(menu, window);

    display.key(&window, "q")?;
    viewer.wait(Duration::from_secs(20))?;
    Ok(())
}
