//! The exchanges, as bubbles. Window thread.
//!
//! The words of an answer gain their full colour as they are heard; what was cut off stays readable, struck through.

use super::super::theme::{CARD_RADIUS, Palette};
use super::super::view_state::{TurnView, ViewState};
use super::super::widgets::follow_focus;
use super::super::words::{fill, t, told};
use super::exchange;
use crate::conversation::Side;
use crate::session::command::Command;
use crate::session::event::TurnState;
use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{
    Align, Color32, CornerRadius, Label, Layout, Margin, Rect, RichText, ScrollArea, Sense, Stroke, StrokeKind,
    TextStyle, Ui, UiBuilder, pos2, vec2,
};
use jiff::Zoned;
use jiff::tz::TimeZone;
use std::borrow::Cow;

/// What stands under an answer that was broken off.
pub const NOT_HEARD: &str = "not-heard";

const BUBBLE_MAX: f32 = 580.0;
const PADDING: f32 = 12.0;

/// Draws the conversation into all the room there is.
pub fn show(ui: &mut Ui, view: &ViewState, hands_free: bool, commands: &mut Vec<Command>) {
    if view.turns.is_empty() {
        welcome(ui, view, hands_free);
        return;
    }
    ScrollArea::vertical().auto_shrink([false, false]).stick_to_bottom(true).content_margin(Margin::ZERO).show(
        ui,
        |ui| {
            ui.add_space(4.0);
            let last = view.turns.len() - 1;
            for (index, turn) in view.turns.iter().enumerate() {
                one_exchange(ui, view, turn, index == last, commands);
            }
            ui.add_space(4.0);
            follow_focus(ui);
        },
    );
}

fn one_exchange(ui: &mut Ui, view: &ViewState, turn: &TurnView, last: bool, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let top = ui.cursor().top();
    let mut bubbles: [Option<(Side, Rect)>; 2] = [None, None];
    let question = match turn.question_seconds {
        Some(seconds) if turn.heard.is_empty() => {
            Cow::Owned(fill("spoken-for", &[("seconds", &format!("{seconds:.1}"))]))
        }
        _ => Cow::Borrowed(turn.heard.as_str()),
    };
    if !question.is_empty() {
        let colour = if turn.heard_final && !turn.heard.is_empty() { palette.text } else { palette.muted };
        let mut job = LayoutJob::default();
        job.append(&question, 0.0, body(ui, colour));
        bubbles[0] = Some((Side::User, bubble(ui, Side::User, job)));
    }
    if turn.answer.is_empty() {
        if last && view.state == TurnState::Thinking {
            dots(ui);
        }
    } else {
        bubbles[1] = Some((Side::Assistant, bubble(ui, Side::Assistant, answer_job(ui, turn))));
    }
    if turn.ended {
        footnote(ui, turn);
        let whole = Rect::from_x_y_ranges(ui.max_rect().x_range(), top..=ui.cursor().top());
        let shown = last || ui.rect_contains_pointer(whole);
        for (side, rect) in bubbles.into_iter().flatten() {
            exchange::actions(ui, view, turn, side, rect, shown, commands);
        }
    }
    ui.add_space(8.0);
}

/// The answer with its heard and unheard part told apart.
fn answer_job(ui: &Ui, turn: &TurnView) -> LayoutJob {
    let palette = Palette::of(ui);
    let (heard, rest) = turn.answer_parts();
    let mut job = LayoutJob::default();
    job.append(heard, 0.0, body(ui, palette.text));
    let mut unheard = body(ui, palette.muted);
    if turn.cut_off {
        unheard.strikethrough = Stroke::new(1.0, palette.muted);
    }
    job.append(rest, 0.0, unheard);
    job
}

fn body(ui: &Ui, color: Color32) -> TextFormat {
    let font_id = TextStyle::Body.resolve(ui.style());
    TextFormat { line_height: Some(font_id.size * 1.45), font_id, color, ..TextFormat::default() }
}

/// Draws a bubble and says where it is.
fn bubble(ui: &mut Ui, side: Side, mut job: LayoutJob) -> Rect {
    let palette = Palette::of(ui);
    let room = ui.available_width();
    job.wrap.max_width = (room * 0.82).min(BUBBLE_MAX) - 2.0 * PADDING;
    let galley = ui.painter().layout_job(job);
    let size = galley.size() + vec2(2.0 * PADDING, 16.0);
    let (row, _) = ui.allocate_exact_size(vec2(room, size.y), Sense::hover());
    let left = if side == Side::User { row.right() - size.x } else { row.left() };
    let rect = Rect::from_min_size(pos2(left, row.top()), size);
    let (fill, stroke) = match side {
        Side::User => (palette.tint, Stroke::NONE),
        Side::Assistant => (palette.card, Stroke::new(1.0, palette.border)),
    };
    // The corner towards the speaker is sharper.
    let mut corners = CornerRadius::same(CARD_RADIUS);
    match side {
        Side::User => corners.se = 4,
        Side::Assistant => corners.sw = 4,
    }
    ui.painter().rect(rect, corners, fill, stroke, StrokeKind::Inside);
    let inner = Rect::from_min_size(rect.min + vec2(PADDING, 8.0), galley.size());
    // In a room of its own, so that the row alone decides where the next bubble goes.
    ui.new_child(UiBuilder::new().max_rect(inner)).add(Label::new(galley).selectable(true));
    rect
}

/// Three dots that swell one after the other. The frame rate is the caller's.
fn dots(ui: &mut Ui) {
    let palette = Palette::of(ui);
    let (row, response) = ui.allocate_exact_size(vec2(64.0, 34.0), Sense::hover());
    response.widget_info(|| eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Label, true, t("answer-coming")));
    let stroke = Stroke::new(1.0, palette.border);
    ui.painter().rect(row, CornerRadius::same(CARD_RADIUS), palette.card, stroke, StrokeKind::Inside);
    let time = ui.input(|input| input.time) as f32;
    for dot in 0..3 {
        let swell = 0.5 + 0.5 * (time * 5.0 - dot as f32 * 0.9).sin();
        let centre = row.center() + vec2((dot as f32 - 1.0) * 13.0, 0.0);
        ui.painter().circle_filled(centre, 3.2, palette.muted.gamma_multiply(0.35 + 0.65 * swell));
    }
}

fn footnote(ui: &mut Ui, turn: &TurnView) {
    let palette = Palette::of(ui);
    ui.horizontal(|ui| {
        ui.add_space(4.0);
        if turn.cut_off && turn.spoken < turn.answer.len() {
            ui.label(RichText::new(t(NOT_HEARD)).small().color(palette.amber));
        }
        if let Some(at) = turn.at {
            let at = at.to_zoned(TimeZone::system());
            let today = at.date() == Zoned::now().date();
            let form = if today { "%H:%M" } else { "%Y-%m-%d %H:%M" };
            ui.label(RichText::new(at.strftime(form).to_string()).small().weak());
        }
        if let Some(ttfa) = turn.ttfa_ms {
            ui.label(
                RichText::new(fill("answered-in", &[("seconds", &format!("{:.2}", ttfa / 1000.0))])).small().weak(),
            );
        }
    });
}

/// What to do when nothing has been said.
fn welcome(ui: &mut Ui, view: &ViewState, hands_free: bool) {
    let (title, text) = match &view.state {
        TurnState::Idle => (t("welcome-idle"), t("welcome-idle-text")),
        TurnState::Loading => (t("welcome-loading"), t("welcome-loading-text")),
        TurnState::Faulted { .. } => (t("welcome-fault"), t("welcome-fault-text")),
        _ if hands_free => (t("welcome"), t("welcome-text")),
        _ => (t("welcome"), t("welcome-hold-text")),
    };
    let rect = ui.available_rect_before_wrap();
    ui.with_layout(Layout::top_down(Align::Center), |ui| {
        ui.add_space((rect.height() / 2.0 - 64.0).max(8.0));
        ui.label(RichText::new(title).heading().size(24.0));
        ui.add_space(2.0);
        ui.set_max_width(420.0_f32.min(rect.width()));
        ui.add(Label::new(RichText::new(text).color(Palette::of(ui).muted)).wrap());
        if let (true, true, Some(pull)) = (view.can_talk(), view.is_pulling(), &view.pull) {
            let still = fill("welcome-pulling", &[("title", view.title_of(&pull.id))]);
            ui.add(Label::new(RichText::new(still).small().weak()).wrap());
        }
        if let (TurnState::Loading, Some(loading)) = (&view.state, &view.loading) {
            ui.add_space(10.0);
            super::models::progress(ui, loading.fraction, &fill("loading", &[("what", &told(&loading.what))]), 260.0);
        }
    });
}
