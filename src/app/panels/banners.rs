//! What is wrong and what to do about it, above the conversation. Window thread.

use super::super::theme::Palette;
use super::super::view_state::ViewState;
use super::super::widgets::{Icon, Look, icon_button};
use super::super::words::{t, told};
use crate::session::command::Command;
use crate::session::event::{Severity, TurnState};
use eframe::egui::accesskit::Live;
use eframe::egui::{Align, CornerRadius, Frame, Label, Layout, Margin, RichText, Stroke, Ui};

/// The label of the button that asks the session to try again.
pub const RETRY: &str = "retry";

/// Draws all banners that apply, and what two of them would say once. A fault and a lost device stay while they last; the
/// rest can be closed.
pub fn show(ui: &mut Ui, view: &mut ViewState, commands: &mut Vec<Command>) {
    if view.session_gone {
        banner(ui, Severity::Error, t("stopped-what"), t("stopped-remedy"), None);
    }
    let retry = match &view.state {
        // The first steps say what to do about models that are missing.
        TurnState::Faulted { .. } if view.is_first_run() => false,
        TurnState::Faulted { why, remedy } => banner(ui, Severity::Error, &told(why), &told(remedy), Some(t(RETRY))),
        TurnState::Degraded { why } => {
            let why: Vec<String> = why.iter().map(told).collect();
            banner(ui, Severity::Warning, &why.join("\n"), t("degraded-remedy"), None)
        }
        _ => false,
    };
    if retry {
        commands.push(Command::RetryAfterFault);
    }
    let mut dismissed = None;
    for (index, problem) in view.problems.iter().enumerate().filter(|(_, problem)| !view.state_says(problem)) {
        let close = closable(ui, problem.severity, &told(&problem.what), &told(&problem.remedy));
        if close {
            dismissed = Some(index);
        }
    }
    if let Some(index) = dismissed {
        view.dismiss(index);
    }
}

/// A banner that stays, with a button if there is something to press. Returns whether it was pressed.
fn banner(ui: &mut Ui, severity: Severity, what: &str, remedy: &str, button: Option<&str>) -> bool {
    frame(ui, severity, what, remedy, |ui| button.is_some_and(|label| ui.button(label).clicked()))
}

/// A banner that the user can close. Returns whether he did.
fn closable(ui: &mut Ui, severity: Severity, what: &str, remedy: &str) -> bool {
    frame(ui, severity, what, remedy, |ui| icon_button(ui, Icon::Close, t("dismiss"), Look::Plain, true).clicked())
}

fn frame(ui: &mut Ui, severity: Severity, what: &str, remedy: &str, control: impl FnOnce(&mut Ui) -> bool) -> bool {
    let (colour, ground) = Palette::of(ui).of_severity(severity);
    let frame = Frame::new()
        .fill(ground)
        .stroke(Stroke::new(1.0, colour.gamma_multiply(0.5)))
        .corner_radius(CornerRadius::same(10))
        .inner_margin(Margin::symmetric(12, 8))
        .outer_margin(Margin { bottom: 6, ..Margin::ZERO });
    frame
        .show(ui, |ui| {
            ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
                let used = control(ui);
                ui.with_layout(Layout::top_down(Align::Min), |ui| {
                    ui.spacing_mut().item_spacing.y = 2.0;
                    let told = ui.add(Label::new(RichText::new(what).strong().color(colour)).wrap());
                    let live = if severity == Severity::Error { Live::Assertive } else { Live::Polite };
                    ui.ctx().accesskit_node_builder(told.id, |node| node.set_live(live));
                    if !remedy.is_empty() {
                        ui.add(Label::new(RichText::new(remedy).color(Palette::of(ui).text)).wrap());
                    }
                });
                used
            })
            .inner
        })
        .inner
}
