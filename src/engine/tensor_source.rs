//! Where a model's tensors come from: by checkpoint name, checked for shape.
//!
//! Owns the one trait through which the decoder stack reads dense weights, and its two plain implementations. A tensor
//! is read on the thread that loads the model. Invariant: a missing or wrongly shaped tensor is an error that names the
//! tensor, what was expected and what was found.

use super::EngineError;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A checkpoint: gives tensors by their full checkpoint name.
pub trait TensorSource {
    /// The tensor `name`, on the CPU, in the precision it is stored in. Fails unless its shape is `shape`.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError>;

    /// Whether the checkpoint holds a tensor of that name.
    fn has(&self, name: &str) -> bool;
}

/// Fails, naming the tensor and both shapes, unless `tensor` has the shape `expected`.
pub fn check_shape(name: &str, tensor: &Tensor, expected: &[usize], origin: &str) -> Result<(), EngineError> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(EngineError::Model(format!(
        "tensor `{name}` in {origin} has shape {:?}, expected {expected:?}: this is not the checkpoint the program knows; fetch the model again",
        tensor.dims()
    )))
}

/// The error for a tensor that is not there.
pub fn missing(name: &str, origin: &str) -> EngineError {
    EngineError::Model(format!("tensor `{name}` is missing from {origin}: fetch the model again"))
}

/// Safetensors files, mapped into memory and read tensor by tensor.
pub struct SafetensorsSource {
    files: MmapedSafetensors,
    origin: String,
}

impl SafetensorsSource {
    /// Maps `files`, whose tensor names must not clash.
    pub fn open(files: &[PathBuf]) -> Result<Self, EngineError> {
        let origin = files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
        for file in files {
            if !file.is_file() {
                return Err(EngineError::Model(format!(
                    "the model file {} is missing: fetch the model",
                    file.display()
                )));
            }
        }
        // SAFETY: the files are mapped read-only; a process that truncates them while they are mapped is outside what a
        // desktop program can defend against. The weights room replaces files only by renaming, which keeps the mapping.
        #[expect(unsafe_code, reason = "mapping a file")]
        let files = unsafe { MmapedSafetensors::multi(files) }.map_err(|e| {
            EngineError::Model(format!("cannot read {origin} as safetensors: {e}; fetch the model again"))
        })?;
        Ok(Self { files, origin })
    }

    /// As [`open`](Self::open), for one file.
    pub fn open_one(file: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open(&[file.as_ref().to_path_buf()])
    }

    /// The names and shapes of all tensors; of the files only their headers are read.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.files.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
    }
}

impl TensorSource for SafetensorsSource {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        if !self.has(name) {
            return Err(missing(name, &self.origin));
        }
        let tensor = self.files.load(name, &Device::Cpu)?;
        check_shape(name, &tensor, shape, &self.origin)?;
        Ok(tensor)
    }

    fn has(&self, name: &str) -> bool {
        self.files.get(name).is_ok()
    }
}

impl TensorSource for HashMap<String, Tensor> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let origin = "the tensors in memory";
        let tensor = HashMap::get(self, name).ok_or_else(|| missing(name, origin))?;
        check_shape(name, tensor, shape, origin)?;
        Ok(tensor.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    #[test]
    fn a_wrong_shape_and_a_missing_tensor_are_named() {
        let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let source = HashMap::from([("a.weight".to_string(), t)]);
        let wrong = TensorSource::get(&source, "a.weight", &[3, 2]).unwrap_err().to_string();
        assert!(wrong.contains("a.weight") && wrong.contains("[2, 3]") && wrong.contains("[3, 2]"), "{wrong}");
        let absent = TensorSource::get(&source, "b.weight", &[1]).unwrap_err().to_string();
        assert!(absent.contains("b.weight"), "{absent}");
    }

    #[test]
    fn safetensors_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.safetensors");
        let t = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu).unwrap();
        candle_core::safetensors::save(&HashMap::from([("w", t)]), &file).unwrap();
        let source = SafetensorsSource::open_one(&file).unwrap();
        assert!(source.has("w") && !source.has("v"));
        assert_eq!(source.get("w", &[2, 2]).unwrap().to_vec2::<f32>().unwrap(), [[1., 2.], [3., 4.]]);
        let err = source.get("w", &[4]).unwrap_err().to_string();
        assert!(err.contains("m.safetensors"), "{err}");
    }
}
