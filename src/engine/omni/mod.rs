//! MiniCPM-o 2.6: speech in, speech out, one model. One file per part of the checkpoint.
//!
//! - [`config`], [`weights`], [`tokens`]: what lies in the checkpoint folder, checked
//! - [`ear`]: sound to embeddings; [`llm`]: embeddings to words; [`tts`] with [`codes`]: words to audio codes;
//!   [`dvae`], [`vocos`] and [`vocoder`]: audio codes to sound
//! - [`prompt`], [`dialogue`]: the words around what is heard and said
//! - [`compat`]: speech as upstream makes it, defects included
//! - [`load`]: the parts put together
//!
//! Everything lives on the engine thread. Invariant: with [`OmniOptions::compat`] the numbers are upstream's.
//!
//! [`OmniOptions::compat`]: load::OmniOptions::compat

pub mod codes;
pub mod compat;
pub mod config;
mod convnext;
pub mod dialogue;
pub mod dvae;
pub mod ear;
pub mod llm;
pub mod load;
pub mod probe;
pub mod prompt;
pub mod tokens;
pub mod tts;
pub mod vocoder;
pub mod vocos;
pub mod weights;
