//! The mouth thread: joins the reply's chunks, brings them to the card's rate, decides when the first sample may sound,
//! and tells the session what has been heard.
//!
//! Owns the playback ring's writing end, the seam joiner and the resampler. It waits on its inbox and, while a reply is
//! under way, looks at the ring every few milliseconds. Invariants: nothing is written into the ring for an epoch that
//! is no longer live, and what slipped in while the epoch ended is flushed again; `Played` is told once, after the last
//! sample was handed to the device.

use super::inbox::{Inbox, MouthEvent};
use crate::audio::jitter::{PrerollRules, Speed, SpeedMeter};
use crate::audio::{Joiner, PlaybackControl, PlaybackEnd};
use crate::dsp::level::AUDIBLE;
use crate::dsp::resample::{ResampleError, Resampler, convert};
use crate::engine::PcmChunk;
use crate::metrics::{Stage, StageMark};
use crate::time::Micros;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// How often the ring is looked at while a reply is under way.
const BEAT: Duration = Duration::from_millis(5);
/// How often `Spoken` is told at most.
const SPOKEN_EVERY: Duration = Duration::from_millis(40);

/// How fast an engine is taken to be before it has made anything: fast enough, and not steady.
const UNKNOWN: Speed = Speed { mean: 1.5, spread: 0.3 };

/// What the mouth is asked to do.
pub enum MouthJob {
    /// Another card's playback is used from now on (`None`: there is none).
    Card(Option<PlaybackEnd>),
    /// A reply begins: chunks of this epoch come at `rate` hertz, overlapping by at most `overlap` samples.
    Begin {
        epoch: u64,
        rate: u32,
        overlap: usize,
    },
    Chunk {
        epoch: u64,
        chunk: PcmChunk,
    },
    /// The engine has nothing more to give for this reply.
    End {
        epoch: u64,
    },
}

/// The epoch whose sound may be played; 0 when none. Set by the session, looked at by the mouth before every write.
pub type LiveEpoch = Arc<AtomicU64>;

/// Runs until its job channel closes.
pub fn run(jobs: &Receiver<MouthJob>, inbox: &SyncSender<Inbox>, live: &LiveEpoch) {
    let mut mouth = Mouth {
        inbox: inbox.clone(),
        live: Arc::clone(live),
        playback: None,
        speed: SpeedMeter::default(),
        reply: None,
    };
    loop {
        let job = if mouth.reply.is_some() {
            match jobs.recv_timeout(BEAT) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            match jobs.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            }
        };
        if let Some(job) = job {
            mouth.take(job);
        }
        mouth.beat();
    }
}

/// Where in the reply's sound a text position lies.
struct Milestone {
    /// Samples of the reply, at the card's rate, up to the end of the chunk.
    frame: u64,
    /// Bytes of the answer spoken by then.
    text_end: usize,
}

/// One reply on its way to the card.
struct Reply {
    epoch: u64,
    /// Hertz of the engine's sound.
    rate: u32,
    joiner: Joiner,
    resampler: Resampler,
    /// Samples at the card's rate, made but not yet in the ring.
    ready: VecDeque<f32>,
    /// Samples in the ring that had not sounded when last looked at, so that another card can go on with them.
    unheard: VecDeque<f32>,
    /// Samples of this reply made so far, and written into the ring so far.
    made: u64,
    written: u64,
    /// How many of them were over when this card took over.
    origin: u64,
    /// The card's count of played samples when the first of this reply was written to it.
    base: Option<u64>,
    /// When the first chunk and the newest one came, and how long the newest sounds.
    first_chunk: Option<Micros>,
    newest_chunk: Option<Micros>,
    chunk_length: Duration,
    /// The first audible sample of the reply.
    audible: Option<u64>,
    first_audio_told: bool,
    milestones: Vec<Milestone>,
    spoken_told: (usize, Micros),
    /// The last chunk has come, and the joiner and the resampler gave their rest.
    complete: bool,
}

impl Reply {
    /// How many of its samples have sounded, on this card and the ones before. Without a card it is read, not heard.
    fn heard(&self, control: Option<&PlaybackControl>) -> u64 {
        match (control, self.base) {
            (Some(control), Some(base)) => {
                (self.origin + control.played_frames().saturating_sub(base)).min(self.written)
            }
            (Some(_), None) => self.origin,
            (None, _) => self.written,
        }
    }

    /// What has sounded needs no second card.
    fn forget_heard(&mut self, heard: u64) {
        let waiting = self.written.saturating_sub(heard) as usize;
        self.unheard.drain(..self.unheard.len().saturating_sub(waiting));
    }

    /// Goes on, on a card of `rate` hertz, with what has not sounded on the one before.
    fn change_card(&mut self, old: Option<&PlaybackControl>, rate: u32) -> Result<(), ResampleError> {
        let heard = self.heard(old);
        self.forget_heard(heard);
        let old_rate = self.resampler.to_rate();
        let mut rest: Vec<f32> = self.unheard.drain(..).chain(self.ready.drain(..)).collect();
        if rate != old_rate {
            if !self.complete {
                self.resampler.flush(&mut rest);
            }
            rest = convert(&rest, old_rate, rate)?;
            self.resampler = Resampler::new(self.rate, rate)?;
        }
        let scaled = |frame: u64| frame * u64::from(rate) / u64::from(old_rate.max(1));
        self.origin = scaled(heard);
        self.written = self.origin;
        self.made = self.origin + rest.len() as u64;
        for milestone in &mut self.milestones {
            milestone.frame = scaled(milestone.frame).min(self.made);
        }
        self.audible = self.audible.map(scaled);
        self.ready = rest.into();
        self.base = None;
        Ok(())
    }
}

struct Mouth {
    inbox: SyncSender<Inbox>,
    live: LiveEpoch,
    playback: Option<PlaybackEnd>,
    /// How fast the engine has been making sound, in this reply and the ones before.
    speed: SpeedMeter,
    reply: Option<Reply>,
}

impl Mouth {
    fn tell(&self, event: MouthEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Mouth(event));
    }

    fn is_live(&self, epoch: u64) -> bool {
        self.live.load(Ordering::Acquire) == epoch
    }

    fn take(&mut self, job: MouthJob) {
        match job {
            MouthJob::Card(Some(playback)) => self.change_card(playback),
            MouthJob::Card(None) => {
                self.playback = None;
                self.reply = None;
            }
            MouthJob::Begin { epoch, rate, overlap } => {
                let card_rate = self.playback.as_ref().map_or(rate, |p| p.rate);
                let resampler = match Resampler::new(rate, card_rate) {
                    Ok(resampler) => resampler,
                    Err(error) => {
                        tracing::error!("the answer cannot be played: {error}");
                        self.tell(MouthEvent::Played { epoch });
                        return;
                    }
                };
                self.reply = Some(Reply {
                    epoch,
                    rate,
                    joiner: Joiner::new(overlap),
                    resampler,
                    ready: VecDeque::new(),
                    unheard: VecDeque::new(),
                    made: 0,
                    written: 0,
                    origin: 0,
                    base: None,
                    first_chunk: None,
                    newest_chunk: None,
                    chunk_length: Duration::ZERO,
                    audible: None,
                    first_audio_told: false,
                    milestones: vec![Milestone { frame: 0, text_end: 0 }],
                    spoken_told: (0, Micros(0)),
                    complete: false,
                });
            }
            MouthJob::Chunk { epoch, chunk } => self.chunk(epoch, &chunk),
            MouthJob::End { epoch } => {
                if self.reply.as_ref().is_some_and(|r| r.epoch == epoch && !r.complete) {
                    let text_end = self.reply.as_ref().and_then(|r| r.milestones.last()).map_or(0, |m| m.text_end);
                    self.chunk(epoch, &PcmChunk { samples: Vec::new(), overlap: 0, text_end, last: true });
                }
            }
        }
    }

    /// Another card takes over: what has not sounded yet sounds there.
    fn change_card(&mut self, playback: PlaybackEnd) {
        let old = self.playback.replace(playback);
        let rate = self.playback.as_ref().map_or(0, |p| p.rate);
        let Some(mut reply) = self.reply.take() else { return };
        let moved = reply.change_card(old.as_ref().map(|p| &*p.control), rate);
        if let Some(old) = old {
            old.control.flush();
        }
        match moved {
            Ok(()) => self.reply = Some(reply),
            Err(error) => {
                tracing::error!("the rest of the answer cannot be played: {error}");
                self.tell(MouthEvent::Played { epoch: reply.epoch });
            }
        }
    }

    /// Joins and resamples a chunk; ring-ward work is left to `beat`.
    fn chunk(&mut self, epoch: u64, chunk: &PcmChunk) {
        if !self.is_live(epoch) {
            return;
        }
        let Some(reply) = self.reply.as_mut().filter(|r| r.epoch == epoch && !r.complete) else { return };
        let start = Micros::now();
        reply.first_chunk.get_or_insert(start);
        let mut joined = Vec::new();
        reply.joiner.push(&chunk.samples, chunk.overlap, &mut joined);
        if chunk.last {
            reply.joiner.finish(&mut joined);
        }
        let mut resampled = Vec::new();
        reply.resampler.process(&joined, &mut resampled);
        if chunk.last {
            reply.resampler.flush(&mut resampled);
            reply.complete = true;
        }
        if reply.audible.is_none() {
            let first = resampled.iter().position(|x| x.abs() > AUDIBLE);
            reply.audible = first.map(|i| reply.made + i as u64);
        }
        reply.made += resampled.len() as u64;
        reply.ready.extend(resampled);
        reply.milestones.push(Milestone { frame: reply.made, text_end: chunk.text_end });
        reply.chunk_length = Micros::of_samples(joined.len() as u64, reply.rate);
        if let Some(before) = reply.newest_chunk.replace(start) {
            self.speed.record(reply.chunk_length, start.since(before));
        }
        let mark = StageMark {
            epoch,
            stage: Stage::Seam,
            start,
            end: Micros::now(),
            units: u32::try_from(joined.len()).unwrap_or(u32::MAX),
        };
        let made = MouthEvent::Made { epoch, samples: joined, rate: reply.rate };
        self.tell(MouthEvent::Mark(mark));
        self.tell(made);
    }

    /// Writes what may be written, and tells what has been heard.
    fn beat(&mut self) {
        let Some(mut reply) = self.reply.take() else { return };
        if !self.is_live(reply.epoch) {
            if let Some(playback) = &self.playback {
                playback.control.set_expecting(false);
            }
            return;
        }
        match &mut self.playback {
            Some(playback) => Self::write(&self.live, &self.speed, playback, &mut reply),
            // Without a card the reply is read, not heard: it passes at once.
            None => {
                reply.ready.clear();
                reply.written = reply.made;
            }
        }
        if self.report(&mut reply) {
            self.reply = Some(reply);
        }
    }

    fn write(live: &LiveEpoch, speed: &SpeedMeter, playback: &mut PlaybackEnd, reply: &mut Reply) {
        if playback.control.flush_pending() {
            return;
        }
        let rate = playback.rate;
        if reply.base.is_none() {
            let queued = Micros::of_samples(reply.ready.len() as u64, rate);
            let speed = speed.speed().unwrap_or(UNKNOWN);
            let needed = PrerollRules::default().needed(Some(speed), reply.chunk_length, None);
            if reply.ready.is_empty() || !(reply.complete || queued >= needed) {
                return;
            }
            reply.base = Some(playback.next_frame());
        }
        let (front, back) = reply.ready.as_slices();
        let mut written = playback.push(front);
        if written == front.len() {
            written += playback.push(back);
        }
        reply.unheard.extend(reply.ready.drain(..written));
        reply.written += written as u64;
        playback.control.set_expecting(!(reply.complete && reply.ready.is_empty()));
        if live.load(Ordering::Acquire) != reply.epoch {
            // The reply was stopped while its sound was being written.
            playback.control.flush();
        }
    }

    /// Tells what is new; `false` when the reply is over.
    fn report(&self, reply: &mut Reply) -> bool {
        let control = self.playback.as_ref().map(|p| (&*p.control, p.rate));
        let heard = reply.heard(control.map(|(control, _)| control));
        reply.forget_heard(heard);
        if !reply.first_audio_told
            && let Some(audible) = reply.audible
            && heard > audible
        {
            reply.first_audio_told = true;
            let at = self.time_of(control, reply, audible);
            self.tell(MouthEvent::FirstAudio { epoch: reply.epoch, at });
            if let Some(start) = reply.first_chunk {
                let units = u32::try_from(reply.made).unwrap_or(u32::MAX);
                let mark = StageMark { epoch: reply.epoch, stage: Stage::PlaybackBuffer, start, end: at, units };
                self.tell(MouthEvent::Mark(mark));
            }
        }
        let over = reply.complete && reply.ready.is_empty() && heard >= reply.written;
        let now = Micros::now();
        let bytes = spoken_bytes(&reply.milestones, heard);
        if bytes > reply.spoken_told.0 && (over || now.since(reply.spoken_told.1) >= SPOKEN_EVERY) {
            reply.spoken_told = (bytes, now);
            self.tell(MouthEvent::Spoken { epoch: reply.epoch, bytes });
        }
        if over {
            self.tell(MouthEvent::Played { epoch: reply.epoch });
        }
        !over
    }

    fn time_of(&self, control: Option<(&PlaybackControl, u32)>, reply: &Reply, frame: u64) -> Micros {
        match (control, reply.base) {
            (Some((control, _)), Some(base)) => {
                control.time_of_frame(base + frame.saturating_sub(reply.origin)).unwrap_or_else(Micros::now)
            }
            _ => Micros::now(),
        }
    }
}

/// How many bytes of the answer have been spoken after `heard` samples: whole chunks before, and of the one that is
/// sounding a share in proportion.
fn spoken_bytes(milestones: &[Milestone], heard: u64) -> usize {
    let next = milestones.partition_point(|m| m.frame <= heard);
    let Some(before) = next.checked_sub(1).and_then(|i| milestones.get(i)) else { return 0 };
    let Some(after) = milestones.get(next) else { return before.text_end };
    let share = (heard - before.frame) as f64 / (after.frame - before.frame).max(1) as f64;
    before.text_end + (share * after.text_end.saturating_sub(before.text_end) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spoken_in_proportion_within_a_chunk() {
        let stones = [(0, 0), (100, 10), (300, 30), (300, 40)].map(|(frame, text_end)| Milestone { frame, text_end });
        let heard: Vec<usize> = [0, 50, 99, 100, 200, 299, 300, 900].map(|h| spoken_bytes(&stones, h)).into();
        assert_eq!(heard, [0, 5, 9, 10, 20, 29, 40, 40]);
    }
}
