//! Sizes, fonts and stillness.

use crate::window::{Window, answer, english};
use antiphon::app::SIDE_PANEL;
use antiphon::app::panels::talk_bar;
use antiphon::session::event::{Event, Severity, TurnState};
use antiphon::settings::Settings;
use eframe::egui::accesskit::Live;
use eframe::egui::{Key, Rect, Role, pos2, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use std::collections::BTreeSet;

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
            let rect = window.harness.get_by_label(english(label)).rect();
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

/// Everything that can be pressed, chosen or typed into, as far as it is enabled.
fn controls(window: &Window) -> BTreeSet<String> {
    let wanted = [Role::Button, Role::Switch, Role::CheckBox, Role::RadioButton, Role::ComboBox, Role::TextInput];
    let nodes = wanted.into_iter().flat_map(|role| window.harness.query_all_by_role(role));
    let enabled = nodes.filter(|node| !node.accesskit_node().is_disabled());
    enabled.map(|node| node.accesskit_node().label().unwrap_or_default()).collect()
}

#[test]
fn the_keyboard_reaches_every_control() {
    let mut window = Window::listening();
    window.tell(answer(1, "Hello", &["Hi."]));
    for card in ["Models", "Voices", "Sound", "Settings"] {
        window.press(card);
    }
    let controls = controls(&window);
    assert!(controls.len() > 25 && !controls.contains(""), "every control has a name: {controls:?}");
    let mut reached = BTreeSet::new();
    for _ in 0..2 * controls.len() + 40 {
        window.harness.key_press(Key::Tab);
        window.harness.run();
        let root = window.harness.root();
        let focused = root.children_recursive().find(|node| node.accesskit_node().is_focused());
        reached.extend(focused.and_then(|node| node.accesskit_node().label()));
    }
    let missed: Vec<_> = controls.difference(&reached).collect();
    assert!(missed.is_empty(), "Tab does not reach {missed:?}");
}

#[test]
fn what_the_keyboard_reaches_is_scrolled_into_view() {
    let size = vec2(1100.0, 480.0);
    let mut window = Window::with(Settings::default(), size.into());
    window.tell([Event::State(TurnState::Listening)]);
    (1..9).for_each(|turn| window.tell(answer(turn, "A question", &["A long answer. ".repeat(20).as_str()])));
    // Those that are out of sight can only be pressed by the keyboard, or a screen reader.
    for card in ["Settings", "Sound", "Voices", "Models"] {
        window.harness.get_by_label(card).focus();
        window.harness.run();
        window.harness.key_press(Key::Enter);
        window.harness.run();
    }
    let screen = Rect::from_min_size(pos2(0.0, 0.0), size);
    let mut reached = BTreeSet::new();
    for _ in 0..150 {
        window.harness.key_press(Key::Tab);
        window.harness.run();
        let root = window.harness.root();
        let Some(focused) = root.children_recursive().find(|node| node.accesskit_node().is_focused()) else { continue };
        let (name, rect) = (focused.accesskit_node().label().unwrap_or_default(), focused.rect());
        assert!(screen.contains_rect(rect), "{name:?} is at {rect:?}");
        reached.insert(name);
    }
    assert!(reached.contains("Settings") && reached.contains("200 %"), "{reached:?}");
}

#[test]
fn a_screen_reader_is_told_of_the_state_and_of_trouble() {
    let mut window = Window::listening();
    let live = |window: &Window, label: &str| window.harness.get_by_label(label).accesskit_node().live();
    assert_eq!(live(&window, "Ready"), Live::Polite);
    window.tell([Event::State(TurnState::Thinking)]);
    assert_eq!(live(&window, "Thinking"), Live::Polite);
    let problem = |what: &str, severity| Event::Problem { what: what.into(), remedy: "Wait".into(), severity };
    window.tell([problem("It is loud", Severity::Warning), problem("It is on fire", Severity::Error)]);
    assert_eq!(live(&window, "It is loud"), Live::Polite);
    assert_eq!(live(&window, "It is on fire"), Live::Assertive);
}
