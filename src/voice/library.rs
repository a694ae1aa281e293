//! The voices that are kept, on disk: `HOME/voices/ID/`, where ID is the beginning of the sample's sha256.
//!
//! ```text
//! voice.toml    what it is called, where it came from, what was found in it: for people and programs
//! sample.wav    the stretch that is used: 16 kHz, mono, 16 bit
//! state/        what engines made of it, to begin sooner; may be deleted at any time
//! ```
//!
//! A [`VoiceLibrary`] is only a path: cheap to clone, usable from any thread; it blocks on the disk. Invariants: a
//! voice's folder appears and disappears in one step; whoever changes names holds the library's lock; a folder that
//! cannot be understood is reported and passed over, never changed.

use super::check::{Check, Grade};
use super::recording::{Recording, Span};
use super::{MICROPHONE, VoiceError};
use crate::audio::file;
use crate::engine::HEARING_RATE;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const RECORD: &str = "voice.toml";
const SAMPLE: &str = "sample.wav";
const STATE: &str = "state";
/// Hexadecimal digits of the sample's hash that make its id.
const ID_DIGITS: usize = 16;
/// The longest name, in characters.
const LONGEST_NAME: usize = 60;

/// What is said to whoever adds a voice, and kept with it.
pub const CONSENT: &str =
    "Use a voice only if it is yours or its owner agreed, and tell those who hear it that it is not the person.";

/// What `voice.toml` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoiceRecord {
    pub name: String,
    /// The file it was taken from.
    pub source: String,
    /// UTC, as in RFC 3339.
    pub created: String,
    /// What was said about consent when it was added.
    pub consent: String,
    /// Of the samples as 16-bit little-endian numbers.
    pub sample_sha256: String,
    /// Where in the source the sample lies.
    pub span: Span,
    pub check: CheckRecord,
}

/// What the check found when the voice was added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckRecord {
    pub grade: Grade,
    /// One sentence per aspect.
    pub findings: Vec<String>,
}

impl CheckRecord {
    fn of(check: &Check) -> Self {
        let sentence = |f: &super::check::Finding| match f.advice.as_str() {
            "" => f.what.clone(),
            advice => format!("{}: {advice}", f.what),
        };
        CheckRecord { grade: check.grade, findings: check.findings.iter().map(sentence).collect() }
    }
}

/// A voice that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptVoice {
    pub id: String,
    pub record: VoiceRecord,
    folder: PathBuf,
}

impl KeptVoice {
    /// The sample's file.
    pub fn sample_path(&self) -> PathBuf {
        self.folder.join(SAMPLE)
    }

    /// Where engines keep what they made of this voice.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// The sample, 16 kHz mono.
    ///
    /// # Errors
    /// When the file is gone or is not the one that was kept.
    pub fn samples(&self) -> Result<Arc<[f32]>, VoiceError> {
        let path = self.sample_path();
        let clip = file::read(&path)?;
        if clip.rate != HEARING_RATE || hash(&clip.samples) != self.record.sample_sha256 {
            let why = "its sample is not the one that was kept".to_owned();
            return Err(VoiceError::Damaged { path: self.folder.clone(), why });
        }
        Ok(clip.samples.into())
    }
}

/// A folder that is no voice any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub folder: PathBuf,
    pub why: String,
}

/// What is in the library.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// By name.
    pub voices: Vec<KeptVoice>,
    pub broken: Vec<Broken>,
}

/// The place where voices are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoiceLibrary {
    root: PathBuf,
}

/// Held while the library is changed; released when dropped.
struct Lock {
    _file: File,
}

impl VoiceLibrary {
    /// The library under a home folder (see [`Store`](crate::weights::Store)). Creates nothing.
    pub fn new(home: &Path) -> Self {
        VoiceLibrary { root: home.join("voices") }
    }

    /// The folder that holds a folder for each voice.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that is kept. A library that does not exist is empty.
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let Ok(entries) = fs::read_dir(&self.root) else { return listing };
        for entry in entries.flatten() {
            let folder = entry.path();
            let id = entry.file_name().to_string_lossy().into_owned();
            if id.starts_with('.') || !folder.is_dir() {
                continue;
            }
            match read_record(&folder, &id) {
                Ok(record) => listing.voices.push(KeptVoice { id, record, folder }),
                Err(why) => listing.broken.push(Broken { folder, why }),
            }
        }
        listing.voices.sort_by_cached_key(|v| (fold(&v.record.name), v.id.clone()));
        listing.broken.sort_by(|a, b| a.folder.cmp(&b.folder));
        listing
    }

    /// The voice of this name (upper or lower case) or id.
    ///
    /// # Errors
    /// When there is none: the message lists those there are.
    pub fn find(&self, name: &str) -> Result<KeptVoice, VoiceError> {
        let voices = self.list().voices;
        let found = voices.iter().find(|v| fold(&v.record.name) == fold(name)).or(voices.iter().find(|v| v.id == name));
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = voices.iter().map(|v| v.record.name.as_str()).collect();
            let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
            VoiceError::Unknown { name: name.to_owned(), known }
        })
    }

    /// Keeps a stretch of a recording as a voice.
    ///
    /// # Errors
    /// When the name or the sample is taken, the stretch is not usable, or the disk cannot be written.
    pub fn add(&self, recording: &Recording, span: Span, name: &str, source: &Path) -> Result<KeptVoice, VoiceError> {
        let name = good_name(name)?;
        let check = recording.check(Some(span));
        if check.grade == Grade::NotUsable {
            return Err(VoiceError::NotUsable { path: source.into(), why: check.refusal() });
        }
        let samples = recording.cut(check.span);
        let sample_sha256 = hash(&samples);
        let id = sample_sha256[..ID_DIGITS].to_owned();
        let _lock = self.lock()?;
        self.name_is_free(&name, None)?;
        let folder = self.root.join(&id);
        if folder.exists() {
            return Err(match read_record(&folder, &id) {
                Ok(record) => VoiceError::AlreadyKept { name: record.name },
                Err(why) => VoiceError::Damaged { path: folder, why },
            });
        }
        // What was recorded on the spot comes from no file.
        let is_file = source != Path::new(MICROPHONE);
        let source = if is_file { std::path::absolute(source).ok() } else { None }.unwrap_or_else(|| source.into());
        let record = VoiceRecord {
            name,
            source: source.display().to_string(),
            created: rfc3339(SystemTime::now()),
            consent: CONSENT.to_owned(),
            sample_sha256,
            span: check.span,
            check: CheckRecord::of(&check),
        };
        let new = self.root.join(format!(".new-{}-{id}", std::process::id()));
        let made = fs::create_dir_all(&new).map_err(|e| io("cannot write", &new, e)).and_then(|()| {
            file::write_wav(&new.join(SAMPLE), HEARING_RATE, &[&samples])?;
            write_record(&new, &record)?;
            fs::rename(&new, &folder).map_err(|e| io("cannot write", &folder, e))
        });
        if made.is_err() {
            // The failure above is the one to report.
            let _ = fs::remove_dir_all(&new);
        }
        made.map(|()| KeptVoice { id, record, folder })
    }

    /// Calls a voice by another name.
    ///
    /// # Errors
    /// When there is no such voice, or the new name is taken.
    pub fn rename(&self, name: &str, new_name: &str) -> Result<KeptVoice, VoiceError> {
        let new_name = good_name(new_name)?;
        let _lock = self.lock()?;
        let mut voice = self.find(name)?;
        self.name_is_free(&new_name, Some(&voice.id))?;
        voice.record.name = new_name;
        write_record(&voice.folder, &voice.record)?;
        Ok(voice)
    }

    /// Deletes a voice and everything made of it.
    ///
    /// # Errors
    /// When there is no such voice, or it cannot be deleted.
    pub fn remove(&self, name: &str) -> Result<KeptVoice, VoiceError> {
        let _lock = self.lock()?;
        let voice = self.find(name)?;
        // First out of sight in one step, so that nobody finds half a voice.
        let gone = self.root.join(format!(".gone-{}-{}", std::process::id(), voice.id));
        fs::rename(&voice.folder, &gone).map_err(|e| io("cannot delete", &voice.folder, e))?;
        fs::remove_dir_all(&gone).map_err(|e| io("cannot delete", &gone, e))?;
        Ok(voice)
    }

    fn name_is_free(&self, name: &str, except: Option<&str>) -> Result<(), VoiceError> {
        let mut others = self.list().voices.into_iter().filter(|v| Some(v.id.as_str()) != except);
        match others.find(|v| fold(&v.record.name) == fold(name) || v.id == name) {
            Some(taken) => Err(VoiceError::NameTaken { name: taken.record.name }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> Result<Lock, VoiceError> {
        let path = self.root.join(".lock");
        let open = || {
            fs::create_dir_all(&self.root)?;
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        Ok(Lock { _file: open().map_err(|e| io("cannot write", &path, e))? })
    }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> VoiceError {
    VoiceError::Io { what, path: path.into(), source }
}

/// A name for comparing: case does not part two voices.
fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}

/// A name as it is kept: of any script, on one line, and no path.
fn good_name(name: &str) -> Result<String, VoiceError> {
    let name = name.trim();
    let why = match name {
        "" => "it is empty",
        n if n.chars().count() > LONGEST_NAME => "it is too long",
        n if n.chars().any(char::is_control) => "it has control characters",
        n if n.contains(['/', '\\']) => "it looks like a path",
        _ => return Ok(name.to_owned()),
    };
    Err(VoiceError::BadName { name: name.chars().take(LONGEST_NAME).filter(|c| !c.is_control()).collect(), why })
}

fn read_record(folder: &Path, id: &str) -> Result<VoiceRecord, String> {
    let text = fs::read_to_string(folder.join(RECORD)).map_err(|e| format!("{RECORD} cannot be read ({e})"))?;
    let record: VoiceRecord = toml::from_str(&text)
        .map_err(|e| format!("{RECORD} is damaged ({})", e.message().lines().next().unwrap_or("")))?;
    if !record.sample_sha256.starts_with(id) {
        return Err(format!("{RECORD} belongs to another voice"));
    }
    if good_name(&record.name).is_err() {
        return Err(format!("{RECORD} has no usable name"));
    }
    let size = fs::metadata(folder.join(SAMPLE)).map(|m| m.len()).unwrap_or(0);
    if size == 0 {
        return Err(format!("{SAMPLE} is missing"));
    }
    Ok(record)
}

fn write_record(folder: &Path, record: &VoiceRecord) -> Result<(), VoiceError> {
    let path = folder.join(RECORD);
    let failed = |e| io("cannot write", &path, e);
    let text = toml::to_string(record).map_err(|e| failed(std::io::Error::other(e)))?;
    let new = folder.join(format!(".{RECORD}.{}.new", std::process::id()));
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(failed)
}

/// The sha256 of samples as a 16-bit wav holds them.
fn hash(samples: &[f32]) -> String {
    let mut hasher = Sha256::new();
    for sample in samples {
        hasher.update(((sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16).to_le_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment as RFC 3339 in UTC. The calendar is Howard Hinnant's "chrono-compatible low-level date algorithms".
fn rfc3339(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
