//! Grades and advice, for recordings that are good, and bad in one way each.

use super::super::recording::tests::{all, mixed, noise, recording, scaled, speech};
use super::*;

fn grades(samples: Vec<f32>) -> Check {
    recording(samples).check(None)
}

#[track_caller]
fn fault(check: &Check, aspect: Aspect, grade: Grade, advice: &str) {
    let found = check.findings.iter().find(|f| f.aspect == aspect);
    let found = found.unwrap_or_else(|| panic!("{aspect:?} was not measured: {check:#?}"));
    assert_eq!(found.grade, grade, "{check:#?}");
    assert!(found.advice.contains(advice), "{check:#?}");
    assert!(check.grade >= grade);
}

#[test]
fn clean_speech_is_good_and_needs_no_advice() {
    let check = grades(mixed(&speech(), &noise(speech().len(), -65.0, 1)));
    assert_eq!(check.grade, Grade::Ok, "{check:#?}");
    assert_eq!(check.findings.len(), 8);
    assert!(check.findings.iter().all(|f| f.advice.is_empty()) && check.refusal().is_empty());
}

#[test]
fn each_fault_has_its_grade_and_its_remedy() {
    let clean = speech();
    let hissing = |db| mixed(&clean, &noise(clean.len(), db, 2));
    fault(&grades(scaled(&hissing(-65.0), -26.0)), Aspect::Level, Grade::Usable, "closer");
    fault(&grades(scaled(&hissing(-65.0), -40.0)), Aspect::Level, Grade::NotUsable, "closer");
    // The sentences' active level is -21 dBFS.
    fault(&grades(hissing(-35.0)), Aspect::Noise, Grade::Usable, "quieter room");
    fault(&grades(hissing(-26.0)), Aspect::Noise, Grade::NotUsable, "quieter room");
    let clipped: Vec<f32> = hissing(-65.0).iter().map(|s| (s * 10.0).clamp(-1.0, 1.0)).collect();
    fault(&grades(clipped), Aspect::Clipping, Grade::NotUsable, "gain down");
    fault(&grades(clean[8_000..8_000 + 32_000].to_vec()), Aspect::Length, Grade::NotUsable, "5 to 15 seconds");
}

#[test]
fn a_hum_is_found_under_the_voice() {
    let clean = mixed(&speech(), &noise(speech().len(), -65.0, 1));
    let mains = |amplitude: f32| -> Vec<f32> {
        (0..clean.len()).map(|i| amplitude * (i as f32 * std::f32::consts::TAU * 100.0 / 16_000.0).sin()).collect()
    };
    for (amplitude, grade) in [(0.02f32, Grade::Usable), (0.15, Grade::NotUsable)] {
        let found = recording(mixed(&clean, &mains(amplitude)));
        let check = found.check(Some(all(&found)));
        fault(&check, Aspect::Hum, grade, "hums");
        let level = found.level_db(all(&found));
        let tone = 20.0 * (f64::from(amplitude) / 2f64.sqrt()).log10();
        let below = check.value(Aspect::Hum).unwrap();
        assert!((below - (level - tone)).abs() < 1.5, "{below} {level} {tone}");
    }
}

#[test]
fn what_is_no_voice_is_refused() {
    let tone: Vec<f32> = (0..160_000).map(|i| 0.3 * (i as f32 * 0.2).sin()).collect();
    // A chord of four notes, swelling twice a second.
    let chord: Vec<f32> = (0..160_000)
        .map(|i| {
            let t = i as f32 / 16_000.0;
            let notes = [220.0f32, 277.2, 329.6, 440.0].map(|hz| (t * hz * std::f32::consts::TAU).sin());
            notes.iter().sum::<f32>() * 0.1 * (1.0 + 0.2 * (t * 2.0 * std::f32::consts::TAU).sin())
        })
        .collect();
    for samples in [tone, chord, noise(160_000, -20.0, 4), vec![0.0; 160_000]] {
        let check = grades(samples);
        assert_eq!(check.grade, Grade::NotUsable, "{check:#?}");
        assert!(!check.refusal().is_empty());
    }
}

#[test]
fn silences_are_minded_when_there_are_several() {
    let mut samples = Vec::new();
    for part in speech().chunks(48_000) {
        samples.extend_from_slice(part);
        samples.extend([0.0; 24_000]);
    }
    let found = recording(mixed(&samples, &noise(samples.len(), -65.0, 1)));
    let check = found.check(Some(Span::new(0.0, 20.0)));
    fault(&check, Aspect::Silences, Grade::Usable, "without breaks");
}

#[test]
fn a_chosen_span_is_the_one_that_is_judged() {
    let found = recording(speech());
    let check = found.check(Some(Span::new(1.0, 3.0)));
    assert_eq!(check.span, Span::new(1.0, 3.0));
    assert_eq!(check.value(Aspect::Length), Some(2.0));
    assert_eq!(found.check(Some(Span::new(-4.0, 900.0))).span, Span::new(0.0, found.seconds()));
}
