//! What several integration tests share.

pub mod models;
pub mod sound;
