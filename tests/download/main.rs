//! Pulling models: every way in which a source can fail, against a server, a package client and folders of the test's own.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod checkpoint;
mod folder;
mod hub;
mod mirror;
mod repository;
mod server;
mod snapshot;

use antiphon::engine::CancelToken;
use antiphon::weights::{Catalog, Model, Progress, PullOptions, Store, WeightsError, pull_blocking};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A model file's bytes: no two neighbouring parts alike.
pub fn body(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The head of the catalog's entry for the model `m`.
pub const ENTRY: &str = r#"
[[model]]
id = "m"
title = "M"
role = "llm"
licence = "MIT"
purpose = "Thinks."
memory = 1
cores = 1
starter = true
"#;

/// A home, a catalog with the model `m`, and where to fetch it.
pub struct Bench {
    pub home: TempDir,
    pub store: Store,
    pub catalog: Catalog,
    pub options: PullOptions,
}

impl Bench {
    /// `m` is the one file `a.bin`, and `content` what the catalog expects of it; `mirror` names packages and the paths
    /// of the parts in them.
    pub fn new(content: &[u8], hub: &str, mirror: &[(&str, &str)]) -> Bench {
        let parts: Vec<String> = mirror
            .iter()
            .map(|(package, path)| format!("{{ package = \"{package}\", bytes = 1000, path = \"{path}\" }}"))
            .collect();
        let (size, sha256, parts) = (content.len(), sha256(content), parts.join(", "));
        Bench::with(
            &format!(
                r#"
                [[model.file]]
                name = "a.bin"
                size = {size}
                sha256 = "{sha256}"
                hub = {{ repo = "owner/repo", revision = "main", path = "sub/a.bin" }}
                mirror = [{parts}]
                "#
            ),
            hub,
        )
    }

    /// `m` consists of what `files` says, in the catalog's words.
    pub fn with(files: &str, hub: &str) -> Bench {
        let home = tempfile::tempdir().unwrap();
        let options = PullOptions {
            from: None,
            hub: Some(hub.to_owned()),
            token: None,
            mirror_command: Vec::new(),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(400),
            mirror_stall_timeout: Duration::from_secs(20),
            retries: 3,
            back_off: Duration::from_millis(5),
            free_space: Arc::new(|_| None),
        };
        let store = Store::open(Some(home.path().to_owned())).unwrap();
        Bench { home, store, catalog: Catalog::parse(&format!("{ENTRY}{files}")).unwrap(), options }
    }

    pub fn pull(&self) -> Result<Vec<Progress>, WeightsError> {
        self.pull_until(&CancelToken::default(), |_| {})
    }

    pub fn pull_until(
        &self,
        cancel: &CancelToken,
        mut look: impl FnMut(&Progress) + Send,
    ) -> Result<Vec<Progress>, WeightsError> {
        let mut seen = Vec::new();
        let mut progress = |p: Progress| {
            look(&p);
            seen.push(p);
        };
        let models: Vec<_> = self.catalog.models.iter().collect();
        pull_blocking(&self.store, &models, &self.options, &mut progress, cancel)?;
        Ok(seen)
    }

    /// Pulls, and the one-line message of its failure.
    #[track_caller]
    pub fn failure(&self) -> String {
        let message = self.pull().unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    pub fn model(&self) -> &Model {
        self.catalog.model("m").unwrap()
    }

    /// The final file.
    pub fn file(&self) -> PathBuf {
        self.store.dir_of("m").join("a.bin")
    }

    /// The unfinished file.
    pub fn partial(&self) -> PathBuf {
        self.store.dir_of("m").join(".partial").join("a.bin.partial")
    }

    /// Leaves `bytes` as if an earlier pull had been interrupted.
    pub fn interrupted_with(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.partial().parent().unwrap()).unwrap();
        std::fs::write(self.partial(), bytes).unwrap();
    }

    #[track_caller]
    pub fn assert_installed(&self, content: &[u8]) {
        assert_eq!(std::fs::read(self.file()).unwrap(), content);
        assert!(!self.store.dir_of("m").join(".partial").exists(), "nothing unfinished is left");
        assert!(self.store.is_ready(self.model()));
        assert_eq!(self.store.path_in(self.model(), "a.bin").unwrap(), self.file());
    }

    #[track_caller]
    pub fn assert_not_installed(&self) {
        assert!(!self.file().exists());
        let error = self.store.path_in(self.model(), "a.bin").unwrap_err().to_string();
        assert_eq!(error, "model m is not complete (a.bin is missing); run `antiphon models pull m`");
    }
}

/// The address of a port of this machine where nobody listens.
pub fn nobody() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

/// Writes a package archive `name-version-py3-none-any.whl` with one file in it.
pub fn wheel(dir: &Path, name: &str, version: &str, path: &str, content: &[u8]) -> PathBuf {
    use std::io::Write;
    let file = dir.join(format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")));
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&file).unwrap());
    let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file(path, deflated).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap();
    file
}

pub fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
