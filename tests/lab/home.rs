//! A user's folders of a test's own: settings, conversations and voices are its own; the models are those of this
//! machine, where the program would look for them.

use antiphon::weights::Store;
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;

/// What a program needs in its environment to find everything of the user's in `folder`.
pub fn env(folder: &Path) -> Result<[(&'static str, OsString); 2]> {
    let home = folder.join("home");
    std::fs::create_dir_all(&home)?;
    std::os::unix::fs::symlink(Store::open(None)?.models_dir(), home.join("models"))?;
    Ok([("ANTIPHON_HOME", home.into()), ("XDG_CONFIG_HOME", folder.into())])
}
