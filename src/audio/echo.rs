//! Takes the assistant's own voice out of the microphone's sound.
//!
//! [`FarEnd`] is what was really played, brought to 16 kHz and to the microphone's clock; [`EchoCanceller`] subtracts
//! from the microphone what it finds of that. The canceller is a port of WebRTC's AEC3 (`sonora-aec3`, BSD-3-Clause),
//! which finds the delay of the room and of the devices by itself, up to about half a second. Both live on the ear
//! thread; the callbacks only fill the [`Tap`]. Invariants: as many samples come out as go in; while nothing was played
//! for a while, or when it is told to leave the sound as it came, the sound passes unchanged but for the delay of
//! [`EchoCanceller::DELAY`] samples.

use super::playback::{PlaybackControl, PlaybackEnd, Tap};
use crate::dsp::resample::{ResampleError, Resampler};
use crate::time::Micros;
use sonora_aec3::block::Block;
use sonora_aec3::block_processor::BlockProcessor;
use sonora_aec3::config::EchoCanceller3Config;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The rate of both sides, in hertz.
const RATE: u32 = 16_000;
/// AEC3 counts in the amplitudes of 16-bit samples.
const FULL_SCALE: f32 = 32_768.0;
/// After so much silence of the loudspeaker (1 s) its echo has died away, and there is nothing to cancel.
const QUIET: usize = RATE as usize;
/// Quieter than this is silence: -90 dBFS.
const SILENCE: f32 = 3.2e-5;

/// What was taken out of a piece of sound.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    /// How many dB of it a linear filter explained by what was played: what somebody else says, it never does.
    pub explained_db: f32,
    /// How many dB of the rest were taken out on suspicion: what somebody says meanwhile may go with it.
    pub suppressed_db: f32,
}

/// Removes the echo of a known signal.
pub struct EchoCanceller {
    processor: Box<BlockProcessor>,
    far: Block,
    near: Block,
    /// The newest block of the microphone as it came, which has not come out yet.
    before: [f32; EchoCanceller::DELAY],
    /// What a linear filter alone leaves of the microphone's sound.
    linear: Block,
    /// How much of what comes out is as it came, 0..1: the rest is without echo.
    as_it_came: f32,
    /// Whether the last block passed unchanged.
    passing: bool,
    /// Samples since the far end was last heard.
    quiet: usize,
}

impl Default for EchoCanceller {
    fn default() -> Self {
        EchoCanceller {
            processor: Box::new(BlockProcessor::new(&config(), RATE as usize, 1, 1)),
            far: Block::new(1, 1),
            near: Block::new(1, 1),
            before: [0.0; Self::DELAY],
            linear: Block::new(1, 1),
            as_it_came: 1.0,
            passing: true,
            quiet: QUIET,
        }
    }
}

/// The canceller is tuned for calls, where an echo heard for a moment is worse than a consonant lost. Here it is the other
/// way round: the gates hold back an echo that comes through, and a lost "s" makes a hum of "stop".
fn config() -> EchoCanceller3Config {
    let mut config = EchoCanceller3Config::default();
    // Above 2 kHz, where the hisses are, lets no more be taken out than their own bands ask for.
    config.suppressor.high_frequency_suppression.bands_in_limiting_gain = 0;
    // After an echo the sound returns from -20 dB on, doubled every 4 ms; from -50 dB on that takes 68 ms: a whole "s".
    config.suppressor.floor_first_increase = 0.01;
    config
}

impl EchoCanceller {
    /// Samples that are worked on together: 4 ms.
    pub const BLOCK: usize = 64;
    /// How many samples later everything comes out.
    pub const DELAY: usize = 64;

    /// Whether nothing has been played for so long that there is nothing to cancel.
    pub fn is_resting(&self) -> bool {
        self.quiet >= QUIET
    }

    /// Removes from `near` the echo of `far`, what was played meanwhile. Both are 16 kHz mono, of the same length, a
    /// multiple of [`BLOCK`](Self::BLOCK). With `as_it_came` it goes on learning the echo, but takes nothing out.
    pub fn process(&mut self, far: &[f32], near: &mut [f32], as_it_came: bool) -> Cancelled {
        debug_assert!(far.len() == near.len() && near.len().is_multiple_of(Self::BLOCK));
        // One is a millionth of the softest sound there is, in the amplitudes of 16-bit samples.
        let (mut came, mut left, mut out) = (1.0, 1.0, 1.0);
        for (far, near) in far.chunks_exact(Self::BLOCK).zip(near.chunks_exact_mut(Self::BLOCK)) {
            let heard = far.iter().any(|x| x.abs() > SILENCE);
            self.quiet = if heard { 0 } else { self.quiet.saturating_add(Self::BLOCK) };
            if !self.is_resting() {
                if std::mem::take(&mut self.passing) {
                    // The block that has not come out yet is the first that it has to know of.
                    let mut owed = self.before;
                    self.cancel(&[0.0; Self::BLOCK], &mut owed, true);
                }
                let energy = |near: &[f32]| near.iter().map(|x| (x * FULL_SCALE).powi(2)).sum::<f32>();
                came += energy(near);
                self.cancel(far, near, as_it_came);
                out += energy(near);
                left += self.linear.view(0, 0).iter().map(|x| x * x).sum::<f32>();
            } else {
                (self.passing, self.as_it_came) = (true, 1.0);
                // One block later is exactly the canceller's own delay.
                near.swap_with_slice(&mut self.before);
            }
        }
        let db = |ratio: f32| 10.0 * ratio.log10();
        Cancelled { explained_db: db(came / left), suppressed_db: db(left / out) }
    }

    fn cancel(&mut self, far: &[f32], near: &mut [f32], as_it_came: bool) {
        let scaled = |block: &mut Block, samples: &[f32]| {
            for (to, from) in block.view_mut(0, 0).iter_mut().zip(samples) {
                *to = from * FULL_SCALE;
            }
        };
        scaled(&mut self.far, far);
        scaled(&mut self.near, near);
        // Where the processor has nothing to say yet, nothing is explained.
        scaled(&mut self.linear, near);
        let saturated = near.iter().any(|x| x.abs() >= 0.999);
        // As it came, in step with what comes out of the processor.
        near.swap_with_slice(&mut self.before);
        self.processor.buffer_render(&self.far);
        self.processor.process_capture(false, saturated, Some(&mut self.linear), &mut self.near);
        let step = if as_it_came { 1.0 } else { -1.0 } / Self::BLOCK as f32;
        for (to, from) in near.iter_mut().zip(self.near.view(0, 0)) {
            // From one to the other within a block: at once it would click.
            self.as_it_came = (self.as_it_came + step).clamp(0.0, 1.0);
            *to = self.as_it_came * *to + (1.0 - self.as_it_came) * from / FULL_SCALE;
        }
    }
}

/// How much earlier than its time the far end is given at most: a device that says it sounds later than it does must
/// not let the echo come before its cause. The canceller finds the rest of the delay.
const LEAD: Duration = Duration::from_millis(100);
/// What is left of that for the jitter of two callbacks.
const SLACK: Duration = Duration::from_millis(20);
/// How far the two clocks may drift apart before the far end is set anew. The canceller follows slow drift by itself, and
/// anything at once costs it a moment of blindness.
const DRIFT: i64 = RATE as i64 * 30 / 1000;
/// For so many calls in a row they must be apart: devices report their times with errors that come and go.
const PERSISTENT: u32 = 30;
/// Far-end samples that are kept after they were given, for a clock that is set back.
const KEPT: usize = RATE as usize / 5;

/// What the loudspeaker plays, at the pace and on the clock of the microphone.
pub struct FarEnd {
    tap: Tap,
    control: Arc<PlaybackControl>,
    resampler: Resampler,
    raw: Vec<f32>,
    /// At 16 kHz; the first of them has the number `first`.
    sound: VecDeque<f32>,
    first: i64,
    /// The number of the next sample to be given; `None` before the clocks were ever compared.
    next: Option<i64>,
    lead: Duration,
    /// Calls in a row that found the clocks apart.
    apart: u32,
    lost: u64,
}

impl FarEnd {
    /// Takes the tap of a loudspeaker; `None` when somebody has taken it already.
    ///
    /// # Errors
    /// When the loudspeaker's rate cannot be converted.
    pub fn of(playback: &mut PlaybackEnd) -> Result<Option<Self>, ResampleError> {
        let resampler = Resampler::new(playback.rate, RATE)?;
        Ok(playback.tap.take().map(|tap| FarEnd {
            tap,
            control: Arc::clone(&playback.control),
            resampler,
            raw: Vec::new(),
            sound: VecDeque::new(),
            first: 0,
            next: None,
            lead: Duration::ZERO,
            apart: 0,
            lost: 0,
        }))
    }

    /// Fills `out` with what sounded while the microphone captured as many samples at 16 kHz, the last of them at `end`.
    /// `newest` is when the newest sample that was read from the microphone was captured. What is not known is silence.
    pub fn sounded(&mut self, end: Micros, newest: Micros, out: &mut [f32]) {
        let torn = self.read();
        let (Some((device, at)), length) = (self.control.device_frames(), out.len() as i64) else {
            out.fill(0.0);
            return;
        };
        // The number of the sample that sounds at `end`, counted at 16 kHz.
        let rate = i64::from(self.control.rate().max(1));
        let sounds_at = |time: Micros| {
            let apart = time.0 as i64 - at.0 as i64;
            device as i64 * i64::from(RATE) / rate + apart * i64::from(RATE) / 1_000_000
        };
        let on_time = sounds_at(end) - length + samples(self.lead);
        let error = self.next.map_or(0, |next| (next - on_time).abs());
        self.apart = if error > DRIFT { self.apart + 1 } else { 0 };
        let next = match self.next {
            Some(next) if !torn && self.apart < PERSISTENT && error < 10 * DRIFT => next,
            _ => {
                self.apart = 0;
                self.lead = (at.since(newest).saturating_sub(SLACK)).min(LEAD);
                sounds_at(end) - length + samples(self.lead)
            }
        };
        for (number, to) in (next..).zip(out.iter_mut()) {
            let index = usize::try_from(number - self.first).ok();
            *to = index.and_then(|i| self.sound.get(i)).copied().unwrap_or(0.0);
        }
        self.next = Some(next + length);
        let given = usize::try_from(next + length - self.first).unwrap_or(0);
        let surplus = given.saturating_sub(KEPT).min(self.sound.len());
        self.sound.drain(..surplus);
        self.first += surplus as i64;
    }

    /// Takes what was played since the last time; whether some of it is missing, because nobody took it for long.
    fn read(&mut self) -> bool {
        self.raw.clear();
        self.tap.read(&mut self.raw);
        let lost = self.tap.lost();
        if lost != std::mem::replace(&mut self.lost, lost) {
            // What was in the ring is old, and what is missing came after it.
            self.sound.clear();
            self.resampler.reset();
            let next = (self.tap.read_total() + lost) * u64::from(RATE) / u64::from(self.control.rate().max(1));
            self.first = next as i64;
            return true;
        }
        let mut played = Vec::new();
        self.resampler.process(&self.raw, &mut played);
        self.sound.extend(played);
        false
    }
}

fn samples(time: Duration) -> i64 {
    time.as_micros() as i64 * i64::from(RATE) / 1_000_000
}

#[cfg(test)]
#[path = "echo_tests.rs"]
mod tests;
