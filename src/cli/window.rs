//! `antiphon` without a command: the window. Runs on the main thread, which the window needs.

use super::engines::EngineChoice;
use super::{Failure, Outcome, interrupted, interrupts_are_success};
use crate::app;
use crate::audio::{CardChoice, DeviceId};
use crate::conversation::archive::Archive;
use crate::engine::SessionSetup;
use crate::session::command::Command;
use crate::session::told::Told;
use crate::session::{self, CardSource, Extras, Parts};
use crate::settings::{Message, Settings};
use std::path::PathBuf;

/// How the window listens.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All the time; speak over an answer to interrupt it
    HandsFree,
    /// While the talk button is down
    PushToTalk,
    /// Hands-free, with the microphone off while an answer sounds
    HalfDuplex,
}

impl Mode {
    /// The two settings that make it.
    pub const fn hands_free_and_half_duplex(self) -> (bool, bool) {
        match self {
            Mode::HandsFree => (true, false),
            Mode::PushToTalk => (false, false),
            Mode::HalfDuplex => (true, true),
        }
    }
}

/// Opens the window and returns when it is closed.
///
/// `settings_path`: where changed settings go; `message`: what the user should be told about the settings file.
pub fn run(
    choice: &EngineChoice,
    setup: SessionSetup,
    settings: Settings,
    settings_path: Option<PathBuf>,
    message: Option<Message>,
) -> Outcome {
    if !has_display() {
        return Err(Failure::no_device(
            "there is no display to open a window on: log in to a desktop, or use `antiphon converse` (see --help)",
        ));
    }
    let card = CardChoice {
        input: settings.input_device.clone().map(DeviceId),
        output: settings.output_device.clone().map(DeviceId),
        ..CardChoice::both()
    };
    let parts = Parts {
        card: CardSource::Devices(card),
        engine: choice.loader(),
        setup,
        end_of_turn: choice.end_of_turn(),
        hands_free: settings.hands_free,
        eagerness: settings.eagerness,
        volume: settings.volume,
        store: choice.store.clone(),
        greeting: message.as_ref().map(Told::from),
    };
    interrupts_are_success();
    let extras = Extras {
        engines: Some(choice.factory()),
        archive: Some(Archive::new(choice.store.home().join("conversations"))),
        keep: settings.keep,
        engine: choice.of_the_catalog().map(str::to_owned),
    };
    let (session, events) = session::start_with(parts, extras).map_err(Failure::working)?;
    let commands = session.commands();
    commands.send(Command::SetHalfDuplex(settings.half_duplex));
    commands.send(Command::SetHeadphones(settings.headphones));
    commands.send(Command::SetSensitivity(settings.sensitivity));
    commands.send(Command::SetSpeed(settings.speed));
    let save = move |settings: &Settings| match &settings_path {
        Some(path) => settings.save(path).map_err(|e| Told::from(&e)),
        None => Ok(()),
    };
    let closed = app::run(commands, events, settings, save);
    session.stop();
    match closed {
        Err(error) if !interrupted() => {
            Err(Failure::working(format!("the window cannot be opened ({error}): update the graphics driver")))
        }
        _ => Ok(()),
    }
}

/// Whether there is somewhere to open a window.
fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v: std::ffi::OsString| !v.is_empty());
    !cfg!(all(unix, not(target_os = "macos"))) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
