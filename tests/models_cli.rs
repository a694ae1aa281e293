//! The `models` commands, from their words to what they print, against an empty and a filled store.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use antiphon::cli::models::{ModelsArgs, run};
use antiphon::engine::CancelToken;
use antiphon::weights::{Catalog, Store};
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    models: ModelsArgs,
}

fn models(store: &Store, words: &str) -> Result<String, String> {
    let line = Line::try_parse_from(std::iter::once("models").chain(words.split(' '))).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    run(line.models, store, &CancelToken::default(), &mut out).map_err(|e| format!("{e:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

fn empty() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(Some(home.path().to_owned())).unwrap();
    (home, store)
}

#[test]
fn the_list_names_every_model_its_licence_and_its_state() {
    let (home, store) = empty();
    let list = models(&store, "list").unwrap();
    for model in &Catalog::built_in().unwrap().models {
        let line = list.lines().find(|l| l.starts_with(&model.id)).unwrap();
        assert!(line.contains("not here") && line.contains(&model.licence), "{line}");
    }
    assert!(list.contains(home.path().to_str().unwrap()));
    assert!(!store.models_dir().exists(), "looking creates nothing");
}

#[test]
fn the_list_as_json_tells_sizes_and_files() {
    let (_home, store) = empty();
    let json: serde_json::Value = serde_json::from_str(&models(&store, "list --json").unwrap()).unwrap();
    let whisper = json["models"].as_array().unwrap().iter().find(|m| m["id"] == "whisper-base").unwrap();
    assert_eq!(whisper["role"], "stt");
    assert_eq!(whisper["installed"], false);
    // model.bin, config.json, tokenizer.json, vocabulary.txt as they are downloaded
    assert_eq!(whisper["download_bytes"], 145_217_532 + 2_309 + 2_203_239 + 459_861);
    assert_eq!(whisper["files"][0]["name"], "model.safetensors");
    assert_eq!(whisper["files"][0]["state"], "missing");
}

#[test]
fn what_is_not_here_is_said_with_the_command_that_helps() {
    let (_home, store) = empty();
    let error = models(&store, "path piper-joe").unwrap_err();
    assert!(error.ends_with("run `antiphon models pull piper-joe`"), "{error}");
    let error = models(&store, "verify smart-turn").unwrap_err();
    assert!(error.ends_with("run `antiphon models pull smart-turn`"), "{error}");
    assert!(models(&store, "verify").unwrap().contains("no models are here"));
    assert_eq!(models(&store, "remove piper-joe").unwrap(), "piper-joe is not here\n");
}

#[test]
fn an_unknown_model_is_named_by_every_command() {
    let (_home, store) = empty();
    for words in ["pull gpt", "verify gpt", "path gpt", "remove gpt"] {
        let error = models(&store, words).unwrap_err();
        assert!(error.starts_with("there is no model called \"gpt\""), "{words}: {error}");
    }
}

#[test]
fn a_folder_without_the_files_is_named() {
    let (_home, store) = empty();
    let brought = tempfile::tempdir().unwrap();
    let error = models(&store, &format!("pull smart-turn --from {}", brought.path().display())).unwrap_err();
    assert!(error.starts_with("smart-turn-v3.2-cpu.onnx was not found in"), "{error}");
}

#[test]
fn a_file_of_the_right_size_but_other_bytes_is_unchecked_then_damaged_then_removed() {
    let (_home, store) = empty();
    let dir = store.dir_of("smart-turn");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::File::create(dir.join("smart-turn-v3.2-cpu.onnx")).unwrap().set_len(8_679_182).unwrap();
    let state = |store: &Store| {
        let list = models(store, "list").unwrap();
        list.lines().find(|l| l.starts_with("smart-turn")).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(state(&store), "unchecked");
    assert!(models(&store, "path smart-turn").unwrap_err().contains("is damaged"));
    assert_eq!(state(&store), "damaged");
    assert_eq!(models(&store, "remove smart-turn").unwrap(), "smart-turn removed, 8.7 MB freed\n");
    assert_eq!(state(&store), "not");
}
