//! Where the real models are. Tests that need one fail, loudly, when it is not there.

use std::path::PathBuf;

/// The folder of the model `id`: under `ANTIPHON_TEST_MODELS` if that is set, else under `target/test-models`.
pub fn folder(id: &str) -> PathBuf {
    let root = std::env::var_os("ANTIPHON_TEST_MODELS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let folder = root.join(id);
    assert!(
        folder.is_dir(),
        "the model '{id}' is not at {}: pull it, or set ANTIPHON_TEST_MODELS to the folder that holds it",
        folder.display()
    );
    folder
}
