//! How the assistant behaves, what is kept, and how the window looks. Window thread.

use super::super::view_state::ViewState;
use super::super::widgets::outlined;
use super::super::words::t;
use crate::session::EngineSelection;
use crate::session::command::{Command, Eagerness, Keep};
use crate::settings::{Interface, Settings, Theme};
use eframe::egui::{DragValue, Response, RichText, TextEdit, Ui};

pub const PERSONA: &str = "persona";
pub const HALF_DUPLEX: &str = "half-duplex";
pub const HEADPHONES: &str = "headphones";
pub const SEED: &str = "seed";
pub const LANGUAGE_MODEL: &str = "language-model";

/// Draws the choices. Theme and size take effect through the settings; the rest is also told to the session.
pub fn show(ui: &mut Ui, view: &ViewState, settings: &mut Settings, commands: &mut Vec<Command>) {
    engine(ui, view, settings, commands);
    persona(ui, settings, commands);
    caption(ui, t("eagerness"));
    let told = |eagerness| match eagerness {
        Eagerness::Patient => t("eagerness-patient"),
        Eagerness::Balanced => t("eagerness-balanced"),
        Eagerness::Eager => t("eagerness-eager"),
    };
    if choice(ui, &mut settings.eagerness, Eagerness::ALL.map(|value| (value, told(value)))) {
        commands.push(Command::SetEagerness(settings.eagerness));
    }
    if outlined(ui, |ui| ui.checkbox(&mut settings.half_duplex, t(HALF_DUPLEX))).changed() {
        commands.push(Command::SetHalfDuplex(settings.half_duplex));
    }
    if outlined(ui, |ui| ui.checkbox(&mut settings.headphones, t(HEADPHONES))).changed() {
        commands.push(Command::SetHeadphones(settings.headphones));
    }
    caption(ui, t("keep"));
    let told = |keep| match keep {
        Keep::Nothing => t("keep-nothing"),
        Keep::Words => t("keep-words"),
        Keep::WordsAndSound => t("keep-sound"),
    };
    if choice(ui, &mut settings.keep, Keep::ALL.map(|value| (value, told(value)))) {
        commands.push(Command::SetKeep(settings.keep));
    }
    caption(ui, t("theme"));
    choice(
        ui,
        &mut settings.theme,
        [(Theme::System, t("theme-system")), (Theme::Light, t("theme-light")), (Theme::Dark, t("theme-dark"))],
    );
    caption(ui, t("interface"));
    let languages =
        [(Interface::System, t("interface-system")), (Interface::English, "English"), (Interface::Chinese, "中文")];
    choice(ui, &mut settings.interface, languages);
    caption(ui, t("size"));
    choice(ui, &mut settings.scale, [(0.85, "85 %"), (1.0, "100 %"), (1.25, "125 %"), (1.5, "150 %"), (2.0, "200 %")]);
}

/// Which engine answers; another takes over at once, and the conversation goes with it.
fn engine(ui: &mut Ui, view: &ViewState, settings: &mut Settings, commands: &mut Vec<Command>) {
    caption(ui, t("engine"));
    let running = view.engine.as_ref().map_or(settings.engine.as_str(), |engine| &engine.name).to_owned();
    let mut wanted = false;
    ui.horizontal(|ui| {
        for (engine, label, hint) in [
            ("cascade", t("engine-starter"), t("engine-starter-hint")),
            ("omni", t("engine-omni"), t("engine-omni-hint")),
        ] {
            if ui.selectable_label(running == engine, label).on_hover_text(hint).clicked() && running != engine {
                engine.clone_into(&mut settings.engine);
                wanted = true;
            }
        }
    });
    if running == "cascade" {
        let name = caption(ui, t(LANGUAGE_MODEL));
        let mut text = settings.llm.clone().unwrap_or_default();
        let field = TextEdit::singleline(&mut text).hint_text(t("llm-own")).desired_width(f32::INFINITY);
        let field = ui.add(field).labelled_by(name.id);
        let field = field.on_hover_text(t("llm-hint"));
        if field.changed() {
            let text = text.trim();
            settings.llm = (!text.is_empty()).then(|| text.to_owned());
        }
        wanted |= left(ui, &field);
    }
    if wanted {
        let selection = EngineSelection { engine: settings.engine.clone(), llm: settings.llm.clone() };
        commands.push(Command::UseEngine(selection));
    }
}

fn persona(ui: &mut Ui, settings: &mut Settings, commands: &mut Vec<Command>) {
    let name = caption(ui, t(PERSONA));
    let field = TextEdit::multiline(&mut settings.system_prompt)
        .hint_text(t("persona-hint"))
        .desired_rows(3)
        .desired_width(f32::INFINITY);
    let field = ui.add(field).labelled_by(name.id);
    let mut changed = left(ui, &field);
    ui.horizontal(|ui| {
        let name = caption(ui, t(SEED));
        let value = ui.add(DragValue::new(&mut settings.seed).speed(0.1)).labelled_by(name.id);
        changed |= value.changed();
        value.on_hover_text(t("seed-hint"));
    });
    if changed {
        let system_prompt = settings.system_prompt.trim().to_owned();
        commands.push(Command::SetPersona { system_prompt, seed: settings.seed });
    }
}

/// Whether the user has just left a field whose text he changed.
fn left(ui: &Ui, field: &Response) -> bool {
    let edited = field.id.with("edited");
    if field.changed() {
        ui.data_mut(|data| data.insert_temp(edited, true));
    }
    field.lost_focus() && ui.data_mut(|data| data.remove_temp::<bool>(edited)).unwrap_or(false)
}

fn caption(ui: &mut Ui, text: &str) -> Response {
    ui.label(RichText::new(text).small().weak())
}

/// A row of which one is chosen. Returns whether that changed.
fn choice<T: PartialEq, const N: usize>(ui: &mut Ui, chosen: &mut T, values: [(T, &str); N]) -> bool {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        let mut changed = false;
        for (value, label) in values {
            if ui.selectable_label(*chosen == value, label).clicked() && *chosen != value {
                *chosen = value;
                changed = true;
            }
        }
        changed
    })
    .inner
}
