//! A hum, a whistle or a held note under a recording. Pure.
//!
//! Whatever is in every frame of the spectrum at the same place is no voice: a voice leaves every place now and then.
//! Source of the windowed power sums: Harris, "On the use of windows for harmonic analysis", 1978.

use crate::dsp::level::SILENCE_DB;
use crate::engine::HEARING_RATE;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex32;

/// 64 ms: lines are 15.6 Hz apart.
const WINDOW: usize = 1024;
const HOP: usize = WINDOW / 2;
/// The share of the time in which a line may be weaker than it is said to be.
const PRESENT: f64 = 0.2;
/// A line this far above the spectrum beside it is a tone.
const STANDS_OUT_DB: f64 = 15.0;
/// The spectrum beside a line: from so many lines away to so many, on both sides.
const BESIDE: std::ops::RangeInclusive<usize> = 4..=12;
/// Quieter tones than this nobody hears.
const FAINTEST_DBFS: f64 = -75.0;

/// A steady tone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Where it is, to within 8 Hz.
    pub hz: f64,
    /// How loud it is: its root mean square in dBFS.
    pub level_db: f64,
}

/// The loudest steady tone in 16 kHz mono sound; `None` where there is none, or less than half a second of sound.
pub fn loudest(samples: &[f32]) -> Option<Tone> {
    let frames = spectra(samples)?;
    if frames.len() < HEARING_RATE as usize / 2 / HOP {
        return None;
    }
    let lines = frames.first()?.len();
    let steady: Vec<f64> = (0..lines)
        .map(|line| {
            let mut over_time: Vec<f32> = frames.iter().map(|frame| frame[line]).collect();
            let at = (over_time.len() as f64 * PRESENT) as usize;
            let (_, value, _) = over_time.select_nth_unstable_by(at, f32::total_cmp);
            f64::from(*value).max(1e-15)
        })
        .collect();
    let is_tone = |line: &usize| {
        let (below, above) = (steady[line - 1], steady[line + 1]);
        if steady[*line] < below || steady[*line] < above {
            return false;
        }
        let mut beside: Vec<f64> = BESIDE
            .flat_map(|away| [line.checked_sub(away), Some(line + away)])
            .flatten()
            .filter_map(|i| steady.get(i).copied())
            .collect();
        beside.sort_unstable_by(f64::total_cmp);
        let usual = beside.get(beside.len() / 2).copied().unwrap_or(f64::INFINITY);
        10.0 * (steady[*line] / usual).log10() >= STANDS_OUT_DB
    };
    let power = |line: usize| steady[line - 1] + steady[line] + steady[line + 1];
    let line = (2..lines - 1).filter(is_tone).max_by(|a, b| power(*a).total_cmp(&power(*b)))?;
    let level_db = (10.0 * power(line).log10()).max(f64::from(SILENCE_DB));
    let hz = line as f64 * f64::from(HEARING_RATE) / WINDOW as f64;
    (level_db >= FAINTEST_DBFS).then_some(Tone { hz, level_db })
}

/// Power spectra under a Hann window, scaled so that the lines of a sine add up to its mean square.
fn spectra(samples: &[f32]) -> Option<Vec<Vec<f32>>> {
    let plan = RealFftPlanner::<f32>::new().plan_fft_forward(WINDOW);
    let turn = std::f32::consts::TAU / WINDOW as f32;
    let window: Vec<f32> = (0..WINDOW).map(|i| 0.5 - 0.5 * (i as f32 * turn).cos()).collect();
    // A sine of amplitude A leaves A^2/4 * N * sum(w^2) = A^2 * 3 N^2 / 32 in the positive lines.
    let scale = 16.0 / (3.0 * (WINDOW * WINDOW) as f32);
    let (mut input, mut output) = (plan.make_input_vec(), plan.make_output_vec());
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(frame) = samples.get(at..at + WINDOW) {
        for ((slot, sample), weight) in input.iter_mut().zip(frame).zip(&window) {
            *slot = sample * weight;
        }
        plan.process(&mut input, &mut output).ok()?;
        frames.push(output.iter().map(|line: &Complex32| line.norm_sqr() * scale).collect());
        at += HOP;
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, amplitude: f64, seconds: f64) -> Vec<f32> {
        let step = std::f64::consts::TAU * hz / f64::from(HEARING_RATE);
        (0..(seconds * 16_000.0) as usize).map(|i| (amplitude * (i as f64 * step).sin()) as f32).collect()
    }

    fn noise(samples: usize, rms: f32) -> Vec<f32> {
        let mut state = 9u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..samples).map(|_| next() * rms * 3f32.sqrt()).collect()
    }

    #[test]
    fn a_tone_is_found_where_it_is_and_as_loud_as_it_is() {
        for (hz, amplitude) in [(100.0, 0.5), (440.0, 0.1), (1003.0, 0.02), (3000.0, 0.001)] {
            let tone = loudest(&sine(hz, amplitude, 2.0)).unwrap();
            // The mean square of a sine is half its amplitude squared.
            let level = 10.0 * (amplitude * amplitude / 2.0).log10();
            assert!((tone.hz - hz).abs() <= 8.0 && (tone.level_db - level).abs() < 0.5, "{hz} {level}: {tone:?}");
        }
    }

    #[test]
    fn a_tone_is_found_in_noise_and_noise_is_no_tone() {
        let hiss = noise(48_000, 0.01);
        assert_eq!(loudest(&hiss), None);
        let both: Vec<f32> = hiss.iter().zip(sine(120.0, 0.02, 3.0)).map(|(a, b)| a + b).collect();
        let tone = loudest(&both).unwrap();
        assert!((tone.hz - 120.0).abs() <= 8.0 && (tone.level_db + 37.0).abs() < 1.0, "{tone:?}");
        assert_eq!(loudest(&[]), None);
        assert_eq!(loudest(&[0.0; 32_000]), None);
    }
}
