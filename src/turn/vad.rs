//! Voice activity: is somebody speaking right now?
//!
//! Wraps earshot's small network, one score for each 16 ms of 16 kHz sound, and smooths its scores into speech with a
//! beginning and an end. Lives on the ear thread and is its own state: no clock, time is counted in frames. Invariant:
//! the result does not depend on how the sound is cut into pushes.

use earshot::Detector;
use std::collections::VecDeque;

/// Samples of a frame: 16 ms at 16 kHz.
pub const FRAME: usize = 256;
const FRAME_MS: u32 = 16;

/// When scores become speech.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VadConfig {
    /// A frame at or above this score is voice that can begin speech.
    pub onset: f32,
    /// During speech, a frame at or above this score is still voice.
    pub sustain: f32,
    /// Speech begins when `onset_frames` of the last `onset_window` are voice.
    pub onset_frames: usize,
    pub onset_window: usize,
    /// Speech ends after this many frames without voice.
    pub hangover_frames: u32,
}

impl Default for VadConfig {
    /// Begins within 100 ms, not on a click; ends after 190 ms, not within a word. Steady noise scores up to 0.65 when
    /// it sets in, speech 0.8 and more.
    fn default() -> Self {
        Self { onset: 0.7, sustain: 0.35, onset_frames: 4, onset_window: 6, hangover_frames: 12 }
    }
}

/// What one frame was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VadFrame {
    /// The network's score, 0..1.
    pub score: f32,
    /// Whether this frame belongs to speech (its hangover included).
    pub speech: bool,
    /// Speech began with this frame, or ended with it.
    pub change: Option<VadChange>,
    /// Milliseconds since the last frame with voice; 0 while there is voice.
    pub silence_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VadChange {
    Onset,
    End,
}

/// The voice activity detector of one stream of sound.
pub struct Vad {
    detector: Box<Detector>,
    smoother: Smoother,
    pending: Vec<f32>,
}

impl Vad {
    pub fn new(config: VadConfig) -> Self {
        Self {
            detector: Detector::default_boxed(),
            smoother: Smoother::new(config),
            pending: Vec::with_capacity(FRAME),
        }
    }

    /// Forgets everything: for another stream of sound.
    pub fn reset(&mut self) {
        self.detector.reset();
        self.smoother = Smoother::new(self.smoother.config);
        self.pending.clear();
    }

    /// Hears more sound (16 kHz mono) and reports every frame that it completes.
    pub fn push(&mut self, pcm: &[f32], report: impl FnMut(VadFrame)) {
        self.push_gated(pcm, true, report);
    }

    /// As [`push`](Self::push); what does not get through the gate is no voice, whatever it sounds like.
    pub fn push_gated(&mut self, pcm: &[f32], lets_through: bool, mut report: impl FnMut(VadFrame)) {
        for &sample in pcm {
            // The network wants -1..1; a sample that is not a number is silence.
            self.pending.push(if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) });
            if self.pending.len() == FRAME {
                let score = self.detector.predict_f32(&self.pending);
                self.pending.clear();
                report(self.smoother.push(if lets_through { score } else { 0.0 }));
            }
        }
    }
}

/// Turns scores into speech. Pure.
#[derive(Clone, Debug)]
pub struct Smoother {
    config: VadConfig,
    recent: VecDeque<bool>,
    speech: bool,
    /// Frames since the last voice; `None` before there was any.
    silence: Option<u32>,
}

impl Smoother {
    pub fn new(config: VadConfig) -> Self {
        Self { config, recent: VecDeque::with_capacity(config.onset_window), speech: false, silence: None }
    }

    /// The next frame's score.
    pub fn push(&mut self, score: f32) -> VadFrame {
        let c = &self.config;
        let voice = score >= if self.speech { c.sustain } else { c.onset };
        if self.recent.len() >= c.onset_window {
            self.recent.pop_front();
        }
        self.recent.push_back(voice);
        let mut change = None;
        if self.speech {
            self.silence = if voice { Some(0) } else { self.silence.map(|s| s.saturating_add(1)) };
            if self.silence.is_some_and(|s| s >= c.hangover_frames) {
                self.speech = false;
                self.recent.clear();
                change = Some(VadChange::End);
            }
        } else {
            self.silence = self.silence.map(|s| s.saturating_add(1));
            if voice && self.recent.iter().filter(|&&v| v).count() >= c.onset_frames {
                self.speech = true;
                self.silence = Some(0);
                change = Some(VadChange::Onset);
            }
        }
        let silence_ms = self.silence.map_or(0, |s| s.saturating_mul(FRAME_MS));
        VadFrame { score, speech: self.speech, change, silence_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(scores: impl IntoIterator<Item = f32>) -> Vec<(usize, VadChange)> {
        let mut s = Smoother::new(VadConfig::default());
        scores.into_iter().enumerate().filter_map(|(i, v)| s.push(v).change.map(|c| (i, c))).collect()
    }

    fn run(parts: &[(usize, f32)]) -> Vec<f32> {
        parts.iter().flat_map(|&(n, v)| std::iter::repeat_n(v, n)).collect()
    }

    #[test]
    fn speech_begins_after_four_frames_and_ends_after_the_hangover() {
        let scores = run(&[(10, 0.1), (20, 0.9), (30, 0.1)]);
        assert_eq!(changes(scores), [(13, VadChange::Onset), (10 + 20 + 11, VadChange::End)]);
    }

    #[test]
    fn clicks_and_gaps_change_nothing() {
        assert_eq!(changes(run(&[(10, 0.0), (2, 1.0), (10, 0.0), (2, 1.0), (10, 0.0)])), []);
        let gap = run(&[(10, 0.9), (11, 0.1), (10, 0.9)]);
        assert_eq!(changes(gap), [(3, VadChange::Onset)]);
        assert_eq!(changes(run(&[(10, 0.9), (40, 0.4)])), [(3, VadChange::Onset)], "0.4 sustains speech");
        assert_eq!(changes(run(&[(50, 0.4)])), [], "0.4 begins none");
    }

    #[test]
    fn silence_is_counted_from_the_last_voice() {
        let mut s = Smoother::new(VadConfig::default());
        let silences: Vec<u32> =
            run(&[(5, 0.0), (5, 1.0), (20, 0.0)]).into_iter().map(|v| s.push(v).silence_ms).collect();
        assert_eq!(silences[..5], [0; 5], "no voice yet, so no silence after it");
        assert_eq!(silences[9..13], [0, 16, 32, 48]);
        assert_eq!(silences[29], 20 * 16, "goes on after the end of speech");
    }

    #[test]
    fn the_cut_into_pushes_does_not_matter() {
        let pcm: Vec<f32> = (0..FRAME * 40).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
        let frames = |size: usize| {
            let (mut vad, mut out) = (Vad::new(VadConfig::default()), Vec::new());
            pcm.chunks(size).for_each(|c| vad.push(c, |f| out.push(f)));
            out
        };
        assert_eq!(frames(FRAME).len(), 40);
        assert_eq!(frames(FRAME), frames(100));
        assert_eq!(frames(FRAME), frames(5_000));
    }
}
