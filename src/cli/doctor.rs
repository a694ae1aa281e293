//! `antiphon doctor`: what this machine has, what is missing for a conversation, and what to do about each.
//!
//! Runs on the main thread. [`examine`] is pure: the findings follow from what it is given.

use crate::engine::device::{GpuUse, gpu_use};
use crate::engine::floor;
use crate::weights::fit::{Fit, Machine, best, fit};
use crate::weights::{Catalog, Installed, Role, Size, Store};
use clap::Args;
use std::io::Write;

mod gpu;
mod omni;

/// Look at this machine, and say what is missing and what to do.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// The sound devices there are, by name, or why they cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SoundDevices {
    pub microphones: Result<Vec<String>, String>,
    pub loudspeakers: Result<Vec<String>, String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Good,
    /// A conversation is possible, but not at its best.
    Warning,
    /// No conversation is possible.
    Problem,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at: `cpu`, `memory`, `disk`, `gpu`, `microphone`, `loudspeaker`, or a model's role.
    pub subject: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty where nothing needs doing.
    pub remedy: String,
}

/// Runs the command. An error when a conversation is not possible, so that scripts can tell.
pub fn run(args: &DoctorArgs, store: &Store, sound: &SoundDevices, out: &mut dyn Write) -> anyhow::Result<()> {
    let machine = Machine::probe(store);
    let catalog = Catalog::built_in()?;
    let gpu = gpu_use();
    let mut findings = examine(&machine, &gpu, &store.installed(catalog), catalog, sound);
    let measured = floor::measure()?;
    if !matches!(gpu, GpuUse::Works(_)) {
        findings.push(omni::on_cpu(&measured));
    }
    let problems = findings.iter().filter(|f| f.severity == Severity::Problem).count();
    if args.json {
        let all = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
            "models_folder": store.models_dir(), "machine": machine, "measured": measured, "gpu": gpu, "sound": sound, "findings": findings,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        for f in &findings {
            let sign = match f.severity {
                Severity::Good => "ok     ",
                Severity::Warning => "warning",
                Severity::Problem => "PROBLEM",
            };
            writeln!(out, "{sign}  {:12} {}", f.subject, f.seen)?;
            if !f.remedy.is_empty() {
                writeln!(out, "{:22}-> {}", "", f.remedy)?;
            }
        }
    }
    match problems {
        0 => Ok(()),
        1 => anyhow::bail!("1 problem stands in the way of a conversation; see above for what to do"),
        n => anyhow::bail!("{n} problems stand in the way of a conversation; see above for what to do"),
    }
}

/// What follows from the machine, what this build could do with its GPU, the models and the sound devices.
pub fn examine(
    machine: &Machine,
    gpu_use: &GpuUse,
    installed: &[Installed<'_>],
    catalog: &Catalog,
    sound: &SoundDevices,
) -> Vec<Finding> {
    let mut found = vec![cpu(machine), memory(machine, catalog), disk(machine, installed), gpu::gpu(machine, gpu_use)];
    found.push(devices("microphone", &sound.microphones));
    found.push(devices("loudspeaker", &sound.loudspeakers));
    found.extend(
        [Role::Stt, Role::Llm, Role::Tts, Role::EndOfTurn].map(|role| models(role, machine, installed, catalog)),
    );
    found
}

fn finding(severity: Severity, subject: &'static str, seen: String, remedy: &str) -> Finding {
    Finding { severity, subject, seen, remedy: remedy.to_owned() }
}

fn cpu(machine: &Machine) -> Finding {
    let name = if machine.cpu.is_empty() { "unknown processor" } else { &machine.cpu };
    let seen = format!("{name}, {} cores", machine.cores);
    if machine.cores < 2 {
        return finding(Severity::Warning, "cpu", seen, "answers will be slow; close other programs");
    }
    finding(Severity::Good, "cpu", seen, "")
}

fn memory(machine: &Machine, catalog: &Catalog) -> Finding {
    let seen = format!("{}, {} of it available", Size(machine.memory_total), Size(machine.memory_available));
    let wanted: Option<u64> = [Role::Stt, Role::Llm, Role::Tts, Role::EndOfTurn]
        .iter()
        .map(|r| best(catalog, *r, machine).map(|m| m.memory))
        .sum();
    match wanted {
        None => finding(Severity::Problem, "memory", seen, "too little for the smallest models; add memory"),
        Some(n) if machine.memory_available < n => {
            let remedy = format!("the models take about {}; close other programs first", Size(n));
            finding(Severity::Warning, "memory", seen, &remedy)
        }
        Some(_) => finding(Severity::Good, "memory", seen, ""),
    }
}

fn disk(machine: &Machine, installed: &[Installed<'_>]) -> Finding {
    let Some(free) = machine.disk_free else {
        return finding(Severity::Good, "disk", "the free space is not known".to_owned(), "");
    };
    let seen = format!("{} free", Size(free));
    let lacking = installed.iter().filter(|i| i.model.starter && !i.is_complete());
    let needed: u64 = lacking.map(|i| i.model.download_size() + i.model.kept_size()).sum();
    if free < needed {
        let remedy = format!("fetching the starter set needs {}; free some space or use --home DIR", Size(needed));
        return finding(Severity::Problem, "disk", seen, &remedy);
    }
    finding(Severity::Good, "disk", seen, "")
}

fn devices(subject: &'static str, list: &Result<Vec<String>, String>) -> Finding {
    match list {
        Ok(names) if names.is_empty() => {
            let remedy =
                format!("connect a {subject}, or look in the system's sound settings whether it is turned off");
            finding(Severity::Problem, subject, "none found".to_owned(), &remedy)
        }
        Ok(names) => finding(Severity::Good, subject, names.join("; "), ""),
        Err(why) => {
            let remedy = "start the sound server (PipeWire or PulseAudio), close what else uses the device, or allow \
                          this user to use it";
            finding(Severity::Problem, subject, why.clone(), remedy)
        }
    }
}

fn models(role: Role, machine: &Machine, installed: &[Installed<'_>], catalog: &Catalog) -> Finding {
    let subject = role.name();
    let here: Vec<_> = installed.iter().filter(|i| i.model.role == role && i.is_complete()).map(|i| i.model).collect();
    let best = best(catalog, role, machine);
    if here.is_empty() {
        let damaged = installed.iter().find(|i| i.model.role == role && i.files.iter().any(|f| f.path.exists()));
        let seen = match damaged {
            Some(i) => format!("{} is not whole", i.model.id),
            None => format!("no model for this is here ({})", role.title()),
        };
        let remedy = match damaged.map(|i| i.model).or(best) {
            Some(model) => format!("antiphon models pull {}   ({})", model.id, Size(model.download_size())),
            None => "this machine has too little memory for any of them".to_owned(),
        };
        return finding(Severity::Problem, subject, seen, &remedy);
    }
    let names = here.iter().map(|m| m.id.as_str()).collect::<Vec<_>>().join(", ");
    if here.iter().any(|m| fit(m, machine) == Fit::Good) {
        return finding(Severity::Good, subject, names, "");
    }
    let remedy = match best {
        Some(model) if !here.contains(&model) => {
            format!("{} suits this machine better: antiphon models pull {}", model.id, model.id)
        }
        _ => "it will be slow here; close other programs".to_owned(),
    };
    let seen = match fit(here[0], machine) {
        Fit::TooLarge { needs, has } => format!("{names}: needs {needs} of memory, {has} are to be had"),
        Fit::Slow { wants_cores, has } => format!("{names}: wants {wants_cores} cores, here are {has}"),
        Fit::Good => names,
    };
    finding(Severity::Warning, subject, seen, &remedy)
}

#[cfg(test)]
mod tests;
