//! When who spoke, and how whole the sound was. Pure arithmetic on a recording; no thread, no clock, no device.
//!
//! Times are counted in samples of the recording, whose two sides share one clock.

use anyhow::{Context, Result};
use std::ops::Range;
use std::path::Path;

/// Quieter than this, in dB below full scale, is silence.
pub const FLOOR_DB: f32 = -50.0;
/// A pause shorter than this, in seconds, belongs to the speech around it.
const HANG_S: f64 = 1.0;
/// A sound on either side of a hole that is louder than this was cut, and had not died away.
const CUT_DB: f32 = -40.0;

/// Both sides of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Hertz.
    pub rate: u32,
    /// What the user said, within -1..1.
    pub user: Vec<f32>,
    /// What the program played, within -1..1, as long as `user`.
    pub answer: Vec<f32>,
}

/// One thing the user said, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// From the first to after the last audible sample of the user.
    pub user: Range<usize>,
    /// The same of the answer that began after it, if one did.
    pub answer: Option<Range<usize>>,
    /// Milliseconds from the user's last audible sample to the answer's first.
    pub gap_ms: Option<f64>,
    /// The answer's holes of more than 5 ms.
    pub holes: Vec<Hole>,
}

/// A run of samples that are exactly zero: nothing that was spoken, or ever passed a loudspeaker, is exactly zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Hole {
    pub at: Range<usize>,
    /// Milliseconds.
    pub ms: f64,
    /// The level of the 30 ms before and after, in dB.
    pub before_db: f32,
    pub after_db: f32,
}

impl Hole {
    /// Whether it was torn into a clause, rather than lying in the pause between two: sound is cut on both sides.
    pub fn inside_clause(&self) -> bool {
        self.before_db > CUT_DB && self.after_db > CUT_DB
    }
}

impl Recording {
    /// From interleaved frames: left is the user, right is the answer.
    pub fn from_interleaved(rate: u32, frames: &[i16]) -> Recording {
        let side = |first: usize| frames.iter().skip(first).step_by(2).map(|s| f32::from(*s) / 32768.0).collect();
        Recording { rate, user: side(0), answer: side(1) }
    }

    /// Writes it as a WAV file, for a listener to judge a failed test by.
    pub fn save(&self, wav: &Path) -> Result<()> {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer =
            hound::WavWriter::create(wav, spec).with_context(|| format!("cannot write {}", wav.display()))?;
        for (user, answer) in self.user.iter().zip(&self.answer) {
            writer.write_sample((user * 32768.0) as i16)?;
            writer.write_sample((answer * 32768.0) as i16)?;
        }
        writer.finalize()?;
        Ok(())
    }

    pub fn seconds(&self, samples: usize) -> f64 {
        samples as f64 / f64::from(self.rate)
    }

    /// Every stretch of the user's speech with the answer that followed.
    pub fn turns(&self) -> Vec<Turn> {
        let answers = spans(&self.answer, self.rate, FLOOR_DB, HANG_S);
        let turn = |user: Range<usize>| {
            // Two sides whose edges fall into one window count as one after the other.
            let slack = self.rate as usize / 20;
            let answer = answers.iter().find(|answer| answer.start + slack > user.end).cloned();
            let gap_ms = answer
                .as_ref()
                .map(|answer| (answer.start as f64 - (user.end - 1) as f64) * 1000.0 / f64::from(self.rate));
            let holes = answer.clone().map(|answer| holes(&self.answer, self.rate, answer, 5.0)).unwrap_or_default();
            Turn { user, answer, gap_ms, holes }
        };
        spans(&self.user, self.rate, FLOOR_DB, HANG_S).into_iter().map(turn).collect()
    }
}

/// Where a signal is audible: stretches of 10 ms windows above `floor_db`, joined over pauses of up to `hang_s`
/// seconds, from their first to after their last sample above the floor.
pub fn spans(signal: &[f32], rate: u32, floor_db: f32, hang_s: f64) -> Vec<Range<usize>> {
    let window = (rate as usize / 100).max(1);
    let hang = (hang_s * f64::from(rate)) as usize;
    let mut found: Vec<Range<usize>> = Vec::new();
    for (index, samples) in signal.chunks_exact(window).enumerate() {
        if level_db(samples) <= floor_db {
            continue;
        }
        let at = index * window;
        match found.last_mut() {
            Some(last) if at - last.end <= hang => last.end = at + window,
            _ => found.push(at..at + window),
        }
    }
    let loud = 10_f32.powf(floor_db / 20.0);
    let slack = 2 * window;
    for span in &mut found {
        let around = span.start.saturating_sub(slack)..(span.end + slack).min(signal.len());
        let mut audible = around.filter(|i| signal[*i].abs() > loud);
        let start = audible.next().unwrap_or(span.start);
        *span = start..audible.next_back().unwrap_or(start) + 1;
    }
    found
}

/// The runs of exactly zero of more than `min_ms` milliseconds within a stretch of the signal.
pub fn holes(signal: &[f32], rate: u32, within: Range<usize>, min_ms: f64) -> Vec<Hole> {
    let around = rate as usize * 30 / 1000;
    let ms = |samples: usize| samples as f64 * 1000.0 / f64::from(rate);
    let mut found = Vec::new();
    let mut start = within.start;
    for i in within.clone() {
        if signal[i] == 0.0 {
            continue;
        }
        if ms(i - start) > min_ms {
            found.push(Hole {
                at: start..i,
                ms: ms(i - start),
                before_db: level_db(&signal[start.saturating_sub(around).max(within.start)..start]),
                after_db: level_db(&signal[i..(i + around).min(within.end)]),
            });
        }
        start = i + 1;
    }
    found
}

/// The largest step from one sample to the next within a signal, and the index of the sample it leads to.
pub fn largest_jump(signal: &[f32]) -> (usize, f32) {
    signal
        .windows(2)
        .enumerate()
        .map(|(i, pair)| (i + 1, (pair[1] - pair[0]).abs()))
        .fold((0, 0.0), |most, next| if next.1 > most.1 { next } else { most })
}

/// Root mean square in dB below full scale; -200 for silence.
pub fn level_db(signal: &[f32]) -> f32 {
    let power = signal.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>() / signal.len().max(1) as f64;
    (10.0 * (power + 1e-20).log10()) as f32
}
