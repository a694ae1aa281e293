//! Marks as a trace that `chrome://tracing` and Perfetto open: one track per stage. Pure.
//!
//! The format is the "Trace Event Format" (JSON object form): complete events (`"ph":"X"`) with times in microseconds,
//! and metadata events (`"ph":"M"`) that name and order the tracks.

use super::{Stage, StageMark};
use serde_json::{Value, json};

/// The trace as a JSON document.
pub fn to_trace_json(marks: &[StageMark]) -> String {
    let mut events: Vec<Value> = Vec::with_capacity(marks.len() + 2 * Stage::ALL.len());
    for (track, stage) in (1u32..).zip(Stage::ALL) {
        if !marks.iter().any(|mark| mark.stage == stage) {
            continue;
        }
        events.push(json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": track, "args": {"name": stage.name()}}));
        events.push(
            json!({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": track, "args": {"sort_index": track}}),
        );
        for mark in marks.iter().filter(|mark| mark.stage == stage) {
            events.push(json!({
                "name": stage.name(), "cat": "turn", "ph": "X", "pid": 1, "tid": track,
                "ts": mark.start.0, "dur": mark.end.0.saturating_sub(mark.start.0),
                "args": {"epoch": mark.epoch, "units": mark.units},
            }));
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Micros;

    #[test]
    fn each_stage_has_a_named_track_with_its_marks() {
        let mark = |stage, start, end| StageMark { epoch: 4, stage, start: Micros(start), end: Micros(end), units: 9 };
        let marks = [mark(Stage::Vocoder, 30, 75), mark(Stage::Stt, 10, 20), mark(Stage::Vocoder, 80, 90)];
        let trace: Value = serde_json::from_str(&to_trace_json(&marks)).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let names: Vec<_> = events.iter().filter(|e| e["name"] == "thread_name").map(|e| &e["args"]["name"]).collect();
        assert_eq!(names, ["stt", "vocoder"]);
        let work: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(work.len(), 3);
        assert_eq!((&work[1]["ts"], &work[1]["dur"], &work[1]["args"]["epoch"]), (&json!(30), &json!(45), &json!(4)));
        assert_ne!(work[0]["tid"], work[1]["tid"]);
        assert_eq!(work[1]["tid"], work[2]["tid"]);
    }
}
