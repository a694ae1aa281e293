//! The window under test, without a display, and what a session may tell it.

use antiphon::app::AntiphonApp;
use antiphon::app::hotkey::Hotkey;
use antiphon::app::words::{Language, look_up};
use antiphon::session::command::Command;
use antiphon::session::event::{self, Event, EventSink, ModelKind, ModelState, ModelStatus, TurnState};
use antiphon::settings::{Interface, Settings, Theme};
use eframe::egui;
use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, HarnessBuilder, TestRenderer};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

pub(crate) struct Window {
    pub(crate) harness: Harness<'static, AntiphonApp>,
    pub(crate) events: Option<EventSink>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) kept: Arc<Mutex<Vec<Settings>>>,
}

impl Window {
    pub(crate) fn open() -> Self {
        Window::with(Settings { hands_free: false, ..Settings::default() }, [1100.0, 1400.0])
    }

    pub(crate) fn with(settings: Settings, size: [f32; 2]) -> Self {
        Window::built(settings, size, Harness::builder(), Hotkey::none(None))
    }

    /// One with a key for all programs.
    pub(crate) fn with_hotkey(settings: Settings, hotkey: Hotkey) -> Self {
        Window::built(settings, [1100.0, 2000.0], Harness::builder(), hotkey)
    }

    /// One whose pictures can be taken.
    pub(crate) fn drawn(settings: Settings, size: [f32; 2], renderer: impl TestRenderer + 'static) -> Self {
        let theme = if settings.theme == Theme::Dark { egui::Theme::Dark } else { egui::Theme::Light };
        Window::built(settings, size, Harness::builder().with_theme(theme).renderer(renderer), Hotkey::none(None))
    }

    fn built(settings: Settings, size: [f32; 2], builder: HarnessBuilder<AntiphonApp>, hotkey: Hotkey) -> Self {
        let interface = match settings.interface {
            Interface::System => Interface::English,
            chosen => chosen,
        };
        let settings = Settings { interface, ..settings };
        let (sink, source) = event::channel();
        let (sender, commands) = mpsc::channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&kept);
        let save = Box::new(move |settings: &Settings| {
            keeper.lock().unwrap().push(settings.clone());
            Ok(())
        });
        let harness = builder
            .with_size(size)
            .build_eframe(|cc| AntiphonApp::new(&cc.egui_ctx, sender, source, settings, save).with_hotkey(hotkey));
        Window { harness, events: Some(sink), commands, kept }
    }

    /// Sends events and draws until nothing moves.
    pub(crate) fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.as_ref().unwrap().send(event);
        }
        self.harness.run();
    }

    pub(crate) fn listening() -> Self {
        let mut window = Window::open();
        window.tell([Event::State(TurnState::Listening)]);
        window
    }

    pub(crate) fn press(&mut self, label: &str) {
        self.harness.get_by_label(english(label)).click();
        self.harness.run();
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        self.harness.query_by_label(english(label)).is_some()
    }

    pub(crate) fn has_part(&self, label: &str) -> bool {
        self.harness.query_all_by_label_contains(label).next().is_some()
    }

    /// What was asked of the session, but for the question about this machine, which the first steps ask by themselves.
    pub(crate) fn commands(&self) -> Vec<Command> {
        self.commands.try_iter().filter(|command| *command != Command::LookAtMachine).collect()
    }
}

/// What a control is called in English, by the key of its name; a name itself stays as it is.
pub(crate) fn english(name: &str) -> &str {
    look_up(Language::English, name).unwrap_or(name)
}

pub(crate) fn answer(turn: u64, heard: &str, pieces: &[&str]) -> Vec<Event> {
    let mut events = vec![Event::Heard { turn, text: heard.into(), is_final: true }];
    events.extend(pieces.iter().map(|piece| Event::Answer { turn, piece: (*piece).into() }));
    events
}

pub(crate) fn model(id: &str, state: ModelState) -> ModelStatus {
    ModelStatus {
        id: id.into(),
        title: format!("Model {id}"),
        purpose: "hears".into(),
        licence: "MIT".into(),
        bytes: 100_000_000,
        memory: 200_000_000,
        state,
        needed: true,
        thinks: false,
        terms: None,
        kind: ModelKind::Starter,
    }
}
