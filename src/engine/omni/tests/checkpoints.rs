//! Checkpoints: the released one's names and shapes, quantised and half-precision loading, and damage of every kind,
//! which must be an error that names what is wrong, never a panic.

use super::super::OmniEngine;
use super::super::config::OmniConfig;
use super::super::load::{Omni, OmniOptions, Quantization};
use super::super::probe::NoProbe;
use super::super::random_checkpoint::{Recipe, Sizes, config, tensors, tokenizers, vocoder_tensors};
use super::super::tokens::{LlmTokens, TtsTokens};
use super::super::weights::Weights;
use super::tiny_dir;
use crate::engine::CancelToken;
use crate::engine::linear::Placement;
use crate::engine::tensor_source::TensorSource;
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use safetensors::Dtype;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

fn fixture(name: &str) -> BTreeMap<String, Vec<usize>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| {
            let (name, shape) = line.split_once('\t').unwrap();
            (name.to_string(), serde_json::from_str(shape).unwrap())
        })
        .collect()
}

#[test]
fn the_full_size_has_the_released_names_and_shapes() {
    let (found, expected) = (tensors(&Sizes::FULL), fixture("tensor_names_full.tsv"));
    for (name, shape) in &expected {
        assert_eq!(found.get(name), Some(shape), "{name}");
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(vocoder_tensors(&Sizes::FULL), fixture("tensor_names_vocos.tsv"));
}

/// What loading asks for, and nothing else, with nothing read.
struct Asked(std::cell::RefCell<BTreeMap<String, Vec<usize>>>);

impl TensorSource for Asked {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, crate::engine::EngineError> {
        self.0.borrow_mut().insert(name.to_string(), shape.to_vec());
        // A view of one zero: takes no memory whatever the shape.
        Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn the_decoders_ask_for_the_released_names_and_shapes() {
    let full = fixture("tensor_names_full.tsv");
    let parsed = OmniConfig::parse(&config(&Sizes::FULL, [21_143, 21_132, 21_133]), "the full size").unwrap();
    // One layer of each stack: the others differ in their number only.
    for (stack, prefix, layers) in [(&parsed.llm, "llm.model.", 28), (&parsed.tts.decoder, "tts.model.", 20)] {
        assert_eq!(stack.layers, layers);
        let one = crate::engine::transformer::DecoderConfig { layers: 1, max_positions: 16, ..stack.clone() };
        let asked = Asked(Default::default());
        let place = Placement::new(DType::F32, &Device::Cpu, None);
        crate::engine::transformer::Decoder::from_safetensors(&one, &asked, prefix, &place).unwrap();
        let asked = asked.0.into_inner();
        for (name, shape) in &asked {
            assert_eq!(full.get(name), Some(shape), "{name}");
        }
        let first_layer = format!("{prefix}layers.0.");
        let known = full.keys().filter(|n| n.starts_with(&first_layer)).count();
        assert_eq!(asked.len(), known + 1);
    }
}

#[test]
fn a_released_configuration_needs_few_keys() {
    let text = r#"{"vocab_size":151700,"hidden_size":3584,"intermediate_size":18944,"num_hidden_layers":28,
        "num_attention_heads":28,"num_key_value_heads":4,"max_position_embeddings":32768,"rms_norm_eps":1e-6,
        "rope_theta":1000000.0,"tts_config":{"llm_dim":3584},
        "audio_config":{"d_model":1024,"encoder_layers":24,"encoder_attention_heads":16,"encoder_ffn_dim":4096}}"#;
    let brief = OmniConfig::parse(text, "brief").unwrap();
    assert_eq!(brief, OmniConfig::parse(&config(&Sizes::FULL, [21_143, 21_132, 21_133]), "full").unwrap());
    assert_eq!((brief.tts.text_start(), brief.tts.audio_start(), brief.tts.end_code()), (2, 302, 625));
}

/// A folder with a random checkpoint.
fn random_folder(dtype: Dtype) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe { dtype, ..Recipe::tiny(11) };
    recipe.write(dir.path(), &CancelToken::default(), &mut |_, _| {}).unwrap();
    dir
}

/// The language model's logits for some words.
fn logits(omni: &Omni) -> Vec<f32> {
    let ids = omni.mind.tokens.encode("hello, you").unwrap();
    let mut cache = omni.mind.llm.new_cache(64).unwrap();
    let hidden = omni.mind.llm.forward(&omni.mind.llm.embed(&ids).unwrap(), &mut cache).unwrap();
    omni.mind.llm.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn half_precision_and_quantised_weights_compute_nearly_the_same() {
    let plain_dir = random_folder(Dtype::F32);
    let load = |dir: &Path, quantize| {
        let options = OmniOptions { quantize, quantize_speech: quantize, ..OmniOptions::default() };
        Omni::load(dir, &options, &mut |_, _| {}).unwrap()
    };
    let plain = logits(&load(plain_dir.path(), None));
    let scale = plain.iter().map(|l| l * l).sum::<f32>().sqrt();
    let distance = |other: &[f32]| plain.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt() / scale;
    let half = distance(&logits(&load(random_folder(Dtype::BF16).path(), None)));
    let q8 = distance(&logits(&load(plain_dir.path(), Some(Quantization::Q8_0))));
    let q4 = distance(&logits(&load(plain_dir.path(), Some(Quantization::Q4K))));
    assert!(half > 0.0 && half < 0.02, "bf16: {half}");
    assert!(q8 > 0.0 && q8 < 0.03, "q8_0: {q8}");
    assert!(q4 > q8 && q4 < 0.3, "q4_k: {q4}");
}

/// Copies the tiny checkpoint's tensors, changes some, and tells what loading says.
fn changed(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut all = candle_core::safetensors::load(tiny_dir().join("model.safetensors"), &Device::Cpu).unwrap();
    change(&mut all);
    candle_core::safetensors::save(&all, dir.path().join("model.safetensors")).unwrap();
    for file in ["config.json", "vocos.safetensors"] {
        std::fs::copy(tiny_dir().join(file), dir.path().join(file)).unwrap();
    }
    for folder in ["llm_tokenizer", "chattts_tokenizer"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
        let file = format!("{folder}/tokenizer.json");
        std::fs::copy(tiny_dir().join(&file), dir.path().join(&file)).unwrap();
    }
    match OmniEngine::load(dir.path(), OmniOptions::default(), &mut |_, _| {}) {
        Ok(_) => "loaded".to_string(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn every_tensor_is_accounted_for() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(changed(|_| ()), "loaded");
    for dead in ["vpm.encoder.weight", "resampler.kv_proj.weight", "tts.dvae.encoder.extra"] {
        assert_eq!(changed(|all| drop(all.insert(dead.into(), zeros(&[2])))), "loaded", "{dead}");
    }
    let unknown = changed(|all| drop(all.insert("llm.model.layers.0.extra.weight".into(), zeros(&[3]))));
    assert!(
        unknown.contains("`llm.model.layers.0.extra.weight` [3]") && unknown.contains("model.safetensors"),
        "{unknown}"
    );
    // A layer more than the configuration says is unknown, too.
    let more = changed(|all| drop(all.insert("llm.model.layers.2.input_layernorm.weight".into(), zeros(&[64]))));
    assert!(more.contains("llm.model.layers.2"), "{more}");
    for name in ["llm.model.norm.weight", "apm.layers.1.fc1.bias", "tts.emb_code.2.weight", "tts.dvae.coef"] {
        let missing = changed(|all| drop(all.remove(name)));
        assert!(missing.contains(name), "{missing}");
        let wrong = changed(|all| drop(all.insert(name.into(), zeros(&[5, 7]))));
        assert!(wrong.contains(name) && wrong.contains("[5, 7]"), "{wrong}");
    }
    let name = "llm.model.norm.weight";
    let whole = changed(|all| drop(all.insert(name.into(), zeros(&[64]).to_dtype(DType::I64).unwrap())));
    assert!(whole.contains(name) && whole.contains("I64") && whole.contains("BF16"), "{whole}");
    // Without a head of its own the language model uses its embedding table.
    assert_eq!(changed(|all| drop(all.remove("llm.lm_head.weight"))), "loaded");
}

#[test]
fn shards_are_found_by_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let all = candle_core::safetensors::load(tiny_dir().join("model.safetensors"), &Device::Cpu).unwrap();
    let (a, b): (HashMap<_, _>, HashMap<_, _>) = all.into_iter().partition(|(name, _)| name.starts_with("llm."));
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", &a), ("b.safetensors", &b)] {
        candle_core::safetensors::save(part, dir.path().join(file)).unwrap();
        map.extend(part.keys().map(|k| (k.clone(), file.into())));
    }
    let index = dir.path().join("model.safetensors.index.json");
    let write = |map: &serde_json::Map<String, serde_json::Value>| {
        std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    };
    write(&map);
    let weights = Weights::open(dir.path(), None).unwrap();
    assert!(weights.has("llm.model.norm.weight") && weights.has("tts.dvae.coef"));
    let error = || Weights::open(dir.path(), None).err().unwrap().to_string();
    map.insert("tts.dvae.coef".into(), "a.safetensors".into());
    write(&map);
    assert!(error().contains("`tts.dvae.coef` is not in a.safetensors"), "{}", error());
    map.insert("tts.dvae.coef".into(), "../b.safetensors".into());
    write(&map);
    assert!(error().contains("not a file name"), "{}", error());
    std::fs::write(&index, "{}").unwrap();
    assert!(error().contains("weight_map"), "{}", error());
    let empty = tempfile::tempdir().unwrap();
    let nothing = Weights::open(empty.path(), None).err().unwrap().to_string();
    assert!(nothing.contains("model.safetensors"), "{nothing}");
}

#[test]
fn a_speech_tokenizer_that_disagrees_is_refused() {
    let text = std::fs::read_to_string(tiny_dir().join("config.json")).unwrap();
    let mut root: serde_json::Value = serde_json::from_str(&text).unwrap();
    root["tts_config"]["audio_bos_token_id"] = 3.into();
    let config = OmniConfig::parse(&root.to_string(), "changed").unwrap();
    let tokens = TtsTokens::load(&tiny_dir(), config.tts.text_tokens).unwrap();
    let error = tokens.agree(&config.tts).unwrap_err().to_string();
    assert!(error.contains("[Ptts]") && error.contains("audio_bos_token_id"), "{error}");
    assert!(LlmTokens::load(&tiny_dir(), 100).err().unwrap().to_string().contains("below 100"));
}

/// Bytes of a file with some of them changed, cut off or doubled.
fn damage(bytes: &[u8], edits: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - cut % bytes.len()].to_vec();
    for (at, value) in edits {
        let at = at % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = *value;
        }
    }
    bytes
}

/// Values that a configuration should not have.
fn odd_value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        (0u64..40).prop_map(Into::into),
        any::<f64>().prop_map(|f| serde_json::json!(f)),
        ".{0,8}".prop_map(Into::into),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        any::<bool>().prop_map(Into::into),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn odd_configurations_are_errors(key in 0usize..400, part in 0usize..3, value in odd_value()) {
        let text = std::fs::read_to_string(tiny_dir().join("config.json")).unwrap();
        let mut root: serde_json::Value = serde_json::from_str(&text).unwrap();
        let section = match part {
            0 => &mut root,
            1 => &mut root["audio_config"],
            _ => &mut root["tts_config"],
        };
        let section = section.as_object_mut().unwrap();
        let name = section.keys().nth(key % section.len()).unwrap().clone();
        section.insert(name, value);
        // Either it makes sense, or the error names the file; no panic, no overflow.
        match OmniConfig::parse(&root.to_string(), "odd.json") {
            Ok(config) => prop_assert!(config.tts.audio_start() > 0),
            Err(e) => prop_assert!(e.to_string().contains("odd.json")),
        }
    }

    #[test]
    fn damaged_configurations_are_errors(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut in 0usize..9000) {
        let bytes = std::fs::read(tiny_dir().join("config.json")).unwrap();
        let text = String::from_utf8_lossy(&damage(&bytes, &edits, cut)).into_owned();
        let _ = OmniConfig::parse(&text, "damaged.json");
    }

    #[test]
    fn damaged_tokenizers_are_errors(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in 0usize..30000) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["llm_tokenizer", "chattts_tokenizer"] {
            let bytes = std::fs::read(tiny_dir().join(folder).join("tokenizer.json")).unwrap();
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("tokenizer.json"), damage(&bytes, &edits, cut)).unwrap();
        }
        if let Err(e) = LlmTokens::load(dir.path(), 277) {
            prop_assert!(e.to_string().contains("pull the model again"), "{}", e);
        }
        let _ = TtsTokens::load(dir.path(), 647);
    }

    #[test]
    fn damaged_weights_are_errors(edits in proptest::collection::vec((0usize..20_000, any::<u8>()), 0..6), cut in 0usize..478_064) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(tiny_dir().join("vocos.safetensors")).unwrap();
        std::fs::write(dir.path().join("vocos.safetensors"), damage(&bytes, &edits, cut)).unwrap();
        match Weights::open_vocoder(dir.path()) {
            Err(e) => prop_assert!(e.to_string().contains("vocos.safetensors"), "{}", e),
            Ok(weights) => {
                if let Ok(mut vocos) = super::super::vocos::Vocos::load(&weights, 100, &Device::Cpu) {
                    let _ = vocos.decode(&Tensor::zeros((3, 100), DType::F32, &Device::Cpu).unwrap());
                }
            }
        }
    }

    #[test]
    fn damaged_pickles_are_errors(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), cut in 0usize..1000) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(tiny_dir().join("Vocos.pt")).unwrap();
        let file = dir.path().join("Vocos.pt");
        std::fs::write(&file, damage(&bytes, &edits, cut)).unwrap();
        if let Err(e) = Weights::read_vocoder_pickle(&file) {
            prop_assert!(e.to_string().contains("Vocos.pt"), "{}", e);
        }
    }
}

#[test]
fn a_random_checkpoint_speaks() {
    let dir = random_folder(Dtype::F32);
    let mut omni = Omni::load(dir.path(), &OmniOptions::default(), &mut |_, _| {}).unwrap();
    let sounds = super::speak(&mut omni, &["hello you"], &mut super::EndsAt::new(30), &mut NoProbe);
    assert!(sounds.iter().flat_map(|s| &s.samples).all(|s| s.is_finite()));
    assert_eq!(sounds.iter().map(|s| s.samples.len() - s.overlap).sum::<usize>(), 30 * 512);
}

/// The released special tokens are at the released ids (SPEC, section 2), the rest are words, and bytes make up the rest.
#[test]
fn the_vocabularies_of_a_random_checkpoint_have_the_released_layout() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizers::llm(151_700)).unwrap();
    std::fs::create_dir(dir.path().join("chattts_tokenizer")).unwrap();
    std::fs::write(dir.path().join("chattts_tokenizer/tokenizer.json"), tokenizers::speech(21_178)).unwrap();
    let llm = LlmTokens::load(dir.path(), 151_700).unwrap();
    let found = [
        llm.placeholder,
        llm.text_end,
        llm.turn_start,
        llm.turn_end,
        llm.audio_start,
        llm.audio_end,
        llm.speaker_start,
        llm.speaker,
        llm.speaker_end,
        llm.speech_start,
        llm.speech_end,
    ];
    let released = [128_244, 151_643, 151_644, 151_645, 151_685, 151_687, 151_688, 151_689, 151_690, 151_691, 151_692];
    assert_eq!(found, released);
    assert_eq!(llm.encode("!").unwrap(), [0]);
    assert_eq!(llm.encode("<reserved_53>").unwrap(), [151_699]);
    let text = "Good morning, 你好!";
    assert_eq!(llm.decode(&llm.encode(text).unwrap()).unwrap(), text);
    let words = llm.decode(&[300, 70_000, 151_642]).unwrap();
    assert!(words.split(' ').filter(|w| w.len() >= 4).count() == 3, "{words}");

    let speech = TtsTokens::load(dir.path(), 21_178).unwrap();
    assert_eq!((speech.start, speech.audio_start, speech.text_end, speech.speaker), (21_131, 21_132, 21_133, 21_143));
    assert_eq!(tokenizers::speech_ids(21_178), [21_143, 21_132, 21_133]);
    // Nothing of an answer is unknown to the speech model (1 is its unknown token).
    assert!(speech.encode(&format!("{words}, hello! 你好。")).unwrap().iter().all(|&id| id > 4));
}

#[test]
fn a_random_checkpoint_is_split_whole_or_not_there() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("sharded");
    let recipe = Recipe { shard: 4_000_000, ..Recipe::tiny(5) };
    let (mut last, cancel) = (0.0, CancelToken::default());
    recipe
        .write(&dir, &cancel, &mut |_, done| {
            assert!(done > last);
            last = done;
        })
        .unwrap();
    assert_eq!(last, 1.0);
    let names = |dir: &Path| {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let shards = names(&dir).into_iter().filter(|n| n.starts_with("model-0000")).count();
    assert!(shards > 2 && names(&dir).contains(&"model.safetensors.index.json".to_string()), "{:?}", names(&dir));
    let bytes: u64 = names(&dir)
        .iter()
        .filter(|n| n.ends_with(".safetensors"))
        .map(|n| dir.join(n).metadata().unwrap().len())
        .chain([dir.join("assets/vocos.safetensors").metadata().unwrap().len()])
        .sum();
    assert!(bytes > recipe.bytes() && bytes < recipe.bytes() + 200_000, "{bytes} for {}", recipe.bytes());
    Omni::load(&dir, &OmniOptions::default(), &mut |_, _| {}).unwrap();

    // The same seed gives the same numbers, another seed others, and all of them are finite.
    let values = |seed: u64| {
        let dir = place.path().join(format!("seed-{seed}-{}", names(place.path()).len()));
        Recipe::tiny(seed).write(&dir, &CancelToken::default(), &mut |_, _| {}).unwrap();
        std::fs::read(dir.join("model.safetensors")).unwrap()
    };
    assert!(values(5) == values(5) && values(5) != values(6));

    // A folder with something in it is left alone; an interrupted one is not there.
    let error = recipe.write(&dir, &cancel, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("sharded") && error.contains("not an empty folder"), "{error}");
    let before = names(place.path());
    let stopped = CancelToken::default();
    let error = recipe.write(&place.path().join("new"), &stopped, &mut |_, _| stopped.cancel()).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert_eq!(names(place.path()), before);
}
