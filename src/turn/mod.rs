//! Whose turn is it. Pure: no threads, no clock, no I/O after loading; time is an argument, or counted in samples.

pub mod backchannel;
pub mod echo_gate;
pub mod echo_path;
pub mod endpoint;
pub mod smart_turn;
pub mod state;
pub mod vad;

/// What went wrong while listening for turns. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The end-of-turn model is missing, damaged or another one.
    #[error("the end-of-turn model {path}: {why}; pull it again")]
    Model { path: String, why: String },
    /// The model's computation failed.
    #[error("the end-of-turn model failed ({0}); until the next start, turns end by silence alone")]
    Compute(String),
}
