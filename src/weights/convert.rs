//! Whisper weights from CTranslate2's file to safetensors under Hugging Face names.
//!
//! Runs once, when the model is pulled; blocking. The tensors stay f16 and keep their bits; only their names change and
//! the fused projections are cut apart, so the outcome has a known sha256. Every variable of the source must be known
//! and used: an unknown, missing or wrongly shaped one is an error that names it.
//!
//! The source (CTranslate2 `model_spec.py`, `ModelSpec._serialize`), all little-endian: u32 version; string spec name;
//! u32 spec revision; u32 count, then per variable a string name, u8 rank, u32 each dimension, u8 type, u32 bytes and
//! the data; u32 count of aliases, each two strings. A string is a u16 length with its final NUL counted, then the bytes.

use super::WeightsError;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

const VERSION: u32 = 6;
const SPEC: &str = "WhisperSpec";
const REVISION: u32 = 3;
/// CTranslate2's number for 16-bit floats.
const F16: u8 = 4;

/// Settings the file carries beside the weights. All Whisper models have the same, or the decoder works them out.
const SETTINGS: [&str; 9] = [
    "decoder/activation",
    "decoder/alibi",
    "decoder/alignment_heads",
    "decoder/alignment_layer",
    "decoder/num_heads",
    "decoder/pre_norm",
    "decoder/scale_embeddings",
    "decoder/start_from_zero_embedding",
    "encoder/num_heads",
];

/// Reads CTranslate2's `source` and writes safetensors to `target`.
///
/// # Errors
/// [`WeightsError::Convert`] naming the source and what in it is wrong; [`WeightsError::Io`].
pub fn whisper_from_ctranslate2(source: &Path, target: &Path) -> Result<(), WeightsError> {
    let bytes = std::fs::read(source).map_err(WeightsError::io("cannot read", source))?;
    let convert = |reason: String| WeightsError::Convert { path: source.to_owned(), reason };
    let tensors = read(&bytes)
        .and_then(|variables| Renamer { variables, used: HashSet::new(), out: Vec::new() }.run())
        .map_err(convert)?;
    let views = tensors
        .iter()
        .map(|(name, t)| Ok((name.as_str(), TensorView::new(Dtype::F16, t.shape.clone(), t.data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| convert(e.to_string()))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(views, Some(metadata), target).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => WeightsError::io("cannot write", target)(e),
        e => convert(e.to_string()),
    })
}

#[derive(Clone, Debug)]
struct Variable<'a> {
    shape: Vec<usize>,
    kind: u8,
    data: &'a [u8],
}

/// Takes little-endian values off the front of a byte slice.
struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else {
            return Err(format!("it ends at byte {} inside {what}: the file is cut short or damaged", self.len));
        };
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<&'a str, String> {
        let n = u16::from_le_bytes(self.array(what)?);
        let text = self.take(n.into(), what)?.strip_suffix(b"\0").and_then(|b| std::str::from_utf8(b).ok());
        text.filter(|t| t.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| format!("{what} is not a NUL-terminated name: the file is damaged"))
    }
}

fn read(bytes: &[u8]) -> Result<BTreeMap<&str, Variable<'_>>, String> {
    let mut r = Reader { rest: bytes, len: bytes.len() };
    let version = r.u32("the version")?;
    if version != VERSION {
        return Err(format!("it is not a CTranslate2 file of version {VERSION} (its first number is {version})"));
    }
    let (spec, revision) = (r.string("the spec name")?, r.u32("the spec revision")?);
    if (spec, revision) != (SPEC, REVISION) {
        return Err(format!("it holds {spec:?} revision {revision} where {SPEC} revision {REVISION} is needed"));
    }
    let mut variables = BTreeMap::new();
    for index in 0..r.u32("the number of variables")? {
        let name = r.string(&format!("the name of variable {index}"))?;
        let rank = r.array::<1>(name)?[0];
        let shape = (0..rank).map(|_| r.u32(name).map(|d| d as usize)).collect::<Result<Vec<_>, _>>()?;
        let kind = r.array::<1>(name)?[0];
        let size = r.u32(name)? as usize;
        let data = r.take(size, name)?;
        if variables.insert(name, Variable { shape, kind, data }).is_some() {
            return Err(format!("it has two variables called {name}"));
        }
    }
    let aliases = r.u32("the number of aliases")?;
    for _ in 0..aliases {
        let (name, target) = (r.string("an alias")?, r.string("an alias")?);
        // The output projection is the embedding table; under Hugging Face names it is left out for that reason.
        if (name, target) != ("decoder/projection/weight", "decoder/embeddings/weight") {
            return Err(format!("unknown alias {name} = {target}"));
        }
    }
    if !r.rest.is_empty() {
        return Err(format!("{} bytes are left over after its last part", r.rest.len()));
    }
    Ok(variables)
}

/// A range of the rows of a fused tensor: part `index` of `of` equal ones.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    of: usize,
}

const WHOLE: Part = Part { index: 0, of: 1 };

struct Renamer<'a> {
    variables: BTreeMap<&'a str, Variable<'a>>,
    used: HashSet<&'a str>,
    out: Vec<(String, Variable<'a>)>,
}

impl<'a> Renamer<'a> {
    fn run(mut self) -> Result<Vec<(String, Variable<'a>)>, String> {
        for side in ["encoder", "decoder"] {
            let model = format!("model.{side}");
            if side == "encoder" {
                self.linear("encoder/conv1", "model.encoder.conv1", WHOLE)?;
                self.linear("encoder/conv2", "model.encoder.conv2", WHOLE)?;
            } else {
                self.rename("decoder/embeddings/weight", "model.decoder.embed_tokens.weight", WHOLE)?;
            }
            let positions = format!("{side}/position_encodings/encodings");
            self.rename(&positions, &format!("{model}.embed_positions.weight"), WHOLE)?;
            self.norm(&format!("{side}/layer_norm"), &format!("{model}.layer_norm"))?;
            let mut layer = 0;
            while self.has_any(&format!("{side}/layer_{layer}/")) {
                let (from, to) = (format!("{side}/layer_{layer}"), format!("{model}.layers.{layer}"));
                self.layer(&from, &to, side == "decoder")?;
                layer += 1;
            }
            if layer == 0 {
                return Err(format!("{side}/layer_0 is missing"));
            }
        }
        match self.variables.keys().find(|name| !self.used.contains(*name) && !SETTINGS.contains(name)) {
            Some(name) => Err(format!("unknown variable {name}")),
            None => Ok(self.out),
        }
    }

    fn has_any(&self, prefix: &str) -> bool {
        self.variables.keys().any(|name| name.starts_with(prefix))
    }

    fn layer(&mut self, from: &str, to: &str, has_cross_attention: bool) -> Result<(), String> {
        let part = |index, of| Part { index, of };
        let (source, target) = (format!("{from}/self_attention"), format!("{to}.self_attn"));
        self.linear(&format!("{source}/linear_0"), &format!("{target}.q_proj"), part(0, 3))?;
        self.linear_without_bias(&format!("{source}/linear_0"), &format!("{target}.k_proj"), part(1, 3))?;
        self.linear(&format!("{source}/linear_0"), &format!("{target}.v_proj"), part(2, 3))?;
        self.linear(&format!("{source}/linear_1"), &format!("{target}.out_proj"), WHOLE)?;
        self.norm(&format!("{source}/layer_norm"), &format!("{to}.self_attn_layer_norm"))?;
        if has_cross_attention {
            let (source, target) = (format!("{from}/attention"), format!("{to}.encoder_attn"));
            self.linear(&format!("{source}/linear_0"), &format!("{target}.q_proj"), WHOLE)?;
            self.linear_without_bias(&format!("{source}/linear_1"), &format!("{target}.k_proj"), part(0, 2))?;
            self.linear(&format!("{source}/linear_1"), &format!("{target}.v_proj"), part(1, 2))?;
            self.linear(&format!("{source}/linear_2"), &format!("{target}.out_proj"), WHOLE)?;
            self.norm(&format!("{source}/layer_norm"), &format!("{to}.encoder_attn_layer_norm"))?;
        }
        self.linear(&format!("{from}/ffn/linear_0"), &format!("{to}.fc1"), WHOLE)?;
        self.linear(&format!("{from}/ffn/linear_1"), &format!("{to}.fc2"), WHOLE)?;
        self.norm(&format!("{from}/ffn/layer_norm"), &format!("{to}.final_layer_norm"))
    }

    fn norm(&mut self, from: &str, to: &str) -> Result<(), String> {
        self.rename(&format!("{from}/gamma"), &format!("{to}.weight"), WHOLE)?;
        self.rename(&format!("{from}/beta"), &format!("{to}.bias"), WHOLE)
    }

    fn linear(&mut self, from: &str, to: &str, part: Part) -> Result<(), String> {
        self.rename(&format!("{from}/weight"), &format!("{to}.weight"), part)?;
        self.rename(&format!("{from}/bias"), &format!("{to}.bias"), part)
    }

    /// Whisper's keys have no bias; CTranslate2 fills the fused one up with zeros.
    fn linear_without_bias(&mut self, from: &str, to: &str, part: Part) -> Result<(), String> {
        self.rename(&format!("{from}/weight"), &format!("{to}.weight"), part)?;
        let name = format!("{from}/bias");
        let bias = self.slice(&name, part)?;
        let zero = bias.data.chunks_exact(2).all(|v| matches!(v, [0, 0x00 | 0x80]));
        if zero { Ok(()) } else { Err(format!("{name} has a bias for the keys, which Whisper does not have")) }
    }

    fn rename(&mut self, from: &str, to: &str, part: Part) -> Result<(), String> {
        let slice = self.slice(from, part)?;
        self.out.push((to.to_owned(), slice));
        Ok(())
    }

    fn slice(&mut self, name: &str, part: Part) -> Result<Variable<'a>, String> {
        let (&known, v) = self.variables.get_key_value(name).ok_or_else(|| format!("{name} is missing"))?;
        self.used.insert(known);
        if v.kind != F16 {
            return Err(format!("{name} has the type {} where {F16} (16-bit floats) is needed", v.kind));
        }
        let elements = v.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if elements.and_then(|n| n.checked_mul(2)) != Some(v.data.len()) {
            return Err(format!("{name} has {} bytes, which does not fit its shape {:?}", v.data.len(), v.shape));
        }
        let mut shape = v.shape.clone();
        match shape.first_mut() {
            Some(rows) if rows.is_multiple_of(part.of) => *rows /= part.of,
            _ => return Err(format!("{name} of shape {:?} cannot be cut into {} parts", v.shape, part.of)),
        }
        let n = v.data.len() / part.of;
        Ok(Variable { shape, kind: v.kind, data: &v.data[part.index * n..][..n] })
    }
}
