//! What models there are, what is here, and how fetching goes. Window thread.

use super::super::theme::Palette;
use super::super::view_state::{ViewState, time_left};
use super::super::words::{fill, t, told};
use super::terms::Reading;
use super::{human_bytes, human_time};
use crate::session::command::Command;
use crate::session::event::{ModelKind, ModelState, ModelStatus, PullProgress, PullState, TurnState};
use crate::settings::Settings;
use eframe::egui::{
    Align, Button, CornerRadius, Id, Label, Layout, Rect, RichText, Role, Sense, Ui, WidgetInfo, pos2, vec2,
};

pub const CANCEL: &str = "cancel";
pub const IMPORT: &str = "models-import";
pub const GET_ALL: &str = "models-get-all";
pub const PAUSE: &str = "pull-pause";
pub const RESUME: &str = "pull-resume";

/// Draws the engine's state, the pull, and the list.
pub fn show(
    ui: &mut Ui,
    view: &ViewState,
    settings: &mut Settings,
    reading: &mut Reading,
    commands: &mut Vec<Command>,
) {
    engine(ui, view);
    if !view.is_first_run() {
        super::first_run::machine(ui, view);
    }
    if let Some(pull) = &view.pull {
        pull_row(ui, view, pull, commands);
    }
    let (missing, bytes) = view.missing();
    if !missing.is_empty() && !view.is_pulling() {
        let label = format!("{} ({})", t(GET_ALL), human_bytes(bytes));
        if ui.button(label).clicked() {
            commands.push(Command::PullModels(missing.clone()));
        }
        if ui.button(t(IMPORT)).on_hover_text(t("models-import-hint")).clicked() {
            commands.push(import(missing));
        }
    }
    for model in &view.models {
        row(ui, view, model, settings, reading, commands);
    }
    if view.models.is_empty() {
        ui.label(RichText::new(t("models-no-catalog")).weak());
    }
}

/// These models are wanted from a folder.
pub fn import(models: Vec<String>) -> Command {
    Command::ImportModels { title: t("dialog-models").to_owned(), models }
}

/// Whether the engine that answers is made of this model.
fn is_in_use(view: &ViewState, settings: &Settings, model: &ModelStatus) -> bool {
    let engine = view.engine.as_ref().map_or("", |engine| engine.name.as_str());
    match (engine, model.kind) {
        ("cascade", _) if model.thinks => settings.llm == named(model),
        ("cascade", ModelKind::Starter) | ("omni", ModelKind::Omni) => true,
        _ => false,
    }
}

/// How the settings name a language model: the starter's own by naming none.
fn named(model: &ModelStatus) -> Option<String> {
    (model.kind != ModelKind::Starter).then(|| model.id.clone())
}

fn engine(ui: &mut Ui, view: &ViewState) {
    if let (TurnState::Loading, Some(loading)) = (&view.state, &view.loading) {
        progress(ui, loading.fraction, &fill("loading", &[("what", &told(&loading.what))]), ui.available_width());
    } else if let Some(engine) = &view.engine {
        let name = super::engine::name_of(&engine.name);
        ui.add(Label::new(fill("engine-ready", &[("name", name)])).wrap());
        ui.add(Label::new(RichText::new(&engine.description).small().weak()).wrap());
    }
}

/// A bar with its caption above. Without a fraction, the bar shows only that something happens.
pub fn progress(ui: &mut Ui, fraction: Option<f32>, caption: &str, width: f32) {
    let palette = Palette::of(ui);
    ui.allocate_ui_with_layout(vec2(width, 24.0), Layout::top_down(Align::Min), |ui| {
        ui.set_width(width);
        ui.add(Label::new(RichText::new(caption).small()).wrap());
        let (rect, response) = ui.allocate_exact_size(vec2(width, 6.0), Sense::hover());
        response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, caption);
            info.value = fraction.map(|fraction| f64::from(fraction) * 100.0);
            info
        });
        let radius = CornerRadius::same(3);
        ui.painter().rect_filled(rect, radius, palette.well);
        let (from, to) = match fraction {
            Some(fraction) => (0.0, fraction),
            None => {
                let time = ui.input(|input| input.time) as f32;
                let middle = 0.5 + 0.5 * (time * 2.0).sin();
                ((middle - 0.12).max(0.0), (middle + 0.12).min(1.0))
            }
        };
        let x = |part: f32| rect.left() + rect.width() * part;
        let filled = Rect::from_min_max(pos2(x(from), rect.top()), pos2(x(to), rect.bottom()));
        ui.painter().rect_filled(filled, radius, palette.accent);
    });
}

fn pull_row(ui: &mut Ui, view: &ViewState, pull: &PullProgress, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let title = view.title_of(&pull.id);
    match &pull.state {
        PullState::Fetching | PullState::Checking => {
            let key = if pull.state == PullState::Checking { "pull-checking" } else { "pull-fetching" };
            let room = vec2(ui.available_width(), 28.0);
            ui.allocate_ui_with_layout(room, Layout::right_to_left(Align::Center), |ui| {
                stop_or_go_on(ui, view, &pull.id, commands);
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(fill(key, &[("title", title)])).truncate());
                });
            });
            progress(ui, fraction(pull), &pull_figures(pull), ui.available_width());
        }
        PullState::Failed { why, remedy } => {
            ui.add(
                Label::new(
                    RichText::new(fill("pull-failed", &[("title", title), ("why", &told(why))])).color(palette.red),
                )
                .wrap(),
            );
            ui.add(Label::new(RichText::new(told(remedy)).small()).wrap());
        }
        PullState::Paused => {
            ui.add(Label::new(RichText::new(fill("pull-paused", &[("title", title)])).small().weak()).wrap());
            if view.paused.contains(&pull.id) {
                ui.horizontal(|ui| stop_or_go_on(ui, view, &pull.id, commands));
            }
        }
        PullState::Cancelled => {
            ui.add(Label::new(RichText::new(t("pull-cancelled")).small().weak()).wrap());
        }
        PullState::Done => {
            ui.add(Label::new(RichText::new(t("pull-done")).small().color(palette.green)).wrap());
        }
    }
}

/// The buttons that pause fetching a model, go on with it, and, right of that, call it off.
pub fn stop_or_go_on(ui: &mut Ui, view: &ViewState, id: &str, commands: &mut Vec<Command>) {
    let paused = view.paused.iter().any(|paused| paused == id);
    let mut buttons = [if paused { RESUME } else { PAUSE }, CANCEL];
    if ui.layout().prefer_right_to_left() {
        buttons.reverse();
    }
    for label in buttons {
        if ui.button(t(label)).clicked() {
            let model = id.to_owned();
            commands.push(match label {
                CANCEL => Command::CancelPull { model },
                RESUME => Command::ResumePull { model },
                _ => Command::PausePull { model },
            });
        }
    }
}

/// How far a pull is, 0 to 1, if that is known.
pub fn fraction(pull: &PullProgress) -> Option<f32> {
    (pull.total > 0).then(|| pull.done as f32 / pull.total as f32)
}

/// "312 MB of 1.2 GB · 8.4 MB/s · 1 min 40 s left".
pub fn pull_figures(pull: &PullProgress) -> String {
    let mut text = fill("pull-of", &[("done", &human_bytes(pull.done)), ("total", &human_bytes(pull.total))]);
    if pull.state == PullState::Fetching && pull.bytes_per_second > 0.0 {
        text += &format!(" · {}/s", human_bytes(pull.bytes_per_second as u64));
        if let Some(left) = time_left(pull) {
            text += &format!(" · {}", fill("pull-left", &[("time", &human_time(left))]));
        }
    }
    text
}

fn row(
    ui: &mut Ui,
    view: &ViewState,
    model: &ModelStatus,
    settings: &mut Settings,
    reading: &mut Reading,
    commands: &mut Vec<Command>,
) {
    let palette = Palette::of(ui);
    ui.add_space(2.0);
    let paused = view.paused.contains(&model.id);
    let coming = view.is_fetching(&model.id) || view.waiting.contains(&model.id);
    let in_use = is_in_use(view, settings, model);
    ui.horizontal(|ui| {
        let (status, colour) = match &model.state {
            ModelState::Ready if in_use => (t("model-in-use").to_owned(), palette.green),
            ModelState::Ready => (t("model-ready").to_owned(), palette.green),
            _ if view.is_fetching(&model.id) => (t("model-coming").to_owned(), palette.accent),
            _ if coming => (t("model-waiting").to_owned(), palette.accent),
            _ if paused => (t("model-paused").to_owned(), palette.muted),
            ModelState::Absent => (t("model-absent").to_owned(), palette.muted),
            ModelState::Partial { have } => (format!("{} %", 100 * have / model.bytes.max(1)), palette.amber),
            ModelState::Broken { .. } => (t("model-broken").to_owned(), palette.red),
        };
        ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
            if model.state != ModelState::Ready && !coming {
                let (text, key) =
                    if paused { (t(RESUME), "pull-resume-one") } else { (t("model-get"), "model-get-one") };
                let button = ui.add(Button::new(text).min_size(vec2(44.0, 26.0)));
                let name = fill(key, &[("title", &model.title)]);
                button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
                if button.clicked() {
                    match paused {
                        true => commands.push(Command::ResumePull { model: model.id.clone() }),
                        false => reading.get(model, commands),
                    }
                }
            }
            ui.with_layout(Layout::top_down(Align::Min), |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                // Lines of text lie closer than rows of buttons.
                ui.spacing_mut().interact_size.y = 0.0;
                ui.add(Label::new(&model.title).wrap());
                ui.horizontal_wrapped(|ui| {
                    ui.label(RichText::new(status).small().color(colour));
                    let (size, memory) = (human_bytes(model.bytes), human_bytes(model.memory));
                    let facts = fill("model-facts", &[("size", &size), ("memory", &memory)]);
                    ui.label(RichText::new(format!("{facts} · {}", model.licence)).small().weak());
                });
                if let ModelState::Broken { why } = &model.state {
                    ui.add(Label::new(RichText::new(told(why)).small().color(palette.red)).wrap());
                }
            });
        });
    });
    ui.add(Label::new(RichText::new(told(&model.purpose)).small().weak()).wrap());
    if !coming && !paused {
        care(ui, model, (!in_use).then_some(settings), commands);
    }
    reading.show(ui, model, commands);
}

/// What can be done with a model besides fetching it: taken from a folder; when it is here, used (where `settings` are given), its
/// files read again, or deleted, which is asked about first.
fn care(ui: &mut Ui, model: &ModelStatus, settings: Option<&mut Settings>, commands: &mut Vec<Command>) {
    let asked = Id::unique("model to be removed");
    let is_asked = ui.data(|data| data.get_temp::<String>(asked)).is_some_and(|id| id == model.id);
    let button = |ui: &mut Ui, text, name| {
        let name = fill(name, &[("title", &model.title)]);
        let button = ui.small_button(t(text));
        button.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
        button.clicked()
    };
    ui.horizontal_wrapped(|ui| {
        if is_asked {
            let question = fill("model-remove-ask", &[("size", &human_bytes(model.bytes))]);
            ui.label(RichText::new(question).small());
            let remove = button(ui, "model-remove-now", "model-remove-now-one");
            if remove {
                commands.push(Command::RemoveModel(model.id.clone()));
            }
            if button(ui, "model-keep", "model-keep-one") || remove {
                ui.data_mut(|data| data.remove_temp::<String>(asked));
            }
            return;
        }
        if let Some(settings) = settings.filter(|_| model.thinks && model.state == ModelState::Ready)
            && button(ui, "model-use", "model-use-one")
        {
            (settings.engine, settings.llm) = ("cascade".into(), named(model));
            commands.push(Command::UseEngine(settings.engine_selection()));
        }
        // What is needed is taken from there together, above; one with terms, after they were read.
        let single = !model.needed && model.terms.is_none();
        if model.state != ModelState::Ready && single && button(ui, IMPORT, "model-import-one") {
            commands.push(import(vec![model.id.clone()]));
        }
        if model.state != ModelState::Absent {
            if button(ui, "model-check", "model-check-one") {
                commands.push(Command::CheckModel(model.id.clone()));
            }
            if button(ui, "model-remove", "model-remove-one") {
                ui.data_mut(|data| data.insert_temp(asked, model.id.clone()));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_in_words() {
        let mut pull = PullProgress {
            id: "m".into(),
            state: PullState::Fetching,
            done: 312_400_000,
            total: 1_152_400_000,
            bytes_per_second: 8_400_000.0,
        };
        assert_eq!(pull_figures(&pull), "312 MB of 1.2 GB · 8.4 MB/s · 1 min 40 s left");
        pull.bytes_per_second = 0.0;
        assert_eq!(pull_figures(&pull), "312 MB of 1.2 GB");
    }
}
