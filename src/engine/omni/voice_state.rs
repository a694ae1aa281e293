//! What a voice's prompt left in the model, kept on disk: the keys and values, and the voice's embedding.
//!
//! One safetensors file per voice, model, precision and prompt, in a folder that the setup names. Lives on the engine
//! thread. Invariants: a file is used only when it was made by this version of the program from the same sample, the same
//! prompt and the same model files, and is whole; anything else is made anew, silently. A restored voice is bit for bit
//! the one that was kept.

use super::load::OmniOptions;
use crate::engine::kv_cache::KvCache;
use candle_core::safetensors::{load_buffer, save};
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Changes when the file's form does.
const FORMAT: &str = concat!("antiphon voice state 1, ", env!("CARGO_PKG_VERSION"));
/// Prompts kept per voice: one persona or another, for talking and for reading aloud. A full model's take 20 MB each.
const KEPT: usize = 6;
const PREFIX: &str = "state-";
const SPEAKER: &str = "speaker";
/// Tensors beside the voice's own: what it was made from, and the sha256 of the rest, in hexadecimal digits.
const KEY: &str = "key";
const CONTENT: &str = "sha256";

/// What tells one loaded model from another: its options, and name, size and time of change of each of its files.
pub fn fingerprint(dir: &Path, options: &OmniOptions) -> String {
    let mut hasher = Sha256::new();
    // Without what concerns answers only, and the memory that happens to be free.
    let lasting =
        OmniOptions { room: None, text_chunk: None, repetition_window: 0, answer_tokens: 0, ..options.clone() };
    hasher.update(format!("{lasting:?}"));
    hasher.update(fs::read(dir.join("config.json")).unwrap_or_default());
    let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.extend(options.llm.clone());
    for file in files {
        let Ok(about) = fs::metadata(&file) else { continue };
        let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        hasher.update(format!("{:?} {} {:?}\n", file.file_name(), about.len(), changed));
    }
    hex(hasher)
}

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// Where a voice's state is kept.
pub struct VoiceState {
    path: PathBuf,
    key: String,
}

impl VoiceState {
    /// The place in `dir` for the prompt `message` with the sample `reference`, on the model with this fingerprint.
    pub fn new(dir: &Path, fingerprint: &str, message: &str, reference: &[f32]) -> Self {
        let mut hasher = Sha256::new();
        for part in [FORMAT, fingerprint, message] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        for sample in reference {
            hasher.update(sample.to_le_bytes());
        }
        let key = hex(hasher);
        VoiceState { path: dir.join(format!("{PREFIX}{}.safetensors", &key[..16])), key }
    }

    /// Fills the empty `cache` with what was kept, and gives the voice's embedding; `None` when there is nothing that
    /// fits.
    pub fn read(&self, mut cache: KvCache) -> Option<(KvCache, Tensor)> {
        let bytes = fs::read(&self.path).ok()?;
        let read = self.parse(&bytes, &mut cache);
        if read.is_none() {
            tracing::debug!("{} does not fit and is made anew", self.path.display());
        }
        read.map(|speaker| (cache, speaker))
    }

    fn parse(&self, bytes: &[u8], cache: &mut KvCache) -> Option<Tensor> {
        let mut tensors: Tensors = load_buffer(bytes, &Device::Cpu).ok()?.into_iter().collect();
        let mut note = |name: &str| tensors.remove(name)?.to_vec1::<u8>().ok();
        let (key, sha256) = (note(KEY)?, note(CONTENT)?);
        if key != self.key.as_bytes() || sha256 != content(&tensors).ok()?.as_bytes() {
            return None;
        }
        let mut take = |name: &str| tensors.remove(name);
        let layers: Option<Vec<(Tensor, Tensor)>> =
            (0..cache.layers()).map(|i| Some((take(&key_name(i))?, take(&value_name(i))?))).collect();
        cache.restore(&layers?).ok()?;
        take(SPEAKER)?.to_device(cache.device()).ok()
    }

    /// Keeps a voice. A disk that is full or cannot be written costs the next start some time, nothing else.
    pub fn write(&self, cache: &KvCache, speaker: &Tensor) {
        if let Err(error) = self.try_write(cache, speaker) {
            tracing::debug!("{} cannot be kept: {error}", self.path.display());
        }
    }

    fn try_write(&self, cache: &KvCache, speaker: &Tensor) -> Result<(), Box<dyn std::error::Error>> {
        let here = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.contiguous();
        let mut tensors = BTreeMap::from([(SPEAKER.to_owned(), here(speaker)?)]);
        for i in 0..cache.layers() {
            let (k, v) = cache.layer(i)?;
            tensors.insert(key_name(i), here(&k)?);
            tensors.insert(value_name(i), here(&v)?);
        }
        let sha256 = content(&tensors)?;
        for (name, note) in [(KEY, &self.key), (CONTENT, &sha256)] {
            tensors.insert(name.to_owned(), Tensor::new(note.as_bytes(), &Device::Cpu)?);
        }
        let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
        let dir = self.path.parent().ok_or("it has no folder")?;
        fs::create_dir_all(dir)?;
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        let written = save(&tensors, &new).and_then(|()| Ok(fs::rename(&new, &self.path)?));
        if written.is_err() {
            // The failure above is the one to report.
            let _ = fs::remove_file(&new);
        }
        written?;
        forget_the_oldest(dir);
        Ok(())
    }
}

fn key_name(layer: usize) -> String {
    format!("k.{layer}")
}

fn value_name(layer: usize) -> String {
    format!("v.{layer}")
}

/// The sha256 of all tensors' names and bytes.
fn content(tensors: &Tensors) -> candle_core::Result<String> {
    let mut hasher = Sha256::new();
    for (name, tensor) in tensors {
        let mut bytes = Vec::new();
        tensor.write_bytes(&mut bytes)?;
        hasher.update(format!("{name} {:?} {:?} {}\n", tensor.dtype(), tensor.dims(), bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(hasher))
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// States of models and personas that are not used any more leave.
fn forget_the_oldest(dir: &Path) {
    let states = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut states: Vec<_> = states
        .filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX))
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    states.sort();
    let spare = states.len().saturating_sub(KEPT);
    for (_, path) in states.into_iter().take(spare) {
        // What cannot be deleted only takes room.
        let _ = fs::remove_file(path);
    }
}
