//! Errands of a session that take long and concern no turn: fetching models (the queue is in `pulls`), asking for
//! files. They run on the background runtime, report through the event channel, and can be called off. Owned by the session thread.

use super::command::Command;
use super::event::{Event, EventSink, ModelKind, ModelState, ModelStatus, Severity};
use super::inbox::Inbox;
use super::outlook;
use super::pulls::Pulls;
use super::told::Told;
use super::voices::VoiceCommand;
use crate::conversation::export::Form;
use crate::engine::CancelToken;
use crate::metrics::memory_held;
use crate::time::Micros;
use crate::weights::{Catalog, FileState, Installed, PullOptions, Role, Store, WeightsError, fit, verify};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

/// A dialog that is gone sooner than this was never there: 26 ms where neither portal nor zenity exists, more where a
/// session bus has to find out first; nobody reads and closes one this fast.
const NO_DIALOG: Duration = Duration::from_millis(400);
/// How often the memory of the process is looked at, and how much it must change to be told, in bytes.
const MEMORY_EVERY: Duration = Duration::from_secs(2);
const MEMORY_STEP: u64 = 8_000_000;

/// What runs in the background for one session.
pub struct Errands {
    runtime: tokio::runtime::Runtime,
    store: Store,
    voices: Sender<VoiceCommand>,
    events: EventSink,
    inbox: SyncSender<Inbox>,
    /// `None` when the catalog cannot be read, which a test rules out.
    pulls: Option<Arc<Pulls>>,
    /// The engine whose models are needed, by its name on the command line.
    engine: Option<String>,
    /// Stops what reads large files.
    cancel: CancelToken,
}

impl Errands {
    /// Starts the background runtime.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub fn new(
        store: Store,
        engine: Option<String>,
        voices: Sender<VoiceCommand>,
        events: EventSink,
        inbox: SyncSender<Inbox>,
    ) -> Result<Self, std::io::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()?;
        runtime.spawn(watch_memory(events.clone()));
        events.send(Event::DataFolder { path: store.home().display().to_string() });
        let catalog = Catalog::built_in().ok();
        let pulls = catalog.map(|c| Pulls::new(store.clone(), c, PullOptions::default(), events.clone()));
        Ok(Errands { runtime, store, voices, events, inbox, pulls, engine, cancel: CancelToken::default() })
    }

    /// Tells what this machine has, and which models suit it.
    pub fn look_at_machine(&self) {
        let (store, events) = (self.store.clone(), self.events.clone());
        self.runtime.spawn_blocking(move || events.send(Event::Outlook(outlook::look(&store))));
    }

    /// Tells what this program holds of graphics cards, if it was built for any: after a turn, and not all the time, because
    /// the driver's tool takes a while.
    pub fn look_at_gpu(&self) {
        if cfg!(feature = "cuda") {
            let events = self.events.clone();
            self.runtime.spawn_blocking(move || {
                if let Some(bytes) = fit::own_gpu_memory() {
                    events.send(Event::GpuMemory { bytes });
                }
            });
        }
    }

    /// The models that are needed follow the engine.
    pub fn set_engine(&mut self, engine: &str) {
        self.engine = Some(engine.to_owned());
        self.report_models();
    }

    /// Tells which models there are and what is here of them.
    pub fn report_models(&self) {
        let (store, events, engine) = (self.store.clone(), self.events.clone(), self.engine.clone());
        self.runtime.spawn_blocking(move || report_models(&store, &events, engine.as_deref()));
    }

    /// Stops fetching and checking anything; what has arrived is kept.
    pub fn cancel_all(&self) {
        self.cancel.cancel();
        if let Some(pulls) = &self.pulls {
            pulls.cancel_all();
        }
    }

    /// Reads a model's files again, and tells how they are.
    pub fn check_model(&self, id: String) {
        let cancel = self.cancel.clone();
        self.care_for_models(move |store| checked(store, &id, &cancel));
    }

    /// Deletes a model's files.
    pub fn remove_model(&self, id: String) {
        self.care_for_models(move |store| removed(store, &id));
    }

    /// Does something to the models, tells what came of it, and what is here then.
    fn care_for_models(&self, work: impl FnOnce(&Store) -> (Told, Severity) + Send + 'static) {
        let (store, events, engine) = (self.store.clone(), self.events.clone(), self.engine.clone());
        self.runtime.spawn_blocking(move || {
            let (what, severity) = work(&store);
            report_models(&store, &events, engine.as_deref());
            events.send(Event::Problem { what, remedy: Told::default(), severity });
        });
    }

    /// Asks for a folder and takes these models from it.
    pub fn import(&mut self, title: &str, models: Vec<String>) {
        let (events, inbox) = (self.events.clone(), self.inbox.clone());
        let dialog = rfd::AsyncFileDialog::new().set_title(title);
        self.runtime.spawn(async move {
            let asked = Micros::now();
            match dialog.pick_folder().await {
                // The session is gone only when the program ends.
                Some(folder) => drop(inbox.send(Inbox::Folder { folder: folder.path().to_owned(), models })),
                // Nobody closes a dialog this fast: there was none to close.
                None if Micros::now().since(asked) < NO_DIALOG => {
                    let remedy = "Use `antiphon models pull --from FOLDER` in a terminal.";
                    events.send(no_dialog(Told::new("dialog-none-folder", remedy)));
                }
                None => {}
            }
        });
    }

    /// Opens the folder where everything is kept in the system's file manager.
    pub fn show_data_folder(&self) {
        self.runtime.spawn(show_folder(FILE_MANAGER, self.store.home().to_owned(), self.events.clone()));
    }

    /// Asks where a conversation (`None`: the open one) is to be written. Where there is no dialog to ask with, it goes to
    /// the folder for exports.
    pub fn ask_where_to_save(&self, id: Option<String>, form: Form, title: &str) {
        let inbox = self.inbox.clone();
        let name = format!("antiphon-{}.{}", id.as_deref().unwrap_or("conversation"), form.extension());
        let dialog = rfd::AsyncFileDialog::new().set_title(title).set_file_name(name);
        self.runtime.spawn(async move {
            let asked = Micros::now();
            let chosen = dialog.save_file().await.map(|file| file.path().to_owned());
            // Nobody closes a dialog this fast: there was none to close.
            if chosen.is_some() || Micros::now().since(asked) < NO_DIALOG {
                // The session is gone only when the program ends.
                let _ = inbox.send(Inbox::Export { id, form, to: chosen });
            }
        });
    }

    /// Something about voices, for the voices thread.
    pub fn voice(&self, command: VoiceCommand) {
        let VoiceCommand::Ask { title } = command else {
            // That thread ends when this sender is dropped.
            let _ = self.voices.send(command);
            return;
        };
        let (events, voices) = (self.events.clone(), self.voices.clone());
        let dialog = rfd::AsyncFileDialog::new()
            .set_title(title)
            .add_filter("wav, flac, mp3, ogg, aiff", &["wav", "flac", "mp3", "ogg", "oga", "aiff", "aif"]);
        self.runtime.spawn(async move {
            let asked = Micros::now();
            match dialog.pick_file().await {
                Some(file) => drop(voices.send(VoiceCommand::Check { file: file.path().to_owned() })),
                None if Micros::now().since(asked) < NO_DIALOG => {
                    let remedy = "Drop the file onto the window, or use `antiphon voices add FILE`.";
                    events.send(no_dialog(Told::new("dialog-none-file", remedy)));
                }
                None => {}
            }
        });
    }

    /// Asks where a text is to be written, and writes it; where there is no dialog to ask with, into the downloads.
    pub fn save_text(&self, name: String, text: String, title: &str) {
        let events = self.events.clone();
        let dialog = rfd::AsyncFileDialog::new().set_title(title).set_file_name(&name);
        self.runtime.spawn(async move {
            let asked = Micros::now();
            let chosen = dialog.save_file().await.map(|file| file.path().to_owned());
            let no_dialog = Micros::now().since(asked) < NO_DIALOG;
            let Some(path) = chosen.or_else(|| no_dialog.then(|| downloads().join(name))) else { return };
            let written = tokio::fs::write(&path, text).await;
            let (what, severity) = match &written {
                Ok(()) => (Told::new("told-written", "The file was written"), Severity::Note),
                Err(error) => {
                    let what = Told::new("told-not-written", format!("The file could not be written: {error}"));
                    (what.because(error), Severity::Warning)
                }
            };
            events.send(Event::Problem { what, remedy: path.display().to_string().into(), severity });
        });
    }

    /// Fetches these models after those that are being fetched, then has the engine loaded.
    pub fn pull(&self, ids: Vec<String>) {
        self.change(|pulls| pulls.add(ids, None));
    }

    /// Notes that the user agrees to a model's terms.
    pub fn agree_to_terms(&self, id: &str) {
        let agreed = Catalog::built_in().and_then(|catalog| self.store.accept_terms(catalog.model(id)?));
        match agreed {
            Ok(()) => self.report_models(),
            Err(error) => {
                let what = Told::from(&error);
                let remedy = Told::new("told-mend", "Mend what it says, then try again.");
                self.events.send(Event::Problem { what, remedy, severity: Severity::Error });
            }
        }
    }

    /// Takes models from a folder.
    pub fn pull_from(&self, folder: PathBuf, models: Vec<String>) {
        self.change(|pulls| pulls.add(models, Some(folder)));
    }

    pub fn pause_pull(&self, model: &str) {
        self.change(|pulls| {
            pulls.pause(model);
            false
        });
    }

    pub fn resume_pull(&self, model: &str) {
        self.change(|pulls| pulls.resume(model));
    }

    pub fn cancel_pull(&self, model: &str) {
        self.change(|pulls| {
            pulls.cancel(model);
            false
        });
    }

    /// Changes the queue, and starts working it off where `change` says so.
    fn change(&self, change: impl FnOnce(&Pulls) -> bool) {
        let Some(pulls) = &self.pulls else { return };
        if !change(pulls) {
            return;
        }
        let (pulls, store, events, inbox) =
            (Arc::clone(pulls), self.store.clone(), self.events.clone(), self.inbox.clone());
        let engine = self.engine.clone();
        self.runtime.spawn(async move {
            // A session that is gone needs no engine.
            let reload = || drop(inbox.send(Inbox::Command(Command::ReloadEngine)));
            // Talking begins as soon as the engine has what it needs, while larger models are still on their way.
            let has_all = || report_models(&store, &events, engine.as_deref());
            let arrived = || {
                if has_all() {
                    reload();
                }
            };
            let fetched = pulls.work(arrived).await;
            has_all();
            if fetched {
                reload();
            }
        });
    }
}

/// This desktop cannot ask for a file.
fn no_dialog(remedy: Told) -> Event {
    let what = Told::new(
        "dialog-none",
        "This desktop has no file dialog: neither xdg-desktop-portal nor zenity is installed.",
    );
    Event::Problem { what, remedy, severity: Severity::Warning }
}

/// What opens a folder as the desktop does it.
#[cfg(target_os = "windows")]
const FILE_MANAGER: &str = "explorer";
#[cfg(target_os = "macos")]
const FILE_MANAGER: &str = "open";
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
const FILE_MANAGER: &str = "xdg-open";

/// Opens a folder, which is made if it is not there, with this program; says so when that cannot be.
async fn show_folder(program: &str, folder: PathBuf, events: EventSink) {
    let shown = async {
        tokio::fs::create_dir_all(&folder).await?;
        let null = std::process::Stdio::null;
        let mut opener = tokio::process::Command::new(program);
        opener.arg(&folder).stdin(null()).stdout(null()).stderr(null()).status().await
    };
    // Windows' Explorer says 1 whatever comes of it.
    let opened = shown.await.is_ok_and(|status| status.success() || cfg!(target_os = "windows"));
    if !opened {
        let what = Told::new("folder-not-shown", "This desktop has no file manager that opens the folder");
        events.send(Event::Problem { what, remedy: folder.display().to_string().into(), severity: Severity::Warning });
    }
}

/// The user's folder for downloads, or else the home folder, or else the folder for temporary files.
fn downloads() -> PathBuf {
    let users = directories::UserDirs::new();
    let folder = users.as_ref().map(|dirs| dirs.download_dir().unwrap_or(dirs.home_dir()).to_owned());
    folder.filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir)
}

/// Tells how much memory this process has, every few seconds while it changes.
async fn watch_memory(events: EventSink) {
    let mut told = 0u64;
    loop {
        let bytes = memory_held();
        if bytes.abs_diff(told) > (told / 50).max(MEMORY_STEP) {
            told = bytes;
            if !events.send(Event::Memory { bytes }) {
                return;
            }
        }
        tokio::time::sleep(MEMORY_EVERY).await;
    }
}

/// Reads all files of a model again; gives what to tell.
fn checked(store: &Store, id: &str, cancel: &CancelToken) -> (Told, Severity) {
    let model = Catalog::built_in().and_then(|catalog| catalog.model(id));
    let states = model.and_then(|model| Ok((model, verify(store, model, &mut |_| {}, cancel)?)));
    let (model, states) = match states {
        Ok(found) => found,
        Err(error) => return (Told::from(&error), Severity::Warning),
    };
    match states.iter().find(|(_, state)| *state != FileState::Ready) {
        None => {
            let what = format!("{} is whole: every file is as it should be", model.title);
            (Told::new("model-whole", what).with("title", &model.title), Severity::Note)
        }
        Some((file, FileState::Damaged)) => {
            let what = Told::new("model-damaged", format!("{file} is damaged: pull the model again"));
            (what.with("file", file), Severity::Warning)
        }
        Some(_) => {
            let what = Told::new("weights-incomplete", format!("{} is not complete: pull it", model.title));
            (what.with("model", &model.title), Severity::Warning)
        }
    }
}

/// Deletes a model's files; gives what to tell.
fn removed(store: &Store, id: &str) -> (Told, Severity) {
    let gone = |id| -> Result<_, WeightsError> {
        let model = Catalog::built_in()?.model(id)?;
        Ok((model, store.remove(model)?))
    };
    match gone(id) {
        Ok((model, bytes)) => {
            let what = Told::new("model-removed", format!("{} was removed", model.title)).with("title", &model.title);
            (what.with_size("size", bytes), Severity::Note)
        }
        Err(error) => (Told::from(&error), Severity::Warning),
    }
}

/// Tells what is here of the catalog. Returns whether all of it is here that `engine` needs.
fn report_models(store: &Store, events: &EventSink, engine: Option<&str>) -> bool {
    let Ok(catalog) = Catalog::built_in() else { return false };
    let statuses: Vec<_> = store.installed(catalog).iter().map(|installed| status(store, installed, engine)).collect();
    let has_all = statuses.iter().all(|status| !status.needed || status.state == ModelState::Ready);
    events.send(Event::Models(statuses));
    has_all
}

fn status(store: &Store, installed: &Installed<'_>, engine: Option<&str>) -> ModelStatus {
    let model = installed.model;
    let here = installed.files.iter().filter(|f| f.state != FileState::Missing);
    let have: u64 = here.map(|f| f.size).sum();
    let broken = installed.files.iter().find(|f| f.state == FileState::Damaged);
    let state = match broken {
        _ if installed.is_complete() => ModelState::Ready,
        Some(file) => {
            let why = format!("{} is damaged: remove and pull it again", file.name);
            ModelState::Broken { why: Told::new("model-damaged", why).with("file", &file.name) }
        }
        None if have == 0 => ModelState::Absent,
        None => ModelState::Partial { have },
    };
    let kind = match model.role {
        Role::Omni => ModelKind::Omni,
        _ if model.starter => ModelKind::Starter,
        _ => ModelKind::Other,
    };
    ModelStatus {
        id: model.id.clone(),
        title: model.title.clone(),
        purpose: Told::named("purpose", &model.id, &model.purpose),
        licence: model.licence.clone(),
        bytes: store.resolved(model).download_size(),
        memory: model.memory,
        state,
        // The starter is needed beside any engine: to talk to while a large one is fetched, and to tell the end of a turn.
        needed: kind == ModelKind::Starter || (kind == ModelKind::Omni && engine == Some("omni")),
        thinks: model.role == Role::Llm,
        terms: model.terms.clone().filter(|_| !store.terms_accepted(model)),
        kind,
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::session::event;

    #[test]
    fn a_model_is_checked_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Some(home.path().into())).unwrap();
        let model = Catalog::built_in().unwrap().model("smart-turn").unwrap();
        let cancel = CancelToken::default();
        assert_eq!(checked(&store, &model.id, &cancel).0.key(), "weights-incomplete", "nothing is here");
        // As long as it should be, and nothing else: a sparse file of zeros.
        let (name, size, _) = model.files[0].kept();
        std::fs::create_dir_all(store.dir_of(&model.id)).unwrap();
        let file = std::fs::File::create(store.dir_of(&model.id).join(name)).unwrap();
        file.set_len(size).unwrap();
        let (what, severity) = checked(&store, &model.id, &cancel);
        assert_eq!((what.key(), severity), ("model-damaged", Severity::Warning));
        let (what, severity) = removed(&store, &model.id);
        assert_eq!((what.key(), severity), ("model-removed", Severity::Note));
        assert!(!store.dir_of(&model.id).exists());
        assert_eq!(removed(&store, "no-such-model").1, Severity::Warning);
    }

    #[test]
    fn a_folder_is_made_and_shown_and_a_desktop_that_cannot_is_told_of() {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // `ls` succeeds with a folder that is there.
        for (program, told) in [("ls", false), ("false", true), ("no-such-file-manager", true)] {
            let (sink, source) = event::channel();
            let folder = home.path().join(program);
            runtime.block_on(show_folder(program, folder.clone(), sink));
            assert!(folder.is_dir());
            let event = source.try_next().ok();
            assert_eq!(event.is_some(), told, "{program}: {event:?}");
            if let Some(Event::Problem { remedy, .. }) = event {
                assert_eq!(remedy.to_string(), folder.display().to_string());
            }
        }
    }
}
