//! The settings: each has a name, takes effect, is kept, and is there after a restart. And the key for all programs.

use crate::window::{Window, english};
use antiphon::app::hotkey::{Hotkey, KEYS, KeyStroke, Keyboard, Refusal};
use antiphon::app::panels::{engine, settings as panel};
use antiphon::app::words::{Language, look_up};
use antiphon::session::command::{Command, Sensitivity};
use antiphon::session::event::{Event, TurnState};
use antiphon::session::{EngineSelection, OmniSelection};
use antiphon::settings::{Interface, OmniSettings, Settings};
use antiphon::time::Micros;
use eframe::egui::Role;
use egui_kittest::kittest::{NodeT, Queryable};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

fn pushing() -> Settings {
    Settings { hands_free: false, ..Settings::default() }
}

/// A window with its settings unfolded and this engine running.
fn with_engine(settings: Settings, engine: &str) -> Window {
    let mut window = Window::with(settings, [1100.0, 2000.0]);
    window.tell([
        Event::EngineReady { name: engine.into(), description: String::new() },
        Event::State(TurnState::Listening),
        Event::DataFolder { path: "/home/ann/antiphon".into() },
    ]);
    window.press("card-settings");
    window
}

fn kept(window: &Window) -> Settings {
    window.kept.lock().unwrap().last().unwrap().clone()
}

#[test]
fn interruption_and_speed_take_effect_and_are_kept() {
    let mut window = with_engine(pushing(), "cascade");
    window.press("sensitivity-high");
    window.press("1.3 ×");
    assert_eq!(window.commands(), [Command::SetSensitivity(Sensitivity::High), Command::SetSpeed(1.3)]);
    assert_eq!((kept(&window).sensitivity, kept(&window).speed), (Sensitivity::High, 1.3));
    window.press("sensitivity-low");
    assert_eq!(window.commands(), [Command::SetSensitivity(Sensitivity::Low)]);
    assert!(window.has("speech-starter"), "the starter's language is told");
    assert!(!window.has(engine::OMNI), "what belongs to another engine is not in the way");
    // As a restart would find it.
    let window = with_engine(kept(&window), "cascade");
    let chosen = |label| window.harness.get_by_label(english(label)).accesskit_node().toggled();
    assert_eq!(chosen("sensitivity-low"), Some(eframe::egui::accesskit::Toggled::True));
    assert_eq!(chosen("1.3 ×"), Some(eframe::egui::accesskit::Toggled::True));
    assert_eq!(chosen("1 ×"), Some(eframe::egui::accesskit::Toggled::False));
}

#[test]
fn how_the_omni_engine_is_loaded_is_folded_and_loads_it_again() {
    let llm = Some("small".to_owned());
    let mut window = with_engine(Settings { engine: "omni".into(), llm: llm.clone(), ..pushing() }, "omni");
    let anew = |omni| Command::UseEngine(EngineSelection { engine: "omni".into(), llm: llm.clone(), omni: Some(omni) });
    let plain = OmniSelection { language: "en".into(), ..OmniSelection::default() };
    assert!(!window.has("speed-hint") && !window.has("precision") && !window.has("1.3 ×"));
    window.press("speech-chinese");
    let chinese = OmniSelection { language: "zh".into(), ..plain };
    assert_eq!(window.commands(), [anew(chinese.clone())]);
    window.press(engine::OMNI);
    assert!(window.has("omni-note") && window.has("speed-omni"));
    window.press("q4_k");
    let small = OmniSelection { quantize: Some("q4_k".into()), ..chinese.clone() };
    assert_eq!(window.commands(), [anew(small.clone())]);
    window.press("8 tokens");
    assert_eq!(window.commands(), [anew(OmniSelection { text_chunk: Some(8), ..small })]);
    let omni = OmniSettings { quantize: Some("q4_k".into()), text_chunk: Some(8), ..OmniSettings::default() };
    assert_eq!((kept(&window).omni, kept(&window).language.as_str()), (omni, "zh"));
    // What nobody chose is left to the program, and stands in no file.
    window.press("precision-auto");
    window.press("10 tokens");
    let commands = window.commands();
    assert_eq!(commands.last(), Some(&anew(chinese)));
    assert_eq!(kept(&window).omni, OmniSettings::default());
    window.press("bf16");
    assert_eq!(kept(&window).omni.dtype.as_deref(), Some("bf16"));
}

#[test]
fn the_data_folder_is_told_and_shown() {
    let mut window = with_engine(pushing(), "cascade");
    assert!(window.has("/home/ann/antiphon"));
    window.press(panel::SHOW_FOLDER);
    assert_eq!(window.commands(), [Command::ShowDataFolder]);
}

/// A keyboard on which another program has F9.
struct Desk(Arc<Mutex<Option<String>>>);

impl Keyboard for Desk {
    fn hold(&mut self, key: &str) -> Result<(), Refusal> {
        if key == "F9" {
            return Err(Refusal::Taken);
        }
        *self.0.lock().unwrap() = Some(key.to_owned());
        Ok(())
    }

    fn free(&mut self) {
        *self.0.lock().unwrap() = None;
    }
}

/// A window with such a keyboard, the key that it holds, and its strokes.
fn at_a_keyboard(settings: Settings) -> (Window, Arc<Mutex<Option<String>>>, Sender<KeyStroke>) {
    let held = Arc::new(Mutex::new(None));
    let (strokes, receiver) = mpsc::channel();
    let mut window = Window::with_hotkey(settings, Hotkey::new(Desk(Arc::clone(&held)), receiver));
    window.tell([Event::State(TurnState::Listening)]);
    (window, held, strokes)
}

fn choose_key(window: &mut Window, key: &str) {
    window.harness.get_by_role_and_label(Role::ComboBox, english(panel::HOTKEY)).click();
    window.harness.run();
    // The name stands on the picker too while it is chosen.
    window.harness.get_all_by_label(english(key)).last().unwrap().click();
    window.harness.run();
}

#[test]
fn the_key_for_all_programs_is_off_until_it_is_chosen() {
    let (mut window, held, _strokes) = at_a_keyboard(pushing());
    window.press("card-settings");
    assert_eq!((held.lock().unwrap().clone(), window.has("hotkey-hint")), (None, false));
    choose_key(&mut window, KEYS[0]);
    assert_eq!(held.lock().unwrap().as_deref(), Some(KEYS[0]));
    assert!(kept(&window).hotkey.as_deref() == Some(KEYS[0]) && window.has("hotkey-hint"));
    choose_key(&mut window, "F9");
    assert_eq!(*held.lock().unwrap(), None);
    assert!(window.has("hotkey-taken") && !window.has("hotkey-hint"));
    choose_key(&mut window, "hotkey-off");
    assert!(!window.has("hotkey-taken") && kept(&window).hotkey.is_none());
    assert_eq!(window.commands(), [], "the session need not know");
    // One that was written by hand is held from the beginning, and stays to be chosen.
    let (window, held, _strokes) = at_a_keyboard(Settings { hotkey: Some("Super+F4".into()), ..pushing() });
    assert_eq!(held.lock().unwrap().as_deref(), Some("Super+F4"));
    assert_eq!(window.commands(), []);
}

#[test]
fn the_key_is_held_and_tapped_while_another_window_has_the_keyboard() {
    let (mut window, _held, strokes) = at_a_keyboard(Settings { hotkey: Some("F8".into()), ..pushing() });
    window.harness.input_mut().focused = false;
    let began = Micros::now();
    let stroke = |down, ms: u64| KeyStroke { down, at: began + std::time::Duration::from_millis(ms) };
    // Held.
    strokes.send(stroke(true, 0)).unwrap();
    window.harness.run();
    assert_eq!(window.commands(), [Command::Talk]);
    window.tell([Event::State(TurnState::Capturing)]);
    strokes.send(stroke(true, 500)).unwrap();
    window.harness.run();
    assert_eq!(window.commands(), [], "a window without the keyboard does not let go, and a key that repeats is one");
    strokes.send(stroke(false, 2000)).unwrap();
    window.harness.run();
    assert_eq!(window.commands(), [Command::TalkEnd]);
    // Tapped: the press and the release may come in one frame.
    window.tell([Event::State(TurnState::Listening)]);
    strokes.send(stroke(true, 5000)).unwrap();
    strokes.send(stroke(false, 5060)).unwrap();
    window.harness.run();
    window.tell([Event::State(TurnState::Capturing)]);
    assert_eq!(window.commands(), [Command::Talk]);
    strokes.send(stroke(true, 8000)).unwrap();
    strokes.send(stroke(false, 8060)).unwrap();
    window.harness.run();
    assert_eq!(window.commands(), [Command::TalkEnd]);
    // Nobody to talk to.
    window.tell([Event::State(TurnState::Loading)]);
    strokes.send(stroke(true, 9000)).unwrap();
    strokes.send(stroke(false, 9500)).unwrap();
    window.harness.run();
    assert_eq!(window.commands(), []);
}

#[test]
fn a_key_that_is_given_up_while_it_is_down_comes_up() {
    let (mut window, _held, strokes) = at_a_keyboard(Settings { hotkey: Some("F8".into()), ..pushing() });
    window.press("card-settings");
    strokes.send(KeyStroke { down: true, at: Micros::now() }).unwrap();
    window.harness.run();
    window.tell([Event::State(TurnState::Capturing)]);
    choose_key(&mut window, "hotkey-off");
    assert_eq!(window.commands(), [Command::Talk, Command::TalkEnd]);
}

#[test]
fn why_there_is_no_key_is_said_in_both_languages() {
    for language in [Interface::English, Interface::Chinese] {
        let word =
            |key| look_up(if language == Interface::English { Language::English } else { Language::Chinese }, key);
        let settings = Settings { interface: language, hotkey: Some("F8".into()), ..pushing() };
        let mut window = Window::with_hotkey(settings, Hotkey::none(Some(Refusal::Wayland)));
        window.press(word("card-settings").unwrap());
        assert!(window.has(word("hotkey-wayland").unwrap()));
        let picker = window.harness.query_by_role_and_label(Role::ComboBox, word(panel::HOTKEY).unwrap());
        assert!(picker.is_none(), "there is nothing to choose");
    }
}
