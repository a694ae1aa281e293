//! A voice recorded on the spot: what the microphone hears between two presses. Owned by the session thread; pure.

use crate::engine::HEARING_RATE;
use crate::voice::recording::LONGEST_S;

/// How often the length so far is told, in samples: four times a second.
const TOLD_EVERY: usize = HEARING_RATE as usize / 4;
/// More than this is never used.
const MOST: usize = LONGEST_S as usize * HEARING_RATE as usize;

/// What has been recorded, while something is.
#[derive(Default)]
pub struct Recorder {
    samples: Option<Vec<f32>>,
    told: usize,
}

/// What a stretch of sound led to.
#[derive(Debug, PartialEq)]
pub enum Progress {
    Quiet,
    /// So many seconds are recorded.
    Seconds(f64),
    /// As much as can ever be used; the recording is over.
    Full,
}

impl Recorder {
    pub fn start(&mut self) {
        *self = Recorder { samples: Some(Vec::new()), told: 0 };
    }

    pub fn is_on(&self) -> bool {
        self.samples.is_some()
    }

    /// Hears 16 kHz mono.
    pub fn hear(&mut self, heard: &[f32]) -> Progress {
        let Some(samples) = &mut self.samples else { return Progress::Quiet };
        samples.extend_from_slice(heard);
        if samples.len() >= MOST {
            return Progress::Full;
        }
        if samples.len() < self.told + TOLD_EVERY {
            return Progress::Quiet;
        }
        self.told = samples.len();
        Progress::Seconds(samples.len() as f64 / f64::from(HEARING_RATE))
    }

    /// Ends the recording and gives it; `None` when there was none.
    pub fn stop(&mut self) -> Option<Vec<f32>> {
        self.samples.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_between_two_presses_is_recorded_and_its_length_told() {
        let mut recorder = Recorder::default();
        assert_eq!(recorder.hear(&[0.5; 1600]), Progress::Quiet);
        assert_eq!(recorder.stop(), None);
        recorder.start();
        assert_eq!(recorder.hear(&[0.1; 3999]), Progress::Quiet);
        assert_eq!(recorder.hear(&[0.2; 1]), Progress::Seconds(0.25));
        assert_eq!(recorder.hear(&[0.2; 1600]), Progress::Quiet);
        let samples = recorder.stop().unwrap();
        assert_eq!((samples.len(), samples[0], samples[4000]), (5600, 0.1, 0.2));
        assert!(!recorder.is_on());
    }

    #[test]
    fn it_ends_by_itself_when_there_is_enough() {
        let mut recorder = Recorder::default();
        recorder.start();
        let heard = vec![0.0; 16_000];
        let full = (1..).find(|_| recorder.hear(&heard) == Progress::Full);
        assert_eq!(full, Some(30));
    }
}
