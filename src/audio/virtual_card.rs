//! A sound card without hardware: it runs the same callbacks as a real one, with buffers of 10 ms.
//!
//! [`VirtualCard::start`] paces itself by the clock on a thread of its own, catching up without drift;
//! [`VirtualCard::simulated`] has no thread and no clock: a test steps it by hand, as fast as it can. Both record what
//! the user said and what the assistant answered, sample for sample at the same moments.
//!
//! Buffer k of the loudspeaker is asked for at time k·10 ms and sounds from then on; buffer k of the microphone holds
//! what was said from then on and arrives 10 ms later, as with a device that has no delay of its own. The recording
//! grows for as long as the card lives (23 MB a minute at 48 kHz).

use super::capture::CaptureCallback;
use super::playback::PlaybackCallback;
use super::stream_thread::Streams;
use super::{AudioError, Card, CardChoice};
use crate::dsp::level;
use crate::time::Micros;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Length of a buffer.
const TICK_MS: u64 = 10;

/// Both sides of a conversation, of the same length, on one clock.
#[derive(Clone, Debug, PartialEq)]
pub struct StereoRecording {
    /// Samples per second.
    pub rate: u32,
    /// What went into the microphone.
    pub user: Vec<f32>,
    /// What came out of the loudspeaker.
    pub assistant: Vec<f32>,
    /// When sample 0 of both sides happened.
    pub start: Micros,
}

/// How the loudspeaker is heard by the microphone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Room {
    /// The room's answer to one sample: how many samples later, and how loud.
    pub taps: Vec<(usize, f32)>,
}

impl Room {
    /// One echo, `db` below what is played (a negative number), so many milliseconds later, at the card's rate.
    pub fn echo(db: f32, delay_ms: u64, rate: u32) -> Room {
        Room { taps: vec![((delay_ms * u64::from(rate) / 1000) as usize, level::from_db(db))] }
    }
}

/// Makes cards without hardware.
pub struct VirtualCard;

impl VirtualCard {
    /// A card that runs by the clock until its handle is dropped or stopped.
    pub fn start(rate: u32) -> Result<(Card, VirtualCardHandle), AudioError> {
        Self::run_in(Room::default(), rate, 1)
    }

    /// The same in a room where the microphone hears the loudspeaker.
    pub fn start_in(room: Room, rate: u32) -> Result<(Card, VirtualCardHandle), AudioError> {
        Self::run_in(room, rate, 1)
    }

    /// A card whose clock runs `speed` times too fast: what it captures and plays is dated by that clock.
    pub fn hurried(rate: u32, speed: u32) -> Result<(Card, VirtualCardHandle), AudioError> {
        Self::run_in(Room::default(), rate, speed)
    }

    fn run_in(room: Room, rate: u32, speed: u32) -> Result<(Card, VirtualCardHandle), AudioError> {
        let (card, mut inner) = Inner::new(rate, Micros::now());
        inner.room = room;
        let (say, said) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("antiphon-virtual".into())
            .spawn(move || {
                inner.run(&said, &theirs, u64::from(speed.max(1)));
                inner.into_recording()
            })
            .map_err(|e| AudioError::Exhausted { detail: e.to_string() })?;
        Ok((card, VirtualCardHandle { say, shared, thread: Some(thread) }))
    }

    /// A card whose time passes only when [`SimulatedCard::step`] is called. It begins at time `start`.
    pub fn simulated(rate: u32, start: Micros) -> (Card, SimulatedCard) {
        let (card, inner) = Inner::new(rate, start);
        (card, SimulatedCard(inner))
    }
}

/// What the thread tells its handle.
#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU64,
    said: AtomicU64,
    said_at: AtomicU64,
    stop: AtomicBool,
    unplugged: AtomicBool,
    frozen: AtomicBool,
}

/// Speaks into a running virtual card, and listens to it.
pub struct VirtualCardHandle {
    say: Sender<Vec<f32>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<StereoRecording>>,
}

impl VirtualCardHandle {
    /// Speaks into the microphone, after what is being said already: mono at the card's rate.
    pub fn say(&self, samples: Vec<f32>) {
        self.shared.asked.fetch_add(samples.len() as u64, Ordering::AcqRel);
        // A card that was stopped hears nothing; `said` then stays false.
        let _ = self.say.send(samples);
    }

    /// Whether everything that was to be said has been said.
    pub fn said(&self) -> bool {
        self.shared.said.load(Ordering::Acquire) >= self.shared.asked.load(Ordering::Acquire)
    }

    /// When the last sample was said; `None` while some is left, or when nothing was ever said.
    pub fn say_end(&self) -> Option<Micros> {
        let end = self.said().then(|| self.shared.said_at.load(Ordering::Acquire))?;
        (end > 0).then_some(Micros(end))
    }

    /// Pulls the plug: the callbacks stop for good, and the card reports that its devices are lost.
    pub fn unplug(&self) {
        self.shared.unplugged.store(true, Ordering::Release);
    }

    /// Stops the callbacks without a word, as a sound service that hangs or a computer that sleeps.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::Release);
    }

    /// Ends the card, and gives what was said and answered.
    pub fn stop(mut self) -> StereoRecording {
        self.shared.stop.store(true, Ordering::Release);
        let empty = StereoRecording { rate: 0, user: Vec::new(), assistant: Vec::new(), start: Micros(0) };
        self.thread.take().map_or(empty.clone(), |t| t.join().unwrap_or(empty))
    }
}

impl Drop for VirtualCardHandle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// A virtual card with a clock that only moves by hand.
pub struct SimulatedCard(Inner);

impl SimulatedCard {
    /// Lets `frames` pass: one microphone buffer and one loudspeaker buffer of that size.
    pub fn step(&mut self, frames: usize) {
        self.0.begin(frames);
        self.0.end();
    }

    /// Speaks into the microphone, after what is being said already.
    pub fn say(&mut self, samples: &[f32]) {
        self.0.mic.extend(samples);
    }

    /// Whether everything has been said.
    pub fn said(&self) -> bool {
        self.0.mic.is_empty()
    }

    /// The card's time.
    pub fn now(&self) -> Micros {
        self.0.now()
    }

    /// From now on the microphone hears the loudspeaker like this.
    pub fn enter(&mut self, room: Room) {
        self.0.room = room;
    }

    /// What was said and answered.
    pub fn into_recording(self) -> StereoRecording {
        self.0.into_recording()
    }
}

/// The two callbacks, the speech that waits, and the recording.
struct Inner {
    capture: CaptureCallback,
    playback: PlaybackCallback,
    lost: [Arc<super::StreamPulse>; 2],
    mic: VecDeque<f32>,
    user: Vec<f32>,
    assistant: Vec<f32>,
    room: Room,
    rate: u32,
    start: Micros,
}

impl Inner {
    fn new(rate: u32, start: Micros) -> (Card, Inner) {
        let (capture, capture_end) = CaptureCallback::new(rate, "virtual microphone");
        let (playback, playback_end) = PlaybackCallback::new(rate, "virtual loudspeaker");
        let lost = [capture_end.shared.pulse.clone(), playback_end.control.pulse.clone()];
        let card = Card::new(CardChoice::both(), Some(capture_end), Some(playback_end), Streams::default());
        let (mic, user, assistant) = (VecDeque::new(), Vec::new(), Vec::new());
        (card, Inner { capture, playback, lost, mic, user, assistant, room: Room::default(), rate, start })
    }

    fn now(&self) -> Micros {
        self.start + Micros::of_samples(self.user.len() as u64, self.rate)
    }

    /// Begins a stretch of `frames`: the loudspeaker asks for what will sound during it.
    fn begin(&mut self, frames: usize) {
        let now = self.now();
        let at = self.assistant.len();
        self.assistant.resize(at + frames, 0.0);
        self.playback.process(&mut self.assistant[at..], 1, now);
    }

    /// Ends the stretch that was begun: the microphone delivers what was said during it. Returns how much that was.
    fn end(&mut self) -> usize {
        let at = self.user.len();
        let spoken = (self.assistant.len() - at).min(self.mic.len());
        self.user.extend(self.mic.drain(..spoken));
        self.user.resize(self.assistant.len(), 0.0);
        let now = self.now();
        let mut heard = self.user[at..].to_vec();
        for (i, heard) in heard.iter_mut().enumerate() {
            let echo = |&(delay, gain): &(usize, f32)| (at + i).checked_sub(delay).map(|j| gain * self.assistant[j]);
            *heard += self.room.taps.iter().filter_map(echo).sum::<f32>();
        }
        self.capture.process(&heard, 1, now);
        spoken
    }

    /// The thread of a card that runs by the clock.
    fn run(&mut self, said: &Receiver<Vec<f32>>, shared: &Shared, speed: u64) {
        // Exactly as many frames as make the count right at each tick, for rates that 10 ms do not divide.
        let frames_until = |tick: u64, rate: u32| (tick * TICK_MS * u64::from(rate) / 1000) as usize;
        self.begin(frames_until(1, self.rate));
        for tick in 1.. {
            let due = self.start + Duration::from_micros(tick * TICK_MS * 1000 / speed);
            std::thread::sleep(Duration::from_micros(due.0.saturating_sub(Micros::now().0)));
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            if shared.unplugged.load(Ordering::Acquire) {
                self.lost.iter().for_each(|pulse| pulse.lose());
                continue;
            }
            if shared.frozen.load(Ordering::Acquire) {
                continue;
            }
            self.mic.extend(said.try_iter().flatten());
            let first = self.user.len();
            let spoken = self.end();
            if spoken > 0 {
                let at = self.start + Micros::of_samples((first + spoken) as u64, self.rate);
                shared.said_at.store(at.0, Ordering::Release);
                shared.said.fetch_add(spoken as u64, Ordering::AcqRel);
            }
            self.begin(frames_until(tick + 1, self.rate).saturating_sub(self.user.len()));
        }
    }

    fn into_recording(self) -> StereoRecording {
        let Inner { user, mut assistant, .. } = self;
        // The last stretch was begun but never ended: it did not happen.
        assistant.truncate(user.len());
        StereoRecording { rate: self.rate, user, assistant, start: self.start }
    }
}

#[cfg(test)]
#[path = "virtual_card_tests.rs"]
mod tests;
