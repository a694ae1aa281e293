//! The parts of the window. Each draws from the view state and puts what the user asks for into a list of commands;
//! none holds any logic of its own.

pub mod banners;
pub mod conversation;
pub mod devices;
pub mod engine;
pub mod exchange;
pub mod first_run;
pub mod history;
pub mod meters;
pub mod models;
pub mod settings;
pub mod stages;
pub mod talk_bar;
pub mod terms;
pub mod voices;
pub mod waterfall;

use super::words::fill;
use std::time::Duration;

/// A size as download pages show it: powers of 1000, two or three figures.
pub(super) fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A duration as one says it: "40 s", "1 min 40 s", "2 h 5 min".
fn human_time(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => fill("time-seconds", &[("s", &seconds.to_string())]),
        60..3600 => {
            let (m, s) = ((seconds / 60).to_string(), (seconds % 60).to_string());
            fill("time-minutes", &[("m", &m), ("s", &s)])
        }
        _ => {
            let (h, m) = ((seconds / 3600).to_string(), (seconds % 3600 / 60).to_string());
            fill("time-hours", &[("h", &h), ("m", &m)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_as_people_do() {
        let sizes = [0, 999, 1000, 99_940, 999_400, 999_600, 1_234_567_890, 5_000_000_000_000].map(human_bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "99.9 kB", "999 kB", "1.0 MB", "1.2 GB", "5.0 TB"]);
        let times = [0.4, 59.4, 100.0, 7500.0].map(|s| human_time(Duration::from_secs_f64(s)));
        assert_eq!(times, ["0 s", "59 s", "1 min 40 s", "2 h 5 min"]);
    }
}
