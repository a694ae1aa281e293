//! Speaking, typing, stopping, the words of both and the meters.

use crate::window::{Window, answer, english};
use antiphon::app::NEW_CONVERSATION;
use antiphon::app::panels::{conversation, talk_bar};
use antiphon::metrics::{Bar, Stage, StageMark, TurnReport};
use antiphon::session::command::{Command, Eagerness};
use antiphon::session::event::{Event, TurnState};
use antiphon::settings::{Settings, Theme};
use antiphon::time::Micros;
use eframe::egui::Key;
use egui_kittest::kittest::{NodeT, Queryable};

#[test]
fn every_state_shows_its_words() {
    let states = [
        (TurnState::Idle, "Not loaded"),
        (TurnState::Loading, "Loading"),
        (TurnState::Listening, "Ready"),
        (TurnState::Capturing, "Hearing you"),
        (TurnState::MaybeDone, "Go on, or wait"),
        (TurnState::Thinking, "Thinking"),
        (TurnState::Speaking, "Speaking"),
        (TurnState::Ducked, "Speaking softly"),
        (TurnState::Degraded { why: vec!["The microphone is gone".into()] }, "Sound device lost"),
        (TurnState::Faulted { why: "Out of memory".into(), remedy: "Close programs".into() }, "Stopped by a fault"),
    ];
    let mut window = Window::open();
    for (state, words) in states {
        window.tell([Event::State(state.clone())]);
        assert!(window.has(words), "{state:?} does not show {words:?}");
        let stop = window.harness.get_by_label(english(talk_bar::STOP));
        let can_stop = matches!(state, TurnState::Thinking | TurnState::Speaking | TurnState::Ducked);
        assert_eq!(stop.accesskit_node().is_disabled(), !can_stop, "{state:?}");
    }
    let mut window = Window::with(Settings { hands_free: true, ..Settings::default() }, [1100.0, 760.0]);
    window.tell([Event::State(TurnState::Listening)]);
    assert!(window.has("Listening"));
}

#[test]
fn the_talk_button_talks_until_it_is_pressed_again() {
    let mut window = Window::listening();
    window.press(talk_bar::TALK);
    assert_eq!(window.commands(), [Command::Talk]);
    window.tell([Event::State(TurnState::Capturing)]);
    window.press(talk_bar::TALK);
    assert_eq!(window.commands(), [Command::TalkEnd]);
}

#[test]
fn the_space_bar_talks_but_not_while_typing() {
    let mut window = Window::listening();
    window.harness.key_down(Key::Space);
    window.harness.run();
    assert_eq!(window.commands(), [Command::Talk]);
    std::thread::sleep(std::time::Duration::from_millis(350));
    window.harness.key_up(Key::Space);
    window.harness.run();
    assert_eq!(window.commands(), [Command::TalkEnd]);

    window.harness.get_by_label(english(talk_bar::TEXT_FIELD)).focus();
    window.harness.run();
    window.harness.key_press(Key::Space);
    window.harness.run();
    assert_eq!(window.commands(), []);
}

#[test]
fn nobody_can_talk_to_an_engine_that_is_not_there() {
    let mut window = Window::open();
    window.press(talk_bar::TALK);
    assert_eq!(window.commands(), []);
}

#[test]
fn typed_text_is_sent_by_button_and_by_return() {
    let mut window = Window::listening();
    window.harness.get_by_label(english(talk_bar::TEXT_FIELD)).focus();
    window.harness.run();
    window.harness.get_by_label(english(talk_bar::TEXT_FIELD)).type_text("  What time is it? ");
    window.harness.run();
    window.press(talk_bar::SEND);
    assert_eq!(window.commands(), [Command::SendText("What time is it?".into())]);
    // The field is empty again and still has the keyboard.
    window.harness.get_by_label(english(talk_bar::TEXT_FIELD)).type_text("你好");
    window.harness.run();
    window.harness.key_press(Key::Enter);
    window.harness.run();
    assert_eq!(window.commands(), [Command::SendText("你好".into())]);
    window.press(talk_bar::SEND);
    assert_eq!(window.commands(), [], "nothing is sent when nothing is typed");
}

#[test]
fn an_answer_is_stopped_by_button_and_by_escape() {
    let mut window = Window::open();
    window.tell([Event::State(TurnState::Speaking)]);
    window.press(talk_bar::STOP);
    window.harness.key_press(Key::Escape);
    window.harness.run();
    assert_eq!(window.commands(), [Command::Interrupt, Command::Interrupt]);
}

#[test]
fn switches_send_their_command_and_are_kept() {
    let mut window = Window::listening();
    window.press(talk_bar::HANDS_FREE);
    window.press(talk_bar::MUTE);
    window.press(talk_bar::UNMUTE);
    assert_eq!(window.commands(), [Command::SetHandsFree(true), Command::SetMuted(true), Command::SetMuted(false)]);
    assert!(window.kept.lock().unwrap().last().unwrap().hands_free);
    window.press("Settings");
    window.press("Patient");
    window.press("Dark");
    assert_eq!(window.commands(), [Command::SetEagerness(Eagerness::Patient)]);
    let kept = window.kept.lock().unwrap();
    assert_eq!((kept.last().unwrap().eagerness, kept.last().unwrap().theme), (Eagerness::Patient, Theme::Dark));
    assert_eq!(kept.len(), 3, "kept only when something changed");
}

#[test]
fn words_are_shown_as_they_come_and_a_cut_is_told() {
    let mut window = Window::open();
    window.tell([Event::State(TurnState::Thinking)]);
    window.tell(answer(1, "What is it?", &[]));
    assert!(window.has("What is it?") && window.has("An answer is on its way"));
    window.tell(answer(1, "What is it?", &["It is ", "a tree."]));
    assert!(window.has("It is a tree.") && !window.has("An answer is on its way"));
    assert!(!window.has(conversation::NOT_HEARD));
    let report = TurnReport {
        turn: 1,
        heard: "What is it?".into(),
        answer: "It is a tree.".into(),
        spoken_bytes: 6,
        cut_off: true,
        ttfa_ms: Some(612.0),
        ttfa_compute_ms: Some(400.0),
        rtf: Some(0.25),
        ..TurnReport::default()
    };
    let bars = vec![Bar { stage: Stage::Stt, start_ms: -20.0, end_ms: 100.0 }];
    window.tell([Event::TurnEnded { report: Box::new(report), bars }]);
    assert!(window.has(conversation::NOT_HEARD) && window.has("answered in 0.61 s"));
    assert_eq!(window.harness.get_all_by_label("612").count(), 4, "the large figure, last, p50 and p95");
    assert!(window.has("400 ms of it computing") && window.has("0.25"));
    assert!(window.has("Waterfall of the last turn"));
    window.press(NEW_CONVERSATION);
    assert_eq!(window.commands(), [Command::NewConversation]);
    window.tell([Event::ConversationCleared]);
    assert!(!window.has("It is a tree."));
}

#[test]
fn the_meters_show_each_stage_and_the_counters() {
    let mut window = Window::open();
    let mark =
        |ms: u64| StageMark { epoch: 1, stage: Stage::LlmDecode, start: Micros(0), end: Micros(ms * 1000), units: 1 };
    window.tell([
        Event::Mark(mark(21)),
        Event::Mark(mark(43)),
        Event::Counters { xruns: 7, starvation: 0, lost_capture: 480, queued_ms: 123.4 },
    ]);
    assert!(!window.has_part("graphics card"), "what is not known is not shown");
    window.tell([Event::GpuMemory { bytes: 8_120_000_000 }]);
    assert!(window.has("8.1 GB of the graphics card's memory"));
    assert!(window.has("llm decode") && window.has("43") && window.has("32"));
    assert!(window.has("7") && window.has("123 ms") && window.has_part("480 samples of the microphone were lost"));
    assert!(!window.has("stt"));
}
