//! A recording of somebody speaking, taken apart: what each 16 ms frame is, where samples are clipped, and which stretch
//! would make the best reference voice. Pure; runs on whichever thread asks. What the figures mean is judged in
//! [`check`](super::check).
//!
//! Invariants: spans are in seconds of the recording as it was read; frame `i` covers the samples `i * FRAME` to
//! `(i + 1) * FRAME` at 16 kHz.

use crate::audio::Clip;
use crate::dsp::level;
use crate::dsp::resample::{self, ResampleError};
use crate::engine::HEARING_RATE;
use crate::turn::vad::{FRAME, Vad, VadConfig, VadFrame};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Of a longer recording only the beginning is looked at: ten minutes hold more than enough to choose from.
const LOOKED_AT_S: usize = 600;
/// The longest reference the model hears at once, in seconds (its encoder has 30 s of positions).
pub const LONGEST_S: f64 = 30.0;
/// What is proposed is at least and at most so long: upstream's advice for cloning (MiniCPM-V issue 842).
const PROPOSED_S: (f64, f64) = (5.0, 15.0);
/// More speech than this adds little to a voice.
const ENOUGH_SPEECH_S: f64 = 10.0;
/// The active level that the voice activity detector is given, whatever the recording's: the nominal level of speech in
/// telephony, -26 dBov (ITU-T P.56 with G.191).
const VAD_LEVEL_DB: f32 = -26.0;
/// A recording that needs more than this to get there is as good as silent.
const VAD_GAIN_DB: f32 = 50.0;
/// How far below the active level sound still counts as active (ITU-T P.56, method B), and for how long after it
/// (200 ms there).
const ACTIVE_MARGIN_DB: f64 = 15.9;
const ACTIVE_HANGOVER: usize = 12;
/// Voice begins up to so many frames before the detector is sure of it.
const ONSET: usize = 5;
/// The detector's own hangover is longer: speech ends this long after the last voiced frame.
const HANGOVER_MS: u32 = 64;
/// A gap of at least this many frames (144 ms) may be cut in: shorter ones are closures within words.
const PAUSE: usize = 9;
/// Kept of a pause beside a cut, at most: 160 ms.
const MARGIN: usize = 10;
/// Frames this near to speech (96 ms) hold its decay in the room, and say nothing about the background.
const DECAY: usize = 6;
/// Fewer frames than this (0.2 s) are too few to measure a background on.
const BACKGROUND: usize = 12;
/// A background this far below the voice is as good as none when stretches are compared.
const CLEAN_DB: f64 = 30.0;
/// A share of clipped samples that nobody hears.
pub const UNHEARD: f64 = 0.0001;
/// Digital silence, as a mean square: nobody's background, but what an editor or a codec leaves.
const DIGITAL_SILENCE: f64 = 1e-10;
/// A silence longer than this inside speech is a long one, in seconds.
pub const LONG_SILENCE_S: f64 = 1.0;
/// Fade at the ends of what is cut out, against a click: 5 ms.
const FADE: usize = HEARING_RATE as usize / 200;

/// A stretch of a recording, in seconds from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub start_s: f64,
    pub end_s: f64,
}

impl Span {
    pub fn new(start_s: f64, end_s: f64) -> Self {
        Span { start_s, end_s }
    }

    /// Length in seconds, never negative.
    pub fn seconds(&self) -> f64 {
        (self.end_s - self.start_s).max(0.0)
    }

    /// The part of the span that lies within `0..seconds`, at most [`LONGEST_S`] of it. What is not a number is 0.
    pub fn within(self, seconds: f64) -> Self {
        let inside = |at: f64| if at.is_nan() { 0.0 } else { at.clamp(0.0, seconds) };
        let start_s = inside(self.start_s);
        Span { start_s, end_s: inside(self.end_s).clamp(start_s, start_s + LONGEST_S) }
    }
}

/// Samples of equal value at the top or the bottom of the wave, where there were higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatTop {
    /// The first sample, counted at the recording's own rate.
    pub at: usize,
    pub samples: usize,
}

/// A recording and what was found in it.
#[derive(Debug)]
pub struct Recording {
    samples: Vec<f32>,
    powers: Vec<f64>,
    speech: Vec<bool>,
    /// `sums[i]`: speech frames before frame `i`.
    sums: Vec<usize>,
    flat: Vec<FlatTop>,
    rate: u32,
    length: usize,
}

impl Recording {
    /// Takes a recording apart. Costs about a hundredth of the time it plays.
    ///
    /// # Errors
    /// When its rate cannot be brought to 16 kHz.
    pub fn new(clip: &Clip) -> Result<Self, ResampleError> {
        let length = clip.samples.len().min(LOOKED_AT_S * clip.rate as usize);
        let original = &clip.samples[..length];
        let samples = resample::convert(original, clip.rate, HEARING_RATE)?;
        let power = |frame: &[f32]| f64::from(level::rms(frame)).powi(2);
        let powers: Vec<f64> = samples.chunks_exact(FRAME).map(power).collect();
        let speech = speech_frames(&samples, active_power(&powers));
        let mut sums = vec![0; speech.len() + 1];
        for (i, is_speech) in speech.iter().enumerate() {
            sums[i + 1] = sums[i] + usize::from(*is_speech);
        }
        Ok(Recording { samples, powers, speech, sums, flat: flat_tops(original), rate: clip.rate, length })
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.length as f64 / f64::from(self.rate.max(1))
    }

    fn frames(&self, span: Span) -> Range<usize> {
        let span = span.within(self.seconds());
        let frame = |at_s: f64| (at_s * f64::from(HEARING_RATE) / FRAME as f64).round() as usize;
        let end = frame(span.end_s).min(self.powers.len());
        frame(span.start_s).min(end)..end
    }

    /// The samples of a span at 16 kHz, with the ends faded.
    pub fn cut(&self, span: Span) -> Arc<[f32]> {
        let mut samples = self.samples(span).to_vec();
        level::fade_in(&mut samples, FADE);
        level::fade_out(&mut samples, FADE);
        samples.into()
    }

    /// The samples of a span at 16 kHz, as they are.
    pub fn samples(&self, span: Span) -> &[f32] {
        let span = span.within(self.seconds());
        let at = |at_s: f64| ((at_s * f64::from(HEARING_RATE)).round() as usize).min(self.samples.len());
        &self.samples[at(span.start_s)..at(span.end_s)]
    }

    /// The lowest and the highest sample of each of `count` equal stretches, for drawing.
    pub fn peaks(&self, count: usize) -> Vec<[f32; 2]> {
        let edge = |i: usize| i * self.samples.len() / count.max(1);
        let extremes = |stretch: &[f32]| {
            stretch.iter().fold([0.0f32, 0.0f32], |[low, high], sample| [low.min(*sample), high.max(*sample)])
        };
        (0..count).map(|i| extremes(&self.samples[edge(i)..edge(i + 1)])).collect()
    }

    /// The active speech level of a span in dBFS: the root mean square while there is sound, after ITU-T P.56, method B,
    /// on frames of 16 ms.
    pub fn level_db(&self, span: Span) -> f64 {
        decibels(active_power(&self.powers[self.frames(span)]))
    }

    /// How far the background lies below the voice, in dB; `None` where nobody speaks. The background is what is left
    /// where nobody speaks: within the span, or else anywhere in the recording, or else its quietest frames.
    pub fn snr_db(&self, span: Span) -> Option<f64> {
        let frames = self.frames(span);
        let all = || self.pauses_between(0..self.powers.len());
        // The quietest twentieth: no louder than the background can be.
        let quietest = || percentile(&self.powers[frames.clone()], 0.05).max(DIGITAL_SILENCE);
        let noise = self.pauses_between(frames.clone()).or_else(all).unwrap_or_else(quietest);
        self.snr(frames, noise)
    }

    /// How far a mean square lies below the voice in these frames.
    fn snr(&self, frames: Range<usize>, noise: f64) -> Option<f64> {
        let voiced: Vec<f64> = frames.filter(|i| self.speech[*i]).map(|i| self.powers[i]).collect();
        let voice = voiced.iter().sum::<f64>() / voiced.len() as f64 - noise;
        (!voiced.is_empty()).then(|| 10.0 * (voice.max(noise * 1e-3) / noise).log10())
    }

    /// Mean square of the background in the pauses of a stretch; `None` where there are too few. The median: a chair or a
    /// breath in a pause is not the background. Pauses without an audible sample are as quiet as it gets.
    fn pauses_between(&self, frames: Range<usize>) -> Option<f64> {
        let far = |i: &usize| {
            let near = i.saturating_sub(DECAY)..(i + DECAY + 1).min(self.speech.len());
            self.sums[near.start] == self.sums[near.end]
        };
        let pauses: Vec<f64> = frames.filter(far).map(|i| self.powers[i]).collect();
        let audible: Vec<f64> = pauses.iter().copied().filter(|p| *p > DIGITAL_SILENCE).collect();
        match (audible.len() >= BACKGROUND, pauses.len() >= BACKGROUND) {
            (true, _) => Some(percentile(&audible, 0.5)),
            (false, true) => Some(DIGITAL_SILENCE),
            (false, false) => None,
        }
    }

    /// The share of clipped samples in a span.
    pub fn clipped_share(&self, span: Span) -> f64 {
        let span = span.within(self.seconds());
        let at = |at_s: f64| (at_s * f64::from(self.rate)).round() as usize;
        let (start, end) = (at(span.start_s), at(span.end_s).min(self.length));
        let inside = |top: &FlatTop| (top.at + top.samples).min(end).saturating_sub(top.at.max(start));
        let clipped: usize = self.flat.iter().map(inside).sum();
        clipped as f64 / end.saturating_sub(start).max(1) as f64
    }

    /// Seconds of speech in a span.
    pub fn speech_s(&self, span: Span) -> f64 {
        let frames = self.frames(span);
        seconds(self.sums[frames.end] - self.sums[frames.start])
    }

    /// How many silences longer than [`LONG_SILENCE_S`] lie between the first and the last word of a span.
    pub fn long_silences(&self, span: Span) -> usize {
        let frames = self.frames(span);
        let voiced: Vec<usize> = frames.filter(|i| self.speech[*i]).collect();
        voiced.windows(2).filter(|pair| seconds(pair[1] - pair[0] - 1) > LONG_SILENCE_S).count()
    }

    /// How far the level rises and falls in a span, in dB: from its quiet frames (the tenth percentile) to its loud ones
    /// (the ninety-fifth).
    pub fn swing_db(&self, span: Span) -> f64 {
        let powers = &self.powers[self.frames(span)];
        decibels(percentile(powers, 0.95)) - decibels(percentile(powers, 0.1))
    }

    /// The best stretch to take the voice from: 5 to 15 s with much speech, little noise and no clipping, cut in pauses.
    /// The whole voice where there is less; without any voice, the beginning.
    pub fn propose(&self) -> Span {
        let all = self.powers.len();
        let (starts, ends) = self.cuts();
        let (Some(first), Some(last)) = (starts.first().copied(), ends.last().copied()) else {
            return Span::new(0.0, self.seconds().min(PROPOSED_S.1));
        };
        let fits = |from: usize, to: usize| to > from && (PROPOSED_S.0..=PROPOSED_S.1).contains(&seconds(to - from));
        let pairs = starts.iter().flat_map(|from| {
            let near = ends.iter().skip_while(move |to| **to <= *from);
            near.take_while(move |to| seconds(**to - *from) <= PROPOSED_S.1).map(move |to| (*from, *to))
        });
        let best = pairs
            .filter(|(from, to)| fits(*from, *to))
            .map(|(from, to)| (self.merit(from, to), from, to))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (from, to) = match best {
            Some((_, from, to)) => (from, to),
            None if seconds(last - first) <= PROPOSED_S.1 => (first, last),
            // Nobody takes a breath for 15 s: the quietest frame in reach has to do.
            None => {
                let reach = first + frames_in(PROPOSED_S.0)..(first + frames_in(PROPOSED_S.1)).min(all);
                let quiet = reach.min_by(|a, b| self.powers[*a].total_cmp(&self.powers[*b]));
                (first, quiet.unwrap_or(last))
            }
        };
        Span::new(seconds(from), seconds(to).min(self.seconds()))
    }

    /// Where a stretch may begin and where it may end: in pauses, and around the first and the last word.
    fn cuts(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        let mut last: Option<usize> = None;
        for i in (0..self.speech.len()).filter(|i| self.speech[*i]) {
            let gap = last.map_or(i, |last| i - last - 1);
            if last.is_none() || gap >= PAUSE {
                let margin = if last.is_none() { gap.min(MARGIN) } else { (gap / 2).min(MARGIN) };
                starts.push(i - margin);
                ends.extend(last.map(|last| last + 1 + margin));
            }
            last = Some(i);
        }
        ends.extend(last.map(|last| (last + 1 + MARGIN).min(self.speech.len())));
        (starts, ends)
    }

    /// How good a stretch of frames is, in seconds of clean speech.
    fn merit(&self, from: usize, to: usize) -> f64 {
        let span = Span::new(seconds(from), seconds(to));
        let speech = self.speech_s(span);
        let share = speech / span.seconds();
        // A second of speech is worth 7 dB of noise in the noisiest third, or a long silence; two seconds are worth being
        // free of clipping.
        let edge = |third: usize| from + third * (to - from) / 3;
        let thirds = (0..3).filter_map(|third| self.pauses_between(edge(third)..edge(third + 1)));
        let noisiest = thirds.max_by(f64::total_cmp).and_then(|noise| self.snr(from..to, noise));
        let noise = (CLEAN_DB - noisiest.or_else(|| self.snr_db(span)).unwrap_or(0.0)).max(0.0) * 0.15;
        let share_clipped = self.clipped_share(span);
        let clipped = if share_clipped > UNHEARD { 2.0 + 50.0 * share_clipped } else { 0.0 };
        speech.min(ENOUGH_SPEECH_S) + 3.0 * share - noise - clipped - self.long_silences(span) as f64
    }
}

fn seconds(frames: usize) -> f64 {
    (frames * FRAME) as f64 / f64::from(HEARING_RATE)
}

fn frames_in(seconds: f64) -> usize {
    (seconds * f64::from(HEARING_RATE) / FRAME as f64) as usize
}

/// A mean square as a level.
fn decibels(power: f64) -> f64 {
    (10.0 * power.log10()).max(f64::from(level::SILENCE_DB))
}

/// The value that the given share of the values lies below; 0 for no values.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1)) as f64 * share;
    sorted.get(at.round() as usize).copied().unwrap_or(0.0)
}

/// The mean square while there is sound: of the frames that are at most 15.9 dB below that mean square itself, and of
/// those within 200 ms after one (ITU-T P.56, method B, by iteration from the long-term mean).
fn active_power(powers: &[f64]) -> f64 {
    let mut active = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
    for _ in 0..32 {
        let threshold = active * 10f64.powf(-ACTIVE_MARGIN_DB / 10.0);
        let (mut sum, mut count, mut since) = (0.0, 0usize, usize::MAX);
        for power in powers {
            since = if *power >= threshold && *power > 0.0 { 0 } else { since.saturating_add(1) };
            if since <= ACTIVE_HANGOVER {
                (sum, count) = (sum + power, count + 1);
            }
        }
        let next = sum / count.max(1) as f64;
        if (next - active).abs() <= active * 1e-6 {
            break;
        }
        active = next;
    }
    active
}

/// Which frames are speech. The detector hears every recording at the same level, so that a quiet voice is a voice.
fn speech_frames(samples: &[f32], active: f64) -> Vec<bool> {
    let gain_db = (VAD_LEVEL_DB - decibels(active) as f32).min(VAD_GAIN_DB);
    let gain = level::from_db(gain_db);
    let mut vad = Vad::new(VadConfig::default());
    let mut speech = Vec::with_capacity(samples.len() / FRAME);
    let mut before = false;
    let mut take = |frame: VadFrame| {
        let is_speech = frame.speech && frame.silence_ms <= HANGOVER_MS;
        if frame.speech && !before {
            let onset = speech.len().saturating_sub(ONSET);
            speech[onset..].fill(true);
        }
        before = frame.speech;
        speech.push(is_speech);
    };
    let mut louder = Vec::with_capacity(FRAME);
    for frame in samples.chunks_exact(FRAME) {
        louder.clear();
        louder.extend(frame.iter().map(|sample| sample * gain));
        vad.push(&louder, &mut take);
    }
    speech
}

/// Runs of at least this many samples at the very top or bottom are flat: sampled often enough for speech, a wave's own
/// crest stays within a step of 16 bits for two samples at most.
const FLAT: usize = 3;
/// One step of 16 bits and a half: converters and editors round.
const STEP: f32 = 1.5 / 32_768.0;
/// A wave that was clipped and then made quieter is flat at its own top: at several places, or it is a coincidence.
const PLACES: usize = 3;
/// At full scale, one place is enough.
const FULL_SCALE: f32 = 0.999;
/// Quieter tops than this are steps of the converter, not clipping.
const LOWEST_TOP: f32 = 0.02;

/// Where the wave is flat at its highest or its lowest value.
fn flat_tops(samples: &[f32]) -> Vec<FlatTop> {
    let mut all = Vec::new();
    for sign in [1.0f32, -1.0] {
        let top = samples.iter().fold(0.0f32, |top, sample| top.max(sign * sample));
        if top < LOWEST_TOP {
            continue;
        }
        let mut runs = Vec::new();
        let mut run = 0;
        for (i, sample) in samples.iter().chain([&0.0]).enumerate() {
            if sign * sample >= top - STEP {
                run += 1;
                continue;
            }
            if run >= FLAT {
                runs.push(FlatTop { at: i - run, samples: run });
            }
            run = 0;
        }
        if runs.len() >= PLACES || top >= FULL_SCALE {
            all.extend(runs);
        }
    }
    all.sort_unstable_by_key(|top| top.at);
    all
}

#[cfg(test)]
#[path = "recording_tests.rs"]
pub(in crate::voice) mod tests;
