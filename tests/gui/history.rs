//! Turns heard again, kept conversations, and what takes effect at once.

use crate::window::{Window, english};
use antiphon::app::HISTORY;
use antiphon::app::panels::{conversation, exchange, history, settings as settings_panel, talk_bar};
use antiphon::conversation::Side;
use antiphon::conversation::export::Form;
use antiphon::session::EngineSelection;
use antiphon::session::command::{Command, Keep};
use antiphon::session::event::{ConversationEntry, Event, KeptTurnView, Replay};
use eframe::egui::{Key, OutputCommand, Role};
use egui_kittest::kittest::Queryable;
use jiff::Timestamp;

fn kept_turn(turn: u64, cut_off: bool) -> KeptTurnView {
    KeptTurnView {
        turn,
        at: Timestamp::from_second(1_800_000_000).unwrap(),
        heard: format!("Question {turn}"),
        question_seconds: Some(1.2),
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

/// An engine that goes from sound to answer leaves no words of the question.
#[test]
fn a_question_nobody_wrote_down_is_heard_again_and_neither_copied_nor_asked() {
    let mut window = Window::listening();
    let spoken = KeptTurnView { heard: String::new(), user_sound: true, ..kept_turn(1, false) };
    window.tell([Event::ConversationOpened(vec![spoken])]);
    assert!(window.has("(spoken, 1.2 s)"));
    assert!(window.has(&exchange::label(exchange::COPY_ANSWER, 1)));
    for none in [exchange::COPY_QUESTION, exchange::ASK_AGAIN] {
        assert!(!window.has(&exchange::label(none, 1)), "{none}");
    }
    window.press(&exchange::label(exchange::REPLAY_QUESTION, 1));
    assert_eq!(window.commands(), [Command::Replay { turn: 1, side: Side::User }]);
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
    window.press("Keep Are there birds?");
    window.press("Delete Are there birds?");
    window.press("Delete Are there trees?");
    assert_eq!(window.commands(), [], "asked first");
    assert!(!window.has("Delete Are there birds? for good"), "one question at a time");
    window.press("Delete Are there trees? for good");
    assert_eq!(window.commands(), [Command::DeleteConversation { id: "a".into(), open: false }]);
    window.press("Markdown");
    window.press("Stereo wav");
    assert_eq!(
        window.commands(),
        [Form::Markdown, Form::StereoWav].map(|form| {
            let title = "Export this conversation".into();
            Command::Export { id: None, form, title }
        })
    );
    window.harness.get_by_label(english(history::SEARCH)).focus();
    window.harness.run();
    window.harness.get_by_label(english(history::SEARCH)).type_text("owl");
    window.harness.run();
    assert_eq!(window.commands().last(), Some(&Command::ListConversations("owl".into())));
    window.tell([Event::Conversations { query: "owl".into(), list: vec![entry("c", "An owl")], open: None }]);
    assert!(!window.has(history::DELETE_ALL), "all would be more than are seen");
    window.tell([Event::Conversations { query: String::new(), list: vec![entry("c", "An owl")], open: None }]);
    window.press(history::DELETE_ALL);
    assert_eq!(window.commands(), [], "asked first");
    window.press(history::KEEP_THEM);
    window.press(history::DELETE_ALL);
    window.press(history::DELETE_ALL_NOW);
    assert_eq!(window.commands(), [Command::DeleteAllConversations]);
    window.tell([Event::Conversations { query: "owl".into(), list: Vec::new(), open: None }]);
    assert!(window.has("Nothing was found."));
}

/// One of two conversations that begin alike is deleted, by the keyboard as by the mouse.
#[test]
fn conversations_of_the_same_title_are_told_apart() {
    let mut window = Window::listening();
    window.press(HISTORY);
    let entry = |id: &str| ConversationEntry {
        id: id.into(),
        began: Timestamp::from_second(1_800_000_000).unwrap(),
        title: "Hello.".into(),
        turns: 1,
    };
    window.tell([Event::Conversations { query: String::new(), list: vec![entry("b"), entry("a")], open: None }]);
    for (nth, id) in [(0, "b"), (1, "a")] {
        for by_mouse in [true, false] {
            let press = |window: &mut Window, label: &str, nth: usize| {
                let node = window.harness.get_all_by_label(label).nth(nth).unwrap();
                if by_mouse {
                    node.click();
                } else {
                    node.focus();
                    window.harness.run();
                    window.harness.key_press(Key::Enter);
                }
                window.harness.run();
            };
            press(&mut window, "Delete Hello.", nth);
            press(&mut window, "Delete Hello. for good", 0);
            assert_eq!(window.commands(), [Command::DeleteConversation { id: id.into(), open: false }]);
        }
    }
}

#[test]
fn engine_and_persona_take_effect_at_once() {
    let mut window = Window::listening();
    window.press("Settings");
    window.tell([Event::EngineReady { name: "cascade".into(), description: "three models".into() }]);
    window.press("Starter");
    assert_eq!(window.commands(), [], "it is running");
    window.press("Omni");
    let selection = EngineSelection { engine: "omni".into(), llm: None, omni: None };
    assert_eq!(window.commands(), [Command::UseEngine(selection)]);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().engine, "omni");
    let persona = |window: &Window, act: &dyn Fn(egui_kittest::Node<'_>)| {
        act(window.harness.get_by_role_and_label(Role::MultilineTextInput, english(settings_panel::PERSONA)));
    };
    persona(&window, &|node| node.focus());
    window.harness.run();
    persona(&window, &|node| node.type_text("Be brief."));
    window.harness.run();
    assert_eq!(window.commands(), [], "not with every letter");
    window.harness.get_by_label(english(talk_bar::TEXT_FIELD)).focus();
    window.harness.run();
    assert_eq!(window.commands(), [Command::SetPersona { system_prompt: "Be brief.".into(), seed: 0 }]);
    window.press("Words");
    assert_eq!(window.commands(), [Command::SetKeep(Keep::Words)]);
}
