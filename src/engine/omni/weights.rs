//! The checkpoint's tensors: found, checked, counted.
//!
//! Owns the mapped files of a checkpoint folder and the list of what has been used; lives on the thread that loads the
//! model and is dropped when loading is done. Invariants: a tensor is given only under its checkpoint name and with the
//! shape asked for; when loading is done, every tensor of the checkpoint has been used or is known to be dead weight.

use crate::engine::EngineError;
use crate::engine::tensor_source::TensorSource;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the checkpoint that speech does not need: vision, the encoding half of the DVAE, and an embedding table
/// that upstream never reads.
const DEAD: [&str; 6] = [
    "vpm.",
    "resampler.",
    "tts.model.embed_tokens.",
    "tts.dvae.downsample_conv.",
    "tts.dvae.encoder.",
    "tts.dvae.vq_layer.quantizer.rvqs.*.project_in.",
];

/// The language model's part, for which a GGUF file can stand in.
pub const LANGUAGE: &str = "llm.";

/// Parts of the vocoder's file that decoding does not need.
const DEAD_VOCODER: [&str; 2] = ["feature_extractor.", "head.istft."];

enum Store {
    Safetensors(Vec<(PathBuf, MmapedSafetensors)>),
    /// Read whole (a PyTorch file).
    Memory(PathBuf, HashMap<String, Tensor>),
}

struct Entry {
    /// Which of the store's files.
    file: usize,
    shape: Vec<usize>,
    dtype: DType,
}

struct Inner {
    store: Store,
    entries: BTreeMap<String, Entry>,
    dead: Vec<&'static str>,
    used: Mutex<BTreeSet<String>>,
}

/// The tensors of one checkpoint. Cheap to clone; all clones count as one.
#[derive(Clone)]
pub struct Weights(Arc<Inner>);

impl Weights {
    /// Opens the model in `dir`: `model.safetensors.index.json` with its shards, or one `model.safetensors`. What begins
    /// with `replaced` comes from elsewhere: it counts as dead weight, and files that hold nothing else may be missing.
    pub fn open(dir: &Path, replaced: Option<&'static str>) -> Result<Self, EngineError> {
        let index = dir.join("model.safetensors.index.json");
        let single = dir.join("model.safetensors");
        let (files, listed) = if index.is_file() {
            let mut listed = read_index(&index)?;
            listed.retain(|tensor, _| replaced.is_none_or(|r| !tensor.starts_with(r)));
            let names: BTreeSet<&String> = listed.values().collect();
            (names.iter().map(|n| dir.join(n)).collect(), Some(listed))
        } else if single.is_file() {
            (vec![single], None)
        } else {
            return Err(EngineError::Model(format!(
                "{} has neither model.safetensors.index.json nor model.safetensors: pull the model again",
                dir.display()
            )));
        };
        let weights = Self::map(files, DEAD.into_iter().chain(replaced).collect())?;
        if let Some(packed) = weights.0.entries.keys().find(|name| name.ends_with(".qweight")) {
            return Err(packed_weights(dir, &format!("tensor `{packed}`")));
        }
        if let Some(listed) = listed {
            for (tensor, file) in &listed {
                let found = weights.0.entries.get(tensor).map(|e| weights.file(e));
                if found.and_then(|f| f.file_name()).is_none_or(|f| f != file.as_str()) {
                    return Err(EngineError::Model(format!(
                        "tensor `{tensor}` is not in {file}, where {} has it: pull the model again",
                        index.display()
                    )));
                }
            }
        }
        Ok(weights)
    }

    /// Opens the vocoder's weights: `vocos.safetensors` or `Vocos.pt`, in `dir/assets` or `dir`.
    pub fn open_vocoder(dir: &Path) -> Result<Self, EngineError> {
        let places = [dir.join("assets"), dir.to_path_buf()];
        let find = |name: &str| places.iter().map(|p| p.join(name)).find(|p| p.is_file());
        if let Some(file) = find("vocos.safetensors") {
            return Self::map(vec![file], DEAD_VOCODER.to_vec());
        }
        match find("Vocos.pt") {
            Some(file) => Self::read_vocoder_pickle(&file),
            None => Err(EngineError::Model(format!(
                "{} has no assets/Vocos.pt (nor vocos.safetensors): pull the model again",
                dir.display()
            ))),
        }
    }

    /// Reads a vocoder from PyTorch's own file format.
    pub fn read_vocoder_pickle(file: &Path) -> Result<Self, EngineError> {
        let read = candle_core::pickle::read_all(file).map_err(|e| {
            EngineError::Model(format!("cannot read {} as a PyTorch file: {e}; pull the model again", file.display()))
        })?;
        let entries = read
            .iter()
            .map(|(name, t)| (name.clone(), Entry { file: 0, shape: t.dims().to_vec(), dtype: t.dtype() }))
            .collect();
        let store = Store::Memory(file.to_path_buf(), read.into_iter().collect());
        Ok(Self::new(store, entries, DEAD_VOCODER.to_vec()))
    }

    fn new(store: Store, entries: BTreeMap<String, Entry>, dead: Vec<&'static str>) -> Self {
        Self(Arc::new(Inner { store, entries, dead, used: Mutex::default() }))
    }

    fn map(files: Vec<PathBuf>, dead: Vec<&'static str>) -> Result<Self, EngineError> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut mapped = Vec::with_capacity(files.len());
        for (file, path) in files.into_iter().enumerate() {
            let broken = |e: &dyn std::fmt::Display| {
                EngineError::Model(format!("cannot read {} as safetensors: {e}; pull the model again", path.display()))
            };
            // SAFETY: the file is mapped read-only, and model files are replaced only by renaming, which keeps the
            // mapping; a process that truncates a file in use is outside what a desktop program can defend against.
            #[expect(unsafe_code, reason = "mapping a file")]
            let tensors = unsafe { MmapedSafetensors::new(&path) }.map_err(|e| broken(&e))?;
            for (name, view) in tensors.tensors() {
                let dtype = DType::try_from(view.dtype()).map_err(|e| broken(&e))?;
                let entry = Entry { file, shape: view.shape().to_vec(), dtype };
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(EngineError::Model(format!(
                        "tensor `{name}` is in {} and in another file too: pull the model again",
                        path.display()
                    )));
                }
            }
            mapped.push((path, tensors));
        }
        Ok(Self::new(Store::Safetensors(mapped), entries, dead))
    }

    fn file(&self, entry: &Entry) -> &Path {
        match &self.0.store {
            Store::Safetensors(files) => &files[entry.file].0,
            Store::Memory(file, _) => file,
        }
    }

    fn origin(&self) -> String {
        match &self.0.store {
            Store::Safetensors(files) => {
                files.first().map_or_else(String::new, |(f, _)| f.parent().unwrap_or(f).display().to_string())
            }
            Store::Memory(file, _) => file.display().to_string(),
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, name: &str) -> Result<&Entry, EngineError> {
        self.0.entries.get(name).ok_or_else(|| {
            EngineError::Model(format!("tensor `{name}` is missing from {}: pull the model again", self.origin()))
        })
    }

    /// The shape of a tensor, for sizes that no configuration tells.
    pub fn shape(&self, name: &str) -> Result<&[usize], EngineError> {
        Ok(&self.entry(name)?.shape)
    }

    /// As [`shape`](Self::shape), for a tensor of `N` dimensions.
    pub fn shape_of<const N: usize>(&self, name: &str) -> Result<[usize; N], EngineError> {
        let entry = self.entry(name)?;
        <[usize; N]>::try_from(entry.shape.as_slice()).map_err(|_| {
            EngineError::Model(format!(
                "tensor `{name}` in {} has shape {:?}, expected {N} dimensions: pull the model again",
                self.file(entry).display(),
                entry.shape
            ))
        })
    }

    /// How many tensors `{prefix}0…`, `{prefix}1…` there are in a row, judged by `{prefix}{i}{suffix}`.
    pub fn count(&self, prefix: &str, suffix: &str) -> usize {
        (0..).take_while(|i| self.has(&format!("{prefix}{i}{suffix}"))).count()
    }

    /// The tensor `name` as f32 on `device`.
    pub fn get_f32(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, EngineError> {
        Ok(TensorSource::get(self, name, shape)?.to_dtype(DType::F32)?.to_device(device)?)
    }

    /// Every tensor that loading takes: its name, its shape, and the bytes of one of its values.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, &[usize], usize)> {
        let alive = |(name, _): &(&String, &Entry)| !is_dead(name, &self.0.dead);
        let entries = self.0.entries.iter().filter(alive);
        entries.map(|(name, e)| (name.as_str(), e.shape.as_slice(), e.dtype.size_in_bytes()))
    }

    /// Which of how many files a tensor lies in, counted from 1.
    fn place(&self, name: &str) -> (usize, usize) {
        let files = match &self.0.store {
            Store::Safetensors(files) => files.len(),
            Store::Memory(..) => 1,
        };
        (self.0.entries.get(name).map_or(0, |e| e.file) + 1, files)
    }

    /// The share of the checkpoint's values that has been used or skipped, 0 to 1.
    pub fn progress(&self) -> f32 {
        let used = self.used();
        let (mut done, mut all) = (0u64, 0u64);
        for (name, entry) in &self.0.entries {
            let values: u64 = entry.shape.iter().map(|&d| d as u64).product();
            all += values;
            if used.contains(name) || is_dead(name, &self.0.dead) {
                done += values;
            }
        }
        if all == 0 { 1.0 } else { done as f32 / all as f32 }
    }

    /// Fails, naming it, if the checkpoint holds a tensor that was neither used nor is known to be dead weight.
    pub fn finish(&self) -> Result<(), EngineError> {
        let used = self.used();
        match self.0.entries.iter().find(|(name, _)| !used.contains(*name) && !is_dead(name, &self.0.dead)) {
            None => Ok(()),
            Some((name, entry)) => Err(EngineError::Model(format!(
                "tensor `{name}` {:?} in {} is unknown: this is another model or a newer version of it; pull the model this program lists",
                entry.shape,
                self.file(entry).display()
            ))),
        }
    }

    /// For parts that are written against candle's own builder.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }
}

impl TensorSource for Weights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let entry = self.entry(name)?;
        let wrong = |what: &str, found: String, expected: String| {
            EngineError::Model(format!(
                "tensor `{name}` in {} has {what} {found}, expected {expected}: this is not the checkpoint its config.json describes; pull the model again",
                self.file(entry).display()
            ))
        };
        if entry.shape != shape {
            return Err(wrong("shape", format!("{:?}", entry.shape), format!("{shape:?}")));
        }
        if !matches!(entry.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(wrong("type", format!("{:?}", entry.dtype), "F32, F16 or BF16".to_string()));
        }
        let tensor = match &self.0.store {
            Store::Safetensors(files) => files[entry.file].1.load(name, &Device::Cpu)?,
            Store::Memory(_, tensors) => match tensors.get(name) {
                Some(tensor) => tensor.clone(),
                None => return Err(wrong("shape", "none".to_string(), format!("{shape:?}"))),
            },
        };
        self.used().insert(name.to_string());
        Ok(tensor)
    }

    fn has(&self, name: &str) -> bool {
        self.0.entries.contains_key(name)
    }
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = TensorSource::get(self, name, shape.dims()).map_err(|e| candle_core::Error::Msg(e.to_string()))?;
        tensor.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let shape = self.shape(name).map_err(|e| candle_core::Error::Msg(e.to_string()))?.to_vec();
        SimpleBackend::get(self, Shape::from(shape), name, candle_nn::Init::Const(0.0), dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.has(name)
    }
}

/// Is told the part at hand and the share of the checkpoint done.
type Report<'a, 'b> = &'a mut (dyn FnMut(&str, f32) + 'b);

/// A checkpoint that tells how far loading has come each time a tensor is taken.
pub struct Reported<'a, 'b> {
    weights: &'a Weights,
    part: &'static str,
    report: std::cell::RefCell<Report<'a, 'b>>,
}

impl<'a, 'b> Reported<'a, 'b> {
    pub fn new(weights: &'a Weights, part: &'static str, report: Report<'a, 'b>) -> Self {
        Self { weights, part, report: std::cell::RefCell::new(report) }
    }
}

impl TensorSource for Reported<'_, '_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let tensor = TensorSource::get(self.weights, name, shape)?;
        if let Ok(mut report) = self.report.try_borrow_mut() {
            let share = self.weights.progress();
            match self.weights.place(name) {
                (_, 1) => report(self.part, share),
                (file, files) => report(&format!("{} (file {file} of {files})", self.part), share),
            }
        }
        Ok(tensor)
    }

    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }
}

/// The error for a checkpoint whose weights are packed four bits each, known by `sign`.
pub fn packed_weights(place: &Path, sign: &str) -> EngineError {
    EngineError::Unsupported(format!(
        "{}: a checkpoint packed with GPTQ (int4; {sign}), which this program cannot run: use the plain checkpoint with --quantize q4_k, which takes as little memory, or with its language model as GGUF (--llm FILE)",
        place.display()
    ))
}

/// Whether `name` begins with one of the patterns, in which `*` stands for a number.
fn is_dead(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| match pattern.split_once('*') {
        None => name.starts_with(pattern),
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(tail)),
    })
}

/// Tensor name to file name.
fn read_index(index: &Path) -> Result<BTreeMap<String, String>, EngineError> {
    let bad = |what: String| EngineError::Model(format!("{}: {what}; pull the model again", index.display()));
    let text = std::fs::read_to_string(index).map_err(|e| bad(e.to_string()))?;
    let root: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let Some(map) = root.get("weight_map").and_then(|m| m.as_object()) else {
        return Err(bad("there is no `weight_map`".to_string()));
    };
    map.iter()
        .map(|(tensor, file)| match file.as_str() {
            Some(f) if Path::new(f).file_name().is_some_and(|n| n == f) => Ok((tensor.clone(), f.to_string())),
            _ => Err(bad(format!("tensor `{tensor}` lies in {file}, which is not a file name"))),
        })
        .collect()
}

/// An error when `values` hold one that is not a number: the weights they were computed with are damaged. To be asked
/// before a rectifier, which makes zeros of such values.
pub fn must_be_numbers(values: &Tensor, part: &str) -> Result<(), EngineError> {
    if values.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        return Ok(());
    }
    Err(EngineError::Model(format!(
        "the {part} computed a value that is not a number: its files are damaged; pull the model again"
    )))
}
