//! The panel of voices: a file becomes a voice, and voices are kept.

use crate::window::{Window, english};
use antiphon::app::panels::voices;
use antiphon::session::EngineSelection;
use antiphon::session::command::Command;
use antiphon::session::event::Event;
use antiphon::session::voices::{
    Aspect, Finding, Grade, Sample, Span, VoiceCommand, VoiceDraft, VoiceEntry, VoiceEvent,
};
use eframe::egui::{Key, Role, pos2};
use egui_kittest::kittest::{NodeT, Queryable};
use std::sync::Arc;

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
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Ask { title: "A recording of the voice".into() })]);
    window.press("Voices");
    assert!(!window.has(voices::ADD));
    window.harness.input_mut().dropped_files.push(Arc::new(Dropped("/tmp/aunt.wav".into())));
    window.harness.run();
    let check = VoiceCommand::Check { file: "/tmp/aunt.wav".into() };
    assert_eq!(window.commands(), [Command::Voice(check)]);

    // A language model is no voice.
    window.harness.input_mut().dropped_files.push(Arc::new(Dropped("/tmp/small.gguf".into())));
    window.harness.run();
    let llm = Some("/tmp/small.gguf".to_owned());
    let selection = EngineSelection { engine: "cascade".into(), llm, omni: None };
    assert_eq!(window.commands(), [Command::UseEngine(selection)]);

    // The panel unfolds by itself.
    window.tell([Event::Voice(VoiceEvent::Checking { file: "aunt.wav".into() })]);
    assert!(window.has_part("Reading aunt.wav"));
    window.tell([draft(1, Grade::NotUsable)]);
    assert!(window.has("Waveform of aunt.wav") && window.has("2.0 to 12.0 s of 20.0 s: not usable"));
    assert!(window.has_part("speak closer to the microphone"));
    window.press(voices::AGREED);
    assert!(window.harness.get_by_label(english(voices::KEEP)).accesskit_node().is_disabled(), "not usable");

    window.tell([draft(2, Grade::Ok)]);
    assert!(!window.has_part("speak closer"));
    let keep = |window: &Window| !window.harness.get_by_label(english(voices::KEEP)).accesskit_node().is_disabled();
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
    window.harness.get_by_label(english(voices::END)).focus();
    window.harness.run();
    window.harness.key_press(Key::ArrowDown);
    window.harness.run();
    let moved = |span| [Command::Voice(VoiceCommand::CheckSpan(span))];
    assert_eq!(window.commands(), moved(Span::new(2.0, 11.9)));
    let edge = window.harness.get_by_label(english(voices::BEGINNING)).rect().center();
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
fn a_voice_is_recorded_on_the_spot() {
    let mut window = Window::open();
    window.press("Voices");
    window.press(voices::RECORD);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Record)]);
    window.tell([Event::Voice(VoiceEvent::Recording(Some(3.25)))]);
    assert!(window.has_part("This morning I walked along the river") && window.has("3 s"));
    assert!(!window.has(voices::RECORD));
    window.press(voices::STOP_RECORDING);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::StopRecording)]);
    window.tell([Event::Voice(VoiceEvent::Recording(None)), draft(1, Grade::Ok)]);
    assert!(window.has("Waveform of aunt.wav") && window.has(voices::KEEP));
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
