//! A random checkpoint's folder, written tensor by tensor.
//!
//! Runs on the thread that asks for it, with helpers for the random numbers. Invariants: never more than one tensor is
//! in memory; the folder appears under its name only when it is whole (it is made beside it, as `NAME.partial`, and
//! then renamed); the same recipe gives the same bytes on the same kind of machine.

use super::{Shapes, Sizes, config, tensors, tokenizers, vocoder_tensors};
use crate::engine::{CancelToken, EngineError};
use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use safetensors::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Values that are drawn in one go, by one helper.
const BLOCK: usize = 1 << 20;
/// The most bytes of one file, as the released checkpoint is split.
const SHARD: u64 = 5_000_000_000;
/// How much larger than the others the row of the output head is that ends an answer: about one word in twenty is then
/// followed by the end. With rows all alike, every answer would run into its limit.
const END_OF_TURN: f32 = 4.0;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub sizes: Sizes,
    /// `F32`, `F16` or `BF16`; the vocoder's own file is always f32, as released.
    pub dtype: Dtype,
    pub seed: u64,
    /// The most bytes of one file of the model; with more, there are several and an index.
    pub shard: u64,
}

/// Is told what is being written and the share done, 0 to 1.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f32);

impl Recipe {
    /// The released model's sizes and precision.
    pub fn full(seed: u64) -> Self {
        Self { sizes: Sizes::FULL, dtype: Dtype::BF16, seed, shard: SHARD }
    }

    /// A checkpoint of a few megabytes.
    pub fn tiny(seed: u64) -> Self {
        Self { sizes: Sizes::tiny(1024, 1024), ..Self::full(seed) }
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let model = bytes_of(&tensors(&self.sizes), self.dtype);
        model + bytes_of(&vocoder_tensors(&self.sizes), Dtype::F32)
    }

    /// Writes the folder `dir`, which must not exist yet, or be empty.
    ///
    /// # Errors
    /// When the folder is there and not empty, when it cannot be written, or when `cancel` is set; nothing is left
    /// behind then.
    pub fn write(&self, dir: &Path, cancel: &CancelToken, progress: Progress<'_>) -> Result<(), EngineError> {
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(EngineError::Unsupported(format!(
                "no checkpoint holds {:?}: choose F32, F16 or BF16",
                self.dtype
            )));
        }
        let there = dir.symlink_metadata().is_ok();
        if there && !std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) {
            return Err(EngineError::Unsupported(format!(
                "{} is there already, and is not an empty folder: choose another place, or remove it",
                dir.display()
            )));
        }
        let partial = partial_name(dir)?;
        let failed = |e: std::io::Error| EngineError::Model(format!("cannot write {}: {e}", dir.display()));
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(failed)?;
        }
        let written = self.fill(&partial, cancel, progress).and_then(|()| {
            if there {
                std::fs::remove_dir(dir).map_err(failed)?;
            }
            std::fs::rename(&partial, dir).map_err(failed)
        });
        if written.is_err() {
            // What matters is why it failed; a folder that cannot be removed either is named `.partial`.
            let _ = std::fs::remove_dir_all(&partial);
        }
        written
    }

    fn fill(&self, dir: &Path, cancel: &CancelToken, progress: Progress<'_>) -> Result<(), EngineError> {
        let (assets, s) = (dir.join("assets"), &self.sizes);
        let speech = assets.join("chattts_tokenizer");
        let text = |file: PathBuf, text: String| {
            std::fs::write(&file, text).map_err(|e| EngineError::Model(format!("cannot write {}: {e}", file.display())))
        };
        std::fs::create_dir_all(&speech)
            .map_err(|e| EngineError::Model(format!("cannot create {}: {e}", speech.display())))?;
        text(dir.join("config.json"), config(s, tokenizers::speech_ids(s.tts_text)))?;
        text(dir.join("tokenizer.json"), tokenizers::llm(s.vocab))?;
        text(speech.join("tokenizer.json"), tokenizers::speech(s.tts_text))?;

        let pen = Pen { total: self.bytes(), done: Cell::new(0), cancel, progress: RefCell::new(progress) };
        let model = tensors(s);
        let shards = shards(&model, self.dtype, self.shard);
        let mut index = serde_json::Map::new();
        for (i, names) in shards.iter().enumerate() {
            let file = match shards.len() {
                1 => "model.safetensors".to_string(),
                n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
            };
            let views = names.iter().map(|name| (*name, self.view(name, &model[*name], self.dtype, &pen)));
            pen.write(views, &dir.join(&file))?;
            index.extend(names.iter().map(|name| (name.to_string(), file.clone().into())));
        }
        if shards.len() > 1 {
            let total = bytes_of(&model, self.dtype);
            let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": index});
            text(dir.join("model.safetensors.index.json"), index.to_string())?;
        }
        let vocoder = vocoder_tensors(s);
        let views = vocoder.iter().map(|(name, shape)| (name.as_str(), self.view(name, shape, Dtype::F32, &pen)));
        pen.write(views, &assets.join("vocos.safetensors"))
    }

    fn view<'a, 'p>(&self, name: &'a str, shape: &'a [usize], dtype: Dtype, pen: &'a Pen<'p>) -> RandomTensor<'a, 'p> {
        let ink = Ink { dtype, seed: seed_of(name, self.seed), scale: Scale::of(name, shape, &self.sizes) };
        RandomTensor { name, shape, ink, pen }
    }
}

/// `NAME.partial`, beside the folder `dir`.
fn partial_name(dir: &Path) -> Result<PathBuf, EngineError> {
    let Some(name) = dir.file_name() else {
        return Err(EngineError::Unsupported(format!("{} cannot be the name of a new folder", dir.display())));
    };
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(dir.with_file_name(name))
}

fn width(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

fn bytes_of(shapes: &Shapes, dtype: Dtype) -> u64 {
    shapes.values().map(|s| s.iter().product::<usize>() as u64 * width(dtype) as u64).sum()
}

/// Names for each file, so that none is larger than `most` bytes unless a single tensor is.
fn shards(shapes: &Shapes, dtype: Dtype, most: u64) -> Vec<Vec<&str>> {
    let mut shards: Vec<Vec<&str>> = Vec::new();
    let mut room = 0;
    for (name, shape) in shapes {
        let bytes = shape.iter().product::<usize>() as u64 * width(dtype) as u64;
        match shards.last_mut() {
            Some(shard) if bytes <= room => shard.push(name),
            _ => {
                shards.push(vec![name]);
                room = most;
            }
        }
        room = room.saturating_sub(bytes);
    }
    shards
}

/// A seed of its own for every tensor (FNV-1a over its name).
fn seed_of(name: &str, seed: u64) -> u64 {
    name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// How far a file has come, and whom to tell.
struct Pen<'a> {
    total: u64,
    done: Cell<u64>,
    cancel: &'a CancelToken,
    progress: RefCell<Progress<'a>>,
}

impl Pen<'_> {
    fn write<'a, 'p: 'a>(
        &self,
        tensors: impl Iterator<Item = (&'a str, RandomTensor<'a, 'p>)>,
        file: &Path,
    ) -> Result<(), EngineError> {
        let written = serialize_to_file(tensors, None, file);
        if self.cancel.is_cancelled() {
            return Err(EngineError::Unsupported("interrupted: nothing was written".into()));
        }
        written.map_err(|e| EngineError::Model(format!("cannot write {}: {e}; free some space", file.display())))
    }

    fn wrote(&self, what: &str, bytes: usize) {
        self.done.set(self.done.get() + bytes as u64);
        if let Ok(mut progress) = self.progress.try_borrow_mut() {
            progress(what, self.done.get() as f32 / self.total.max(1) as f32);
        }
    }
}

/// Where a tensor's values lie: uniformly around `centre`, at most `spread` away from it; the values `louder` so much
/// further.
#[derive(Clone, Debug, PartialEq)]
struct Scale {
    centre: f32,
    spread: f32,
    louder: Range<usize>,
}

impl Scale {
    /// A size that keeps activations in bounds at any depth: weights by their width, so that a layer's outputs vary as
    /// much as its inputs; norms near one; biases near zero. The residual stream of the stacks, whose blocks normalise
    /// their inputs, then grows with the square root of the depth only: by eight over the language model's 56 blocks.
    fn of(name: &str, shape: &[usize], sizes: &Sizes) -> Self {
        let inputs = shape.iter().skip(1).product::<usize>().max(1);
        let near_one = shape.len() == 1 && name.ends_with("weight")
            || ["original0", "coef", "gamma"].iter().any(|end| name.ends_with(end));
        let (centre, spread) = match shape.len() {
            _ if near_one => (1.0, 0.1),
            1 => (0.0, 0.02),
            // The standard deviation is then one over the square root of the width.
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        let end = tokenizers::turn_end(sizes.vocab) * sizes.llm_hidden;
        let louder = if name == "llm.lm_head.weight" { end..end + sizes.llm_hidden } else { 0..0 };
        Self { centre, spread, louder }
    }

    fn draw(&self, rng: &mut SmallRng, at: usize) -> f32 {
        let uniform = (rng.next_u32() >> 8) as f32 * (2.0 / (1 << 24) as f32) - 1.0;
        let louder = if self.louder.contains(&at) { END_OF_TURN } else { 1.0 };
        self.centre + self.spread * louder * uniform
    }
}

/// Where a tensor's values come from: shared by the helpers that draw them.
struct Ink {
    dtype: Dtype,
    seed: u64,
    scale: Scale,
}

impl Ink {
    fn draw(&self, block: usize, bytes: &mut [u8]) {
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_add(block as u64));
        for (i, value) in bytes.chunks_exact_mut(width(self.dtype)).enumerate() {
            let drawn = self.scale.draw(&mut rng, block * BLOCK + i);
            match self.dtype {
                Dtype::F32 => value.copy_from_slice(&drawn.to_le_bytes()),
                Dtype::F16 => value.copy_from_slice(&f16::from_f32(drawn).to_le_bytes()),
                _ => value.copy_from_slice(&bf16::from_f32(drawn).to_le_bytes()),
            }
        }
    }
}

/// A tensor that is made when it is written.
struct RandomTensor<'a, 'p> {
    name: &'a str,
    shape: &'a [usize],
    ink: Ink,
    pen: &'a Pen<'p>,
}

impl View for RandomTensor<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.ink.dtype
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.pen.cancel.is_cancelled() {
            // The file is thrown away: see `Pen::write`.
            return Cow::Borrowed(&[]);
        }
        let mut bytes = vec![0; self.data_len()];
        let (ink, block) = (&self.ink, BLOCK * width(self.ink.dtype));
        let blocks = Mutex::new(bytes.chunks_mut(block).enumerate());
        let next = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((block, bytes)) = next() {
                ink.draw(block, bytes);
            }
        };
        let helpers = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            for _ in 1..helpers.min(self.data_len() / block + 1) {
                scope.spawn(work);
            }
            work();
        });
        self.pen.wrote(self.name, bytes.len());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * width(self.ink.dtype)
    }
}
