//! From a snapshot to its files: pins it at the first pull, and holds to the pin afterwards.
//!
//! Part of a pull, under the model's lock. The hub is asked once for the commit and the sizes and checksums of all
//! files; the disk is looked at before the first byte of them; the small files, of which the hub knows no sha256, come
//! first and are checked against the git object id it gives. A folder is taken at its word where nothing else vouches.

use super::{Pull, bytes_of, no_source, raw_path};
use crate::weights::catalog::{FileEntry, HubPath, Model, Snapshot};
use crate::weights::download::{FetchError, Transfer};
use crate::weights::hub::{Checksum, Listed, is_hex};
use crate::weights::import::Folder;
use crate::weights::pin::{INDEX, Pin, PinnedFile, shards_lacking};
use crate::weights::progress::{Source, off_thread};
use crate::weights::store::bytes_under;
use crate::weights::verify::git_blob_id;
use crate::weights::{Size, WeightsError};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file that the hub keeps as text, not as large data, is smaller than this; what claims otherwise is not fetched.
const SMALL: u64 = 256 << 20;
/// What is being fetched while the hub is asked.
const THE_LIST: &str = "the list of files";

impl Pull<'_> {
    /// The model with its files.
    pub(super) async fn resolve<'m>(
        &mut self,
        model: &'m Model,
        partial: &Path,
    ) -> Result<Cow<'m, Model>, WeightsError> {
        let Some(snapshot) = &model.snapshot else { return Ok(Cow::Borrowed(model)) };
        let known = self.store.resolved(model);
        if !known.files.is_empty() {
            return Ok(known);
        }
        let pin = if self.options.from.is_some() {
            self.pin_folder(model, snapshot).await?
        } else {
            self.pin_hub(model, snapshot, partial).await?
        };
        pin.save(&self.store.dir_of(&model.id))?;
        let pinned = pin.applied(model, snapshot);
        self.report.correct(model.download_size(), pinned.download_size());
        Ok(Cow::Owned(pinned))
    }

    async fn pin_hub(&mut self, model: &Model, snapshot: &Snapshot, partial: &Path) -> Result<Pin, WeightsError> {
        self.report.file(&model.id, THE_LIST, 0);
        self.report.step(Source::Hub, 0, 0);
        let cannot = |what: &Self, file: &str, error: FetchError| match error {
            FetchError::Stop(error) => error,
            FetchError::Refused(why) | FetchError::Unreachable(why) => {
                no_source(model, file, format!("{}: {why}", what.hub_in_words()))
            }
        };
        let hub = self.hub().map_err(|e| cannot(self, THE_LIST, e))?;
        let asked = hub.listing(&snapshot.repo, &snapshot.revision, self.options, self.cancel).await;
        let listing = asked.map_err(|e| cannot(self, THE_LIST, e))?;
        let wanted: Vec<&Listed> = listing.files.iter().filter(|f| snapshot.wants(&f.path)).collect();
        let paths: Vec<&str> = wanted.iter().map(|f| f.path.as_str()).collect();
        let lacks = |what: &str| FetchError::Refused(format!("{} at {} has no {what}", snapshot.repo, listing.commit));
        if let Some(pattern) = snapshot.lacking(&paths) {
            return Err(cannot(self, THE_LIST, lacks(pattern)));
        }
        let total: u64 = wanted.iter().map(|f| f.size).sum();
        self.check_space(partial, total.saturating_sub(bytes_under(&self.store.dir_of(&model.id))))?;

        let mut files = Vec::new();
        for listed in &wanted {
            let sha256 = match &listed.checksum {
                Checksum::Sha256(sha256) => sha256.clone(),
                Checksum::GitBlob(id) => {
                    let entry = small(snapshot, &listing.commit, listed);
                    self.report.file(&model.id, &listed.path, 0);
                    self.fetch_small(&entry, id, partial).await.map_err(|e| cannot(self, &listed.path, e))?
                }
            };
            files.push(PinnedFile { path: listed.path.clone(), size: listed.size, sha256 });
        }
        if let Some(index) = wanted.iter().find(|f| f.path == INDEX) {
            let raw = raw_path(partial, &small(snapshot, &listing.commit, index));
            let present = paths.iter().copied().collect();
            // An index kept as large data has not come yet; the loader checks it all the same.
            if raw.is_file() {
                let lacking =
                    shards_lacking(&raw, &present).map_err(|e| cannot(self, INDEX, FetchError::Refused(e)))?;
                if let Some(shard) = lacking.first() {
                    return Err(cannot(self, INDEX, lacks(shard)));
                }
            }
        }
        Ok(Pin { repo: snapshot.repo.clone(), revision: Some(listing.commit), from_hub: true, files })
    }

    /// Fetches a small file into its partial file and checks it. Gives its sha256.
    async fn fetch_small(&mut self, file: &FileEntry, blob_id: &str, partial: &Path) -> Result<String, FetchError> {
        if file.size > SMALL {
            return Err(FetchError::Refused(format!("it has {} and no sha256 on the hub", Size(file.size))));
        }
        let raw = raw_path(partial, file);
        super::make_room(&raw).map_err(FetchError::Stop)?;
        let hub = self.hub()?;
        loop {
            let had = bytes_of(&raw);
            self.report.step(Source::Hub, had, file.size);
            let url = hub.file(&file.hub.repo, &file.hub.revision, &file.hub.path)?;
            let transfer = Transfer { hub: &hub, url, partial: &raw, size: file.size, options: self.options };
            let fetched = transfer.run(&mut self.report, self.cancel).await;
            if let Err(error) = fetched {
                self.remember(&error);
                return Err(error);
            }
            let found = git_blob_id(&raw).map_err(FetchError::Stop)?;
            if found == blob_id {
                return self.hash(&raw, file.size).await.map_err(FetchError::Stop);
            }
            std::fs::remove_file(&raw).map_err(|e| FetchError::Stop(WeightsError::io("cannot remove", &raw)(e)))?;
            // What lay there from an earlier pull may be to blame: once more, from the start.
            if had == 0 {
                let why = format!("what came has the git id {found}, not {blob_id} as listed; it was deleted");
                return Err(FetchError::Refused(why));
            }
        }
    }

    async fn pin_folder(&mut self, model: &Model, snapshot: &Snapshot) -> Result<Pin, WeightsError> {
        let Some(dir) = self.options.from.clone() else { return Err(WeightsError::Cancelled) };
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => Folder::scan(&dir)?,
        };
        let found = folder.snapshot(snapshot);
        self.folder = Some(folder);
        let incomplete =
            |missing: String| WeightsError::NoSnapshotInFolder { model: model.id.clone(), dir: dir.clone(), missing };
        let found = found.map_err(incomplete)?;
        let paths: BTreeSet<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        if let Some((_, index)) = found.iter().find(|(path, _)| path == INDEX) {
            let lacking = shards_lacking(index, &paths).map_err(incomplete)?;
            if let Some(shard) = lacking.into_iter().next() {
                return Err(incomplete(shard));
            }
        }
        let mut files = Vec::new();
        for (path, here) in &found {
            let size = bytes_of(here);
            self.report.file(&model.id, path, 0);
            let sha256 = self.hash(here, size).await?;
            self.vouched(path, here, &sha256).await?;
            files.push(PinnedFile { path: path.clone(), size, sha256 });
        }
        let revision = found.first().and_then(|(path, here)| revision_of(here, path));
        Ok(Pin { repo: snapshot.repo.clone(), revision, from_hub: false, files })
    }

    /// In the cache of the hub's own tools a file is a link to one that is named by its checksum: then it must have it.
    async fn vouched(&mut self, path: &str, here: &Path, sha256: &str) -> Result<(), WeightsError> {
        let (file, sha256) = (here.to_owned(), sha256.to_owned());
        let outcome = off_thread(&mut self.report, move |_| {
            let target = file.canonicalize().unwrap_or(file.clone());
            let name = target.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let found = match name.len() {
                64 => sha256,
                40 if bytes_of(&file) <= SMALL => git_blob_id(&file)?,
                _ => return Ok(None),
            };
            Ok((is_hex(&name, name.len()) && name != found).then_some((found, name)))
        });
        match outcome.await.unwrap_or(Err(WeightsError::Cancelled))? {
            None => Ok(()),
            Some((found, expected)) => Err(WeightsError::Mismatch {
                file: path.to_owned(),
                from: here.display().to_string(),
                found: format!("checksum {found}"),
                expected,
            }),
        }
    }
}

/// The entry of a listed file, for the time before its sha256 is known.
fn small(snapshot: &Snapshot, commit: &str, listed: &Listed) -> FileEntry {
    FileEntry {
        name: listed.path.clone(),
        size: listed.size,
        sha256: String::new(),
        hub: HubPath { repo: snapshot.repo.clone(), revision: commit.to_owned(), path: listed.path.clone() },
        mirror: Vec::new(),
        convert: None,
    }
}

/// The commit that the cache of the hub's own tools has in a file's path: `snapshots/COMMIT/PATH`.
fn revision_of(here: &Path, path: &str) -> Option<String> {
    let root: PathBuf = here.ancestors().nth(Path::new(path).components().count())?.to_owned();
    let name = root.file_name()?.to_str()?.to_owned();
    is_hex(&name, 40).then_some(name)
}
