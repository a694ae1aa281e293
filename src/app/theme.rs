//! Colours, sizes and shapes of the window, light and dark. Pure data, applied once at the start and when the user
//! changes the theme. Every pair of text and ground has a contrast of at least 4.5 to 1 (WCAG 2 AA); a test computes it.

use crate::session::event::{Severity, TurnState};
use crate::settings::Theme;
use eframe::egui::{
    self, Color32, Context, CornerRadius, FontFamily, FontId, Frame, Margin, Shadow, Stroke, TextStyle,
    ThemePreference, Ui, Visuals, vec2,
};

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Behind everything.
    pub ground: Color32,
    /// Cards, bubbles of the assistant, bars.
    pub card: Color32,
    /// Fields and grooves in a card.
    pub well: Color32,
    pub border: Color32,
    pub text: Color32,
    /// Second rank: captions, units, words not yet spoken.
    pub muted: Color32,
    pub accent: Color32,
    /// On the accent.
    pub on_accent: Color32,
    /// Bubbles of the user, chosen items.
    pub tint: Color32,
    /// The assistant is thinking; warnings.
    pub amber: Color32,
    /// The user is being heard.
    pub green: Color32,
    /// Errors.
    pub red: Color32,
    /// Behind a warning, behind an error.
    pub amber_tint: Color32,
    pub red_tint: Color32,
}

pub const LIGHT: Palette = Palette {
    ground: Color32::from_rgb(0xF4, 0xF5, 0xF8),
    card: Color32::from_rgb(0xFF, 0xFF, 0xFF),
    well: Color32::from_rgb(0xEC, 0xEE, 0xF2),
    border: Color32::from_rgb(0xDD, 0xE1, 0xE8),
    text: Color32::from_rgb(0x1A, 0x1E, 0x27),
    muted: Color32::from_rgb(0x58, 0x60, 0x70),
    accent: Color32::from_rgb(0x4A, 0x50, 0xC8),
    on_accent: Color32::from_rgb(0xFF, 0xFF, 0xFF),
    tint: Color32::from_rgb(0xE4, 0xE6, 0xFB),
    amber: Color32::from_rgb(0x90, 0x58, 0x00),
    green: Color32::from_rgb(0x0B, 0x74, 0x4D),
    red: Color32::from_rgb(0xB4, 0x23, 0x2F),
    amber_tint: Color32::from_rgb(0xFD, 0xF2, 0xDC),
    red_tint: Color32::from_rgb(0xFC, 0xE9, 0xEA),
};

pub const DARK: Palette = Palette {
    ground: Color32::from_rgb(0x12, 0x14, 0x19),
    card: Color32::from_rgb(0x1B, 0x1E, 0x26),
    well: Color32::from_rgb(0x27, 0x2B, 0x35),
    border: Color32::from_rgb(0x30, 0x35, 0x41),
    text: Color32::from_rgb(0xE9, 0xEB, 0xF0),
    muted: Color32::from_rgb(0xA3, 0xAA, 0xB8),
    accent: Color32::from_rgb(0xA5, 0xA9, 0xFF),
    on_accent: Color32::from_rgb(0x14, 0x15, 0x33),
    tint: Color32::from_rgb(0x2E, 0x31, 0x57),
    amber: Color32::from_rgb(0xF0, 0xB4, 0x50),
    green: Color32::from_rgb(0x55, 0xCF, 0x9B),
    red: Color32::from_rgb(0xFF, 0x93, 0x96),
    amber_tint: Color32::from_rgb(0x38, 0x2C, 0x15),
    red_tint: Color32::from_rgb(0x41, 0x20, 0x26),
};

impl Palette {
    /// The colours in use where `ui` draws.
    pub fn of(ui: &Ui) -> &'static Palette {
        if ui.visuals().dark_mode { &DARK } else { &LIGHT }
    }

    /// The colour of a state: on the talk button and its label.
    pub fn of_state(&self, state: &TurnState) -> Color32 {
        match state {
            TurnState::Idle | TurnState::Loading => self.muted,
            TurnState::Capturing | TurnState::MaybeDone => self.green,
            TurnState::Thinking | TurnState::Degraded { .. } => self.amber,
            TurnState::Listening | TurnState::Speaking | TurnState::Ducked => self.accent,
            TurnState::Faulted { .. } => self.red,
        }
    }

    /// The colour and the ground of a banner.
    pub fn of_severity(&self, severity: Severity) -> (Color32, Color32) {
        match severity {
            Severity::Note => (self.accent, self.tint),
            Severity::Warning => (self.amber, self.amber_tint),
            Severity::Error => (self.red, self.red_tint),
        }
    }
}

/// The corner of a card and of a bubble.
pub const CARD_RADIUS: u8 = 12;
/// The corner of a button and of a field.
pub const WIDGET_RADIUS: u8 = 8;

/// The family with the bold face, for headings and figures.
pub fn bold() -> FontFamily {
    FontFamily::Name("bold".into())
}

/// A figure that is read from afar.
pub fn figure() -> TextStyle {
    TextStyle::Name("figure".into())
}

/// A rounded card on the ground.
pub fn card(ui: &Ui) -> Frame {
    let palette = Palette::of(ui);
    Frame::new()
        .fill(palette.card)
        .stroke(Stroke::new(1.0, palette.border))
        .corner_radius(CARD_RADIUS)
        .inner_margin(Margin::symmetric(12, 7))
}

/// Gives the whole window its look.
pub fn install(ctx: &Context) {
    for (theme, palette) in [(egui::Theme::Light, &LIGHT), (egui::Theme::Dark, &DARK)] {
        ctx.style_mut_of(theme, |style| {
            style.visuals = visuals(theme, palette);
            style.text_styles = [
                (TextStyle::Heading, FontId::new(17.0, bold())),
                (TextStyle::Body, FontId::new(14.5, FontFamily::Proportional)),
                (TextStyle::Button, FontId::new(14.0, FontFamily::Proportional)),
                (TextStyle::Small, FontId::new(12.0, FontFamily::Proportional)),
                (TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace)),
                (figure(), FontId::new(34.0, bold())),
            ]
            .into();
            style.spacing.item_spacing = vec2(8.0, 6.0);
            style.spacing.button_padding = vec2(11.0, 5.0);
            style.spacing.interact_size = vec2(36.0, 28.0);
            style.spacing.icon_width = 18.0;
            style.spacing.icon_width_inner = 10.0;
            style.spacing.combo_width = 80.0;
            style.spacing.slider_rail_height = 5.0;
            style.animation_time = 0.12;
        });
    }
}

/// Light, dark, or as the system.
pub fn choose(ctx: &Context, theme: Theme) {
    ctx.set_theme(match theme {
        Theme::System => ThemePreference::System,
        Theme::Light => ThemePreference::Light,
        Theme::Dark => ThemePreference::Dark,
    });
}

fn visuals(theme: egui::Theme, palette: &Palette) -> Visuals {
    let mut visuals = theme.default_visuals();
    visuals.panel_fill = palette.ground;
    visuals.window_fill = palette.card;
    visuals.window_stroke = Stroke::new(1.0, palette.border);
    visuals.window_corner_radius = CornerRadius::same(CARD_RADIUS);
    visuals.menu_corner_radius = CornerRadius::same(WIDGET_RADIUS);
    visuals.extreme_bg_color = palette.well;
    visuals.text_edit_bg_color = Some(palette.well);
    visuals.faint_bg_color = palette.well;
    visuals.weak_text_color = Some(palette.muted);
    visuals.hyperlink_color = palette.accent;
    visuals.warn_fg_color = palette.amber;
    visuals.error_fg_color = palette.red;
    visuals.selection.bg_fill = palette.tint;
    visuals.selection.stroke = Stroke::new(1.0, palette.text);
    visuals.slider_trailing_fill = true;
    visuals.popup_shadow = Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(50) };
    let widgets = &mut visuals.widgets;
    for (widget, fill, stroke) in [
        (&mut widgets.noninteractive, palette.card, palette.border),
        (&mut widgets.inactive, palette.well, Color32::TRANSPARENT),
        (&mut widgets.hovered, palette.tint, palette.accent),
        (&mut widgets.active, palette.tint, palette.accent),
        (&mut widgets.open, palette.well, palette.border),
    ] {
        widget.bg_fill = fill;
        widget.weak_bg_fill = fill;
        widget.bg_stroke = Stroke::new(1.0, stroke);
        widget.fg_stroke = Stroke::new(1.4, palette.text);
        widget.corner_radius = CornerRadius::same(WIDGET_RADIUS);
        widget.expansion = 0.0;
    }
    visuals.widgets.noninteractive.fg_stroke.width = 1.0;
    visuals
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast as WCAG 2.2 defines it.
    fn contrast(a: Color32, b: Color32) -> f64 {
        let luminance = |colour: Color32| {
            let linear = |channel: u8| {
                let c = f64::from(channel) / 255.0;
                if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn the_contrast_formula_agrees_with_published_values() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        // #767676 is the well-known lightest grey that passes AA on white: 4.54.
        assert!((contrast(Color32::from_gray(0x76), Color32::WHITE) - 4.54).abs() < 0.005);
    }

    #[test]
    fn all_text_can_be_read() {
        for (name, p) in [("light", &LIGHT), ("dark", &DARK)] {
            let mut pairs = vec![(p.on_accent, p.accent)];
            for ground in [p.ground, p.card, p.well, p.tint] {
                pairs.extend([(p.text, ground), (p.muted, ground), (p.accent, ground)]);
            }
            for colour in [p.amber, p.green, p.red] {
                pairs.extend([(colour, p.ground), (colour, p.card)]);
            }
            for ground in [p.amber_tint, p.red_tint] {
                pairs.extend([(p.text, ground), (p.muted, ground)]);
            }
            pairs.extend([(p.amber, p.amber_tint), (p.red, p.red_tint)]);
            // Buttons that delete or stop, at rest and under the pointer.
            pairs.extend([(p.red, p.well), (p.red, p.tint)]);
            for (colour, ground) in pairs {
                let ratio = contrast(colour, ground);
                assert!(ratio >= 4.5, "{name}: {colour:?} on {ground:?} has only {ratio:.2}");
            }
            // What shows that a switch is off or an option chosen, and where the keyboard is, needs three to one.
            for (colour, ground) in [(p.muted, p.ground), (p.card, p.muted), (p.accent, p.card), (p.accent, p.tint)] {
                let ratio = contrast(colour, ground);
                assert!(ratio >= 3.0, "{name}: {colour:?} on {ground:?} has only {ratio:.2}");
            }
        }
    }
}
