//! Joins consecutive chunks of sound: the first is emitted at once, and only the tail that the next chunk may overlap
//! is held back. Plain arithmetic; lives on the mouth thread.

/// Joins the chunks of one reply.
///
/// Where a chunk overlaps the one before by `n` samples, the two are mixed by the weights that MiniCPM-o 2.6 uses:
/// `y[i] = a[i]*(n-i)/(n+1) + b[i]*(i+1)/(n+1)`. Two chunks that say the same there, as they should, pass unchanged. As far
/// as they differ, such a mixture is up to 3 dB too quiet in its middle: it is raised by as much, so that the level goes
/// straight from the one's to the other's. Outside of overlaps every sample passes unchanged.
#[derive(Clone, Debug)]
pub struct Joiner {
    overlap: usize,
    held: Vec<f32>,
}

impl Joiner {
    /// `overlap` is the most samples by which a chunk overlaps the one before: so many are held back. 0 for engines
    /// whose chunks simply follow one another.
    pub fn new(overlap: usize) -> Self {
        Self { overlap, held: Vec::with_capacity(overlap) }
    }

    /// Takes the next chunk, whose first `overlap` samples sound the same moment as the last ones before, and appends
    /// what is certain now to `out`. Of an overlap longer than what is held, the part that has been emitted already is
    /// left out of the new chunk.
    pub fn push(&mut self, samples: &[f32], overlap: usize, out: &mut Vec<f32>) {
        let overlap = overlap.min(samples.len());
        let n = overlap.min(self.held.len());
        let samples = &samples[overlap - n..];
        out.extend(self.held.drain(..self.held.len() - n));
        let likeness = Likeness::of(&self.held, &samples[..n]);
        for (i, (a, b)) in self.held.iter_mut().zip(samples).enumerate() {
            *a = mixed(*a, *b, i, n) * likeness.gain((i + 1) as f64 / (n + 1) as f64);
        }
        // What is certain now: everything but the last `self.overlap` samples of mixed part and remainder together.
        let rest = &samples[n..];
        let certain = (n + rest.len()).saturating_sub(self.overlap);
        let from_held = certain.min(n);
        out.extend(self.held.drain(..from_held));
        out.extend_from_slice(&rest[..certain - from_held]);
        self.held.extend_from_slice(&rest[certain - from_held..]);
    }

    /// The reply is over: appends the tail that was held back.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        out.append(&mut self.held);
    }

    /// The reply was broken off: forgets the tail.
    pub fn reset(&mut self) {
        self.held.clear();
    }

    /// How many samples are held back now.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// Sample `i` of an overlap of `n`.
fn mixed(a: f32, b: f32, i: usize, n: usize) -> f32 {
    (a * (n - i) as f32 + b * (i + 1) as f32) / (n + 1) as f32
}

/// How two stretches of sound relate.
struct Likeness {
    /// Root mean square of either.
    a: f64,
    b: f64,
    /// Mean of their product: `a * b` when one is the other at another level, 0 when they have nothing in common.
    both: f64,
}

impl Likeness {
    fn of(a: &[f32], b: &[f32]) -> Self {
        let mean = |x: &[f32], y: &[f32]| {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() / x.len().max(1) as f64
        };
        let (rms_a, rms_b) = (mean(a, a).sqrt(), mean(b, b).sqrt());
        // Stretches that cancel each other are not raised any further than unrelated ones.
        Likeness { a: rms_a, b: rms_b, both: mean(a, b).min(rms_a * rms_b).max(0.0) }
    }

    /// What a mixture of `1 - t` parts of the one and `t` of the other has to be raised by; 1 to sqrt(2).
    fn gain(&self, t: f64) -> f32 {
        let (a, b) = ((1.0 - t) * self.a, t * self.b);
        let has = a * a + b * b + 2.0 * t * (1.0 - t) * self.both;
        let gain = if has > 0.0 { (a + b) / has.sqrt() } else { 1.0 };
        // NaN and infinities in the samples end here as 1.
        if gain.is_finite() { gain.clamp(1.0, std::f64::consts::SQRT_2) as f32 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(overlap: usize, chunks: &[(&[f32], usize)]) -> Vec<f32> {
        let (mut joiner, mut out) = (Joiner::new(overlap), Vec::new());
        for (samples, n) in chunks {
            joiner.push(samples, *n, &mut out);
        }
        joiner.finish(&mut out);
        assert_eq!(joiner.held(), 0);
        out
    }

    /// Cuts `whole` into chunks that repeat the last `overlap` samples of the one before, and joins them again.
    fn cut_and_join(whole: &[f32], sizes: &[usize], overlap: usize) -> Vec<f32> {
        let (mut joiner, mut out, mut at) = (Joiner::new(overlap), Vec::new(), 0);
        for size in sizes.iter().cycle() {
            if at >= whole.len() {
                break;
            }
            let n = overlap.min(at);
            let end = (at + size).min(whole.len());
            joiner.push(&whole[at - n..end], n, &mut out);
            at = end;
        }
        joiner.finish(&mut out);
        out
    }

    #[test]
    fn constant_and_sine_pass_unchanged() {
        let constant = vec![0.7f32; 50_000];
        let sine: Vec<f32> = (0..50_000).map(|i| (i as f32 * 0.031).sin()).collect();
        for whole in [&constant, &sine] {
            for (sizes, overlap) in
                [(vec![12_800], 2048), (vec![3000, 2100, 9000], 2048), (vec![2048], 2048), (vec![7], 0)]
            {
                let joined = cut_and_join(whole, &sizes, overlap);
                assert_eq!(joined.len(), whole.len());
                let worst = joined.iter().zip(whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "off by {worst} with chunks of {sizes:?}");
            }
        }
    }

    fn noise(n: usize, level: f32, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        (0..n).map(|_| level * rng.random_range(-1.0..1.0)).collect()
    }

    fn rms(x: &[f32]) -> f32 {
        (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt()
    }

    /// Sounds with nothing in common: the level goes from the one's to the other's and dips nowhere, be they equally loud
    /// or not.
    #[test]
    fn a_quiet_tail_meets_a_loud_onset_without_a_dip() {
        for (before, after) in [(0.3, 0.3), (0.01, 0.5), (0.5, 0.01), (0.1, 0.3)] {
            let joined = join(2048, &[(&noise(8192, before, 1), 0), (&noise(8192, after, 2), 2048)]);
            // A uniform distribution has the root mean square 1/sqrt(3) of its limit.
            let (from, to) = (before / 3.0f32.sqrt(), after / 3.0f32.sqrt());
            let seam = &joined[6144..8192];
            let level = |eighth: usize| from + (to - from) * eighth as f32 / 8.0;
            for (i, part) in seam.chunks(256).enumerate() {
                // The root mean square of a level that goes straight from l to r.
                let (l, r) = (level(i), level(i + 1));
                let expected = ((l * l + l * r + r * r) / 3.0).sqrt();
                let off = 20.0 * (rms(part) / expected).log10();
                assert!(off.abs() < 0.9, "{before} to {after}: {off} dB off in part {i}");
            }
            assert!(joined.iter().all(|x| x.abs() <= before.max(after) * 1.42));
        }
    }

    #[test]
    fn what_is_no_number_stays_where_it_is() {
        let joined = join(64, &[(&[0.1; 256], 0), (&[f32::NAN; 64], 64)]);
        assert_eq!(joined.len(), 256);
        assert!(joined[..192].iter().all(|x| *x == 0.1));
    }

    #[test]
    fn the_first_chunk_comes_at_once_but_for_its_tail() {
        let (mut joiner, mut out) = (Joiner::new(2048), Vec::new());
        joiner.push(&[1.0; 12_800], 0, &mut out);
        assert_eq!((out.len(), joiner.held()), (12_800 - 2048, 2048));
        let (mut joiner, mut out) = (Joiner::new(0), Vec::new());
        joiner.push(&[1.0; 500], 0, &mut out);
        assert_eq!((out.len(), joiner.held()), (500, 0));
    }

    #[test]
    fn weights_are_those_of_the_definition() {
        // n = 3: weights of the old chunk 3/4, 2/4, 1/4; of the new one 1/4, 2/4, 3/4.
        assert_eq!(join(3, &[(&[9.0, 4.0, 4.0, 4.0], 0), (&[8.0, 8.0, 8.0, 5.0], 3)]), [9.0, 5.0, 6.0, 7.0, 5.0]);
    }

    #[test]
    fn odd_chunks_lose_nothing() {
        assert_eq!(join(2, &[(&[], 0), (&[1.0], 0), (&[], 2), (&[2.0], 0)]), [1.0, 2.0]);
        // Claims an overlap of 3 but only 2 are held: the sample that has sounded already is skipped.
        assert_eq!(join(2, &[(&[5.0, 1.0, 1.0], 0), (&[9.0, 1.0, 1.0, 2.0], 3)]), [5.0, 1.0, 1.0, 2.0]);
        // Shorter than its own overlap: it lies over the end of what is held.
        assert_eq!(join(2, &[(&[1.0, 1.0, 1.0], 0), (&[1.0], 2)]), [1.0, 1.0, 1.0]);
    }

    /// The reference implementation's own `overlap_add` (SPEC, MiniCPM-o 2.6, tiny checkpoint), around the seam: the
    /// end of one chunk (2560 samples), the beginning of the next (2560), the expected joint (2560 + 512).
    #[test]
    fn agrees_with_the_reference_implementation() {
        let bytes = include_bytes!("../../tests/fixtures/overlap_add.f32");
        let all: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (first, rest) = all.split_at(2560);
        let (second, expected) = rest.split_at(2560);
        // The two were made of random weights and have nothing in common: this is about the weights of the mixture.
        let tail = &first[512..];
        let mixture = tail.iter().zip(second).enumerate().map(|(i, (a, b))| mixed(*a, *b, i, 2048));
        let joined: Vec<f32> =
            first[..512].iter().copied().chain(mixture).chain(second[2048..].iter().copied()).collect();
        assert_eq!((joined.len(), expected.len()), (3072, 3072));
        let worst = joined.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "off by {worst}");
    }
}
