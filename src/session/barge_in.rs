//! How long an answer sounded on after the words that interrupted it. Owned by the session thread.
//!
//! The card fades and discards what is queued in its own time, and the session does not wait for it: the turn that was
//! broken off is held, some hundredths of a second, until its last audible sample is known. Time is an argument.

use super::turn_sound::TurnSound;
use crate::audio::PlaybackControl;
use crate::metrics::{Bar, TurnReport};
use crate::time::Micros;
use std::sync::Arc;
use std::time::Duration;

/// A loudspeaker that has not stopped by then is dead, and its silence says nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// A turn that is over, all but its last figure.
pub struct Ended {
    pub report: TurnReport,
    pub bars: Vec<Bar>,
    /// What is to be kept of its sound, if anything.
    pub sound: Option<TurnSound>,
    /// When it was over.
    pub at: Micros,
}

/// A loudspeaker that was told to stop.
struct Stopping {
    confirmed: Micros,
    playback: Arc<PlaybackControl>,
}

impl Stopping {
    /// Milliseconds from the confirmation to the last audible sample; negative when the answer was in a pause.
    fn ms(&self) -> Option<f64> {
        let last = self.playback.played_frames().checked_sub(1)?;
        (!self.playback.flush_pending())
            .then(|| self.playback.time_of_frame(last))?
            .map(|at| at.ms_since(self.confirmed))
    }
}

/// What is known of the interruption under way.
#[derive(Default)]
pub struct BargeIn {
    confirmed: Option<Micros>,
    stopping: Option<Stopping>,
    held: Option<Ended>,
}

impl BargeIn {
    /// A sound made during the answer was known for an interruption; the last of it was captured at `at`. `None`: what
    /// followed from it has been done.
    pub fn confirm(&mut self, at: Option<Micros>) {
        self.confirmed = at;
        if at.is_none() && self.held.is_none() {
            self.stopping = None;
        }
    }

    /// The loudspeaker was told to stop, by a confirmed interruption or by something else.
    pub fn stop(&mut self, playback: Option<&Arc<PlaybackControl>>) {
        self.stopping = self
            .confirmed
            .take()
            .zip(playback)
            .map(|(confirmed, playback)| Stopping { confirmed, playback: Arc::clone(playback) });
    }

    /// A turn is over: gives it back when nothing more has to be known of it.
    pub fn hold(&mut self, ended: Ended) -> Option<Ended> {
        if self.stopping.is_none() {
            return Some(ended);
        }
        self.held = Some(ended);
        None
    }

    /// The held turn, once the loudspeaker has stopped, or when it has not for long.
    pub fn over(&mut self, now: Micros) -> Option<Ended> {
        let sounds = |s: &Stopping| s.playback.flush_pending() && now.since(s.confirmed) <= PATIENCE;
        if self.stopping.as_ref().is_some_and(sounds) { None } else { self.let_go() }
    }

    /// The held turn, as it is.
    pub fn let_go(&mut self) -> Option<Ended> {
        let mut ended = self.held.take()?;
        let ms = self.stopping.take().and_then(|stopping| stopping.ms());
        ended.report.barge_in_stop_ms = ms.map(|ms| ms.max(0.0));
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::VirtualCard;

    const RATE: u32 = 48_000;
    /// 10 ms.
    const STEP: usize = RATE as usize / 100;

    fn ended() -> Ended {
        let report = TurnReport { turn: 7, ..TurnReport::default() };
        Ended { report, bars: Vec::new(), sound: None, at: Micros(0) }
    }

    #[test]
    fn the_figure_is_what_a_recording_shows() {
        for buffer in [STEP / 2, STEP, 4 * STEP] {
            let (mut card, mut world) = VirtualCard::simulated(RATE, Micros(1_000_000));
            let mut playback = card.playback.take().unwrap();
            playback.push(&vec![0.5; 2 * RATE as usize]);
            (0..RATE as usize / buffer).for_each(|_| world.step(buffer));
            // What was captured 8 ms ago is known for an interruption now, in the middle of a buffer.
            let confirmed = world.now() - Duration::from_millis(8);
            let mut barge_in = BargeIn::default();
            barge_in.confirm(Some(confirmed));
            playback.control.flush();
            barge_in.stop(Some(&playback.control));
            assert!(barge_in.hold(ended()).is_none());
            assert!(barge_in.over(world.now()).is_none(), "it still sounds");
            (0..10 * STEP / buffer).for_each(|_| world.step(buffer));
            let told = barge_in.over(world.now()).unwrap().report;
            let recording = world.into_recording();
            let last = recording.assistant.iter().rposition(|x| *x != 0.0).unwrap();
            let outside = (recording.start + Micros::of_samples(last as u64, RATE)).ms_since(confirmed);
            let own = told.barge_in_stop_ms.unwrap();
            assert!((own - outside).abs() < 1.0, "buffers of {buffer}: own {own} ms, recorded {outside} ms");
            assert!((27.0..29.0).contains(&own), "8 ms and a fade of 20 ms: {own}");
            assert_eq!(told.turn, 7);
        }
    }

    #[test]
    fn an_answer_in_a_pause_stops_at_once() {
        let (mut card, mut world) = VirtualCard::simulated(RATE, Micros(1_000_000));
        let mut playback = card.playback.take().unwrap();
        playback.push(&vec![0.5; RATE as usize / 10]);
        (0..50).for_each(|_| world.step(STEP));
        let mut barge_in = BargeIn::default();
        barge_in.confirm(Some(world.now()));
        playback.control.flush();
        barge_in.stop(Some(&playback.control));
        barge_in.hold(ended());
        world.step(STEP);
        assert_eq!(barge_in.over(world.now()).unwrap().report.barge_in_stop_ms, Some(0.0));
    }

    #[test]
    fn a_dead_loudspeaker_holds_nothing_for_ever_and_other_ends_are_not_held() {
        let (mut card, mut world) = VirtualCard::simulated(RATE, Micros(1_000_000));
        let mut playback = card.playback.take().unwrap();
        playback.push(&vec![0.5; RATE as usize]);
        world.step(STEP);
        let mut barge_in = BargeIn::default();
        barge_in.stop(Some(&playback.control));
        assert!(barge_in.hold(ended()).is_some(), "nobody interrupted");
        barge_in.confirm(Some(world.now()));
        playback.control.flush();
        barge_in.stop(Some(&playback.control));
        barge_in.hold(ended());
        assert!(barge_in.over(world.now() + PATIENCE).is_none());
        let told = barge_in.over(world.now() + PATIENCE + Duration::from_millis(1)).unwrap().report;
        assert_eq!(told.barge_in_stop_ms, None, "it never said that it stopped");
        assert!(barge_in.over(world.now() + 3 * PATIENCE).is_none());
        // What is held is told when another reply is stopped meanwhile, too.
        barge_in.confirm(Some(world.now()));
        barge_in.stop(Some(&playback.control));
        assert!(barge_in.hold(ended()).is_none());
        barge_in.confirm(None);
        barge_in.stop(Some(&playback.control));
        assert_eq!(barge_in.over(world.now()).unwrap().report.barge_in_stop_ms, None);
        // And an interruption of no turn says nothing about the next.
        barge_in.confirm(Some(world.now()));
        barge_in.stop(Some(&playback.control));
        barge_in.confirm(None);
        assert!(barge_in.hold(ended()).is_some());
    }
}
