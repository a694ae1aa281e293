//! The first steps, where the conversation will be: what this machine can do, fetching the models it needs, trying the
//! microphone and the loudspeaker. Window thread.

use super::super::theme::{self, Palette};
use super::super::view_state::ViewState;
use super::super::widgets::follow_focus;
use super::super::words::{fill, t};
use super::terms::Reading;
use super::{devices, human_bytes, models};
use crate::session::command::Command;
use crate::session::event::{ModelKind, ModelState, ModelStatus, Outlook};
use crate::settings::Settings;
use eframe::egui::{Button, Label, Margin, RichText, ScrollArea, Ui, vec2};

/// Fetches what the engine needs.
pub const GET_MODELS: &str = "get-models";
/// Fetches the large model as well.
pub const GET_OMNI: &str = "first-get-omni";
/// Talks to the starter while the large model is not here.
pub const USE_STARTER: &str = "first-use-starter";

const WIDTH: f32 = 540.0;

/// Draws the steps into all the room there is.
pub fn show(
    ui: &mut Ui,
    view: &ViewState,
    settings: &mut Settings,
    reading: &mut Reading,
    commands: &mut Vec<Command>,
) {
    ScrollArea::vertical().auto_shrink([false, false]).content_margin(Margin::ZERO).show(ui, |ui| {
        let room = ui.available_width();
        let width = WIDTH.min(room);
        ui.horizontal_top(|ui| {
            ui.add_space((room - width) / 2.0);
            ui.vertical(|ui| {
                ui.set_width(width);
                ui.add_space(8.0);
                ui.label(RichText::new(t("first-title")).heading().size(24.0));
                ui.add(Label::new(t("first-private")).wrap());
                ui.add_space(4.0);
                part(ui, "first-machine", |ui| machine(ui, view));
                part(ui, "first-models", |ui| fetch(ui, view, settings, reading, commands));
                part(ui, "first-sound", |ui| devices::check(ui, view, commands));
            });
        });
        follow_focus(ui);
    });
}

fn part(ui: &mut Ui, heading: &'static str, contents: impl FnOnce(&mut Ui)) {
    theme::card(ui).outer_margin(Margin { bottom: 8, ..Margin::ZERO }).show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.label(RichText::new(t(heading)).family(theme::bold()));
        contents(ui);
    });
}

/// What this machine can do.
pub fn machine(ui: &mut Ui, view: &ViewState) {
    let Some(outlook) = &view.outlook else {
        ui.label(RichText::new(t("first-looking")).weak());
        return;
    };
    ui.add(Label::new(judgement(outlook)).wrap());
    let colour = Palette::of(ui).muted;
    let muted = |text: String| RichText::new(text).small().color(colour);
    if outlook.gpu.is_some() {
        let ways = outlook.ways.iter().map(|way| {
            let key = if way.fits { "first-way-fits" } else { "first-way-large" };
            fill(key, &[("name", &way.name), ("size", &human_bytes(way.bytes))])
        });
        let text = muted(ways.collect::<Vec<_>>().join(" · "));
        ui.add(Label::new(text).wrap());
    }
    if let Some(free) = outlook.disk_free {
        let text = muted(fill("first-disk", &[("size", &human_bytes(free))]));
        ui.add(Label::new(text).wrap());
    }
}

/// What suits this machine, in a sentence.
fn judgement(outlook: &Outlook) -> String {
    let memory = human_bytes(outlook.memory);
    let Some(gpu) = &outlook.gpu else { return fill("first-no-gpu", &[("memory", &memory)]) };
    let card = human_bytes(gpu.memory);
    let values = [("gpu", gpu.name.as_str()), ("memory", card.as_str())];
    match outlook.best() {
        _ if !gpu.usable => fill("first-gpu-not-built", &values),
        None => fill("first-gpu-small", &values),
        Some(way) => {
            let size = human_bytes(way.bytes);
            fill("first-gpu", &[values[0], values[1], ("way", &way.name), ("size", &size)])
        }
    }
}

fn fetch(ui: &mut Ui, view: &ViewState, settings: &mut Settings, reading: &mut Reading, commands: &mut Vec<Command>) {
    let (missing, bytes) = view.missing_starter();
    let starter_is_here = view.has_all(ModelKind::Starter);
    if !missing.is_empty() && !view.is_pulling() && view.paused.is_empty() {
        ui.add(Label::new(fill("first-starter", &[("size", &human_bytes(bytes))])).wrap());
        if accented(ui, t(GET_MODELS)) {
            commands.push(Command::PullModels(missing));
        }
    } else if starter_is_here {
        ui.add(Label::new(t("first-starter-here")).wrap());
        if settings.engine == "omni" && ui.button(t(USE_STARTER)).clicked() {
            settings.engine = "cascade".into();
            commands.push(Command::UseEngine(settings.engine_selection()));
        }
    }
    if let (true, Some(pull)) = (view.is_pulling() || !view.paused.is_empty(), &view.pull) {
        let width = ui.available_width();
        models::progress(ui, models::fraction(pull), &models::pull_figures(pull), width);
        ui.horizontal(|ui| models::stop_or_go_on(ui, view, &pull.id, commands));
    }
    let fits = view.outlook.as_ref().is_some_and(|o| o.best().is_some() && o.gpu.as_ref().is_some_and(|g| g.usable));
    let wants = settings.engine == "omni";
    let omni = view.models.iter().find(|model| model.kind == ModelKind::Omni && model.state != ModelState::Ready);
    if let Some(omni) = omni.filter(|omni| (fits || wants) && !view.is_fetching(&omni.id)) {
        ui.add_space(4.0);
        large(ui, omni, reading, commands);
    }
}

/// The large model, for machines that can hold it.
fn large(ui: &mut Ui, omni: &ModelStatus, reading: &mut Reading, commands: &mut Vec<Command>) {
    let size = human_bytes(omni.bytes);
    ui.add(Label::new(fill("first-omni", &[("title", &omni.title), ("size", &size)])).wrap());
    if ui.button(t(GET_OMNI)).clicked() {
        reading.get(omni, commands);
    }
    reading.show(ui, omni, commands);
}

fn accented(ui: &mut Ui, text: &str) -> bool {
    let palette = Palette::of(ui);
    let label = RichText::new(text).color(palette.on_accent);
    ui.add(Button::new(label).fill(palette.accent).min_size(vec2(0.0, 36.0))).clicked()
}
