//! One side of the sound card, microphone or loudspeaker: what is wanted, what is open, what is wrong with it, and when
//! to try again. Owned by the card keeper, on the session thread. Pure: it opens nothing itself, and time is an argument.
//!
//! Invariants: at most one attempt to open is under way; an open device is given up only when it stopped working or when
//! its successor is open, so that a change of the default device leaves no gap.

use super::told::Told;
use crate::audio::{AudioError, Backoff, Card, CardChoice, DeviceId, DeviceInfo, DeviceList, Direction, Trouble};
use crate::time::Micros;
use std::time::Duration;

/// A device that stopped working is missed only after this long: until then another one may have taken its place.
const GRACE: Duration = Duration::from_millis(1500);

/// How often, and at which growing distance, the right device is tried again after a makeshift was opened.
const MAKESHIFTS: u32 = 3;
const SETTLE: Duration = Duration::from_secs(1);

/// What came of an attempt to open the device.
pub enum Opened {
    /// This one is to be used from now on.
    Use(Box<Card>),
    /// The wish changed meanwhile: try again at once.
    Stale,
    /// It could not be opened. `news`: it fails for another reason than the last time.
    Failed { error: AudioError, news: bool },
}

/// The line.
pub struct Line {
    pub direction: Direction,
    /// What the user chose; `None` for the system's default.
    pub chosen: Option<DeviceId>,
    /// Keeps what is open alive.
    card: Option<Card>,
    /// What is open, for programs and for people.
    open_id: Option<DeviceId>,
    open_name: Option<String>,
    /// Whether an attempt is under way.
    trying: bool,
    /// The wish changed while an attempt was under way.
    stale: bool,
    retry_at: Option<Micros>,
    /// How often in a row something else was opened than what should be.
    beside: u32,
    /// When a device that stopped working is missed.
    missed_at: Option<Micros>,
    backoff: Backoff,
    trouble: Option<Told>,
}

impl Line {
    pub fn new(direction: Direction, chosen: Option<DeviceId>) -> Self {
        Line {
            direction,
            chosen,
            card: None,
            open_id: None,
            open_name: None,
            trying: false,
            stale: false,
            retry_at: None,
            beside: 0,
            missed_at: None,
            backoff: Backoff::default(),
            trouble: None,
        }
    }

    /// What is wrong, in words.
    pub fn trouble(&self) -> Option<&Told> {
        self.trouble.as_ref()
    }

    /// What is open.
    pub fn open_id(&self) -> Option<&DeviceId> {
        self.open_id.as_ref()
    }

    /// The name of the open device, for people.
    pub fn open_name(&self) -> Option<&str> {
        self.open_name.as_deref()
    }

    pub fn is_open(&self) -> bool {
        self.card.is_some()
    }

    /// Whether an attempt is under way.
    pub fn is_trying(&self) -> bool {
        self.trying
    }

    /// The device that would be opened now: the chosen one if it is connected, else the system's default.
    pub fn target(&self, connected: &DeviceList) -> Option<DeviceId> {
        let devices = self.devices(connected);
        let chosen = devices.iter().find(|d| Some(&d.id) == self.chosen.as_ref());
        chosen.or_else(|| devices.iter().find(|d| d.is_default)).map(|d| d.id.clone())
    }

    /// Whether the user chose a device that is not connected.
    pub fn misses_its_choice(&self, connected: &DeviceList) -> bool {
        self.chosen.as_ref().is_some_and(|id| self.devices(connected).iter().all(|d| d.id != *id))
    }

    fn devices<'a>(&self, connected: &'a DeviceList) -> &'a [DeviceInfo] {
        match self.direction {
            Direction::Input => &connected.inputs,
            Direction::Output => &connected.outputs,
        }
    }

    /// Whether the open device is the one the user chose, and is not connected any more.
    pub fn loses_its_choice(&self, connected: &DeviceList) -> bool {
        self.is_open() && self.open_id == self.chosen && self.misses_its_choice(connected)
    }

    /// Whether what is connected now asks for an attempt: nothing is open, or something else than what should be.
    pub fn is_off_target(&self, connected: &DeviceList) -> bool {
        let target = self.target(connected);
        !self.is_open() || (target.is_some() && target != self.open_id)
    }

    /// Begins an attempt, if none is under way: what to open. `connected`: what is known of it.
    pub fn begin(&mut self, connected: Option<&DeviceList>) -> Option<CardChoice> {
        self.retry_at = None;
        if self.trying {
            self.stale = true;
            return None;
        }
        self.trying = true;
        let id = match connected {
            Some(list) if self.misses_its_choice(list) => None,
            _ => self.chosen.clone(),
        };
        Some(match self.direction {
            Direction::Input => CardChoice { input: id, want_input: true, ..CardChoice::default() },
            Direction::Output => CardChoice { output: id, want_output: true, ..CardChoice::default() },
        })
    }

    /// The attempt is over.
    pub fn opened(&mut self, result: Result<Card, AudioError>, now: Micros) -> Opened {
        self.trying = false;
        if std::mem::take(&mut self.stale) {
            return Opened::Stale;
        }
        match result {
            Ok(card) => {
                self.backoff.succeeded();
                self.trouble = None;
                self.missed_at = None;
                Opened::Use(Box::new(card))
            }
            Err(error) => {
                self.retry_at = Some(now + self.backoff.failed());
                let text = Told::from(&error);
                let news = self.trouble.as_ref() != Some(&text);
                if !self.is_open() {
                    self.trouble = Some(text);
                }
                Opened::Failed { error, news }
            }
        }
    }

    /// Keeps this card, whose ends are in use from now on; returns the one before.
    pub fn keep(&mut self, card: Card, id: Option<DeviceId>, name: String) -> Option<Card> {
        self.open_id = id;
        self.open_name = Some(name);
        self.card.replace(card)
    }

    /// Tries again a few times when a makeshift was opened, as while PulseAudio starts, and ALSA answers in its place.
    pub fn settle(&mut self, connected: &DeviceList, now: Micros) {
        let beside = self.is_off_target(connected) && self.open_id.is_some();
        self.beside = if beside { self.beside + 1 } else { 0 };
        if (1..=MAKESHIFTS).contains(&self.beside) {
            self.retry_at = Some(now + SETTLE * (self.beside - 1));
        }
    }

    /// What is wrong with the open device, if anything.
    pub fn look(&mut self, now: Micros) -> Option<Trouble> {
        let health = self.card.as_mut()?.health(now);
        match self.direction {
            Direction::Input => health.input,
            Direction::Output => health.output,
        }
    }

    /// The open device stopped working, for this reason: returns its card, to be closed. It will be missed a little later,
    /// or at once when nothing could take its place.
    pub fn fail(&mut self, why: Told, replaceable: bool, now: Micros) -> Option<Card> {
        self.trouble = Some(why);
        self.missed_at = Some(if replaceable { now + GRACE } else { now });
        self.open_id = None;
        self.open_name = None;
        self.card.take()
    }

    /// Whether it is time for another attempt.
    pub fn is_due(&self, now: Micros) -> bool {
        !self.trying && self.retry_at.is_some_and(|at| now >= at)
    }

    /// Whether the device that stopped working is missed from now on; true once.
    pub fn becomes_missed(&mut self, now: Micros) -> bool {
        let missed = self.missed_at.is_some_and(|at| now >= at);
        if missed {
            self.missed_at = None;
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::VirtualCard;

    fn info(id: &str, is_default: bool) -> DeviceInfo {
        let (id, name) = (DeviceId(id.into()), id.to_uppercase());
        DeviceInfo { id, name, is_default, rate: None, channels: None, buffer_ms: 10 }
    }

    fn connected(ids: &[(&str, bool)]) -> DeviceList {
        DeviceList { inputs: ids.iter().map(|(id, d)| info(id, *d)).collect(), outputs: Vec::new() }
    }

    fn id(id: &str) -> Option<DeviceId> {
        Some(DeviceId(id.into()))
    }

    fn card() -> Card {
        VirtualCard::simulated(48_000, Micros(0)).0
    }

    /// Opens what the line asks for, as `name`.
    fn open(line: &mut Line, list: &DeviceList, name: &str) {
        assert!(line.begin(Some(list)).is_some());
        let Opened::Use(card) = line.opened(Ok(card()), Micros(0)) else { panic!("not to be used") };
        line.keep(*card, id(name), name.into());
    }

    #[test]
    fn the_default_is_followed_and_asked_for_once() {
        let mut line = Line::new(Direction::Input, None);
        let before = connected(&[("a", true), ("b", false)]);
        assert!(line.is_off_target(&before), "nothing is open");
        open(&mut line, &before, "a");
        assert!(!line.is_off_target(&before));
        let after = connected(&[("b", true), ("a", false)]);
        assert!(line.is_off_target(&after));
        assert!(line.begin(Some(&after)).is_some());
        assert!(line.is_open(), "the old device goes on until the new one is open");
        let Opened::Failed { .. } = line.opened(Err(AudioError::NoService), Micros(0)) else { panic!("it failed") };
        assert!(line.trouble().is_none() && line.is_due(Micros(250_000)), "the old device still works");
    }

    #[test]
    fn a_chosen_device_is_used_when_it_is_there_and_the_default_meanwhile() {
        let mut line = Line::new(Direction::Input, id("b"));
        let without = connected(&[("a", true)]);
        assert!(line.misses_its_choice(&without));
        assert_eq!(line.target(&without), id("a"));
        assert_eq!(line.begin(Some(&without)).unwrap().input, None);
        assert!(line.begin(Some(&without)).is_none(), "one attempt at a time");
        assert!(matches!(line.opened(Ok(card()), Micros(0)), Opened::Stale));
        open(&mut line, &without, "a");
        let with = connected(&[("a", true), ("b", false)]);
        assert!(line.is_off_target(&with) && !line.misses_its_choice(&with));
        assert_eq!(line.begin(Some(&with)).unwrap().input, id("b"));
    }

    #[test]
    fn a_device_is_missed_once_and_only_when_nothing_took_its_place() {
        let list = connected(&[("a", true)]);
        let mut line = Line::new(Direction::Input, None);
        open(&mut line, &list, "a");
        assert!(line.fail("it broke".into(), true, Micros(0)).is_some());
        assert_eq!((line.is_open(), line.trouble()), (false, Some(&"it broke".into())));
        assert!(!line.becomes_missed(Micros(1_400_000)));
        open(&mut line, &list, "a");
        assert!(!line.becomes_missed(Micros(9_000_000)) && line.trouble().is_none());
        line.fail("it broke".into(), true, Micros(0));
        assert!(line.becomes_missed(Micros(1_500_000)) && !line.becomes_missed(Micros(1_500_000)));
        line.fail("it broke".into(), false, Micros(7));
        assert!(line.becomes_missed(Micros(7)));
    }

    #[test]
    fn a_makeshift_is_given_up_for_the_right_device_but_not_for_ever() {
        let list = connected(&[("a", true)]);
        let mut line = Line::new(Direction::Input, None);
        for _ in 0..MAKESHIFTS {
            open(&mut line, &list, "alsa");
            line.settle(&list, Micros(0));
            assert!(line.is_due(Micros(2_000_000)));
        }
        open(&mut line, &list, "alsa");
        line.settle(&list, Micros(0));
        assert!(!line.is_due(Micros(u64::MAX)));
        open(&mut line, &list, "a");
        line.settle(&list, Micros(0));
        assert!(!line.is_due(Micros(u64::MAX)) && line.beside == 0);
    }

    #[test]
    fn the_same_failure_is_news_once() {
        let mut line = Line::new(Direction::Output, None);
        let mut fail = |error: AudioError| {
            line.begin(None);
            matches!(line.opened(Err(error), Micros(0)), Opened::Failed { news: true, .. })
        };
        let gone = AudioError::NoDevice { direction: Direction::Output };
        let busy = AudioError::Busy { direction: Direction::Output, name: "x".into() };
        assert_eq!([fail(gone.clone()), fail(gone.clone()), fail(busy), fail(gone)], [true, false, true, true]);
    }
}
