//! The window under test, without a display, and what a session may tell it.

use antiphon::app::AntiphonApp;
use antiphon::session::command::Command;
use antiphon::session::event::{self, Event, EventSink, ModelState, ModelStatus, TurnState};
use antiphon::settings::Settings;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
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
        self.harness.get_by_label(label).click();
        self.harness.run();
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        self.harness.query_by_label(label).is_some()
    }

    pub(crate) fn has_part(&self, label: &str) -> bool {
        self.harness.query_all_by_label_contains(label).next().is_some()
    }

    pub(crate) fn commands(&self) -> Vec<Command> {
        self.commands.try_iter().collect()
    }
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
        state,
        needed: true,
    }
}
