//! What the user chose, kept in a readable TOML file.
//!
//! Plain data and a file; no threads. The file is written whole, beside itself, and then moved into place, so that a
//! crash leaves the old or the new one. A file that cannot be understood is set aside under another name, never
//! overwritten, and the defaults are used.

use crate::session::command::{Eagerness, Keep, Sensitivity};
use crate::session::{EngineSelection, OmniSelection};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The settings file's name in its folder.
const FILE_NAME: &str = "settings.toml";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the rest of the desktop.
    #[default]
    System,
    Light,
    Dark,
}

/// The language of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// As the rest of the desktop, where it is spoken; else English.
    #[default]
    System,
    English,
    Chinese,
}

/// Everything the user can choose. Fields that are absent from the file have their default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The engine's name on the command line.
    pub engine: String,
    /// Catalog id of the language model of the `cascade` engine; absent: the catalog's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// Whether turns are found by listening all the time, rather than by the talk button.
    pub hands_free: bool,
    /// Whether the microphone is off while an answer sounds (in hands-free).
    pub half_duplex: bool,
    /// Whether answers are heard through headphones: there is no echo to cancel then.
    pub headphones: bool,
    pub eagerness: Eagerness,
    /// How easily the user's voice stops an answer.
    pub sensitivity: Sensitivity,
    /// How fast answers are spoken, where the engine's voice has no pace of its own: 0.5 to 2.
    pub speed: f32,
    /// The key that talks while another program has the keyboard, such as `Ctrl+Alt+Space`; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hotkey: Option<String>,
    /// Linear factor of the answers' loudness, 0 to 1.
    pub volume: f32,
    /// The sound devices' ids; absent: the system's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_device: Option<String>,
    pub theme: Theme,
    pub interface: Interface,
    /// Size of everything in the window, as a factor of the system's size: 0.5 to 3.
    pub scale: f32,
    /// Id of the kept voice to speak in, for an engine that can; absent: the engine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// The persona, in words; empty: the engine's own.
    pub system_prompt: String,
    /// Seed of all the engine's choices: the same seed and questions give the same answers.
    pub seed: u64,
    /// How much of the conversations stays on the disk.
    pub keep: Keep,
    /// The language spoken, as an ISO 639-1 code.
    pub language: String,
    /// How the omni engine is loaded: the flags of the same names.
    #[serde(skip_serializing_if = "OmniSettings::is_default")]
    pub omni: OmniSettings,
}

/// The omni engine's part, each as on the command line; absent: that flag's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OmniSettings {
    /// The checkpoint's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// A GGUF file of its language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize_speech: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_chunk: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_window: Option<usize>,
    pub role_play: bool,
    pub compat: bool,
}

impl OmniSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            engine: "cascade".into(),
            llm: None,
            hands_free: true,
            half_duplex: false,
            headphones: false,
            eagerness: Eagerness::default(),
            sensitivity: Sensitivity::default(),
            speed: 1.0,
            hotkey: None,
            volume: 1.0,
            input_device: None,
            output_device: None,
            theme: Theme::default(),
            interface: Interface::default(),
            scale: 1.0,
            voice: None,
            system_prompt: String::new(),
            seed: 0,
            keep: Keep::default(),
            language: "en".into(),
            omni: OmniSettings::default(),
        }
    }
}

/// Why the settings could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the settings could not be written to {path}: {source}; check that the folder exists and has space")]
    Write { path: PathBuf, source: io::Error },
    #[error("the settings cannot be put into TOML: {0}; please report this")]
    Encode(#[from] toml::ser::Error),
}

/// What was read: always usable settings, and what the user should be told, if anything.
#[derive(Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    pub message: Option<Message>,
}

/// What the user should be told of a settings file that was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It could not be read, and is left where it is.
    Unreadable { path: PathBuf, why: String },
    /// It could not be understood, and was set aside under this name.
    SetAside { path: PathBuf, why: String, aside: PathBuf },
    /// It could not be understood, nor set aside.
    Replaced { path: PathBuf, why: String, refused: String },
}

impl Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Message::Unreadable { path, why } => {
                return write!(
                    f,
                    "The settings in {} could not be read ({why}), so the defaults are used. Check the file's permissions.",
                    path.display()
                );
            }
            Message::SetAside { path, why, .. } | Message::Replaced { path, why, .. } => (path, why),
        };
        let (path, why) = (path.0.display(), path.1);
        write!(f, "The settings in {path} could not be understood ({why}), so the defaults are used. ")?;
        match self {
            Message::SetAside { aside, .. } => {
                write!(f, "It was kept as {}; repair it and move it back, or choose anew.", aside.display())
            }
            Message::Replaced { refused, .. } => {
                write!(f, "It could not be set aside ({refused}) and is replaced when a setting changes.")
            }
            Message::Unreadable { .. } => Ok(()),
        }
    }
}

/// Where the settings are: in the platform's folder for configuration. `None` when the platform has none (no home
/// folder).
pub fn default_path() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "antiphon")?.config_dir().join(FILE_NAME))
}

impl Settings {
    /// Reads the file. One that is not there gives the defaults; so does one that cannot be understood, which is
    /// renamed to `settings.toml.broken` first.
    pub fn load(path: &Path) -> Loaded {
        let problem = match fs::read_to_string(path) {
            Ok(text) => match toml::from_str::<Settings>(&text) {
                Ok(settings) => return Loaded { settings: settings.within_bounds(), message: None },
                Err(error) => error.message().to_owned(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Loaded { settings: Settings::default(), message: None };
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
            // It may be right and merely out of reach: leave it where it is.
            Err(error) => {
                let message = Message::Unreadable { path: path.to_owned(), why: error.to_string() };
                return Loaded { settings: Settings::default(), message: Some(message) };
            }
        };
        let aside = set_aside_name(path);
        let (path, why) = (path.to_owned(), problem);
        let message = match fs::rename(&path, &aside) {
            Ok(()) => Message::SetAside { path, why, aside },
            Err(error) => Message::Replaced { path, why, refused: error.to_string() },
        };
        Loaded { settings: Settings::default(), message: Some(message) }
    }

    /// Writes the file, and its folder if need be.
    ///
    /// # Errors
    /// When the folder or the file cannot be written; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), SettingsError> {
        let text = toml::to_string(self)?;
        write_atomically(path, text.as_bytes()).map_err(|source| SettingsError::Write { path: path.to_owned(), source })
    }

    /// The engine of these settings, loaded as before.
    pub fn engine_selection(&self) -> EngineSelection {
        EngineSelection { engine: self.engine.clone(), llm: self.llm.clone(), omni: None }
    }

    /// The same, loaded as these settings say now.
    pub fn engine_selection_anew(&self) -> EngineSelection {
        let OmniSettings { dtype, quantize, text_chunk, .. } = self.omni.clone();
        let omni = OmniSelection { dtype, quantize, text_chunk, language: self.language.clone() };
        EngineSelection { omni: Some(omni), ..self.engine_selection() }
    }

    /// Numbers a person may have typed wrongly are brought to the nearest that make sense.
    fn within_bounds(mut self) -> Self {
        let defaults = Settings::default();
        self.volume = if self.volume.is_nan() { defaults.volume } else { self.volume.clamp(0.0, 1.0) };
        self.speed = if self.speed.is_nan() { defaults.speed } else { self.speed.clamp(0.5, 2.0) };
        self.scale = if self.scale.is_nan() { defaults.scale } else { self.scale.clamp(0.5, 3.0) };
        self
    }
}

fn set_aside_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".broken");
    PathBuf::from(name)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = path.as_os_str().to_owned();
    // Two programs at once must not write into one another's file.
    new.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(new);
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // The error that matters is the one above.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_loaded_again_and_nothing_else_is_left() {
        let folder = folder();
        let path = folder.path().join("new/folder").join(FILE_NAME);
        let settings = Settings {
            engine: "omni".into(),
            llm: Some("small".into()),
            hands_free: false,
            half_duplex: true,
            headphones: true,
            eagerness: Eagerness::Patient,
            sensitivity: Sensitivity::High,
            speed: 1.25,
            hotkey: Some("Ctrl+Alt+Space".into()),
            volume: 0.25,
            input_device: Some("alsa:mic \"1\"".into()),
            output_device: None,
            theme: Theme::Dark,
            interface: Interface::Chinese,
            scale: 1.5,
            voice: Some("0123456789abcdef".into()),
            system_prompt: "You are kind.\n你好".into(),
            seed: 7,
            keep: Keep::Words,
            language: "zh".into(),
            omni: OmniSettings { model: Some("/models/o".into()), text_chunk: Some(8), ..OmniSettings::default() },
        };
        Settings::default().save(&path).unwrap();
        settings.save(&path).unwrap();
        assert_eq!(Settings::load(&path), Loaded { settings, message: None });
        assert_eq!(names(path.parent().unwrap()), [FILE_NAME]);
        assert!(fs::read_to_string(&path).unwrap().contains("eagerness = \"patient\"\n"));
    }

    #[test]
    fn a_missing_file_is_no_problem() {
        let loaded = Settings::load(&folder().path().join(FILE_NAME));
        assert_eq!(loaded, Loaded { settings: Settings::default(), message: None });
    }

    #[test]
    fn a_partial_file_keeps_what_it_says_and_odd_numbers_are_brought_in() {
        let folder = folder();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "hands_free = false\nvolume = 40.0\nspeed = nan\nscale = nan\nfrom_a_later_version = 1\n")
            .unwrap();
        let loaded = Settings::load(&path);
        assert_eq!(loaded.message, None);
        let expected = Settings { hands_free: false, ..Settings::default() };
        assert_eq!(loaded.settings, expected);
    }

    #[test]
    fn a_broken_file_is_set_aside_whole() {
        for broken in ["volume = \"loud\"\n".as_bytes(), b"]]]", b"\xff\xfe\x00", b"eagerness = \"hasty\""] {
            let folder = folder();
            let path = folder.path().join(FILE_NAME);
            fs::write(&path, broken).unwrap();
            let loaded = Settings::load(&path);
            assert_eq!(loaded.settings, Settings::default());
            let message = loaded.message.unwrap().to_string();
            assert!(message.contains("settings.toml.broken"), "{message}");
            assert_eq!(names(folder.path()), ["settings.toml.broken"]);
            assert_eq!(fs::read(folder.path().join("settings.toml.broken")).unwrap(), broken);
            loaded.settings.save(&path).unwrap();
            assert_eq!(Settings::load(&path).message, None);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = folder();
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let error = Settings::default().save(&in_the_way.join(FILE_NAME)).unwrap_err();
        assert!(error.to_string().contains(FILE_NAME), "{error}");
        // A folder where the file should be: read as a problem, not as "no settings".
        fs::create_dir(folder.path().join(FILE_NAME)).unwrap();
        assert!(Settings::load(&folder.path().join(FILE_NAME)).message.is_some());
    }
}
