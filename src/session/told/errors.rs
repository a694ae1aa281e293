//! The errors of the rooms below, as sentences. Pure.
//!
//! Technical detail of others (a decoder's, the hub's) stays in the English, which the log has; what helps the user is
//! put into placeholders.

use super::Told;
use crate::audio::AudioError;
use crate::audio::file::FileError;
use crate::conversation::archive::ArchiveError;
use crate::engine::EngineError;
use crate::settings::{Message, SettingsError};
use crate::voice::{Advice, Aspect, Finding, VoiceError};
use crate::weights::WeightsError;
use std::path::Path;

impl From<&AudioError> for Told {
    fn from(error: &AudioError) -> Self {
        let told = |key| Told::new(key, error);
        match error {
            AudioError::NoDevice { direction } => told("audio-no-device").about(*direction),
            AudioError::NotFound { direction, .. } => told("audio-not-found").about(*direction),
            AudioError::Busy { direction, name } => told("audio-busy").about(*direction).with("name", name),
            AudioError::Denied { direction, name } => told("audio-denied").about(*direction).with("name", name),
            AudioError::Lost { direction, name } => told("audio-lost").about(*direction).with("name", name),
            AudioError::NoService => told("audio-no-service"),
            AudioError::NoAnswer { .. } | AudioError::Silent => told("audio-silent"),
            AudioError::Unsupported { direction, name, .. } => {
                told("audio-unsupported").about(*direction).with("name", name)
            }
            AudioError::Failed { direction, name, .. } => told("audio-failed").about(*direction).with("name", name),
            AudioError::Exhausted { .. } => told("audio-exhausted"),
        }
    }
}

impl From<&EngineError> for Told {
    fn from(error: &EngineError) -> Self {
        let told = |key| Told::new(key, error);
        match error {
            EngineError::NotInstalled(_) => told("engine-not-installed"),
            EngineError::Model(detail) => told("engine-model").with("detail", detail),
            EngineError::Unsupported(detail) => told("engine-unsupported").with("detail", detail),
            EngineError::Compute(detail) => told("engine-compute").with("detail", detail),
        }
    }
}

impl From<&FileError> for Told {
    fn from(error: &FileError) -> Self {
        let told = |key, path: &Path| Told::new(key, error).with("file", file_name(path));
        match error {
            FileError::Missing(path) => told("file-missing", path),
            FileError::Unreadable { path, source } => told("file-unreadable", path).because(source),
            FileError::Empty(path) => told("file-empty", path),
            FileError::NotAudio { path, .. } => told("file-not-audio", path),
            FileError::Truncated { path, .. } | FileError::Damaged { path, .. } => told("file-damaged", path),
            FileError::Silent(path) => told("file-silent", path),
            FileError::TooLong { path, minutes } => told("file-too-long", path).with("minutes", minutes),
            FileError::Unwritable { path, .. } => told("file-unwritable", path),
        }
    }
}

impl From<&VoiceError> for Told {
    fn from(error: &VoiceError) -> Self {
        let told = |key| Told::new(key, error);
        match error {
            VoiceError::File(error) => Told::from(error),
            VoiceError::Rate(_) => told("voice-rate"),
            VoiceError::NothingSaid => told("voice-nothing-said"),
            VoiceError::NotUsable { path, .. } => told("voice-not-usable").with("file", file_name(path)),
            VoiceError::Unknown { .. } => told("voice-unknown"),
            VoiceError::NameTaken { name } => told("voice-name-taken").with("name", name),
            VoiceError::AlreadyKept { name } => told("voice-already-kept").with("name", name),
            VoiceError::BadName { name, .. } => told("voice-bad-name").with("name", name),
            VoiceError::Damaged { path, .. } => told("voice-damaged").with("folder", path.display()),
            VoiceError::Io { path, source, .. } => told("told-io").with("path", path.display()).because(source),
        }
    }
}

impl From<&ArchiveError> for Told {
    fn from(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::Disk { path, source } => {
                Told::new("told-io", error).with("path", path.display()).because(source)
            }
            ArchiveError::Missing(_) => Told::new("kept-missing", error),
            ArchiveError::NotOne(path) => Told::new("kept-not-one", error).with("path", path.display()),
            ArchiveError::Encode(_) => Told::new("told-defect", error).with("detail", error),
            ArchiveError::Sound(error) => Told::from(error),
        }
    }
}

impl From<&SettingsError> for Told {
    fn from(error: &SettingsError) -> Self {
        match error {
            SettingsError::Write { path, source } => {
                Told::new("told-io", error).with("path", path.display()).because(source)
            }
            SettingsError::Encode(_) => Told::new("told-defect", error).with("detail", error),
        }
    }
}

impl From<&Message> for Told {
    fn from(message: &Message) -> Self {
        let told = |key, path: &Path| Told::new(key, message).with("path", path.display());
        match message {
            Message::Unreadable { path, .. } => told("settings-unreadable", path),
            Message::SetAside { path, aside, .. } => told("settings-set-aside", path).with("aside", aside.display()),
            Message::Replaced { path, .. } => told("settings-replaced", path),
        }
    }
}

impl From<&WeightsError> for Told {
    fn from(error: &WeightsError) -> Self {
        let told = |key| Told::new(key, error);
        match error {
            WeightsError::Catalog(_) | WeightsError::UnknownModel { .. } | WeightsError::UnknownFile { .. } => {
                told("told-defect").with("detail", error)
            }
            WeightsError::NotInstalled { model, .. } => told("weights-incomplete").with("model", model),
            WeightsError::NoHome => told("weights-no-home"),
            WeightsError::Io { path, source, .. } => told("told-io").with("path", path.display()).because(source),
            WeightsError::DiskFull { path, needed, free } => {
                let told = told("weights-disk-full").with("path", path.display());
                told.with_size("needed", needed.0).with_size("free", free.0)
            }
            WeightsError::OutOfSpace { path } => told("weights-out-of-space").with("path", path.display()),
            WeightsError::NoSource { model, file, tried } => {
                told("weights-no-source").with("file", file).with("model", model).with("tried", tried)
            }
            WeightsError::NotInFolder { file, dir, .. } => {
                told("weights-not-in-folder").with("file", file).with("folder", dir.display())
            }
            WeightsError::NoSnapshotInFolder { model, dir, missing } => {
                let told = told("weights-no-snapshot").with("model", model);
                told.with("folder", dir.display()).with("missing", missing)
            }
            WeightsError::Terms { model, .. } => told("weights-terms").with("model", model),
            WeightsError::Mismatch { file, from, .. } => told("weights-mismatch").with("file", file).with("from", from),
            WeightsError::Convert { path, .. } => told("weights-convert").with("path", path.display()),
            WeightsError::Tls(_) => told("weights-tls"),
            WeightsError::Cancelled => told("weights-cancelled"),
        }
    }
}

/// What was found in a recording, and what to do about it.
pub fn finding(found: &Finding) -> (Told, Told) {
    let key = match found.aspect {
        Aspect::Length => "found-length",
        Aspect::Speech => "found-speech",
        Aspect::Level if found.advised() == Some(Advice::Silent) => "found-silence",
        Aspect::Level => "found-level",
        Aspect::Clipping => "found-clipping",
        Aspect::Noise => "found-noise",
        Aspect::Silences => "found-silences",
        Aspect::Hum => "found-hum",
        Aspect::Swing => "found-swing",
    };
    let value = match found.aspect {
        Aspect::Length => format!("{:.1}", found.value),
        Aspect::Clipping => format!("{:.2}", found.value * 100.0),
        Aspect::Speech => format!("{:.0}", found.value * 100.0),
        _ => format!("{:.0}", found.value),
    };
    let key_of = |advice| match advice {
        Advice::Longer => "advice-longer",
        Advice::NoVoice => "advice-no-voice",
        Advice::LittleSpeech => "advice-little-speech",
        Advice::Silent => "advice-silent",
        Advice::TooLoud => "advice-too-loud",
        Advice::TooQuiet => "advice-too-quiet",
        Advice::Clipped => "advice-clipped",
        Advice::Noisy => "advice-noisy",
        Advice::Breaks => "advice-breaks",
        Advice::Hum => "advice-hum",
        Advice::Flat => "advice-flat",
    };
    let advice = found.advised().map_or_else(Told::default, |advice| Told::new(key_of(advice), advice.words()));
    (Told::new(key, &found.what).with("value", value), advice)
}

/// A file as people know it: without its folders.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
