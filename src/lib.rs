//! Antiphon: a native desktop voice assistant. You speak, it answers in a voice, on your own machine.
//!
//! The program is one loop that a sample of sound travels through; the modules are the rooms along that way:
//!
//! - [`audio`]: sound cards and files; the only room that names `cpal`
//! - [`dsp`]: arithmetic on samples that several rooms share; no state beyond a filter's own
//! - [`turn`]: whose turn is it; pure, time is an argument
//! - [`engine`]: what answers; the only room that names `candle`
//! - [`voice`]: voices to speak in, taken from recordings
//! - [`session`]: one conversation: owns the turn, the epoch and the history
//! - [`conversation`]: what was said, kept on disk: words, sound, export
//! - [`metrics`]: what every stage reports, and how it is shown
//! - [`weights`]: the catalog of models and how they get here
//! - [`app`] and [`cli`]: the two doors; the only rooms that name `egui` and `clap`
//!
//! `ARCHITECTURE.md` has the invariants.

pub mod app;
pub mod audio;
pub mod cli;
pub mod conversation;
pub mod dsp;
pub mod engine;
pub mod metrics;
pub mod session;
pub mod settings;
pub mod time;
pub mod turn;
pub mod voice;
pub mod weights;
