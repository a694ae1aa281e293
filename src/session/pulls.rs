//! The models a session fetches: one after the other, each of which can be paused, gone on with, and called off.
//!
//! The queue is shared by the session thread, which changes it, and one task on the background runtime, which works it
//! off and lives as long as there is something in it. Invariant: a model is in at most one place: waiting, being
//! fetched, or paused. What has arrived of a model is kept whatever happens.

use super::event::{Event, EventSink, PullProgress, PullState, Severity};
use super::told::Told;
use crate::engine::CancelToken;
use crate::weights::{Catalog, Progress, PullOptions, Source, Store, WeightsError, pull};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A model to fetch.
#[derive(Clone, Debug)]
struct Wanted {
    id: String,
    /// The folder to take it from, instead of the network.
    from: Option<PathBuf>,
    /// How many bytes it has.
    bytes: u64,
}

/// Why the model at hand is to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Pause,
    Cancel,
}

/// The model at hand.
struct Now {
    wanted: Wanted,
    cancel: CancelToken,
    stop: Option<Stop>,
    /// Bytes of it that are here.
    here: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Wanted>,
    paused: Vec<Wanted>,
    now: Option<Now>,
    /// Whether the task is there.
    working: bool,
    /// Bytes of the models that are done with and of all that are asked for, since the queue was last empty.
    done: u64,
    total: u64,
    /// Whether something has come since the queue was last empty.
    fetched: bool,
}

/// The queue. Shared between threads by its `Arc`.
pub(super) struct Pulls {
    queue: Mutex<Queue>,
    store: Store,
    catalog: &'static Catalog,
    options: PullOptions,
    events: EventSink,
}

impl Pulls {
    pub fn new(store: Store, catalog: &'static Catalog, options: PullOptions, events: EventSink) -> Arc<Self> {
        Arc::new(Pulls { queue: Mutex::default(), store, catalog, options, events })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change is one step: a thread that panicked left the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for models. Returns whether [`work`](Pulls::work) must be started.
    pub fn add(&self, ids: Vec<String>, from: Option<PathBuf>) -> bool {
        let mut queue = self.queue();
        for id in ids {
            let here = queue.now.as_ref().is_some_and(|n| n.wanted.id == id && n.stop.is_none());
            if here || queue.waiting.iter().any(|w| w.id == id) {
                continue;
            }
            queue.paused.retain(|w| w.id != id);
            // A name the catalog does not have is told when it is its turn.
            let bytes = self.catalog.model(&id).map_or(0, |m| self.store.resolved(m).download_size());
            queue.total += bytes;
            queue.waiting.push_back(Wanted { id, from: from.clone(), bytes });
        }
        self.tell_waiting(&queue);
        queue.start()
    }

    /// Stops fetching a model until it is [resumed](Pulls::resume).
    pub fn pause(&self, id: &str) {
        let mut queue = self.queue();
        if queue.stop(id, Stop::Pause) {
            return;
        }
        if let Some(wanted) = queue.take_waiting(id) {
            let here = self.here(&wanted.id);
            self.tell(&wanted, PullState::Paused, here, wanted.bytes, 0.0);
            queue.paused.push(wanted);
            self.tell_waiting(&queue);
        }
    }

    /// Goes on with a paused model. Returns whether [`work`](Pulls::work) must be started.
    pub fn resume(&self, id: &str) -> bool {
        let mut queue = self.queue();
        let stopping = queue.now.as_ref().filter(|n| n.wanted.id == id && n.stop == Some(Stop::Pause));
        let wanted = match (queue.paused.iter().position(|w| w.id == id), stopping) {
            (Some(at), _) => queue.paused.remove(at),
            // It has not even stopped yet: it will, and then be taken up again.
            (None, Some(now)) if !queue.waiting.iter().any(|w| w.id == id) => now.wanted.clone(),
            _ => return false,
        };
        queue.total += wanted.bytes;
        queue.waiting.push_back(wanted);
        self.tell_waiting(&queue);
        queue.start()
    }

    /// Calls a model off.
    pub fn cancel(&self, id: &str) {
        let mut queue = self.queue();
        if queue.stop(id, Stop::Cancel) {
            return;
        }
        let paused = queue.paused.iter().position(|w| w.id == id).map(|at| queue.paused.remove(at));
        if let Some(wanted) = paused.or_else(|| queue.take_waiting(id)) {
            let here = self.here(&wanted.id);
            self.tell(&wanted, PullState::Cancelled, here, wanted.bytes, 0.0);
            self.tell_waiting(&queue);
        }
    }

    /// Calls everything off.
    pub fn cancel_all(&self) {
        let mut queue = self.queue();
        queue.waiting.clear();
        queue.paused.clear();
        self.tell_waiting(&queue);
        if let Some(now) = &mut queue.now {
            now.stop = Some(Stop::Cancel);
            now.cancel.cancel();
        }
    }

    /// Fetches what is in the queue until it is empty, and tells `arrived` after each model. Returns whether anything new is
    /// here.
    pub async fn work(&self, arrived: impl Fn()) -> bool {
        loop {
            let (wanted, cancel) = {
                let mut queue = self.queue();
                let Some(wanted) = queue.waiting.pop_front() else {
                    let fetched = queue.fetched;
                    let paused = std::mem::take(&mut queue.paused);
                    *queue = Queue { paused, ..Queue::default() };
                    return fetched;
                };
                let cancel = CancelToken::default();
                queue.now = Some(Now { wanted: wanted.clone(), cancel: cancel.clone(), stop: None, here: 0 });
                self.tell_waiting(&queue);
                (wanted, cancel)
            };
            let outcome = self.fetch(&wanted, &cancel).await;
            let came = outcome.is_ok();
            self.finish(outcome);
            if came {
                arrived();
            }
        }
    }

    async fn fetch(&self, wanted: &Wanted, cancel: &CancelToken) -> Result<(), WeightsError> {
        let model = self.catalog.model(&wanted.id)?;
        let options = PullOptions { from: wanted.from.clone(), ..self.options.clone() };
        let mut report = |p: Progress| {
            let state = if p.source.brings() || p.source == Source::Waiting {
                PullState::Fetching
            } else {
                PullState::Checking
            };
            let (done, total) = self.queue().come_to(&p);
            self.tell(wanted, state, done, total, p.bytes_per_second);
        };
        pull(&self.store, &[model], &options, &mut report, cancel).await
    }

    fn finish(&self, outcome: Result<(), WeightsError>) {
        let mut queue = self.queue();
        let Some(Now { wanted, stop, here, .. }) = queue.now.take() else { return };
        let (done, total) = (queue.done + here, queue.total);
        match (outcome, stop) {
            (Ok(()), _) => {
                queue.done += wanted.bytes;
                queue.fetched = true;
                self.tell(&wanted, PullState::Done, queue.done, total, 0.0);
                return;
            }
            (Err(WeightsError::Cancelled), Some(Stop::Pause)) => {
                self.tell(&wanted, PullState::Paused, done, total, 0.0);
                if !queue.waiting.iter().any(|w| w.id == wanted.id) {
                    queue.paused.push(wanted.clone());
                }
            }
            (Err(WeightsError::Cancelled), _) => self.tell(&wanted, PullState::Cancelled, done, total, 0.0),
            (Err(error), _) => {
                // Whatever it is (no network, a full disk), the next model would meet it too.
                queue.waiting.clear();
                self.tell_waiting(&queue);
                let remedy = match error {
                    WeightsError::Terms { .. } => {
                        Told::new("pull-read-terms", "Read its licence under Models and agree to it there.")
                    }
                    _ => Told::new("pull-again", "Try again: what has arrived is kept."),
                };
                let what = Told::from(&error);
                let failed = PullState::Failed { why: what.clone(), remedy: remedy.clone() };
                self.tell(&wanted, failed, done, total, 0.0);
                self.events.send(Event::Problem { what, remedy, severity: Severity::Error });
            }
        }
        queue.total = queue.total.saturating_sub(wanted.bytes);
    }

    /// Bytes of a model that are on the disk.
    fn here(&self, id: &str) -> u64 {
        let Ok(model) = self.catalog.model(id) else { return 0 };
        self.store.bytes_here(model)
    }

    /// Which models wait for their turn.
    fn tell_waiting(&self, queue: &Queue) {
        self.events.send(Event::PullsWaiting(queue.waiting.iter().map(|w| w.id.clone()).collect()));
    }

    fn tell(&self, wanted: &Wanted, state: PullState, done: u64, total: u64, bytes_per_second: f64) {
        self.events.send(Event::Pull(PullProgress { id: wanted.id.clone(), state, done, total, bytes_per_second }));
    }
}

impl Queue {
    /// Whether there is work and nobody does it; then somebody must.
    fn start(&mut self) -> bool {
        let needed = !self.working && !self.waiting.is_empty();
        self.working |= needed;
        needed
    }

    /// Tells the model at hand to stop, if it is this one.
    fn stop(&mut self, id: &str, why: Stop) -> bool {
        match &mut self.now {
            Some(now) if now.wanted.id == id => {
                now.stop = Some(why);
                now.cancel.cancel();
                true
            }
            _ => false,
        }
    }

    fn take_waiting(&mut self, id: &str) -> Option<Wanted> {
        let at = self.waiting.iter().position(|w| w.id == id)?;
        let wanted = self.waiting.remove(at)?;
        self.total = self.total.saturating_sub(wanted.bytes);
        Some(wanted)
    }

    /// Notes how far the model at hand is. Gives the bytes that are here and the bytes there are, of the whole.
    fn come_to(&mut self, p: &Progress) -> (u64, u64) {
        if let Some(now) = &mut self.now {
            // What the catalog knows only about becomes exact when the hub has told.
            self.total = (self.total + p.all_total).saturating_sub(now.wanted.bytes);
            now.wanted.bytes = p.all_total;
            now.here = p.all_done;
        }
        (self.done + p.all_done, self.total)
    }
}

#[cfg(test)]
mod tests;
