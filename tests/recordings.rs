//! The window's reducer with streams of events as real sessions told them, and what the window shows after each event
//! that matters.
//!
//! A recording is a line of JSON per event, with the milliseconds since the session began (`tests/fixtures/events`, whose
//! README says how each was made). Beside it stands what the window showed, a line per change, for people to read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use antiphon::app::view_state::{TurnView, ViewState};
use antiphon::session::event::{Event, Severity, TurnState};
use antiphon::time::Micros;
use serde::Deserialize;
use std::fmt::Write;
use std::path::Path;

#[derive(Deserialize)]
struct Line {
    ms: u64,
    event: Event,
}

fn recording(name: &str) -> (Vec<Line>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
    let read = |extension: &str| {
        let path = folder.join(name).with_extension(extension);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let lines = read("jsonl");
    let parsed = lines
        .lines()
        .enumerate()
        .map(|(i, line)| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}.jsonl, line {}: {e}", i + 1)));
    (parsed.collect(), read("view"))
}

fn state(view: &ViewState) -> String {
    match &view.state {
        TurnState::Degraded { why } => {
            format!("Degraded: {}", why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        TurnState::Faulted { why, remedy } => format!("Faulted: {why} {remedy}"),
        state => format!("{state:?}"),
    }
}

fn turn(turn: &TurnView) -> String {
    let (heard, rest) = turn.answer_parts();
    let mut told = format!("  {}. {}{}", turn.turn, turn.heard, if turn.heard_final { "" } else { " ..." });
    if !turn.answer.is_empty() {
        write!(told, " -> {heard}|{rest}").unwrap();
    }
    match (turn.ended, turn.cut_off) {
        (true, true) => told + " (cut off)",
        (true, false) => told + " (ended)",
        _ => told,
    }
}

/// What is looked at: a change of it is worth a line.
fn significant(view: &ViewState) -> impl PartialEq + use<> {
    let turns: Vec<_> =
        view.turns.iter().map(|t| (t.turn, t.heard.clone(), t.heard_final, t.ended, t.cut_off, t.spoken > 0)).collect();
    let problems: Vec<_> = view.problems.iter().map(|p| p.what.to_string()).collect();
    (state(view), turns, problems, view.engine.clone(), view.input.open.clone(), view.output.open.clone())
}

/// Applies all events; gives the last view and what was shown on the way.
fn play(lines: &[Line]) -> (ViewState, String) {
    let mut view = ViewState::default();
    let mut shown = String::new();
    for (i, line) in lines.iter().enumerate() {
        let before = (significant(&view), view.turns.last().map(|t| (t.turn, t.spoken)));
        view.apply(line.event.clone(), Micros(line.ms * 1000));
        for turn in &view.turns {
            assert!(turn.answer.is_char_boundary(turn.spoken), "event {i}: {turn:?}");
        }
        if let (Some((number, spoken)), Some(turn)) = (before.1, view.turns.last())
            && number == turn.turn
            && !turn.ended
        {
            assert!(turn.spoken >= spoken, "event {i}: what was heard is not unheard");
        }
        let busy = matches!(view.state, TurnState::Thinking | TurnState::Speaking | TurnState::Ducked);
        assert_eq!(view.can_interrupt(), busy, "event {i}");
        if significant(&view) != before.0 {
            writeln!(shown, "{}", state(&view)).unwrap();
            for problem in view.problems.iter().filter(|p| !view.state_says(p)) {
                let severity = match problem.severity {
                    Severity::Note => "note",
                    Severity::Warning => "warning",
                    Severity::Error => "error",
                };
                writeln!(shown, "  {severity}: {}", problem.what).unwrap();
            }
            if let Some(one) = view.turns.last() {
                writeln!(shown, "{}", turn(one)).unwrap();
            }
        }
    }
    (view, shown)
}

/// Plays a recording and compares what was shown with what stands beside it.
fn check(name: &str) -> (Vec<Line>, ViewState) {
    let (lines, expected) = recording(name);
    let (view, shown) = play(&lines);
    assert_eq!(shown, expected, "{name}.view; this is what was shown:\n{shown}");
    (lines, view)
}

#[test]
fn a_turn_of_the_starter_is_shown_as_it_happens() {
    let (lines, view) = check("starter");
    let reports = lines.iter().filter_map(|line| match &line.event {
        Event::TurnEnded { report, .. } => Some(report),
        _ => None,
    });
    let reports: Vec<_> = reports.collect();
    let (report, turn) = (reports[0], &view.turns[0]);
    assert_eq!((reports.len(), view.turns.len()), (1, 1));
    // The window's figures are those of the report, and the meters those of the marks.
    assert_eq!((turn.ttfa_ms, turn.spoken), (report.ttfa_ms, report.answer.len()));
    assert_eq!((view.meters.ttfa.last(), view.meters.rtf.last()), (report.ttfa_ms, report.rtf));
    assert!(!view.meters.bars.is_empty());
    for stage in &report.stages {
        let shown = view.meters.stages.get(&stage.stage);
        assert!(shown.is_some_and(|histogram| histogram.last().is_some()), "{:?}", stage.stage);
    }
}

#[test]
fn an_interruption_leaves_what_was_not_heard() {
    let (_, view) = check("interrupted");
    let cut = view.turns.iter().find(|turn| turn.cut_off).unwrap();
    let (heard, rest) = cut.answer_parts();
    assert!(!heard.is_empty() && !rest.is_empty(), "{cut:?}");
    assert!(view.meters.barge_in_stop.last().is_some_and(|ms| ms > 0.0));
    assert!(view.turns.last().is_some_and(|turn| turn.ended && !turn.cut_off));
}

#[test]
fn a_microphone_that_goes_and_comes_back_leaves_no_warning() {
    let (lines, view) = check("unplugged");
    assert!(lines.iter().any(|line| matches!(line.event, Event::State(TurnState::Degraded { .. }))));
    assert!(view.input.open.is_some() && view.problems.iter().all(|p| p.severity == Severity::Note));
}
