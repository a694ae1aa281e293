//! Small controls that egui lacks: drawn icons, a round button, a switch, a level bar. Window thread.
//!
//! Each has a label for screen readers, and takes its colours from the [`Palette`].

use super::theme::{Palette, WIDGET_RADIUS};
use eframe::egui::{
    Color32, CornerRadius, Id, Pos2, Rect, Response, Role, Sense, Shape, Stroke, StrokeKind, TextStyle, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};
use std::f32::consts::{PI, TAU};

/// The track of a switch.
const SWITCH: Vec2 = vec2(34.0, 20.0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    Microphone,
    MicrophoneOff,
    Loudspeaker,
    Send,
    Panel,
    New,
    Close,
    History,
    Play,
    Stop,
    Copy,
    Again,
    Delete,
}

impl Icon {
    /// Draws the icon into a square of side `size` around `centre`.
    pub fn paint(self, ui: &Ui, centre: Pos2, size: f32, colour: Color32) {
        let painter = ui.painter();
        let at = |x: f32, y: f32| centre + vec2(x, y) * size;
        let stroke = Stroke::new((size / 11.0).max(1.3), colour);
        let line = |points: Vec<Pos2>| Shape::line(points, stroke);
        match self {
            Icon::Microphone | Icon::MicrophoneOff => {
                let capsule = Rect::from_center_size(at(0.0, -0.14), vec2(0.30, 0.56) * size);
                painter.rect_filled(capsule, CornerRadius::same((0.15 * size) as u8), colour);
                painter.add(line(arc(at(0.0, -0.06), 0.30 * size, 0.0, PI)));
                painter.line_segment([at(0.0, 0.25), at(0.0, 0.42)], stroke);
                painter.line_segment([at(-0.18, 0.42), at(0.18, 0.42)], stroke);
                if self == Icon::MicrophoneOff {
                    painter.line_segment([at(-0.38, -0.40), at(0.38, 0.42)], stroke);
                }
            }
            Icon::Loudspeaker => {
                let body = vec![
                    at(-0.40, -0.13),
                    at(-0.22, -0.13),
                    at(0.0, -0.34),
                    at(0.0, 0.34),
                    at(-0.22, 0.13),
                    at(-0.40, 0.13),
                ];
                painter.add(Shape::convex_polygon(body, colour, Stroke::NONE));
                painter.add(line(arc(at(0.0, 0.0), 0.20 * size, -0.8, 0.8)));
                painter.add(line(arc(at(0.0, 0.0), 0.38 * size, -0.8, 0.8)));
            }
            Icon::Send => {
                painter.line_segment([at(0.0, 0.36), at(0.0, -0.34)], stroke);
                painter.add(line(vec![at(-0.28, -0.06), at(0.0, -0.36), at(0.28, -0.06)]));
            }
            Icon::Panel => {
                let frame = Rect::from_center_size(centre, vec2(0.84, 0.68) * size);
                painter.rect_stroke(frame, CornerRadius::same(3), stroke, StrokeKind::Middle);
                painter.line_segment([at(0.14, -0.34), at(0.14, 0.34)], stroke);
            }
            Icon::New => {
                painter.line_segment([at(-0.34, 0.0), at(0.34, 0.0)], stroke);
                painter.line_segment([at(0.0, -0.34), at(0.0, 0.34)], stroke);
            }
            Icon::History => {
                let frame = Rect::from_center_size(centre, vec2(0.84, 0.68) * size);
                painter.rect_stroke(frame, CornerRadius::same(3), stroke, StrokeKind::Middle);
                painter.line_segment([at(-0.14, -0.34), at(-0.14, 0.34)], stroke);
                for y in [-0.16, 0.0] {
                    painter.line_segment([at(-0.34, y), at(-0.24, y)], stroke);
                }
            }
            Icon::Play => {
                let triangle = vec![at(-0.24, -0.34), at(0.36, 0.0), at(-0.24, 0.34)];
                painter.add(Shape::convex_polygon(triangle, colour, Stroke::NONE));
            }
            Icon::Stop => {
                let square = Rect::from_center_size(centre, vec2(0.56, 0.56) * size);
                painter.rect_filled(square, CornerRadius::same(2), colour);
            }
            Icon::Copy => {
                let front = Rect::from_center_size(at(0.10, 0.10), vec2(0.50, 0.58) * size);
                painter.rect_stroke(front, CornerRadius::same(2), stroke, StrokeKind::Middle);
                let back = vec![at(-0.30, 0.20), at(-0.36, 0.20), at(-0.36, -0.38), at(0.12, -0.38), at(0.12, -0.30)];
                painter.add(line(back));
            }
            Icon::Again => {
                painter.add(line(arc(centre, 0.34 * size, -0.9, PI + 1.3)));
                let tip = centre + Vec2::angled(-0.9) * 0.34 * size;
                let head =
                    vec![tip + vec2(0.04, -0.24) * size, tip + vec2(0.06, 0.06) * size, tip + vec2(-0.24, 0.02) * size];
                painter.add(Shape::convex_polygon(head, colour, Stroke::NONE));
            }
            Icon::Delete => {
                painter.line_segment([at(-0.34, -0.26), at(0.34, -0.26)], stroke);
                painter.line_segment([at(-0.12, -0.38), at(0.12, -0.38)], stroke);
                painter.add(line(vec![at(-0.26, -0.26), at(-0.20, 0.40), at(0.20, 0.40), at(0.26, -0.26)]));
            }
            Icon::Close => {
                painter.line_segment([at(-0.26, -0.26), at(0.26, 0.26)], stroke);
                painter.line_segment([at(-0.26, 0.26), at(0.26, -0.26)], stroke);
            }
        }
    }
}

/// Points on a circle from angle `from` to `to`, in radians, clockwise on the screen from the right.
pub fn arc(centre: Pos2, radius: f32, from: f32, to: f32) -> Vec<Pos2> {
    let steps = (((to - from).abs() / TAU * 40.0).ceil() as usize).max(2);
    let angle = |i: usize| from + (to - from) * i as f32 / steps as f32;
    (0..=steps).map(|i| centre + Vec2::angled(angle(i)) * radius).collect()
}

/// How an [`icon_button`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No ground until the pointer is over it.
    Plain,
    /// On a ground of its own.
    Raised,
    /// The main thing to do here.
    Accent,
    /// Something is off that is usually on.
    Alert,
}

/// A button with an icon only. The label is its tooltip and its name for screen readers.
pub fn icon_button(ui: &mut Ui, icon: Icon, label: &str, look: Look, enabled: bool) -> Response {
    let sense = if enabled { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(32.0), sense);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, label));
    if ui.is_rect_visible(rect) {
        let palette = Palette::of(ui);
        let over = enabled && (response.hovered() || response.has_focus());
        let (ground, colour) = match look {
            Look::Plain if over => (palette.well, palette.text),
            Look::Plain => (Color32::TRANSPARENT, palette.muted),
            Look::Raised if over => (palette.tint, palette.text),
            Look::Raised => (palette.well, palette.text),
            Look::Accent if enabled => (palette.accent, palette.on_accent),
            Look::Accent => (palette.well, palette.muted),
            Look::Alert => (palette.red_tint, palette.red),
        };
        let colour = if enabled { colour } else { palette.muted.gamma_multiply(0.55) };
        ui.painter().rect_filled(rect, CornerRadius::same(9), ground);
        focus_ring(ui, &response, rect, 9);
        icon.paint(ui, rect.center(), 18.0, colour);
    }
    response.on_hover_text(label)
}

/// A small button in `rect`, drawn only while `shown` or while the keyboard is on it; screen readers always find it.
pub fn quiet_button(ui: &Ui, rect: Rect, icon: Icon, label: &str, shown: bool) -> Response {
    let response = ui.interact(rect, ui.scope_id().with(label), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, label));
    if ui.is_rect_visible(rect) && (shown || response.has_focus() || response.hovered()) {
        let palette = Palette::of(ui);
        let over = response.hovered() || response.has_focus();
        if over {
            ui.painter().rect_filled(rect, CornerRadius::same(7), palette.well);
        }
        focus_ring(ui, &response, rect, 7);
        icon.paint(ui, rect.center(), 13.0, if over { palette.text } else { palette.muted });
    }
    response
}

/// Shows which control the keyboard acts on.
pub fn focus_ring(ui: &Ui, response: &Response, rect: Rect, radius: u8) {
    if response.has_focus() {
        let stroke = Stroke::new(2.0, Palette::of(ui).accent);
        ui.painter().rect_stroke(rect.expand(2.0), CornerRadius::same(radius + 2), stroke, StrokeKind::Middle);
    }
}

/// Scrolls what the keyboard has just reached into view. To be called at the end of what is scrolled.
pub fn follow_focus(ui: &Ui) {
    let focused = ui.memory(|memory| memory.focused());
    let known = ui.scope_id().with("followed");
    if ui.data(|data| data.get_temp::<Option<Id>>(known)).flatten() == focused {
        return;
    }
    ui.data_mut(|data| data.insert_temp(known, focused));
    if let Some(control) = focused.and_then(|id| ui.ctx().read_response(id))
        && control.layer_id == ui.layer_id()
        && ui.min_rect().intersects(control.rect)
    {
        // With the ring around it.
        ui.scroll_to_rect(control.rect.expand(4.0), None);
    }
}

/// A switch with its label beside it.
pub fn switch(ui: &mut Ui, on: &mut bool, label: &str) -> Response {
    let palette = Palette::of(ui);
    let text = ui.painter().layout_no_wrap(label.to_owned(), TextStyle::Button.resolve(ui.style()), palette.text);
    let size = vec2(SWITCH.x + 8.0 + text.size().x, SWITCH.y.max(text.size().y));
    let (rect, mut response) = ui.allocate_exact_size(size, Sense::click());
    if response.clicked() {
        *on = !*on;
        response.mark_changed();
    }
    response.widget_info(|| WidgetInfo::selected(Role::Switch, true, *on, label));
    let how_on = ui.ctx().animate_bool_responsive(response.id, *on);
    let track = Rect::from_center_size(pos2(rect.left() + SWITCH.x / 2.0, rect.center().y), SWITCH);
    let fill = palette.muted.lerp_to_gamma(palette.accent, how_on);
    ui.painter().rect_filled(track, CornerRadius::same(10), fill);
    let x = track.left() + 10.0 + how_on * (SWITCH.x - 20.0);
    ui.painter().circle_filled(pos2(x, track.center().y), 7.5, palette.card);
    ui.painter().galley(pos2(track.right() + 8.0, rect.center().y - text.size().y / 2.0), text, palette.text);
    focus_ring(ui, &response, track, 10);
    response
}

/// One of a row of which one is chosen; the chosen one has an outline, since its ground alone is hardly seen.
pub fn option(ui: &mut Ui, chosen: bool, label: &str) -> Response {
    let response = ui.selectable_label(chosen, label);
    if chosen {
        let stroke = Stroke::new(1.2, Palette::of(ui).accent);
        ui.painter().rect_stroke(response.rect, CornerRadius::same(WIDGET_RADIUS), stroke, StrokeKind::Inside);
    }
    response
}

/// A box to tick, or a round one, with an outline that is seen on a card: WCAG asks for three to one.
pub fn outlined(ui: &mut Ui, control: impl FnOnce(&mut Ui) -> Response) -> Response {
    let colour = Palette::of(ui).muted;
    ui.scope(|ui| {
        ui.visuals_mut().widgets.inactive.bg_stroke = Stroke::new(1.2, colour);
        control(ui)
    })
    .inner
}

/// The part of a level bar that a loudness fills: nothing at -60 dBFS, all of it at 0.
pub fn level_fraction(db: f32) -> f32 {
    ((db + 60.0) / 60.0).clamp(0.0, 1.0)
}

/// A loudness in dBFS as a bar; near overload it turns red.
pub fn level_bar(ui: &mut Ui, db: f32, width: f32, label: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(width, 8.0), Sense::hover());
    // An indicator's name only: a value that changes 20 times a second would drown a screen reader.
    response.widget_info(|| WidgetInfo::labeled(Role::Meter, true, label));
    let palette = Palette::of(ui);
    let radius = CornerRadius::same(4);
    ui.painter().rect_filled(rect, radius, palette.border);
    let fraction = level_fraction(db);
    if fraction > 0.0 {
        let filled = Rect::from_min_size(rect.min, vec2((rect.width() * fraction).max(8.0), rect.height()));
        let colour = if db > -3.0 { palette.red } else { palette.accent };
        ui.painter().rect_filled(filled, radius, colour);
    }
    response.on_hover_text(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_bar_spans_sixty_decibels() {
        assert_eq!([-90.0, -60.0, -30.0, 0.0, 6.0].map(level_fraction), [0.0, 0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn an_arc_lies_on_its_circle_and_ends_where_it_should() {
        let points = arc(pos2(1.0, 2.0), 10.0, 0.0, PI);
        assert!(points.iter().all(|p| (p.distance(pos2(1.0, 2.0)) - 10.0).abs() < 1e-4));
        assert!(points[0].distance(pos2(11.0, 2.0)) < 1e-4);
        assert!(points[points.len() - 1].distance(pos2(-9.0, 2.0)) < 1e-4);
    }
}
