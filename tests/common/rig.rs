//! A session with a scripted engine, and everything it told.

use antiphon::audio::{VirtualCard, VirtualCardHandle};
use antiphon::dsp::resample::convert;
use antiphon::engine::scripted::{Audio, Record, Recorded, Script, ScriptedEngine, Sound, Step, Turn};
use antiphon::engine::{Engine, EngineError, SessionSetup};
use antiphon::metrics::TurnReport;
use antiphon::session::command::{CommandSink, Eagerness};
use antiphon::session::event::{Event, EventSource, TurnState};
use antiphon::session::{self, CardSource, EndOfTurnModel, EngineLoader, Extras, Parts, Session};
use antiphon::weights::Store;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::sound::speech;

pub const RATE: u32 = 48_000;
/// Not a promise of speed, but the end of a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Rig {
    pub session: Session,
    pub commands: CommandSink,
    pub events: EventSource,
    pub record: Record,
    pub seen: Vec<Event>,
}

impl Rig {
    /// A session on a virtual card.
    pub fn start(script: Script) -> (Rig, VirtualCardHandle) {
        let (card, handle) = VirtualCard::start(RATE).unwrap();
        (Rig::on(CardSource::Open(Box::new(card)), script), handle)
    }

    /// A session on any card.
    pub fn on(card: CardSource, script: Script) -> Rig {
        Rig::with(card, script, Extras::default())
    }

    /// A session with what a desktop adds.
    pub fn with(card: CardSource, script: Script, extras: Extras) -> Rig {
        Rig::judged(card, script, extras, Box::new(|| None))
    }

    /// A session with a judge of pauses.
    pub fn judged(card: CardSource, script: Script, extras: Extras, end_of_turn: EndOfTurnModel) -> Rig {
        let engine = ScriptedEngine::new(script.clone());
        let record = engine.record();
        // The first load takes the engine whose record we hold; a reload after a fault plays the script anew.
        let first = Arc::new(Mutex::new(Some(engine)));
        let loader = move |_: &mut dyn FnMut(&str, f32)| -> Result<Box<dyn Engine>, EngineError> {
            let engine = first.lock().unwrap().take().unwrap_or_else(|| ScriptedEngine::new(script.clone()));
            Ok(Box::new(engine))
        };
        let mut rig = Rig::loading_with(card, Box::new(loader), extras, end_of_turn);
        rig.record = record;
        rig.until("ready", |e| matches!(e, Event::EngineReady { .. }));
        rig
    }

    /// A session whose engine comes from this loader, and may not come at all; nothing is recorded.
    pub fn loading(card: CardSource, engine: EngineLoader) -> Rig {
        Rig::loading_with(card, engine, Extras::default(), Box::new(|| None))
    }

    fn loading_with(card: CardSource, engine: EngineLoader, extras: Extras, end_of_turn: EndOfTurnModel) -> Rig {
        let home = tempfile::tempdir().unwrap();
        let parts = Parts {
            card,
            engine,
            setup: SessionSetup::default(),
            end_of_turn,
            hands_free: true,
            eagerness: Eagerness::Eager,
            volume: 1.0,
            store: Store::open(Some(home.path().into())).unwrap(),
            greeting: None,
        };
        let (session, events) = session::start_with(parts, extras).unwrap();
        let commands = session.commands();
        Rig { session, commands, events, record: Record::default(), seen: Vec::new() }
    }

    /// Waits for an event.
    pub fn until(&mut self, what: &str, mut is_it: impl FnMut(&Event) -> bool) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < LIMIT, "waited too long for {what}; seen: {:#?}", self.seen);
            if let Ok(event) = self.events.next_within(Duration::from_millis(50)) {
                let found = is_it(&event);
                self.seen.push(event);
                if found {
                    return;
                }
            }
        }
    }

    /// Waits for an event, unless it came while another was waited for.
    pub fn until_seen(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        if !self.seen.iter().any(&is_it) {
            self.until(what, is_it);
        }
    }

    pub fn until_state(&mut self, state: TurnState) {
        self.until(&format!("{state:?}"), |e| *e == Event::State(state.clone()));
    }

    pub fn until_ended(&mut self) -> TurnReport {
        let mut ended = None;
        self.until("the end of the turn", |e| {
            if let Event::TurnEnded { report, .. } = e {
                ended = Some((**report).clone());
            }
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Waits for a state with words in it, and returns them.
    pub fn until_degraded(&mut self) -> String {
        let mut words = String::new();
        self.until("the degraded state", |e| {
            if let Event::State(TurnState::Degraded { why }) = e {
                words = why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return true;
            }
            false
        });
        words
    }

    /// Takes in everything told so far.
    pub fn drain(&mut self) {
        while let Ok(event) = self.events.next_within(Duration::from_millis(1)) {
            self.seen.push(event);
        }
    }

    /// How many turns have ended so far.
    pub fn ended(&mut self) -> usize {
        self.drain();
        self.seen.iter().filter(|e| matches!(e, Event::TurnEnded { .. })).count()
    }

    pub fn stop(self) -> Vec<Recorded> {
        self.session.stop();
        self.record.all()
    }
}

/// Half a second of silence and a spoken fixture, at `rate`.
pub fn words(name: &str, rate: u32) -> Vec<f32> {
    let mut samples = vec![0.0; rate as usize / 2];
    samples.extend(convert(&speech(name), 16_000, rate).unwrap());
    samples
}

pub fn tone(seconds: f32, delay_ms: u64) -> Step {
    chunk(440.0, seconds, delay_ms, 0)
}

pub fn chunk(hz: f32, seconds: f32, delay_ms: u64, overlap_ms: u32) -> Step {
    Step::Audio(Audio { sound: Sound::Tone { hz }, seconds, delay_ms, overlap_ms, text_end: None, fault: None })
}

pub fn text(text: &str) -> Step {
    Step::Text { text: text.into(), delay_ms: 0 }
}

pub fn script(steps: Vec<Step>) -> Script {
    let turn = Turn { heard: "What is it?".into(), delay_ms: 100, steps };
    Script { repeat: true, turns: vec![turn], ..Script::default() }
}

/// How many seconds of a side sound: the 10 ms windows with a sample above -50 dBFS.
pub fn sounding_s(side: &[f32], rate: u32) -> f64 {
    let loud = side.chunks(rate as usize / 100).filter(|w| w.iter().any(|x| x.abs() > 0.003_162)).count();
    loud as f64 / 100.0
}

/// The largest step from one sample to the next.
pub fn largest_step(side: &[f32]) -> f32 {
    side.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
}
