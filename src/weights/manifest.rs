//! What the files of a model's folder were found to be, so that a start need not hash gigabytes.
//!
//! One small JSON file beside the model's files. A record holds only while the file's size and time of change are those
//! it was hashed with; a lost or unreadable manifest costs one hashing, nothing else.

use super::WeightsError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

const NAME: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    size: u64,
    /// Time of last change, nanoseconds since 1970.
    changed: u64,
    sha256: String,
}

/// The hashed files of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    files: BTreeMap<String, Record>,
}

impl Manifest {
    /// Reads the manifest of a folder; an empty one where there is none that can be read.
    pub fn load(dir: &Path) -> Manifest {
        std::fs::read(dir.join(NAME)).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }

    /// Replaces the folder's manifest in one step.
    pub fn save(&self, dir: &Path) -> Result<(), WeightsError> {
        replace_json(dir, NAME, self)
    }

    /// The sha256 a file was found to have, if it has not been touched since.
    pub fn sha256(&self, dir: &Path, file: &str) -> Option<&str> {
        let record = self.files.get(file)?;
        (stamp(&dir.join(file)) == Some((record.size, record.changed))).then_some(&record.sha256)
    }

    /// Records that the file, as it lies there now, has this sha256.
    pub fn record(&mut self, dir: &Path, file: &str, sha256: &str) {
        if let Some((size, changed)) = stamp(&dir.join(file)) {
            self.files.insert(file.to_owned(), Record { size, changed, sha256: sha256.to_owned() });
        }
    }
}

/// Replaces the JSON file `name` of a folder in one step.
pub(crate) fn replace_json(dir: &Path, name: &str, content: &impl Serialize) -> Result<(), WeightsError> {
    let path = dir.join(name);
    let new = dir.join(format!(".{name}.new"));
    let text = serde_json::to_vec_pretty(content).map_err(std::io::Error::other);
    text.and_then(|text| std::fs::write(&new, text))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(WeightsError::io("cannot write", &path))
}

fn stamp(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok().filter(|m| m.is_file())?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((meta.len(), u64::try_from(changed.as_nanos()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_record_holds_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::write(dir.join("a"), "abc").unwrap();
        let mut manifest = Manifest::default();
        manifest.record(dir, "a", "hash");
        manifest.save(dir).unwrap();

        let read = Manifest::load(dir);
        assert_eq!(read, manifest);
        assert_eq!(read.sha256(dir, "a"), Some("hash"));
        assert_eq!(read.sha256(dir, "b"), None);

        // the same size, a later time of change
        let file = std::fs::File::options().write(true).open(dir.join("a")).unwrap();
        let later = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(1);
        file.set_modified(later).unwrap();
        assert_eq!(read.sha256(dir, "a"), None);
    }

    #[test]
    fn a_damaged_manifest_knows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "{\"files\": {\"a\":").unwrap();
        assert_eq!(Manifest::load(dir.path()), Manifest::default());
    }
}
