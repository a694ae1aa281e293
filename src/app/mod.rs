//! The window. The only room that names `egui`.
//!
//! Lives on the window thread and owns nothing but what is shown. Commands go out and events come in; in between is
//! [`view_state`], a pure reducer. No engine, sound or file is touched here: the settings are kept by a function that
//! is given at the start.

mod fonts;
pub mod hotkey;
pub mod panels;
mod talk;
mod theme;
pub mod view_state;
pub mod view_voices;
mod widgets;
pub mod words;

use crate::session::command::{Command, CommandSink};
use crate::session::event::{EventSource, Severity, TurnState, Urgency};
use crate::session::told::Told;
use crate::settings::Settings;
use crate::time::Micros;
use eframe::egui::{
    self, Align, CentralPanel, CollapsingHeader, Context, Frame, IconData, Key, Label, Layout, Margin, Panel, RichText,
    ScrollArea, Ui, ViewportBuilder, vec2,
};
use hotkey::Hotkey;
use panels::history::HistoryPanel;
use panels::talk_bar::TalkBar;
use panels::terms::Reading;
use panels::voices::VoicesPanel;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;
use view_state::ViewState;
use widgets::{Icon, Look, focus_ring, follow_focus, icon_button};
use words::{Language, speak, t};

/// Frames of an animation: 10 a second. Where the processor draws, every frame is taken from the engine.
const ANIMATION_FRAME: Duration = Duration::from_millis(100);
/// How long a number that changes often may wait to be shown: 10 a second.
const SOON: Duration = Duration::from_millis(100);
/// Below this width the right side is closed unless the user opens it.
const WIDE: f32 = 860.0;
/// How wide the list of conversations is.
const HISTORY_WIDTH: f32 = 232.0;

/// The labels of the buttons at the top.
pub const NEW_CONVERSATION: &str = "new-conversation";
pub const SIDE_PANEL: &str = "side-panel";
pub const HISTORY: &str = "history-panel";

/// Keeps the settings; the error is a sentence for the user.
pub type SaveSettings = Box<dyn Fn(&Settings) -> Result<(), Told>>;

/// Opens the window and stays until it is closed. The session is told [`Command::Shutdown`] then.
///
/// `settings` are those the session was started with; later changes are told it by commands, and are kept with `save`.
///
/// # Errors
/// When there is no display, or it offers no OpenGL.
pub fn run(
    commands: impl Into<CommandSink>,
    events: EventSource,
    settings: Settings,
    save: impl Fn(&Settings) -> Result<(), Told> + 'static,
) -> eframe::Result {
    let commands = commands.into();
    let viewport = ViewportBuilder::default()
        .with_title("Antiphon")
        .with_app_id("antiphon")
        .with_inner_size([1100.0, 760.0])
        .with_min_inner_size([480.0, 420.0])
        .with_icon(icon());
    let options = eframe::NativeOptions { viewport, renderer: eframe::Renderer::Glow, ..Default::default() };
    let open = |cc: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        let app = AntiphonApp::new(&cc.egui_ctx, commands, events, settings, Box::new(save));
        Ok(Box::new(app.with_hotkey(Hotkey::of_the_desktop(&cc.egui_ctx))))
    };
    eframe::run_native("antiphon", options, Box::new(open))
}

/// The window's icon; egui's own if the file were damaged, which a test excludes.
fn icon() -> IconData {
    eframe::icon_data::from_png_bytes(include_bytes!("../../assets/icon.png")).unwrap_or_default()
}

/// The window's contents.
pub struct AntiphonApp {
    view: ViewState,
    settings: Settings,
    /// As last kept.
    kept: Settings,
    bar: TalkBar,
    hotkey: Hotkey,
    history: HistoryPanel,
    history_open: bool,
    voices: VoicesPanel,
    reading: Reading,
    /// Whether the user wants the right side open; `None`: open when there is room.
    side_wanted: Option<bool>,
    /// Whether models were missing in the last frame.
    needed_models: bool,
    /// Whether the session was asked what this machine has.
    looked: bool,
    commands: CommandSink,
    events: EventSource,
    save: SaveSettings,
    language: Language,
}

impl AntiphonApp {
    /// Needs no window: `ctx` may be that of a test.
    pub fn new(
        ctx: &Context,
        commands: impl Into<CommandSink>,
        events: EventSource,
        settings: Settings,
        save: SaveSettings,
    ) -> Self {
        speak(Language::of(settings.interface));
        fonts::install(ctx);
        theme::install(ctx);
        theme::choose(ctx, settings.theme);
        ctx.set_zoom_factor(settings.scale);
        let waker = ctx.clone();
        events.on_event(move |urgency| match urgency {
            Urgency::Now => waker.request_repaint(),
            Urgency::Soon => waker.request_repaint_after(SOON),
        });
        let kept = settings.clone();
        let language = Language::of(settings.interface);
        AntiphonApp {
            language,
            view: ViewState::default(),
            settings,
            kept,
            bar: TalkBar::default(),
            hotkey: Hotkey::none(None),
            history: HistoryPanel::default(),
            history_open: false,
            voices: VoicesPanel::default(),
            reading: Reading::default(),
            side_wanted: None,
            needed_models: false,
            looked: false,
            commands: commands.into(),
            events,
            save,
        }
    }

    /// With a key that talks while another program has the keyboard: the one that the settings name.
    #[must_use]
    pub fn with_hotkey(mut self, mut hotkey: Hotkey) -> Self {
        hotkey.follow(self.settings.hotkey.as_deref());
        self.hotkey = hotkey;
        self
    }

    /// What is shown now.
    pub fn view(&self) -> &ViewState {
        &self.view
    }

    fn drain(&mut self, now: Micros) {
        loop {
            match self.events.try_next() {
                Ok(event) => self.view.apply(event, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.view.session_lost();
                    break;
                }
            }
        }
    }

    fn side_open(&self, width: f32) -> bool {
        self.side_wanted.unwrap_or(width >= WIDE + if self.history_open { HISTORY_WIDTH } else { 0.0 })
    }

    fn top_bar(&mut self, ui: &mut Ui, width: f32, commands: &mut Vec<Command>) {
        ui.horizontal(|ui| {
            if panels::history::toggle(ui, t(HISTORY), self.history_open) {
                self.history_open = !self.history_open;
                // Where there is no room for both, one makes place for the other.
                if self.history_open && width < WIDE {
                    self.side_wanted = None;
                }
            }
            ui.label(RichText::new("Antiphon").heading());
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let open = self.side_open(width);
                let look = if open { Look::Raised } else { Look::Plain };
                if icon_button(ui, Icon::Panel, t(SIDE_PANEL), look, true).clicked() {
                    self.side_wanted = Some(!open);
                    self.history_open &= open || width >= WIDE;
                }
                let some = !self.view.turns.is_empty();
                if icon_button(ui, Icon::New, t(NEW_CONVERSATION), Look::Plain, some).clicked() {
                    commands.push(Command::NewConversation);
                }
                if let Some(engine) = &self.view.engine {
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.add(Label::new(RichText::new(&engine.description).small().weak()).truncate());
                    });
                }
            });
        });
    }

    fn side(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        // The bar scrolls beside the cards, not over their edge.
        let beside = Margin { right: 6, ..Margin::ZERO };
        ScrollArea::vertical().auto_shrink([false, false]).content_margin(beside).show(ui, |ui| {
            let view = &self.view;
            let settings = &mut self.settings;
            let refusal = self.hotkey.refusal();
            // An engine that is being loaded may have its models elsewhere.
            let loading = view.state == TurnState::Loading;
            let needs_models = (view.engine.is_none() && !loading && view.lacks_models()) || view.is_pulling();
            // When models turn out to be missing, their panel opens by itself, once.
            let unfold_models = (needs_models && !self.needed_models).then_some(true);
            self.needed_models = needs_models;
            // What is missing comes first; else what is asked most often.
            if !needs_models {
                card(ui, "card-latency", true, None, |ui| panels::meters::show(ui, view, commands));
            }
            let reading = &mut self.reading;
            card(ui, "card-models", false, unfold_models, |ui| {
                if !std::mem::replace(&mut self.looked, true) {
                    commands.push(Command::LookAtMachine);
                }
                panels::models::show(ui, view, settings, reading, commands);
            });
            if needs_models {
                card(ui, "card-latency", true, None, |ui| panels::meters::show(ui, view, commands));
            }
            let unfold_voices = self.voices.follow(&view.voices);
            card(ui, "card-voices", false, unfold_voices, |ui| self.voices.show(ui, &view.voices, settings, commands));
            card(ui, "card-sound", false, None, |ui| panels::devices::show(ui, view, settings, commands));
            card(ui, "card-settings", false, None, |ui| {
                panels::settings::show(ui, view, settings, refusal, commands);
            });
            follow_focus(ui);
        });
    }

    /// Looks, size and the file follow the settings.
    fn follow_settings(&mut self, ctx: &Context) {
        if self.settings == self.kept || ctx.input(|input| input.pointer.any_down()) {
            return;
        }
        theme::choose(ctx, self.settings.theme);
        ctx.set_zoom_factor(self.settings.scale);
        if self.hotkey.follow(self.settings.hotkey.as_deref()) {
            // The key that was held will not be seen to come up.
            self.bar.hotkey_gone().into_iter().for_each(|command| self.commands.send(command));
            ctx.request_repaint();
        }
        if self.settings.interface != self.kept.interface {
            self.language = Language::of(self.settings.interface);
            ctx.request_repaint();
        }
        if let Err(why) = (self.save)(&self.settings) {
            let what = Told::new("settings-not-kept", "Your settings could not be kept");
            self.view.tell(what, why, Severity::Warning, Micros::now());
        }
        self.kept = self.settings.clone();
    }

    /// Asks for the next frame, if there will be one without an event.
    fn plan_repaint(&mut self, ctx: &Context, now: Micros) {
        let animates = matches!(self.view.state, TurnState::Thinking | TurnState::Loading);
        if animates && !self.view.session_gone {
            ctx.request_repaint_after(ANIMATION_FRAME);
        }
        if let Some(wait) = self.view.expire_notes(now) {
            ctx.request_repaint_after(wait);
        }
    }
}

/// A card of the right side, with a heading that folds it; `now` folds or unfolds it without the user.
fn card(ui: &mut Ui, heading: &'static str, at_first: bool, now: Option<bool>, contents: impl FnOnce(&mut Ui)) {
    theme::card(ui).outer_margin(Margin { bottom: 6, ..Margin::ZERO }).show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        let card = CollapsingHeader::new(RichText::new(t(heading)).family(theme::bold()))
            .id_salt(heading)
            .default_open(at_first)
            .open(now)
            .show_unindented(ui, contents);
        focus_ring(ui, &card.header_response, card.header_response.rect, 6);
    });
}

impl eframe::App for AntiphonApp {
    fn logic(&mut self, _ctx: &Context, _frame: &mut eframe::Frame) {
        let now = Micros::now();
        self.drain(now);
        // Here, and not while drawing: a window that is covered or put away is not drawn.
        while let Some(stroke) = self.hotkey.next() {
            self.bar.hotkey(stroke, &self.view).into_iter().for_each(|command| self.commands.send(command));
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        speak(self.language);
        let now = Micros::now();
        let ctx = ui.ctx().clone();
        let width = ctx.content_rect().width();
        let mut commands = Vec::new();
        if ctx.input(|input| input.key_pressed(Key::Escape)) && self.view.can_interrupt() {
            commands.push(Command::Interrupt);
        }
        if panels::engine::take_dropped(&ctx, &mut self.settings, &mut commands)
            || self.voices.take_dropped(&ctx, &mut commands)
        {
            self.side_wanted = Some(true);
        }
        let bar = Frame::new().fill(theme::Palette::of(ui).ground);
        let margin = |top, bottom| Margin { left: 14, right: 14, top, bottom };

        Panel::top("top").frame(bar.inner_margin(margin(8, 6))).show_separator_line(false).show(ui, |ui| {
            self.top_bar(ui, width, &mut commands);
        });
        let mut side_open = self.side_open(width);
        Panel::right("side")
            .frame(bar.inner_margin(Margin { left: 0, right: 2, top: 0, bottom: 8 }))
            .resizable(false)
            .show_separator_line(false)
            .exact_size((width * 0.48).min(336.0))
            .show_collapsible(ui, &mut side_open, |ui| self.side(ui, &mut commands));
        let mut history_open = self.history_open;
        Panel::left("history")
            .frame(bar.inner_margin(Margin { left: 14, right: 0, top: 0, bottom: 8 }))
            .resizable(false)
            .show_separator_line(false)
            .exact_size((width * 0.4).min(HISTORY_WIDTH))
            .show_collapsible(ui, &mut history_open, |ui| self.history.show(ui, &self.view, &mut commands));
        Panel::bottom("bar").frame(bar.inner_margin(margin(4, 8))).show_separator_line(false).show(ui, |ui| {
            self.bar.show(ui, &self.view, &mut self.settings, now, &mut commands);
        });
        CentralPanel::no_frame().frame(bar.inner_margin(margin(0, 2))).show(ui, |ui| {
            ui.spacing_mut().item_spacing = vec2(8.0, 6.0);
            panels::banners::show(ui, &mut self.view, &mut commands);
            if self.view.is_first_run() {
                if !std::mem::replace(&mut self.looked, true) {
                    commands.push(Command::LookAtMachine);
                }
                panels::first_run::show(ui, &self.view, &mut self.settings, &mut self.reading, &mut commands);
            } else {
                panels::conversation::show(ui, &self.view, self.settings.hands_free, &mut commands);
            }
        });

        VoicesPanel::show_target(ui);
        self.follow_settings(&ctx);
        for command in commands {
            self.commands.send(command);
        }
        self.plan_repaint(&ctx, now);
    }

    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        self.commands.send(Command::Shutdown);
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_icon_can_be_read() {
        let icon = super::icon();
        assert_eq!((icon.width, icon.height, icon.rgba.len()), (256, 256, 256 * 256 * 4));
    }
}
