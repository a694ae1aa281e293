//! Is this speech? Voice activity from the earshot detector, smoothed. Runs on the ear's thread; knows no clock.
//!
//! The detector's score jitters from frame to frame; a turn begins after a few sure frames and a pause is one only after
//! the score has stayed low for a while.

use earshot::Detector;

/// Samples per frame: 16 ms at 16 kHz, what the detector was trained on.
pub const FRAME: usize = 256;
/// Milliseconds per frame.
pub const FRAME_MS: u32 = 16;

/// A frame with a score above this is speech (the detector's own advice).
const SPEECH: f32 = 0.5;
/// Inside speech, a frame stays speech down to this score, so that weak consonants do not end it.
const STILL_SPEECH: f32 = 0.3;
/// Speech begins after so many speech frames in a row: 48 ms, longer than a click.
const ONSET_FRAMES: u32 = 3;

/// What was heard in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// The detector's score, 0 to 1.
    pub score: f32,
    /// Whether this frame is speech.
    pub speech: bool,
}

/// The detector and its smoothing.
pub struct Vad {
    detector: Box<Detector>,
    run: u32,
    speaking: bool,
}

impl Default for Vad {
    fn default() -> Self {
        Vad { detector: Detector::default_boxed(), run: 0, speaking: false }
    }
}

impl Vad {
    /// Another microphone: forgets what was heard.
    pub fn reset(&mut self) {
        self.detector.reset();
        self.run = 0;
        self.speaking = false;
    }

    /// Takes the next [`FRAME`] samples at 16 kHz. Samples beyond -1..1 are clipped.
    pub fn push(&mut self, frame: &[f32]) -> Heard {
        let mut clipped = [0.0; FRAME];
        for (to, from) in clipped.iter_mut().zip(frame) {
            *to = if from.is_finite() { from.clamp(-1.0, 1.0) } else { 0.0 };
        }
        let score = self.detector.predict_f32(&clipped);
        Heard { score, speech: self.smooth(score) }
    }

    fn smooth(&mut self, score: f32) -> bool {
        if self.speaking {
            self.speaking = score > STILL_SPEECH;
            self.run = 0;
        } else {
            self.run = if score > SPEECH { self.run + 1 } else { 0 };
            self.speaking = self.run >= ONSET_FRAMES;
        }
        self.speaking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smoothed(scores: &[f32]) -> String {
        let mut vad = Vad::default();
        scores.iter().map(|s| if vad.smooth(*s) { '#' } else { '.' }).collect()
    }

    #[test]
    fn speech_begins_after_three_sure_frames_and_survives_weak_ones() {
        assert_eq!(smoothed(&[0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.4, 0.35, 0.9, 0.2, 0.4]), ".....####..");
    }

    #[test]
    fn silence_and_what_is_not_a_number_are_no_speech() {
        let mut vad = Vad::default();
        for frame in [[0.0; FRAME], [f32::NAN; FRAME], [f32::INFINITY; FRAME]] {
            for _ in 0..50 {
                assert!(!vad.push(&frame).speech);
            }
        }
    }
}
