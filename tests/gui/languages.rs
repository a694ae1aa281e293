//! The window in Chinese: nothing is left in English, and every character has a glyph (the harness panics on one that has
//! none).

use crate::first_run::{devices, omni, outlook};
use crate::window::{Window, answer, english, model};
use antiphon::app::words::{Language, look_up};
use antiphon::app::{HISTORY, panels};
use antiphon::metrics::{Bar, Stage, StageMark, TurnReport};
use antiphon::session::command::Command;
use antiphon::session::event::{Event, ModelState, ModelStatus, PullProgress, PullState, Severity, TurnState};
use antiphon::session::voices::{Aspect, Finding, Grade, Span, VoiceDraft, VoiceEntry, VoiceEvent};
use antiphon::settings::{Interface, Settings};
use antiphon::time::Micros;
use egui_kittest::kittest::NodeT;

/// What is the same in both languages: names, units, and the languages' own names.
const NAMES: &[&str] = &[
    "Antiphon",
    "MiniCPM",
    "o",
    "RTX",
    "GB",
    "MB",
    "kB",
    "B",
    "JSON",
    "Markdown",
    "wav",
    "RTF",
    "p50",
    "p95",
    "ms",
    "s",
    "English",
    "GGUF",
    "MIT",
    "cascade",
    "omni",
    "bf16",
    "q8_0",
    "q4_k",
    "README",
    "zh",
    "md",
    "Esc",
    "Ctrl",
    "Alt",
    "Shift",
    "Space",
    "F9",
    "Wayland",
    "kHz",
    "ANTIPHON_HOME",
];

fn chinese(key: &str) -> &'static str {
    look_up(Language::Chinese, key).unwrap()
}

fn window() -> Window {
    Window::with(Settings { interface: Interface::Chinese, hands_free: false, ..Settings::default() }, [1100.0, 2600.0])
}

/// Words in Latin letters that are no names, in everything a screen reader would say.
fn untranslated(window: &Window) -> Vec<String> {
    let mut found = Vec::new();
    for node in window.harness.root().children_recursive() {
        let node = node.accesskit_node();
        let texts = [node.label(), node.value(), node.placeholder().map(str::to_owned)];
        for text in texts.into_iter().flatten() {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            let is_name = |word: &str| NAMES.contains(&word) || word.chars().all(|c| !c.is_ascii_alphabetic());
            if words.clone().any(|word| !is_name(word)) {
                found.push(text.clone());
            }
        }
    }
    found
}

#[track_caller]
fn all_chinese(window: &Window, place: &str) {
    let found = untranslated(window);
    assert!(found.is_empty(), "{place}: {found:?}");
}

fn entry(id: &str, state: ModelState) -> ModelStatus {
    ModelStatus { title: "模型".into(), purpose: "听".into(), ..model(id, state) }
}

#[test]
fn the_window_follows_the_choice_at_once() {
    let mut window = Window::open();
    window.press("card-settings");
    window.press("中文");
    window.harness.run();
    assert!(window.has(chinese("card-settings")) && !window.has("Settings"));
    assert_eq!(window.kept.lock().unwrap().last().unwrap().interface, Interface::Chinese);
    window.press("English");
    window.harness.run();
    assert!(window.has("Settings"));
}

#[test]
fn the_first_steps_are_in_chinese() {
    for gpu in [None, Some((6, true)), Some((24, true)), Some((24, false))] {
        let mut window = window();
        let large =
            ModelStatus {
                title: "模型".into(), purpose: "听".into(), licence: "MIT".into(), ..omni(Some("条款"))
            };
        window.tell([Event::Models(vec![entry("a", ModelState::Absent), large])]);
        all_chinese(&window, "before anything is known");
        window.tell([outlook(gpu)]);
        all_chinese(&window, "first steps");
        if gpu == Some((24, true)) {
            window.press(chinese(panels::first_run::GET_OMNI));
            all_chinese(&window, "a licence");
        }
        for state in
            [PullState::Fetching, PullState::Checking, PullState::Paused, PullState::Cancelled, PullState::Done]
        {
            let progress =
                PullProgress { id: "a".into(), state, done: 25_000_000, total: 900_000_000, bytes_per_second: 5e5 };
            window.tell([Event::Pull(progress)]);
            all_chinese(&window, "a pull");
        }
    }
}

#[test]
fn every_panel_is_in_chinese() {
    let mut window = window();
    let device = devices();
    let Event::Devices { mut input, mut output } = device else { panic!() };
    for list in [&mut input, &mut output] {
        list.open = Some("设备".into());
        list.available[0].name = "设备".into();
        (list.rate, list.buffer_ms, list.telephone) = (Some(48_000), Some(10), true);
    }
    let states = vec![
        entry("a", ModelState::Ready),
        entry("b", ModelState::Partial { have: 5 }),
        ModelStatus { needed: false, ..entry("c", ModelState::Absent) },
        entry("d", ModelState::Broken { why: "坏了".into() }),
    ];
    window.tell([
        Event::EngineReady { name: "cascade".into(), description: "三个模型".into() },
        Event::State(TurnState::Listening),
        Event::Models(states),
        Event::Devices { input, output },
        Event::DataFolder { path: "/家".into() },
        Event::Voice(VoiceEvent::Engine { clones: false }),
        Event::Voice(VoiceEvent::Listed {
            voices: vec![VoiceEntry {
                id: "1".into(), name: "安".into(), details: "9.8 秒".into(), grade: Grade::Ok
            }],
            broken: Vec::new(),
        }),
    ]);
    for card in ["card-models", "card-voices", "card-sound", "card-settings"] {
        let unfolded = if card == "card-models" { window.has(chinese(panels::models::GET_ALL)) } else { false };
        if !unfolded {
            window.press(chinese(card));
        }
        all_chinese(&window, card);
    }
    window.tell([Event::EngineReady { name: "omni".into(), description: "一个模型".into() }]);
    window.press(chinese(panels::engine::OMNI));
    assert!(window.has(chinese("precision")));
    all_chinese(&window, "the omni engine's settings");
    let finding = Finding {
        aspect: Aspect::Level,
        grade: Grade::Usable,
        value: 0.0,
        what: "音量".into(),
        advice: "请靠近".into(),
    };
    window.tell([Event::Voice(VoiceEvent::Checked(Box::new(VoiceDraft {
        number: 1,
        file: "录音".into(),
        suggested_name: "安".into(),
        seconds: 20.0,
        peaks: vec![[-0.5, 0.4]; 10],
        span: Span::new(2.0, 12.0),
        grade: Grade::Usable,
        findings: vec![finding],
    })))]);
    all_chinese(&window, "a recording");
    for state in [
        TurnState::Loading,
        TurnState::Capturing,
        TurnState::MaybeDone,
        TurnState::Thinking,
        TurnState::Speaking,
        TurnState::Ducked,
        TurnState::Degraded { why: vec!["麦克风断开".into()] },
        TurnState::Faulted { why: "内存不足".into(), remedy: "请关闭程序".into() },
        TurnState::Idle,
        TurnState::Listening,
    ] {
        window.tell([Event::State(state.clone())]);
        all_chinese(&window, &format!("{state:?}"));
    }
    window.tell(answer(1, "你好", &["您好。"]));
    let report = TurnReport {
        turn: 1,
        heard: "你好".into(),
        answer: "您好。再见。".into(),
        spoken_bytes: 9,
        cut_off: true,
        ttfa_ms: Some(612.0),
        ttfa_compute_ms: Some(400.0),
        ..TurnReport::default()
    };
    let bars = Stage::ALL.map(|stage| Bar { stage, start_ms: 0.0, end_ms: 10.0 }).to_vec();
    let marks = Stage::ALL
        .map(|stage| Event::Mark(StageMark { epoch: 1, stage, start: Micros(0), end: Micros(20_000), units: 1 }));
    window.tell(marks);
    window.tell([
        Event::TurnEnded { report: Box::new(report), bars },
        Event::Problem { what: "提示".into(), remedy: "办法".into(), severity: Severity::Warning },
        Event::GpuMemory { bytes: 8_120_000_000 },
        Event::Counters { xruns: 1, starvation: 1, lost_capture: 9, queued_ms: 5.0 },
    ]);
    all_chinese(&window, "a turn and its times");
    window.press(chinese(HISTORY));
    all_chinese(&window, "past conversations");
    window.press(chinese(panels::talk_bar::MUTE));
    all_chinese(&window, "muted");
    assert!(window.commands().contains(&Command::SetMuted(true)));
    window.events = None;
    window.harness.run();
    all_chinese(&window, "the session is gone");
}

#[test]
fn names_are_found_by_their_key_in_the_tests() {
    assert_eq!(english("talk-talk"), "Talk");
    assert_eq!(english("Model a"), "Model a");
}
