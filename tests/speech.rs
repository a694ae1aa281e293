//! The starter engine's voice, with a real Piper voice.
//!
//! It is looked for where the program itself looks; `make test` fetches it first.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use antiphon::engine::CancelToken;
#[path = "common/models.rs"]
mod models;
#[path = "common/seams.rs"]
mod seams;

use antiphon::engine::cascade::clauses::ClauseEnd;
use antiphon::engine::cascade::phonemes::Phonemizer;
use antiphon::engine::cascade::piper::{HOP, Piper, PiperConfig};
use antiphon::engine::cascade::shaper::active_rms;
use antiphon::engine::cascade::tts::{Spoken, Voice, VoiceOptions};
use std::path::PathBuf;

/// A file of the voice.
fn model(file: &str) -> PathBuf {
    models::folder("piper-joe").join(file)
}

const ONNX: &str = "en_US-joe-medium.onnx";
const JSON: &str = "en_US-joe-medium.onnx.json";

fn voice() -> Voice {
    Voice::load(&model(ONNX), &model(JSON), VoiceOptions { threads: 1 }).expect("the voice loads")
}

#[test]
fn windows_give_the_same_sound_as_the_whole() {
    let config = PiperConfig::read(&model(JSON)).expect("the configuration is valid");
    let table = config.table().expect("the table is complete");
    let mut piper = Piper::load(&model(ONNX), config.inference, 1).expect("the voice loads");
    let ipa = Phonemizer::new().phonemes("The river runs past the old stone bridge to the sea.").expect("phonemes");
    let ids = table.encode(&ipa).ids;
    piper.seed(1);
    let mut frames = piper.encode(&ids).expect("frames");
    assert_eq!(frames.len(), frames.durations.iter().sum::<usize>());

    let n = frames.len();
    let whole = piper.decode(&mut frames, 0..n).expect("sound");
    assert_eq!(whole.len(), n * HOP);
    assert!(active_rms(&whole, 22_050) > 0.01, "there is speech in it");
    let mut joined = Vec::new();
    // Anew, so that the first window runs the flow on the beginning alone.
    piper.seed(1);
    let mut frames = piper.encode(&ids).expect("frames");
    let cuts = [0, 17, 40, 41, n];
    for cut in cuts.windows(2) {
        joined.extend(piper.decode(&mut frames, cut[0]..cut[1]).expect("sound"));
    }
    assert_eq!(joined.len(), whole.len());
    let worst = joined.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "windows differ from the whole by {worst}");
}

/// The chunks of a clause, as they leave for the loudspeaker, against the same clause made in one piece.
#[test]
fn the_seams_of_a_clause_cannot_be_heard() {
    let mut voice = voice();
    let text = "We walked along the river until the sun went down behind the old stone bridge.";
    voice.seed(1);
    let (mut joined, mut seams): (Vec<f32>, _) = (Vec::new(), Vec::new());
    let mut give = |spoken| {
        if let Spoken::Sound { samples, .. } = spoken {
            if !joined.is_empty() {
                seams.push(joined.len()..joined.len());
            }
            joined.extend(samples);
        }
        true
    };
    assert!(voice.speak(text, ClauseEnd::Sentence, &CancelToken::default(), &mut give).expect("speech"));
    assert!(seams.len() >= 2, "{seams:?}");
    // In one piece: the same frames, decoded at once, and levelled by what the voice is levelled by.
    let config = PiperConfig::read(&model(JSON)).expect("the configuration is valid");
    let table = config.table().expect("the table is complete");
    let mut piper = Piper::load(&model(ONNX), config.inference, 1).expect("the voice loads");
    let ids = table.encode(&Phonemizer::new().phonemes(text).expect("phonemes")).ids;
    piper.seed(1);
    let mut frames = piper.encode(&ids).expect("frames");
    let n = frames.len();
    let whole = piper.decode(&mut frames, 0..n).expect("sound");
    // The shaper trims silence at the beginning: the two are aligned by where speech begins.
    let begins = |sound: &[f32]| {
        let peak = sound.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        sound.iter().position(|x| x.abs() > 0.3 * peak).expect("speech")
    };
    let (a, b) = (begins(&joined), begins(&whole));
    let gain = active_rms(&joined, 22_050) / active_rms(&whole, 22_050);
    let aligned: Vec<f32> = (0..joined.len())
        .map(|i| (i + b).checked_sub(a).and_then(|i| whole.get(i)).map_or(0.0, |x| x * gain))
        .collect();
    seams::judge(&joined, &aligned, &seams, 22_050).expect("no seam is heard");
}

#[test]
fn clauses_are_level_trimmed_and_joined_at_zero() {
    let mut voice = voice();
    let mut levels = Vec::new();
    for text in ["Spiders have eight legs.", "He opened the window.", "Thank you very much for your help!"] {
        let sound = voice.synthesize(text, &CancelToken::default()).expect("sound");
        assert!(sound.iter().all(|x| x.abs() <= 0.95));
        assert_eq!((sound[0], sound[sound.len() - 1]), (0.0, 0.0));
        let lead = sound.iter().position(|x| x.abs() > 0.002).expect("sound");
        assert!(lead <= 22_050 * 30 / 1000, "{lead} samples of silence lead");
        let rest = sound.len() - sound.iter().rposition(|x| x.abs() > 0.002).expect("sound");
        assert!((5_500..9_000).contains(&rest), "{rest} samples of pause follow a sentence");
        levels.push(20.0 * active_rms(&sound, 22_050).log10());
    }
    let spread = levels.iter().copied().fold(f32::MIN, f32::max) - levels.iter().copied().fold(f32::MAX, f32::min);
    assert!(spread < 5.0, "levels differ by {spread} dB: {levels:?}");
    assert!(levels.iter().all(|l| (-24.0..-16.0).contains(l)), "{levels:?}");
    assert_eq!(voice.unmapped(), 0);
}

#[test]
fn the_same_seed_gives_the_same_sound() {
    let mut voice = voice();
    let mut say = |seed: u64| {
        voice.seed(seed);
        voice.synthesize("Good morning.", &CancelToken::default()).expect("sound")
    };
    let (first, again, other) = (say(3), say(3), say(4));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn the_first_window_comes_before_the_clause_is_done_and_cancelling_stops_between_windows() {
    let mut voice = voice();
    let cancel = CancelToken::default();
    let text = "We walked along the river until the sun went down behind the old stone bridge.";
    let whole = voice.synthesize(text, &cancel).expect("sound").len();
    let mut given = 0;
    let finished = voice
        .speak(text, ClauseEnd::Sentence, &cancel, &mut |spoken| {
            if let Spoken::Sound { samples, done, .. } = spoken {
                assert!(done < 0.3, "the first window is {done} of the clause");
                given += samples.len();
                cancel.cancel();
            }
            true
        })
        .expect("speech");
    assert!(!finished);
    assert!(given > 0 && given < whole / 3, "{given} of {whole} samples were given");
}

#[test]
fn nothing_to_pronounce_is_silent() {
    let mut voice = voice();
    let finished = voice.speak("🙂 …", ClauseEnd::Text, &CancelToken::default(), &mut |spoken| {
        panic!("said {spoken:?}");
    });
    assert!(finished.expect("no error"));
}
