//! How the assistant behaves, what is kept and where, and how the window looks. Window thread. What belongs to the engine
//! is in [`engine`](mod@super::engine).

use super::super::hotkey::{KEYS, Refusal};
use super::super::theme::Palette;
use super::super::view_state::ViewState;
use super::super::widgets::{option, outlined};
use super::super::words::{fill, t};
use super::engine;
use crate::session::command::{Command, Eagerness, Keep, Sensitivity};
use crate::settings::{Interface, Settings, Theme};
use eframe::egui::{ComboBox, DragValue, Label, Response, RichText, Role, TextEdit, Ui, WidgetInfo};

pub const PERSONA: &str = "persona";
pub const HALF_DUPLEX: &str = "half-duplex";
pub const HEADPHONES: &str = "headphones";
pub const SEED: &str = "seed";
/// The key that talks from any program.
pub const HOTKEY: &str = "hotkey";
pub const SHOW_FOLDER: &str = "folder-show";

/// Draws the choices. Theme and size take effect through the settings; the rest is also told to the session.
pub fn show(
    ui: &mut Ui,
    view: &ViewState,
    settings: &mut Settings,
    refusal: Option<&Refusal>,
    commands: &mut Vec<Command>,
) {
    engine::show(ui, view, settings, commands);
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
    caption(ui, t("sensitivity")).on_hover_text(t("sensitivity-hint"));
    let told = |sensitivity| match sensitivity {
        Sensitivity::Low => t("sensitivity-low"),
        Sensitivity::Normal => t("sensitivity-normal"),
        Sensitivity::High => t("sensitivity-high"),
    };
    if choice(ui, &mut settings.sensitivity, Sensitivity::ALL.map(|value| (value, told(value)))) {
        commands.push(Command::SetSensitivity(settings.sensitivity));
    }
    if outlined(ui, |ui| ui.checkbox(&mut settings.half_duplex, t(HALF_DUPLEX))).changed() {
        commands.push(Command::SetHalfDuplex(settings.half_duplex));
    }
    if outlined(ui, |ui| ui.checkbox(&mut settings.headphones, t(HEADPHONES))).changed() {
        commands.push(Command::SetHeadphones(settings.headphones));
    }
    hotkey(ui, settings, refusal);
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
    data_folder(ui, view, commands);
}

/// The key that talks while another program has the keyboard, or why there is none.
fn hotkey(ui: &mut Ui, settings: &mut Settings, refusal: Option<&Refusal>) {
    caption(ui, t(HOTKEY));
    if refusal != Some(&Refusal::Wayland) {
        let off = t("hotkey-off");
        let chosen = settings.hotkey.clone();
        let shown = chosen.as_deref().unwrap_or(off);
        // One that was written into the file by hand stays to be chosen.
        let own = chosen.as_deref().filter(|key| !KEYS.contains(key));
        let combo = ComboBox::from_id_salt(HOTKEY).width(ui.available_width()).truncate().selected_text(shown);
        let inner = combo.show_ui(ui, |ui| {
            if ui.selectable_label(chosen.is_none(), off).clicked() {
                settings.hotkey = None;
            }
            for key in KEYS.into_iter().chain(own) {
                if ui.selectable_label(shown == key, key).clicked() {
                    settings.hotkey = Some(key.to_owned());
                }
            }
        });
        inner.response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::ComboBox, true, t(HOTKEY));
            info.current_text_value = Some(shown.to_owned());
            info
        });
    }
    let text = match refusal {
        Some(Refusal::Wayland) => t("hotkey-wayland").to_owned(),
        Some(Refusal::Taken) => t("hotkey-taken").to_owned(),
        Some(Refusal::NoKey) => t("hotkey-no-key").to_owned(),
        Some(Refusal::Failed(why)) => fill("hotkey-failed", &[("detail", why)]),
        None if settings.hotkey.is_some() => t("hotkey-hint").to_owned(),
        None => return,
    };
    let text = RichText::new(text).small();
    let text = if refusal.is_some() { text.color(Palette::of(ui).amber) } else { text.weak() };
    ui.add(Label::new(text).wrap());
}

/// Where everything is kept.
fn data_folder(ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
    if view.data_folder.is_empty() {
        return;
    }
    caption(ui, t("folder")).on_hover_text(t("folder-hint"));
    ui.add(Label::new(&view.data_folder).wrap());
    if ui.button(t(SHOW_FOLDER)).on_hover_text(t("folder-hint")).clicked() {
        commands.push(Command::ShowDataFolder);
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
pub fn left(ui: &Ui, field: &Response) -> bool {
    let edited = field.id.with("edited");
    if field.changed() {
        ui.data_mut(|data| data.insert_temp(edited, true));
    }
    field.lost_focus() && ui.data_mut(|data| data.remove_temp::<bool>(edited)).unwrap_or(false)
}

pub fn caption(ui: &mut Ui, text: &str) -> Response {
    ui.label(RichText::new(text).small().weak())
}

/// A row of which one is chosen. Returns whether that changed.
pub fn choice<T: PartialEq, const N: usize>(ui: &mut Ui, chosen: &mut T, values: [(T, &str); N]) -> bool {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        let mut changed = false;
        for (value, label) in values {
            if option(ui, *chosen == value, label).clicked() && *chosen != value {
                *chosen = value;
                changed = true;
            }
        }
        changed
    })
    .inner
}
