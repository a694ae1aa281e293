//! The window's contents, found and pressed by the names a screen reader says. Needs no display and no graphics.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use antiphon::app::panels::{
    banners, conversation, devices, exchange, history, models, settings as settings_panel, talk_bar, voices,
};
use antiphon::app::{AntiphonApp, HISTORY, NEW_CONVERSATION, SIDE_PANEL};
use antiphon::conversation::Side;
use antiphon::conversation::export::Form;
use antiphon::metrics::{Bar, Stage, StageMark, TurnReport};
use antiphon::session::EngineSelection;
use antiphon::session::command::{Command, Eagerness, Keep};
use antiphon::session::event::{
    self, ConversationEntry, DeviceEntry, DeviceList, Event, EventSink, KeptTurnView, ModelState, ModelStatus,
    PullProgress, PullState, Replay, Severity, TurnState,
};
use antiphon::session::voices::{
    Aspect, Finding, Grade, Sample, Span, VoiceCommand, VoiceDraft, VoiceEntry, VoiceEvent,
};
use antiphon::settings::{Settings, Theme};
use antiphon::time::Micros;
use eframe::egui::{Key, OutputCommand, Rect, Role, pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use jiff::Timestamp;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

struct Window {
    harness: Harness<'static, AntiphonApp>,
    events: Option<EventSink>,
    commands: Receiver<Command>,
    kept: Arc<Mutex<Vec<Settings>>>,
}

impl Window {
    fn open() -> Self {
        Window::with(Settings { hands_free: false, ..Settings::default() }, [1100.0, 1400.0])
    }

    fn with(settings: Settings, size: [f32; 2]) -> Self {
        let (sink, source) = event::channel();
        let (sender, commands) = mpsc::channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&kept);
        let save = Box::new(move |settings: &Settings| {
            keeper.lock().unwrap().push(settings.clone());
            Ok(())
        });
        let harness = Harness::builder()
            .with_size(size)
            .build_eframe(|cc| AntiphonApp::new(&cc.egui_ctx, sender, source, settings, save));
        Window { harness, events: Some(sink), commands, kept }
    }

    /// Sends events and draws until nothing moves.
    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.as_ref().unwrap().send(event);
        }
        self.harness.run();
    }

    fn listening() -> Self {
        let mut window = Window::open();
        window.tell([Event::State(TurnState::Listening)]);
        window
    }

    fn press(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.harness.run();
    }

    fn has(&self, label: &str) -> bool {
        self.harness.query_by_label(label).is_some()
    }

    fn has_part(&self, label: &str) -> bool {
        self.harness.query_all_by_label_contains(label).next().is_some()
    }

    fn commands(&self) -> Vec<Command> {
        self.commands.try_iter().collect()
    }
}

fn answer(turn: u64, heard: &str, pieces: &[&str]) -> Vec<Event> {
    let mut events = vec![Event::Heard { turn, text: heard.into(), is_final: true }];
    events.extend(pieces.iter().map(|piece| Event::Answer { turn, piece: (*piece).into() }));
    events
}

fn model(id: &str, state: ModelState) -> ModelStatus {
    ModelStatus {
        id: id.into(),
        title: format!("Model {id}"),
        purpose: "hears".into(),
        licence: "MIT".into(),
        bytes: 100_000_000,
        state,
        needed: true,
    }
}

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
        (TurnState::Degraded { why: "The microphone is gone".into() }, "Sound device lost"),
        (TurnState::Faulted { why: "Out of memory".into(), remedy: "Close programs".into() }, "Stopped by a fault"),
    ];
    let mut window = Window::open();
    for (state, words) in states {
        window.tell([Event::State(state.clone())]);
        assert!(window.has(words), "{state:?} does not show {words:?}");
        let stop = window.harness.get_by_label(talk_bar::STOP);
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

    window.harness.get_by_label(talk_bar::TEXT_FIELD).focus();
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
    window.harness.get_by_label(talk_bar::TEXT_FIELD).focus();
    window.harness.run();
    window.harness.get_by_label(talk_bar::TEXT_FIELD).type_text("  What time is it? ");
    window.harness.run();
    window.press(talk_bar::SEND);
    assert_eq!(window.commands(), [Command::SendText("What time is it?".into())]);
    // The field is empty again and still has the keyboard.
    window.harness.get_by_label(talk_bar::TEXT_FIELD).type_text("你好");
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
    assert!(window.has("llm decode") && window.has("43") && window.has("32"));
    assert!(window.has("7") && window.has("123 ms") && window.has_part("480 samples of the microphone were lost"));
    assert!(!window.has("stt"));
}

#[test]
fn missing_models_are_fetched_with_one_press() {
    let mut window = Window::open();
    window.tell([Event::Models(vec![model("a", ModelState::Ready), model("b", ModelState::Absent)])]);
    window.press(conversation::GET_MODELS);
    assert_eq!(window.commands(), [Command::PullModels(vec!["b".into()])]);
    let pull = |state| {
        Event::Pull(PullProgress { id: "b".into(), state, done: 25_000_000, total: 100_000_000, bytes_per_second: 5e6 })
    };
    window.tell([pull(PullState::Fetching)]);
    assert!(window.has_part("25.0 MB of 100 MB · 5.0 MB/s · 15 s left") && !window.has(conversation::GET_MODELS));
    assert!(window.has("Fetching Model b"));
    let bars =
        window.harness.get_all_by_role(Role::ProgressIndicator).filter_map(|bar| bar.accesskit_node().numeric_value());
    assert_eq!(bars.collect::<Vec<_>>(), [25.0, 25.0], "in the middle and in the panel");
    window.harness.get_all_by_label(models::CANCEL).next().unwrap().click();
    window.harness.run();
    assert_eq!(window.commands(), [Command::CancelPull { model: "b".into() }]);
    window.tell([pull(PullState::Failed { why: "no space".into(), remedy: "Free 80 MB.".into() })]);
    assert!(window.has("Model b: no space") && window.has("Free 80 MB."));
    window.press("Get Model b");
    assert_eq!(window.commands(), [Command::PullModels(vec!["b".into()])]);
}

#[test]
fn loading_shows_how_far_it_is() {
    let mut window = Window::open();
    window.tell([
        Event::State(TurnState::Loading),
        Event::EngineLoading { what: "language model".into(), fraction: Some(0.4) },
    ]);
    let bar =
        window.harness.get_all_by_label("Loading: language model").find_map(|n| n.accesskit_node().numeric_value());
    assert!((bar.unwrap() - 40.0).abs() < 1e-4);
    window.tell([Event::EngineReady { name: "cascade".into(), description: "three models".into() }]);
    assert!(window.has_part("three models") && !window.has("Loading: language model"));
}

#[test]
fn trouble_is_told_with_its_remedy() {
    let mut window = Window::open();
    window.tell([Event::State(TurnState::Faulted { why: "Out of memory".into(), remedy: "Close programs".into() })]);
    assert!(window.has("Out of memory") && window.has("Close programs"));
    window.press(banners::RETRY);
    assert_eq!(window.commands(), [Command::RetryAfterFault]);
    window.tell([
        Event::State(TurnState::Degraded { why: "The microphone is gone".into() }),
        Event::Problem { what: "It is loud".into(), remedy: "Whisper".into(), severity: Severity::Warning },
    ]);
    assert!(window.has("The microphone is gone") && window.has("It is loud") && window.has("Whisper"));
    window.press("Dismiss");
    assert!(!window.has("It is loud"));
    window.events = None;
    window.harness.run();
    assert!(window.has("Stopped"), "a session that is gone is told");
}

#[test]
fn devices_are_chosen_by_name() {
    let mut window = Window::open();
    let list = |chosen: Option<&str>, open: Option<&str>| DeviceList {
        available: vec![DeviceEntry { id: "usb:1".into(), name: "Headset".into() }],
        chosen: chosen.map(Into::into),
        open: open.map(Into::into),
    };
    window.tell([Event::Devices { input: list(None, Some("Built-in")), output: list(Some("gone"), None) }]);
    window.press("Sound");
    assert!(window.has("now: Built-in") && window.has("none is open"));
    let shown = |window: &Window, label| window.harness.get_by_role_and_label(Role::ComboBox, label).value();
    assert_eq!(shown(&window, devices::LOUDSPEAKER).as_deref(), Some("Not connected"));
    window.harness.get_by_role_and_label(Role::ComboBox, devices::MICROPHONE).click();
    window.harness.run();
    window.press("Headset");
    assert_eq!(window.commands(), [Command::SelectInput(Some("usb:1".into()))]);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().input_device.as_deref(), Some("usb:1"));
}

fn draft(number: u64, grade: Grade) -> Event {
    let finding = Finding {
        aspect: Aspect::Level,
        grade,
        value: -60.0,
        what: "level -60 dBFS".into(),
        advice: "too quiet: speak closer to the microphone".into(),
    };
    Event::Voice(VoiceEvent::Checked(Box::new(VoiceDraft {
        number,
        file: "aunt.wav".into(),
        suggested_name: "aunt".into(),
        seconds: 20.0,
        peaks: vec![[-0.5, 0.4]; 100],
        span: Span::new(2.0, 12.0),
        grade,
        findings: vec![finding],
    })))
}

#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl eframe::egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|e| e.to_string())
    }
}

#[test]
fn a_voice_is_added_by_dialog_or_drop_checked_and_kept() {
    let mut window = Window::open();
    window.press("Voices");
    window.press(voices::ADD);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Ask)]);
    window.press("Voices");
    assert!(!window.has(voices::ADD));
    window.harness.input_mut().dropped_files.push(Arc::new(Dropped("/tmp/aunt.wav".into())));
    window.harness.run();
    let check = VoiceCommand::Check { file: "/tmp/aunt.wav".into() };
    assert_eq!(window.commands(), [Command::Voice(check)]);

    // The panel unfolds by itself.
    window.tell([Event::Voice(VoiceEvent::Checking { file: "aunt.wav".into() })]);
    assert!(window.has_part("Reading aunt.wav"));
    window.tell([draft(1, Grade::NotUsable)]);
    assert!(window.has("Waveform of aunt.wav") && window.has("2.0 to 12.0 s of 20.0 s: not usable"));
    assert!(window.has_part("speak closer to the microphone"));
    window.press(voices::AGREED);
    assert!(window.harness.get_by_label(voices::KEEP).accesskit_node().is_disabled(), "not usable");

    window.tell([draft(2, Grade::Ok)]);
    assert!(!window.has_part("speak closer"));
    let keep = |window: &Window| !window.harness.get_by_label(voices::KEEP).accesskit_node().is_disabled();
    assert!(!keep(&window), "a new recording needs consent of its own");
    window.press(voices::AGREED);
    assert!(keep(&window));
    window.press(voices::LISTEN);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Preview(Sample::Draft(Span::new(2.0, 12.0))))]);
    window.tell([Event::Voice(VoiceEvent::Previewing(true))]);
    window.press(voices::STOP);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::StopPreview)]);
    window.tell([Event::Voice(VoiceEvent::Previewing(false))]);

    // Edges move with the keyboard, and with the pointer.
    window.harness.get_by_label(voices::END).focus();
    window.harness.run();
    window.harness.key_press(Key::ArrowDown);
    window.harness.run();
    let moved = |span| [Command::Voice(VoiceCommand::CheckSpan(span))];
    assert_eq!(window.commands(), moved(Span::new(2.0, 11.9)));
    let edge = window.harness.get_by_label(voices::BEGINNING).rect().center();
    let wave = window.harness.get_by_label("Waveform of aunt.wav").rect();
    let target = pos2(wave.left() + wave.width() * 0.25, edge.y);
    window.harness.drag_at(edge);
    window.harness.run();
    window.harness.hover_at(target);
    window.harness.run();
    window.harness.drop_at(target);
    window.harness.run();
    let dragged = window.commands();
    let [Command::Voice(VoiceCommand::CheckSpan(span))] = dragged.as_slice() else { panic!("{dragged:?}") };
    assert!((span.start_s - 5.0).abs() < 0.3 && span.end_s == 11.9, "{span:?}");
    let span = *span;
    window.press(voices::KEEP);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Keep { name: "aunt".into(), span })]);
    window.tell([Event::Voice(VoiceEvent::Refused { why: "there is a voice called aunt already".into() })]);
    assert!(window.has_part("already") && window.has(voices::KEEP));
    window.press(voices::PUT_ASIDE);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::PutAside)]);
    window.tell([Event::Voice(VoiceEvent::PutAside)]);
    assert!(window.has(voices::ADD) && !window.has(voices::KEEP));
}

#[test]
fn kept_voices_are_chosen_heard_renamed_and_deleted() {
    let mut window = Window::open();
    window.press("Voices");
    let ann =
        VoiceEntry { id: "a1".into(), name: "Ann".into(), details: "9.8 s from ann.wav".into(), grade: Grade::Ok };
    window.tell([
        Event::Voice(VoiceEvent::Engine { clones: false }),
        Event::Voice(VoiceEvent::Listed { voices: vec![ann], broken: vec!["b2: voice.toml is damaged".into()] }),
    ]);
    assert!(
        window.has(voices::NO_CLONING) && window.has(voices::WHO_CLONES) && window.has("b2: voice.toml is damaged")
    );
    window.tell([Event::Voice(VoiceEvent::Engine { clones: true })]);
    assert!(!window.has(voices::NO_CLONING) && window.has("9.8 s from ann.wav"));
    let voice = |command| [Command::Voice(command)];
    window.press("Ann");
    assert_eq!(window.commands(), voice(VoiceCommand::Choose(Some("a1".into()))));
    assert_eq!(window.kept.lock().unwrap().last().unwrap().voice.as_deref(), Some("a1"));
    window.press("Listen to Ann");
    assert_eq!(window.commands(), voice(VoiceCommand::Preview(Sample::Kept("a1".into()))));
    window.press("Rename Ann");
    window.harness.get_by_role_and_label(Role::TextInput, "New name").focus();
    window.harness.run();
    window.harness.get_by_role_and_label(Role::TextInput, "New name").type_text("a");
    window.harness.run();
    window.press("Rename");
    assert_eq!(window.commands(), voice(VoiceCommand::Rename { id: "a1".into(), name: "Anna".into() }));
    window.press("Delete Ann");
    assert_eq!(window.commands(), [], "it asks first");
    window.press("Delete Ann for good");
    let gone = [VoiceCommand::Choose(None), VoiceCommand::Remove { id: "a1".into() }].map(Command::Voice);
    assert_eq!(window.commands(), gone);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().voice, None);
}

#[test]
fn the_panels_keep_inside_their_card() {
    let mut window = Window::open();
    for card in ["Models", "Voices", "Sound", "Settings"] {
        window.press(card);
    }
    // The card ends 8 before the window's edge and has a margin of 12.
    for role in [Role::Slider, Role::SpinButton, Role::ComboBox, Role::MultilineTextInput] {
        let rights: Vec<f32> = window.harness.get_all_by_role(role).map(|node| node.rect().right()).collect();
        assert!(rights.iter().all(|right| *right <= 1080.0), "{role:?}: {rights:?}");
    }
}

// The harness panics on a character that no font has.
#[test]
fn chinese_is_shown_with_the_fonts_that_are_carried() {
    let mut window = Window::open();
    window.tell(answer(1, "你好，你会说中文吗？", &["会！今天", "天气很好。「春眠不觉晓」"]));
    window.tell([Event::Spoken { turn: 1, bytes: 4 }]);
    assert!(window.has("会！今天天气很好。「春眠不觉晓」"));
}

#[test]
fn a_small_window_keeps_every_control_inside() {
    let mut window = Window::with(Settings::default(), [640.0, 480.0]);
    window.tell([Event::State(TurnState::Speaking)]);
    window.tell(answer(1, "A question", &[&"A long answer without an end. ".repeat(30)]));
    for open in [false, true] {
        for label in [talk_bar::TALK, talk_bar::SEND, talk_bar::STOP, talk_bar::MUTE, talk_bar::HANDS_FREE, SIDE_PANEL]
        {
            let rect = window.harness.get_by_label(label).rect();
            let screen = Rect::from_min_size(pos2(0.0, 0.0), vec2(640.0, 480.0));
            assert!(screen.contains_rect(rect), "{label} is at {rect:?} (side panel open: {open})");
        }
        assert_eq!(window.has("Latency"), open);
        if !open {
            window.press(SIDE_PANEL);
        }
    }
}

#[test]
fn a_still_window_asks_for_no_frames() {
    let mut window = Window::listening();
    window.tell(answer(1, "Hello", &["Hi."]));
    let still = |window: &Window| {
        let viewports = &window.harness.output().viewport_output;
        viewports.values().map(|viewport| viewport.repaint_delay).min().unwrap()
    };
    assert_eq!(still(&window), std::time::Duration::MAX);
    window.tell([Event::State(TurnState::Thinking)]);
    assert!(still(&window) <= std::time::Duration::from_millis(100));
}

fn kept_turn(turn: u64, cut_off: bool) -> KeptTurnView {
    KeptTurnView {
        turn,
        at: Timestamp::from_second(1_800_000_000).unwrap(),
        heard: format!("Question {turn}"),
        answer: "It is a tree.".into(),
        spoken_bytes: if cut_off { 6 } else { 13 },
        cut_off,
        ttfa_ms: Some(500.0),
        user_sound: false,
        answer_sound: true,
    }
}

#[test]
fn turns_are_heard_again_copied_and_asked_again() {
    let mut window = Window::listening();
    window.tell([Event::ConversationOpened(vec![kept_turn(1, false), kept_turn(2, true)])]);
    assert!(window.has(conversation::NOT_HEARD) && window.has("Question 1"));
    window.press(&exchange::label(exchange::REPLAY_ANSWER, 1));
    assert_eq!(window.commands(), [Command::Replay { turn: 1, side: Side::Assistant }]);
    assert!(!window.has(&exchange::label(exchange::REPLAY_QUESTION, 1)), "its sound was not kept");
    window.tell([Event::Replaying(Some(Replay { turn: 1, side: Side::Assistant }))]);
    window.press(&exchange::label(exchange::STOP_REPLAY, 1));
    window.harness.key_press(Key::Escape);
    window.harness.run();
    assert_eq!(window.commands(), [Command::StopReplay, Command::Interrupt]);
    window.press(&exchange::label(exchange::ASK_AGAIN, 2));
    assert_eq!(window.commands(), [Command::SendText("Question 2".into())]);
    window.harness.get_by_label(&exchange::label(exchange::COPY_ANSWER, 2)).click();
    window.harness.step();
    let copied = window
        .harness
        .output()
        .platform_output
        .commands
        .iter()
        .any(|command| matches!(command, OutputCommand::CopyText(text) if text == "It is a tree."));
    assert!(copied, "{:?}", window.harness.output().platform_output.commands);
}

#[test]
fn kept_conversations_are_searched_opened_exported_and_deleted() {
    let mut window = Window::listening();
    assert!(!window.has(history::SEARCH));
    window.press(HISTORY);
    assert!(window.has_part("kept here, on this machine only"));
    let entry = |id: &str, title: &str| ConversationEntry {
        id: id.into(),
        began: Timestamp::from_second(1_800_000_000).unwrap(),
        title: title.into(),
        turns: 2,
    };
    let list = vec![entry("b", "Are there birds?"), entry("a", "Are there trees?")];
    window.tell([Event::Conversations { query: String::new(), list, open: Some("b".into()) }]);
    for title in ["Are there trees?", "Are there birds?"] {
        window.harness.get_by_role_and_label(Role::Button, title).click();
        window.harness.run();
    }
    assert_eq!(window.commands(), [Command::OpenConversation("a".into())], "the one that is open is not opened again");
    window.press("Delete Are there birds?");
    window.press("Delete Are there trees?");
    let deleted = |id: &str, open| Command::DeleteConversation { id: id.into(), open };
    assert_eq!(window.commands(), [deleted("b", true), deleted("a", false)]);
    window.press("Markdown");
    window.press("Stereo wav");
    assert_eq!(window.commands(), [Form::Markdown, Form::StereoWav].map(|form| Command::Export { id: None, form }));
    window.harness.get_by_label(history::SEARCH).focus();
    window.harness.run();
    window.harness.get_by_label(history::SEARCH).type_text("owl");
    window.harness.run();
    assert_eq!(window.commands().last(), Some(&Command::ListConversations("owl".into())));
    window.press(history::DELETE_ALL);
    assert_eq!(window.commands(), [], "asked first");
    window.press(history::KEEP_THEM);
    window.press(history::DELETE_ALL);
    window.press(history::DELETE_ALL_NOW);
    assert_eq!(window.commands(), [Command::DeleteAllConversations]);
    window.tell([Event::Conversations { query: "owl".into(), list: Vec::new(), open: None }]);
    assert!(window.has("Nothing was found."));
}

#[test]
fn engine_and_persona_take_effect_at_once() {
    let mut window = Window::listening();
    window.press("Settings");
    window.tell([Event::EngineReady { name: "cascade".into(), description: "three models".into() }]);
    window.press("Starter");
    assert_eq!(window.commands(), [], "it is running");
    window.press("Omni");
    let selection = EngineSelection { engine: "omni".into(), llm: None };
    assert_eq!(window.commands(), [Command::UseEngine(selection)]);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().engine, "omni");
    let persona = |window: &Window, act: &dyn Fn(egui_kittest::Node<'_>)| {
        act(window.harness.get_by_role_and_label(Role::MultilineTextInput, settings_panel::PERSONA));
    };
    persona(&window, &|node| node.focus());
    window.harness.run();
    persona(&window, &|node| node.type_text("Be brief."));
    window.harness.run();
    assert_eq!(window.commands(), [], "not with every letter");
    window.harness.get_by_label(talk_bar::TEXT_FIELD).focus();
    window.harness.run();
    assert_eq!(window.commands(), [Command::SetPersona { system_prompt: "Be brief.".into(), seed: 0 }]);
    window.press("Words");
    assert_eq!(window.commands(), [Command::SetKeep(Keep::Words)]);
}
