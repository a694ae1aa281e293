//! Where models live on this disk, and which of them are whole.
//!
//! `HOME/models/ID/FILE`, where HOME is what the user said (`--home`), or `ANTIPHON_HOME`, or the platform's data folder.
//! A [`Store`] is only a path: cheap to clone, usable from any thread. Reading takes no lock; changing a model's folder
//! takes that model's lock, a file under `HOME/models/.locks` that is never deleted.

use super::manifest::Manifest;
use super::pin::Pin;
use super::verify::hash_file;
use super::{Catalog, FileEntry, Model, WeightsError};
use crate::engine::CancelToken;
use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

/// How one file of a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// There, verified, and untouched since.
    Ready,
    /// There and of the right size, but not yet hashed (put there by hand, or touched).
    Unchecked,
    /// There, but not what the catalog says.
    Damaged,
    Missing,
}

impl FileState {
    /// The state in a word or two, for people.
    pub const fn words(self) -> &'static str {
        match self {
            FileState::Ready => "ready",
            FileState::Unchecked => "not checked yet",
            FileState::Damaged => "damaged",
            FileState::Missing => "missing",
        }
    }
}

/// A file of a model, as [`Store::installed`] found it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InstalledFile {
    pub name: String,
    pub path: PathBuf,
    pub size: u64,
    pub state: FileState,
}

/// A model of the catalog and how much of it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    pub model: &'a Model,
    /// None for a snapshot that has not been pinned.
    pub files: Vec<InstalledFile>,
    /// Bytes of an unfinished pull.
    pub partial_bytes: u64,
}

impl Installed<'_> {
    /// Whether every file is there and of the right size.
    pub fn is_complete(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|f| matches!(f.state, FileState::Ready | FileState::Unchecked))
    }
}

/// Held while a model's folder is changed; released when dropped.
#[derive(Debug)]
pub(crate) struct ModelLock {
    _file: File,
}

/// The place where models live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    models: PathBuf,
}

impl Store {
    /// The store under `home`, or else under `ANTIPHON_HOME`, or else in the platform's data folder. Creates nothing.
    pub fn open(home: Option<PathBuf>) -> Result<Store, WeightsError> {
        let set = || std::env::var_os("ANTIPHON_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let platform = || directories::ProjectDirs::from("", "", "antiphon").map(|d| d.data_dir().to_owned());
        let home = home.or_else(set).or_else(platform).ok_or(WeightsError::NoHome)?;
        Ok(Store { models: home.join("models") })
    }

    /// The home folder itself: beside the models, other rooms keep theirs.
    pub fn home(&self) -> &Path {
        self.models.parent().unwrap_or(&self.models)
    }

    /// The folder that holds a folder for each model.
    pub fn models_dir(&self) -> &Path {
        &self.models
    }

    /// The folder of one model.
    pub fn dir_of(&self, id: &str) -> PathBuf {
        self.models.join(id)
    }

    /// The folder of a model's unfinished files.
    pub(crate) fn partial_of(&self, id: &str) -> PathBuf {
        self.dir_of(id).join(".partial")
    }

    /// The model with its files: those of the catalog, or those a snapshot is pinned to (none before its first pull).
    pub fn resolved<'m>(&self, model: &'m Model) -> Cow<'m, Model> {
        let applied = |s| Some(Pin::load(&self.dir_of(&model.id), s)?.applied(model, s));
        model.snapshot.as_ref().and_then(applied).map_or(Cow::Borrowed(model), Cow::Owned)
    }

    /// What a snapshot is pinned to, if it is.
    pub fn pin_of(&self, model: &Model) -> Option<Pin> {
        Pin::load(&self.dir_of(&model.id), model.snapshot.as_ref()?)
    }

    /// Notes that the user agrees to the model's terms, as they now are.
    pub fn accept_terms(&self, model: &Model) -> Result<(), WeightsError> {
        let path = self.accepted(&model.id);
        let text = model.terms.as_deref().unwrap_or_default();
        std::fs::create_dir_all(path.parent().unwrap_or(&self.models))
            .and_then(|()| std::fs::write(&path, text))
            .map_err(WeightsError::io("cannot write", &path))
    }

    /// Whether the model has no terms, or the user has agreed to them as they now are.
    pub fn terms_accepted(&self, model: &Model) -> bool {
        let agreed = |terms: &String| std::fs::read_to_string(self.accepted(&model.id)).is_ok_and(|t| t == *terms);
        model.terms.as_ref().is_none_or(agreed)
    }

    fn accepted(&self, id: &str) -> PathBuf {
        self.models.join(".accepted").join(id)
    }

    /// The path of a verified file of a model of the built-in catalog. The first call after a file was put there by
    /// hand hashes it, which may take seconds; later calls look only at its size and time of change.
    pub fn path_of(&self, model_id: &str, file: &str) -> Result<PathBuf, WeightsError> {
        self.path_in(Catalog::built_in()?.model(model_id)?, file)
    }

    /// The folder of a model of the built-in catalog, once every file in it is as [`path_of`](Store::path_of) wants it.
    pub fn folder_of(&self, model_id: &str) -> Result<PathBuf, WeightsError> {
        self.folder_in(Catalog::built_in()?.model(model_id)?)
    }

    /// As [`folder_of`](Store::folder_of), for a model of any catalog.
    pub fn folder_in(&self, model: &Model) -> Result<PathBuf, WeightsError> {
        let model = self.resolved(model);
        if model.files.is_empty() {
            return Err(not_installed(&model, model.first_file(), FileState::Missing));
        }
        for file in &model.files {
            self.ready_path(&model, file)?;
        }
        Ok(self.dir_of(&model.id))
    }

    /// As [`path_of`](Store::path_of), for a model of any catalog.
    pub fn path_in(&self, model: &Model, file: &str) -> Result<PathBuf, WeightsError> {
        let model = self.resolved(model);
        if model.files.is_empty() {
            return Err(not_installed(&model, file, FileState::Missing));
        }
        let entry = model
            .files
            .iter()
            .find(|f| f.kept().0 == file)
            .ok_or_else(|| WeightsError::UnknownFile { model: model.id.clone(), file: file.to_owned() })?;
        self.ready_path(&model, entry)
    }

    /// The path of the model's first file, as [`path_in`](Store::path_in) gives it: for models that are one file.
    pub fn first_path(&self, model: &Model) -> Result<PathBuf, WeightsError> {
        self.path_in(model, self.resolved(model).first_file())
    }

    fn ready_path(&self, model: &Model, entry: &FileEntry) -> Result<PathBuf, WeightsError> {
        let file = entry.kept().0;
        let mut state = self.state_of(model, entry);
        if state == FileState::Unchecked {
            state = self.adopt(model, entry, &AtomicU64::new(0), &CancelToken::default())?;
        }
        match state {
            FileState::Ready => Ok(self.dir_of(&model.id).join(file)),
            _ => Err(not_installed(model, file, state)),
        }
    }

    /// How one file stands. Quick: hashes nothing.
    pub fn state_of(&self, model: &Model, file: &FileEntry) -> FileState {
        let dir = self.dir_of(&model.id);
        let (name, size, sha256) = file.kept();
        match std::fs::metadata(dir.join(name)) {
            Err(_) => FileState::Missing,
            Ok(meta) if !meta.is_file() || meta.len() != size => FileState::Damaged,
            Ok(_) => match Manifest::load(&dir).sha256(&dir, name) {
                Some(found) if found == sha256 => FileState::Ready,
                Some(_) => FileState::Damaged,
                None => FileState::Unchecked,
            },
        }
    }

    /// Verifies a file that nobody has vouched for, and remembers the outcome where the folder can be written.
    fn adopt(
        &self,
        model: &Model,
        file: &FileEntry,
        counter: &AtomicU64,
        cancel: &CancelToken,
    ) -> Result<FileState, WeightsError> {
        let (name, _, sha256) = file.kept();
        let dir = self.dir_of(&model.id);
        let found = hash_file(&dir.join(name), counter, cancel)?;
        // A store that cannot be written (another user's, a read-only disk) is still good to read from.
        if let Ok(Some(_lock)) = self.try_lock(&model.id) {
            let mut manifest = Manifest::load(&dir);
            manifest.record(&dir, name, &found);
            if let Err(error) = manifest.save(&dir) {
                tracing::debug!("{error}");
            }
        }
        Ok(if found == sha256 { FileState::Ready } else { FileState::Damaged })
    }

    /// Every model of the catalog and how much of it is here. Quick: hashes nothing.
    pub fn installed<'a>(&self, catalog: &'a Catalog) -> Vec<Installed<'a>> {
        let file = |model: &Model, entry: &FileEntry| {
            let (name, size, _) = entry.kept();
            let path = self.dir_of(&model.id).join(name);
            InstalledFile { name: name.to_owned(), path, size, state: self.state_of(model, entry) }
        };
        let look = |model: &'a Model| Installed {
            model,
            files: self.resolved(model).files.iter().map(|f| file(model, f)).collect(),
            partial_bytes: bytes_under(&self.partial_of(&model.id)),
        };
        catalog.models.iter().map(look).collect()
    }

    /// Whether every file of the model is there, verified and untouched.
    pub fn is_ready(&self, model: &Model) -> bool {
        let model = self.resolved(model);
        !model.files.is_empty() && model.files.iter().all(|f| self.state_of(&model, f) == FileState::Ready)
    }

    /// Bytes of a model that are on the disk, whole files and unfinished ones.
    pub fn bytes_here(&self, model: &Model) -> u64 {
        bytes_under(&self.dir_of(&model.id))
    }

    /// Deletes a model and what an unfinished pull left of it. Returns the bytes freed.
    pub fn remove(&self, model: &Model) -> Result<u64, WeightsError> {
        let dir = self.dir_of(&model.id);
        if !dir.exists() {
            return Ok(0);
        }
        let Some(_lock) = self.try_lock(&model.id)? else {
            let busy = std::io::Error::other("the model is being pulled; stop that first");
            return Err(WeightsError::io("cannot remove", &dir)(busy));
        };
        let freed = bytes_under(&dir);
        std::fs::remove_dir_all(&dir).map_err(WeightsError::io("cannot remove", &dir))?;
        Ok(freed)
    }

    /// Takes the lock of a model; `None` while somebody else holds it.
    pub(crate) fn try_lock(&self, id: &str) -> Result<Option<ModelLock>, WeightsError> {
        let dir = self.models.join(".locks");
        let path = dir.join(id);
        let open = std::fs::create_dir_all(&dir)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
        let file = open.map_err(WeightsError::io("cannot write", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(ModelLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(WeightsError::io("cannot lock", &path)(source)),
        }
    }
}

fn not_installed(model: &Model, file: &str, state: FileState) -> WeightsError {
    WeightsError::NotInstalled { model: model.id.clone(), file: file.to_owned(), state: state.words().to_owned() }
}

/// Bytes of all files under a folder; what cannot be read counts as nothing.
pub(crate) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|e| match e.file_type() {
            Ok(t) if t.is_dir() => bytes_under(&e.path()),
            Ok(t) if t.is_file() => e.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}
