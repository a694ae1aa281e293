//! The first steps: what the machine can do, fetching models, trying microphone and loudspeaker.

use crate::window::{Window, english, model};
use antiphon::app::panels::devices::{CHIME, LEVEL, STOP_CHIME};
use antiphon::app::panels::{banners, first_run, models, terms};
use antiphon::session::EngineSelection;
use antiphon::session::command::Command;
use antiphon::session::event::{
    DeviceEntry, DeviceList, Event, ModelKind, ModelState, ModelStatus, Outlook, OutlookGpu, OutlookWay, PullProgress,
    PullState, TurnState,
};
use antiphon::session::voices::{Sample, VoiceCommand, VoiceEvent};
use antiphon::settings::Settings;
use egui_kittest::kittest::{NodeT, Queryable};

pub(crate) fn omni(terms: Option<&str>) -> ModelStatus {
    ModelStatus {
        kind: ModelKind::Omni,
        needed: false,
        terms: terms.map(Into::into),
        bytes: 17_400_000_000,
        licence: "Theirs".into(),
        ..model("omni", ModelState::Absent)
    }
}

pub(crate) fn outlook(gpu: Option<(u64, bool)>) -> Event {
    let gigabytes = gpu.map_or(0, |(memory, _)| memory);
    let way = |(name, needs): (&str, u64)| OutlookWay {
        name: name.into(),
        bytes: needs * 1_000_000_000,
        fits: needs < gigabytes,
    };
    Event::Outlook(Outlook {
        memory: 16_000_000_000,
        disk_free: Some(80_000_000_000),
        gpu: gpu.map(|(memory, usable)| OutlookGpu { name: "RTX 4080".into(), memory: memory * 1_000_000_000, usable }),
        ways: [("bf16", 18), ("q8_0", 11), ("q4_k", 8)].map(way).into(),
    })
}

pub(crate) fn devices() -> Event {
    let list = |name: &str| DeviceList {
        available: vec![DeviceEntry { id: name.into(), name: name.into() }],
        chosen: None,
        open: Some(name.into()),
        ..DeviceList::default()
    };
    Event::Devices { input: list("Mic"), output: list("Speaker") }
}

fn pull(id: &str, state: PullState) -> Event {
    Event::Pull(PullProgress { id: id.into(), state, done: 25_000_000, total: 100_000_000, bytes_per_second: 5e6 })
}

fn fault() -> Event {
    Event::State(TurnState::Faulted { why: "not installed".into(), remedy: "pull it".into() })
}

#[test]
fn the_window_says_what_the_machine_can_do() {
    for (gpu, told) in [
        (None, "16.0 GB of memory, and no graphics card that helps"),
        (Some((6, true)), "RTX 4080 with 6.0 GB: too small for MiniCPM-o 2.6"),
        (Some((12, true)), "RTX 4080 with 12.0 GB: it can hold MiniCPM-o 2.6 in q8_0 (11.0 GB)"),
        (Some((24, true)), "RTX 4080 with 24.0 GB: it can hold MiniCPM-o 2.6 in bf16 (18.0 GB)"),
        (Some((24, false)), "RTX 4080 with 24.0 GB: this build of Antiphon computes on the processor alone"),
    ] {
        let mut window = Window::open();
        window.tell([Event::Models(vec![model("a", ModelState::Absent), omni(None)]), fault(), outlook(gpu)]);
        assert!(window.has_part(told), "{told}");
        assert!(window.has_part("nothing you say or hear is sent anywhere"));
        assert!(window.has_part("80.0 GB are free on the disk"));
        assert!(!window.has(banners::RETRY), "that models are missing is no fault here");
        let offered = gpu.is_some_and(|(memory, usable)| memory >= 12 && usable);
        assert_eq!(window.has(first_run::GET_OMNI), offered, "{gpu:?}");
        assert_eq!(window.has_part("too large"), gpu.is_some_and(|(memory, _)| memory < 24));
    }
}

#[test]
fn the_starter_is_fetched_paused_and_gone_on_with() {
    let mut window = Window::open();
    window.tell([Event::Models(vec![model("a", ModelState::Absent)]), fault(), outlook(None)]);
    window.press(first_run::GET_MODELS);
    assert_eq!(window.commands(), [Command::PullModels(vec!["a".into()])]);
    window.tell([pull("a", PullState::Fetching)]);
    assert!(window.has_part("15 s left") && !window.has(first_run::GET_MODELS));
    let press = |window: &mut Window, label| {
        window.harness.get_all_by_label(english(label)).next().unwrap().click();
        window.harness.run();
    };
    press(&mut window, models::PAUSE);
    assert_eq!(window.commands(), [Command::PausePull { model: "a".into() }]);
    window.tell([pull("a", PullState::Paused)]);
    assert!(!window.has_part("left") && window.has("Model a: paused"));
    press(&mut window, models::RESUME);
    assert_eq!(window.commands(), [Command::ResumePull { model: "a".into() }]);
    window.tell([pull("a", PullState::Fetching)]);
    press(&mut window, models::CANCEL);
    assert_eq!(window.commands(), [Command::CancelPull { model: "a".into() }]);
    window.tell([pull("a", PullState::Cancelled)]);
    assert!(window.has(first_run::GET_MODELS), "what is missing can be asked for again");
}

#[test]
fn one_talks_to_the_starter_while_the_large_model_is_fetched() {
    let mut window = Window::open();
    window.tell([
        Event::Models(vec![model("a", ModelState::Ready), omni(None)]),
        Event::EngineReady { name: "cascade".into(), description: "small".into() },
        Event::State(TurnState::Listening),
        pull("omni", PullState::Fetching),
    ]);
    assert!(window.has("Say something") && window.has_part("You can talk already; Model omni is still being fetched"));
    // Chosen in the settings, and not here yet.
    let settings = Settings { engine: "omni".into(), hands_free: false, ..Settings::default() };
    let mut window = Window::with(settings, [1100.0, 1400.0]);
    let needed = ModelStatus { needed: true, ..omni(None) };
    window.tell([Event::Models(vec![model("a", ModelState::Ready), needed]), fault(), outlook(None)]);
    window.press(first_run::USE_STARTER);
    let selection = EngineSelection { engine: "cascade".into(), llm: None, omni: None };
    assert_eq!(window.commands(), [Command::UseEngine(selection)]);
}

#[test]
fn a_licence_is_shown_and_agreed_to_before_a_model_is_fetched() {
    let mut window = Window::open();
    window.tell([
        Event::Models(vec![model("a", ModelState::Absent), omni(Some("Only for research."))]),
        fault(),
        outlook(Some((24, true))),
    ]);
    window.press(first_run::GET_OMNI);
    assert_eq!(window.commands(), [], "the licence comes first");
    let agree = english(terms::AGREE);
    assert_eq!(window.harness.get_all_by_label("Only for research.").count(), 2, "in the middle and in the panel");
    window.harness.get_all_by_label(english(terms::LEAVE)).next().unwrap().click();
    window.harness.run();
    assert!(!window.has_part("Only for research") && window.commands().is_empty());
    // The same from the list of models.
    window.press("Get Model omni");
    window.harness.get_all_by_label(agree).next().unwrap().click();
    window.harness.run();
    let agreed = || Command::AgreeToTerms("omni".into());
    assert_eq!(window.commands(), [agreed(), Command::PullModels(vec!["omni".into()])]);
    assert!(!window.has_part("Only for research"));
    // Or taken from a folder, for machines without network.
    window.press("Get Model omni");
    window.harness.get_all_by_label(english(terms::AGREE_AND_IMPORT)).next().unwrap().click();
    window.harness.run();
    let import = Command::ImportModels { title: "Folder with downloaded models".into(), models: vec!["omni".into()] };
    assert_eq!(window.commands(), [agreed(), import]);
    // Agreed to before.
    window.tell([Event::Models(vec![model("a", ModelState::Absent), omni(None)])]);
    window.press(first_run::GET_OMNI);
    assert_eq!(window.commands(), [Command::PullModels(vec!["omni".into()])]);
}

#[test]
fn microphone_and_loudspeaker_are_tried() {
    let mut window = Window::open();
    window.tell([Event::Models(vec![model("a", ModelState::Absent)]), fault()]);
    assert!(window.has_part("No microphone is open") && window.has("No loudspeaker is open."));
    assert!(window.harness.get_by_label(english(CHIME)).accesskit_node().is_disabled());
    window.tell([devices()]);
    assert!(window.has_part("the bar should move"));
    window
        .tell([Event::Levels { mic_db: -30.0, speaker_db: -90.0 }, Event::Levels { mic_db: -80.0, speaker_db: -90.0 }]);
    assert!(window.has("The microphone hears you.") && window.has(LEVEL));
    window.press(CHIME);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::Preview(Sample::Chime))]);
    window.tell([Event::Voice(VoiceEvent::Previewing(true))]);
    window.press(STOP_CHIME);
    assert_eq!(window.commands(), [Command::Voice(VoiceCommand::StopPreview)]);
}
