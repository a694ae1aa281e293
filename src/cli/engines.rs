//! Which engine answers, as said on the command line or in the settings, and how it is loaded.

use super::omni::{self, OmniArgs};
use super::{Failure, MISSING_CODE};
use crate::engine::cascade::{CascadeEngine, CascadeOptions, CascadePaths};
use crate::engine::device::{Compute, DeviceChoice};
use crate::engine::omni::{OmniEngine, OmniOptions, Precision, ways};
use crate::engine::scripted::{Script, ScriptedEngine};
use crate::engine::{Engine, EngineError};
use crate::session::{EndOfTurnJudge, EndOfTurnModel, EngineFactory, EngineLoader, EngineSelection};
use crate::turn::smart_turn::SmartTurn;
use crate::weights::{Catalog, Role, Size, Store, WeightsError, fit};
use clap::Args;
use std::path::PathBuf;

/// The engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// Whisper, a small language model and Piper: runs on any laptop
    Cascade,
    /// MiniCPM-o 2.6: hears and speaks itself, in a voice from a file (`--model`, `--voice`); wants a GPU
    Omni,
    /// Plays a written script (`--script`): for tests and demonstrations
    Scripted,
}

/// What can be said about the engine.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Who answers [default: as in the settings, else cascade]
    #[arg(long, global = true, value_enum)]
    pub engine: Option<EngineKind>,
    /// The language model: a catalog id (see `antiphon models list`) or any GGUF file of the Qwen2 or Llama family; for
    /// the omni engine a GGUF file of its own language model, which then takes the place of the checkpoint's
    #[arg(long, global = true, value_name = "ID|FILE")]
    pub llm: Option<String>,
    /// Speak in this voice: one that is kept (see `antiphon voices list`), or a recording (5 to 15 s of one speaker);
    /// omni only
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub voice: Option<PathBuf>,
    /// The script of the scripted engine (JSON; without one it plays a short demonstration)
    #[arg(long, global = true, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Who the assistant is, in words
    #[arg(long, global = true, value_name = "TEXT")]
    pub persona: Option<String>,
    /// Seed of all sampling: the same seed and question give the same answer [default: as in the settings, else 0]
    #[arg(long, global = true)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub omni: OmniArgs,
}

/// The engine that was chosen.
#[derive(Clone, Debug)]
pub struct EngineChoice {
    pub kind: EngineKind,
    pub llm: Option<String>,
    pub script: Option<PathBuf>,
    pub model: Option<PathBuf>,
    /// Where the omni engine computes, and in which precision (`None`: what suits the place).
    pub place: (DeviceChoice, Option<Precision>),
    /// How else it is loaded.
    pub omni: OmniOptions,
    pub store: Store,
}

impl EngineChoice {
    /// Checks that what the engine needs is here, so that the error comes before anything is opened.
    pub fn check(&self) -> Result<(), Failure> {
        match self.kind {
            EngineKind::Cascade => cascade_paths(&self.store, self.llm.as_deref()).map(drop),
            EngineKind::Omni => match &self.omni.llm {
                Some(file) if !file.is_file() => Err(Failure::usage(format!(
                    "{}: no such file: with the omni engine, --llm is a GGUF file of its language model",
                    file.display()
                ))),
                _ => self.model_dir().map(drop),
            },
            EngineKind::Scripted => self.read_script().map(drop),
        }
    }

    /// Where the starter engine's models are.
    pub fn starter_paths(&self) -> Result<CascadePaths, Failure> {
        cascade_paths(&self.store, self.llm.as_deref())
    }

    /// How the omni engine is loaded on this machine. Looks for a GPU; called on the thread that will own it.
    fn omni_options(&self) -> OmniOptions {
        let (device, dtype) = self.place;
        let found = device.find();
        if let Some(note) = found.note {
            tracing::warn!("{note}");
        }
        let suits = if found.compute == Compute::Cpu { Precision::F32 } else { Precision::Bf16 };
        let room = match found.compute {
            Compute::Cpu | Compute::Metal => Some(fit::free_memory()),
            Compute::Cuda(number) => fit::free_gpu_memory(number),
        };
        let mut options =
            OmniOptions { device: found.compute, dtype: dtype.unwrap_or(suits), room, ..self.omni.clone() };
        // As the window's first steps promise: of the released model, the precision that the card can hold.
        let nobody_chose = dtype.is_none() && options.quantize.is_none() && options.llm.is_none();
        if let (Compute::Cuda(_), Some(free), None, true) = (found.compute, room, &self.model, nobody_chose)
            && let Some(way) = ways::fitting(free)
        {
            tracing::info!("what fits the graphics card's memory: {}", way.flag);
            options.quantize = way.quantize;
        }
        options
    }

    /// The engine's name, when its models come from the catalog.
    pub fn of_the_catalog(&self) -> Option<&'static str> {
        match self.kind {
            EngineKind::Cascade => Some("cascade"),
            EngineKind::Omni => self.model.is_none().then_some("omni"),
            EngineKind::Scripted => None,
        }
    }

    fn model_dir(&self) -> Result<PathBuf, Failure> {
        match &self.model {
            Some(dir) if dir.is_dir() => Ok(dir.clone()),
            Some(dir) => Err(Failure::missing(format!("{}: no such folder: check --model", dir.display()))),
            None => pulled_checkpoint(&self.store),
        }
    }

    fn read_script(&self) -> Result<Script, Failure> {
        let Some(path) = &self.script else { return parse_script("the built-in script", DEMO_SCRIPT) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::usage(format!("{}: cannot be read ({e}): check the path", path.display())))?;
        parse_script(&path.display().to_string(), &text)
    }

    /// Loads the engine, on the engine thread.
    pub fn loader(&self) -> EngineLoader {
        let choice = self.clone();
        Box::new(move |progress| {
            let model = |failure: Failure| match failure.code {
                MISSING_CODE => EngineError::NotInstalled(failure.to_string()),
                _ => EngineError::Model(failure.to_string()),
            };
            Ok(match choice.kind {
                EngineKind::Cascade => {
                    let paths = cascade_paths(&choice.store, choice.llm.as_deref()).map_err(model)?;
                    Box::new(CascadeEngine::load(&paths, &CascadeOptions::default(), progress)?) as Box<dyn Engine>
                }
                EngineKind::Omni => {
                    let dir = choice.model_dir().map_err(model)?;
                    Box::new(OmniEngine::load(&dir, choice.omni_options(), progress)?)
                }
                EngineKind::Scripted => Box::new(ScriptedEngine::new(choice.read_script().map_err(model)?)),
            })
        })
    }

    /// Makes loaders of other engines, which keep what was said on the command line, or selected before, beside the selection.
    pub fn factory(&self) -> EngineFactory {
        let mut choice = self.clone();
        Box::new(move |selection| {
            choice = choice.with(selection);
            choice.loader()
        })
    }

    /// This choice with another engine. A name that is none keeps the engine.
    fn with(&self, selection: &EngineSelection) -> EngineChoice {
        let kind = <EngineKind as clap::ValueEnum>::from_str(&selection.engine, true).unwrap_or(self.kind);
        let mut choice = EngineChoice { kind, llm: selection.llm.clone(), ..self.clone() };
        if let Some(omni) = &selection.omni {
            omni::choose(omni, &mut choice.place.1, &mut choice.omni);
        }
        choice
    }

    /// Loads the judge of pauses, on a thread of its own; without it, only silence ends a turn.
    pub fn end_of_turn(&self) -> EndOfTurnModel {
        let store = self.store.clone();
        // Told once, though it is looked for again and again.
        let (mut missing, mut damaged) = (false, false);
        Box::new(move || {
            if damaged {
                return None;
            }
            let told = std::mem::replace(&mut missing, true);
            let path = first_file(&store, Role::EndOfTurn)
                .inspect_err(|e| {
                    if !told {
                        tracing::info!("{e}");
                    }
                })
                .ok()?;
            let model = SmartTurn::load(&path, 1).inspect_err(|e| tracing::warn!("{e}")).ok();
            damaged = model.is_none();
            model.map(|model| Box::new(model) as Box<dyn EndOfTurnJudge>)
        })
    }
}

/// What the scripted engine plays when it is given nothing else.
const DEMO_SCRIPT: &str = include_str!("../../assets/script.json");

fn parse_script(name: &str, text: &str) -> Result<Script, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::usage(format!("{name}: not a script ({e}): mend that line")))
}

/// The omni engine's checkpoint in the catalog.
const CHECKPOINT: &str = "minicpm-o-2_6";

/// The folder of the omni engine's checkpoint, where it was pulled.
fn pulled_checkpoint(store: &Store) -> Result<PathBuf, Failure> {
    let model = Catalog::built_in().and_then(|c| c.model(CHECKPOINT)).map_err(Failure::working)?;
    store.folder_in(model).map_err(|error| match error {
        WeightsError::NotInstalled { .. } => Failure::missing(format!(
            "{error} (about {}), or give the folder of a checkpoint with --model DIR",
            Size(store.resolved(model).download_size())
        )),
        other => Failure::missing(other),
    })
}

fn first_file(store: &Store, role: Role) -> Result<PathBuf, Failure> {
    let catalog = Catalog::built_in().map_err(Failure::working)?;
    let model = catalog.starter().into_iter().find(|m| m.role == role);
    let Some((model, file)) = model.and_then(|m| Some((m, m.files.first()?))) else {
        return Err(Failure::usage("the catalog has no model for this part: report this as a defect"));
    };
    store.path_in(model, file.kept().0).map_err(Failure::missing)
}

fn cascade_paths(store: &Store, llm: Option<&str>) -> Result<CascadePaths, Failure> {
    let voice_onnx = first_file(store, Role::Tts)?;
    let mut voice_json = voice_onnx.clone().into_os_string();
    voice_json.push(".json");
    let whisper = first_file(store, Role::Stt)?;
    let llm_gguf = match llm {
        None => first_file(store, Role::Llm)?,
        Some(id) => llm_path(store, id)?,
    };
    Ok(CascadePaths {
        whisper_dir: whisper.parent().map(PathBuf::from).unwrap_or_default(),
        llm_gguf,
        voice_onnx,
        voice_json: voice_json.into(),
    })
}

fn llm_path(store: &Store, id: &str) -> Result<PathBuf, Failure> {
    let catalog = Catalog::built_in().map_err(Failure::working)?;
    if let Ok(model) = catalog.model(id)
        && matches!(model.role, Role::Llm | Role::OmniLlm)
    {
        return store.first_path(model).map_err(Failure::missing);
    }
    let path = PathBuf::from(id);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::usage(format!(
        "{id}: neither a model of the catalog nor a file: see `antiphon models list`, or give the path of a GGUF file"
    )))
}
