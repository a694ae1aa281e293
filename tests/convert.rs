//! CTranslate2's Whisper file to safetensors: on a file of the documented layout written here, one encoder and one
//! decoder layer of width 2, where every 16-bit value says which tensor and which element it is.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use antiphon::weights::whisper_from_ctranslate2;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;

/// A variable: name, shape, type number, data.
type Variable = (String, Vec<u32>, u8, Vec<u8>);

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16 + 1).to_le_bytes());
    out.extend(text.as_bytes());
    out.push(0);
}

struct File {
    version: u32,
    spec: &'static str,
    revision: u32,
    variables: Vec<Variable>,
    aliases: Vec<(&'static str, &'static str)>,
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.version.to_le_bytes().to_vec();
        string(&mut out, self.spec);
        out.extend(self.revision.to_le_bytes());
        out.extend((self.variables.len() as u32).to_le_bytes());
        for (name, shape, kind, data) in &self.variables {
            string(&mut out, name);
            out.push(shape.len() as u8);
            shape.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.push(*kind);
            out.extend((data.len() as u32).to_le_bytes());
            out.extend(data);
        }
        out.extend((self.aliases.len() as u32).to_le_bytes());
        for (name, target) in &self.aliases {
            string(&mut out, name);
            string(&mut out, target);
        }
        out
    }

    fn variable(&mut self, name: &str) -> &mut Variable {
        self.variables.iter_mut().find(|v| v.0 == name).unwrap()
    }
}

/// The names and shapes of a Whisper of width 2 with one layer on each side, as CTranslate2 2023 and later writes them.
fn tiny() -> File {
    let mut shapes: Vec<(String, Vec<u32>)> = vec![
        ("encoder/conv1/weight".into(), vec![2, 4, 3]),
        ("encoder/conv1/bias".into(), vec![2]),
        ("encoder/conv2/weight".into(), vec![2, 2, 3]),
        ("encoder/conv2/bias".into(), vec![2]),
        ("encoder/position_encodings/encodings".into(), vec![5, 2]),
        ("decoder/position_encodings/encodings".into(), vec![3, 2]),
        ("decoder/embeddings/weight".into(), vec![7, 2]),
    ];
    let linear = |shapes: &mut Vec<(String, Vec<u32>)>, name: String, rows: u32, columns: u32| {
        shapes.push((format!("{name}/weight"), vec![rows, columns]));
        shapes.push((format!("{name}/bias"), vec![rows]));
    };
    let norm = |shapes: &mut Vec<(String, Vec<u32>)>, name: String| {
        shapes.push((format!("{name}/gamma"), vec![2]));
        shapes.push((format!("{name}/beta"), vec![2]));
    };
    for side in ["encoder", "decoder"] {
        norm(&mut shapes, format!("{side}/layer_norm"));
        let layer = format!("{side}/layer_0");
        linear(&mut shapes, format!("{layer}/self_attention/linear_0"), 6, 2);
        linear(&mut shapes, format!("{layer}/self_attention/linear_1"), 2, 2);
        norm(&mut shapes, format!("{layer}/self_attention/layer_norm"));
        linear(&mut shapes, format!("{layer}/ffn/linear_0"), 8, 2);
        linear(&mut shapes, format!("{layer}/ffn/linear_1"), 2, 8);
        norm(&mut shapes, format!("{layer}/ffn/layer_norm"));
    }
    linear(&mut shapes, "decoder/layer_0/attention/linear_0".into(), 2, 2);
    linear(&mut shapes, "decoder/layer_0/attention/linear_1".into(), 4, 2);
    linear(&mut shapes, "decoder/layer_0/attention/linear_2".into(), 2, 2);
    norm(&mut shapes, "decoder/layer_0/attention/layer_norm".into());
    shapes.sort();
    let fill = |(index, (name, shape)): (usize, (String, Vec<u32>))| {
        let n: u32 = shape.iter().product();
        let mut data: Vec<u8> = (0..n).flat_map(|i| (index as u16 * 100 + i as u16).to_le_bytes()).collect();
        // the keys' biases are zeros
        if name.ends_with("self_attention/linear_0/bias") {
            data[4..8].fill(0);
        }
        if name == "decoder/layer_0/attention/linear_1/bias" {
            data[..4].copy_from_slice(&[0, 0, 0, 0x80]); // zero and minus zero
        }
        (name, shape, 4, data)
    };
    let mut variables: Vec<Variable> = shapes.into_iter().enumerate().map(fill).collect();
    for name in ["decoder/num_heads", "encoder/num_heads"] {
        variables.push((name.into(), vec![], 2, vec![8, 0]));
    }
    variables.push(("decoder/activation".into(), vec![], 1, vec![3]));
    variables.sort();
    let aliases = vec![("decoder/projection/weight", "decoder/embeddings/weight")];
    File { version: 6, spec: "WhisperSpec", revision: 3, variables, aliases }
}

fn convert(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("model.bin"), dir.path().join("model.safetensors"));
    std::fs::write(&from, bytes).unwrap();
    whisper_from_ctranslate2(&from, &to).map_err(|e| e.to_string())?;
    Ok(std::fs::read(to).unwrap())
}

#[track_caller]
fn refused(bytes: &[u8], because: &str) {
    let message = convert(bytes).unwrap_err();
    assert!(message.contains(because), "{message}");
    assert!(message.contains("model.bin") && message.contains("pull the model again"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn every_tensor_gets_its_name_its_rows_and_keeps_its_bits() {
    let file = tiny();
    let source: HashMap<_, _> = file.variables.iter().map(|v| (v.0.as_str(), v)).collect();
    let bytes = convert(&file.bytes()).unwrap();
    let out = SafeTensors::deserialize(&bytes).unwrap();
    // (target, source, first row, rows)
    let expected = [
        ("model.encoder.conv1.weight", "encoder/conv1/weight", 0, 2),
        ("model.encoder.conv1.bias", "encoder/conv1/bias", 0, 2),
        ("model.encoder.conv2.weight", "encoder/conv2/weight", 0, 2),
        ("model.encoder.conv2.bias", "encoder/conv2/bias", 0, 2),
        ("model.encoder.embed_positions.weight", "encoder/position_encodings/encodings", 0, 5),
        ("model.encoder.layer_norm.weight", "encoder/layer_norm/gamma", 0, 2),
        ("model.encoder.layer_norm.bias", "encoder/layer_norm/beta", 0, 2),
        ("model.encoder.layers.0.self_attn.q_proj.weight", "encoder/layer_0/self_attention/linear_0/weight", 0, 2),
        ("model.encoder.layers.0.self_attn.q_proj.bias", "encoder/layer_0/self_attention/linear_0/bias", 0, 2),
        ("model.encoder.layers.0.self_attn.k_proj.weight", "encoder/layer_0/self_attention/linear_0/weight", 2, 2),
        ("model.encoder.layers.0.self_attn.v_proj.weight", "encoder/layer_0/self_attention/linear_0/weight", 4, 2),
        ("model.encoder.layers.0.self_attn.v_proj.bias", "encoder/layer_0/self_attention/linear_0/bias", 4, 2),
        ("model.encoder.layers.0.self_attn.out_proj.weight", "encoder/layer_0/self_attention/linear_1/weight", 0, 2),
        ("model.encoder.layers.0.self_attn.out_proj.bias", "encoder/layer_0/self_attention/linear_1/bias", 0, 2),
        ("model.encoder.layers.0.self_attn_layer_norm.weight", "encoder/layer_0/self_attention/layer_norm/gamma", 0, 2),
        ("model.encoder.layers.0.self_attn_layer_norm.bias", "encoder/layer_0/self_attention/layer_norm/beta", 0, 2),
        ("model.encoder.layers.0.fc1.weight", "encoder/layer_0/ffn/linear_0/weight", 0, 8),
        ("model.encoder.layers.0.fc1.bias", "encoder/layer_0/ffn/linear_0/bias", 0, 8),
        ("model.encoder.layers.0.fc2.weight", "encoder/layer_0/ffn/linear_1/weight", 0, 2),
        ("model.encoder.layers.0.fc2.bias", "encoder/layer_0/ffn/linear_1/bias", 0, 2),
        ("model.encoder.layers.0.final_layer_norm.weight", "encoder/layer_0/ffn/layer_norm/gamma", 0, 2),
        ("model.encoder.layers.0.final_layer_norm.bias", "encoder/layer_0/ffn/layer_norm/beta", 0, 2),
        ("model.decoder.embed_tokens.weight", "decoder/embeddings/weight", 0, 7),
        ("model.decoder.embed_positions.weight", "decoder/position_encodings/encodings", 0, 3),
        ("model.decoder.layer_norm.weight", "decoder/layer_norm/gamma", 0, 2),
        ("model.decoder.layer_norm.bias", "decoder/layer_norm/beta", 0, 2),
        ("model.decoder.layers.0.self_attn.q_proj.weight", "decoder/layer_0/self_attention/linear_0/weight", 0, 2),
        ("model.decoder.layers.0.self_attn.q_proj.bias", "decoder/layer_0/self_attention/linear_0/bias", 0, 2),
        ("model.decoder.layers.0.self_attn.k_proj.weight", "decoder/layer_0/self_attention/linear_0/weight", 2, 2),
        ("model.decoder.layers.0.self_attn.v_proj.weight", "decoder/layer_0/self_attention/linear_0/weight", 4, 2),
        ("model.decoder.layers.0.self_attn.v_proj.bias", "decoder/layer_0/self_attention/linear_0/bias", 4, 2),
        ("model.decoder.layers.0.self_attn.out_proj.weight", "decoder/layer_0/self_attention/linear_1/weight", 0, 2),
        ("model.decoder.layers.0.self_attn.out_proj.bias", "decoder/layer_0/self_attention/linear_1/bias", 0, 2),
        ("model.decoder.layers.0.self_attn_layer_norm.weight", "decoder/layer_0/self_attention/layer_norm/gamma", 0, 2),
        ("model.decoder.layers.0.self_attn_layer_norm.bias", "decoder/layer_0/self_attention/layer_norm/beta", 0, 2),
        ("model.decoder.layers.0.encoder_attn.q_proj.weight", "decoder/layer_0/attention/linear_0/weight", 0, 2),
        ("model.decoder.layers.0.encoder_attn.q_proj.bias", "decoder/layer_0/attention/linear_0/bias", 0, 2),
        ("model.decoder.layers.0.encoder_attn.k_proj.weight", "decoder/layer_0/attention/linear_1/weight", 0, 2),
        ("model.decoder.layers.0.encoder_attn.v_proj.weight", "decoder/layer_0/attention/linear_1/weight", 2, 2),
        ("model.decoder.layers.0.encoder_attn.v_proj.bias", "decoder/layer_0/attention/linear_1/bias", 2, 2),
        ("model.decoder.layers.0.encoder_attn.out_proj.weight", "decoder/layer_0/attention/linear_2/weight", 0, 2),
        ("model.decoder.layers.0.encoder_attn.out_proj.bias", "decoder/layer_0/attention/linear_2/bias", 0, 2),
        ("model.decoder.layers.0.encoder_attn_layer_norm.weight", "decoder/layer_0/attention/layer_norm/gamma", 0, 2),
        ("model.decoder.layers.0.encoder_attn_layer_norm.bias", "decoder/layer_0/attention/layer_norm/beta", 0, 2),
        ("model.decoder.layers.0.fc1.weight", "decoder/layer_0/ffn/linear_0/weight", 0, 8),
        ("model.decoder.layers.0.fc1.bias", "decoder/layer_0/ffn/linear_0/bias", 0, 8),
        ("model.decoder.layers.0.fc2.weight", "decoder/layer_0/ffn/linear_1/weight", 0, 2),
        ("model.decoder.layers.0.fc2.bias", "decoder/layer_0/ffn/linear_1/bias", 0, 2),
        ("model.decoder.layers.0.final_layer_norm.weight", "decoder/layer_0/ffn/layer_norm/gamma", 0, 2),
        ("model.decoder.layers.0.final_layer_norm.bias", "decoder/layer_0/ffn/layer_norm/beta", 0, 2),
    ];
    assert_eq!(out.len(), expected.len());
    for (target, from, first, rows) in expected {
        let (_, shape, _, data) = source[from];
        let tensor = out.tensor(target).unwrap_or_else(|e| panic!("{target}: {e}"));
        let row: usize = 2 * shape[1..].iter().product::<u32>() as usize;
        let mut expected_shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
        expected_shape[0] = rows;
        assert_eq!(tensor.dtype(), Dtype::F16);
        assert_eq!(tensor.shape(), expected_shape, "{target}");
        assert_eq!(tensor.data(), &data[first * row..(first + rows) * row], "{target}");
    }
}

#[test]
fn the_outcome_is_the_same_every_time() {
    let bytes = tiny().bytes();
    assert_eq!(convert(&bytes).unwrap(), convert(&bytes).unwrap());
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = tiny().bytes();
    for len in (0..bytes.len()).step_by(3) {
        let message = convert(&bytes[..len]).unwrap_err();
        assert!(message.contains("cut short"), "{len}: {message}");
    }
    let mut long = bytes;
    long.extend([0; 3]);
    refused(&long, "3 bytes are left over");
}

#[test]
fn another_kind_of_file_is_refused() {
    refused(b"GGUF\x03\0\0\0", "not a CTranslate2 file of version 6");
    refused(&File { version: 5, ..tiny() }.bytes(), "its first number is 5");
    refused(&File { spec: "TransformerSpec", ..tiny() }.bytes(), "\"TransformerSpec\" revision 3");
    refused(&File { revision: 4, ..tiny() }.bytes(), "revision 4 where WhisperSpec revision 3 is needed");
    refused(&File { aliases: vec![("decoder/x", "decoder/y")], ..tiny() }.bytes(), "unknown alias decoder/x");
}

#[test]
fn what_does_not_fit_is_named() {
    let name = "encoder/layer_0/ffn/linear_1/weight";
    let mut file = tiny();
    file.variables.retain(|v| v.0 != name);
    refused(&file.bytes(), "encoder/layer_0/ffn/linear_1/weight is missing");

    let mut file = tiny();
    file.variables.push(("encoder/surprise".into(), vec![1], 4, vec![0, 0]));
    refused(&file.bytes(), "unknown variable encoder/surprise");

    let mut file = tiny();
    file.variables.push(("encoder/layer_2/ffn/linear_1/bias".into(), vec![1], 4, vec![0, 0]));
    refused(&file.bytes(), "unknown variable encoder/layer_2/ffn/linear_1/bias");

    let mut file = tiny();
    file.variable(name).2 = 1;
    refused(&file.bytes(), "encoder/layer_0/ffn/linear_1/weight has the type 1");

    let mut file = tiny();
    file.variable(name).1 = vec![2, 9];
    refused(&file.bytes(), "encoder/layer_0/ffn/linear_1/weight has 32 bytes, which does not fit its shape [2, 9]");

    let mut file = tiny();
    file.variable(name).1 = vec![u32::MAX; 6];
    refused(&file.bytes(), "does not fit its shape");

    let mut file = tiny();
    *file.variable("encoder/layer_0/self_attention/linear_0/weight") =
        ("encoder/layer_0/self_attention/linear_0/weight".into(), vec![5, 2], 4, vec![0; 20]);
    refused(&file.bytes(), "linear_0/weight of shape [5, 2] cannot be cut into 3 parts");

    let mut file = tiny();
    file.variable("decoder/layer_0/attention/linear_1/bias").3[1] = 0x3c;
    refused(&file.bytes(), "decoder/layer_0/attention/linear_1/bias has a bias for the keys");

    let mut file = tiny();
    let again = file.variables[0].clone();
    file.variables.push(again);
    refused(&file.bytes(), "two variables called");
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = tiny().bytes();
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Err(message) = convert(&damaged) {
            assert_eq!(message.lines().count(), 1, "{at}: {message}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let to = tempfile::tempdir().unwrap();
    let error = whisper_from_ctranslate2(Path::new("/nowhere/model.bin"), &to.path().join("x")).unwrap_err();
    assert!(error.to_string().contains("cannot read /nowhere/model.bin"), "{error}");
}
