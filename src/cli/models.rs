//! `antiphon models`: what models there are, fetching, checking and removing them.
//!
//! Runs on the main thread and blocks. Answers go to `out`, progress to the terminal's error stream.

use crate::engine::CancelToken;
use crate::weights::{
    Catalog, FileState, Installed, Model, Progress, PullOptions, Size, Source, Store, pull_blocking, verify,
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// See, fetch, check and remove models.
#[derive(Args, Debug)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Subcommand, Debug)]
pub enum ModelsCommand {
    /// What models there are, and which are here
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch models; without names, the starter set
    ///
    /// Goes on where an earlier pull was broken off. The hub's address is read from HF_ENDPOINT, your token for it, if you
    /// have one, from HF_TOKEN.
    Pull {
        /// Names, as `models list` shows them
        ids: Vec<String>,
        /// The starter set: all that a first conversation needs
        #[arg(long)]
        starter: bool,
        /// Take the files from this folder instead of the network
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Agree to the licences of the models named, where that is asked for
        #[arg(long, alias = "accept-license")]
        accept_licence: bool,
    },
    /// Compute the checksums anew; without names, of everything that is here
    Verify { ids: Vec<String> },
    /// Where a model lies
    Path { id: String },
    /// Delete a model
    Remove { id: String },
}

/// Runs the command.
///
/// # Errors
/// One line for people, naming the model or file and what to do.
pub fn run(args: ModelsArgs, store: &Store, cancel: &CancelToken, out: &mut dyn Write) -> anyhow::Result<()> {
    let catalog = Catalog::built_in()?;
    match args.command {
        ModelsCommand::List { json: true } => list_json(store, catalog, out),
        ModelsCommand::List { json: false } => list(store, catalog, out),
        ModelsCommand::Pull { ids, starter, from, accept_licence } => {
            let options = PullOptions { from, ..PullOptions::default() };
            let models = chosen(catalog, &ids, starter)?;
            agree(store, &models, accept_licence)?;
            pull(store, &models, &options, cancel, out)
        }
        ModelsCommand::Verify { ids } => check(store, catalog, &ids, cancel, out),
        ModelsCommand::Path { id } => {
            let folder = store.folder_of(&id)?;
            Ok(writeln!(out, "{}", folder.display())?)
        }
        ModelsCommand::Remove { id } => match store.remove(catalog.model(&id)?)? {
            0 => Ok(writeln!(out, "{id} is not here")?),
            freed => Ok(writeln!(out, "{id} removed, {} freed", Size(freed))?),
        },
    }
}

fn chosen<'a>(catalog: &'a Catalog, ids: &[String], starter: bool) -> anyhow::Result<Vec<&'a Model>> {
    let mut models = if starter || ids.is_empty() { catalog.starter() } else { Vec::new() };
    for id in ids {
        let model = catalog.model(id)?;
        if !models.iter().any(|m| m.id == model.id) {
            models.push(model);
        }
    }
    Ok(models)
}

/// Shows the terms of models that have some, before anything of them is fetched, and has them agreed to: by the option, or
/// by a yes at the terminal.
fn agree(store: &Store, models: &[&Model], accept: bool) -> anyhow::Result<()> {
    for model in models.iter().filter(|m| !store.terms_accepted(m) && !store.is_ready(m)) {
        let mut terminal = std::io::stderr();
        let terms = model.terms.as_deref().unwrap_or_default();
        writeln!(terminal, "{}, about {}\n{}\n", model.title, Size(model.download_size()), terms.trim())?;
        if !accept {
            if !std::io::stdin().is_terminal() || !terminal.is_terminal() {
                bail!("{} has a licence to be agreed to (above): if you do, pull it with --accept-licence", model.id);
            }
            write!(terminal, "Do you agree? [y/N] ")?;
            terminal.flush()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
                bail!("{} was not fetched, because its licence was not agreed to", model.id);
            }
        }
        store.accept_terms(model)?;
    }
    Ok(())
}

/// How much of a model is here, in a word or two.
pub(crate) fn state_words(installed: &Installed<'_>) -> String {
    if installed.is_complete() {
        let checked = installed.files.iter().all(|f| f.state == FileState::Ready);
        return if checked { "installed" } else { "unchecked" }.to_owned();
    }
    if installed.files.iter().any(|f| f.state == FileState::Damaged) {
        return "damaged".to_owned();
    }
    match installed.partial_bytes {
        0 => "not here".to_owned(),
        n => format!("{} fetched", Size(n)),
    }
}

fn list(store: &Store, catalog: &Catalog, out: &mut dyn Write) -> anyhow::Result<()> {
    let installed = store.installed(catalog);
    let width = catalog.models.iter().map(|m| m.id.len()).max().unwrap_or(0);
    for here in &installed {
        let model = here.model;
        let about = if store.resolved(model).files.is_empty() { "about " } else { "" };
        let (role, size) = (model.role.title(), format!("{about}{}", Size(store.resolved(model).kept_size())));
        let starter = if model.starter { ", starter" } else { "" };
        writeln!(out, "{:width$}  {:10}  {role}, {size}, {}{starter}", model.id, state_words(here), model.licence)?;
        writeln!(out, "{:width$}  {:10}  {}", "", "", model.purpose)?;
    }
    writeln!(
        out,
        "\nThey live in {}. Fetch the starter set with `antiphon models pull`.",
        store.models_dir().display()
    )?;
    Ok(())
}

fn list_json(store: &Store, catalog: &Catalog, out: &mut dyn Write) -> anyhow::Result<()> {
    let models: Vec<_> = store
        .installed(catalog)
        .iter()
        .map(|here| {
            let m = &*store.resolved(here.model);
            let revision = store.pin_of(m).and_then(|pin| pin.revision().map(str::to_owned));
            serde_json::json!({
                "id": m.id, "title": m.title, "role": m.role, "licence": m.licence, "purpose": m.purpose,
                "starter": m.starter, "memory_bytes": m.memory, "cores": m.cores,
                "download_bytes": m.download_size(), "disk_bytes": m.kept_size(), "partial_bytes": here.partial_bytes,
                "installed": here.is_complete(), "files": here.files, "revision": revision, "terms": m.terms,
            })
        })
        .collect();
    let all = serde_json::json!({ "folder": store.models_dir(), "models": models });
    writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    Ok(())
}

fn pull(
    store: &Store,
    models: &[&Model],
    options: &PullOptions,
    cancel: &CancelToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut bar = Bar::new();
    let outcome = pull_blocking(store, models, options, &mut |p| bar.show(&p), cancel);
    bar.bar.finish_and_clear();
    outcome?;
    for model in models {
        let size = Size(store.resolved(model).kept_size());
        let origin = store.pin_of(model).map_or(String::new(), |pin| format!(", {}", pin.origin()));
        writeln!(out, "{} is ready ({size}{origin})", model.id)?;
    }
    Ok(())
}

fn check(
    store: &Store,
    catalog: &Catalog,
    ids: &[String],
    cancel: &CancelToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let models: Vec<&Model> = if ids.is_empty() {
        let here = |i: &Installed<'_>| i.files.iter().any(|f| f.state != FileState::Missing);
        store.installed(catalog).iter().filter(|i| here(i)).map(|i| i.model).collect()
    } else {
        chosen(catalog, ids, false)?
    };
    if models.is_empty() {
        writeln!(out, "no models are here; fetch the starter set with `antiphon models pull`")?;
    }
    let mut bar = Bar::new();
    let mut bad = Vec::new();
    for model in models {
        let states =
            verify(store, model, &mut |p| bar.show(&p), cancel).with_context(|| format!("checking {}", model.id))?;
        for (file, state) in states {
            bar.bar.suspend(|| writeln!(out, "{}/{file}: {}", model.id, state.words()))?;
            if state != FileState::Ready && bad.last() != Some(&model.id) {
                bad.push(model.id.clone());
            }
        }
    }
    bar.bar.finish_and_clear();
    if !bad.is_empty() {
        bail!("not all files are as they should be; run `antiphon models pull {}`", bad.join(" "));
    }
    Ok(())
}

/// A progress bar over all files of all models, with speed and remaining time. Shows nothing where the error stream is no terminal.
struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new() -> Bar {
        let bar = ProgressBar::new(0);
        // A template that cannot be parsed leaves the plain bar, which does as well.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar }
    }

    fn show(&mut self, p: &Progress) {
        self.bar.set_length(p.all_total);
        self.bar.set_prefix(format!("{}/{}", p.model, p.file));
        self.bar.set_position(p.all_done);
        self.bar.set_message(doing(p));
    }
}

/// The step in words, with speed and remaining time where they are known.
pub fn doing(p: &Progress) -> String {
    let step = match p.source {
        Source::Waiting => "waiting for another pull",
        Source::Hub => "from the hub",
        Source::Mirror => "from the mirror",
        Source::Joining => "joining",
        Source::Folder => "copying",
        Source::Checking => "checking",
        Source::Converting => "converting",
        Source::Ready => "ready",
    };
    if p.bytes_per_second < 1.0 || p.done_bytes >= p.total_bytes {
        return step.to_owned();
    }
    let bytes = if p.source.brings() { p.all_total.saturating_sub(p.all_done) } else { p.total_bytes - p.done_bytes };
    let left = bytes as f64 / p.bytes_per_second;
    let left = HumanDuration(Duration::from_secs_f64(left.min(1e6)));
    format!("{step}, {}/s, {left} left", Size(p.bytes_per_second as u64))
}
