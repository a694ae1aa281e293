//! Arithmetic on samples that several rooms share. No state beyond a filter's own; no threads, no clock, no I/O.

pub mod level;
pub mod mel;
pub mod resample;
