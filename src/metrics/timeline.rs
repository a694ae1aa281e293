//! Collects what happened in one turn and makes the report and the waterfall of it.

use super::Stage;

/// A stretch of time in which a stage was at work, for the waterfall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    pub stage: Stage,
    /// Milliseconds since the last voiced sample, as in [`TurnReport`](super::TurnReport).
    pub start_ms: f64,
    pub end_ms: f64,
}
