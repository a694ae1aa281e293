//! Sounds that interrupt and sounds that do not: the spoken fixtures, and sounds made by formula.

use super::*;
use crate::turn::vad::{Vad, VadChange, VadConfig};

fn fixture(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut reader = hound::WavReader::open(path).unwrap();
    reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect()
}

fn noise(samples: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

/// A buzz of 120 Hz with these formants (hertz, gain), swelling and fading as a syllable does.
fn voice(ms: usize, formants: &[(f32, f32)]) -> Vec<f32> {
    let n = ms * 16;
    (0..n)
        .map(|i| {
            let t = i as f32 / 16_000.0;
            let harmonics = (1..30).map(|k| {
                let hz = 120.0 * k as f32;
                let gain: f32 = formants.iter().map(|(at, gain)| gain / (1.0 + ((hz - at) / 80.0).powi(2))).sum();
                gain * (std::f32::consts::TAU * hz * t).sin()
            });
            0.2 * harmonics.sum::<f32>() * (std::f32::consts::PI * i as f32 / n as f32).sin().sqrt()
        })
        .collect()
}

const HUM: &[(f32, f32)] = &[(200.0, 1.0)];
const OH: &[(f32, f32)] = &[(450.0, 1.0), (800.0, 0.8)];

fn breath(ms: usize) -> Vec<f32> {
    // A soft breath through the throat: noise without its highest part.
    let mut last = 0.0;
    noise(ms * 16, 5)
        .into_iter()
        .map(|x| {
            last += 0.15 * (x - last);
            0.06 * last
        })
        .collect()
}

/// The verdict on a sound, and how many milliseconds after its onset it came; the real detector says what is speech.
fn judge(sound: &[f32]) -> Option<(Verdict, usize)> {
    judge_by(Sensitivity::Normal, sound)
}

fn judge_by(sensitivity: Sensitivity, sound: &[f32]) -> Option<(Verdict, usize)> {
    let padded = [vec![0.0; 16_000], sound.to_vec(), vec![0.0; 16_000]].concat();
    let (mut vad, mut doubt) = (Vad::new(VadConfig::default()), None::<BackChannel>);
    let mut onset = 0;
    for (i, frame) in padded.chunks_exact(FRAME).enumerate() {
        let (mut voiced, mut begins) = (false, false);
        vad.push(frame, |f| {
            voiced = f.speech && f.silence_ms == 0;
            begins = f.change == Some(VadChange::Onset);
        });
        if begins && doubt.is_none() {
            onset = i;
            let mut new = BackChannel::new(sensitivity);
            new.before_onset(&padded[(i - 11) * FRAME..(i + 1) * FRAME]);
            doubt = Some(new);
        } else if let Some(doubt) = &mut doubt {
            let verdict = doubt.hear(frame, voiced, false);
            if verdict != Verdict::Wait {
                return Some((verdict, (i - onset) * 16));
            }
        }
    }
    None
}

#[test]
fn words_interrupt() {
    for name in ["stop", "capital", "fruit", "joke", "sky", "pause"] {
        let (verdict, ms) = judge(&fixture(name)).expect(name);
        println!("{name}: {verdict:?} {ms} ms after its onset");
        assert_eq!(verdict, Verdict::Interruption, "{name}, {ms} ms after its onset");
        assert!(ms <= 800, "{name}: only after {ms} ms");
    }
}

#[test]
fn neither_loudness_nor_the_cut_into_frames_changes_the_verdict() {
    for (name, verdict) in [("stop", Verdict::Interruption), ("mhm", Verdict::BackChannel)] {
        for gain in [2.0, 1.5, 1.0, 0.7, 0.5, 0.35, 0.25] {
            let sound: Vec<f32> = fixture(name).iter().map(|x| (x * gain).clamp(-1.0, 1.0)).collect();
            for shift in (0..FRAME).step_by(FRAME / 16) {
                let shifted = [vec![0.0; shift], sound.clone()].concat();
                assert_eq!(judge(&shifted).map(|j| j.0), Some(verdict), "{name} at {gain}, {shift} samples later");
            }
        }
    }
}

#[test]
fn the_first_of_two_pulses_counts_when_it_was_noticed_late() {
    // A soft voice is noticed in the middle of its "uh", which then begins what was heard.
    let uh_huh = [voice(160, OH), breath(70), voice(200, OH)].concat();
    let mut doubt = BackChannel::default();
    let frames = uh_huh[5 * FRAME..].chunks_exact(FRAME).map(|frame| (frame, true));
    let silence = [0.0; FRAME];
    let verdicts = frames.chain(std::iter::repeat_n((&silence[..], false), SILENT_FRAMES));
    let verdict = verdicts.map(|(frame, speech)| doubt.hear(frame, speech, false)).find(|v| *v != Verdict::Wait);
    assert_eq!(verdict, Some(Verdict::BackChannel));
}

#[test]
fn hums_do_not_interrupt() {
    assert_eq!(judge(&fixture("mhm")).map(|j| j.0), Some(Verdict::BackChannel));
    // Made by formula, and given as speech throughout: a detector may think what it likes.
    let hum = voice(300, HUM);
    let mm_hm = [voice(220, HUM), breath(60), voice(260, HUM)].concat();
    let uh_huh = [voice(160, OH), breath(70), voice(200, OH)].concat();
    for (name, sound) in [("mm", hum), ("mm hm", mm_hm), ("uh huh", uh_huh)] {
        assert_eq!(direct(&sound), Verdict::BackChannel, "{name}");
    }
}

/// The verdict when all of the sound is taken for speech, and what follows for silence.
fn direct(sound: &[f32]) -> Verdict {
    direct_by(Sensitivity::Normal, sound)
}

fn direct_by(sensitivity: Sensitivity, sound: &[f32]) -> Verdict {
    let mut doubt = BackChannel::new(sensitivity);
    doubt.before_onset(&vec![0.0; 12 * FRAME]);
    let verdicts = sound.chunks(FRAME).map(|frame| (frame.to_vec(), true));
    let silence = (0..12).map(|_| (vec![0.0; FRAME], false));
    let verdict = verdicts.chain(silence).map(|(f, s)| doubt.hear(&f, s, false)).find(|v| *v != Verdict::Wait);
    verdict.expect("what has ended is judged")
}

#[test]
fn words_interrupt_at_every_sensitivity_and_the_sooner_the_higher_it_is() {
    for name in ["stop", "capital", "fruit", "joke", "sky", "pause"] {
        let [low, normal, high] = Sensitivity::ALL.map(|sensitivity| {
            let (verdict, ms) = judge_by(sensitivity, &fixture(name)).expect(name);
            assert_eq!(verdict, Verdict::Interruption, "{name}, {sensitivity:?}, {ms} ms after its onset");
            ms
        });
        assert!(high <= normal && normal <= low, "{name}: {low}, {normal}, {high} ms");
        // Speech that goes on for 160 ms after its onset, and in between not for longer than ends it.
        assert!(high <= 160 + 192, "{name}: {high} ms");
    }
}

#[test]
fn what_is_no_word_interrupts_by_the_sensitivity() {
    let by = |sound: &[f32]| Sensitivity::ALL.map(|sensitivity| direct_by(sensitivity, sound));
    let mm_hm = [voice(220, HUM), breath(60), voice(260, HUM)].concat();
    assert_eq!(by(&mm_hm), [Verdict::BackChannel, Verdict::BackChannel, Verdict::Interruption], "mm hm");
    assert_eq!(by(&voice(350, OH)), [Verdict::BackChannel, Verdict::Interruption, Verdict::Interruption], "no!");
    assert_eq!(by(&noise(16 * 60, 3)), [Verdict::BackChannel; 3], "a click");
    // A hum without end: after 1.5 s, 1 s and 160 ms.
    let after = Sensitivity::ALL.map(|sensitivity| {
        let mut doubt = BackChannel::new(sensitivity);
        let mut verdicts =
            voice(2500, HUM).chunks_exact(FRAME).map(|f| doubt.hear(f, true, false)).collect::<Vec<_>>().into_iter();
        verdicts.position(|v| v == Verdict::Interruption).map(|i| (i + 1) * 16)
    });
    assert_eq!(after, [Some(1504), Some(1008), Some(160)]);
}

#[test]
fn a_cough_does_not_interrupt() {
    // Two bursts of noise that die away.
    let burst =
        |n: usize| noise(n, 9).into_iter().enumerate().map(move |(i, x)| 0.5 * x * (-6.0 * i as f32 / n as f32).exp());
    let cough: Vec<f32> = burst(16 * 180).chain(std::iter::repeat_n(0.0, 16 * 60)).chain(burst(16 * 140)).collect();
    assert_eq!(direct(&cough), Verdict::BackChannel);
    assert_eq!(direct(&noise(16 * 60, 3)), Verdict::BackChannel, "a click");
}

#[test]
fn one_open_syllable_is_a_word_and_a_long_hum_is_one_too() {
    assert_eq!(direct(&voice(350, OH)), Verdict::Interruption, "no!");
    let mut doubt = BackChannel::default();
    let verdicts: Vec<Verdict> = voice(2000, HUM).chunks_exact(FRAME).map(|f| doubt.hear(f, true, false)).collect();
    let first = verdicts.iter().position(|v| *v == Verdict::Interruption);
    assert_eq!(first, Some(LONG_FRAMES - 1));
    assert!(verdicts[..LONG_FRAMES - 1].iter().all(|v| *v == Verdict::Wait));
}
