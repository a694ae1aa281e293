//! Rewrites a GGUF file so that every weight is of a kind the CPU kernels are quick at.
//!
//! Owns nothing; runs on whichever thread fetched the file, once, after the fetch. `candle` multiplies by Q4_1, Q5_0 and
//! Q5_1 without SIMD, at a fraction of the speed of Q8_0; those become Q8_0, everything else is copied byte for byte.
//! Invariants: one tensor is in memory at a time; the output appears under its name only when it is whole; metadata and
//! the order of tensors stay as they were.
//!
//! Source: the GGUF specification (`docs/gguf.md` of ggml), versions 2 and 3.

use super::EngineError;
use super::gguf::Gguf;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where tensor data is aligned in the files this program writes. The input's own alignment must divide it.
const ALIGNMENT: u64 = 32;

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantized {
    /// How many tensors there are.
    pub tensors: usize,
    /// How many of them became Q8_0.
    pub converted: usize,
    /// The size of the output, in bytes.
    pub bytes: u64,
}

/// Whether [`requantize`] would change anything in the GGUF file at `path`.
pub fn needs_requantizing(path: &Path) -> Result<bool, EngineError> {
    let file = Gguf::open(path)?;
    Ok(file.content().tensor_infos.keys().any(|name| target(&file, name).is_some()))
}

/// Writes the GGUF file `input` to `output` with slow kinds as Q8_0. The two may be the same path. `progress` is given
/// the share done, from 0 to 1.
///
/// # Errors
/// When `input` cannot be read or `output` not written; `output` is then as it was.
pub fn requantize(input: &Path, output: &Path, progress: &mut dyn FnMut(f32)) -> Result<Requantized, EngineError> {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".requantizing");
    let partial = output.with_file_name(name);
    let done = write_all(input, &partial, progress).and_then(|done| {
        std::fs::rename(&partial, output).map_err(|e| not_written(output, &e))?;
        Ok(done)
    });
    if done.is_err() {
        // The error that stopped the work is the one to report; a partial file left behind is overwritten next time.
        let _ = std::fs::remove_file(&partial);
    }
    done
}

/// The kind tensor `name` should become, if it is not quick already.
fn target(file: &Gguf, name: &str) -> Option<GgmlDType> {
    let info = file.content().tensor_infos.get(name)?;
    let slow = matches!(info.ggml_dtype, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1);
    // The embedding table is looked up, not multiplied by, unless it is the output head too.
    let multiplied = name != "token_embd.weight" || !file.has("output.weight");
    let rank = info.shape.dims().len();
    (slow && multiplied && rank == 2).then_some(GgmlDType::Q8_0)
}

fn not_written(path: &Path, e: &std::io::Error) -> EngineError {
    EngineError::Model(format!(
        "cannot write {}: {e}; check the free space and the folder's permissions",
        path.display()
    ))
}

fn not_read(path: &Path, e: impl std::fmt::Display) -> EngineError {
    EngineError::Model(format!("cannot read {}: {e}; fetch the model again", path.display()))
}

/// One tensor of the file being written.
struct Entry {
    name: String,
    /// Fastest dimension first, as GGUF has it.
    dims: Vec<u64>,
    from: GgmlDType,
    /// Where its data is in the input, from the beginning of the file.
    at: u64,
    /// What it becomes; `None` when it is copied.
    to: Option<GgmlDType>,
}

impl Entry {
    fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    fn bytes(&self, kind: GgmlDType) -> u64 {
        self.elements() / kind.block_size() as u64 * kind.type_size() as u64
    }

    fn kind(&self) -> GgmlDType {
        self.to.unwrap_or(self.from)
    }
}

fn write_all(input: &Path, partial: &Path, progress: &mut dyn FnMut(f32)) -> Result<Requantized, EngineError> {
    let mut file = Gguf::open(input)?;
    let head = Head::read(input)?;
    let mut entries = Vec::new();
    for (name, dims) in &head.tensors {
        let info = file
            .content()
            .tensor_infos
            .get(name)
            .ok_or_else(|| not_read(input, format!("tensor `{name}` is listed oddly")))?;
        entries.push(Entry {
            name: name.clone(),
            dims: dims.clone(),
            from: info.ggml_dtype,
            at: file.content().tensor_data_offset + info.offset,
            to: target(&file, name),
        });
    }

    let failed = |e: std::io::Error| not_written(partial, &e);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(partial).map_err(failed)?);
    let header = header(&head, &entries);
    out.write_all(&header).map_err(failed)?;
    let mut written = header.len() as u64;
    let total: u64 = entries.iter().map(Entry::elements).sum();
    let mut done = 0;
    let mut raw = BufReader::new(File::open(input).map_err(|e| not_read(input, e))?);
    for entry in &entries {
        let size = entry.bytes(entry.kind());
        match entry.to {
            None => {
                raw.seek(SeekFrom::Start(entry.at)).map_err(|e| not_read(input, e))?;
                let copied = std::io::copy(&mut raw.by_ref().take(size), &mut out).map_err(failed)?;
                if copied != size {
                    return Err(not_read(input, format!("tensor `{}` ends early", entry.name)));
                }
            }
            Some(kind) => {
                let shape: Vec<usize> = entry.dims.iter().rev().map(|&d| d as usize).collect();
                let full =
                    file.tensor(&entry.name, &shape, &Device::Cpu)?.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?;
                let quantised = QTensor::quantize(&full, kind)?;
                out.write_all(&quantised.data()?).map_err(failed)?;
            }
        }
        let padding = size.next_multiple_of(ALIGNMENT) - size;
        out.write_all(&[0; ALIGNMENT as usize][..padding as usize]).map_err(failed)?;
        written += size + padding;
        done += entry.elements();
        progress(done as f32 / total.max(1) as f32);
    }
    let out = out.into_inner().map_err(|e| failed(e.into_error()))?;
    out.sync_all().map_err(failed)?;
    let converted = entries.iter().filter(|e| e.to.is_some()).count();
    Ok(Requantized { tensors: entries.len(), converted, bytes: written })
}

/// The number by which GGUF names a kind.
fn number(kind: GgmlDType) -> u32 {
    match kind {
        GgmlDType::F32 => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q5_0 => 6,
        GgmlDType::Q5_1 => 7,
        GgmlDType::Q8_0 => 8,
        GgmlDType::Q8_1 => 9,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 11,
        GgmlDType::Q4K => 12,
        GgmlDType::Q5K => 13,
        GgmlDType::Q6K => 14,
        GgmlDType::Q8K => 15,
        GgmlDType::BF16 => 30,
    }
}

/// Everything before the tensor data, padded to the alignment.
fn header(head: &Head, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(head.version.to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    bytes.extend(head.pairs.to_le_bytes());
    bytes.extend(&head.metadata);
    let mut offset = 0u64;
    for entry in entries {
        bytes.extend((entry.name.len() as u64).to_le_bytes());
        bytes.extend(entry.name.as_bytes());
        bytes.extend((entry.dims.len() as u32).to_le_bytes());
        entry.dims.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
        bytes.extend(number(entry.kind()).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += entry.bytes(entry.kind()).next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    bytes
}

/// What must be carried over as it is: the metadata's bytes and the tensors' names, order and dimensions.
struct Head {
    version: u32,
    pairs: u64,
    metadata: Vec<u8>,
    tensors: Vec<(String, Vec<u64>)>,
}

impl Head {
    /// Reads the head of a file that [`Gguf::open`] has accepted (which checks lengths against the file's size).
    fn read(path: &Path) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(|e| not_read(path, e))?;
        let mut walk = Walk { reader: BufReader::new(file), taken: Vec::new(), path: path.to_path_buf() };
        walk.bytes(4)?;
        let version = walk.u32()?;
        if !(2..=3).contains(&version) {
            return Err(EngineError::Unsupported(format!(
                "{} is GGUF version {version}; versions 2 and 3 can be rewritten: fetch a newer file",
                path.display()
            )));
        }
        let (tensors, pairs) = (walk.u64()?, walk.u64()?);
        walk.taken.clear();
        for _ in 0..pairs {
            walk.text()?;
            let kind = walk.u32()?;
            walk.value(kind)?;
        }
        let metadata = std::mem::take(&mut walk.taken);
        let alignment = Gguf::open(path)?.integer("general.alignment")?.unwrap_or(ALIGNMENT as usize);
        if alignment != ALIGNMENT as usize {
            return Err(EngineError::Unsupported(format!(
                "{} aligns its tensors to {alignment} bytes; only {ALIGNMENT} can be rewritten: choose another file",
                path.display()
            )));
        }
        let mut listed = Vec::new();
        for _ in 0..tensors {
            let name = walk.text()?;
            let rank = walk.u32()?;
            let dims = (0..rank).map(|_| walk.u64()).collect::<Result<_, _>>()?;
            walk.bytes(4 + 8)?;
            listed.push((name, dims));
        }
        Ok(Self { version, pairs, metadata, tensors: listed })
    }
}

/// Reads values one by one and keeps their bytes.
struct Walk {
    reader: BufReader<File>,
    taken: Vec<u8>,
    path: PathBuf,
}

impl Walk {
    /// The next `n` bytes.
    fn bytes(&mut self, n: u64) -> Result<&[u8], EngineError> {
        let from = self.taken.len();
        let read = (&mut self.reader).take(n).read_to_end(&mut self.taken).map_err(|e| not_read(&self.path, e))?;
        if read as u64 != n {
            return Err(not_read(&self.path, "it ends early"));
        }
        Ok(&self.taken[from..])
    }

    fn u32(&mut self) -> Result<u32, EngineError> {
        Ok(self.bytes(4)?.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn u64(&mut self) -> Result<u64, EngineError> {
        Ok(self.bytes(8)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn text(&mut self) -> Result<String, EngineError> {
        let n = self.u64()?;
        Ok(String::from_utf8_lossy(self.bytes(n)?).into_owned())
    }

    /// Passes over a value of type `kind`.
    fn value(&mut self, kind: u32) -> Result<(), EngineError> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => return self.text().map(|_| ()),
            9 => {
                let (of, n) = (self.u32()?, self.u64()?);
                return (0..n).try_for_each(|_| self.value(of));
            }
            other => return Err(not_read(&self.path, format!("it has metadata of the unknown type {other}"))),
        };
        self.bytes(width).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::gguf_file::{self, Value};

    fn weights(n: usize, k: usize) -> Tensor {
        let values: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin() * 0.1).collect();
        Tensor::from_vec(values, (n, k), &Device::Cpu).unwrap()
    }

    fn write(path: &Path, tensors: &[(&str, GgmlDType)]) {
        let list = Value::Array(vec![Value::String("a".into()), Value::String("bc".into())]);
        let metadata = [("general.architecture", Value::String("qwen2".into())), ("list", list), ("n", Value::U8(7))];
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
        let tensors: Vec<(&str, QTensor)> =
            tensors.iter().map(|(n, kind)| (*n, QTensor::quantize(&weights(3, 64), *kind).unwrap())).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }

    #[test]
    fn slow_kinds_become_q8_and_the_rest_stays_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
        let kinds = [
            ("token_embd.weight", GgmlDType::Q5_0),
            ("blk.0.ffn_up.weight", GgmlDType::Q5_0),
            ("blk.0.ffn_down.weight", GgmlDType::Q4_0),
            ("blk.0.attn_norm.weight", GgmlDType::F32),
            ("blk.0.attn_q.weight", GgmlDType::Q4_1),
            ("blk.0.attn_k.weight", GgmlDType::Q5_1),
            ("output.weight", GgmlDType::Q8_0),
        ];
        write(&old, &kinds);
        assert!(needs_requantizing(&old).unwrap());
        let mut shares = Vec::new();
        let done = requantize(&old, &new, &mut |s| shares.push(s)).unwrap();
        assert_eq!((done.tensors, done.converted, done.bytes), (7, 3, std::fs::metadata(&new).unwrap().len()));
        assert!(shares.is_sorted() && shares.last() == Some(&1.0));
        assert!(!needs_requantizing(&new).unwrap());

        let (mut a, mut b) = (Gguf::open(&old).unwrap(), Gguf::open(&new).unwrap());
        assert_eq!(b.text("general.architecture"), Some("qwen2"));
        assert_eq!(b.integer("n").unwrap(), Some(7));
        assert_eq!(b.value("list").unwrap().to_vec().unwrap()[1].to_string().unwrap(), "bc");
        for (name, kind) in kinds {
            let (x, y) =
                (a.tensor(name, &[3, 64], &Device::Cpu).unwrap(), b.tensor(name, &[3, 64], &Device::Cpu).unwrap());
            if ["blk.0.ffn_up.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight"].contains(&name) {
                assert_eq!(y.dtype(), GgmlDType::Q8_0, "{name}");
                let apart = (x.dequantize(&Device::Cpu).unwrap() - y.dequantize(&Device::Cpu).unwrap()).unwrap();
                let most: f32 = apart.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
                // Half a step of Q8_0 at a largest weight of about 0.1.
                assert!(most < 0.1 / 127.0 * 0.6, "{name}: {most}");
            } else {
                assert_eq!(y.dtype(), kind);
                assert_eq!(x.data().unwrap(), y.data().unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn a_tied_embedding_is_converted_and_the_file_can_replace_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.gguf");
        write(&file, &[("token_embd.weight", GgmlDType::Q5_0)]);
        assert_eq!(requantize(&file, &file, &mut |_| {}).unwrap().converted, 1);
        assert!(!needs_requantizing(&file).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_input_leaves_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
        write(&old, &[("output.weight", GgmlDType::Q8_0)]);
        let length = std::fs::metadata(&old).unwrap().len();
        File::options().write(true).open(&old).unwrap().set_len(length - 64).unwrap();
        let err = requantize(&old, &new, &mut |_| {}).unwrap_err().to_string();
        assert!(err.contains("output.weight") && err.contains("a.gguf"), "{err}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
