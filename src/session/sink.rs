//! Where an engine's words and sound go: words to the session, sound to the mouth, each under the reply's epoch.
//!
//! Used from the engine's threads. Only [`ResponseSink::audio`] may wait, while the mouth is far behind, and it gives
//! up within a few milliseconds of a cancel.

use super::inbox::{EngineEvent, Inbox};
use super::mouth::MouthJob;
use crate::engine::{CancelToken, PcmChunk, ResponseSink};
use crate::metrics::StageMark;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// How long to wait before trying a full channel again.
const RETRY: Duration = Duration::from_millis(4);

/// One reply's sink (or, with epoch 0, that of the hearing before it).
pub struct SessionSink {
    epoch: u64,
    cancel: CancelToken,
    inbox: SyncSender<Inbox>,
    mouth: SyncSender<MouthJob>,
}

impl SessionSink {
    pub fn new(epoch: u64, cancel: CancelToken, inbox: SyncSender<Inbox>, mouth: SyncSender<MouthJob>) -> Self {
        SessionSink { epoch, cancel, inbox, mouth }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    fn tell(&self, event: EngineEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Engine(event));
    }
}

impl ResponseSink for SessionSink {
    fn heard(&self, text: &str, is_final: bool) {
        self.tell(EngineEvent::Heard { text: text.to_owned(), is_final });
    }

    fn text(&self, piece: &str) {
        self.tell(EngineEvent::Text { epoch: self.epoch, piece: piece.to_owned() });
    }

    fn audio(&self, chunk: PcmChunk) -> bool {
        let mut job = MouthJob::Chunk { epoch: self.epoch, chunk };
        while !self.cancel.is_cancelled() {
            match self.mouth.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => job = back,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            std::thread::sleep(RETRY);
        }
        false
    }

    fn mark(&self, mark: StageMark) {
        self.tell(EngineEvent::Mark(StageMark { epoch: self.epoch, ..mark }));
    }
}
