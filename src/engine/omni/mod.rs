//! MiniCPM-o 2.6: speech in, speech out, one file per part of the checkpoint.

pub mod codes;
pub mod config;
pub mod convnext;
pub mod dvae;
pub mod ear;
pub mod llm;
pub mod probe;
pub mod prompt;
pub mod tokens;
pub mod tts;
pub mod vocoder;
pub mod vocos;
pub mod weights;
