//! Voices to speak in, taken from recordings. Pure work on samples and files; runs on whichever thread asks.
//!
//! - [`recording`]: a recording taken apart, and the stretch of it that would make the best voice; [`hum`]: steady tones
//! - [`check`]: figures, grades and advice
//! - [`library`]: the voices that are kept
//!
//! Upstream advises 5 to 15 s of one speaker (MiniCPM-V issue 842) and takes 30 s at most.

pub mod check;
pub mod hum;
pub mod library;
pub mod recording;

pub use check::{Advice, Aspect, Check, Finding, Grade};
pub use library::{KeptVoice, Listing, VoiceLibrary};
pub use recording::{Recording, Span};

use crate::audio::Clip;
use crate::audio::file::{self, FileError};
use crate::dsp::resample::ResampleError;
use crate::engine::HEARING_RATE;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a recording or a kept voice cannot be used. Every message names the thing and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Rate(#[from] ResampleError),
    #[error("the recording was stopped before anything was said: record 5 to 15 seconds")]
    NothingSaid,
    #[error("{path} cannot be used as a voice: {why}")]
    NotUsable { path: PathBuf, why: String },
    #[error("there is no voice called \"{name}\" (there are: {known}): see `antiphon voices list`, or add one")]
    Unknown { name: String, known: String },
    #[error("there is a voice called \"{name}\" already: choose another name, or remove that voice first")]
    NameTaken { name: String },
    #[error("this stretch is kept already, as \"{name}\": rename that voice, or choose another stretch")]
    AlreadyKept { name: String },
    #[error("\"{name}\" cannot be a voice's name ({why}): choose up to 60 letters, of any script")]
    BadName { name: String, why: &'static str },
    #[error("the voice in {path} is damaged ({why}): delete that folder and add the voice again")]
    Damaged { path: PathBuf, why: String },
    #[error("{what} {path} ({source}): check the folder and the free space")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}

/// Reads a recording (wav, flac, mp3, ogg; any rate, mono or stereo) and takes it apart.
///
/// # Errors
/// When it is no recording that can be read.
pub fn read(path: &Path) -> Result<Recording, VoiceError> {
    Ok(Recording::new(&file::read(path)?)?)
}

/// Where a recording made on the spot comes from, instead of a file.
pub const MICROPHONE: &str = "microphone";

/// A recording made on the spot: 16 kHz mono.
///
/// # Errors
/// When it is too short to look at.
pub fn recorded(samples: &[f32]) -> Result<Recording, VoiceError> {
    if samples.len() < HEARING_RATE as usize / 2 {
        return Err(VoiceError::NothingSaid);
    }
    Ok(Recording::new(&Clip { samples: samples.to_vec(), rate: HEARING_RATE })?)
}

/// Reads a recording as a reference voice: 16 kHz mono, the stretch that would be proposed for keeping.
///
/// # Errors
/// When it cannot be read, or not be used; the message says what to do.
pub fn load(path: &Path) -> Result<Arc<[f32]>, VoiceError> {
    let recording = read(path)?;
    let check = recording.check(None);
    match check.grade {
        Grade::NotUsable => Err(VoiceError::NotUsable { path: path.into(), why: check.refusal() }),
        Grade::Ok | Grade::Usable => Ok(recording.cut(check.span)),
    }
}

/// A name to begin with, from a file's name.
pub fn suggested_name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().replace(['_', '-'], " ").trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    #[test]
    fn a_spoken_file_becomes_a_voice_without_its_silence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("voice.wav");
        let speech = file::read(&fixture("speech/pause.wav")).unwrap().samples;
        let sound = [vec![0.0; 48_000], speech, vec![0.0; 32_000]].concat();
        // In stereo, at another rate.
        let sound = crate::dsp::resample::convert(&sound, 16_000, 44_100).unwrap();
        file::write_wav(&path, 44_100, &[&sound, &sound]).unwrap();
        let seconds = load(&path).unwrap().len() as f64 / 16_000.0;
        assert!((4.5..=5.75).contains(&seconds), "{seconds}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.wav");
        let speech = file::read(&fixture("speech/stop.wav")).unwrap().samples;
        file::write_wav(&path, 16_000, &[&speech]).unwrap();
        let said = load(&path).unwrap_err().to_string();
        assert!(said.contains("short.wav") && said.contains("5 to 15 seconds"), "{said}");
        let said = load(&fixture("audio/tone.mp3")).unwrap_err().to_string();
        assert!(said.contains("tone.mp3") && said.contains("one person speaking"), "{said}");
    }

    #[test]
    fn a_name_is_suggested_by_the_file() {
        assert_eq!(suggested_name(Path::new("/tmp/Aunt_Emma-2.mp3")), "Aunt Emma 2");
        assert_eq!(suggested_name(Path::new("小明.wav")), "小明");
    }
}
