//! What several integration tests share.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

pub mod desk;
pub mod models;
pub mod rig;
pub mod sound;
pub mod words;
