//! Shapes the raw sound of a clause while it streams by: trims the silence at both ends, sets the level, fades.
//!
//! Pure: samples in, samples out, in pieces of any size. Invariants: what comes out does not depend on the pieces; it
//! begins and ends at zero; no sample exceeds [`PEAK`].

/// No sample is louder.
pub const PEAK: f32 = 0.95;

/// Where the limiter sets in.
const KNEE: f32 = 0.8;

/// What is quieter than this, after the gain, is silence: 40 dB below the level of speech.
const QUIET: f32 = 0.001;

/// Kept before the first sound and after the last, so that soft consonants stay.
const LEAD_MS: u32 = 20;
const TAIL_MS: u32 = 60;
const FADE_MS: u32 = 4;

/// Shapes one clause.
pub struct Shaper {
    rate: u32,
    gain: f32,
    /// Samples not yet given: before the first sound, the last [`LEAD_MS`]; after it, the quiet end.
    held: Vec<f32>,
    started: bool,
}

impl Shaper {
    pub fn new(rate: u32, gain: f32) -> Self {
        Self { rate, gain, held: Vec::new(), started: false }
    }

    fn samples(&self, ms: u32) -> usize {
        (self.rate * ms / 1000) as usize
    }

    /// More raw sound; gives what is certainly not silence at an end.
    pub fn push(&mut self, raw: &[f32]) -> Vec<f32> {
        let gain = self.gain;
        self.held.extend(raw.iter().map(|x| limited(x * gain)));
        if !self.started {
            let lead = self.samples(LEAD_MS);
            let Some(first) = self.held.iter().position(|x| x.abs() > QUIET) else {
                let keep = self.held.len().saturating_sub(lead);
                self.held.drain(..keep);
                return Vec::new();
            };
            self.held.drain(..first.saturating_sub(lead));
            let fade = self.samples(FADE_MS).max(1);
            for (i, x) in self.held.iter_mut().take(fade).enumerate() {
                *x *= i as f32 / fade as f32;
            }
            self.started = true;
        }
        // The end of the clause fades out, so that much is always kept back.
        let sure = self.held.len().saturating_sub(self.samples(FADE_MS));
        let loud = self.held.iter().rposition(|x| x.abs() > QUIET).map_or(0, |i| i + 1);
        self.held.drain(..loud.min(sure)).collect()
    }

    /// The end of the clause, with a pause of `pause_ms` after its last sound.
    pub fn finish(&mut self, pause_ms: u32) -> Vec<f32> {
        if !self.started {
            return Vec::new();
        }
        let (pause, tail) = (self.samples(pause_ms), self.samples(TAIL_MS));
        let loud = self.held.iter().rposition(|x| x.abs() > QUIET).map_or(0, |i| i + 1);
        self.held.truncate(loud + tail.min(pause.max(self.samples(FADE_MS))));
        let fade = self.samples(FADE_MS).min(self.held.len()).max(1);
        for (i, x) in self.held.iter_mut().rev().take(fade).enumerate() {
            *x *= i as f32 / fade as f32;
        }
        self.held.resize(self.held.len().max(loud + pause), 0.0);
        std::mem::take(&mut self.held)
    }
}

/// Leaves quiet samples alone and bends loud ones below [`PEAK`].
fn limited(x: f32) -> f32 {
    if !x.is_finite() {
        return 0.0;
    }
    let over = x.abs() - KNEE;
    if over <= 0.0 { x } else { x.signum() * (KNEE + (PEAK - KNEE) * (over / (PEAK - KNEE)).tanh()) }
}

/// The root mean square of the loud parts of speech: of the 20 ms pieces within 20 dB of the loudest.
pub fn active_rms(samples: &[f32], rate: u32) -> f32 {
    let piece = (rate / 50).max(1) as usize;
    let powers: Vec<f32> =
        samples.chunks_exact(piece).map(|c| c.iter().map(|x| x * x).sum::<f32>() / piece as f32).collect();
    let loudest = powers.iter().copied().fold(0.0, f32::max);
    let loud: Vec<f32> = powers.into_iter().filter(|p| *p > loudest / 100.0).collect();
    if loud.is_empty() { 0.0 } else { (loud.iter().sum::<f32>() / loud.len() as f32).sqrt() }
}
