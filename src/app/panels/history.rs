//! The kept conversations: found by their words, gone on with, exported, deleted. Window thread.

use super::super::theme::{Palette, bold};
use super::super::view_state::ViewState;
use super::super::widgets::{Icon, Look, focus_ring, follow_focus, icon_button, quiet_button};
use super::super::words::{count, fill, t};
use crate::conversation::export::Form;
use crate::session::command::Command;
use crate::session::event::ConversationEntry;
use eframe::egui::{
    Align, Button, CornerRadius, Frame, Label, Layout, Margin, Rect, RichText, Role, ScrollArea, Sense, TextEdit, Ui,
    UiBuilder, WidgetInfo, pos2, vec2,
};
use jiff::tz::TimeZone;

pub const SEARCH: &str = "history-search";
pub const DELETE_ALL: &str = "history-delete-all";
pub const DELETE_ALL_NOW: &str = "history-delete-all-now";
pub const KEEP_THEM: &str = "history-keep";
const ROW: f32 = 46.0;
/// With the question whether it is to be deleted.
const ASKED_ROW: f32 = 58.0;

/// What the panel remembers between frames.
#[derive(Debug, Default)]
pub struct HistoryPanel {
    query: String,
    asked: Option<Asked>,
}

/// What the user was asked about, before it is deleted for good.
#[derive(Debug, PartialEq)]
enum Asked {
    /// The conversation with this id.
    One(String),
    All,
}

/// The form's name on its button.
pub fn form_title(form: Form) -> &'static str {
    match form {
        Form::Markdown => t("form-markdown"),
        Form::Json => t("form-json"),
        Form::StereoWav => t("form-wav"),
    }
}

impl HistoryPanel {
    /// Draws the panel into all the room there is.
    pub fn show(&mut self, ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
        ui.add_space(10.0);
        ui.label(RichText::new(t("history-title")).family(bold()));
        ui.add_space(4.0);
        self.search(ui, commands);
        ui.add_space(6.0);
        let below = if self.asked == Some(Asked::All) { 160.0 } else { 130.0 };
        let room = (ui.available_height() - below).max(ROW);
        ScrollArea::vertical().max_height(room).auto_shrink([false, false]).content_margin(Margin::ZERO).show(
            ui,
            |ui| {
                ui.spacing_mut().item_spacing.y = 2.0;
                for entry in &view.history.list {
                    // Several may have the same title.
                    ui.push_id(&entry.id, |ui| {
                        self.row(ui, entry, view.history.open.as_ref() == Some(&entry.id), commands)
                    });
                }
                if view.history.list.is_empty() {
                    let text = match view.history.query.is_empty() {
                        true => t("history-empty"),
                        false => t("history-nothing"),
                    };
                    ui.add(Label::new(RichText::new(text).small().weak()).wrap());
                }
                follow_focus(ui);
            },
        );
        self.foot(ui, view, commands);
    }

    fn search(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui);
        Frame::new()
            .fill(palette.well)
            .corner_radius(CornerRadius::same(8))
            .inner_margin(Margin::symmetric(8, 4))
            .show(ui, |ui| {
                let field = TextEdit::singleline(&mut self.query)
                    .frame(Frame::NONE)
                    .hint_text(t(SEARCH))
                    .desired_width(f32::INFINITY);
                let field = ui.add(field);
                ui.ctx().accesskit_node_builder(field.id, |node| node.set_label(t(SEARCH)));
                if field.changed() {
                    commands.push(Command::ListConversations(self.query.trim().to_owned()));
                }
            });
    }

    fn foot(&mut self, ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
        ui.add_space(6.0);
        ui.label(RichText::new(t("history-export")).small().weak());
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for form in Form::ALL {
                if ui.add_enabled(view.history.open.is_some(), Button::new(form_title(form)).small()).clicked() {
                    let title = t("history-export").to_owned();
                    commands.push(Command::Export { id: None, form, title });
                }
            }
        });
        // All are all, not only those that were found.
        if view.history.list.is_empty() || !view.history.query.is_empty() {
            self.asked.take_if(|asked| *asked == Asked::All);
            return;
        }
        ui.add_space(2.0);
        if self.asked != Some(Asked::All) {
            if ui.add(Button::new(RichText::new(t(DELETE_ALL)).weak()).small()).clicked() {
                self.asked = Some(Asked::All);
                ui.ctx().request_repaint();
            }
            return;
        }
        ui.horizontal_wrapped(|ui| {
            if self.confirmed(ui, t(DELETE_ALL_NOW), t(DELETE_ALL_NOW), t(KEEP_THEM), t(KEEP_THEM)) {
                commands.push(Command::DeleteAllConversations);
            }
        });
    }

    /// The two answers, as drawn and as read out. Returns whether it was the first.
    fn confirmed(&mut self, ui: &mut Ui, delete: &str, delete_name: &str, keep: &str, keep_name: &str) -> bool {
        ui.spacing_mut().item_spacing.x = 4.0;
        let red = Palette::of(ui).red;
        let [delete, keep] =
            [(RichText::new(delete).color(red), delete_name), (RichText::new(keep), keep_name)].map(|(text, name)| {
                let button = ui.add(Button::new(text).small());
                button.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
                button.clicked()
            });
        if delete || keep {
            self.asked = None;
        }
        delete
    }

    /// One conversation: its first words and when it began. The whole row opens it.
    fn row(&mut self, ui: &mut Ui, entry: &ConversationEntry, open: bool, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui);
        let asked = self.asked.as_ref().is_some_and(|asked| matches!(asked, Asked::One(id) if *id == entry.id));
        let height = if asked { ASKED_ROW } else { ROW };
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click());
        let title = if entry.title.is_empty() { t("history-wordless") } else { entry.title.as_str() };
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, open, title));
        let over = response.hovered() || response.has_focus();
        if open || over {
            let fill = if open { palette.tint } else { palette.well };
            ui.painter().rect_filled(rect, CornerRadius::same(8), fill);
        }
        focus_ring(ui, &response, rect, 8);
        let trash = Rect::from_center_size(pos2(rect.right() - 16.0, rect.center().y), vec2(24.0, 24.0));
        let text = Rect::from_min_max(rect.min + vec2(8.0, 5.0), pos2(trash.left() - 2.0, rect.bottom() - 4.0));
        ui.scope_builder(UiBuilder::new().max_rect(text).layout(Layout::top_down(Align::Min)), |ui| {
            ui.spacing_mut().item_spacing.y = 1.0;
            ui.add(Label::new(title).selectable(false).truncate());
            if asked {
                let name = |key| fill(key, &[("title", title)]);
                let (delete, keep) = (name("history-delete-now-one"), name("history-keep-one"));
                let ask =
                    |ui: &mut Ui| self.confirmed(ui, t("history-delete-now"), &delete, t("history-keep-it"), &keep);
                if ui.horizontal(ask).inner {
                    commands.push(Command::DeleteConversation { id: entry.id.clone(), open });
                }
                return;
            }
            let began = entry.began.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M");
            let turns = count("history-turns", entry.turns);
            let facts = RichText::new(format!("{began} · {turns}")).small().color(palette.muted);
            ui.add(Label::new(facts).selectable(false).truncate());
        });
        let name = fill("history-delete", &[("title", title)]);
        let shown = over || ui.rect_contains_pointer(rect);
        let delete = (!asked).then(|| quiet_button(ui, trash, Icon::Delete, &name, shown));
        if delete.is_some_and(|delete| delete.on_hover_text(t("history-delete-hint")).clicked()) {
            self.asked = Some(Asked::One(entry.id.clone()));
            ui.ctx().request_repaint();
        } else if response.clicked() && !open {
            commands.push(Command::OpenConversation(entry.id.clone()));
        }
    }
}

/// The button that shows and hides the panel.
pub fn toggle(ui: &mut Ui, label: &str, open: bool) -> bool {
    let look = if open { Look::Raised } else { Look::Plain };
    icon_button(ui, Icon::History, label, look, true).clicked()
}
