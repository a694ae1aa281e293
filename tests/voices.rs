//! Reference voices from outside: the `voices` command with good and bad recordings, and the voices of a running session
//! on a virtual sound card.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::{VirtualCard, file};
use antiphon::engine::scripted::{Audio, Script, ScriptedEngine, Sound, Step, Turn};
use antiphon::engine::{Engine, EngineError, SessionSetup};
use antiphon::session::command::{Command, Eagerness};
use antiphon::session::event::{Event, EventSource};
use antiphon::session::voices::{Grade, Sample, Span, VoiceCommand, VoiceDraft, VoiceEvent};
use antiphon::session::{self, CardSource, Parts};
use antiphon::weights::Store;
use common::sound::{noise, speech};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Sentences with half a second between them, in a quiet room: about 10 s at 16 kHz.
fn talk() -> Vec<f32> {
    let mut all = vec![0.0; 8_000];
    for name in ["pause", "sky", "capital"] {
        let said = speech(name);
        let loud = |sample: &f32| sample.abs() > 0.01;
        let (from, to) = (said.iter().position(loud).unwrap(), said.iter().rposition(loud).unwrap());
        all.extend_from_slice(&said[from..=to]);
        all.extend([0.0; 8_000]);
    }
    let room = noise(all.len(), 0.0006, 3);
    all.iter().zip(room).map(|(a, b)| a + b).collect()
}

/// What came of a run.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A home and a folder for files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn wav(&self, name: &str, samples: &[f32]) -> PathBuf {
        let path = self.0.path().join(name);
        file::write_wav(&path, 16_000, &[samples]).unwrap();
        path
    }

    fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Ran {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_antiphon"));
        command.current_dir(self.0.path()).env("ANTIPHON_HOME", self.0.path().join("home")).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.0.path().join("config")).env_remove("RUST_LOG").args(words);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ran.err.contains("panicked"), "{ran:?}");
        ran
    }

    fn voices(&self, words: &str) -> Ran {
        self.run(std::iter::once("voices").chain(words.split(' ')))
    }

    #[track_caller]
    fn done(&self, words: &str) -> String {
        let ran = self.voices(words);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words}: {ran:?}");
        ran.out
    }

    #[track_caller]
    fn refused(&self, words: &str, says: &[&str]) -> Ran {
        let ran = self.voices(words);
        assert_eq!((ran.code, ran.err.trim_end().lines().count()), (Some(2), 1), "{words}: {ran:?}");
        for say in says {
            assert!(ran.err.contains(say), "{words}: '{say}' is not in {ran:?}");
        }
        ran
    }
}

#[test]
fn a_voice_is_checked_added_listed_heard_renamed_and_removed() {
    let place = Place::new();
    place.wav("talk.wav", &talk());
    assert!(place.done("list").contains("voices add FILE"));

    let check: Value = serde_json::from_str(&place.done("check talk.wav --json")).unwrap();
    assert_eq!((check["grade"].as_str(), check["file"].as_str()), (Some("ok"), Some("talk.wav")), "{check}");
    let at = |end: &str| check["span"][end].as_f64().unwrap();
    assert!((5.0..=15.0).contains(&(at("end_s") - at("start_s"))), "{check}");
    let noise = check["findings"].as_array().unwrap().iter().find(|f| f["aspect"] == "noise").unwrap();
    // The room is at 0.0006, -64 dBFS; the sentences are at -21.5 (P.56).
    assert!((noise["value"].as_f64().unwrap() - 42.5).abs() < 2.5, "{noise}");
    assert!(place.done("check talk.wav").contains("talk.wav: good"));

    let added = place.done("add talk.wav --name 小明 --from 0.5 --to 6.5");
    assert!(added.contains("小明: 0.5 to 6.5 s") && added.contains("its owner agreed"), "{added}");
    let list: Value = serde_json::from_str(&place.done("list --json")).unwrap();
    let voice = &list["voices"][0];
    assert_eq!((voice["name"].as_str(), voice["grade"].as_str()), (Some("小明"), Some("ok")), "{list}");
    assert!(place.done("list").contains("小明"));

    place.done("preview 小明 --out heard.wav");
    let heard = file::read(&place.0.path().join("heard.wav")).unwrap();
    assert_eq!((heard.rate, heard.samples.len()), (16_000, 96_000));
    let said = talk();
    let apart = heard.samples[100..95_900].iter().zip(&said[8_100..]).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) <= 1.0 / 32_768.0, "what is heard is what was said");

    place.refused("add talk.wav --name 小明", &["小明", "choose another name"]);
    place.refused("add talk.wav --name Other --from 0.5 --to 6.5", &["kept already", "小明"]);
    place.done("rename 小明 Ming");
    place.done("add talk.wav --name Other");
    place.refused("rename Other ming", &["Ming"]);
    place.done("remove ming");
    place.refused("remove ming", &["ming", "Other"]);
    place.refused("preview ming --out x.wav", &["ming"]);

    // A damaged entry is told, and is in nobody's way.
    let folder = place.0.path().join("home/voices/0123456789abcdef");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("voice.toml"), "name = 3").unwrap();
    let list = place.done("list");
    assert!(list.contains("Other") && list.contains("damaged") && list.contains("0123456789abcdef"), "{list}");
}

#[test]
fn a_recording_that_is_none_is_refused_with_its_name() {
    let place = Place::new();
    std::fs::write(place.0.path().join("empty.wav"), []).unwrap();
    std::fs::write(place.0.path().join("letter.wav"), "Dear Sir or Madam\n".repeat(99)).unwrap();
    place.wav("silent.wav", &[0.0; 80_000]);
    let files = [
        ("gone.wav", "check the name"),
        ("empty.wav", "empty"),
        ("letter.wav", "not a sound file"),
        ("silent.wav", "silent"),
    ];
    for (file, say) in files {
        for command in ["check", "add"] {
            let ran = place.refused(&format!("{command} {file}"), &[file, say]);
            assert_eq!(ran.out, "");
        }
    }
    assert!(!place.0.path().join("home/voices").exists(), "nothing was kept");
}

#[test]
fn a_recording_that_is_not_usable_is_refused_with_the_remedy() {
    let place = Place::new();
    place.wav("short.wav", &speech("stop"));
    place.wav("clipped.wav", &talk().iter().map(|s| (s * 12.0).clamp(-1.0, 1.0)).collect::<Vec<_>>());
    place.wav("tone.wav", &(0..96_000).map(|i| 0.3 * (i as f32 * 0.2).sin()).collect::<Vec<_>>());
    place.wav("noisy.wav", &talk().iter().zip(noise(200_000, 0.06, 9)).map(|(a, b)| a + b).collect::<Vec<_>>());
    let files = [
        ("short.wav", "5 to 15 seconds"),
        ("clipped.wav", "gain down"),
        ("tone.wav", "one person"),
        ("noisy.wav", "quieter room"),
    ];
    for (file, say) in files {
        // The check is printed all the same.
        let ran = place.refused(&format!("check {file}"), &[file, say]);
        assert!(ran.out.contains(&format!("{file}: not usable")), "{ran:?}");
        let ran = place.refused(&format!("check {file} --json"), &[file]);
        assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["grade"], "not_usable");
        assert_eq!(place.refused(&format!("add {file}"), &[file, say]).out, "");
    }
    place.wav("talk.wav", &talk());
    for part in ["--from 5 --to 5", "--from 90", "--from -2", "--to 99", "--from 6 --to 2"] {
        place.refused(&format!("check talk.wav {part}"), &["talk.wav", "the recording has"]);
    }
    place.refused("add talk.wav --name a/b", &["a/b", "path"]);
}

#[test]
fn the_voice_to_speak_in_is_a_name_or_a_file() {
    let place = Place::new();
    place.wav("talk.wav", &talk());
    place.done("add talk.wav --name Ann");
    let say = |voice: &str, engine: &str| {
        place.run(["say", "Hello.", "--engine", engine, "--voice", voice, "--out", "out.wav"])
    };
    // The scripted engine takes a voice; what it says does not depend on it.
    for voice in ["Ann", "ann", "talk.wav"] {
        assert_eq!(say(voice, "scripted").code, Some(0), "{voice}");
    }
    for (voice, word) in [("Bob", "there are: Ann"), ("gone.wav", "check the name")] {
        let ran = say(voice, "scripted");
        assert!(ran.code == Some(2) && ran.err.contains(voice) && ran.err.contains(word), "{ran:?}");
    }
    let ran = say("Ann", "cascade");
    assert!(ran.code == Some(2) && ran.err.contains("--engine omni"), "{ran:?}");
}

/// Waits for what the session tells about voices.
fn until<T>(events: &EventSource, what: &str, mut pick: impl FnMut(VoiceEvent) -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LIMIT, "waited too long for {what}");
        if let Ok(Event::Voice(event)) = events.next_within(Duration::from_millis(50))
            && let Some(found) = pick(event)
        {
            return found;
        }
    }
}

#[test]
fn a_session_checks_keeps_plays_and_forgets_voices() {
    let home = tempfile::tempdir().unwrap();
    let talk_file = home.path().join("Ann_1.wav");
    file::write_wav(&talk_file, 16_000, &[&talk()]).unwrap();
    let tone = Audio {
        sound: Sound::Tone { hz: 440.0 },
        seconds: 0.3,
        delay_ms: 0,
        overlap_ms: 0,
        text_end: None,
        fault: None,
    };
    let turn = Turn { heard: "What is it?".into(), delay_ms: 0, steps: vec![Step::Audio(tone)] };
    let script = Script { repeat: true, turns: vec![turn], ..Script::default() };
    let loader = move |_: &mut dyn FnMut(&str, f32)| -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(ScriptedEngine::new(script.clone())))
    };
    let (card, handle) = VirtualCard::start(48_000).unwrap();
    let parts = Parts {
        card: CardSource::Open(Box::new(card)),
        engine: Box::new(loader),
        setup: SessionSetup::default(),
        end_of_turn: Box::new(|| None),
        hands_free: true,
        eagerness: Eagerness::Eager,
        volume: 1.0,
        store: Store::open(Some(home.path().into())).unwrap(),
        greeting: None,
    };
    let (session, events) = session::start(parts).unwrap();
    let commands = session.commands();
    let ask = |command| commands.send(Command::Voice(command));
    until(&events, "the engine", |e| (e == VoiceEvent::Engine { clones: true }).then_some(()));

    ask(VoiceCommand::Check { file: Path::new("gone.wav").into() });
    let why = until(&events, "a refusal", |e| if let VoiceEvent::Refused { why } = e { Some(why) } else { None });
    assert!(why.to_string().contains("gone.wav"), "{why}");
    let checked = |e| if let VoiceEvent::Checked(draft) = e { Some(*draft) } else { None };
    ask(VoiceCommand::Check { file: talk_file });
    let draft: VoiceDraft = until(&events, "the check", checked);
    assert_eq!((draft.file.as_str(), draft.suggested_name.as_str(), draft.grade), ("Ann_1.wav", "Ann 1", Grade::Ok));
    assert!(draft.span.seconds() >= 5.0 && draft.peaks.iter().any(|[low, high]| *low < -0.3 && *high > 0.3));
    ask(VoiceCommand::CheckSpan(Span::new(1.0, 3.0)));
    let shorter = until(&events, "another check", checked);
    assert_eq!((shorter.number, shorter.span, shorter.grade), (draft.number, Span::new(1.0, 3.0), Grade::NotUsable));

    // What is previewed is heard, is no turn, and nobody takes it for speech.
    let previewing = |on: bool| move |e| (e == VoiceEvent::Previewing(on)).then_some(());
    ask(VoiceCommand::Preview(Sample::Draft(Span::new(0.5, 2.5))));
    until(&events, "the sample", previewing(true));
    until(&events, "its end", previewing(false));
    ask(VoiceCommand::Preview(Sample::Draft(Span::new(0.0, 12.0))));
    until(&events, "the sample", previewing(true));
    ask(VoiceCommand::StopPreview);
    until(&events, "its stop", previewing(false));

    ask(VoiceCommand::Keep { name: "Ann".into(), span: draft.span });
    let id = until(&events, "the voice", |e| if let VoiceEvent::Kept { id } = e { Some(id) } else { None });
    ask(VoiceCommand::Choose(Some(id.clone())));
    ask(VoiceCommand::Rename { id: id.clone(), name: "Anna".into() });
    let listed = |e| if let VoiceEvent::Listed { voices, .. } = e { Some(voices) } else { None };
    assert_eq!(until(&events, "the list", listed)[0].name, "Anna");
    // The assistant still answers.
    commands.send(Command::SendText("Hello".into()));
    let began = Instant::now();
    let ended = |e| matches!(e, Ok(Event::TurnEnded { report, .. }) if report.turn == 1 && !report.cut_off);
    while !ended(events.next_within(Duration::from_millis(50))) {
        assert!(began.elapsed() < LIMIT, "waited too long for the answer");
    }
    ask(VoiceCommand::Remove { id });
    assert!(until(&events, "the list", listed).is_empty());
    session.stop();
    // 2 s of the sample, and the loudest of it as it was recorded.
    let heard = handle.stop().assistant;
    let loud = heard.iter().filter(|s| s.abs() > 0.05).count();
    assert!(loud > 48_000 / 4, "{loud} loud samples");
}
