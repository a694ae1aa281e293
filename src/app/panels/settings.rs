//! How the assistant behaves and how the window looks. Window thread.

use crate::session::command::{Command, Eagerness};
use crate::settings::{Settings, Theme};
use eframe::egui::{Response, RichText, TextEdit, Ui};

pub const PERSONA: &str = "Persona";
pub const HALF_DUPLEX: &str = "Microphone off while it speaks";
pub const HEADPHONES: &str = "I wear headphones";
pub const RELOAD: &str = "Load the engine";

/// Draws the choices. Theme and size take effect through the settings; the rest is also told to the session.
pub fn show(ui: &mut Ui, settings: &mut Settings, commands: &mut Vec<Command>) {
    caption(ui, "When you pause");
    let told = |eagerness| match eagerness {
        Eagerness::Patient => "Patient",
        Eagerness::Balanced => "Balanced",
        Eagerness::Eager => "Eager",
    };
    if choice(ui, &mut settings.eagerness, Eagerness::ALL.map(|value| (value, told(value)))) {
        commands.push(Command::SetEagerness(settings.eagerness));
    }
    if ui.checkbox(&mut settings.half_duplex, HALF_DUPLEX).changed() {
        commands.push(Command::SetHalfDuplex(settings.half_duplex));
    }
    if ui.checkbox(&mut settings.headphones, HEADPHONES).changed() {
        commands.push(Command::SetHeadphones(settings.headphones));
    }
    caption(ui, "Engine");
    ui.horizontal(|ui| {
        for (engine, label) in [("cascade", "Cascade"), ("omni", "Omni")] {
            if ui.selectable_label(settings.engine == engine, label).clicked() {
                settings.engine = engine.to_owned();
            }
        }
        if ui.button(RELOAD).clicked() {
            commands.push(Command::ReloadEngine);
        }
    });
    let name = caption(ui, PERSONA);
    let field = TextEdit::multiline(&mut settings.system_prompt)
        .hint_text("Who the assistant is, in your words; from the next conversation on")
        .desired_rows(3)
        .desired_width(f32::INFINITY);
    ui.add(field).labelled_by(name.id);
    caption(ui, "Theme");
    choice(ui, &mut settings.theme, [(Theme::System, "System"), (Theme::Light, "Light"), (Theme::Dark, "Dark")]);
    caption(ui, "Size");
    choice(ui, &mut settings.scale, [(0.85, "85 %"), (1.0, "100 %"), (1.25, "125 %"), (1.5, "150 %")]);
}

fn caption(ui: &mut Ui, text: &str) -> Response {
    ui.label(RichText::new(text).small().weak())
}

/// A row of which one is chosen. Returns whether that changed.
fn choice<T: PartialEq, const N: usize>(ui: &mut Ui, chosen: &mut T, values: [(T, &str); N]) -> bool {
    ui.horizontal(|ui| {
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
