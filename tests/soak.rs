//! A long dialogue with a real sound service and a scripted engine: questions said aloud and typed, answers to their end and
//! broken off. Memory at the end is within 5 % of that after two minutes, and no device reports an xrun.
//!
//! Apart from the other tests: `make soak`, or `make soak MINUTES=6`. With its own main, since its length is a parameter.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[cfg(target_os = "linux")]
mod common;
#[cfg(target_os = "linux")]
mod lab;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    dialogue::run()
}

#[cfg(target_os = "linux")]
mod dialogue {
    use crate::common::rig::{Rig, script, text, tone};
    use crate::lab::sound::Lab;
    use antiphon::audio::CardChoice;
    use antiphon::session::CardSource;
    use antiphon::session::command::Command;
    use antiphon::session::event::{Event, TurnState};
    use anyhow::{Context, Result, ensure};
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// Memory is compared with what it was after this long.
    const WARM: Duration = Duration::from_secs(120);
    /// How much more it may be.
    const GROWTH: f64 = 1.05;

    pub fn run() -> Result<()> {
        let minutes: f64 = match std::env::var("SOAK_MINUTES") {
            Ok(text) => text.parse().context("SOAK_MINUTES is not a number")?,
            Err(_) => 30.0,
        };
        ensure!(minutes > 2.5, "a soak of {minutes} minutes is none: at least 3, of which 2 are for warming up");
        let lab = Lab::start()?;
        lab.adopt();
        let question = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/question.wav");
        let steps = (0..8).flat_map(|_| [text("word "), tone(0.4, 60)]).collect();
        let mut rig = Rig::on(CardSource::Devices(CardChoice::both()), script(steps));
        rig.until("devices", |e| matches!(e, Event::Devices { output, .. } if output.open.is_some()));

        let start = Instant::now();
        let (mut warm, mut turns, mut next_word) = (None, 0u64, WARM);
        let (mut xruns, mut starvation, mut lost) = (0, 0, 0);
        while start.elapsed().as_secs_f64() < minutes * 60.0 {
            turns += 1;
            if turns.is_multiple_of(4) {
                rig.commands.send(Command::SendText("Well?".into()));
            } else {
                lab.say(&question)?;
            }
            if turns.is_multiple_of(3) {
                rig.until_state(TurnState::Speaking);
                std::thread::sleep(Duration::from_millis(200 + turns % 7 * 250));
                rig.commands.send(Command::Interrupt);
            }
            let report = rig.until_ended();
            ensure!(report.answer.starts_with("word") || report.cut_off, "{report:?}");
            // What the test itself keeps would grow.
            rig.record.clear();
            for event in std::mem::take(&mut rig.seen) {
                if let Event::Counters { xruns: x, starvation: s, lost_capture, .. } = event {
                    (xruns, starvation, lost) = (x, s, lost_capture);
                }
            }
            if start.elapsed() >= next_word {
                let now = resident_mib()?;
                warm.get_or_insert(now);
                say(&format!(
                    "{:5.1} min: {turns} turns, {now:.1} MiB, {xruns} xruns, {starvation} starvations, {lost} samples lost",
                    start.elapsed().as_secs_f64() / 60.0
                ));
                next_word += Duration::from_secs(60);
            }
        }
        let (warm, end) = (warm.context("too short")?, resident_mib()?);
        rig.stop();
        say(&format!(
            "{turns} turns; {warm:.1} MiB after 2 minutes, {end:.1} MiB at the end ({:+.1} %)",
            (end / warm - 1.0) * 100.0
        ));
        ensure!(end <= warm * GROWTH, "memory grew from {warm:.1} to {end:.1} MiB");
        ensure!(xruns == 0 && lost == 0, "{xruns} xruns, {lost} samples of the microphone lost");
        Ok(())
    }

    /// Memory in use by this process.
    fn resident_mib() -> Result<f64> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib / 1024.0)
    }

    #[expect(clippy::print_stdout, reason = "what this program is for")]
    fn say(line: &str) {
        println!("{line}");
    }
}
