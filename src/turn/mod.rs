//! Whose turn is it. Pure: no threads, no clock, no I/O; time is an argument.

pub mod endpoint;
pub mod smart_turn;
pub mod state;
pub mod vad;
