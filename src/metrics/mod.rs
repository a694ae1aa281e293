//! What every stage reports, and what is made of it.
//!
//! One source of truth: the meters in the window, the JSON export, the trace and the benchmark all read [`StageMark`]s.

mod stage;

pub use stage::{Stage, StageMark};
