//! Voices to speak in: those that are kept, and a recording on its way to become one. Window thread.
//!
//! Owns what the user is in the middle of (a name being typed, an edge being dragged); the rest is the view state's.

use super::super::theme::{Palette, bold};
use super::super::view_voices::VoicesView;
use super::super::widgets::{focus_ring, outlined};
use super::super::words::{fill, t, told};
use crate::session::command::Command;
use crate::session::told;
use crate::session::voices::{Grade, Sample, Span, VoiceCommand, VoiceDraft, VoiceEntry};
use crate::settings::Settings;
use eframe::egui::{
    Align2, Button, Color32, Context, CornerRadius, CursorIcon, FontId, Id, Key, Label, LayerId, Order, Rect, RichText,
    Role, Sense, Stroke, StrokeKind, TextEdit, Ui, WidgetInfo, pos2, vec2,
};

pub const ADD: &str = "voice-add";
pub const RECORD: &str = "voice-record";
pub const STOP_RECORDING: &str = "voice-record-stop";
pub const AGREED: &str = "voice-agreed";
pub const NAME: &str = "voice-name";
pub const KEEP: &str = "voice-keep";
pub const PUT_ASIDE: &str = "voice-put-aside";
pub const LISTEN: &str = "voice-listen";
pub const STOP: &str = "voice-stop";
pub const OWN_VOICE: &str = "voice-own";
pub const BEGINNING: &str = "voice-beginning";
pub const END: &str = "voice-end";
pub const NO_CLONING: &str = "voice-no-cloning";
pub const WHO_CLONES: &str = "voice-who-clones";
const HOW: &str = "voice-how";
const WAVE_HEIGHT: f32 = 64.0;
/// The least that an edge leaves, in seconds, and what an arrow key moves it by.
const LEAST_S: f64 = 1.0;
const STEP_S: f64 = 0.1;
/// The most that may be used.
const MOST_S: f64 = 30.0;

/// What the user is in the middle of.
#[derive(Debug, Default)]
pub struct VoicesPanel {
    /// The recording that the fields below are about.
    number: u64,
    name: String,
    agreed: bool,
    span: Span,
    /// The span as it was last told: a newer one is taken over, the user's own stays until then.
    checked: Span,
    /// The kept voice being renamed, and its new name.
    renaming: Option<(String, String)>,
    /// The kept voice that the user was asked about.
    removing: Option<String>,
    was_busy: bool,
}

impl VoicesPanel {
    /// Takes over a new recording; tells when the panel should unfold by itself.
    pub fn follow(&mut self, view: &VoicesView) -> Option<bool> {
        if let Some(draft) = &view.draft {
            if draft.number != self.number {
                (self.number, self.name, self.agreed) = (draft.number, draft.suggested_name.clone(), false);
                (self.span, self.checked) = (draft.span, draft.span);
            } else if draft.span != self.checked {
                (self.span, self.checked) = (draft.span, draft.span);
            }
        }
        let began = view.is_busy() && !self.was_busy;
        self.was_busy = view.is_busy();
        began.then_some(true)
    }

    /// A sound file that was dropped onto the window is looked at. Returns whether one was.
    pub fn take_dropped(&mut self, ctx: &Context, commands: &mut Vec<Command>) -> bool {
        let dropped = ctx.input(|input| input.raw.dropped_files.last().map(|file| file.path().to_owned()));
        let Some(file) = dropped else { return false };
        commands.push(Command::Voice(VoiceCommand::Check { file }));
        true
    }

    /// Says, over the whole window, what becomes of a file that is being dragged onto it.
    pub fn show_target(ui: &Ui) {
        let ctx = ui.ctx();
        if ctx.input(|input| input.raw.hovered_files.is_empty()) {
            return;
        }
        let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop target")));
        let palette = Palette::of(ui);
        let rect = ctx.content_rect();
        painter.rect_filled(rect, CornerRadius::ZERO, palette.ground.gamma_multiply(0.85));
        let outline = Stroke::new(2.0, palette.accent);
        painter.rect_stroke(rect.shrink(12.0), CornerRadius::same(12), outline, StrokeKind::Inside);
        let font = FontId::new(18.0, bold());
        painter.text(rect.center(), Align2::CENTER_CENTER, t("voice-drop"), font, palette.text);
    }

    /// Draws the recording that is being looked at, if any, and the voices that are kept.
    pub fn show(&mut self, ui: &mut Ui, view: &VoicesView, settings: &mut Settings, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui);
        if view.clones == Some(false) {
            ui.add(Label::new(t(NO_CLONING)).wrap());
            ui.add(Label::new(RichText::new(t(WHO_CLONES)).small().weak()).wrap());
        }
        if let Some(why) = &view.refused {
            ui.add(Label::new(RichText::new(told(why)).color(palette.red)).wrap());
        }
        if let Some(file) = &view.checking {
            ui.add(Label::new(RichText::new(fill("voice-reading", &[("file", file)])).weak()).wrap());
        }
        match (&view.draft, view.recording) {
            (_, Some(seconds)) => recording(ui, seconds, commands),
            (Some(draft), None) => self.draft(ui, view, draft, commands),
            (None, None) => {
                ui.horizontal_wrapped(|ui| {
                    if ui.button(t(ADD)).clicked() {
                        let title = t("dialog-voice").to_owned();
                        commands.push(Command::Voice(VoiceCommand::Ask { title }));
                    }
                    if ui.button(t(RECORD)).clicked() {
                        commands.push(Command::Voice(VoiceCommand::Record));
                    }
                });
                ui.add(Label::new(RichText::new(t(HOW)).small().weak()).wrap());
            }
        }
        if !view.voices.is_empty() {
            ui.separator();
            let chosen = settings.voice.is_none();
            if outlined(ui, |ui| ui.radio(chosen, t(OWN_VOICE))).clicked() && !chosen {
                settings.voice = None;
                commands.push(Command::Voice(VoiceCommand::Choose(None)));
            }
        }
        for voice in &view.voices {
            self.kept(ui, view, voice, settings, commands);
        }
        for broken in &view.broken {
            ui.add(Label::new(RichText::new(told(broken)).small().color(palette.amber)).wrap());
        }
    }

    fn draft(&mut self, ui: &mut Ui, view: &VoicesView, draft: &VoiceDraft, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui);
        ui.add(Label::new(RichText::new(&draft.file).strong()).truncate());
        if self.waveform(ui, draft) {
            commands.push(Command::Voice(VoiceCommand::CheckSpan(self.span)));
        }
        let [start, end, all] = [self.span.start_s, self.span.end_s, draft.seconds].map(|s| format!("{s:.1}"));
        let grade = grade_words(draft.grade);
        let figures = fill("voice-figures", &[("start", &start), ("end", &end), ("all", &all), ("grade", grade)]);
        ui.label(RichText::new(figures).small().color(colour_of(palette, draft.grade)));
        for finding in draft.findings.iter().filter(|f| f.grade != Grade::Ok) {
            let (what, advice) = told::finding(finding);
            let text = fill("voice-finding", &[("what", &told(&what)), ("advice", &told(&advice))]);
            ui.add(Label::new(RichText::new(text).small().color(colour_of(palette, finding.grade))).wrap());
        }
        listen(ui, view, "", Sample::Draft(self.span), commands);
        let caption = ui.label(RichText::new(t(NAME)).small().weak());
        ui.add(TextEdit::singleline(&mut self.name).desired_width(f32::INFINITY)).labelled_by(caption.id);
        outlined(ui, |ui| ui.checkbox(&mut self.agreed, t(AGREED))).on_hover_text(t("voice-consent"));
        ui.horizontal(|ui| {
            let ready = self.agreed && !self.name.trim().is_empty() && draft.grade != Grade::NotUsable;
            if ui.add_enabled(ready, Button::new(t(KEEP))).clicked() {
                let name = self.name.trim().to_owned();
                commands.push(Command::Voice(VoiceCommand::Keep { name, span: self.span }));
            }
            if ui.button(t(PUT_ASIDE)).clicked() {
                commands.push(Command::Voice(VoiceCommand::PutAside));
            }
        });
    }

    /// The waveform with the part that is used, and its two edges. Returns whether the user has moved one and let go.
    fn waveform(&mut self, ui: &mut Ui, draft: &VoiceDraft) -> bool {
        let palette = Palette::of(ui);
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), WAVE_HEIGHT), Sense::hover());
        let told = fill("voice-waveform", &[("file", &draft.file)]);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &told));
        let painter = ui.painter_at(rect.expand(4.0));
        painter.rect_filled(rect, CornerRadius::same(6), palette.well);
        let seconds = draft.seconds.max(1e-3);
        let x_of = |at_s: f64| rect.left() + rect.width() * (at_s / seconds) as f32;
        let used = Rect::from_x_y_ranges(x_of(self.span.start_s)..=x_of(self.span.end_s), rect.y_range());
        painter.rect_filled(used, CornerRadius::ZERO, palette.tint);
        let top = draft.peaks.iter().flatten().fold(0.05f32, |top, peak| top.max(peak.abs()));
        for (i, [low, high]) in draft.peaks.iter().enumerate() {
            let x = rect.left() + rect.width() * (i as f32 + 0.5) / draft.peaks.len() as f32;
            let y = |sample: f32| rect.center().y - sample / top * rect.height() * 0.46;
            let colour = if used.x_range().contains(x) { palette.accent } else { palette.muted };
            painter.line_segment([pos2(x, y(*high) - 0.5), pos2(x, y(*low) + 0.5)], Stroke::new(1.0, colour));
        }
        let mut let_go = false;
        for (label, is_start) in [(BEGINNING, true), (END, false)] {
            let at_s = if is_start { self.span.start_s } else { self.span.end_s };
            let x = x_of(at_s);
            let handle = Rect::from_center_size(pos2(x, rect.center().y), vec2(14.0, rect.height()));
            let response = ui.interact(handle, Id::unique(("voice edge", label)), Sense::click_and_drag());
            response.widget_info(|| WidgetInfo::slider(true, (at_s * 10.0).round() / 10.0, t(label)));
            let response = response.on_hover_cursor(CursorIcon::ResizeHorizontal).on_hover_text(t(label));
            let mut wanted = None;
            if let Some(pointer) = response.interact_pointer_pos().filter(|_| response.dragged()) {
                wanted = Some(f64::from((pointer.x - rect.left()) / rect.width()) * seconds);
            }
            if response.has_focus() {
                let pressed = |key| ui.input_mut(|input| input.count_and_consume_key(Default::default(), key)) as f64;
                let steps = pressed(Key::ArrowUp) - pressed(Key::ArrowDown);
                if steps != 0.0 {
                    wanted = Some(at_s + steps * STEP_S);
                    let_go = true;
                }
            }
            if let Some(wanted) = wanted {
                self.span = moved(self.span, is_start, wanted, draft.seconds);
            }
            let_go |= response.drag_stopped();
            painter.vline(x, rect.y_range(), Stroke::new(2.0, palette.text));
            painter.circle_filled(pos2(x, rect.center().y), 4.0, palette.text);
            focus_ring(ui, &response, handle, 4);
        }
        let_go
    }

    fn kept(
        &mut self,
        ui: &mut Ui,
        view: &VoicesView,
        voice: &VoiceEntry,
        settings: &mut Settings,
        commands: &mut Vec<Command>,
    ) {
        let palette = Palette::of(ui);
        let chosen = settings.voice.as_ref() == Some(&voice.id);
        let colour = if view.kept.as_ref() == Some(&voice.id) { palette.green } else { palette.text };
        let name = RichText::new(&voice.name).color(colour);
        if outlined(ui, |ui| ui.radio(chosen, name)).clicked() && !chosen {
            settings.voice = Some(voice.id.clone());
            commands.push(Command::Voice(VoiceCommand::Choose(Some(voice.id.clone()))));
        }
        ui.add(Label::new(RichText::new(told(&voice.details)).small().weak()).truncate());
        if let Some((_, name)) = self.renaming.as_mut().filter(|(id, _)| *id == voice.id) {
            let caption = ui.label(RichText::new(t("voice-new-name")).small().weak());
            let field = ui.add(TextEdit::singleline(name).desired_width(f32::INFINITY)).labelled_by(caption.id);
            let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let mut done = false;
            ui.horizontal(|ui| {
                if ui.button(t("voice-rename-now")).clicked() || entered {
                    let name = name.trim().to_owned();
                    commands.push(Command::Voice(VoiceCommand::Rename { id: voice.id.clone(), name }));
                    done = true;
                }
                done |= ui.button(t("voice-leave")).clicked();
            });
            if done {
                self.renaming = None;
            }
            return;
        }
        if self.removing.as_ref() == Some(&voice.id) {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(t("voice-delete-ask")).small());
                if named(ui, t("voice-delete-now"), &fill("voice-delete-now-one", &[("name", &voice.name)])) {
                    if chosen {
                        settings.voice = None;
                        commands.push(Command::Voice(VoiceCommand::Choose(None)));
                    }
                    commands.push(Command::Voice(VoiceCommand::Remove { id: voice.id.clone() }));
                    self.removing = None;
                }
                if ui.button(t("voice-leave")).clicked() {
                    self.removing = None;
                }
            });
            return;
        }
        ui.horizontal_wrapped(|ui| {
            listen(ui, view, &voice.name, Sample::Kept(voice.id.clone()), commands);
            if named(ui, t("voice-rename"), &fill("voice-rename-one", &[("name", &voice.name)])) {
                self.renaming = Some((voice.id.clone(), voice.name.clone()));
            }
            if named(ui, t("voice-delete"), &fill("voice-delete-one", &[("name", &voice.name)])) {
                self.removing = Some(voice.id.clone());
            }
        });
    }
}

/// The text to read aloud, and how long that has taken.
fn recording(ui: &mut Ui, seconds: f64, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    ui.label(RichText::new(t("voice-read-this")).small().weak());
    ui.add(Label::new(RichText::new(t("voice-text")).size(16.0)).wrap());
    ui.horizontal(|ui| {
        if ui.add(Button::new(RichText::new(t(STOP_RECORDING)).color(palette.red))).clicked() {
            commands.push(Command::Voice(VoiceCommand::StopRecording));
        }
        ui.label(RichText::new(fill("time-seconds", &[("s", &format!("{seconds:.0}"))])).color(palette.muted));
    });
}

/// A button that says more to a screen reader than there is room for. Returns whether it was pressed.
fn named(ui: &mut Ui, text: &str, name: &str) -> bool {
    let button = ui.button(text);
    button.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    button.clicked()
}

/// Plays a sample, or stops it.
fn listen(ui: &mut Ui, view: &VoicesView, name: &str, sample: Sample, commands: &mut Vec<Command>) {
    let what = if name.is_empty() { t(LISTEN).to_owned() } else { fill("voice-listen-to", &[("name", name)]) };
    if view.previewing {
        if named(ui, t(STOP), t(STOP)) {
            commands.push(Command::Voice(VoiceCommand::StopPreview));
        }
    } else if named(ui, t(LISTEN), &what) {
        commands.push(Command::Voice(VoiceCommand::Preview(sample)));
    }
}

fn grade_words(grade: Grade) -> &'static str {
    match grade {
        Grade::Ok => t("grade-ok"),
        Grade::Usable => t("grade-usable"),
        Grade::NotUsable => t("grade-not"),
    }
}

fn colour_of(palette: &Palette, grade: Grade) -> Color32 {
    match grade {
        Grade::Ok => palette.green,
        Grade::Usable => palette.amber,
        Grade::NotUsable => palette.red,
    }
}

/// A span with one edge moved to `wanted`, as far as the recording and the other edge allow.
fn moved(span: Span, is_start: bool, wanted: f64, seconds: f64) -> Span {
    if is_start {
        let latest = (span.end_s - LEAST_S).max(0.0);
        Span::new(wanted.clamp((span.end_s - MOST_S).max(0.0).min(latest), latest), span.end_s)
    } else {
        let earliest = (span.start_s + LEAST_S).min(seconds);
        Span::new(span.start_s, wanted.clamp(earliest, (span.start_s + MOST_S).min(seconds).max(earliest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_goes_where_it_may() {
        let span = Span::new(10.0, 20.0);
        let start = |wanted| moved(span, true, wanted, 60.0);
        assert_eq!(
            [start(5.0), start(-9.0), start(19.9)],
            [Span::new(5.0, 20.0), Span::new(0.0, 20.0), Span::new(19.0, 20.0)]
        );
        let end = |wanted| moved(span, false, wanted, 60.0);
        assert_eq!(
            [end(25.0), end(90.0), end(3.0)],
            [Span::new(10.0, 25.0), Span::new(10.0, 40.0), Span::new(10.0, 11.0)]
        );
        assert_eq!(moved(Span::new(35.0, 60.0), true, 0.0, 60.0), Span::new(30.0, 60.0));
        // A recording shorter than the least.
        assert_eq!(moved(Span::new(0.0, 0.5), true, 0.4, 0.5), Span::new(0.0, 0.5));
        assert_eq!(moved(Span::new(0.0, 0.5), false, 0.1, 0.5), Span::new(0.0, 0.5));
    }
}
