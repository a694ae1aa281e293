//! The terms of a model that has some: shown before it is fetched, and agreed to. Window thread.

use super::super::theme::Palette;
use super::super::words::{fill, t};
use crate::session::command::Command;
use crate::session::event::ModelStatus;
use eframe::egui::{Button, CornerRadius, Frame, Label, Margin, RichText, Ui};

pub const AGREE: &str = "terms-agree";
pub const AGREE_AND_IMPORT: &str = "terms-agree-import";
pub const LEAVE: &str = "terms-leave";

/// The model whose terms are being read.
#[derive(Debug, Default)]
pub struct Reading(Option<String>);

impl Reading {
    /// The user wants this model: it is fetched, or its terms are shown first.
    pub fn get(&mut self, model: &ModelStatus, commands: &mut Vec<Command>) {
        match &model.terms {
            Some(_) => self.0 = Some(model.id.clone()),
            None => commands.push(Command::PullModels(vec![model.id.clone()])),
        }
    }

    /// Draws the terms, if they are those being read.
    pub fn show(&mut self, ui: &mut Ui, model: &ModelStatus, commands: &mut Vec<Command>) {
        let (Some(terms), true) = (&model.terms, self.0.as_ref() == Some(&model.id)) else { return };
        let palette = Palette::of(ui);
        let frame = Frame::new().fill(palette.well).corner_radius(CornerRadius::same(8));
        frame.inner_margin(Margin::symmetric(10, 8)).show(ui, |ui| {
            ui.label(fill("terms-title", &[("licence", &model.licence)]));
            ui.add(Label::new(RichText::new(terms.trim()).small()).wrap());
            ui.horizontal_wrapped(|ui| {
                let text = RichText::new(t(AGREE)).color(palette.on_accent);
                if ui.add(Button::new(text).fill(palette.accent)).clicked() {
                    commands.push(Command::AgreeToTerms(model.id.clone()));
                    commands.push(Command::PullModels(vec![model.id.clone()]));
                    self.0 = None;
                }
                if ui.button(t(AGREE_AND_IMPORT)).on_hover_text(t("models-import-hint")).clicked() {
                    commands.push(Command::AgreeToTerms(model.id.clone()));
                    commands.push(super::models::import(vec![model.id.clone()]));
                    self.0 = None;
                }
                if ui.button(t(LEAVE)).clicked() {
                    self.0 = None;
                }
            });
        });
    }
}
