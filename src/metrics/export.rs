//! What a turn took, as data for people's tools. Plain data and pure functions.
//!
//! One [`TurnReport`] is one line of JSON: what `converse --json` prints per turn and what the window exports. The
//! fields of the JSON object are those of the struct, in its order; a time that does not exist (nothing sounded, the
//! turn was typed) is `null`.

use super::Stage;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a turn took. Times in milliseconds since the last voiced sample of the user (for a typed turn: since it was
/// sent); work done before it, while the user still spoke, has negative times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnReport {
    /// Counts from 1 in a conversation.
    pub turn: u64,
    /// What the user said, as understood; empty when the engine answers sound without writing it down.
    pub heard: String,
    /// How long the user spoke; `null` when the turn was typed.
    pub question_seconds: Option<f64>,
    /// The whole answer, as far as it was made.
    pub answer: String,
    /// How many bytes of the answer were heard.
    pub spoken_bytes: usize,
    /// Whether the answer was broken off.
    pub cut_off: bool,
    /// Time to first audio: last voiced sample in, first audible sample handed to the device.
    pub ttfa_ms: Option<f64>,
    /// `ttfa_ms` less `end_of_turn_ms`: what is left when the wait for the end of the turn is taken off.
    pub ttfa_compute_ms: Option<f64>,
    /// When the turn was taken for ended.
    pub end_of_turn_ms: Option<f64>,
    /// For an answer that the user's voice broke off: from when the interruption was certain to the last audible sample
    /// at the device.
    pub barge_in_stop_ms: Option<f64>,
    /// Time to make the answer's sound / time it plays; below 1 is faster than it is spoken.
    pub rtf: Option<f64>,
    /// Seconds of sound made for the answer.
    pub speech_seconds: f64,
    /// Times the answer's sound was not made in time, after it had begun.
    pub starvation_events: u64,
    /// Silence heard because of it.
    pub starvation_ms: f64,
    /// Glitches reported by the devices during the turn.
    pub xruns: u64,
    /// One row per stage that did something, in the order of a turn.
    pub stages: Vec<StageReport>,
}

impl TurnReport {
    /// The question for people: its words, or how long was spoken when nobody wrote them down.
    pub fn question(&self) -> Cow<'_, str> {
        question(&self.heard, self.question_seconds)
    }
}

/// The question for people: its words, or how long was spoken when nobody wrote them down.
pub fn question(heard: &str, seconds: Option<f64>) -> Cow<'_, str> {
    match seconds {
        Some(seconds) if heard.is_empty() => Cow::Owned(format!("(spoken, {seconds:.1} s)")),
        _ => Cow::Borrowed(heard),
    }
}

/// What one stage did in a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: Stage,
    /// Time spent working; pieces that ran side by side count each.
    pub total_ms: f64,
    /// Pieces of work.
    pub count: u64,
    /// What was done, in the stage's own unit: samples for sound stages, tokens for language stages.
    pub units: u64,
    pub first_start_ms: f64,
    pub last_end_ms: f64,
}

/// The report as one line of JSON, without a line break.
///
/// # Errors
/// None in practice (no map keys, no foreign serializers); handed on rather than hidden.
pub fn to_json_line(report: &TurnReport) -> Result<String, serde_json::Error> {
    serde_json::to_string(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The documented form; people's scripts read it, so a change here is a breaking change.
    #[test]
    fn the_json_has_the_documented_fields() {
        let report = TurnReport {
            turn: 2,
            heard: "你好\n\"hi\"".into(),
            question_seconds: Some(1.5),
            answer: "Hello.".into(),
            spoken_bytes: 6,
            ttfa_ms: Some(612.5),
            speech_seconds: 0.75,
            stages: vec![StageReport {
                stage: Stage::LlmPrefill,
                total_ms: 80.0,
                count: 1,
                units: 40,
                first_start_ms: -10.0,
                last_end_ms: 70.0,
            }],
            ..TurnReport::default()
        };
        let line = to_json_line(&report).unwrap();
        assert_eq!(
            line,
            r#"{"turn":2,"heard":"你好\n\"hi\"","question_seconds":1.5,"answer":"Hello.","spoken_bytes":6,"cut_off":false,"ttfa_ms":612.5,"ttfa_compute_ms":null,"end_of_turn_ms":null,"barge_in_stop_ms":null,"rtf":null,"speech_seconds":0.75,"starvation_events":0,"starvation_ms":0.0,"xruns":0,"stages":[{"stage":"llm_prefill","total_ms":80.0,"count":1,"units":40,"first_start_ms":-10.0,"last_end_ms":70.0}]}"#
        );
        assert_eq!(serde_json::from_str::<TurnReport>(&line).unwrap(), report);
    }

    #[test]
    fn a_question_nobody_wrote_down_is_told_by_its_length() {
        assert_eq!(question("why", Some(2.0)), "why");
        assert_eq!(question("", Some(2.04)), "(spoken, 2.0 s)");
        assert_eq!(question("", None), "");
    }
}
