//! The panels of models and devices, and what is told of trouble.

use crate::first_run::outlook;
use crate::window::{Window, english, model};
use antiphon::app::panels::{banners, devices, first_run, models};
use antiphon::session::EngineSelection;
use antiphon::session::command::Command;
use antiphon::session::event::{
    DeviceEntry, DeviceList, Event, ModelKind, ModelState, ModelStatus, PullProgress, PullState, Severity, TurnState,
};
use eframe::egui::Role;
use egui_kittest::kittest::{NodeT, Queryable};

#[test]
fn missing_models_are_fetched_with_one_press() {
    let mut window = Window::open();
    let absent = |id| model(id, ModelState::Absent);
    window.tell([Event::Models(vec![model("a", ModelState::Ready), absent("b")])]);
    window.press(first_run::GET_MODELS);
    assert_eq!(window.commands(), [Command::PullModels(vec!["b".into()])]);
    let pull = |state| {
        Event::Pull(PullProgress { id: "b".into(), state, done: 25_000_000, total: 100_000_000, bytes_per_second: 5e6 })
    };
    window.tell([pull(PullState::Fetching)]);
    assert!(window.has_part("25.0 MB of 100 MB · 5.0 MB/s · 15 s left") && !window.has(first_run::GET_MODELS));
    assert!(window.has("Fetching Model b") && window.has_part("100 MB on disk, 200 MB of memory · MIT"));
    window.tell([Event::Models(vec![absent("b"), absent("c")]), Event::PullsWaiting(vec!["c".into()])]);
    assert!(window.has("comes next") && !window.has("Get Model c"), "what waits is not offered");
    window.tell([Event::Models(vec![absent("b")]), Event::PullsWaiting(Vec::new())]);
    let bars =
        window.harness.get_all_by_role(Role::ProgressIndicator).filter_map(|bar| bar.accesskit_node().numeric_value());
    assert_eq!(bars.collect::<Vec<_>>(), [25.0, 25.0], "in the middle and in the panel");
    window.harness.get_all_by_label(english(models::CANCEL)).next().unwrap().click();
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
        Event::State(TurnState::Degraded { why: vec!["The microphone is gone".into()] }),
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
        ..DeviceList::default()
    };
    window.tell([Event::Devices { input: list(None, Some("Built-in")), output: list(Some("gone"), None) }]);
    window.press("Sound");
    assert!(window.has("now: Built-in") && window.has("none is open"));
    let shown = |window: &Window, label| window.harness.get_by_role_and_label(Role::ComboBox, english(label)).value();
    assert_eq!(shown(&window, devices::LOUDSPEAKER).as_deref(), Some("Not connected"));
    window.harness.get_by_role_and_label(Role::ComboBox, english(devices::MICROPHONE)).click();
    window.harness.run();
    window.press("Headset");
    assert_eq!(window.commands(), [Command::SelectInput(Some("usb:1".into()))]);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().input_device.as_deref(), Some("usb:1"));
}

#[test]
fn what_runs_at_which_rate_is_told_and_a_telephone_is_warned_of() {
    let mut window = Window::open();
    let open = |telephone| DeviceList {
        open: Some("Buds".into()),
        rate: Some(44_100),
        buffer_ms: Some(10),
        telephone,
        ..DeviceList::default()
    };
    window.tell([Event::Devices { input: open(false), output: DeviceList::default() }]);
    window.press("Sound");
    assert!(window.has("44.1 kHz, 10 ms") && !window.has("device-telephone"));
    window.tell([Event::Devices { input: open(true), output: DeviceList::default() }]);
    assert!(window.has("device-telephone"));
}

#[test]
fn a_model_that_is_here_is_checked_and_removed_when_that_is_meant() {
    let mut window = Window::open();
    window.tell([
        Event::Models(vec![model("a", ModelState::Ready), model("b", ModelState::Absent)]),
        Event::EngineReady { name: "cascade".into(), description: String::new() },
        Event::State(TurnState::Listening),
    ]);
    window.press("Models");
    assert!(window.has("Check Model a") && !window.has("Check Model b"));
    window.press("Check Model a");
    assert_eq!(window.commands(), [Command::CheckModel("a".into())]);
    window.press("Remove Model a");
    assert_eq!(window.commands(), [], "it is asked about first");
    window.press("Keep Model a");
    window.press("Remove Model a");
    window.press("Remove Model a from the disk");
    assert_eq!(window.commands(), [Command::RemoveModel("a".into())]);
    assert!(!window.has("Keep Model a"));
}

#[test]
fn the_starter_thinks_with_the_language_model_that_is_chosen() {
    let mut window = Window::listening();
    let thinks = |id: &str, kind| ModelStatus { thinks: true, kind, ..model(id, ModelState::Ready) };
    window.tell([
        Event::Models(vec![
            thinks("large", ModelKind::Starter),
            thinks("small", ModelKind::Other),
            model("ears", ModelState::Ready),
            ModelStatus { kind: ModelKind::Omni, needed: false, ..model("omni", ModelState::Absent) },
        ]),
        Event::EngineReady { name: "cascade".into(), description: String::new() },
    ]);
    window.press("Models");
    let in_use = |window: &Window| window.harness.query_all_by_label("in use").count();
    assert_eq!(in_use(&window), 2, "the starter's own, and what hears");
    assert!(!window.has("Use Model large") && !window.has("Use Model ears"));
    let asked = window.commands.try_iter().any(|command| command == Command::LookAtMachine);
    assert!(asked, "what suits this machine is told here too");
    window.tell([outlook(None)]);
    assert!(window.has_part("no graphics card that helps"));
    let selection = |llm: Option<&str>| {
        Command::UseEngine(EngineSelection { engine: "cascade".into(), llm: llm.map(Into::into), omni: None })
    };
    window.press("Use Model small");
    assert_eq!(window.commands(), [selection(Some("small"))]);
    assert_eq!(window.kept.lock().unwrap().last().unwrap().llm.as_deref(), Some("small"));
    assert!(!window.has("Use Model small"));
    window.press("Use Model large");
    assert_eq!(window.commands(), [selection(None)]);
    // What is not here can be brought by hand.
    window.press("Take Model omni from a folder");
    let title = english("dialog-models").to_owned();
    assert_eq!(window.commands(), [Command::ImportModels { title, models: vec!["omni".into()] }]);
    window.tell([Event::EngineReady { name: "omni".into(), description: String::new() }]);
    assert_eq!(in_use(&window), 0, "the omni engine's model is not even here");
}
