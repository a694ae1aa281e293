//! Errands of a session that take long and concern no turn: fetching models, asking for files. They run on the background runtime, report
//! through the event channel, and can be called off. Owned by the session thread.

use super::command::Command;
use super::event::{Event, EventSink, ModelState, ModelStatus, PullProgress, PullState, Severity};
use super::inbox::Inbox;
use super::voices::VoiceCommand;
use crate::engine::CancelToken;
use crate::time::Micros;
use crate::weights::{Catalog, FileState, Model, Progress, PullOptions, Source, Store, WeightsError, pull};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

/// A dialog that is gone sooner than this was never there (26 ms where neither portal nor zenity exists).
const NO_DIALOG: Duration = Duration::from_millis(150);

/// What runs in the background for one session.
pub struct Errands {
    runtime: tokio::runtime::Runtime,
    store: Store,
    voices: Sender<VoiceCommand>,
    events: EventSink,
    inbox: SyncSender<Inbox>,
    cancel: CancelToken,
}

impl Errands {
    /// Starts the background runtime.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub fn new(
        store: Store,
        voices: Sender<VoiceCommand>,
        events: EventSink,
        inbox: SyncSender<Inbox>,
    ) -> Result<Self, std::io::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()?;
        Ok(Errands { runtime, store, voices, events, inbox, cancel: CancelToken::default() })
    }

    /// Tells which models there are and what is here of them.
    pub fn report_models(&self) {
        let (store, events) = (self.store.clone(), self.events.clone());
        self.runtime.spawn_blocking(move || report_models(&store, &events));
    }

    /// Stops fetching; what has arrived is kept.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Asks for a folder and takes the starter models from it that are not here yet.
    pub fn import(&mut self) {
        let (events, inbox) = (self.events.clone(), self.inbox.clone());
        let dialog = rfd::AsyncFileDialog::new().set_title("Folder with downloaded models");
        self.runtime.spawn(async move {
            let asked = Micros::now();
            match dialog.pick_folder().await {
                // The session is gone only when the program ends.
                Some(folder) => drop(inbox.send(Inbox::Folder(folder.path().to_owned()))),
                // Nobody closes a dialog this fast: there was none to close.
                None if Micros::now().since(asked) < NO_DIALOG => {
                    let what = "this desktop has no file dialog".to_owned();
                    let remedy = "Use `antiphon models pull --from FOLDER` in a terminal.".to_owned();
                    events.send(Event::Problem { what, remedy, severity: Severity::Warning });
                }
                None => {}
            }
        });
    }

    /// Something about voices, for the voices thread.
    pub fn voice(&self, command: VoiceCommand) {
        if command != VoiceCommand::Ask {
            // That thread ends when this sender is dropped.
            let _ = self.voices.send(command);
            return;
        }
        let (events, voices) = (self.events.clone(), self.voices.clone());
        let dialog = rfd::AsyncFileDialog::new()
            .set_title("A recording of the voice")
            .add_filter("Sound", &["wav", "flac", "mp3", "ogg", "oga", "aiff", "aif"]);
        self.runtime.spawn(async move {
            let asked = Micros::now();
            match dialog.pick_file().await {
                Some(file) => drop(voices.send(VoiceCommand::Check { file: file.path().to_owned() })),
                None if Micros::now().since(asked) < NO_DIALOG => {
                    let what = "this desktop has no file dialog".to_owned();
                    let remedy = "Drop the file onto the window, or use `antiphon voices add FILE`.".to_owned();
                    events.send(Event::Problem { what, remedy, severity: Severity::Warning });
                }
                None => {}
            }
        });
    }

    /// Fetches these models one after the other, then has the engine loaded.
    pub fn pull(&mut self, ids: Vec<String>) {
        self.fetch(ids, PullOptions::default());
    }

    /// Takes what is missing of the starter models from a folder.
    pub fn pull_from(&mut self, folder: PathBuf) {
        let Ok(catalog) = Catalog::built_in() else { return };
        let missing = catalog.starter().into_iter().filter(|m| !self.store.is_ready(m)).map(|m| m.id.clone());
        self.fetch(missing.collect(), PullOptions { from: Some(folder), ..PullOptions::default() });
    }

    fn fetch(&mut self, ids: Vec<String>, options: PullOptions) {
        self.cancel.cancel();
        self.cancel = CancelToken::default();
        let (store, events, inbox, cancel) =
            (self.store.clone(), self.events.clone(), self.inbox.clone(), self.cancel.clone());
        self.runtime.spawn(async move {
            let outcome = fetch(&store, &ids, &options, &events, &cancel).await;
            report_models(&store, &events);
            if let Err(error) = outcome {
                let remedy = "Try again: what has arrived is kept.".to_owned();
                events.send(Event::Problem { what: error.to_string(), remedy, severity: Severity::Error });
            } else if !cancel.is_cancelled() {
                // A session that is gone needs no engine.
                let _ = inbox.send(Inbox::Command(Command::ReloadEngine));
            }
        });
    }
}

async fn fetch(
    store: &Store,
    ids: &[String],
    options: &PullOptions,
    events: &EventSink,
    cancel: &CancelToken,
) -> Result<(), WeightsError> {
    let catalog = Catalog::built_in()?;
    let models = ids.iter().map(|id| catalog.model(id)).collect::<Result<Vec<&Model>, _>>()?;
    let total: u64 = models.iter().map(|m| m.download_size()).sum();
    let mut before = 0;
    for model in models {
        let tell = |state, done, bytes_per_second| {
            let progress = PullProgress { id: model.id.clone(), state, done, total, bytes_per_second };
            events.send(Event::Pull(progress));
        };
        let mut report = |p: Progress| {
            let state = match p.source {
                Source::Hub | Source::Mirror | Source::Folder | Source::Waiting => PullState::Fetching,
                Source::Joining | Source::Checking | Source::Converting | Source::Ready => PullState::Checking,
            };
            let earlier: u64 = model.files.iter().take_while(|f| f.name != p.file).map(|f| f.size).sum();
            tell(state, before + earlier + p.done_bytes.min(p.total_bytes), p.bytes_per_second);
        };
        let outcome = pull(store, &[model], options, &mut report, cancel).await;
        before += model.download_size();
        match outcome {
            Ok(()) => tell(PullState::Done, before, 0.0),
            Err(WeightsError::Cancelled) => {
                tell(PullState::Cancelled, before, 0.0);
                return Ok(());
            }
            Err(error) => {
                let remedy = "Try again: what has arrived is kept.".to_owned();
                tell(PullState::Failed { why: error.to_string(), remedy }, before, 0.0);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn report_models(store: &Store, events: &EventSink) {
    let Ok(catalog) = Catalog::built_in() else { return };
    let installed = store.installed(catalog);
    let statuses = installed.iter().map(|installed| {
        let model = installed.model;
        let here = installed.files.iter().filter(|f| f.state != FileState::Missing);
        let have: u64 = here.map(|f| f.size).sum();
        let broken = installed.files.iter().find(|f| f.state == FileState::Damaged);
        let state = match broken {
            _ if installed.is_complete() => ModelState::Ready,
            Some(file) => ModelState::Broken { why: format!("{} is damaged: remove and pull it again", file.name) },
            None if have == 0 => ModelState::Absent,
            None => ModelState::Partial { have },
        };
        ModelStatus {
            id: model.id.clone(),
            title: model.title.clone(),
            purpose: model.purpose.clone(),
            licence: model.licence.clone(),
            bytes: model.download_size(),
            state,
            needed: model.starter,
        }
    });
    let statuses = statuses.collect();
    events.send(Event::Models(statuses));
}
