//! One conversation: owns the turn, the epoch and the history.
//!
//! [`command`] comes in and [`event`] goes out; a door (the window, the command line) sees nothing else of the house.

pub mod command;
pub mod event;
