//! Sound played through the loudspeaker while nobody speaks: a sample of a voice, or a turn again. Owned by the session
//! thread.
//!
//! It takes the way of a reply, under an epoch that no reply ever has. Invariant: what the mouth says of such an epoch
//! concerns no turn.

use super::card_keeper::CardKeeper;
use super::event::{Event, Replay};
use super::inbox::MouthEvent;
use super::mouth::MouthJob;
use super::orchestrator::Wires;
use super::voices::VoiceEvent;
use crate::engine::PcmChunk;
use std::sync::atomic::Ordering;

/// Replies count from 1, and never get here.
const FIRST_EPOCH: u64 = 1 << 62;

/// What it is that is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// A sample of a voice.
    Voice,
    /// A side of a turn, again.
    Turn(Replay),
}

impl Aside {
    /// What the door is told when it begins and when it ends.
    fn told(self, on: bool) -> Event {
        match self {
            Aside::Voice => Event::Voice(VoiceEvent::Previewing(on)),
            Aside::Turn(replay) => Event::Replaying(on.then_some(replay)),
        }
    }
}

/// What is being played, if anything.
#[derive(Default)]
pub struct Preview {
    played: u64,
    on: Option<(u64, Aside)>,
}

impl Preview {
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Whether a turn is being played again.
    pub fn is_replay(&self) -> bool {
        matches!(self.on, Some((_, Aside::Turn(_))))
    }

    /// Begins to play `samples`, mono at `rate` hertz, instead of what was played before.
    pub fn play(&mut self, what: Aside, samples: Vec<f32>, rate: u32, wires: &Wires, cards: &CardKeeper) {
        self.stop(wires, cards);
        let epoch = FIRST_EPOCH + self.played;
        self.played += 1;
        self.on = Some((epoch, what));
        wires.live.store(epoch, Ordering::Release);
        let chunk = PcmChunk { samples, overlap: 0, text_end: 0, last: true };
        // The mouth outlives the session thread: it ends when this sender is dropped.
        let _ = wires.mouth.send(MouthJob::Begin { epoch, rate, overlap: 0 });
        let _ = wires.mouth.send(MouthJob::Chunk { epoch, chunk });
        wires.events.send(what.told(true));
    }

    /// Falls silent. No effect when nothing is played.
    pub fn stop(&mut self, wires: &Wires, cards: &CardKeeper) {
        if self.is_on() {
            self.end(wires);
            cards.flush();
        }
    }

    /// Nothing is played any more.
    fn end(&mut self, wires: &Wires) {
        if let Some((epoch, what)) = self.on.take() {
            // A reply that has begun meanwhile goes on.
            let _ = wires.live.compare_exchange(epoch, 0, Ordering::AcqRel, Ordering::Acquire);
            wires.events.send(what.told(false));
        }
    }

    /// Takes what the mouth says of a sample; `false` when it speaks of a reply.
    pub fn takes(&mut self, event: &MouthEvent, wires: &Wires) -> bool {
        let epoch = match event {
            MouthEvent::FirstAudio { epoch, .. }
            | MouthEvent::Spoken { epoch, .. }
            | MouthEvent::Played { epoch }
            | MouthEvent::Made { epoch, .. } => *epoch,
            MouthEvent::Mark(mark) => mark.epoch,
        };
        if matches!(event, MouthEvent::Played { .. }) && self.on.is_some_and(|(on, _)| on == epoch) {
            self.end(wires);
        }
        epoch >= FIRST_EPOCH
    }
}
