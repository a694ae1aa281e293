//! Errands of a session that take long and concern no turn: fetching models. They run on the background runtime, report
//! through the event channel, and can be called off. Owned by the session thread.

use super::command::Command;
use super::event::{Event, EventSink, ModelState, ModelStatus, PullProgress, PullState, Severity};
use super::inbox::Inbox;
use crate::engine::CancelToken;
use crate::weights::{Catalog, FileState, Model, Progress, PullOptions, Source, Store, WeightsError, pull};
use std::sync::mpsc::SyncSender;

/// The errand boy.
pub struct Errands {
    runtime: tokio::runtime::Runtime,
    store: Store,
    events: EventSink,
    inbox: SyncSender<Inbox>,
    cancel: CancelToken,
}

impl Errands {
    /// Starts the background runtime.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub fn new(store: Store, events: EventSink, inbox: SyncSender<Inbox>) -> Result<Self, std::io::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()?;
        Ok(Errands { runtime, store, events, inbox, cancel: CancelToken::default() })
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

    /// Fetches these models one after the other, then has the engine loaded.
    pub fn pull(&mut self, ids: Vec<String>) {
        self.cancel.cancel();
        self.cancel = CancelToken::default();
        let (store, events, inbox, cancel) =
            (self.store.clone(), self.events.clone(), self.inbox.clone(), self.cancel.clone());
        self.runtime.spawn(async move {
            let outcome = fetch(&store, &ids, &events, &cancel).await;
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

async fn fetch(store: &Store, ids: &[String], events: &EventSink, cancel: &CancelToken) -> Result<(), WeightsError> {
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
        let outcome = pull(store, &[model], &PullOptions::default(), &mut report, cancel).await;
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
