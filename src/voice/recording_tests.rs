//! What is found in signals whose truth is known: made ones, and the spoken fixtures with noise and clipping added.

use super::*;

const RATE: u32 = HEARING_RATE;

fn fixture(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    crate::audio::file::read(std::path::Path::new(&path)).unwrap().samples
}

/// A fixture without the silence around it.
fn words(name: &str) -> Vec<f32> {
    let samples = fixture(name);
    let loud = |sample: &f32| sample.abs() > 0.01;
    let (from, to) = (samples.iter().position(loud).unwrap(), samples.iter().rposition(loud).unwrap());
    samples[from..=to].to_vec()
}

/// Several sentences with half a second between them: about 14 s.
pub(in crate::voice) fn speech() -> Vec<f32> {
    let mut all = vec![0.0; RATE as usize / 2];
    for name in ["capital", "joke", "pause", "sky", "capital"] {
        all.extend(words(name));
        all.extend([0.0; RATE as usize / 2]);
    }
    all
}

/// White noise of a level.
pub(in crate::voice) fn noise(samples: usize, db: f32, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..samples).map(|_| next() * 3f32.sqrt() * level::from_db(db)).collect()
}

pub(in crate::voice) fn mixed(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

pub(in crate::voice) fn scaled(samples: &[f32], db: f32) -> Vec<f32> {
    samples.iter().map(|sample| sample * level::from_db(db)).collect()
}

pub(in crate::voice) fn recording(samples: Vec<f32>) -> Recording {
    Recording::new(&Clip { samples, rate: RATE }).unwrap()
}

pub(in crate::voice) fn all(recording: &Recording) -> Span {
    Span::new(0.0, recording.seconds()).within(recording.seconds())
}

fn sine(hz: f32, amplitude: f32, samples: usize, rate: u32) -> Vec<f32> {
    let step = std::f64::consts::TAU * f64::from(hz) / f64::from(rate);
    (0..samples).map(|i| (f64::from(amplitude) * (i as f64 * step).sin()) as f32).collect()
}

#[test]
fn the_level_of_a_sine_between_silences_is_that_of_the_sine() {
    let mut samples = sine(440.0, 0.1, 32_000, RATE);
    samples.extend(vec![0.0; 64_000]);
    let found = recording(samples);
    // -23.01 dBFS; the 200 ms that count as active after it lower it by 10 log10(2.19 / 2).
    let level = found.level_db(all(&found));
    assert!((level + 23.01 + 0.4).abs() < 0.1, "{level}");
}

/// Levels by ITU-T P.56, method B, computed sample by sample in Python (numpy): two-stage envelope of 30 ms, hangover
/// 200 ms, margin 15.9 dB.
#[test]
fn the_level_of_speech_is_that_of_p56() {
    let known = [("capital", -22.86), ("fruit", -18.37), ("joke", -18.74), ("pause", -20.76), ("sky", -22.30)];
    for (name, p56) in known {
        for gain in [0.0, -17.0] {
            let found = recording(scaled(&fixture(name), gain));
            let level = found.level_db(all(&found));
            assert!((level - p56 - f64::from(gain)).abs() < 0.5, "{name} {gain}: {level:.2}, P.56 has {p56}");
        }
    }
}

#[test]
fn the_noise_below_a_voice_is_measured() {
    let clean = speech();
    let voiced = recording(clean.clone());
    let voice_db = voiced.level_db(all(&voiced)) as f32;
    for snr in [40.0f32, 30.0, 20.0, 10.0, 5.0] {
        let found = recording(mixed(&clean, &noise(clean.len(), voice_db - snr, 7)));
        let measured = found.snr_db(all(&found)).unwrap();
        // Nearly drowned, soft sounds are taken for background.
        let within = if snr < 10.0 { 3.0 } else { 2.0 };
        assert!((measured - f64::from(snr)).abs() < within, "{snr} dB: {measured:.1}");
    }
}

#[test]
fn a_quiet_voice_is_as_much_of_a_voice() {
    let loud = recording(speech());
    let quiet = recording(scaled(&speech(), -30.0));
    let (loud, quiet) = (loud.speech_s(all(&loud)), quiet.speech_s(all(&quiet)));
    // 11 s of sentences, with a hesitation in one.
    assert!((7.5..11.5).contains(&loud) && (loud - quiet).abs() < 0.3, "{loud} {quiet}");
}

#[test]
fn the_share_of_clipped_samples_is_exact() {
    // 100 Hz at 48 kHz, clipped at half its height: between 30 and 150 degrees of each half wave, 160 of 480 samples
    // twice over, and the samples at the very corners.
    let wave = sine(100.0, 0.8, 48_000, 48_000);
    for gain in [1.0f32, 0.5, 0.1] {
        let clipped: Vec<f32> = wave.iter().map(|s| s.clamp(-0.4, 0.4) * gain).collect();
        let at_top = clipped.iter().filter(|s| s.abs() >= 0.4 * gain).count();
        let found = Recording::new(&Clip { samples: clipped, rate: 48_000 }).unwrap();
        let share = found.clipped_share(all(&found));
        assert_eq!(share, at_top as f64 / 48_000.0, "gain {gain}");
        assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
        // Half of the span: the same share.
        assert!((found.clipped_share(Span::new(0.25, 0.75)) - share).abs() < 0.01);
    }
}

#[test]
fn sound_that_only_touches_the_top_is_not_clipped() {
    for samples in [sine(440.0, 1.0, 16_000, RATE), noise(16_000, -12.0, 3), speech(), scaled(&speech(), -20.0)] {
        let found = recording(samples);
        assert_eq!(found.clipped_share(all(&found)), 0.0);
    }
    // One chance run of equal samples at the top is no clipping; at full scale it is.
    let mut samples = scaled(&speech(), -6.0);
    let top = level::peak(&samples) + 0.01;
    samples[1000..1004].fill(top);
    assert_eq!(recording(samples.clone()).flat, []);
    samples[1000..1004].fill(1.0);
    assert_eq!(recording(samples).flat, [FlatTop { at: 1000, samples: 4 }]);
}

#[test]
fn clipped_speech_is_found_at_any_volume() {
    for after in [1.0f32, 0.3] {
        let samples: Vec<f32> = speech().iter().map(|s| (s * 8.0).clamp(-1.0, 1.0) * after).collect();
        let found = recording(samples);
        let share = found.clipped_share(all(&found));
        assert!(share > 0.01, "{share}");
    }
}

#[test]
fn long_silences_are_counted_between_words_only() {
    let mut samples = vec![0.0; 40_000];
    for pause in [2.0f32, 1.5, 0.4, 3.0] {
        samples.extend(words("sky"));
        samples.extend(vec![0.0; (pause * 16_000.0) as usize]);
    }
    let found = recording(samples);
    assert_eq!(found.long_silences(Span::new(0.0, found.seconds())), 2);
}

#[test]
fn the_proposal_leaves_out_the_silence_and_is_cut_in_pauses() {
    // Four seconds of silence, a sentence of 5.7 s, three seconds of silence.
    let mut samples = vec![0.0; 64_000];
    samples.extend(fixture("pause"));
    samples.extend(vec![0.0; 48_000]);
    let found = recording(samples);
    let span = found.propose();
    assert!(span.start_s > 3.8 && span.start_s < 4.8 && span.end_s > 8.8 && span.end_s < 9.8, "{span:?}");

    let long = recording(speech());
    let span = long.propose();
    assert!((5.0..=15.0).contains(&span.seconds()), "{span:?}");
    for at in [span.start_s, span.end_s] {
        let around = Span::new(at - 0.03, at + 0.03).within(long.seconds());
        assert_eq!(long.speech_s(around), 0.0, "{at} lies in a word");
    }
}

#[test]
fn the_cleaner_part_is_proposed() {
    let passage = speech();
    let hiss = noise(passage.len(), -35.0, 5);
    let noisy = mixed(&passage, &hiss);
    let clipped: Vec<f32> = passage.iter().map(|s| (s * 6.0).clamp(-0.99, 0.99)).collect();
    let length = passage.len() as f64 / f64::from(RATE);
    for worse in [noisy, clipped] {
        let first = recording([worse.clone(), passage.clone()].concat()).propose();
        assert!(first.start_s > length - 0.5, "{first:?}");
        let second = recording([passage.clone(), worse].concat()).propose();
        assert!(second.end_s < length + 0.5, "{second:?}");
    }
}

#[test]
fn what_is_cut_out_is_what_was_said() {
    let samples = speech();
    let found = recording(samples.clone());
    let cut = found.cut(Span::new(1.0, 2.0));
    assert_eq!(cut.len(), 16_000);
    assert_eq!(cut[FADE..16_000 - FADE], samples[16_000 + FADE..32_000 - FADE]);
    assert_eq!((cut[0], cut[15_999]), (0.0, 0.0));
    assert_eq!(found.cut(Span::new(5.0, 1.0)).len(), 0);
    assert_eq!(Span::new(f64::NAN, 90.0).within(60.0), Span::new(0.0, 30.0));
    let peaks = found.peaks(10);
    assert_eq!(peaks.len(), 10);
    let top = peaks.iter().map(|p| p[1]).fold(0.0, f32::max);
    assert_eq!(top, samples.iter().copied().fold(0.0, f32::max));
}

#[test]
fn nothing_at_all_does_no_harm() {
    for samples in [vec![], vec![0.0; 100], vec![0.0; 32_000]] {
        let found = recording(samples);
        let span = found.propose();
        assert!(span.seconds() <= 2.0);
        assert_eq!((found.snr_db(span), found.speech_s(span), found.clipped_share(span)), (None, 0.0, 0.0));
        assert_eq!(found.peaks(4), [[0.0, 0.0]; 4]);
    }
}
