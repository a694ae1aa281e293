//! What can be done with a turn: hear it again, copy it, ask it again. Window thread.
//!
//! The buttons stand beside the bubble they belong to, and are drawn only where the pointer or the keyboard is, or at
//! the last turn; screen readers always find them.

use super::super::view_state::{TurnView, ViewState};
use super::super::widgets::{Icon, quiet_button};
use super::super::words::{fill, t};
use crate::conversation::Side;
use crate::session::command::Command;
use crate::session::event::Replay;
use eframe::egui::{Rect, Ui, pos2, vec2};

const BUTTON: f32 = 26.0;

/// The name of a turn's button for screen readers.
pub fn label(what: &'static str, turn: u64) -> String {
    fill("of-turn", &[("what", t(what)), ("turn", &turn.to_string())])
}

pub const REPLAY_QUESTION: &str = "replay-question";
pub const REPLAY_ANSWER: &str = "replay-answer";
pub const STOP_REPLAY: &str = "stop-replay";
pub const COPY_QUESTION: &str = "copy-question";
pub const COPY_ANSWER: &str = "copy-answer";
pub const ASK_AGAIN: &str = "ask-again";

/// Draws the buttons of one side, beside its `bubble`, towards the middle of the window.
pub fn actions(
    ui: &mut Ui,
    view: &ViewState,
    turn: &TurnView,
    side: Side,
    bubble: Rect,
    shown: bool,
    commands: &mut Vec<Command>,
) {
    let mut place = 0.0;
    let mut button = |ui: &mut Ui, icon: Icon, what: &'static str| {
        let x = match side {
            Side::User => bubble.left() - 6.0 - BUTTON * (place + 1.0),
            Side::Assistant => bubble.right() + 6.0 + BUTTON * place,
        };
        place += 1.0;
        let rect = Rect::from_min_size(pos2(x, bubble.bottom() - BUTTON - 3.0), vec2(BUTTON, BUTTON));
        quiet_button(ui, rect, icon, &label(what, turn.turn), shown).on_hover_text(t(what)).clicked()
    };
    let (text, sound, replay, copy) = match side {
        Side::User => (&turn.heard, turn.user_sound, REPLAY_QUESTION, COPY_QUESTION),
        Side::Assistant => (&turn.answer, turn.answer_sound, REPLAY_ANSWER, COPY_ANSWER),
    };
    if view.replaying == Some(Replay { turn: turn.turn, side }) {
        if button(ui, Icon::Stop, STOP_REPLAY) {
            commands.push(Command::StopReplay);
        }
    } else if sound && button(ui, Icon::Play, replay) {
        commands.push(Command::Replay { turn: turn.turn, side });
    }
    // A question nobody wrote down can be heard again, and no more.
    if text.is_empty() {
        return;
    }
    if button(ui, Icon::Copy, copy) {
        ui.ctx().copy_text(text.clone());
    }
    if side == Side::User && view.can_talk() && button(ui, Icon::Again, ASK_AGAIN) {
        commands.push(Command::SendText(turn.heard.clone()));
    }
}
