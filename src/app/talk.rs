//! The talk button's manners: hold it to talk, or tap it to start and tap it again to end. Pure: time is an argument.

use crate::session::command::Command;
use crate::session::event::TurnState;
use crate::time::Micros;
use std::time::Duration;

/// A press shorter than this is a tap.
const TAP: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Button {
    #[default]
    Up,
    /// Pressed at this time, and still down.
    Held(Micros),
    /// Tapped: stays on until the next press.
    Latched,
}

/// The button and whether the session has followed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TalkButton {
    button: Button,
    /// Whether the session has been seen hearing the user since the press.
    followed: bool,
}

impl TalkButton {
    /// Whether the user is talking by means of the button.
    pub fn is_on(&self) -> bool {
        self.button != Button::Up
    }

    pub fn is_latched(&self) -> bool {
        self.button == Button::Latched
    }

    pub fn press(&mut self, now: Micros) -> Option<Command> {
        match self.button {
            Button::Up => {
                *self = TalkButton { button: Button::Held(now), followed: false };
                Some(Command::Talk)
            }
            Button::Latched => self.end(),
            Button::Held(_) => None,
        }
    }

    pub fn release(&mut self, now: Micros) -> Option<Command> {
        match self.button {
            Button::Held(since) if now.since(since) < TAP => {
                self.button = Button::Latched;
                None
            }
            Button::Held(_) => self.end(),
            Button::Up | Button::Latched => None,
        }
    }

    /// The button can no longer be seen to be released (the window lost the keyboard), or talking makes no sense.
    pub fn let_go(&mut self) -> Option<Command> {
        if self.is_on() { self.end() } else { None }
    }

    /// The session's state, told every frame: when the session has ended the turn by itself, the button comes up.
    pub fn follow(&mut self, state: &TurnState) {
        match state {
            TurnState::Capturing | TurnState::MaybeDone => self.followed = true,
            _ if self.followed => *self = TalkButton::default(),
            _ => {}
        }
    }

    fn end(&mut self) -> Option<Command> {
        *self = TalkButton::default();
        Some(Command::TalkEnd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    #[test]
    fn holding_talks_until_the_release() {
        let mut talk = TalkButton::default();
        assert_eq!(talk.press(at(0)), Some(Command::Talk));
        assert_eq!(talk.press(at(100)), None);
        assert!(talk.is_on() && !talk.is_latched());
        assert_eq!(talk.release(at(1000)), Some(Command::TalkEnd));
        assert_eq!((talk.is_on(), talk.release(at(1001))), (false, None));
    }

    #[test]
    fn a_tap_talks_until_the_next_tap() {
        let mut talk = TalkButton::default();
        assert_eq!((talk.press(at(0)), talk.release(at(80))), (Some(Command::Talk), None));
        assert!(talk.is_latched());
        assert_eq!((talk.press(at(5000)), talk.release(at(5080))), (Some(Command::TalkEnd), None));
        assert!(!talk.is_on());
    }

    #[test]
    fn the_button_comes_up_when_the_session_ends_the_turn() {
        let mut talk = TalkButton::default();
        talk.press(at(0));
        talk.release(at(10));
        // Not yet followed: the session still says what was before.
        talk.follow(&TurnState::Listening);
        assert!(talk.is_on());
        talk.follow(&TurnState::Capturing);
        talk.follow(&TurnState::MaybeDone);
        assert!(talk.is_on());
        talk.follow(&TurnState::Thinking);
        assert!(!talk.is_on());
        assert_eq!(talk.let_go(), None);
    }

    #[test]
    fn a_window_that_loses_the_keyboard_lets_go() {
        let mut talk = TalkButton::default();
        talk.press(at(0));
        assert_eq!(talk.let_go(), Some(Command::TalkEnd));
        assert_eq!(talk.press(at(10)), Some(Command::Talk));
    }
}
