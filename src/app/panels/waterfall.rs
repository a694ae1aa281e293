//! When each stage was at work in the last turn: a row of bars per stage on one time axis. Window thread.
//!
//! The axis is cut to what the user waits for: from shortly before the last word to some time after the first sound.

use super::super::theme::Palette;
use super::super::words::t;
use super::stages;
use crate::metrics::{Bar, Stage, TurnReport};
use eframe::egui::{
    Align2, CornerRadius, FontId, Rect, Role, Sense, Shape, Stroke, TextStyle, Ui, WidgetInfo, pos2, vec2,
};

const ROW: f32 = 15.0;
const NAMES: f32 = 84.0;
const AXIS: f32 = 18.0;
/// Milliseconds shown before the last voiced sample, at most.
const BEFORE: f64 = 250.0;
/// An answer that begins within this time feels like a person's: the target line, in milliseconds.
pub const TARGET_MS: f64 = 800.0;

/// Draws the bars of a turn, by stage.
pub fn show(ui: &mut Ui, bars: &[Bar], report: Option<&TurnReport>) {
    let palette = Palette::of(ui);
    let stages: Vec<Stage> =
        Stage::ALL.into_iter().filter(|stage| bars.iter().any(|bar| bar.stage == *stage)).collect();
    let first_audio = report.and_then(|report| report.ttfa_ms);
    let (from, to) = span(bars, first_audio);
    let height = stages.len() as f32 * ROW + AXIS;
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, t("waterfall")));
    if !ui.is_rect_visible(rect) {
        return;
    }
    let painter = ui.painter_at(rect);
    let small = TextStyle::Small.resolve(ui.style());
    let tiny = FontId::new(small.size - 1.5, small.family.clone());
    let plot =
        Rect::from_min_max(pos2(rect.left() + NAMES, rect.top()), pos2(rect.right() - 4.0, rect.bottom() - AXIS));
    let x = |ms: f64| plot.left() + plot.width() * ((ms - from) / (to - from)) as f32;

    let step = tick_step(to - from);
    let mut tick = (from / step).ceil() * step;
    while tick <= to {
        painter.vline(x(tick), plot.y_range(), Stroke::new(1.0, palette.border));
        let align = if x(tick) > plot.right() - 16.0 { Align2::RIGHT_TOP } else { Align2::CENTER_TOP };
        painter.text(pos2(x(tick), plot.bottom() + 3.0), align, axis_label(tick), tiny.clone(), palette.muted);
        tick += step;
    }
    for (row, stage) in stages.iter().enumerate() {
        let top = plot.top() + row as f32 * ROW;
        let middle = top + ROW / 2.0;
        painter.text(pos2(rect.left(), middle), Align2::LEFT_CENTER, stages::title(*stage), tiny.clone(), palette.text);
        let colour = if hears(*stage) { palette.green } else { palette.accent };
        for bar in bars.iter().filter(|bar| bar.stage == *stage && bar.end_ms > from && bar.start_ms < to) {
            let (left, right) = (x(bar.start_ms.max(from)), x(bar.end_ms.min(to)));
            let shape = Rect::from_min_max(pos2(left, top + 3.0), pos2(right.max(left + 2.0), top + ROW - 3.0));
            painter.rect_filled(shape, CornerRadius::same(2), colour.gamma_multiply(0.85));
        }
    }
    if (from..=to).contains(&TARGET_MS) {
        let dashes = Shape::dashed_line(
            &[pos2(x(TARGET_MS), plot.top()), pos2(x(TARGET_MS), plot.bottom())],
            Stroke::new(1.5, palette.green),
            3.0,
            3.0,
        );
        painter.extend(dashes);
    }
    if let Some(ms) = first_audio {
        painter.vline(x(ms), plot.y_range(), Stroke::new(2.0, palette.amber));
    }
    response.on_hover_text(t("waterfall-hint"));
}

/// The stages that hear the user, as against those that make the answer.
fn hears(stage: Stage) -> bool {
    stage <= Stage::Stt
}

/// What part of the turn is shown, in milliseconds; never empty.
fn span(bars: &[Bar], first_audio: Option<f64>) -> (f64, f64) {
    let start = bars.iter().map(|bar| bar.start_ms).fold(0.0, f64::min).max(-BEFORE);
    let end = bars.iter().map(|bar| bar.end_ms).fold(0.0, f64::max);
    let end = first_audio.map_or(end, |ms| end.min(ms * 1.6).max(ms * 1.05));
    (start, end.max(start + 10.0))
}

/// A round step that gives two to five ticks.
fn tick_step(span: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if span / step <= 5.0 {
            break;
        }
        step *= factor;
    }
    step
}

fn axis_label(ms: f64) -> String {
    // Adding zero turns -0 into 0.
    if ms.abs() >= 1000.0 { format!("{:.1} s", ms / 1000.0) } else { format!("{:.0}", ms + 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(start_ms: f64, end_ms: f64) -> Bar {
        Bar { stage: Stage::Stt, start_ms, end_ms }
    }

    #[test]
    fn the_axis_shows_what_the_user_waits_for() {
        assert_eq!(span(&[bar(-4000.0, 20.0), bar(30.0, 9000.0)], Some(600.0)), (-250.0, 960.0));
        assert_eq!(span(&[bar(10.0, 500.0)], Some(600.0)), (0.0, 630.0));
        assert_eq!(span(&[bar(-20.0, 500.0)], None), (-20.0, 500.0));
        assert_eq!(span(&[], None), (0.0, 10.0));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!([-200.0, -0.0, 1500.0].map(axis_label), ["-200", "0", "1.5 s"]);
        assert_eq!([4.0, 11.0, 960.0, 1300.0, 60_000.0].map(tick_step), [1.0, 5.0, 200.0, 500.0, 20_000.0]);
    }
}
