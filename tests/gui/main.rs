//! The window's contents, found and pressed by the names a screen reader says. Needs no display and no graphics.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod first_run;
mod history;
mod languages;
mod layout;
mod models_and_devices;
mod pictures;
mod raster;
mod settings;
mod talking;
mod voices;
mod window;
