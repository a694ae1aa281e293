//! How good a seam is: steps from sample to sample, and energy above 8 kHz, both against what is around it. A joint that
//! does not fit clicks: it has the one, the other, or both.

use std::f64::consts::TAU;
use std::ops::Range;

/// A step at a seam may be this much larger than the largest step elsewhere.
const STEP: f32 = 1.5;
/// As far from a seam, in milliseconds, as a click of it reaches.
const NEAR_MS: usize = 5;
/// What surrounds a seam, in milliseconds to either side.
const AROUND_MS: usize = 25;
/// Hertz.
const HIGH: f64 = 8_000.0;

/// Judges what was joined at `seams` (each the samples over which one chunk went over into the next, or the empty range
/// between two) against the sound made in one piece.
///
/// # Errors
/// In words, when a seam can be heard.
pub fn judge(joined: &[f32], whole: &[f32], seams: &[Range<usize>], rate: u32) -> Result<(), String> {
    let near = rate as usize * NEAR_MS / 1000;
    let around = rate as usize * AROUND_MS / 1000;
    let widened = |seam: &Range<usize>, by: usize| seam.start.saturating_sub(by)..(seam.end + by).min(joined.len());
    let at_seam = |i: usize| seams.iter().any(|s| (s.start..s.end + 1).contains(&i));
    let (mut inside, mut outside) = ((0, 0.0f32), 0.0f32);
    for (i, pair) in joined.windows(2).enumerate() {
        let step = (pair[1] - pair[0]).abs();
        if !at_seam(i + 1) {
            outside = outside.max(step);
        } else if step > inside.1 {
            inside = (i + 1, step);
        }
    }
    if inside.1 > STEP * outside {
        return Err(format!("a step of {} at sample {}, and of at most {outside} elsewhere", inside.1, inside.0));
    }
    let (joined_high, whole_high) = (above_8_khz(joined, rate), above_8_khz(whole, rate));
    for seam in seams {
        let here = widened(seam, near);
        let energy = loudest(&joined_high, here.clone(), near);
        let surroundings = loudest(&joined_high, widened(seam, around).start..here.start, near).max(loudest(
            &joined_high,
            here.end..widened(seam, around).end,
            near,
        ));
        // Where speech itself hisses at the seam, so does the sound made in one piece.
        let spoken = loudest(&whole_high, here.start.min(whole.len())..here.end.min(whole.len()), near);
        let allowed = 1.1 * surroundings.max(spoken) + 1e-9;
        if energy > allowed {
            return Err(format!(
                "above 8 kHz {energy:e} at {seam:?}, {surroundings:e} around it, {spoken:e} in one piece"
            ));
        }
    }
    Ok(())
}

/// The greatest mean square of any stretch of `length` samples within `range`.
fn loudest(signal: &[f32], range: Range<usize>, length: usize) -> f64 {
    let part = &signal[range];
    let square = |w: &[f32]| w.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / w.len() as f64;
    part.windows(length.min(part.len()).max(1)).step_by(8).map(square).fold(0.0, f64::max)
}

/// What of a signal lies above 8 kHz: a windowed-sinc high pass of 127 taps, without delay.
fn above_8_khz(signal: &[f32], rate: u32) -> Vec<f32> {
    let half = 63i64;
    let corner = HIGH / f64::from(rate);
    let tap = |n: i64| {
        let low = if n == 0 { 2.0 * corner } else { (TAU * corner * n as f64).sin() / (TAU / 2.0 * n as f64) };
        let window =
            0.42 + 0.5 * (TAU / 2.0 * n as f64 / half as f64).cos() + 0.08 * (TAU * n as f64 / half as f64).cos();
        (f64::from(u8::from(n == 0)) - low) * window
    };
    let taps: Vec<f64> = (-half..=half).map(tap).collect();
    let sample = |i: i64| usize::try_from(i).ok().and_then(|i| signal.get(i)).map_or(0.0, |x| f64::from(*x));
    (0..signal.len() as i64)
        .map(|i| taps.iter().enumerate().map(|(k, t)| t * sample(i + k as i64 - half)).sum::<f64>() as f32)
        .collect()
}
