//! Reading GGUF files: metadata by key, tensors by name, every error naming the file and the thing.
//!
//! Owns an open file and its header; used on the thread that loads the model. Tensors are read one at a time straight
//! into their quantised storage (`candle` copies them there, so mapping the file into memory would gain nothing).

use super::EngineError;
use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
    reader: BufReader<File>,
    content: Content,
}

impl Gguf {
    /// Opens `path` and reads its header.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(|e| {
            EngineError::Model(format!("cannot open the model {}: {e}; fetch the model", path.display()))
        })?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let content = Content::read(&mut reader).map_err(|e| {
            EngineError::Model(format!(
                "{} is not a GGUF file that can be read: {e}; fetch the model again",
                path.display()
            ))
        })?;
        Ok(Self { path: path.to_path_buf(), reader, content })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header as `candle` reads it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    fn bad_key(&self, key: &str, what: &str) -> EngineError {
        EngineError::Model(format!("metadata `{key}` {what} in {}: fetch the model again", self.path.display()))
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Result<&Value, EngineError> {
        self.content.metadata.get(key).ok_or_else(|| self.bad_key(key, "is missing"))
    }

    /// A whole number, of whatever integer width it is stored in; `None` when there is no such key.
    pub fn integer(&self, key: &str) -> Result<Option<usize>, EngineError> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        let number = match *value {
            Value::U8(v) => Some(v as u64),
            Value::U16(v) => Some(v as u64),
            Value::U32(v) => Some(v as u64),
            Value::U64(v) => Some(v),
            Value::I8(v) => u64::try_from(v).ok(),
            Value::I16(v) => u64::try_from(v).ok(),
            Value::I32(v) => u64::try_from(v).ok(),
            Value::I64(v) => u64::try_from(v).ok(),
            _ => None,
        };
        match number {
            Some(n) => Ok(Some(n as usize)),
            None => Err(self.bad_key(key, "is not a whole number")),
        }
    }

    /// As [`integer`](Self::integer), for a key that must be there.
    pub fn required(&self, key: &str) -> Result<usize, EngineError> {
        self.integer(key)?.ok_or_else(|| self.bad_key(key, "is missing"))
    }

    /// A real number; `None` when there is no such key.
    pub fn real(&self, key: &str) -> Result<Option<f64>, EngineError> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(*v as f64)),
            Some(Value::F64(v)) => Ok(Some(*v)),
            Some(_) => Err(self.bad_key(key, "is not a real number")),
        }
    }

    /// A text; `None` when there is no such key or it is not a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.content.metadata.get(key) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        }
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The stored shape of the tensor `name`, slowest dimension first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.content.tensor_infos.get(name).map(|t| t.shape.dims())
    }

    /// Reads the tensor `name`, as it is stored, to `device`. Fails unless its shape is `shape`.
    pub fn tensor(&mut self, name: &str, shape: &[usize], device: &Device) -> Result<QTensor, EngineError> {
        let found =
            self.shape(name).ok_or_else(|| super::tensor_source::missing(name, &self.path.display().to_string()))?;
        if found != shape {
            return Err(EngineError::Model(format!(
                "tensor `{name}` in {} has shape {found:?}, expected {shape:?}: the file does not fit its own metadata; fetch the model again",
                self.path.display()
            )));
        }
        self.content.tensor(&mut self.reader, name, device).map_err(|e| {
            EngineError::Model(format!(
                "cannot read tensor `{name}` of {}: {e}; fetch the model again",
                self.path.display()
            ))
        })
    }
}
