//! Arithmetic on samples that several rooms share. No state beyond a filter's own; runs on whichever thread calls it.

pub mod mel;
