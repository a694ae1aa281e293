//! Choosing audio codes from logits.
//!
//! Owns the filters' numbers and, in [`RandomCodes`], a random generator; runs on the engine thread, on the CPU in f32.
//! The order is upstream's: temperature, repetition penalty, top-p, top-k, the ban of the end code, one draw per
//! codebook. Source: MiniCPM-o 2.6's `ConditionalChatTTS.generate` and `gen_logits`.

use super::config::TtsConfig;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many latest frames the repetition penalty sees.
const PENALTY_WINDOW: usize = 16;
/// Neither filter leaves fewer codes than this.
const FEWEST: usize = 3;

/// The filters between logits and the draw.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeFilter {
    /// Per codebook; a list that is shorter is repeated.
    pub temperature: Vec<f32>,
    pub top_p: f32,
    pub top_k: usize,
    pub repetition_penalty: f32,
    pub end_code: u32,
}

impl CodeFilter {
    /// Upstream's, with the numbers of the configuration.
    pub fn new(config: &TtsConfig) -> Self {
        Self {
            temperature: vec![0.1, 0.3, 0.1, 0.3],
            top_p: config.top_p,
            top_k: config.top_k,
            repetition_penalty: config.repetition_penalty,
            end_code: config.end_code(),
        }
    }

    /// Filters the logits of one frame, one row per codebook, in place. `frames` are those before it; the very first
    /// is only tempered. With `ban_end` the end code cannot be chosen.
    pub fn apply(&self, logits: &mut [Vec<f32>], frames: &[Vec<u32>], ban_end: bool) {
        let recent = &frames[frames.len().saturating_sub(PENALTY_WINDOW)..];
        for (q, row) in logits.iter_mut().enumerate() {
            let temperature = self.temperature.get(q % self.temperature.len().max(1)).copied().unwrap_or(1.0);
            row.iter_mut().for_each(|l| *l /= temperature);
            if !frames.is_empty() {
                let seen: Vec<u32> = recent.iter().filter_map(|f| f.get(q).copied()).collect();
                penalise(row, &seen, self.repetition_penalty);
                keep_top_p(row, self.top_p);
                keep_top_k(row, self.top_k);
            }
            if let Some(end) = row.get_mut(self.end_code as usize).filter(|_| ban_end) {
                *end = f32::NEG_INFINITY;
            }
        }
    }
}

/// Divides positive logits of what was `seen` by `penalty` to the power of how often, multiplies negative ones. `seen`
/// holds what the window holds.
pub fn penalise(row: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for &code in seen {
        if let Some(l) = row.get_mut(code as usize) {
            *l = if *l < 0.0 { *l * penalty } else { *l / penalty };
        }
    }
}

/// Keeps the likeliest codes that together reach `top_p`, and at least three.
pub fn keep_top_p(row: &mut [f32], top_p: f32) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |l: f32| f64::from(l - top).exp();
    let sum: f64 = row.iter().map(|&l| weight(l)).sum();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
    let mut below = 0.0;
    for &i in order.iter().take(row.len().saturating_sub(FEWEST)) {
        below += weight(row[i]) / sum;
        if below > 1.0 - f64::from(top_p) {
            break;
        }
        row[i] = f32::NEG_INFINITY;
    }
}

/// Keeps the `top_k` likeliest codes (and those equal to the last of them), and at least three.
pub fn keep_top_k(row: &mut [f32], top_k: usize) {
    let keep = top_k.max(FEWEST).min(row.len());
    let mut sorted = row.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if let Some(&least) = keep.checked_sub(1).and_then(|k| sorted.get(k)) {
        row.iter_mut().filter(|l| **l < least).for_each(|l| *l = f32::NEG_INFINITY);
    }
}

/// When codes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Frames of the current stretch of generation so far.
    pub in_call: usize,
    /// Whether the end code may be chosen.
    pub may_end: bool,
}

/// Draws codes from filtered logits.
pub trait ChooseCodes {
    /// The speech model's text begins anew: the next frame is the first of a segment.
    fn segment(&mut self) {}

    /// One code per codebook.
    fn choose(&mut self, logits: &[Vec<f32>], at: Moment) -> Vec<u32>;
}

/// Draws at random, each codebook for itself.
#[derive(Clone, Debug)]
pub struct RandomCodes(StdRng);

impl RandomCodes {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
}

impl ChooseCodes for RandomCodes {
    fn choose(&mut self, logits: &[Vec<f32>], _: Moment) -> Vec<u32> {
        logits.iter().map(|row| draw(row, self.0.random::<f64>())).collect()
    }
}

/// The code whose share of 0..1 holds `point`.
fn draw(row: &[f32], point: f64) -> u32 {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |l: f32| f64::from(l - top).exp();
    let sum: f64 = row.iter().map(|&l| weight(l)).sum();
    let mut reached = 0.0;
    let mut last = 0;
    for (i, &l) in row.iter().enumerate().filter(|(_, l)| l.is_finite()) {
        reached += weight(l) / sum;
        last = i as u32;
        if point < reached {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> CodeFilter {
        CodeFilter { temperature: vec![0.5], top_p: 0.7, top_k: 20, repetition_penalty: 1.0, end_code: 4 }
    }

    #[test]
    fn codes_are_drawn_in_proportion() {
        let row = vec![0.5f32.ln(), f32::NEG_INFINITY, 0.3f32.ln(), 0.2f32.ln()];
        for (point, code) in [(0.0, 0), (0.49, 0), (0.51, 2), (0.79, 2), (0.81, 3), (0.999_999, 3)] {
            assert_eq!(draw(&row, point), code, "at {point}");
        }
        let mut random = RandomCodes::new(1);
        let at = Moment { in_call: 0, may_end: true };
        let mut counts = [0usize; 4];
        for _ in 0..4000 {
            counts[random.choose(std::slice::from_ref(&row), at)[0] as usize] += 1;
        }
        // Five standard deviations of a binomial with 4000 draws are 158 at most.
        for (count, expected) in counts.iter().zip([2000usize, 0, 1200, 800]) {
            assert!(count.abs_diff(expected) < 160, "{counts:?}");
        }
    }

    #[test]
    fn the_first_frame_is_only_tempered() {
        let logits = vec![vec![3.0f32, 2.0, 1.0, 0.0, -1.0]];
        let mut first = logits.clone();
        filter().apply(&mut first, &[], false);
        assert_eq!(first, [[6.0, 4.0, 2.0, 0.0, -2.0]]);
        let mut later = logits.clone();
        filter().apply(&mut later, &[vec![0]], false);
        // The first alone reaches 0.7, but three always stay.
        assert_eq!(later, [[6.0, 4.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]]);
        let mut banned = logits;
        filter().apply(&mut banned, &[], true);
        assert_eq!(banned, [[6.0, 4.0, 2.0, 0.0, f32::NEG_INFINITY]]);
    }

    #[test]
    fn equal_codes_share_the_last_place() {
        let mut row = vec![1.0, 1.0, 1.0, 1.0, 0.0];
        keep_top_k(&mut row, 2);
        assert_eq!(row, [1.0, 1.0, 1.0, 1.0, f32::NEG_INFINITY]);
    }
}
