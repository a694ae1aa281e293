//! How loud sound is, and straight fades. Pure functions; levels are in dBFS (0 dB: a sample of 1).

/// The level that stands for silence, so that no level is ever minus infinity.
pub const SILENCE_DB: f32 = -120.0;

/// Quieter than this is not yet sound: an amplitude of -50 dBFS, the floor that listening tests use.
pub const AUDIBLE: f32 = 0.003_162;

/// An amplitude as a level, never below [`SILENCE_DB`].
pub fn to_db(amplitude: f32) -> f32 {
    (20.0 * amplitude.abs().log10()).max(SILENCE_DB)
}

/// A level as an amplitude.
pub fn from_db(db: f32) -> f32 {
    10.0f32.powf(db / 20.0)
}

/// The greatest absolute sample, 0 for no samples.
pub fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |m, s| m.max(s.abs()))
}

/// Root of the mean square, 0 for no samples.
pub fn rms(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    // In f64: a minute of sound has millions of squares to add.
    let sum: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    (sum / samples.len() as f64).sqrt() as f32
}

/// The peak in dBFS.
pub fn peak_db(samples: &[f32]) -> f32 {
    to_db(peak(samples))
}

/// The root mean square in dBFS: -3.01 for a sine of full scale.
pub fn rms_db(samples: &[f32]) -> f32 {
    to_db(rms(samples))
}

/// Raises the first `n` samples on a straight line from 0.
pub fn fade_in(samples: &mut [f32], n: usize) {
    let n = n.min(samples.len());
    for (i, s) in samples[..n].iter_mut().enumerate() {
        *s *= i as f32 / n as f32;
    }
}

/// Lowers the last `n` samples on a straight line to 0.
pub fn fade_out(samples: &mut [f32], n: usize) {
    let len = samples.len();
    let n = n.min(len);
    for (i, s) in samples[len - n..].iter_mut().rev().enumerate() {
        *s *= i as f32 / n as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_known_signals() {
        let sine: Vec<f32> = (0..48_000).map(|i| (i as f32 * std::f32::consts::TAU / 48.0).sin()).collect();
        assert!((rms_db(&sine) + 3.0103).abs() < 1e-3);
        assert!(peak_db(&sine).abs() < 1e-4);
        assert!((rms_db(&[0.1; 100]) + 20.0).abs() < 1e-4);
        assert_eq!((rms_db(&[]), peak_db(&[0.0; 4])), (SILENCE_DB, SILENCE_DB));
        assert!((from_db(-6.0206) - 0.5).abs() < 1e-5);
    }

    #[test]
    fn fades_begin_and_end_at_zero() {
        let mut s = vec![1.0; 8];
        fade_in(&mut s, 4);
        fade_out(&mut s, 2);
        assert_eq!(s, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.0]);
        let mut short = vec![1.0; 2];
        fade_in(&mut short, 100);
        assert_eq!(short, [0.0, 0.5]);
    }
}
