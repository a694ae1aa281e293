//! How long everything takes: the figure that matters, the last turn's waterfall, a row per stage. Window thread.

use super::super::theme::{Palette, figure};
use super::super::view_state::ViewState;
use super::waterfall;
use crate::metrics::{Histogram, Stage};
use eframe::egui::{Align, Color32, Label, Layout, Rect, RichText, Sense, Ui, UiBuilder, pos2, vec2};

const ROW: f32 = 19.0;
const COLUMN: f32 = 52.0;

/// Draws the meters.
pub fn show(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    ui.label(RichText::new("Time to first audio").small().weak());
    match meters.ttfa.last() {
        Some(ttfa) => first_audio(ui, ttfa, meters.ttfa_compute.last()),
        None => {
            ui.label("Measured with your first turn");
        }
    }
    if !meters.bars.is_empty() {
        ui.add_space(2.0);
        waterfall::show(ui, &meters.bars, meters.last.as_ref());
    }
    ui.add_space(4.0);
    table(ui, view);
    ui.add_space(4.0);
    counters(ui, view);
}

fn first_audio(ui: &mut Ui, ttfa: f64, compute: Option<f64>) {
    ui.horizontal(|ui| {
        let text = RichText::new(format!("{ttfa:.0}")).text_style(figure());
        ui.label(text.color(Palette::of(ui).accent));
        ui.vertical(|ui| {
            ui.add_space(9.0);
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.label(RichText::new("ms after your last word").small());
            if let Some(compute) = compute {
                ui.label(RichText::new(format!("{compute:.0} ms of it computing")).small().weak());
            }
        });
    });
}

fn table(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    let palette = Palette::of(ui);
    ui.spacing_mut().item_spacing.y = 0.0;
    row(ui, "milliseconds", &["last", "p50", "p95"].map(str::to_owned), palette.muted);
    figures(ui, "first audio", &meters.ttfa);
    for stage in Stage::ALL {
        if let Some(histogram) = meters.stages.get(&stage) {
            figures(ui, &stage_title(stage), histogram);
        }
    }
}

fn figures(ui: &mut Ui, title: &str, histogram: &Histogram) {
    let values = [histogram.last(), histogram.p50(), histogram.p95()];
    let cells = values.map(|value| value.map_or("–".to_owned(), milliseconds));
    row(ui, title, &cells, Palette::of(ui).text);
}

/// One line of the table: the title, and three cells in columns of equal width at the right.
fn row(ui: &mut Ui, title: &str, cells: &[String; 3], colour: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
    let put = |ui: &mut Ui, rect: Rect, layout: Layout, text: &str| {
        let label = Label::new(RichText::new(text).small().color(colour));
        ui.scope_builder(UiBuilder::new().max_rect(rect).layout(layout), |ui| ui.add(label.truncate()));
    };
    let first = rect.right() - 3.0 * COLUMN;
    let name = Rect::from_min_max(rect.min, pos2(first, rect.bottom()));
    put(ui, name, Layout::left_to_right(Align::Center), title);
    for (cell, index) in cells.iter().zip(0u8..) {
        let left = first + COLUMN * f32::from(index);
        let place = Rect::from_min_max(pos2(left, rect.top()), pos2(left + COLUMN, rect.bottom()));
        put(ui, place, Layout::right_to_left(Align::Center), cell);
    }
}

/// Three figures at most.
fn milliseconds(ms: f64) -> String {
    if ms.abs() < 9.95 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// The stage's name, for people.
pub fn stage_title(stage: Stage) -> String {
    stage.name().replace('_', " ")
}

fn counters(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    let palette = Palette::of(ui);
    let rtf = meters.rtf.last();
    let cells = [
        ("RTF", rtf.map_or("–".to_owned(), |rtf| format!("{rtf:.2}")), rtf.is_some_and(|rtf| rtf > 1.0)),
        ("stalls", meters.starvation.to_string(), meters.starvation > 0),
        ("xruns", meters.xruns.to_string(), meters.xruns > 0),
        ("queued", format!("{:.0} ms", meters.queued_ms), false),
    ];
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 34.0), Sense::hover());
    let width = rect.width() / cells.len() as f32;
    for ((name, value, is_bad), index) in cells.into_iter().zip(0u8..) {
        let place = Rect::from_min_size(rect.min + vec2(width * f32::from(index), 0.0), vec2(width, rect.height()));
        ui.scope_builder(UiBuilder::new().max_rect(place), |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            let colour = if is_bad { palette.amber } else { palette.text };
            ui.add(Label::new(RichText::new(value).color(colour)).truncate());
            ui.add(Label::new(RichText::new(name).small().weak()).truncate());
        });
    }
    if meters.lost_capture > 0 {
        let text = format!("{} samples of the microphone were lost", meters.lost_capture);
        ui.add(Label::new(RichText::new(text).small().color(palette.red)).wrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_figures_at_most() {
        assert_eq!([0.04, 9.94, 9.96, 612.4, 12345.6].map(milliseconds), ["0.0", "9.9", "10", "612", "12346"]);
        assert_eq!(stage_title(Stage::EndOfTurn), "end of turn");
    }
}
