//! What every stage reports, and what is made of it.
//!
//! One source of truth: the meters in the window, the JSON export, the trace and the benchmark all read [`StageMark`]s.

mod export;
mod histogram;
mod memory;
mod stage;
mod timeline;
mod trace;

pub use export::{StageReport, TurnReport, question, to_json_line};
pub use histogram::Histogram;
pub use memory::memory_held;
pub use stage::{Stage, StageMark};
pub use timeline::{Bar, Timeline};
pub use trace::to_trace_json;
