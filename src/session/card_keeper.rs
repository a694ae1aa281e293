//! Keeps a sound card open: opens it in the background, hands its ends to the ear and the mouth, watches its health,
//! and looks for it again when it is gone. Owned by the session thread; what blocks runs on a thread of its own.

use super::ear::EarJob;
use super::event::{DeviceEntry, DeviceList, Event};
use super::inbox::Inbox;
use super::mouth::MouthJob;
use super::orchestrator::Wires;
use super::turn_record::Counters;
use crate::audio::{
    self, AudioError, Backoff, CaptureShared, Card, CardChoice, DeviceId, Direction, FarEnd, PlaybackControl,
};
use crate::dsp::level;
use crate::time::Micros;
use std::sync::Arc;
use std::time::Duration;

/// Silence, in dBFS, as far as the level meters go.
const FLOOR_DB: f32 = -90.0;
/// How often the counters are told.
const COUNTERS_EVERY: Duration = Duration::from_millis(250);

/// Where the sound comes from and goes to.
pub enum CardSource {
    /// Sound devices, looked for again when they are gone.
    Devices(CardChoice),
    /// A card that is already open, such as a virtual one.
    Open(Box<Card>),
}

/// What a look at the card found.
pub enum Look {
    Well,
    /// The card is gone; what happened, in words.
    Lost(String),
}

/// The keeper.
pub struct CardKeeper {
    choice: CardChoice,
    /// Whether `choice` may be opened (again): not when the card was given.
    may_open: bool,
    card: Option<Card>,
    capture: Option<Arc<CaptureShared>>,
    playback: Option<Arc<PlaybackControl>>,
    trouble: Option<String>,
    opening: bool,
    retry_at: Option<Micros>,
    backoff: Backoff,
    volume: f32,
    /// Counters of cards that are gone: starvation events, starved milliseconds, xruns, lost samples.
    before: (u64, f64, u64, u64),
    shown_levels: (f32, f32),
    shown_counters: (u64, u64, u64, u32),
    counters_at: Micros,
}

impl CardKeeper {
    pub fn new(source: CardSource, wires: &Wires) -> Self {
        let mut keeper = CardKeeper {
            choice: CardChoice::default(),
            may_open: false,
            card: None,
            capture: None,
            playback: None,
            trouble: None,
            opening: false,
            retry_at: None,
            backoff: Backoff::default(),
            volume: 1.0,
            before: (0, 0.0, 0, 0),
            shown_levels: (FLOOR_DB, FLOOR_DB),
            shown_counters: (0, 0, 0, 0),
            counters_at: Micros::default(),
        };
        match source {
            CardSource::Devices(choice) => {
                keeper.choice = choice;
                keeper.may_open = true;
                keeper.open(wires);
            }
            CardSource::Open(card) => {
                keeper.take(*card, wires);
            }
        }
        keeper
    }

    /// What is wrong, in words; `None` when nothing is.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub fn flush(&self) {
        if let Some(playback) = &self.playback {
            playback.flush();
        }
    }

    pub fn duck(&self, down: bool) {
        if let Some(playback) = &self.playback {
            playback.set_duck(down);
        }
    }

    pub fn set_volume(&mut self, volume: f32) {
        self.volume = volume;
        if let Some(playback) = &self.playback {
            playback.set_volume(volume);
        }
    }

    pub fn select_input(&mut self, id: Option<String>, wires: &Wires) {
        self.choice.input = id.map(DeviceId);
        self.reopen(wires);
    }

    pub fn select_output(&mut self, id: Option<String>, wires: &Wires) {
        self.choice.output = id.map(DeviceId);
        self.reopen(wires);
    }

    /// Starvation events, starved milliseconds and xruns since the session began.
    pub fn counters(&self) -> Counters {
        let (events, ms, xruns, _) = self.totals();
        (events, ms, xruns)
    }

    fn totals(&self) -> (u64, f64, u64, u64) {
        let (mut events, mut ms, mut xruns, mut lost) = self.before;
        if let Some(p) = &self.playback {
            events += p.starved_events();
            ms += p.starved_samples() as f64 * 1000.0 / f64::from(p.rate().max(1));
            xruns += p.pulse.xruns();
        }
        if let Some(c) = &self.capture {
            xruns += c.pulse.xruns();
            lost += c.lost();
        }
        (events, ms, xruns, lost)
    }

    /// What changed of the levels and the counters since the last look.
    pub fn meters(&mut self) -> (Option<Event>, Option<Event>) {
        let db = |peak: Option<f32>| peak.map_or(FLOOR_DB, |p| level::to_db(p).max(FLOOR_DB));
        let mic_db = db(self.capture.as_ref().map(|c| c.meter.take()));
        let speaker_db = db(self.playback.as_ref().map(|p| p.meter.take()));
        let moved = (mic_db - self.shown_levels.0).abs() > 0.5 || (speaker_db - self.shown_levels.1).abs() > 0.5;
        let levels = moved.then(|| {
            self.shown_levels = (mic_db, speaker_db);
            Event::Levels { mic_db, speaker_db }
        });
        let now = Micros::now();
        if now.since(self.counters_at) < COUNTERS_EVERY {
            return (levels, None);
        }
        self.counters_at = now;
        let (starvation, _, xruns, lost_capture) = self.totals();
        let queued_ms = self.playback.as_ref().map_or(0.0, |p| p.queued() as f32 * 1000.0 / p.rate().max(1) as f32);
        let shown = (starvation, xruns, lost_capture, queued_ms as u32);
        let counters = (shown != self.shown_counters).then(|| {
            self.shown_counters = shown;
            Event::Counters { xruns, starvation, lost_capture, queued_ms }
        });
        (levels, counters)
    }

    /// Watches the card, and tries to open it again when it is time.
    pub fn look_after(&mut self, wires: &Wires) -> Look {
        let now = Micros::now();
        if self.retry_at.is_some_and(|at| now >= at) {
            self.open(wires);
        }
        let Some(card) = &mut self.card else { return Look::Well };
        let health = card.health(now);
        if health.is_well() {
            return Look::Well;
        }
        let direction = if health.input.is_some() { Direction::Input } else { Direction::Output };
        let what = format!("the {direction} stopped working");
        self.trouble = Some(what.clone());
        self.reopen(wires);
        Look::Lost(what)
    }

    /// A card was opened in the background, or was not. Returns what to tell the user when it was not, once.
    pub fn opened(&mut self, opened: Result<Card, AudioError>, wires: &Wires) -> Result<(), Option<AudioError>> {
        self.opening = false;
        match opened {
            Ok(card) => {
                self.backoff.succeeded();
                self.trouble = None;
                self.take(card, wires);
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(Micros::now() + self.backoff.failed());
                let text = error.to_string();
                let news = self.trouble.as_deref() != Some(&text);
                self.trouble = Some(text);
                Err(news.then_some(error))
            }
        }
    }

    fn take(&mut self, mut card: Card, wires: &Wires) {
        let (capture, mut playback) = (card.capture.take(), card.playback.take());
        // A loudspeaker whose rate cannot be converted cannot be spoken through either; the mouth says so.
        let far = playback.as_mut().and_then(|p| FarEnd::of(p).ok().flatten());
        self.capture = capture.as_ref().map(|c| Arc::clone(&c.shared));
        self.playback = playback.as_ref().map(|p| Arc::clone(&p.control));
        if let Some(playback) = &self.playback {
            playback.set_volume(self.volume);
        }
        // Ear and mouth outlive the session thread: they end when these senders are dropped.
        let _ = wires.ear.send(EarJob::Card(capture, far));
        let _ = wires.mouth.send(MouthJob::Card(playback));
        self.card = Some(card);
    }

    fn reopen(&mut self, wires: &Wires) {
        self.before = self.totals();
        self.capture = None;
        self.playback = None;
        let _ = wires.ear.send(EarJob::Card(None, None));
        let _ = wires.mouth.send(MouthJob::Card(None));
        let old = self.card.take();
        // Closing a stream may hang with a dead sound service: that thread is then left behind.
        std::thread::spawn(move || drop(old));
        if !self.opening {
            self.open(wires);
        }
    }

    fn open(&mut self, wires: &Wires) {
        self.retry_at = None;
        if !self.may_open {
            return;
        }
        self.opening = true;
        let (choice, inbox, events) = (self.choice.clone(), wires.inbox.clone(), wires.events.clone());
        std::thread::spawn(move || {
            let opened = Card::open(&choice);
            if let Ok(list) = audio::list() {
                let entries = |devices: Vec<audio::DeviceInfo>| {
                    devices.into_iter().map(|d| DeviceEntry { id: d.id.0, name: d.name }).collect()
                };
                let card = opened.as_ref().ok();
                events.send(Event::Devices {
                    input: DeviceList {
                        available: entries(list.inputs),
                        chosen: choice.input.as_ref().map(|id| id.0.clone()),
                        open: card.and_then(|c| c.capture.as_ref()).map(|c| c.name.clone()),
                    },
                    output: DeviceList {
                        available: entries(list.outputs),
                        chosen: choice.output.as_ref().map(|id| id.0.clone()),
                        open: card.and_then(|c| c.playback.as_ref()).map(|p| p.name.clone()),
                    },
                });
            }
            // The session is gone only when the program ends.
            let _ = inbox.send(Inbox::Card(Box::new(opened)));
        });
    }
}
