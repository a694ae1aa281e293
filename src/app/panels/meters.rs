//! How long everything takes: the figure that matters, the last turn's waterfall, a row per stage. Window thread.

use super::super::theme::{Palette, figure};
use super::super::view_state::{Meters, ViewState};
use super::super::words::{fill, t};
use super::{human_bytes, stages, waterfall};
use crate::metrics::{Histogram, Stage, to_json_line, to_trace_json};
use crate::session::command::Command;
use eframe::egui::{
    Align, Button, Color32, Label, Layout, Rect, Response, RichText, Sense, Shape, Stroke, Ui, UiBuilder, pos2, vec2,
};

pub const COPY_JSON: &str = "copy-json";
pub const SAVE_TRACE: &str = "save-trace";
const ROW: f32 = 19.0;
const COLUMN: f32 = 44.0;
/// The width of a row's little history, and how many values it shows.
const HISTORY: f32 = 48.0;
const HISTORY_VALUES: usize = 24;

/// Draws the meters.
pub fn show(ui: &mut Ui, view: &ViewState, commands: &mut Vec<Command>) {
    let meters = &view.meters;
    ui.label(RichText::new(t("first-audio-title")).small().weak());
    match meters.ttfa.last() {
        Some(ttfa) => first_audio(ui, ttfa, meters.ttfa_compute.last()),
        None => {
            ui.label(t("first-audio-none"));
        }
    }
    if !meters.bars.is_empty() {
        ui.add_space(2.0);
        waterfall::show(ui, &meters.bars, meters.last.as_ref());
    }
    ui.add_space(4.0);
    table(ui, view);
    ui.add_space(6.0);
    counters(ui, meters);
    if meters.last.is_some() {
        ui.add_space(4.0);
        exports(ui, meters, commands);
    }
}

fn first_audio(ui: &mut Ui, ttfa: f64, compute: Option<f64>) {
    ui.horizontal(|ui| {
        let text = RichText::new(format!("{ttfa:.0}")).text_style(figure());
        let palette = Palette::of(ui);
        ui.label(text.color(if ttfa <= waterfall::TARGET_MS { palette.green } else { palette.accent }));
        ui.vertical(|ui| {
            ui.add_space(9.0);
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.label(RichText::new(t("first-audio-unit")).small());
            if let Some(compute) = compute {
                ui.label(RichText::new(fill("of-it-computing", &[("ms", &format!("{compute:.0}"))])).small().weak());
            }
        });
    });
}

fn table(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    let palette = Palette::of(ui);
    ui.spacing_mut().item_spacing.y = 0.0;
    row(
        ui,
        t("milliseconds"),
        None,
        &[t("column-last"), t("column-p50"), t("column-p95")].map(str::to_owned),
        palette.muted,
    );
    let total = figures(ui, t("first-audio"), &meters.ttfa);
    total.on_hover_text(t("first-audio-hint"));
    for stage in Stage::ALL {
        if let Some(histogram) = meters.stages.get(&stage) {
            figures(ui, stages::title(stage), histogram).on_hover_text(stages::explanation(stage));
        }
    }
    if meters.barge_in_stop.last().is_some() {
        let stop = figures(ui, t("barge-in-stop"), &meters.barge_in_stop);
        stop.on_hover_text(t("barge-in-stop-hint"));
    }
}

fn figures(ui: &mut Ui, title: &str, histogram: &Histogram) -> Response {
    let values = [histogram.last(), histogram.p50(), histogram.p95()];
    let cells = values.map(|value| value.map_or("–".to_owned(), milliseconds));
    row(ui, title, Some(histogram), &cells, Palette::of(ui).text)
}

/// One line of the table: the title, a little history, and three cells in columns of equal width at the right.
fn row(ui: &mut Ui, title: &str, history: Option<&Histogram>, cells: &[String; 3], colour: Color32) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
    if response.hovered() && history.is_some() {
        ui.painter().rect_filled(rect.expand2(vec2(4.0, 0.0)), 4, Palette::of(ui).well);
    }
    let put = |ui: &mut Ui, rect: Rect, layout: Layout, text: &str| {
        let label = Label::new(RichText::new(text).small().color(colour)).selectable(false);
        ui.scope_builder(UiBuilder::new().max_rect(rect).layout(layout), |ui| ui.add(label.truncate()));
    };
    let first = rect.right() - 3.0 * COLUMN;
    let name = Rect::from_min_max(rect.min, pos2(first - HISTORY, rect.bottom()));
    put(ui, name, Layout::left_to_right(Align::Center), title);
    if let Some(history) = history {
        let place = Rect::from_min_max(pos2(first - HISTORY, rect.top()), pos2(first, rect.bottom()));
        sparkline(ui, place.shrink2(vec2(2.0, 4.0)), history);
    }
    for (cell, index) in cells.iter().zip(0u8..) {
        let left = first + COLUMN * f32::from(index);
        let place = Rect::from_min_max(pos2(left, rect.top()), pos2(left + COLUMN, rect.bottom()));
        put(ui, place, Layout::right_to_left(Align::Center), cell);
    }
    response
}

/// The newest values, from zero to the largest of them.
fn sparkline(ui: &Ui, rect: Rect, history: &Histogram) {
    let values: Vec<f64> = history.newest(HISTORY_VALUES).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    if values.len() < 2 || largest <= 0.0 || !ui.is_rect_visible(rect) {
        return;
    }
    let step = rect.width() / (HISTORY_VALUES - 1) as f32;
    let from = rect.right() - step * (values.len() - 1) as f32;
    let point = |(i, value): (usize, &f64)| {
        pos2(from + step * i as f32, rect.bottom() - rect.height() * (value.max(0.0) / largest) as f32)
    };
    let points = values.iter().enumerate().map(point).collect();
    ui.painter().add(Shape::line(points, Stroke::new(1.2, Palette::of(ui).muted)));
}

/// Three figures at most.
fn milliseconds(ms: f64) -> String {
    if ms.abs() < 9.95 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Tokens that the language model wrote in a second of the last turn.
fn tokens_per_second(meters: &Meters) -> Option<f64> {
    let stage = meters.last.as_ref()?.stages.iter().find(|stage| stage.stage == Stage::LlmDecode)?;
    (stage.total_ms > 0.0).then(|| stage.units as f64 * 1000.0 / stage.total_ms)
}

fn counters(ui: &mut Ui, meters: &Meters) {
    let unknown = || "–".to_owned();
    let rtf = meters.rtf.last();
    let memory = (meters.memory > 0).then(|| human_bytes(meters.memory));
    let rows = [
        [
            (
                t("rtf"),
                rtf.map_or_else(unknown, |rtf| format!("{rtf:.2}")),
                rtf.is_some_and(|rtf| rtf > 1.0),
                t("rtf-hint"),
            ),
            (
                t("tokens"),
                tokens_per_second(meters).map_or_else(unknown, |speed| format!("{speed:.0}")),
                false,
                t("tokens-hint"),
            ),
            (t("memory"), memory.unwrap_or_else(unknown), false, t("memory-hint")),
        ],
        [
            (t("stalls"), meters.starvation.to_string(), meters.starvation > 0, t("stalls-hint")),
            (t("xruns"), meters.xruns.to_string(), meters.xruns > 0, t("xruns-hint")),
            (t("queued"), format!("{:.0} ms", meters.queued_ms), false, t("queued-hint")),
        ],
    ];
    for cells in rows {
        // Nearer to its own name than to the figure below.
        ui.add_space(4.0);
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 36.0), Sense::hover());
        let width = rect.width() / cells.len() as f32;
        for ((name, value, is_bad, hint), index) in cells.into_iter().zip(0u8..) {
            let place = Rect::from_min_size(rect.min + vec2(width * f32::from(index), 0.0), vec2(width, rect.height()));
            let cell = ui.scope_builder(UiBuilder::new().max_rect(place), |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                let palette = Palette::of(ui);
                let colour = if is_bad { palette.amber } else { palette.text };
                ui.add(Label::new(RichText::new(value).color(colour)).truncate());
                ui.add(Label::new(RichText::new(name).small().weak()).truncate());
            });
            cell.response.on_hover_text(hint);
        }
    }
    if meters.gpu_memory > 0 {
        let text = fill("gpu-memory", &[("size", &human_bytes(meters.gpu_memory))]);
        ui.add(Label::new(RichText::new(text).small().weak()).wrap()).on_hover_text(t("gpu-memory-hint"));
    }
    if meters.lost_capture > 0 {
        let text = fill("lost-capture", &[("n", &meters.lost_capture.to_string())]);
        ui.add(Label::new(RichText::new(text).small().color(Palette::of(ui).red)).wrap());
    }
}

/// The last turn, for other programs.
fn exports(ui: &mut Ui, meters: &Meters, commands: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        if ui.add(Button::new(t(COPY_JSON)).small()).clicked()
            && let Some(json) = meters.last.as_ref().and_then(|report| to_json_line(report).ok())
        {
            ui.ctx().copy_text(json);
        }
        let hint = t("save-trace-hint");
        if ui.add(Button::new(t(SAVE_TRACE)).small()).on_hover_text(hint).clicked() {
            let turn = meters.last.as_ref().map_or(0, |report| report.turn);
            let name = format!("antiphon-turn-{turn}.trace.json");
            let title = t(SAVE_TRACE).trim_end_matches('…').to_owned();
            commands.push(Command::SaveText { name, text: to_trace_json(&meters.marks), title });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_figures_at_most() {
        assert_eq!([0.04, 9.94, 9.96, 612.4, 12345.6].map(milliseconds), ["0.0", "9.9", "10", "612", "12346"]);
    }
}
