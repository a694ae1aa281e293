//! Sound cards and files. The only room that names `cpal`.
//!
//! ```text
//! device -> capture callback -> ring -> CaptureEnd  (the ear thread reads)
//! device <- playback callback <- ring <- PlaybackEnd (the mouth thread pushes)
//! ```
//!
//! A [`Card`] is a microphone, a loudspeaker, or both. Its streams live on threads of their own (`stream_thread`), or it is
//! a [`VirtualCard`] that runs the same callbacks without any hardware. Invariant: what runs inside a callback
//! ([`capture::CaptureCallback`], [`playback::PlaybackCallback`]) never locks, allocates, logs, calls the system or
//! panics; `tests/realtime.rs` proves it.

pub mod capture;
mod clock;
pub mod crossfade;
pub mod device;
pub mod echo;
mod error;
mod fade;
pub mod file;
mod health;
pub mod jitter;
mod meter;
pub mod playback;
pub mod ring;
mod stream_thread;
mod supply;
pub mod virtual_card;

pub use capture::{CaptureEnd, CaptureShared};
pub use clock::{Anchor, PlayedTimeline};
pub use crossfade::Joiner;
pub use device::{CardChoice, DeviceId, DeviceInfo, DeviceList, list};
pub use echo::{Cancelled, EchoCanceller, FarEnd};
pub use error::AudioError;
pub use file::{Clip, FileError};
pub use health::{Backoff, Health, StreamPulse, Trouble, Watch};
pub use meter::PeakMeter;
pub use playback::{PlaybackControl, PlaybackEnd, Tap};
pub use supply::{CardSupply, SystemCards, Teller, Watching};
pub use virtual_card::{Room, SimulatedCard, StereoRecording, VirtualCard, VirtualCardHandle};

use crate::time::Micros;
use std::sync::Arc;

/// Which way sound goes through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A microphone.
    Input,
    /// A loudspeaker.
    Output,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::Input => "microphone",
            Direction::Output => "loudspeaker",
        })
    }
}

/// An open sound card. The two ends are taken by the threads that use them (`card.capture.take()`); the card itself
/// stays with the session, keeps the streams alive, and closes them when dropped.
pub struct Card {
    /// The microphone, if one was wanted and nobody has taken it yet.
    pub capture: Option<CaptureEnd>,
    /// The loudspeaker, if one was wanted and nobody has taken it yet.
    pub playback: Option<PlaybackEnd>,
    choice: CardChoice,
    input: Option<Watched>,
    output: Option<Watched>,
    /// Keeps the streams of a real device open; closes them when dropped.
    streams: stream_thread::Streams,
}

/// A stream's pulse and who judges it.
struct Watched {
    pulse: Arc<StreamPulse>,
    watch: Watch,
}

impl Watched {
    fn new(pulse: &Arc<StreamPulse>) -> Self {
        Self { pulse: pulse.clone(), watch: Watch::new(Micros::now()) }
    }
}

impl Card {
    /// Opens the chosen devices. Blocks for as long as the sound service takes, at most some seconds.
    pub fn open(choice: &CardChoice) -> Result<Card, AudioError> {
        device::open(choice)
    }

    /// The microphone and the loudspeaker as two cards, each to be closed by itself.
    pub fn split(self) -> (Card, Card) {
        let Card { capture, playback, choice, input, output, streams } = self;
        let (theirs, ours) = streams.split();
        let none = CardChoice { want_input: false, want_output: false, ..choice.clone() };
        let alone = CardChoice { want_input: true, ..none.clone() };
        let microphone = Card { capture, playback: None, choice: alone, input, output: None, streams: theirs };
        let alone = CardChoice { want_output: true, ..none };
        (microphone, Card { capture: None, playback, choice: alone, input: None, output, streams: ours })
    }

    /// What was asked for when the card was opened.
    pub fn choice(&self) -> &CardChoice {
        &self.choice
    }

    /// Whether the streams are alive. To be called several times a second, from one thread.
    pub fn health(&mut self, now: Micros) -> Health {
        let look = |w: &mut Option<Watched>| w.as_mut().and_then(|w| w.watch.look(&w.pulse, now));
        Health { input: look(&mut self.input), output: look(&mut self.output) }
    }

    fn new(
        choice: CardChoice,
        capture: Option<CaptureEnd>,
        playback: Option<PlaybackEnd>,
        streams: stream_thread::Streams,
    ) -> Card {
        let input = capture.as_ref().map(|c| Watched::new(&c.shared.pulse));
        let output = playback.as_ref().map(|p| Watched::new(&p.control.pulse));
        Card { capture, playback, choice, input, output, streams }
    }
}
