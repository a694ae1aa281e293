//! A sample played through the loudspeaker while nobody speaks. Owned by the session thread.
//!
//! It takes the way of a reply, under an epoch that no reply ever has. Invariant: what the mouth says of such an epoch
//! concerns no turn.

use super::card_keeper::CardKeeper;
use super::event::Event;
use super::inbox::MouthEvent;
use super::mouth::MouthJob;
use super::orchestrator::Wires;
use super::voices::VoiceEvent;
use crate::engine::{HEARING_RATE, PcmChunk};
use std::sync::atomic::Ordering;

/// Replies count from 1, and never get here.
const FIRST_EPOCH: u64 = 1 << 62;

/// What is being played.
#[derive(Default)]
pub struct Preview {
    played: u64,
    on: Option<u64>,
}

impl Preview {
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Begins to play `samples`, 16 kHz mono, instead of what was played before.
    pub fn play(&mut self, samples: &[f32], wires: &Wires, cards: &CardKeeper) {
        self.stop(wires, cards);
        let epoch = FIRST_EPOCH + self.played;
        self.played += 1;
        self.on = Some(epoch);
        wires.live.store(epoch, Ordering::Release);
        let chunk = PcmChunk { samples: samples.to_vec(), overlap: 0, text_end: 0, last: true };
        // The mouth outlives the session thread: it ends when this sender is dropped.
        let _ = wires.mouth.send(MouthJob::Begin { epoch, rate: HEARING_RATE, overlap: 0 });
        let _ = wires.mouth.send(MouthJob::Chunk { epoch, chunk });
        wires.events.send(Event::Voice(VoiceEvent::Previewing(true)));
    }

    /// Falls silent. No effect when nothing is played.
    pub fn stop(&mut self, wires: &Wires, cards: &CardKeeper) {
        if let Some(epoch) = self.on.take() {
            // A reply that has begun meanwhile goes on.
            let _ = wires.live.compare_exchange(epoch, 0, Ordering::AcqRel, Ordering::Acquire);
            cards.flush();
            wires.events.send(Event::Voice(VoiceEvent::Previewing(false)));
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
        if matches!(event, MouthEvent::Played { .. }) && self.on == Some(epoch) {
            self.on = None;
            let _ = wires.live.compare_exchange(epoch, 0, Ordering::AcqRel, Ordering::Acquire);
            wires.events.send(Event::Voice(VoiceEvent::Previewing(false)));
        }
        epoch >= FIRST_EPOCH
    }
}
