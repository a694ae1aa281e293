//! How loud an utterance is over time: where its voice begins and ends, and where it can be cut. Pure arithmetic.
//!
//! This is not a voice detector: an utterance came through one already. It only tells the voice in it from the quiet
//! around it, so that quiet is neither transcribed nor waited for.

/// Samples of a frame: 20 ms at 16 kHz.
pub const FRAME: usize = 320;
/// No frame of an utterance this quiet (-62 dBFS) is worth a look.
const INAUDIBLE: f32 = 8e-4;
/// A frame is voice when it is this much louder than the quietest tenth,
const OVER_NOISE: f32 = 2.5;
/// but at least, and at most, this much of the loudest frame.
const SHARE_OF_PEAK: (f32, f32) = (0.02, 0.15);

/// The root mean square of every frame so far.
#[derive(Clone, Debug, Default)]
pub struct Loudness {
    frames: Vec<f32>,
}

impl Loudness {
    /// Brings the frames up to date with `pcm`, which has only grown since the last call. A last unfinished frame waits.
    pub fn follow(&mut self, pcm: &[f32]) {
        let known = self.frames.len() * FRAME;
        let rms = |f: &[f32]| (f.iter().map(|s| s * s).sum::<f32>() / FRAME as f32).sqrt();
        self.frames.extend(pcm[known.min(pcm.len())..].chunks_exact(FRAME).map(rms));
    }

    /// Forgets the first `samples`, a multiple of [`FRAME`].
    pub fn drop_front(&mut self, samples: usize) {
        self.frames.drain(..(samples / FRAME).min(self.frames.len()));
    }

    pub fn clear(&mut self) {
        self.frames.clear();
    }

    /// Where the voice begins and ends, in samples; `None` when there is none.
    pub fn voice(&self) -> Option<(usize, usize)> {
        let threshold = self.threshold()?;
        let first = self.frames.iter().position(|&f| f > threshold)?;
        let last = self.frames.iter().rposition(|&f| f > threshold)?;
        Some((first * FRAME, (last + 1) * FRAME))
    }

    /// Where the last voice before `at` ends; 0 when there is none.
    pub fn voice_before(&self, at: usize) -> usize {
        let threshold = self.threshold().unwrap_or(f32::INFINITY);
        let before = &self.frames[..(at / FRAME).min(self.frames.len())];
        before.iter().rposition(|&f| f > threshold).map_or(0, |last| (last + 1) * FRAME)
    }

    /// The middle of the first quiet stretch of at least `at_least` samples that begins at `from` or later, between
    /// voice and voice.
    pub fn pause(&self, from: usize, at_least: usize) -> Option<usize> {
        let threshold = self.threshold()?;
        let (begin, end) = self.voice()?;
        let (from, end) = (from.max(begin) / FRAME, end / FRAME);
        let mut quiet = 0;
        for i in from..end {
            if self.frames[i] <= threshold {
                quiet += 1;
            } else if quiet * FRAME >= at_least.max(FRAME) {
                return Some((i - quiet + quiet / 2) * FRAME);
            } else {
                quiet = 0;
            }
        }
        None
    }

    /// The quietest point between two sample positions: where to cut when nobody pauses.
    pub fn quietest(&self, from: usize, to: usize) -> usize {
        const AROUND: usize = 5;
        let around = |i: usize| {
            let near = &self.frames[i.saturating_sub(AROUND)..(i + AROUND).min(self.frames.len())];
            near.iter().sum::<f32>() / near.len() as f32
        };
        let range = from / FRAME..(to / FRAME).min(self.frames.len());
        range.min_by(|&a, &b| around(a).total_cmp(&around(b))).unwrap_or(from / FRAME) * FRAME
    }

    fn threshold(&self) -> Option<f32> {
        let mut sorted = self.frames.clone();
        sorted.sort_by(f32::total_cmp);
        let peak = sorted.last().copied().filter(|&p| p > INAUDIBLE)?;
        let noise = sorted[sorted.len() / 10];
        Some((noise * OVER_NOISE).clamp(peak * SHARE_OF_PEAK.0, peak * SHARE_OF_PEAK.1).max(INAUDIBLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(seconds, amplitude)` stretches of a square wave, whose root mean square is its amplitude.
    fn sound(parts: &[(f32, f32)]) -> Vec<f32> {
        let part = |&(seconds, a): &(f32, f32)| {
            (0..(seconds * 16_000.0) as usize).map(move |i| if i % 80 < 40 { a } else { -a })
        };
        parts.iter().flat_map(part).collect()
    }

    fn of(parts: &[(f32, f32)]) -> Loudness {
        let pcm = sound(parts);
        let mut l = Loudness::default();
        // In uneven pieces, as a microphone gives them.
        for end in (0..pcm.len()).step_by(999) {
            l.follow(&pcm[..end]);
        }
        l.follow(&pcm);
        l
    }

    #[test]
    fn finds_the_voice_in_quiet_and_in_noise() {
        for noise in [0.0, 0.001, 0.02] {
            let l = of(&[(0.5, noise), (1.0, 0.3), (0.6, noise)]);
            assert_eq!(l.voice(), Some((8_000, 24_000)), "noise {noise}");
        }
        assert_eq!(of(&[(1.0, 0.0)]).voice(), None);
        assert_eq!(of(&[(1.0, 0.0005)]).voice(), None);
        assert_eq!(of(&[]).voice(), None);
    }

    #[test]
    fn finds_the_first_pause_between_words() {
        let l = of(&[(0.4, 0.0), (2.0, 0.3), (0.4, 0.0), (2.0, 0.3), (0.8, 0.0), (1.0, 0.2), (2.0, 0.0)]);
        // The pauses are from 2.4 to 2.8 s and from 4.8 to 5.6 s.
        assert_eq!(l.pause(0, 4_800), Some(41_600));
        assert_eq!(l.pause(0, 9_600), Some(83_200));
        assert_eq!(l.pause(48_000, 4_800), Some(83_200));
        assert_eq!(l.pause(0, 16_000), None, "the quiet at either end is no pause");
    }

    #[test]
    fn finds_the_quietest_point() {
        let l = of(&[(2.0, 0.3), (0.2, 0.1), (2.0, 0.3)]);
        let cut = l.quietest(16_000, 48_000);
        assert!((32_000..=35_200).contains(&cut), "{cut}");
    }
}
