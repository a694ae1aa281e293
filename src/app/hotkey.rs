//! The key that talks while another program has the keyboard: one key of the whole desktop, held as the talk button is.
//!
//! Lives on the window thread, which is where macOS and Windows want it. Presses come from a thread of the library (on X11 it
//! looks every 50 ms, and only while a key is chosen); they wake the window, and nothing else here does. Invariants: at most
//! one key is held; a key that cannot be had is a [`Refusal`] to show, and never stops the window.

use crate::time::Micros;
use eframe::egui::Context;
use global_hotkey::hotkey::HotKey;
use global_hotkey::{Error, GlobalHotKeyEvent, GlobalHotKeyManager, HotKeyState};
use std::ffi::OsString;
use std::sync::mpsc::{self, Receiver};

/// Keys to choose from: such as few programs want for themselves, on keyboards of every size. The settings' file takes any
/// other, in the same words.
pub const KEYS: [&str; 6] = ["Ctrl+Alt+Space", "Ctrl+Shift+Space", "F8", "F9", "F12", "Pause"];

/// Why there is no such key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The desktop gives no program the keys of another, whichever they are.
    Wayland,
    /// Somebody else has this key.
    Taken,
    /// There is no key of this name, or not on this keyboard.
    NoKey,
    /// Another reason, in the system's words.
    Failed(String),
}

/// The key went down, or came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStroke {
    pub down: bool,
    pub at: Micros,
}

/// Where a key can be had: the desktop's keyboard, or a test's.
pub trait Keyboard {
    /// From now on this key, and no other, is this program's.
    fn hold(&mut self, key: &str) -> Result<(), Refusal>;
    /// No key is.
    fn free(&mut self);
}

/// The key, and what it does.
pub struct Hotkey {
    keyboard: Option<Box<dyn Keyboard>>,
    strokes: Receiver<KeyStroke>,
    /// The key that was asked for last.
    key: Option<String>,
    refusal: Option<Refusal>,
}

impl Hotkey {
    /// A key of this keyboard, whose strokes come through `strokes`.
    pub fn new(keyboard: impl Keyboard + 'static, strokes: Receiver<KeyStroke>) -> Self {
        Hotkey { keyboard: Some(Box::new(keyboard)), strokes, key: None, refusal: None }
    }

    /// There is none, for this reason if it is worth telling.
    pub fn none(refusal: Option<Refusal>) -> Self {
        Hotkey { keyboard: None, strokes: mpsc::channel().1, key: None, refusal }
    }

    /// A key of this desktop. Its strokes wake the window of `ctx`.
    pub fn of_the_desktop(ctx: &Context) -> Self {
        if is_wayland(|name| std::env::var_os(name)) {
            return Hotkey::none(Some(Refusal::Wayland));
        }
        let (sender, strokes) = mpsc::channel();
        let waker = ctx.clone();
        GlobalHotKeyEvent::set_event_handler(Some(move |event: GlobalHotKeyEvent| {
            // The window is gone only when the program ends.
            let _ = sender.send(KeyStroke { down: event.state == HotKeyState::Pressed, at: Micros::now() });
            waker.request_repaint();
        }));
        Hotkey::new(Desktop::default(), strokes)
    }

    /// Holds the key that the settings name, and only it. Returns whether that is another one than before.
    pub fn follow(&mut self, key: Option<&str>) -> bool {
        let Some(keyboard) = &mut self.keyboard else { return false };
        if self.key.as_deref() == key {
            return false;
        }
        keyboard.free();
        self.refusal = key.and_then(|key| keyboard.hold(key).err());
        if let Some(why) = &self.refusal {
            tracing::info!("no key for all programs: {why:?}");
        }
        self.key = key.map(str::to_owned);
        true
    }

    /// Why there is no key, though one was asked for.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// What the key did next.
    pub fn next(&self) -> Option<KeyStroke> {
        self.strokes.try_recv().ok()
    }
}

/// Whether the desktop is one that keeps every key to the window that has the keyboard. A program that is made to use X on
/// such a desktop gets the keys of other X programs only.
fn is_wayland(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    cfg!(all(unix, not(target_os = "macos")))
        && (set("WAYLAND_DISPLAY")
            || set("WAYLAND_SOCKET")
            || variable("XDG_SESSION_TYPE").is_some_and(|kind| kind == "wayland"))
}

/// The desktop's keyboard. What the library has for it (a thread, on X11) is there only while a key is held.
#[derive(Default)]
struct Desktop {
    held: Option<(GlobalHotKeyManager, HotKey)>,
}

impl Keyboard for Desktop {
    fn hold(&mut self, key: &str) -> Result<(), Refusal> {
        self.free();
        let key: HotKey = key.parse().map_err(|_| Refusal::NoKey)?;
        let refusal = |error| match error {
            Error::AlreadyRegistered(_) => Refusal::Taken,
            Error::FailedToRegister(why) if why.contains("keycode") || why.contains("scancode") => Refusal::NoKey,
            other => Refusal::Failed(other.to_string()),
        };
        let manager = GlobalHotKeyManager::new().map_err(refusal)?;
        manager.register(key).map_err(refusal)?;
        // On X11 a thread that found no server has ended without a word, and everything it is asked is granted. One that
        // lives says that it has this key already.
        let lives = || matches!(manager.register(key), Err(Error::AlreadyRegistered(_)));
        if cfg!(all(unix, not(target_os = "macos"))) && !lives() {
            return Err(Refusal::Failed("the X server".into()));
        }
        self.held = Some((manager, key));
        Ok(())
    }

    fn free(&mut self) {
        if let Some((manager, key)) = self.held.take()
            && let Err(error) = manager.unregister(key)
        {
            tracing::debug!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A keyboard on which somebody else has F9; it notes what was asked of it.
    struct Noted(Arc<Mutex<Vec<String>>>);

    impl Keyboard for Noted {
        fn hold(&mut self, key: &str) -> Result<(), Refusal> {
            self.0.lock().unwrap().push(key.to_owned());
            if key == "F9" { Err(Refusal::Taken) } else { Ok(()) }
        }

        fn free(&mut self) {
            self.0.lock().unwrap().push("free".into());
        }
    }

    #[test]
    fn one_key_is_held_at_a_time_and_a_refusal_is_forgotten_with_its_key() {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let mut hotkey = Hotkey::new(Noted(Arc::clone(&noted)), mpsc::channel().1);
        assert!(!hotkey.follow(None) && hotkey.follow(Some("F8")) && !hotkey.follow(Some("F8")));
        assert!(hotkey.follow(Some("F9")) && hotkey.refusal() == Some(&Refusal::Taken));
        assert!(hotkey.follow(None) && hotkey.refusal().is_none());
        assert_eq!(*noted.lock().unwrap(), ["free", "F8", "free", "F9", "free"]);
    }

    #[test]
    fn where_there_is_no_keyboard_the_reason_stays() {
        let mut hotkey = Hotkey::none(Some(Refusal::Wayland));
        assert!(!hotkey.follow(Some("F8")) && hotkey.refusal() == Some(&Refusal::Wayland) && hotkey.next().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn wayland_is_told_by_its_socket_or_by_the_session() {
        let with = |set: &'static str, to: &'static str| is_wayland(|name| (name == set).then(|| to.into()));
        assert!(with("WAYLAND_DISPLAY", "wayland-0") && with("XDG_SESSION_TYPE", "wayland"));
        assert!(!with("WAYLAND_DISPLAY", "") && !with("XDG_SESSION_TYPE", "x11") && !with("DISPLAY", ":0"));
    }

    #[test]
    fn every_key_on_offer_is_one() {
        for key in KEYS {
            assert!(key.parse::<HotKey>().is_ok(), "{key}");
        }
        let mut desktop = Desktop::default();
        assert_eq!(desktop.hold("Ctrl+Nonsense"), Err(Refusal::NoKey));
    }
}
