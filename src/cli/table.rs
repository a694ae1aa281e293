//! Reports as tables for a terminal. Pure.

use crate::metrics::TurnReport;
use std::fmt::Write;

/// One turn: what was said, and where the time went.
pub fn turn(report: &TurnReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_turn(&mut text, report);
    text
}

fn write_turn(out: &mut String, report: &TurnReport) -> std::fmt::Result {
    writeln!(out, "you      {}", report.question())?;
    writeln!(out, "answer   {}{}", report.answer, if report.cut_off { "  (cut off)" } else { "" })?;
    writeln!(out)?;
    writeln!(
        out,
        "{:<16} {:>9} {:>7} {:>9} {:>11} {:>11}",
        "stage", "total ms", "count", "units", "first ms", "last ms"
    )?;
    for s in &report.stages {
        writeln!(
            out,
            "{:<16} {:>9.1} {:>7} {:>9} {:>11.1} {:>11.1}",
            s.stage.name(),
            s.total_ms,
            s.count,
            s.units,
            s.first_start_ms,
            s.last_end_ms
        )?;
    }
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.0} ms"));
    writeln!(out)?;
    writeln!(
        out,
        "first audio {} after the last voiced sample (end of turn decided after {}, then {})",
        ms(report.ttfa_ms),
        ms(report.end_of_turn_ms),
        ms(report.ttfa_compute_ms)
    )?;
    if let Some(stop) = report.barge_in_stop_ms {
        writeln!(out, "interrupted: silent {stop:.0} ms after that was certain")?;
    }
    let rtf = report.rtf.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    writeln!(
        out,
        "speech {:.1} s, real-time factor {rtf}, starvation {} ({:.0} ms), xruns {}",
        report.speech_seconds, report.starvation_events, report.starvation_ms, report.xruns
    )?;
    writeln!(out)
}
