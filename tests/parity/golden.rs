//! Upstream's own numbers: `golden.safetensors` and `golden_text.json` of a parity folder.

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// One recorded tensor, as numbers of either kind.
pub struct Recorded {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Recorded {
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    pub fn ids(&self) -> Vec<u32> {
        self.values.iter().map(|&v| v as u32).collect()
    }

    /// The last dimension's rows.
    pub fn id_rows(&self) -> Vec<Vec<u32>> {
        self.ids().chunks(self.shape.last().copied().unwrap_or(1).max(1)).map(<[u32]>::to_vec).collect()
    }
}

/// A parity folder's recordings.
pub struct Golden {
    pub dir: PathBuf,
    bytes: Vec<u8>,
    text: serde_json::Value,
}

impl Golden {
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("golden.safetensors");
        let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let text = std::fs::read_to_string(dir.join("golden_text.json")).context("reading golden_text.json")?;
        Ok(Self { dir: dir.to_path_buf(), bytes, text: serde_json::from_str(&text)? })
    }

    pub fn find(&self, name: &str) -> Result<Option<Recorded>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let Ok(view) = tensors.tensor(name) else { return Ok(None) };
        let size = view.dtype().bitsize() / 8;
        let values = view
            .data()
            .chunks_exact(size)
            .map(|b| match (view.dtype(), b) {
                (Dtype::F32, &[a, b, c, d]) => Ok(f64::from(f32::from_le_bytes([a, b, c, d]))),
                (Dtype::I32, &[a, b, c, d]) => Ok(f64::from(i32::from_le_bytes([a, b, c, d]))),
                (Dtype::I8, &[a]) => Ok(f64::from(a as i8)),
                (Dtype::I64, b) => Ok(i64::from_le_bytes(b.try_into()?) as f64),
                (other, _) => bail!("{name} is of type {other:?}"),
            })
            .collect::<Result<_>>()?;
        Ok(Some(Recorded { shape: view.shape().to_vec(), values }))
    }

    pub fn get(&self, name: &str) -> Result<Recorded> {
        self.find(name)?.with_context(|| format!("{name} is not in the recordings"))
    }

    /// `{before}{i}{after}` for i = 0, 1, … as far as there are any.
    pub fn series(&self, before: &str, after: &str) -> Result<Vec<Recorded>> {
        let mut series = Vec::new();
        while let Some(next) = self.find(&format!("{before}{}{after}", series.len()))? {
            series.push(next);
        }
        Ok(series)
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let list = self.text[key].as_array().with_context(|| format!("{key} is not in golden_text.json"))?;
        Ok(list.iter().filter_map(|v| v.as_str().map(str::to_string)).collect())
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        self.text[key].as_str().with_context(|| format!("{key} is not in golden_text.json"))
    }

    pub fn number(&self, key: &str) -> Result<usize> {
        let n = self.text[key].as_u64().with_context(|| format!("{key} is not in golden_text.json"))?;
        Ok(n as usize)
    }
}
