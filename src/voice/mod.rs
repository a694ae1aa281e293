//! Voices to speak in, taken from recordings. Pure work on samples and files; runs on whichever thread asks.
//!
//! Upstream advises 5 to 15 s of one speaker (MiniCPM-V issue 842) and takes 30 s at most.

use crate::audio::file::{self, FileError};
use crate::dsp::level;
use crate::dsp::resample::{self, ResampleError};
use crate::engine::HEARING_RATE;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The shortest recording that says anything about a voice, in seconds.
const SHORTEST_S: usize = 1;
/// The longest that is used.
const LONGEST_S: usize = 30;
/// Quieter than this below the loudest frame is silence around the voice.
const SILENCE_BELOW_DB: f32 = 40.0;
/// 20 ms.
const FRAME: usize = HEARING_RATE as usize / 50;
/// Kept around the voice.
const MARGIN: usize = HEARING_RATE as usize / 10;

/// Why a recording cannot be used as a voice.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Rate(#[from] ResampleError),
    #[error("{path} has {seconds:.1} s of voice: use a recording of 5 to 15 seconds")]
    TooShort { path: PathBuf, seconds: f64 },
}

/// Reads a recording (wav, flac, mp3, ogg; any rate) as a reference voice: 16 kHz mono without the silence around it, at
/// most 30 s.
pub fn load(path: &Path) -> Result<Arc<[f32]>, VoiceError> {
    let clip = file::read(path)?;
    let samples = resample::convert(&clip.samples, clip.rate, HEARING_RATE)?;
    let voice = trim(&samples);
    let rate = HEARING_RATE as usize;
    if voice.len() < SHORTEST_S * rate {
        let seconds = voice.len() as f64 / f64::from(HEARING_RATE);
        return Err(VoiceError::TooShort { path: path.into(), seconds });
    }
    Ok(voice[..voice.len().min(LONGEST_S * rate)].into())
}

/// The part from the first to the last frame that is not silence, with a margin.
fn trim(samples: &[f32]) -> &[f32] {
    let loudness: Vec<f32> = samples.chunks(FRAME).map(level::rms_db).collect();
    let floor = loudness.iter().copied().fold(level::SILENCE_DB, f32::max) - SILENCE_BELOW_DB;
    let first = loudness.iter().position(|db| *db > floor).unwrap_or(0);
    let last = loudness.iter().rposition(|db| *db > floor).map_or(0, |i| i + 1);
    let from = (first * FRAME).saturating_sub(MARGIN);
    &samples[from..(last * FRAME + MARGIN).min(samples.len()).max(from)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(seconds: f32, rate: u32) -> Vec<f32> {
        (0..(seconds * rate as f32) as usize).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect()
    }

    #[test]
    fn silence_around_the_voice_goes_and_thirty_seconds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("voice.wav");
        let mut sound = vec![0.0; 48_000 * 2];
        sound.extend(tone(3.0, 48_000));
        sound.extend(vec![0.0; 48_000]);
        file::write_wav(&path, 48_000, &[&sound]).unwrap();
        let seconds = load(&path).unwrap().len() as f32 / 16_000.0;
        assert!((seconds - 3.2).abs() < 0.03, "{seconds}");

        file::write_wav(&path, 16_000, &[&tone(40.0, 16_000)]).unwrap();
        assert_eq!(load(&path).unwrap().len(), 30 * 16_000);
    }

    #[test]
    fn half_a_second_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.wav");
        file::write_wav(&path, 16_000, &[&tone(0.5, 16_000)]).unwrap();
        let said = load(&path).unwrap_err().to_string();
        assert!(said.contains("short.wav") && said.contains("5 to 15 seconds"), "{said}");
    }
}
