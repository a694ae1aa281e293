//! The bottom of the window: typing, talking, loudness, stopping. Window thread.

use super::super::hotkey::KeyStroke;
use super::super::talk::TalkButton;
use super::super::theme::{CARD_RADIUS, Palette};
use super::super::view_state::ViewState;
use super::super::widgets::{Icon, Look, arc, focus_ring, icon_button, level_bar, level_fraction, switch};
use super::super::words::t;
use crate::session::command::Command;
use crate::session::event::TurnState;
use crate::settings::Settings;
use crate::time::Micros;
use eframe::egui::accesskit::Live;
use eframe::egui::{
    Align, Button, CornerRadius, Frame, Key, Layout, Margin, Rect, RichText, Role, Sense, Stroke, TextEdit, Ui,
    UiBuilder, Vec2, WidgetInfo, pos2, vec2,
};

pub const TEXT_FIELD: &str = "talk-type";
pub const SEND: &str = "talk-send";
pub const STOP: &str = "talk-stop";
pub const TALK: &str = "talk-talk";
pub const HANDS_FREE: &str = "talk-hands-free";
pub const MUTE: &str = "talk-mute";
pub const UNMUTE: &str = "talk-unmute";

/// The height of the row with the talk button.
const TALK_ROW: f32 = 94.0;
const TALK_RADIUS: f32 = 29.0;

/// What the bar remembers between frames.
#[derive(Debug, Default)]
pub struct TalkBar {
    pub draft: String,
    pub talk: TalkButton,
    pub muted: bool,
    was_down: bool,
    /// Whether the key for all programs is down.
    hotkey_down: bool,
}

/// The state as it is shown: that models are missing is no fault at the first steps, which fetch them.
fn shown_state(view: &ViewState) -> &TurnState {
    match &view.state {
        TurnState::Faulted { .. } if view.is_first_run() => &TurnState::Idle,
        state => state,
    }
}

/// The words for a state, next to the talk button.
pub fn state_label(view: &ViewState, hands_free: bool) -> &'static str {
    if view.session_gone {
        return t("state-gone");
    }
    match shown_state(view) {
        TurnState::Idle => t("state-idle"),
        TurnState::Loading => t("state-loading"),
        TurnState::Listening if hands_free => t("state-listening"),
        TurnState::Listening => t("state-ready"),
        TurnState::Capturing => t("state-capturing"),
        TurnState::MaybeDone => t("state-maybe-done"),
        TurnState::Thinking => t("state-thinking"),
        TurnState::Speaking => t("state-speaking"),
        TurnState::Ducked => t("state-ducked"),
        TurnState::Degraded { .. } => t("state-degraded"),
        TurnState::Faulted { .. } => t("state-faulted"),
    }
}

impl TalkBar {
    /// Draws the bar.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        view: &ViewState,
        settings: &mut Settings,
        now: Micros,
        commands: &mut Vec<Command>,
    ) {
        self.talk.follow(&view.state);
        self.text_row(ui, view, commands);
        let (row, _) = ui.allocate_exact_size(vec2(ui.available_width(), TALK_ROW), Sense::hover());
        let third = row.width() / 3.0;
        let part =
            |index: f32| Rect::from_min_size(row.min + vec2(third * index, 4.0), vec2(third, row.height() - 4.0));
        ui.scope_builder(UiBuilder::new().max_rect(part(0.0)), |ui| self.microphone(ui, view, settings, commands));
        ui.scope_builder(UiBuilder::new().max_rect(part(2.0)), |ui| loudspeaker(ui, view, commands));
        self.talk_button(ui, part(1.0), view, settings, now, commands);
    }

    fn text_row(&mut self, ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui);
        let frame = Frame::new()
            .fill(palette.card)
            .stroke(Stroke::new(1.0, palette.border))
            .corner_radius(CornerRadius::same(CARD_RADIUS))
            .inner_margin(Margin { left: 12, right: 4, top: 4, bottom: 4 });
        frame.show(ui, |ui| {
            let room = vec2(ui.available_width(), 32.0);
            ui.allocate_ui_with_layout(room, Layout::right_to_left(Align::Center), |ui| {
                let has_text = !self.draft.trim().is_empty() && view.can_talk();
                let send = icon_button(ui, Icon::Send, t(SEND), Look::Accent, has_text);
                let field = TextEdit::singleline(&mut self.draft)
                    .frame(Frame::NONE)
                    .hint_text(t(TEXT_FIELD))
                    .desired_width(ui.available_width() - 8.0);
                let field = ui.add(field);
                // The hint is gone once there is text; the name stays.
                ui.ctx().accesskit_node_builder(field.id, |node| node.set_label(t(TEXT_FIELD)));
                let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
                if has_text && (send.clicked() || entered) {
                    commands.push(Command::SendText(self.draft.trim().to_owned()));
                    self.draft.clear();
                    field.request_focus();
                }
            });
        });
    }

    fn microphone(&mut self, ui: &mut Ui, view: &ViewState, settings: &mut Settings, commands: &mut Vec<Command>) {
        ui.add_space(10.0);
        ui.horizontal(|ui| {
            let (icon, label, look) = match self.muted {
                true => (Icon::MicrophoneOff, t(UNMUTE), Look::Alert),
                false => (Icon::Microphone, t(MUTE), Look::Plain),
            };
            if icon_button(ui, icon, label, look, true).clicked() {
                self.muted = !self.muted;
                commands.push(Command::SetMuted(self.muted));
            }
            let width = (ui.available_width() - 12.0).clamp(20.0, 150.0);
            level_bar(ui, view.mic_db, width, t("level-microphone"));
        });
        ui.horizontal(|ui| {
            ui.add_space(4.0);
            if switch(ui, &mut settings.hands_free, t(HANDS_FREE)).changed() {
                commands.push(Command::SetHandsFree(settings.hands_free));
            }
        });
    }

    /// The key for all programs does what the button does, also while the window is not drawn.
    pub fn hotkey(&mut self, stroke: KeyStroke, view: &ViewState) -> Option<Command> {
        self.talk.follow(&view.state);
        let was_down = std::mem::replace(&mut self.hotkey_down, stroke.down);
        match (was_down, stroke.down) {
            // The button is down already.
            _ if self.was_down => None,
            (false, true) if self.can_talk(view) => self.talk.press(stroke.at),
            (true, false) => self.talk.release(stroke.at),
            _ => None,
        }
    }

    /// The key for all programs is another one: nobody will see this one come up.
    pub fn hotkey_gone(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.hotkey_down) { self.talk.let_go() } else { None }
    }

    fn can_talk(&self, view: &ViewState) -> bool {
        view.can_talk() && !self.muted
    }

    /// Presses and releases from pointer, keyboard and screen reader, made one.
    fn handle_talk(&mut self, down: bool, clicked: bool, focused: bool, now: Micros, commands: &mut Vec<Command>) {
        match (self.was_down, down) {
            // The key for all programs holds the button.
            _ if self.hotkey_down => {}
            (false, true) => commands.extend(self.talk.press(now)),
            (true, false) => commands.extend(self.talk.release(now)),
            // A click without a press: a screen reader, or both in one frame.
            (false, false) if clicked => {
                commands.extend(self.talk.press(now));
                commands.extend(self.talk.release(now));
            }
            _ => {}
        }
        self.was_down = down;
        // A window without the keyboard may never learn of the release, but of that of the key for all programs.
        if !focused && !self.hotkey_down && !self.talk.is_latched() {
            commands.extend(self.talk.let_go());
        }
    }

    fn talk_button(
        &mut self,
        ui: &mut Ui,
        part: Rect,
        view: &ViewState,
        settings: &Settings,
        now: Micros,
        commands: &mut Vec<Command>,
    ) {
        let enabled = self.can_talk(view);
        let centre = pos2(part.center().x, part.top() + TALK_RADIUS + 4.0);
        let rect = Rect::from_center_size(centre, Vec2::splat(2.0 * TALK_RADIUS));
        let sense = if enabled { Sense::click() } else { Sense::hover() };
        let response = ui.interact(rect, ui.scope_id().with("talk"), sense);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, t(TALK)));

        if enabled {
            let free = !ui.ctx().egui_wants_keyboard_input();
            let space = free && ui.input(|input| input.key_down(Key::Space));
            let down = response.is_pointer_button_down_on() || space;
            let focused = ui.input(|input| input.focused);
            self.handle_talk(down, response.clicked(), focused, now, commands);
        } else {
            commands.extend(self.talk.let_go());
            (self.was_down, self.hotkey_down) = (false, false);
        }

        let palette = Palette::of(ui);
        let colour = palette.of_state(shown_state(view));
        self.paint_button(ui, centre, view, enabled, response.hovered());
        focus_ring(ui, &response, rect, TALK_RADIUS as u8);
        let label =
            if self.muted && view.can_talk() { t("state-muted") } else { state_label(view, settings.hands_free) };
        let below = Rect::from_min_max(pos2(part.left(), rect.bottom() + 4.0), part.max);
        ui.scope_builder(UiBuilder::new().max_rect(below).layout(Layout::top_down(Align::Center)), |ui| {
            let said = ui.label(RichText::new(label).color(colour).family(super::super::theme::bold()).size(13.5));
            ui.ctx().accesskit_node_builder(said.id, |node| node.set_live(Live::Polite));
        });
        response.on_hover_text(match self.talk.is_latched() {
            true => t("talk-hint-latched"),
            false => t("talk-hint"),
        });
    }

    fn paint_button(&self, ui: &Ui, centre: eframe::egui::Pos2, view: &ViewState, enabled: bool, over: bool) {
        let palette = Palette::of(ui);
        let colour = palette.of_state(shown_state(view));
        let time = ui.input(|input| input.time) as f32;
        let painter = ui.painter();
        // The halo grows with the voice that is heard: the user's while he speaks, the assistant's while it does.
        let voice = match view.state {
            TurnState::Capturing | TurnState::MaybeDone => level_fraction(view.mic_db),
            TurnState::Speaking | TurnState::Ducked => level_fraction(view.speaker_db),
            _ => 0.0,
        };
        if voice > 0.0 {
            painter.circle_filled(centre, TALK_RADIUS + 9.0 * voice, colour.gamma_multiply(0.22));
        }
        let fill = if enabled || view.can_interrupt() { colour } else { palette.well };
        let fill = if over && enabled { fill.lerp_to_gamma(palette.text, 0.12) } else { fill };
        painter.circle_filled(centre, TALK_RADIUS - 2.0, fill);
        if fill == palette.well {
            painter.circle_stroke(centre, TALK_RADIUS - 2.0, Stroke::new(1.0, palette.border));
        }
        if self.talk.is_on() {
            painter.circle_stroke(centre, TALK_RADIUS + 2.0, Stroke::new(2.5, palette.green));
        }
        if matches!(view.state, TurnState::Thinking | TurnState::Loading) {
            let turn = time * 4.0;
            let points = arc(centre, TALK_RADIUS + 2.5, turn, turn + 1.6);
            painter.add(eframe::egui::Shape::line(points, Stroke::new(3.0, colour)));
        }
        let ink = if fill == palette.well { palette.muted } else { palette.on_accent };
        let icon = if self.muted { Icon::MicrophoneOff } else { Icon::Microphone };
        icon.paint(ui, centre, 26.0, ink);
    }
}

fn loudspeaker(ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
    ui.with_layout(Layout::top_down(Align::Max), |ui| {
        ui.add_space(10.0);
        ui.allocate_ui_with_layout(vec2(ui.available_width(), 32.0), Layout::right_to_left(Align::Center), |ui| {
            let palette = Palette::of(ui);
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(32.0), Sense::hover());
            Icon::Loudspeaker.paint(ui, rect.center(), 18.0, palette.muted);
            let width = (ui.available_width() - 12.0).clamp(20.0, 150.0);
            level_bar(ui, view.speaker_db, width, t("level-loudspeaker"));
        });
        let can_stop = view.can_interrupt();
        let stop = ui.add_enabled(can_stop, Button::new(t("talk-stop-short")).min_size(vec2(72.0, 30.0)));
        stop.widget_info(|| WidgetInfo::labeled(Role::Button, can_stop, t(STOP)));
        if stop.on_hover_text(t("talk-stop-hint")).clicked() {
            commands.push(Command::Interrupt);
        }
    });
}
