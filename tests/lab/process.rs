//! Child processes that never outlive their owner.
//!
//! Owns a child and the file its words go to; lives on the thread of the test. Dropping it, also while a panic
//! unwinds, ends the child: politely, then not. Only this child's own process id is ever signalled.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a child has to end itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// A child process; ended when dropped.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`; what it says on standard error goes to `log`. Standard output is as the caller set it.
    pub fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child =
            command.stdin(Stdio::null()).stderr(file).spawn().with_context(|| {
                format!("cannot start {name}: run 'scripts/setup.sh test' to install the tests' tools")
            })?;
        Ok(Running { name, child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no such process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it has ended by itself; an error when it is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{} is still running after {limit:?}; it said:\n{}", self.name, self.said())
    }

    /// Waits until what it said satisfies `ready`; an error when it ends before, or says nothing of the kind in `limit`.
    pub fn wait_until(&mut self, what: &str, limit: Duration, ready: impl Fn(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if ready(&self.said()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}; it said:\n{}", self.name, self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{}: no {what} within {limit:?}; it said:\n{}", self.name, self.said())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A stopped process hears only SIGCONT and SIGKILL. A signal that fails has nobody to reach.
            let _ = self.signal(Signal::CONT);
            let _ = self.signal(Signal::TERM);
            if self.wait(PATIENCE).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// Runs a tool to its end and returns what it printed; an error with its own words when it fails.
pub fn tool<S: AsRef<OsStr>>(
    program: &str,
    env: &[(&str, &OsStr)],
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let output =
        Command::new(program).args(args).envs(env.iter().copied()).stdin(Stdio::null()).output().with_context(
            || format!("cannot start {program}: run 'scripts/setup.sh test' to install the tests' tools"),
        )?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a process with this id is there (a zombie is not).
pub fn is_running(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// All processes below `id`, as the kernel lists them now.
pub fn descendants(id: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.push((pid, parent));
    }
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == Some(of)).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
