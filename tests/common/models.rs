//! Where the real models are: where the program itself looks. A test that needs one fails, loudly, when it is not there.

use antiphon::weights::Store;
use std::path::PathBuf;

/// The folder of the model `id`, all of whose files are there and verified.
pub fn folder(id: &str) -> PathBuf {
    let store = Store::open(None).expect("the store opens");
    store.folder_of(id).map_err(|e| format!("{e} (or run the tests with `make test`)")).expect("the model is here")
}
