//! What models there are: the catalog compiled into the program, checked when it is read.
//!
//! Plain data, no thread of its own. Invariants of a [`Catalog`]: ids are unique, file names are unique within a model
//! and are plain names (no folder), every sha256 is 64 lower-case hexadecimal digits, no size is zero, every file has a
//! home on the hub, and a package is given the same size wherever it is named. A model has either files or a
//! [`Snapshot`]; the files of a snapshot are added when it is [pinned](super::Pin).

use super::WeightsError;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const BUILT_IN: &str = include_str!("../../models/catalog.toml");

/// What a model does in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Language model: thinks of the answer.
    Llm,
    /// Speech to text.
    Stt,
    /// Text to speech.
    Tts,
    /// Hears whether the user has finished.
    EndOfTurn,
    /// Hears, thinks and speaks: the omni engine's checkpoint.
    Omni,
    /// A smaller language part for the omni engine.
    OmniLlm,
}

impl Role {
    /// The role's name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Llm => "llm",
            Role::Stt => "stt",
            Role::Tts => "tts",
            Role::EndOfTurn => "end_of_turn",
            Role::Omni => "omni",
            Role::OmniLlm => "omni_llm",
        }
    }

    /// What the role is, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Role::Llm => "language model",
            Role::Stt => "speech to text",
            Role::Tts => "text to speech",
            Role::EndOfTurn => "end of turn",
            Role::Omni => "speech to speech",
            Role::OmniLlm => "language part of speech to speech",
        }
    }
}

/// Where a file lives on the model hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubPath {
    pub repo: String,
    pub revision: String,
    pub path: String,
}

/// A piece of a file, inside a package of the Python package index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorPart {
    /// `name==version`.
    pub package: String,
    /// Size of the package's archive.
    pub bytes: u64,
    /// Path inside the archive.
    pub path: String,
}

/// How the file that is kept is made from the one that is downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConvertStep {
    /// Whisper weights of CTranslate2 to safetensors under Hugging Face names.
    #[serde(rename = "whisper-from-ctranslate2")]
    WhisperFromCtranslate2,
    /// A GGUF file whose slow kinds of weights become Q8_0.
    #[serde(rename = "requantize-gguf")]
    RequantizeGguf,
}

/// A file that is made from the downloaded one, and kept instead of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    pub step: ConvertStep,
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub name: String,
    pub size: u64,
    pub sha256: String,
    pub hub: HubPath,
    #[serde(default)]
    pub mirror: Vec<MirrorPart>,
    pub convert: Option<Convert>,
}

impl FileEntry {
    /// The file that ends up in the store: its name, size and sha256 (of the converted one where there is a conversion).
    pub fn kept(&self) -> (&str, u64, &str) {
        match &self.convert {
            Some(c) => (&c.name, c.size, &c.sha256),
            None => (&self.name, self.size, &self.sha256),
        }
    }
}

/// A checkpoint as a repository of the hub holds it. Its files' sizes and checksums are not written in the catalog: the
/// hub tells them at the first pull, and they are pinned from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub repo: String,
    /// A commit, or a branch (whose commit at the first pull is the one that is pinned).
    pub revision: String,
    /// About how many bytes it has, for people.
    pub about: u64,
    /// The files that are needed: paths in the repository. The last part may hold one `*`.
    pub files: Vec<String>,
}

impl Snapshot {
    /// Whether the file at `path` of the repository is wanted.
    pub fn wants(&self, path: &str) -> bool {
        self.files.iter().any(|pattern| covers(pattern, path))
    }

    /// The first entry that none of these paths satisfies.
    pub fn lacking<'s>(&'s self, paths: &[&str]) -> Option<&'s str> {
        self.files.iter().find(|pattern| !paths.iter().any(|path| covers(pattern, path))).map(String::as_str)
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == path };
    let middle = path.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    middle.is_some_and(|m| !m.contains('/'))
}

/// A model: what it is for and the files it consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: String,
    pub title: String,
    pub role: Role,
    pub licence: String,
    pub purpose: String,
    /// About what it takes when loaded, in bytes.
    pub memory: u64,
    /// Processor cores a fluent conversation wants.
    pub cores: u32,
    /// Whether it is in the set that is fetched when nothing else is asked for.
    pub starter: bool,
    /// What one must agree to before fetching it, in plain words.
    pub terms: Option<String>,
    /// Where its files are, if they are not listed here.
    pub snapshot: Option<Snapshot>,
    /// Empty for a snapshot that has not been pinned.
    #[serde(rename = "file", default)]
    pub files: Vec<FileEntry>,
}

impl Model {
    /// Bytes to download; of a snapshot that is not pinned, about so many.
    pub fn download_size(&self) -> u64 {
        self.about().unwrap_or_else(|| self.files.iter().map(|f| f.size).sum())
    }

    /// Bytes on disk once installed; of a snapshot that is not pinned, about so many.
    pub fn kept_size(&self) -> u64 {
        self.about().unwrap_or_else(|| self.files.iter().map(|f| f.kept().1).sum())
    }

    fn about(&self) -> Option<u64> {
        self.snapshot.as_ref().filter(|_| self.files.is_empty()).map(|s| s.about)
    }

    /// The name of its first file, for messages.
    pub(crate) fn first_file(&self) -> &str {
        let wanted = self.snapshot.as_ref().and_then(|s| s.files.first());
        self.files.first().map(|f| f.kept().0).or(wanted.map(String::as_str)).unwrap_or_default()
    }
}

/// The models there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    #[serde(rename = "model")]
    pub models: Vec<Model>,
}

impl Catalog {
    /// The catalog compiled into the program.
    pub fn built_in() -> Result<&'static Catalog, WeightsError> {
        static CATALOG: LazyLock<Result<Catalog, String>> = LazyLock::new(|| read(BUILT_IN));
        CATALOG.as_ref().map_err(|why| WeightsError::Catalog(why.clone()))
    }

    /// Reads and checks a catalog.
    pub fn parse(text: &str) -> Result<Catalog, WeightsError> {
        read(text).map_err(WeightsError::Catalog)
    }

    /// The model called `id`.
    pub fn model(&self, id: &str) -> Result<&Model, WeightsError> {
        self.models.iter().find(|m| m.id == id).ok_or_else(|| WeightsError::UnknownModel {
            id: id.to_owned(),
            known: self.models.iter().map(|m| m.id.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The set a new user needs.
    pub fn starter(&self) -> Vec<&Model> {
        self.models.iter().filter(|m| m.starter).collect()
    }
}

fn read(text: &str) -> Result<Catalog, String> {
    let catalog: Catalog = toml::from_str(text).map_err(|e| e.to_string().trim_end().replace('\n', " "))?;
    let mut ids = HashSet::new();
    let mut packages = HashMap::new();
    for model in &catalog.models {
        let id = &model.id;
        check_name("model id", id)?;
        if !ids.insert(id) {
            return Err(format!("model {id} is there twice"));
        }
        for (what, text) in [("title", &model.title), ("licence", &model.licence), ("purpose", &model.purpose)] {
            if text.trim().is_empty() {
                return Err(format!("model {id} has an empty {what}"));
            }
        }
        if model.memory == 0 || model.cores == 0 {
            return Err(format!("model {id} says it needs no memory or no cores"));
        }
        if model.terms.as_ref().is_some_and(|t| t.trim().is_empty()) {
            return Err(format!("model {id} has empty terms"));
        }
        match (&model.snapshot, model.files.is_empty()) {
            (None, true) => return Err(format!("model {id} has no files")),
            (Some(_), false) => return Err(format!("model {id} has both a snapshot and files of its own")),
            (Some(snapshot), true) => check_snapshot(snapshot).map_err(|why| format!("model {id}: {why}"))?,
            (None, false) => {}
        }
        let mut names = HashSet::new();
        for file in &model.files {
            check_file(file).map_err(|why| format!("model {id}: {why}"))?;
            let made = file.convert.iter().map(|c| &c.name);
            if let Some(twice) = std::iter::once(&file.name).chain(made).find(|n| !names.insert(n.as_str())) {
                return Err(format!("model {id} has two files called {twice}"));
            }
            for part in &file.mirror {
                if *packages.entry(&part.package).or_insert(part.bytes) != part.bytes {
                    return Err(format!("package {} is given two sizes", part.package));
                }
            }
        }
    }
    Ok(catalog)
}

fn check_file(file: &FileEntry) -> Result<(), String> {
    let name = &file.name;
    check_name("file name", name)?;
    check_content(name, file.size, &file.sha256)?;
    if let Some(made) = &file.convert {
        check_name("file name", &made.name)?;
        check_content(&made.name, made.size, &made.sha256)?;
    }
    let hub = &file.hub;
    if !is_repo(&hub.repo) || hub.revision.is_empty() || !is_relative(&hub.path) {
        return Err(format!("{name}: its hub entry needs repo = \"owner/name\", a revision and a path"));
    }
    for part in &file.mirror {
        let pinned = part.package.split_once("==").is_some_and(|(n, v)| !n.is_empty() && !v.is_empty());
        // A package specification is handed to another program: nothing in it may read as an option or an address.
        let plain = part.package.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.package.chars().all(|c| c.is_ascii_alphanumeric() || "-_.=".contains(c));
        if !pinned || !plain || part.bytes == 0 || !is_relative(&part.path) {
            return Err(format!(
                "{name}: mirror part {} needs package = \"name==version\", bytes and a path",
                part.package
            ));
        }
    }
    Ok(())
}

fn check_snapshot(snapshot: &Snapshot) -> Result<(), String> {
    if !is_repo(&snapshot.repo) || snapshot.revision.is_empty() || snapshot.about == 0 || snapshot.files.is_empty() {
        return Err("its snapshot needs repo = \"owner/name\", a revision, about how many bytes, and files".to_owned());
    }
    for pattern in &snapshot.files {
        let folder = pattern.rsplit_once('/').map_or("", |(folder, _)| folder);
        if pattern.matches('*').count() > 1 || folder.contains('*') || !is_plain_path(&pattern.replace('*', "x")) {
            return Err(format!("\"{pattern}\" is no path in a repository with at most one * in its last part"));
        }
    }
    Ok(())
}

/// Whether a path, which may come from a server, names a file within a folder and nothing hidden.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| check_name("", part).is_ok())
}

fn is_repo(repo: &str) -> bool {
    repo.split('/').count() == 2 && is_plain_path(repo)
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.starts_with('.');
    if plain && !name.is_empty() {
        Ok(())
    } else {
        Err(format!("{what} \"{name}\" must be letters, digits, '-', '_' and '.', and not begin with '.'"))
    }
}

fn check_content(name: &str, size: u64, sha256: &str) -> Result<(), String> {
    if size == 0 {
        return Err(format!("{name} has size 0"));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(format!("{name}: sha256 \"{sha256}\" is not 64 lower-case hexadecimal digits"));
    }
    Ok(())
}

fn is_relative(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|p| !p.is_empty() && p != "." && p != "..")
}

#[cfg(test)]
mod tests;
