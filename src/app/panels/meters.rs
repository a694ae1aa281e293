//! How long everything takes: the figure that matters, the last turn's waterfall, a row per stage. Window thread.

use super::super::theme::{Palette, figure};
use super::super::view_state::ViewState;
use super::waterfall;
use crate::metrics::{Histogram, Stage};
use eframe::egui::{Align, Grid, Layout, RichText, Ui};

/// Draws the meters.
pub fn show(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    let palette = Palette::of(ui);
    ui.label(RichText::new("Time to first audio").small().weak());
    ui.horizontal(|ui| {
        let text = meters.ttfa.last().map_or("–".to_owned(), |ms| format!("{ms:.0}"));
        ui.label(RichText::new(text).text_style(figure()).color(palette.accent));
        ui.vertical(|ui| {
            ui.add_space(9.0);
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.label(RichText::new("ms after your last word").small());
            let compute = meters.ttfa_compute.last().map(|ms| format!("{ms:.0} ms of it computing"));
            ui.label(RichText::new(compute.unwrap_or_default()).small().weak());
        });
    });
    if !meters.bars.is_empty() {
        ui.add_space(2.0);
        waterfall::show(ui, &meters.bars, meters.last.as_ref());
    }
    ui.add_space(4.0);
    table(ui, view);
    ui.add_space(4.0);
    counters(ui, view);
}

fn table(ui: &mut Ui, view: &ViewState) {
    let meters = &view.meters;
    let figure_width = 52.0;
    Grid::new("stages").num_columns(4).spacing([4.0, 3.0]).min_col_width(figure_width).show(ui, |ui| {
        ui.set_min_width(ui.available_width());
        ui.label(RichText::new("ms").small().weak());
        for heading in ["last", "p50", "p95"] {
            right(ui, RichText::new(heading).small().weak());
        }
        ui.end_row();
        row(ui, "first audio", &meters.ttfa);
        for stage in Stage::ALL {
            if let Some(histogram) = meters.stages.get(&stage) {
                row(ui, &stage_title(stage), histogram);
            }
        }
    });
}

fn row(ui: &mut Ui, title: &str, histogram: &Histogram) {
    ui.label(RichText::new(title).small());
    for value in [histogram.last(), histogram.p50(), histogram.p95()] {
        right(ui, RichText::new(value.map_or("–".to_owned(), milliseconds)).small());
    }
    ui.end_row();
}

fn right(ui: &mut Ui, text: RichText) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| ui.label(text));
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
        ("real-time factor", rtf.map_or("–".to_owned(), |rtf| format!("{rtf:.2}")), rtf.is_some_and(|rtf| rtf > 1.0)),
        ("stalls", meters.starvation.to_string(), meters.starvation > 0),
        ("xruns", meters.xruns.to_string(), meters.xruns > 0),
        ("queued", format!("{:.0} ms", meters.queued_ms), false),
    ];
    ui.horizontal_wrapped(|ui| {
        for (name, value, is_bad) in cells {
            let colour = if is_bad { palette.amber } else { palette.text };
            ui.label(RichText::new(name).small().weak());
            ui.label(RichText::new(value).small().color(colour));
            ui.add_space(4.0);
        }
        if meters.lost_capture > 0 {
            let text = format!("{} samples of the microphone were lost", meters.lost_capture);
            ui.label(RichText::new(text).small().color(palette.red));
        }
    });
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
