//! Changes the sample rate of a mono stream, block by block of any size. Over `rubato`'s windowed sinc.
//!
//! Lives wherever the stream is (ear or mouth thread). Invariants: output sample `i` belongs to the same moment as input sample
//! `i * from / to` (the filter's delay is taken out, to within half an output sample); after [`Resampler::flush`] exactly
//! `round(inputs * to / from)` samples have come out; equal rates pass every sample unchanged; in a steady stream
//! nothing is allocated but what the caller's own vector needs.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

/// Taps of the filter, in input samples: 2.7 ms of look-ahead at 48 kHz, 5.3 ms at 24 kHz.
const TAPS: usize = 256;

/// Input is processed in blocks of this many milliseconds.
const BLOCK_MS: usize = 5;

/// A rate that cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot change the sample rate from {from} to {to} Hz ({reason}): choose a device or file of 8 to 384 kHz")]
pub struct ResampleError {
    from: u32,
    to: u32,
    reason: String,
}

/// A mono stream on its way from one sample rate to another.
pub struct Resampler {
    from: u32,
    to: u32,
    /// `None` when the rates are equal.
    filter: Option<Filter>,
}

struct Filter {
    rubato: Async<f32>,
    /// Input that does not fill a block yet.
    waiting: Vec<f32>,
    /// Where a block's output is made.
    scratch: Vec<f32>,
    /// Output samples that the filter gives before the one that belongs to the first input sample.
    run_in: usize,
    /// How many of them are still to be dropped.
    to_drop: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// From `from` to `to` hertz.
    pub fn new(from: u32, to: u32) -> Result<Self, ResampleError> {
        let fail = |reason: String| ResampleError { from, to, reason };
        if from == 0 || to == 0 {
            return Err(fail("a rate of zero".into()));
        }
        if from == to {
            return Ok(Self { from, to, filter: None });
        }
        let parameters = SincInterpolationParameters::new(TAPS, WindowFunction::BlackmanHarris2)
            .oversampling_factor(128)
            .interpolation(SincInterpolationType::Cubic);
        let block = (from as usize * BLOCK_MS / 1000).max(1);
        let ratio = f64::from(to) / f64::from(from);
        let rubato = Async::<f32>::new_sinc(ratio, 1.0, &parameters, block, 1, FixedAsync::Input)
            .map_err(|e| fail(e.to_string()))?;
        let scratch = vec![0.0; rubato.output_frames_max()];
        let run_in = run_in(ratio);
        let waiting = Vec::with_capacity(block);
        Ok(Self {
            from,
            to,
            filter: Some(Filter { rubato, waiting, scratch, run_in, to_drop: run_in, taken: 0, given: 0 }),
        })
    }

    /// Takes `input` and appends what can be said of it now to `out`.
    pub fn process(&mut self, input: &[f32], out: &mut Vec<f32>) {
        let Some(filter) = &mut self.filter else {
            out.extend_from_slice(input);
            return;
        };
        filter.taken += input.len() as u64;
        let block = filter.rubato.input_frames_next();
        let mut rest = input;
        while !rest.is_empty() {
            let n = (block - filter.waiting.len()).min(rest.len());
            filter.waiting.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if filter.waiting.len() == block {
                filter.run(block, u64::MAX, out);
            }
        }
    }

    /// The stream is over: appends the rest, then begins anew.
    pub fn flush(&mut self, out: &mut Vec<f32>) {
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        if let Some(filter) = &mut self.filter {
            let whole = (filter.taken * to + from / 2) / from;
            while filter.given < whole {
                let n = filter.waiting.len();
                filter.run(n, whole - filter.given, out);
            }
            filter.reset();
        }
    }

    /// Forgets everything that was taken, as if nothing ever had been.
    pub fn reset(&mut self) {
        if let Some(filter) = &mut self.filter {
            filter.reset();
        }
    }

    /// The most input samples that must follow an input sample before its moment has come out.
    pub fn delay(&self) -> usize {
        self.filter.as_ref().map_or(0, |f| TAPS / 2 + f.rubato.input_frames_max() + 1)
    }

    /// Input rate in hertz.
    pub fn from_rate(&self) -> u32 {
        self.from
    }

    /// Output rate in hertz.
    pub fn to_rate(&self) -> u32 {
        self.to
    }
}

/// How many output samples come before the one that belongs to the first input sample, rounded: half the filter, less
/// the one step by which rubato's first output is ahead (which its own `output_delay` leaves out).
fn run_in(ratio: f64) -> usize {
    ((TAPS / 2) as f64 * ratio - 1.0).round().max(0.0) as usize
}

impl Filter {
    /// Runs one block, of which the first `valid` samples wait (the rest is silence), and gives at most `most`.
    fn run(&mut self, valid: usize, most: u64, out: &mut Vec<f32>) {
        let block = self.rubato.input_frames_next();
        self.waiting.resize(block, 0.0);
        let indexing = Indexing::new().partial_len(valid);
        let frames = self.scratch.len();
        let (Ok(input), Ok(mut output)) =
            (SequentialSlice::new(&self.waiting, 1, block), SequentialSlice::new_mut(&mut self.scratch, 1, frames))
        else {
            unreachable!("a slice of n samples is one channel of n frames");
        };
        let made = match self.rubato.process_into_buffer(&input, &mut output, Some(&indexing)) {
            Ok((_, made)) => made,
            Err(e) => unreachable!("the buffers have the sizes that the filter asks for: {e}"),
        };
        self.waiting.clear();
        let dropped = self.to_drop.min(made);
        self.to_drop -= dropped;
        let kept = &self.scratch[dropped..made];
        let kept = &kept[..kept.len().min(usize::try_from(most).unwrap_or(usize::MAX))];
        self.given += kept.len() as u64;
        out.extend_from_slice(kept);
    }

    fn reset(&mut self) {
        self.rubato.reset();
        self.waiting.clear();
        self.to_drop = self.run_in;
        (self.taken, self.given) = (0, 0);
    }
}

/// A whole clip at another rate.
pub fn convert(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, ResampleError> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = Vec::with_capacity((samples.len() as u64 * u64::from(to) / u64::from(from)) as usize + TAPS);
    resampler.process(samples, &mut out);
    resampler.flush(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const RATES: [(u32, u32); 9] = [
        (48_000, 16_000),
        (44_100, 16_000),
        (96_000, 16_000),
        (8_000, 16_000),
        (22_050, 48_000),
        (24_000, 48_000),
        (24_000, 44_100),
        (22_050, 16_000),
        (16_000, 48_000),
    ];

    fn sine(rate: u32, hz: f64, n: usize) -> Vec<f32> {
        (0..n).map(|i| (0.5 * (TAU * hz * i as f64 / f64::from(rate)).sin()) as f32).collect()
    }

    /// Amplitude and phase of the part of `samples` that is a sine of `hz`, by correlation over whole periods.
    fn measure(samples: &[f32], rate: u32, hz: f64) -> (f64, f64) {
        let (mut re, mut im) = (0.0, 0.0);
        for (i, &s) in samples.iter().enumerate() {
            let a = TAU * hz * i as f64 / f64::from(rate);
            re += f64::from(s) * a.sin();
            im += f64::from(s) * a.cos();
        }
        let n = samples.len() as f64 / 2.0;
        ((re * re + im * im).sqrt() / n, im.atan2(re))
    }

    #[test]
    fn a_sine_stays_a_sine_of_the_same_frequency_level_and_moment() {
        for (from, to) in RATES {
            for hz in [100.0, 1000.0, 3000.0] {
                let out = convert(&sine(from, hz, from as usize), from, to).unwrap();
                assert_eq!(out.len(), to as usize, "{from}->{to}: length");
                let middle = &out[to as usize / 5..to as usize * 4 / 5];
                let (amplitude, phase) = measure(middle, to, hz);
                let db = 20.0 * (amplitude / 0.5).log10();
                assert!(db.abs() < 0.05, "{from}->{to} at {hz} Hz: level off by {db} dB");
                // A fifth of a second holds whole periods of all three, so the phase must be that of the input.
                let late = phase / TAU / hz * f64::from(to);
                assert!(late.abs() <= 0.51, "{from}->{to} at {hz} Hz: {late} output samples off");
                // What is left when the sine is taken away: noise and distortion.
                let residue = middle
                    .iter()
                    .enumerate()
                    .map(|(i, &s)| {
                        let a = TAU * hz * i as f64 / f64::from(to) + phase;
                        (f64::from(s) - amplitude * a.sin()).powi(2)
                    })
                    .sum::<f64>();
                let residue = 10.0 * (residue / middle.len() as f64 / (amplitude * amplitude / 2.0)).log10();
                assert!(residue < -80.0, "{from}->{to} at {hz} Hz: residue {residue} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        let out = convert(&sine(48_000, 9_000.0, 48_000), 48_000, 16_000).unwrap();
        let middle = &out[3_200..12_800];
        let rms = (middle.iter().map(|s| f64::from(s * s)).sum::<f64>() / middle.len() as f64).sqrt();
        let db = 20.0 * (rms / (0.5 / 2f64.sqrt())).log10();
        assert!(db < -80.0, "a tone above the limit comes through at {db} dB");
    }

    #[test]
    fn block_sizes_do_not_matter() {
        for (from, to) in RATES {
            let input = sine(from, 440.0, from as usize / 3 + 17);
            let whole = convert(&input, from, to).unwrap();
            let mut resampler = Resampler::new(from, to).unwrap();
            for round in 0..2 {
                let (mut out, mut at, mut size) = (Vec::new(), 0, 1);
                while at < input.len() {
                    let end = (at + size).min(input.len());
                    resampler.process(&input[at..end], &mut out);
                    at = end;
                    size = (size * 7 + 3) % 1531;
                }
                resampler.flush(&mut out);
                assert_eq!(out, whole, "{from}->{to}, round {round}");
            }
            let exact = (input.len() as f64 * f64::from(to) / f64::from(from)).round();
            assert_eq!(whole.len() as f64, exact, "{from}->{to}");
        }
    }

    #[test]
    fn the_delay_is_no_longer_than_said() {
        for (from, to) in RATES {
            let mut resampler = Resampler::new(from, to).unwrap();
            let (mut out, mut taken) = (Vec::new(), 0u64);
            for _ in 0..2000 {
                resampler.process(&[0.1; 13], &mut out);
                taken += 13;
                let due = taken.saturating_sub(resampler.delay() as u64) * u64::from(to) / u64::from(from);
                assert!(out.len() as u64 + 1 >= due, "{from}->{to}: {} of {due} after {taken}", out.len());
            }
        }
    }

    #[test]
    fn short_and_empty_streams_keep_their_length() {
        for n in [0, 1, 2, 3, 100] {
            assert_eq!(convert(&vec![0.3; n * 3], 48_000, 16_000).unwrap().len(), n);
        }
    }

    #[test]
    fn equal_rates_pass_unchanged_and_zero_is_refused() {
        let input = sine(16_000, 333.0, 1000);
        assert_eq!(convert(&input, 16_000, 16_000).unwrap(), input);
        assert_eq!(Resampler::new(16_000, 16_000).unwrap().delay(), 0);
        let error = Resampler::new(0, 16_000).err().unwrap().to_string();
        assert!(error.contains("from 0 to 16000 Hz") && error.contains("choose"), "{error}");
    }
}
