//! The folder with all conversations. Owned by the archivist's thread; blocks on the disk.
//!
//! Invariants: a turn is one appended line, written after its sound, so that whatever the moment of a crash every whole
//! line is a whole turn; a line torn by a crash is passed over when reading, and never joined by the next one; a
//! conversation is renamed before it is deleted, so that none is ever half there.

use super::{Conversation, KeptTurn, Summary};
use crate::audio::file::{self, Clip, FileError};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const TURNS: &str = "turns.jsonl";
/// Folders whose deletion was begun.
const DELETED: &str = ".deleted-";
/// Characters of a title.
const TITLE: usize = 60;
/// The version of the form that is written.
const FORM: u32 = 1;

/// Why a conversation could not be kept, read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{path}: {source}; check the folder's permissions and the free space")]
    Disk { path: PathBuf, source: io::Error },
    #[error("there is no conversation {0} any more: it was deleted or moved")]
    Missing(String),
    #[error("{0} does not begin like a conversation: move it elsewhere or delete it")]
    NotOne(PathBuf),
    #[error("a turn cannot be put into JSON: {0}; please report this")]
    Encode(#[from] serde_json::Error),
    #[error(transparent)]
    Sound(#[from] FileError),
}

/// The first line of `turns.jsonl`.
#[derive(Serialize, Deserialize)]
struct Header {
    /// The version of the form.
    antiphon_conversation: u32,
    began: Timestamp,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// The archive in `folder`, which is created with the first conversation.
    pub fn new(folder: PathBuf) -> Self {
        Archive { folder }
    }

    /// Finishes deletions that a crash interrupted. Best effort: what is left is hidden all the same.
    pub fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(DELETED) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Begins a conversation; gives its id, made of the local time.
    pub fn begin(&self, at: Timestamp) -> Result<String, ArchiveError> {
        fs::create_dir_all(&self.folder).map_err(|source| disk(&self.folder, source))?;
        let name = at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d-%H%M%S").to_string();
        for id in (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") }) {
            let folder = self.folder.join(&id);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(|source| disk(&folder, source))?,
            }
            let header = serde_json::to_string(&Header { antiphon_conversation: FORM, began: at })?;
            append_line(&folder.join(TURNS), &header)?;
            return Ok(id);
        }
        Err(ArchiveError::Missing(name))
    }

    /// Adds a turn; its sound must be there already.
    pub fn append(&self, id: &str, turn: &KeptTurn) -> Result<(), ArchiveError> {
        append_line(&self.folder_of(id)?.join(TURNS), &serde_json::to_string(turn)?)
    }

    /// Keeps sound under a name in the conversation's folder.
    pub fn keep_sound(&self, id: &str, name: &str, rate: u32, samples: &[f32]) -> Result<(), ArchiveError> {
        Ok(file::write_wav(&self.folder_of(id)?.join(name), rate, &[samples])?)
    }

    /// Sound that was kept.
    pub fn sound(&self, id: &str, name: &str) -> Result<Clip, ArchiveError> {
        if !is_plain(name) {
            return Err(ArchiveError::Missing(format!("{id}/{name}")));
        }
        Ok(file::read(&self.folder_of(id)?.join(name))?)
    }

    /// A whole conversation. Lines that cannot be understood (torn by a crash, edited by hand) are passed over.
    pub fn load(&self, id: &str) -> Result<Conversation, ArchiveError> {
        let path = self.folder_of(id)?.join(TURNS);
        let bytes = fs::read(&path).map_err(|source| disk(&path, source))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let header = lines.next().and_then(|line| serde_json::from_str::<Header>(line).ok());
        let Some(header) = header else { return Err(ArchiveError::NotOne(path)) };
        let mut turns: Vec<KeptTurn> = Vec::new();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(turn) => turns.push(turn),
                Err(error) => tracing::warn!("{}: a line is passed over: {error}", path.display()),
            }
        }
        Ok(Conversation { id: id.to_owned(), began: header.began, turns })
    }

    /// The conversations in which every word of `query` occurs (all, if it is empty), newest first. Those that cannot
    /// be read are left out.
    pub fn list(&self, query: &str) -> Vec<Summary> {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let mut found: Vec<Summary> =
            self.ids().iter().filter_map(|id| self.load(id).ok()).filter(|c| has_all(c, &words)).map(summary).collect();
        found.sort_by(|a, b| (b.began, &b.id).cmp(&(a.began, &a.id)));
        found
    }

    /// The conversation that was begun last.
    pub fn newest(&self) -> Option<Conversation> {
        self.ids().iter().filter_map(|id| self.load(id).ok()).max_by(|a, b| (a.began, &a.id).cmp(&(b.began, &b.id)))
    }

    /// Deletes a conversation with its sound.
    pub fn delete(&self, id: &str) -> Result<(), ArchiveError> {
        let folder = self.folder_of(id)?;
        let doomed = self.folder.join(format!("{DELETED}{id}"));
        fs::rename(&folder, &doomed).map_err(|source| disk(&folder, source))?;
        fs::remove_dir_all(&doomed).map_err(|source| disk(&doomed, source))
    }

    /// Deletes all conversations; goes on after an error and gives the first.
    pub fn delete_all(&self) -> Result<(), ArchiveError> {
        let outcomes: Vec<_> = self.ids().iter().map(|id| self.delete(id)).collect();
        outcomes.into_iter().collect()
    }

    /// Where files are exported to when the user was not asked.
    pub fn export_folder(&self) -> PathBuf {
        self.folder.with_file_name("exports")
    }

    fn ids(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| is_plain(name) && self.folder.join(name).join(TURNS).is_file()).collect()
    }

    fn folder_of(&self, id: &str) -> Result<PathBuf, ArchiveError> {
        let folder = self.folder.join(id);
        if is_plain(id) && folder.is_dir() { Ok(folder) } else { Err(ArchiveError::Missing(id.to_owned())) }
    }
}

fn disk(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Disk { path: path.to_owned(), source }
}

/// A name that stays inside its folder and is not hidden.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

/// Appends a whole line in one write, after a line break if a crash left a piece of a line.
fn append_line(path: &Path, line: &str) -> Result<(), ArchiveError> {
    let appended = (|| {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let torn = ends_in_a_piece(&mut file)?;
        let text = if torn { format!("\n{line}\n") } else { format!("{line}\n") };
        file.write_all(text.as_bytes())?;
        file.sync_data()
    })();
    appended.map_err(|source| disk(path, source))
}

fn ends_in_a_piece(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

fn has_all(conversation: &Conversation, words: &[String]) -> bool {
    let texts = conversation.turns.iter().flat_map(|turn| [&turn.heard, &turn.answer]);
    let all: Vec<String> = texts.map(|text| text.to_lowercase()).collect();
    words.iter().all(|word| all.iter().any(|text| text.contains(word)))
}

fn summary(conversation: Conversation) -> Summary {
    let words = |text: fn(&KeptTurn) -> &String| conversation.turns.iter().map(text).find(|text| !text.is_empty());
    let title = words(|turn| &turn.heard).or(words(|turn| &turn.answer));
    let title = title.map_or(String::new(), |text| {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= TITLE { line } else { line.chars().take(TITLE - 1).chain(['…']).collect() }
    });
    Summary { turns: conversation.turns.len(), began: conversation.began, id: conversation.id, title }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
