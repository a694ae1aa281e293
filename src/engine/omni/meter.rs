//! Stage marks of the model's work, for the session's sink.
//!
//! Owns the mark in the making; lives on the engine thread. Steps of one stage that follow each other closely become
//! one mark, so that hundreds of tokens are not hundreds of events.

use super::probe::Probe;
use crate::engine::ResponseSink;
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use std::sync::Arc;

/// Steps further apart than this are marks of their own.
const GAP_MS: f64 = 5.0;

/// Sends marks to a sink.
pub struct Meter<'a> {
    sink: &'a Arc<dyn ResponseSink>,
    mark: Option<StageMark>,
}

impl<'a> Meter<'a> {
    pub fn new(sink: &'a Arc<dyn ResponseSink>) -> Self {
        Self { sink, mark: None }
    }

    /// Sends the mark in the making.
    pub fn flush(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.sink.mark(mark);
        }
    }
}

impl Probe for Meter<'_> {
    fn looks_into_steps(&self) -> bool {
        false
    }

    fn worked(&mut self, stage: Stage, start: Micros, units: usize) {
        let (end, units) = (Micros::now(), units as u32);
        match &mut self.mark {
            Some(mark) if mark.stage == stage && start.ms_since(mark.end) < GAP_MS => {
                mark.end = end;
                mark.units += units;
            }
            _ => {
                self.flush();
                self.mark = Some(StageMark { epoch: 0, stage, start, end, units });
            }
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
