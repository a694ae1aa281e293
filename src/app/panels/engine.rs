//! Which engine answers, and what can be chosen of it: the starter's language model and speed, how the omni engine is
//! loaded. Window thread.

use super::super::theme::Palette;
use super::super::view_state::ViewState;
use super::super::widgets::{focus_ring, option};
use super::super::words::{fill, t};
use super::settings::{caption, choice, left};
use crate::session::command::Command;
use crate::settings::Settings;
use eframe::egui::{CollapsingHeader, Context, Label, RichText, TextEdit, Ui};

pub const LANGUAGE_MODEL: &str = "language-model";
/// How the omni engine is loaded, folded.
pub const OMNI: &str = "omni-group";

/// What a speed is called.
const SPEEDS: [(f32, &str); 5] = [(0.8, "0.8 ×"), (1.0, "1 ×"), (1.15, "1.15 ×"), (1.3, "1.3 ×"), (1.5, "1.5 ×")];
/// What the speech model of the omni engine may know of the text ahead, in tokens; it was trained with the last.
const CHUNKS: [usize; 4] = [7, 8, 9, 10];

/// A language model (GGUF) that was dropped onto the window is the starter's from now on. Returns whether one was.
pub fn take_dropped(ctx: &Context, settings: &mut Settings, commands: &mut Vec<Command>) -> bool {
    let dropped = ctx.input(|input| input.raw.dropped_files.last().map(|file| file.path().to_owned()));
    let is_model = |file: &std::path::PathBuf| file.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let Some(file) = dropped.filter(is_model) else { return false };
    settings.llm = Some(file.display().to_string());
    settings.engine = "cascade".into();
    commands.push(Command::UseEngine(settings.engine_selection()));
    true
}

/// What people call an engine.
pub(super) fn name_of(engine: &str) -> &str {
    match engine {
        "cascade" => t("engine-starter"),
        "omni" => t("engine-omni"),
        other => other,
    }
}

/// Draws the choices.
pub fn show(ui: &mut Ui, view: &ViewState, settings: &mut Settings, commands: &mut Vec<Command>) {
    caption(ui, t("engine"));
    let running = view.engine.as_ref().map_or(settings.engine.as_str(), |engine| &engine.name).to_owned();
    let mut wanted = false;
    ui.horizontal(|ui| {
        for (engine, hint) in [("cascade", "engine-starter-hint"), ("omni", "engine-omni-hint")] {
            let button = option(ui, running == engine, name_of(engine)).on_hover_text(t(hint));
            if button.clicked() && running != engine {
                engine.clone_into(&mut settings.engine);
                wanted = true;
            }
        }
    });
    let mut anew = false;
    match running.as_str() {
        "cascade" => {
            wanted |= language_model(ui, settings);
            starter_speech(ui, settings, commands);
        }
        "omni" => anew = omni(ui, settings),
        // A script speaks as it is written.
        _ => {}
    }
    if anew {
        commands.push(Command::UseEngine(settings.engine_selection_anew()));
    } else if wanted {
        commands.push(Command::UseEngine(settings.engine_selection()));
    }
}

/// Returns whether another one is wanted.
fn language_model(ui: &mut Ui, settings: &mut Settings) -> bool {
    let name = caption(ui, t(LANGUAGE_MODEL));
    let mut text = settings.llm.clone().unwrap_or_default();
    let field = TextEdit::singleline(&mut text).hint_text(t("llm-own")).desired_width(f32::INFINITY);
    let field = ui.add(field).labelled_by(name.id);
    let field = field.on_hover_text(t("llm-hint"));
    if field.changed() {
        let text = text.trim();
        settings.llm = (!text.is_empty()).then(|| text.to_owned());
    }
    left(ui, &field)
}

fn starter_speech(ui: &mut Ui, settings: &mut Settings, commands: &mut Vec<Command>) {
    caption(ui, t("speed")).on_hover_text(t("speed-hint"));
    if choice(ui, &mut settings.speed, SPEEDS) {
        commands.push(Command::SetSpeed(settings.speed));
    }
    caption(ui, t("speech-language"));
    ui.add(Label::new(t("speech-starter")).wrap());
}

/// How the omni engine is loaded: folded, because few people need it. Returns whether it is wanted otherwise.
fn omni(ui: &mut Ui, settings: &mut Settings) -> bool {
    caption(ui, t("speech-language")).on_hover_text(t("speech-language-hint"));
    let mut chinese = settings.language.starts_with("zh");
    let mut changed = choice(ui, &mut chinese, [(false, t("speech-english")), (true, t("speech-chinese"))]);
    if changed {
        settings.language = if chinese { "zh" } else { "en" }.into();
    }
    let weak = |text: &str| Label::new(RichText::new(text).small().weak()).wrap();
    let group = CollapsingHeader::new(RichText::new(t(OMNI)).color(Palette::of(ui).text)).id_salt(OMNI);
    let group = group.show_unindented(ui, |ui| {
        ui.add(weak(t("omni-note")));
        caption(ui, t("precision")).on_hover_text(t("precision-hint"));
        let mut precision = precision_of(settings);
        let kinds = [("", t("precision-auto")), ("bf16", "bf16"), ("q8_0", "q8_0"), ("q4_k", "q4_k")];
        if choice(ui, &mut precision, kinds) {
            (settings.omni.dtype, settings.omni.quantize) = match precision {
                "" => (None, None),
                "bf16" => (Some("bf16".to_owned()), None),
                packed => (None, Some(packed.to_owned())),
            };
            changed = true;
        }
        caption(ui, t("text-chunk")).on_hover_text(t("text-chunk-hint"));
        let mut chunk = settings.omni.text_chunk.unwrap_or(CHUNKS[3]);
        let names = CHUNKS.map(|tokens| fill("text-chunk-of", &[("tokens", &tokens.to_string())]));
        if choice(ui, &mut chunk, [0, 1, 2, 3].map(|i| (CHUNKS[i], names[i].as_str()))) {
            settings.omni.text_chunk = (chunk != CHUNKS[3]).then_some(chunk);
            changed = true;
        }
        caption(ui, t("speed"));
        ui.add(weak(t("speed-omni")));
    });
    focus_ring(ui, &group.header_response, group.header_response.rect, 6);
    changed
}

/// The precision on offer that the settings ask for; "?" for another.
fn precision_of(settings: &Settings) -> &'static str {
    match (settings.omni.dtype.as_deref(), settings.omni.quantize.as_deref()) {
        (None, None) => "",
        (Some("bf16"), None) => "bf16",
        (None, Some("q8_0")) => "q8_0",
        (None, Some("q4_k")) => "q4_k",
        _ => "?",
    }
}
