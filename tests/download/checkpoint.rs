//! The omni engine's checkpoint by the program itself: licence, pull, and an engine that finds what was pulled.

use crate::nobody;
use crate::repository::Repository;
use crate::server::Server;
use antiphon::engine::omni::{OmniEngine, OmniOptions};
use antiphon::weights::Store;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn antiphon(home: &Path, hub: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .args(words)
        .env("ANTIPHON_HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("HF_ENDPOINT", hub)
        .env_remove("HF_TOKEN")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_checkpoint_is_pulled_by_name_and_found_by_the_engine() {
    let home = tempfile::tempdir().unwrap();
    let answer = home.path().join("answer.wav");
    let say = ["say", "Yes.", "--engine", "omni", "--out", answer.to_str().unwrap()];
    let pull = ["models", "pull", "minicpm-o-2_6", "--accept-licence"];
    let repository = Repository::tiny_omni();
    let server = Server::start(move |_, x| repository.answer(x));

    let before = antiphon(home.path(), &server.url, &say);
    let words = text(&before.stderr);
    assert_eq!(before.status.code(), Some(3), "{words}");
    assert!(words.contains("`antiphon models pull minicpm-o-2_6` (about 17.40 GB)"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");

    let unasked = antiphon(home.path(), &server.url, &pull[..3]);
    let words = text(&unasked.stderr);
    assert!(!unasked.status.success() && words.contains("--accept-licence"), "{words}");
    assert!(words.contains("ChatTTS") && words.contains("CC BY-NC 4.0") && words.contains("commercial"), "{words}");
    assert_eq!(server.requests(), [], "nothing is fetched before the licence is agreed to");

    let pulled = antiphon(home.path(), &server.url, &pull);
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    assert!(text(&pulled.stderr).contains("MiniCPM Model License"), "the licence is shown all the same");
    assert!(
        text(&pulled.stdout).contains("minicpm-o-2_6 is ready (") && text(&pulled.stdout).contains("revision 1111")
    );
    let asked = server.requests();
    assert!(asked[0].path.starts_with("/api/models/openbmb/MiniCPM-o-2_6/revision/"), "{:?}", asked[0]);
    assert_eq!(asked.len(), 8, "the list and seven files: {asked:?}");

    // From here on without a hub.
    let hub = nobody();
    let again = antiphon(home.path(), &hub, &pull[..3]);
    assert!(again.status.success() && again.stderr.is_empty(), "{}", text(&again.stderr));
    let checked = antiphon(home.path(), &hub, &["models", "verify", "minicpm-o-2_6"]);
    assert!(checked.status.success() && text(&checked.stdout).contains("assets/Vocos.pt: ready"));

    let store = Store::open(Some(home.path().to_owned())).unwrap();
    let folder = store.folder_of("minicpm-o-2_6").unwrap();
    OmniEngine::load(&folder, OmniOptions::default(), &mut |_, _| {}).unwrap();
    let said = antiphon(home.path(), &hub, &say);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(std::fs::metadata(&answer).unwrap().len() > 1000);
}
