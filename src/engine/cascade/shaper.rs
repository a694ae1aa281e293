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

/// A pause is as quiet as a quiet room, not dead: dead silence sounds like a broken line. 80 dB below full scale.
const ROOM: f32 = 1e-4;

/// Shapes one clause.
pub struct Shaper {
    rate: u32,
    gain: f32,
    /// Samples not yet given: before the first sound, the last [`LEAD_MS`]; after it, the quiet end.
    held: Vec<f32>,
    started: bool,
    /// How many samples have been through the fade at the beginning.
    faded: usize,
}

impl Shaper {
    pub fn new(rate: u32, gain: f32) -> Self {
        Self { rate, gain, held: Vec::new(), started: false, faded: 0 }
    }

    fn samples(&self, ms: u32) -> usize {
        (self.rate * ms / 1000) as usize
    }

    /// More raw sound; gives what is certainly not silence at an end.
    pub fn push(&mut self, raw: &[f32]) -> Vec<f32> {
        let gain = self.gain;
        let mut new = self.held.len();
        self.held.extend(raw.iter().map(|x| limited(x * gain)));
        if !self.started {
            let lead = self.samples(LEAD_MS);
            let Some(first) = self.held.iter().position(|x| x.abs() > QUIET) else {
                let keep = self.held.len().saturating_sub(lead);
                self.held.drain(..keep);
                return Vec::new();
            };
            self.held.drain(..first.saturating_sub(lead));
            self.started = true;
            new = 0;
        }
        let fade = self.samples(FADE_MS).max(1);
        for x in self.held[new..].iter_mut().take(fade - self.faded) {
            *x *= self.faded as f32 / fade as f32;
            self.faded += 1;
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
        let silence = (loud + pause).saturating_sub(self.held.len());
        self.held.extend(room_tone(silence));
        std::mem::take(&mut self.held)
    }
}

/// The sound of a quiet room: white noise below [`ROOM`], the same every time, and zero at its end.
fn room_tone(samples: usize) -> impl Iterator<Item = f32> {
    let mut state = 1_u32;
    let noise = move |_| {
        // The generator of Numerical Recipes.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ROOM * ((state >> 16) as f32 / 32_768.0 - 1.0)
    };
    (0..samples.saturating_sub(1)).map(noise).chain((samples > 0).then_some(0.0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: u32 = 22_050;

    fn tone(seconds: f32, level: f32) -> Vec<f32> {
        let n = (RATE as f32 * seconds) as usize;
        (0..n).map(|i| level * (std::f32::consts::TAU * 220.0 * i as f32 / RATE as f32 + 0.5).sin()).collect()
    }

    fn silence(ms: u32) -> Vec<f32> {
        vec![0.0; (RATE * ms / 1000) as usize]
    }

    fn shape(raw: &[f32], pieces: &[usize], pause_ms: u32) -> Vec<f32> {
        let mut shaper = Shaper::new(RATE, 1.0);
        let (mut out, mut at, mut turn) = (Vec::new(), 0, 0);
        while at < raw.len() {
            let to = (at + pieces[turn % pieces.len()]).min(raw.len());
            out.extend(shaper.push(&raw[at..to]));
            (at, turn) = (to, turn + 1);
        }
        out.extend(shaper.finish(pause_ms));
        out
    }

    #[test]
    fn silence_before_is_cut_and_after_becomes_the_pause() {
        let raw = [silence(200), tone(0.5, 0.3), silence(700)].concat();
        let out = shape(&raw, &[700], 300);
        let first = out.iter().position(|x| x.abs() > QUIET).expect("sound");
        assert!(first <= (RATE * 30 / 1000) as usize, "{first} samples of silence lead");
        let after = out.len() - 1 - out.iter().rposition(|x| x.abs() > QUIET).expect("sound");
        let pause = (RATE * 300 / 1000) as usize;
        assert!(after.abs_diff(pause) <= 2, "{after} samples follow, {pause} are wanted");
    }

    #[test]
    fn sound_that_stops_abruptly_still_ends_at_zero_and_keeps_its_level() {
        let raw = tone(0.4, 0.3);
        let out = shape(&raw, &[512], 150);
        assert_eq!(out[0], 0.0);
        let last = out.iter().rposition(|x| *x != 0.0).expect("sound");
        assert!(out[last].abs() < 0.02, "ends at {}", out[last]);
        // The steepest step of the tone itself is 0.019 a sample.
        assert!(out.windows(2).all(|w| (w[1] - w[0]).abs() < 0.03));
        assert!((active_rms(&out, RATE) - 0.3 / 2f32.sqrt()).abs() < 0.01);
    }

    #[test]
    fn loud_samples_are_bent_and_broken_ones_dropped() {
        let mut shaper = Shaper::new(RATE, 4.0);
        let mut out = shaper.push(&[vec![f32::NAN, f32::INFINITY], tone(0.2, 0.9)].concat());
        out.extend(shaper.finish(0));
        assert!(out.iter().all(|x| x.abs() <= PEAK));
        assert!(out.iter().any(|x| x.abs() > KNEE));
    }

    #[test]
    fn silence_alone_gives_nothing() {
        assert_eq!(shape(&silence(500), &[100], 300), Vec::<f32>::new());
    }

    #[test]
    fn the_level_counts_only_the_loud_parts() {
        let mixed = [tone(0.5, 0.2), silence(1500)].concat();
        assert!((active_rms(&mixed, RATE) - 0.2 / 2f32.sqrt()).abs() < 0.005);
        assert_eq!(active_rms(&[], RATE), 0.0);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            lead in 0u32..100, gap in 0u32..200, trail in 0u32..100,
            pieces in prop::collection::vec(1usize..3000, 1..5),
        ) {
            let raw = [silence(lead), tone(0.1, 0.4), silence(gap), tone(0.05, 0.2), silence(trail)].concat();
            prop_assert_eq!(shape(&raw, &pieces, 150), shape(&raw, &[raw.len()], 150));
        }
    }
}
