//! Which microphone and which loudspeaker, and whether they work. Window thread.

use super::super::theme::Palette;
use super::super::view_state::ViewState;
use super::super::widgets::level_bar;
use super::super::words::{fill, t};
use crate::session::command::Command;
use crate::session::event::DeviceList;
use crate::session::voices::{Sample, VoiceCommand};
use crate::settings::Settings;
use eframe::egui::{Button, ComboBox, Label, RichText, Role, Slider, Ui, WidgetInfo};

pub const MICROPHONE: &str = "microphone";
pub const LOUDSPEAKER: &str = "loudspeaker";
pub const VOLUME: &str = "volume";
/// Plays three notes.
pub const CHIME: &str = "check-chime";
pub const STOP_CHIME: &str = "check-chime-stop";
/// How loud the microphone is.
pub const LEVEL: &str = "check-level";
/// Room for the figure beside the slider.
const VALUE: f32 = 76.0;
/// A microphone that has been this loud hears the user, in dBFS.
const HEARD_DB: f32 = -40.0;
const SYSTEM_DEFAULT: &str = "system-default";

/// Draws the pickers, the volume and the check.
pub fn show(ui: &mut Ui, view: &ViewState, settings: &mut Settings, commands: &mut Vec<Command>) {
    if let Some(choice) = picker(ui, MICROPHONE, &view.input) {
        settings.input_device.clone_from(&choice);
        commands.push(Command::SelectInput(choice));
    }
    if let Some(choice) = picker(ui, LOUDSPEAKER, &view.output) {
        settings.output_device.clone_from(&choice);
        commands.push(Command::SelectOutput(choice));
    }
    ui.label(RichText::new(t(VOLUME)).small().weak());
    ui.spacing_mut().slider_width = (ui.available_width() - VALUE).max(60.0);
    let slider = Slider::new(&mut settings.volume, 0.0..=1.0)
        .custom_formatter(|volume, _| format!("{:.0} %", volume * 100.0))
        .custom_parser(|text| text.trim_end_matches(['%', ' ']).parse::<f64>().ok().map(|percent| percent / 100.0));
    let response = ui.add(slider);
    response.widget_info(|| WidgetInfo::slider(true, f64::from(settings.volume), t(VOLUME)));
    if response.changed() {
        commands.push(Command::SetVolume(settings.volume));
    }
    ui.add_space(4.0);
    check(ui, view, commands);
}

/// Whether the microphone hears and the loudspeaker is heard, to be tried.
pub fn check(ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let hears = view.loudest_db >= HEARD_DB;
    let (text, colour) = match (&view.input.open, hears) {
        (None, _) => (t("check-no-microphone"), palette.amber),
        (Some(_), true) => (t("check-hears"), palette.green),
        (Some(_), false) => (t("check-say"), palette.text),
    };
    ui.add(Label::new(RichText::new(text).color(colour)).wrap());
    let width = ui.available_width();
    level_bar(ui, view.mic_db, width, t(LEVEL));
    ui.add_space(4.0);
    let (label, command) = match view.voices.previewing {
        true => (STOP_CHIME, VoiceCommand::StopPreview),
        false => (CHIME, VoiceCommand::Preview(Sample::Chime)),
    };
    ui.horizontal_wrapped(|ui| {
        let can = view.output.open.is_some();
        if ui.add_enabled(can, Button::new(t(label))).clicked() {
            commands.push(Command::Voice(command));
        }
        let text = if can { t("check-chime-text") } else { t("check-no-loudspeaker") };
        ui.label(RichText::new(text).small().color(palette.muted));
    });
}

/// One picker. Returns a new choice: an id, or `None` for the system's default.
fn picker(ui: &mut Ui, label: &'static str, list: &DeviceList) -> Option<Option<String>> {
    let palette = Palette::of(ui);
    ui.label(RichText::new(t(label)).small().weak());
    let chosen = match &list.chosen {
        None => t(SYSTEM_DEFAULT).to_owned(),
        Some(id) => match list.available.iter().find(|device| &device.id == id) {
            Some(device) => device.name.clone(),
            None => t("not-connected").to_owned(),
        },
    };
    let mut choice = None;
    let combo = ComboBox::from_id_salt(label).width(ui.available_width()).truncate().selected_text(chosen.as_str());
    let inner = combo.show_ui(ui, |ui| {
        if ui.selectable_label(list.chosen.is_none(), t(SYSTEM_DEFAULT)).clicked() {
            choice = Some(None);
        }
        for device in &list.available {
            let is_chosen = list.chosen.as_deref() == Some(device.id.as_str());
            if ui.selectable_label(is_chosen, &device.name).clicked() {
                choice = Some(Some(device.id.clone()));
            }
        }
    });
    inner.response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ComboBox, true, t(label));
        info.current_text_value = Some(chosen.clone());
        info
    });
    match &list.open {
        Some(open) if list.chosen.is_none() => {
            ui.add(Label::new(RichText::new(fill("device-now", &[("name", open)])).small().weak()).truncate());
        }
        Some(_) => {}
        None => {
            ui.add(Label::new(RichText::new(t("device-none")).small().color(palette.amber)).truncate());
        }
    }
    if let (Some(rate), Some(buffer_ms)) = (list.rate.filter(|_| list.open.is_some()), list.buffer_ms) {
        let (rate, ms) = (f64::from(rate) / 1000.0, buffer_ms.to_string());
        let figures = fill("device-figures", &[("rate", &rate.to_string()), ("ms", &ms)]);
        ui.add(Label::new(RichText::new(figures).small().weak())).on_hover_text(t("device-figures-hint"));
    }
    if list.telephone && list.open.is_some() {
        ui.add(Label::new(RichText::new(t("device-telephone")).small().color(palette.amber)).wrap());
    }
    choice
}
