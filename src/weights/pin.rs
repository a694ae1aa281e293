//! What the files of a snapshot are: pinned once, held to from then on.
//!
//! One small JSON file beside the model's files, written before the first large byte is fetched. From then on every
//! file is fetched at the pinned commit and must have the pinned sha256; a branch that moves, a mirror that differs or a
//! second pull changes nothing, and checking needs no network. To take another revision, the model is removed and pulled
//! again. Invariant: paths in a pin are plain (see [`is_plain_path`]).

use super::WeightsError;
use super::catalog::{FileEntry, HubPath, Model, Snapshot, is_plain_path};
use super::manifest::replace_json;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const NAME: &str = "pinned.json";
/// Says in which shard each tensor is.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// A file of a pinned snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedFile {
    pub path: String,
    pub size: u64,
    pub sha256: String,
}

/// The files of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub(crate) repo: String,
    /// The commit; `None` for files from a folder that did not tell.
    pub(crate) revision: Option<String>,
    /// Whether the checksums are the hub's. Otherwise they are what the files had when they were imported.
    pub(crate) from_hub: bool,
    pub(crate) files: Vec<PinnedFile>,
}

impl Pin {
    /// Reads the pin of a model's folder, if there is one that can be used.
    pub(crate) fn load(dir: &Path, snapshot: &Snapshot) -> Option<Pin> {
        let pin: Pin = serde_json::from_slice(&std::fs::read(dir.join(NAME)).ok()?).ok()?;
        let paths: Vec<&str> = pin.files.iter().map(|f| f.path.as_str()).collect();
        let good = pin.repo == snapshot.repo
            && paths.iter().all(|p| is_plain_path(p) && snapshot.wants(p))
            && snapshot.lacking(&paths).is_none();
        good.then_some(pin)
    }

    pub(crate) fn save(&self, dir: &Path) -> Result<(), WeightsError> {
        replace_json(dir, NAME, self)
    }

    /// The model with the pinned files.
    pub(crate) fn applied(&self, model: &Model, snapshot: &Snapshot) -> Model {
        let revision = self.revision.as_ref().unwrap_or(&snapshot.revision);
        let entry = |file: &PinnedFile| FileEntry {
            name: file.path.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
            hub: HubPath { repo: self.repo.clone(), revision: revision.clone(), path: file.path.clone() },
            mirror: Vec::new(),
            convert: None,
        };
        Model { files: self.files.iter().map(entry).collect(), ..model.clone() }
    }

    /// The commit the files are of, where that is known.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Where the files come from, for people.
    pub fn origin(&self) -> String {
        match (&self.revision, self.from_hub) {
            (Some(revision), true) => format!("revision {}", revision.get(..12).unwrap_or(revision)),
            _ => "from a folder; its checksums are those the files had there".to_owned(),
        }
    }
}

/// The shards that a checkpoint's index names and `paths` lack.
pub(crate) fn shards_lacking(index: &Path, paths: &BTreeSet<&str>) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = std::fs::read(index).map_err(|e| e.to_string())?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| format!("{INDEX} is damaged: {e}"))?;
    let named: BTreeSet<String> = index.weight_map.into_values().collect();
    Ok(named.into_iter().filter(|shard| !paths.contains(shard.as_str())).collect())
}
