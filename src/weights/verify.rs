//! What a file really holds: its sha256 or git object id, and the check of a whole model against the catalog.
//!
//! Blocking; run off the real-time and window threads.

use super::manifest::Manifest;
use super::progress::{Progress, Reporter, Source};
use super::{FileState, Model, Store, WeightsError};
use crate::engine::CancelToken;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sha256 of a file, as 64 lower-case hexadecimal digits. Adds the bytes read to `counter`.
pub(crate) fn hash_file(path: &Path, counter: &AtomicU64, cancel: &CancelToken) -> Result<String, WeightsError> {
    let mut on_bytes = |n: usize| {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    };
    hash_with(path, &mut on_bytes, cancel)
}

/// The sha256 of a file, as 64 lower-case hexadecimal digits.
pub fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    hash_with(path, &mut |_| {}, &CancelToken::default())
}

/// The id under which git keeps the bytes of a file: the SHA-1 of `blob SIZE`, a NUL, and the bytes
/// (<https://git-scm.com/book/en/v2/Git-Internals-Git-Objects>). For small files: reads the whole.
pub(crate) fn git_blob_id(path: &Path) -> Result<String, WeightsError> {
    let bytes = std::fs::read(path).map_err(WeightsError::io("cannot read", path))?;
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(&bytes);
    Ok(hex(&hash.finalize()))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn hash_with(path: &Path, on_bytes: &mut dyn FnMut(usize), cancel: &CancelToken) -> Result<String, WeightsError> {
    let mut file = std::fs::File::open(path).map_err(WeightsError::io("cannot read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Err(WeightsError::Cancelled);
        }
        let n = file.read(&mut buffer).map_err(WeightsError::io("cannot read", path))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
        on_bytes(n);
    }
}

/// Hashes every file of a model anew, whatever the manifest says, and brings the manifest up to date.
/// The state of each kept file, in the catalog's order.
pub fn verify(
    store: &Store,
    model: &Model,
    progress: &mut (dyn FnMut(Progress) + Send),
    cancel: &CancelToken,
) -> Result<Vec<(String, FileState)>, WeightsError> {
    let dir = store.dir_of(&model.id);
    let model = &*store.resolved(model);
    if model.files.is_empty() {
        return Ok(vec![(model.first_file().to_owned(), FileState::Missing)]);
    }
    let mut report = Reporter::of_checks(progress, model.kept_size());
    let mut manifest = Manifest::load(&dir);
    let mut states = Vec::new();
    for file in &model.files {
        let (name, size, sha256) = file.kept();
        let path = dir.join(name);
        let mut state = store.state_of(model, file);
        if std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == size) {
            report.file(&model.id, name, size);
            report.step(Source::Checking, 0, size);
            let mut done = 0;
            let found = hash_with(
                &path,
                &mut |n| {
                    done += n as u64;
                    report.at(done);
                },
                cancel,
            )?;
            report.finished();
            manifest.record(&dir, name, &found);
            state = if found == sha256 { FileState::Ready } else { FileState::Damaged };
        }
        states.push((name.to_owned(), state));
    }
    if let Ok(Some(_lock)) = store.try_lock(&model.id)
        && dir.is_dir()
    {
        manifest.save(&dir)?;
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `git hash-object` says.
    #[test]
    fn git_blob_ids_are_gits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "").unwrap();
        assert_eq!(git_blob_id(&path).unwrap(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        std::fs::write(&path, "hello\n").unwrap();
        assert_eq!(git_blob_id(&path).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
