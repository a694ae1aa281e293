//! Whose turn is it. Pure: no threads, no clock, no I/O; time is an argument.

pub mod state;
