//! Choosing the next token from logits.
//!
//! Owns the random generator of one sequence and the window of ids its repetition penalty sees; lives on the engine
//! thread. The order is that of Hugging Face's `generate`: repetition penalty, temperature, top-k, top-p (over the
//! probabilities renormalised after top-k, which `candle`'s own processor does not do), then one draw.
//! Invariants: the same seed and the same logits give the same tokens; a logit that is not a number is an error.
//!
//! Sources: CTRL (arXiv 1909.05858) for the penalty; nucleus sampling (arXiv 1904.09751).

use super::EngineError;
use candle_core::{DType, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;

/// How to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingConfig {
    /// Divides the logits; 0 takes the likeliest token always (the filters and the seed then do not matter).
    pub temperature: f64,
    /// Only this many likeliest tokens stay; 0 keeps all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability stay; 1 keeps all.
    pub top_p: f64,
    /// Positive logits of ids in the window are divided by it, negative ones multiplied; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many of the latest ids the penalty sees; 0 switches it off.
    pub penalty_window: usize,
}

impl SamplingConfig {
    /// Always the likeliest token.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, penalty_window: 0 };
}

/// What a model says of the next token.
#[derive(Clone, Debug)]
pub enum Outlook {
    /// The logits of all tokens, `[1, vocab]`.
    All(Tensor),
    /// The largest logits, with their tokens, in any order: at least as many as [`Sampler::needs`].
    Likeliest(Vec<(u32, f32)>),
}

/// Chooses the tokens of one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplingConfig,
    rng: StdRng,
    window: VecDeque<u32>,
}

impl Sampler {
    pub fn new(config: SamplingConfig, seed: u64) -> Self {
        Self { config, rng: StdRng::seed_from_u64(seed), window: VecDeque::new() }
    }

    pub fn config(&self) -> &SamplingConfig {
        &self.config
    }

    /// Empties the penalty's window.
    pub fn forget(&mut self) {
        self.window.clear();
    }

    /// Puts an id into the penalty's window, as [`sample`](Self::sample) does with what it chose: for prompt ids that
    /// should count.
    pub fn observe(&mut self, id: u32) {
        if self.config.penalty_window == 0 {
            return;
        }
        if self.window.len() == self.config.penalty_window {
            self.window.pop_front();
        }
        self.window.push_back(id);
    }

    /// How many of the largest logits hold all that can be chosen, whatever was chosen before; `None`: all of them.
    ///
    /// A penalty only ever lowers logits, and those of the window's ids alone: what is among the `top_k` largest after it
    /// has at most `top_k - 1` ids and the window's above it before.
    pub fn needs(&self) -> Option<usize> {
        let SamplingConfig { temperature, top_k, repetition_penalty, penalty_window, .. } = self.config;
        let kept = if temperature <= 0.0 { 1 } else { top_k };
        // A window without end (`usize::MAX`) may hold every id there is.
        kept.checked_add(penalty_window).filter(|_| kept > 0 && repetition_penalty >= 1.0)
    }

    /// Chooses one id and remembers it for the penalty.
    pub fn choose(&mut self, outlook: &Outlook) -> Result<u32, EngineError> {
        match outlook {
            Outlook::All(logits) => self.sample(logits),
            Outlook::Likeliest(some) => {
                // In the order of the tokens, which decides between equals.
                let mut some = some.clone();
                some.sort_unstable_by_key(|(id, _)| *id);
                for id in self.seen() {
                    if let Ok(at) = some.binary_search_by_key(&id, |(id, _)| *id) {
                        self.lower(&mut some[at].1);
                    }
                }
                let logits: Vec<f32> = some.iter().map(|(_, logit)| *logit).collect();
                let id = some[self.pick(&logits)? as usize].0;
                self.observe(id);
                Ok(id)
            }
        }
    }

    /// Chooses one id from `logits` (`[vocab]` or `[1, vocab]`, any float precision) and remembers it for the penalty.
    pub fn sample(&mut self, logits: &Tensor) -> Result<u32, EngineError> {
        let mut logits = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        self.penalise(&mut logits);
        let id = self.pick(&logits)?;
        self.observe(id);
        Ok(id)
    }

    /// The place of the one chosen of `logits`, which have been penalised.
    fn pick(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        if self.config.temperature <= 0.0 {
            return argmax(logits);
        }
        let candidates = self.candidates(logits)?;
        Ok(draw(&candidates, self.rng.random::<f64>()))
    }

    fn penalise(&self, logits: &mut [f32]) {
        for id in self.seen() {
            if let Some(logit) = logits.get_mut(id as usize) {
                self.lower(logit);
            }
        }
    }

    /// The ids in the penalty's window, each once.
    fn seen(&self) -> Vec<u32> {
        let mut seen: Vec<u32> = self.window.iter().copied().collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    fn lower(&self, logit: &mut f32) {
        let penalty = self.config.repetition_penalty;
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
    }

    /// The ids that stay, likeliest first, with probabilities that sum to 1.
    fn candidates(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>, EngineError> {
        argmax(logits)?;
        let mut order: Vec<(u32, f64)> =
            logits.iter().enumerate().map(|(i, &l)| (i as u32, f64::from(l) / self.config.temperature)).collect();
        let by_logit = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.config.top_k > 0 && self.config.top_k < order.len() {
            order.select_nth_unstable_by(self.config.top_k - 1, by_logit);
            order.truncate(self.config.top_k);
        }
        order.sort_unstable_by(by_logit);
        let top = order.first().map_or(0.0, |c| c.1);
        order.iter_mut().for_each(|c| c.1 = (c.1 - top).exp());
        normalise(&mut order);
        if self.config.top_p < 1.0 {
            let mut reached = 0.0;
            let kept = order
                .iter()
                .take_while(|c| {
                    let before = reached;
                    reached += c.1;
                    before < self.config.top_p
                })
                .count();
            order.truncate(kept.max(1));
            normalise(&mut order);
        }
        Ok(order)
    }
}

fn normalise(candidates: &mut [(u32, f64)]) {
    let sum: f64 = candidates.iter().map(|c| c.1).sum();
    candidates.iter_mut().for_each(|c| c.1 /= sum);
}

/// The candidate whose share of 0..1 holds `point`.
fn draw(candidates: &[(u32, f64)], point: f64) -> u32 {
    let mut reached = 0.0;
    for &(id, p) in candidates {
        reached += p;
        if point < reached {
            return id;
        }
    }
    candidates.last().map_or(0, |c| c.0)
}

/// The first of the largest. An error when a logit is not a number or all are minus infinity.
fn argmax(logits: &[f32]) -> Result<u32, EngineError> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &l) in logits.iter().enumerate() {
        if l.is_nan() || l == f32::INFINITY {
            return Err(damaged());
        }
        if l > best.map_or(f32::NEG_INFINITY, |b| b.1) {
            best = Some((i, l));
        }
    }
    best.map(|b| b.0 as u32).ok_or_else(damaged)
}

fn damaged() -> EngineError {
    EngineError::Model(
        "the model computed no usable logits: its file is damaged, or does not fit this program; fetch it again".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn sampler(temperature: f64, top_k: usize, top_p: f64, repetition_penalty: f32, penalty_window: usize) -> Sampler {
        Sampler::new(SamplingConfig { temperature, top_k, top_p, repetition_penalty, penalty_window }, 7)
    }

    fn close(found: &[(u32, f64)], expected: &[(u32, f64)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (f, e) in found.iter().zip(expected) {
            assert!(f.0 == e.0 && (f.1 - e.1).abs() < 1e-6, "{found:?} is not {expected:?}");
        }
    }

    /// ln of 0.1, 0.4, 0.2, 0.3: at temperature 1 the softmax is those numbers.
    fn logits() -> [f32; 4] {
        [0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln(), 0.3f32.ln()]
    }

    #[test]
    fn temperature_alone() {
        close(&sampler(1.0, 0, 1.0, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 0.4), (3, 0.3), (2, 0.2), (0, 0.1)]);
        // At 1/2 the probabilities are squared: 0.16, 0.09, 0.04, 0.01 of 0.30.
        close(
            &sampler(0.5, 0, 1.0, 1.0, 0).candidates(&logits()).unwrap(),
            &[(1, 16. / 30.), (3, 9. / 30.), (2, 4. / 30.), (0, 1. / 30.)],
        );
    }

    #[test]
    fn top_k_then_top_p_over_what_is_left() {
        close(&sampler(1.0, 2, 1.0, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 4. / 7.), (3, 3. / 7.)]);
        // Alone, 0.4 + 0.3 is needed to reach 0.55; after top-k 2 the first has 0.571 and is enough.
        close(&sampler(1.0, 0, 0.55, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 4. / 7.), (3, 3. / 7.)]);
        close(&sampler(1.0, 2, 0.55, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 1.0)]);
        // Temperature comes before top-p: at 1/2 the first has 0.533, so 0.5 needs only it; at 1 it needs two.
        close(&sampler(0.5, 0, 0.5, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 1.0)]);
        close(&sampler(1.0, 0, 0.5, 1.0, 0).candidates(&logits()).unwrap(), &[(1, 4. / 7.), (3, 3. / 7.)]);
    }

    #[test]
    fn the_penalty_divides_positive_and_multiplies_negative_logits_once_per_id() {
        let mut s = sampler(0.0, 0, 1.0, 2.0, 3);
        for id in [3, 0, 1, 1] {
            s.observe(id);
        }
        // The window is 3 long: id 3 has left it.
        let mut l = [2.0, -1.0, 0.5, 4.0];
        s.penalise(&mut l);
        assert_eq!(l, [1.0, -2.0, 0.5, 4.0]);
        s.forget();
        s.penalise(&mut l);
        assert_eq!(l, [1.0, -2.0, 0.5, 4.0]);
    }

    #[test]
    fn the_penalty_comes_before_the_temperature() {
        // Logits 2, 1 and penalty 4 on the first at temperature 0.5: (2 / 4, 1) / 0.5 = (1, 2).
        let mut s = sampler(0.5, 0, 1.0, 4.0, 8);
        s.observe(0);
        let mut l = [2.0, 1.0];
        s.penalise(&mut l);
        let e = 1f64.exp();
        close(&s.candidates(&l).unwrap(), &[(1, e / (1. + e)), (0, 1. / (1. + e))]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let t = Tensor::new(&[[0.5f32, 3.0, 3.0, -1.0]], &Device::Cpu).unwrap();
        let mut s = Sampler::new(SamplingConfig::GREEDY, 0);
        assert_eq!([s.sample(&t).unwrap(), s.sample(&t).unwrap()], [1, 1]);
        let mut s = sampler(0.0, 0, 1.0, 2.0, 8);
        assert_eq!([s.sample(&t).unwrap(), s.sample(&t).unwrap(), s.sample(&t).unwrap()], [1, 2, 1]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let t = Tensor::new(&logits(), &Device::Cpu).unwrap();
        let draws = |seed| {
            let config = SamplingConfig { temperature: 1.0, ..SamplingConfig::GREEDY };
            let mut s = Sampler::new(config, seed);
            (0..4000).map(|_| s.sample(&t).unwrap()).collect::<Vec<_>>()
        };
        let first = draws(1);
        assert_eq!(first, draws(1));
        assert_ne!(first, draws(2));
        // Four standard deviations of a binomial of 4000 draws are under 0.032.
        for (id, p) in [(0u32, 0.1), (1, 0.4), (2, 0.2), (3, 0.3)] {
            let share = first.iter().filter(|&&d| d == id).count() as f64 / 4000.0;
            assert!((share - p).abs() < 0.032, "{id}: {share}");
        }
    }

    #[test]
    fn so_many_of_the_likeliest_as_it_needs_are_as_good_as_all() {
        let wave = |step: usize| (0..400).map(move |i| ((i * i * 7 + step * 31) as f32 * 0.7).sin() * 6.0);
        for config in [(0.7, 20, 0.8, 1.3, 12), (0.0, 0, 1.0, 1.5, 9), (1.5, 5, 1.0, 1.0, 0)] {
            let (t, k, p, penalty, window) = config;
            let [mut all, mut few] = [sampler(t, k, p, penalty, window), sampler(t, k, p, penalty, window)];
            let needs = all.needs().unwrap();
            for step in 0..60 {
                let mut likeliest: Vec<(u32, f32)> = (0..).zip(wave(step)).collect();
                likeliest.sort_by(|a, b| b.1.total_cmp(&a.1));
                likeliest.truncate(needs);
                let dense = Tensor::from_iter(wave(step), &Device::Cpu).unwrap();
                let chosen = all.choose(&Outlook::All(dense)).unwrap();
                assert_eq!(few.choose(&Outlook::Likeliest(likeliest)).unwrap(), chosen, "{config:?} at {step}");
            }
        }
        assert_eq!(sampler(1.0, 0, 0.9, 1.0, 0).needs(), None);
        assert_eq!(sampler(1.0, 5, 0.9, 1.3, usize::MAX).needs(), None, "a window without end");
        assert!(sampler(1.0, 5, 0.9, 1.0, 0).choose(&Outlook::Likeliest(Vec::new())).is_err());
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error() {
        let t = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
        assert!(sampler(1.0, 0, 1.0, 1.0, 0).sample(&t).is_err());
        let t = Tensor::new(&[f32::NEG_INFINITY; 3], &Device::Cpu).unwrap();
        assert!(Sampler::new(SamplingConfig::GREEDY, 0).sample(&t).is_err());
    }
}
