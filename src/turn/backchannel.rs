//! Is a sound made while the assistant speaks an interruption, or only a sign of listening ("mm hm", "uh huh"), a cough?
//!
//! Judges by how it sounds, not by words: nothing here needs a model. What decides, in frames of 16 ms:
//!
//! - *articulation*: a hiss (s, t, f) or a closure (p, t, k) next to a vowel makes a word, and words interrupt;
//! - a *hum* has neither: lips closed or vowel unchanged, at most a breath between two pulses;
//! - a *cough* is noise where it is loudest;
//! - what goes on for 1 s is an interruption, whatever it is.
//!
//! The user may have it yield more easily or less: [`Sensitivity`].
//!
//! Pure; owned by the session thread, made anew for every onset. The thresholds were set on the fixtures and on
//! synthesised voices; levels are relative to the loudest frame so far, so that the microphone's gain does not matter.

use crate::dsp::level;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Samples of a frame at 16 kHz.
pub const FRAME: usize = 256;
/// A word is confirmed when speech has gone on for so many frames after its onset, which itself takes four to six: about
/// 250 ms in all (peers wait for 130 to 250 ms of any sound).
const WORD_FRAMES: usize = 10;
/// A closure alone makes a word when speech goes on for so many frames (448 ms): "uh huh" may have one as well.
const CLOSED_WORD_FRAMES: usize = 28;
/// Whatever lasts so many frames (1 s) is no back-channel; a slow "mm hmm" takes 0.8 s.
const LONG_FRAMES: usize = 63;
/// So many frames without speech (192 ms) end it: as many as end speech for the voice activity detector.
const SILENT_FRAMES: usize = 12;
/// Fewer voiced frames (80 ms) than this hold no vowel.
const VOWEL_FRAMES: usize = 5;
/// Frames that are not softer than the loudest by more than this, in dB, are where a sound is loud.
const LOUD_DB: f32 = 12.0;
/// A hiss is at most this much softer than the loudest frame, in dB.
const HISS_DB: f32 = 23.0;
/// Zero crossings of a frame from which it is a hiss: 2.5 kHz.
const HISS_CROSSINGS: usize = 80;
/// Zero crossings from which it can only be an "s": 4.7 kHz. Breath is lower, and noise of all frequencies is (4 kHz).
const SHARP_CROSSINGS: usize = 150;
/// An "s" is at most this much softer than the loudest frame, in dB: an echo canceller takes some of it.
const SHARP_DB: f32 = 30.0;
/// A closure is at least this much softer than the loudest frame, in dB.
const CLOSURE_DB: f32 = 25.0;
/// Between two pulses of a hum the level falls by at least this, in dB.
const DIP_DB: f32 = 7.0;
/// Periodicity from which a frame is voiced.
const VOICED: f32 = 0.4;
/// Energy of 500 to 1000 Hz over that below, in dB, from which the mouth is open.
const OPEN_DB: f32 = -9.0;
/// Nothing softer than this, in dBFS, was said to anybody.
const FAINT_DB: f32 = -52.0;

/// A word said to somebody who does not yield easily goes on for so many frames (400 ms), or ends; anything else, for so
/// many (1.5 s).
const FIRM_WORD_FRAMES: usize = 25;
const FIRM_LONG_FRAMES: usize = 94;

/// How easily a sound stops the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Clear words, or insisting: for rooms where others talk.
    Low,
    #[default]
    Normal,
    /// Any sound that lasts as long as a word's beginning, signs of listening too.
    High,
}

impl Sensitivity {
    pub const ALL: [Sensitivity; 3] = [Sensitivity::Low, Sensitivity::Normal, Sensitivity::High];

    /// Frames of speech from which a word interrupts before it ends.
    const fn word_frames(self) -> usize {
        match self {
            Sensitivity::Low => FIRM_WORD_FRAMES,
            Sensitivity::Normal | Sensitivity::High => WORD_FRAMES,
        }
    }

    /// Frames of speech from which anything does.
    const fn long_frames(self) -> usize {
        match self {
            Sensitivity::Low => FIRM_LONG_FRAMES,
            Sensitivity::Normal => LONG_FRAMES,
            Sensitivity::High => WORD_FRAMES,
        }
    }

    /// Whether a syllable that may be a "no" or a "yeah" does.
    const fn takes_syllables(self) -> bool {
        !matches!(self, Sensitivity::Low)
    }
}

/// What a sound made during an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to say.
    Wait,
    /// A sign of listening, a cough, a noise: the answer goes on.
    BackChannel,
    /// The user wants the floor.
    Interruption,
}

/// What is to be known of one frame.
#[derive(Clone, Copy, Debug, Default)]
struct Sound {
    level_db: f32,
    /// An echo canceller may have made it softer than it was.
    torn: bool,
    crossings: usize,
    voiced: bool,
    open: bool,
}

/// Listens to one sound, from shortly before its onset to its end.
pub struct BackChannel {
    sensitivity: Sensitivity,
    fft: Arc<dyn RealToComplex<f32>>,
    /// The frame before, for a window of two.
    before: [f32; FRAME],
    pending: Vec<f32>,
    sounds: Vec<Sound>,
    /// Frames since the onset, without the silence after them.
    run: usize,
    silence: usize,
}

impl Default for BackChannel {
    fn default() -> Self {
        BackChannel {
            sensitivity: Sensitivity::default(),
            fft: RealFftPlanner::new().plan_fft_forward(2 * FRAME),
            before: [0.0; FRAME],
            pending: Vec::with_capacity(FRAME),
            sounds: Vec::with_capacity(2 * LONG_FRAMES),
            run: 0,
            silence: 0,
        }
    }
}

impl BackChannel {
    /// Judges by this measure.
    pub fn new(sensitivity: Sensitivity) -> Self {
        BackChannel { sensitivity, ..BackChannel::default() }
    }

    /// What was heard shortly before the onset: first consonants are softer than what makes an onset.
    pub fn before_onset(&mut self, samples: &[f32]) {
        // Nothing is known of what was taken out of it.
        self.measure(samples, true);
    }

    /// Hears more (16 kHz mono), which the detector took for `speech` or not; `torn`: an echo canceller may have made it
    /// softer than it was.
    pub fn hear(&mut self, samples: &[f32], speech: bool, torn: bool) -> Verdict {
        let frames = self.measure(samples, torn);
        if speech {
            self.run += std::mem::take(&mut self.silence) + frames;
        } else {
            self.silence += frames;
        }
        let measure = self.sensitivity;
        if self.run >= measure.long_frames() || (self.run >= measure.word_frames() && self.is_word()) {
            return Verdict::Interruption;
        }
        if self.silence < SILENT_FRAMES {
            return Verdict::Wait;
        }
        let interrupts = self.is_word() || (measure.takes_syllables() && self.is_one_open_syllable());
        if interrupts { Verdict::Interruption } else { Verdict::BackChannel }
    }

    /// Measures every frame that is complete; returns how many were.
    fn measure(&mut self, samples: &[f32], torn: bool) -> usize {
        let mut frames = 0;
        for &sample in samples {
            self.pending.push(if sample.is_finite() { sample } else { 0.0 });
            if self.pending.len() == FRAME {
                let mut frame = [0.0; FRAME];
                frame.copy_from_slice(&self.pending);
                self.pending.clear();
                self.sounds.push(self.sound(&frame, torn));
                self.before = frame;
                frames += 1;
            }
        }
        frames
    }

    fn sound(&self, frame: &[f32; FRAME], torn: bool) -> Sound {
        let crossings = frame.windows(2).filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0)).count();
        let window: Vec<f32> = self.before.iter().chain(frame).copied().collect();
        Sound {
            level_db: level::rms_db(frame),
            crossings,
            voiced: crossings < HISS_CROSSINGS && periodicity(&window) >= VOICED,
            open: self.openness_db(window) >= OPEN_DB,
            torn,
        }
    }

    /// Energy of 500 to 1000 Hz over that of 60 to 500 Hz, in dB.
    fn openness_db(&self, mut window: Vec<f32>) -> f32 {
        let n = window.len();
        for (i, x) in window.iter_mut().enumerate() {
            *x *= 0.5 - 0.5 * (std::f32::consts::TAU * i as f32 / n as f32).cos();
        }
        let mut spectrum = self.fft.make_output_vec();
        if self.fft.process(&mut window, &mut spectrum).is_err() {
            unreachable!("both vectors have the lengths of the plan");
        }
        // One bin is 31.25 Hz wide.
        let energy = |bins: std::ops::Range<usize>| spectrum[bins].iter().map(|c| c.norm_sqr()).sum::<f32>() + 1e-12;
        10.0 * (energy(16..32) / energy(2..16)).log10()
    }

    fn loudest_db(&self) -> f32 {
        self.sounds.iter().map(|s| s.level_db).fold(level::SILENCE_DB, f32::max)
    }

    /// Whether there is a vowel, and the sound is a voice where it is loudest.
    fn has_vowel(&self) -> bool {
        let loud = self.loudest_db() - LOUD_DB;
        let (mut voiced, mut noise) = (0, 0);
        for sound in self.sounds.iter().filter(|s| s.level_db >= loud) {
            if sound.voiced { voiced += 1 } else { noise += 1 }
        }
        voiced >= VOWEL_FRAMES && voiced > noise
    }

    /// Whether a vowel stands next to a hiss or, in something longer, to a closure.
    fn is_word(&self) -> bool {
        self.has_vowel() && (self.has_hiss() || (self.run >= CLOSED_WORD_FRAMES && self.has_closure()))
    }

    fn has_hiss(&self) -> bool {
        let loudest = self.loudest_db();
        let (hiss, sharp) = ((loudest - HISS_DB).max(FAINT_DB), (loudest - SHARP_DB).max(FAINT_DB));
        let hiss = |s: &Sound| {
            (s.crossings >= HISS_CROSSINGS && s.level_db >= hiss)
                || (s.crossings >= SHARP_CROSSINGS && s.level_db >= sharp)
        };
        self.sounds.windows(2).any(|pair| pair.iter().all(hiss))
    }

    /// A short silence between two voiced stretches that begins and ends at once, as lips and tongue make it.
    fn has_closure(&self) -> bool {
        let loudest = self.loudest_db();
        let (closed, sounding) = (loudest - CLOSURE_DB, loudest - LOUD_DB - 3.0);
        let mut since_sound = None::<usize>;
        for sound in &self.sounds {
            if sound.level_db >= sounding {
                if since_sound.is_some_and(|frames| (2..=9).contains(&frames)) {
                    return true;
                }
                since_sound = Some(0);
            } else if let Some(frames) = &mut since_sound {
                // Frames on the way down and up are neither: they make no closure, and end none.
                if sound.level_db <= closed && !sound.torn {
                    *frames += 1;
                }
            }
        }
        false
    }

    /// Whether it was one syllable with the mouth open ("no", "hey"), and not a hum or two pulses of one.
    fn is_one_open_syllable(&self) -> bool {
        self.has_vowel() && self.openness() >= 0.7 && self.pulses() == 1
    }

    /// The share of what is loud that is voiced with the mouth open.
    fn openness(&self) -> f32 {
        let loud = self.loudest_db() - LOUD_DB;
        let loud: Vec<&Sound> = self.sounds.iter().filter(|s| s.level_db >= loud).collect();
        loud.iter().filter(|s| s.voiced && s.open).count() as f32 / loud.len().max(1) as f32
    }

    /// How many times the level rises by more than [`DIP_DB`] after having fallen by as much.
    fn pulses(&self) -> usize {
        let faint = self.loudest_db() - 20.0;
        let (mut pulses, mut top, mut bottom, mut falling) = (0, level::SILENCE_DB, level::SILENCE_DB, true);
        for level in self.sounds.iter().map(|s| s.level_db) {
            if falling {
                bottom = bottom.min(level);
                if level >= bottom + DIP_DB && level >= faint {
                    (pulses, falling, top) = (pulses + 1, false, level);
                }
            } else {
                top = top.max(level);
                if level <= top - DIP_DB {
                    (falling, bottom) = (true, level);
                }
            }
        }
        pulses
    }
}

/// The highest normalised autocorrelation at the periods of a voice (70 to 400 Hz).
fn periodicity(window: &[f32]) -> f32 {
    let mean = window.iter().sum::<f32>() / window.len() as f32;
    let centred: Vec<f32> = window.iter().map(|x| x - mean).collect();
    (40..=228)
        .map(|lag| {
            let (a, b) = (&centred[lag..], &centred[..centred.len() - lag]);
            let (mut cross, mut energy) = (0.0, 1e-9);
            for (x, y) in a.iter().zip(b) {
                cross += x * y;
                energy += 0.5 * (x * x + y * y);
            }
            cross / energy
        })
        .fold(0.0, f32::max)
}

#[cfg(test)]
#[path = "backchannel_tests.rs"]
mod tests;
