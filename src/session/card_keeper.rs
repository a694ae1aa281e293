//! Keeps microphone and loudspeaker open: opens them in the background, each by itself, hands their ends to the ear and
//! the mouth, watches their health, follows the system's default, and looks for what is gone. Owned by the session
//! thread; what blocks runs on threads of their own.

use super::ear::EarJob;
use super::event::{DeviceEntry, DeviceList as Shown, Event, Severity};
use super::inbox::Inbox;
use super::line::{Line, Opened};
use super::mouth::MouthJob;
use super::orchestrator::Wires;
use super::told::Told;
use super::turn_record::Counters;
use crate::audio::{
    AudioError, CaptureShared, Card, CardChoice, CardSupply, DeviceId, DeviceInfo, DeviceList, Direction, FarEnd,
    PlaybackControl, SystemCards, Trouble, Watching,
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
    /// The system's devices, looked for again when they are gone.
    Devices(CardChoice),
    /// Devices from elsewhere, such as simulated ones; treated like the system's.
    Supply(Arc<dyn CardSupply>, CardChoice),
    /// A card that is already open, such as a virtual one.
    Open(Box<Card>),
}

/// What happened to the card.
pub enum News {
    /// To be told to the door.
    Tell(Event),
    /// This device is gone, and nothing took its place.
    Lost(Direction),
    /// A device of this kind is open (again).
    Back(Direction),
}

/// The keeper.
pub struct CardKeeper {
    /// Opens cards again; `None` when the card was given.
    supply: Option<Arc<dyn CardSupply>>,
    watching: Watching,
    /// What is connected, once that is known.
    connected: Option<DeviceList>,
    input: Line,
    output: Line,
    /// As in [`CardChoice`].
    output_buffer_ms: Option<u32>,
    capture: Option<Arc<CaptureShared>>,
    playback: Option<Arc<PlaybackControl>>,
    volume: f32,
    ducked: bool,
    /// Counters of devices that are gone: starvation events, starved milliseconds, xruns, lost samples.
    before: (u64, f64, u64, u64),
    shown_levels: (f32, f32),
    shown_counters: (u64, u64, u64, u32),
    counters_at: Micros,
}

impl CardKeeper {
    pub fn new(source: CardSource, wires: &Wires) -> Self {
        let (supply, choice, card): (Option<Arc<dyn CardSupply>>, _, _) = match source {
            CardSource::Devices(choice) => (Some(Arc::new(SystemCards)), choice, None),
            CardSource::Supply(supply, choice) => (Some(supply), choice, None),
            CardSource::Open(card) => (None, CardChoice::default(), Some(card)),
        };
        let mut keeper = CardKeeper {
            supply,
            watching: Watching::default(),
            connected: None,
            input: Line::new(Direction::Input, choice.input.clone()),
            output: Line::new(Direction::Output, choice.output.clone()),
            output_buffer_ms: choice.output_buffer_ms,
            capture: None,
            playback: None,
            volume: 1.0,
            ducked: false,
            before: (0, 0.0, 0, 0),
            shown_levels: (FLOOR_DB, FLOOR_DB),
            shown_counters: (0, 0, 0, 0),
            counters_at: Micros::default(),
        };
        if let Some(card) = card {
            let (microphone, loudspeaker) = card.split();
            keeper.take(Direction::Input, microphone, wires);
            keeper.take(Direction::Output, loudspeaker, wires);
        } else {
            keeper.watch(wires);
            keeper.attempt(Direction::Input, wires);
            keeper.attempt(Direction::Output, wires);
        }
        keeper
    }

    fn watch(&mut self, wires: &Wires) {
        let inbox = wires.inbox.clone();
        let tell = Box::new(move |list| inbox.send(Inbox::Devices(list)).is_ok());
        match self.supply.as_ref().map(|supply| supply.watch(tell)) {
            Some(Ok(watching)) => self.watching = watching,
            Some(Err(error)) => tracing::warn!("changes of the sound devices are not noticed: {error}"),
            None => {}
        }
    }

    /// What is wrong, in words; empty when nothing is.
    pub fn trouble(&self) -> Vec<Told> {
        let mut trouble: Vec<Told> =
            [self.input.trouble(), self.output.trouble()].into_iter().flatten().cloned().collect();
        // A sound service that is gone is told once.
        trouble.dedup();
        trouble
    }

    /// Whether there is a microphone.
    pub fn hears(&self) -> bool {
        self.input.is_open()
    }

    pub fn flush(&self) {
        if let Some(playback) = &self.playback {
            playback.flush();
        }
    }

    /// The loudspeaker's controls, when there is one.
    pub fn playback(&self) -> Option<&Arc<PlaybackControl>> {
        self.playback.as_ref()
    }

    pub fn duck(&mut self, down: bool) {
        self.ducked = down;
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
        self.input.chosen = id.map(DeviceId);
        self.attempt(Direction::Input, wires);
        wires.events.send(self.shown());
    }

    pub fn select_output(&mut self, id: Option<String>, wires: &Wires) {
        self.output.chosen = id.map(DeviceId);
        self.attempt(Direction::Output, wires);
        wires.events.send(self.shown());
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

    /// Watches the devices, and tries to open them again when it is time.
    pub fn look_after(&mut self, wires: &Wires) -> Vec<News> {
        let now = Micros::now();
        let mut news = Vec::new();
        for direction in [Direction::Input, Direction::Output] {
            if self.line(direction).is_due(now) {
                self.attempt(direction, wires);
            }
            if let Some(trouble) = self.line(direction).look(now) {
                let what = match trouble {
                    Trouble::Lost => went_away(direction),
                    Trouble::Frozen => Told::new("sound-frozen", format!("the {direction} moves no sound any more")),
                    Trouble::Storming => Told::new("sound-storming", format!("the {direction} stopped working")),
                };
                let what = what.about(direction);
                news.push(self.fail(direction, what, wires));
            }
            if self.line(direction).becomes_missed(now) {
                self.let_go(direction, wires);
                news.push(News::Lost(direction));
            }
        }
        news
    }

    /// The devices that are connected, or which of them the system prefers, changed.
    pub fn devices(&mut self, list: DeviceList, wires: &Wires) -> Vec<News> {
        let mut news = Vec::new();
        for direction in [Direction::Input, Direction::Output] {
            let line = self.line(direction);
            if line.loses_its_choice(&list) {
                let english = format!("the chosen {direction} is not connected");
                let what = Told::new("sound-choice-gone", english).about(direction);
                let remedy = Told::new("sound-default-meanwhile", "The system's own is used until it is back.");
                news.push(News::Tell(Event::Problem { what, remedy, severity: Severity::Note }));
            }
        }
        self.connected = Some(list);
        for direction in [Direction::Input, Direction::Output] {
            let Some(list) = &self.connected else { break };
            let line = match direction {
                Direction::Input => &self.input,
                Direction::Output => &self.output,
            };
            if line.is_open() && line.target(list).is_none() {
                // The system keeps such a stream running, on the echo of a loudspeaker or on nothing.
                let what = went_away(direction).about(direction);
                news.push(self.fail(direction, what, wires));
            } else if line.is_off_target(list) && !line.is_trying() {
                self.attempt(direction, wires);
            }
        }
        news.push(News::Tell(self.shown()));
        news
    }

    /// An attempt to open a device in the background is over.
    pub fn opened(&mut self, direction: Direction, opened: Result<Card, AudioError>, wires: &Wires) -> Vec<News> {
        let was_open = self.line(direction).is_open();
        match self.line(direction).opened(opened, Micros::now()) {
            Opened::Use(card) => {
                let before = self.line(direction).open_name().map(str::to_owned);
                self.take(direction, *card, wires);
                if let Some(list) = self.connected.clone() {
                    self.line(direction).settle(&list, Micros::now());
                }
                let mut news = vec![News::Back(direction), News::Tell(self.shown())];
                if let (Some(_), Some(name)) = (before, self.line(direction).open_name()) {
                    let what = Told::new("sound-now", format!("the {direction} is now \"{name}\""));
                    let what = what.about(direction).with("name", name);
                    news.push(News::Tell(Event::Problem { what, remedy: Told::default(), severity: Severity::Note }));
                }
                news
            }
            Opened::Stale => {
                self.attempt(direction, wires);
                Vec::new()
            }
            Opened::Failed { error: AudioError::Busy { .. }, .. } if was_open => {
                // Perhaps it is our own stream that keeps it busy.
                let what = Told::new("sound-anew", format!("the {direction} is being opened anew"));
                vec![self.fail(direction, what.about(direction), wires)]
            }
            Opened::Failed { error, news } => {
                let remedy = match direction {
                    Direction::Input => Told::new("sound-type-meanwhile", "Until then, type instead of speaking."),
                    Direction::Output => Told::new("sound-read-meanwhile", "Until then, read the answers."),
                };
                let what = Told::from(&error);
                let problem = Event::Problem { what, remedy, severity: Severity::Warning };
                let shown = News::Tell(self.shown());
                if news { vec![News::Tell(problem), shown] } else { Vec::new() }
            }
        }
    }

    /// What is connected and what is open, for the door.
    fn shown(&self) -> Event {
        let list = |line: &Line, devices: Option<&Vec<DeviceInfo>>| {
            let devices = devices.map_or(&[][..], Vec::as_slice);
            let open = line.open_id().and_then(|id| devices.iter().find(|d| d.id == *id));
            Shown {
                available: devices.iter().map(|d| DeviceEntry { id: d.id.0.clone(), name: d.name.clone() }).collect(),
                chosen: line.chosen.as_ref().map(|id| id.0.clone()),
                open: line.open_name().map(str::to_owned),
                rate: open.and_then(|d| d.rate),
                buffer_ms: open.map(|d| d.buffer_ms),
                telephone: line.direction == Direction::Input && open.is_some_and(is_bluetooth),
            }
        };
        let connected = self.connected.as_ref();
        Event::Devices {
            input: list(&self.input, connected.map(|c| &c.inputs)),
            output: list(&self.output, connected.map(|c| &c.outputs)),
        }
    }

    fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Input => &mut self.input,
            Direction::Output => &mut self.output,
        }
    }

    /// Uses this card from now on. What was used before is closed; its sound goes on in the new one.
    fn take(&mut self, direction: Direction, mut card: Card, wires: &Wires) {
        self.before = self.totals();
        let old = match direction {
            Direction::Input => {
                let capture = card.capture.take();
                self.capture = capture.as_ref().map(|c| Arc::clone(&c.shared));
                let Some(end) = capture else { return };
                let old = self.input.keep(card, end.id.clone(), end.name.clone());
                // Ear and mouth outlive the session thread: they end when these senders are dropped.
                let _ = wires.ear.send(EarJob::Card(Some(end)));
                old
            }
            Direction::Output => {
                let playback = card.playback.take();
                self.playback = playback.as_ref().map(|p| Arc::clone(&p.control));
                let Some(mut end) = playback else { return };
                end.control.set_volume(self.volume);
                end.control.set_duck(self.ducked);
                let old = self.output.keep(card, end.id.clone(), end.name.clone());
                // A loudspeaker whose rate cannot be converted cannot be spoken through either; the mouth says so.
                let _ = wires.ear.send(EarJob::Far(FarEnd::of(&mut end).ok().flatten()));
                let _ = wires.mouth.send(MouthJob::Card(Some(end)));
                old
            }
        };
        close(old);
    }

    /// The open device stopped working: closes it and looks for another. Its ends stay in use until one is found, or until
    /// it is missed.
    fn fail(&mut self, direction: Direction, what: Told, wires: &Wires) -> News {
        let replaceable = self.supply.is_some();
        close(self.line(direction).fail(what.clone(), replaceable, Micros::now()));
        if !self.line(direction).is_trying() {
            self.attempt(direction, wires);
        }
        let remedy = Told::new("sound-plug-in", "Plug it in again or choose another; it is being looked for.");
        News::Tell(Event::Problem { what, remedy, severity: Severity::Warning })
    }

    /// Nothing took the place of a device that is gone.
    fn let_go(&mut self, direction: Direction, wires: &Wires) {
        self.before = self.totals();
        match direction {
            Direction::Input => {
                self.capture = None;
                let _ = wires.ear.send(EarJob::Card(None));
            }
            Direction::Output => {
                self.playback = None;
                let _ = wires.ear.send(EarJob::Far(None));
                let _ = wires.mouth.send(MouthJob::Card(None));
            }
        }
    }

    /// Begins to open a device in the background, if nobody is at it already.
    fn attempt(&mut self, direction: Direction, wires: &Wires) {
        let Some(supply) = self.supply.clone() else { return };
        let connected = self.connected.clone();
        let Some(mut choice) = self.line(direction).begin(connected.as_ref()) else { return };
        choice.output_buffer_ms = self.output_buffer_ms;
        let (inbox, answers) = (wires.inbox.clone(), self.watching.answers(Micros::now()));
        std::thread::spawn(move || {
            let opened = if answers { supply.open(&choice) } else { Err(AudioError::Silent) };
            // The session is gone only when the program ends.
            let _ = inbox.send(Inbox::Card(direction, Box::new(opened)));
        });
    }
}

fn went_away(direction: Direction) -> Told {
    Told::new("sound-gone", format!("the {direction} went away"))
}

/// Closes a card in the background. Closing may hang with a dead sound service: that thread is then left behind.
fn close(card: Option<Card>) {
    if let Some(card) = card {
        std::thread::spawn(move || drop(card));
    }
}

/// Whether a device is on the other end of a radio: on Linux it stands in its id, on Windows in its name.
fn is_bluetooth(device: &DeviceInfo) -> bool {
    let (id, name) = (device.id.0.to_lowercase(), device.name.to_lowercase());
    id.contains("bluez") || ["bluetooth", "hands-free"].iter().any(|word| name.contains(word))
}
