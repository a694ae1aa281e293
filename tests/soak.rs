//! A long dialogue with a real sound service and a scripted engine: questions said aloud and typed, answers to their end and
//! broken off. Memory at the end is within 5 % of that after two minutes, and no device reports an xrun, but for those that
//! come of a pause of the whole machine (a virtual one stops while others run), which no buffer shorter than it outlasts.
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
mod pauses {
    //! Pauses of the whole machine: times in which none of its processors ran anything. Seen by a thread on each, which does
    //! nothing but look at the clock.

    use anyhow::Result;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    /// What the loudspeaker has in store at least, see `PULSE_OUTPUT_MS` in the library. A shorter pause is harmless.
    const SUPPLY: Duration = Duration::from_millis(30);

    type Gaps = Arc<Mutex<Vec<(Instant, Instant)>>>;

    /// The gaps of every processor, none shorter than [`SUPPLY`].
    pub struct Pauses(Vec<Gaps>);

    impl Pauses {
        /// Begins to watch, until the process ends.
        pub fn watch() -> Result<Self> {
            let usable = sched_getaffinity(None)?;
            let processors = (0..CpuSet::MAX_CPU).filter(|processor| usable.is_set(*processor));
            let watch = |processor| -> Result<Gaps> {
                let gaps = Gaps::default();
                let theirs = Arc::clone(&gaps);
                let mut only = CpuSet::new();
                only.set(processor);
                std::thread::Builder::new().name(format!("pauses {processor}")).spawn(move || {
                    // Elsewhere it would see the pauses of another.
                    if sched_setaffinity(None, &only).is_ok() {
                        look_on(&theirs);
                    }
                })?;
                Ok(gaps)
            };
            Ok(Pauses(processors.map(watch).collect::<Result<_>>()?))
        }

        /// The pauses of all processors at once that ended after `since`, in milliseconds.
        pub fn since(&self, since: Instant) -> Vec<f64> {
            let mut common: Option<Vec<(Instant, Instant)>> = None;
            for gaps in &self.0 {
                let gaps = gaps.lock().unwrap_or_else(PoisonError::into_inner);
                let both = |(from, to): (Instant, Instant)| {
                    gaps.iter().map(move |(a, b)| (from.max(*a), to.min(*b))).collect::<Vec<_>>()
                };
                common = Some(match common {
                    None => gaps.clone(),
                    Some(before) => before.into_iter().flat_map(both).collect(),
                });
            }
            let long =
                |(from, to): (Instant, Instant)| to.checked_duration_since(from).filter(|length| *length >= SUPPLY);
            let ended = common.unwrap_or_default().into_iter().filter(|(_, to)| *to >= since);
            ended.filter_map(long).map(|length| length.as_secs_f64() * 1e3).collect()
        }
    }

    fn look_on(gaps: &Gaps) {
        let mut last = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(1));
            let now = Instant::now();
            if now - last >= SUPPLY {
                gaps.lock().unwrap_or_else(PoisonError::into_inner).push((last, now));
            }
            last = now;
        }
    }
}

#[cfg(target_os = "linux")]
mod dialogue {
    use crate::common::rig::{Rig, script, text, tone};
    use crate::lab::sound::Lab;
    use crate::pauses::Pauses;
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
    /// An xrun is known by the delay of the next second, and told with the next counters.
    const KNOWN_AFTER: Duration = Duration::from_secs(4);

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

        let pauses = Pauses::watch()?;
        let start = Instant::now();
        let (mut warm, mut turns, mut next_word) = (None, 0u64, WARM);
        let (mut xruns, mut ours, mut starvation, mut lost) = (0, 0, 0, 0);
        while start.elapsed().as_secs_f64() < minutes * 60.0 {
            turns += 1;
            let turn_began = Instant::now();
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
                    // A pause can cost both the microphone and the loudspeaker something.
                    let excused = 2 * pauses.since(turn_began - KNOWN_AFTER).len() as u64;
                    ours += x.saturating_sub(xruns).saturating_sub(excused);
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
        let stops = pauses.since(start);
        let longest = stops.iter().copied().fold(0.0, f64::max);
        say(&format!(
            "{xruns} xruns, {ours} of them without a pause of the whole machine; {} such pauses, the longest {longest:.0} ms",
            stops.len()
        ));
        ensure!(end <= warm * GROWTH, "memory grew from {warm:.1} to {end:.1} MiB");
        ensure!(ours == 0 && lost == 0, "{ours} xruns of our own, {lost} samples of the microphone lost");
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
