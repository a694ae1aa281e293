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
use antiphon::engine::cascade::piper::{Frames, Piper, PiperConfig};
use antiphon::engine::cascade::shaper::active_rms;
use antiphon::engine::cascade::tts::{Spoken, Voice, VoiceOptions};
use rten_onnx::onnx::{ModelProto, NodeProto};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::path::{Path, PathBuf};

/// A file of the voice.
fn model(file: &str) -> PathBuf {
    models::folder("piper-joe").join(file)
}

const ONNX: &str = "en_US-joe-medium.onnx";
const JSON: &str = "en_US-joe-medium.onnx.json";

fn voice() -> Voice {
    Voice::load(&model(ONNX), &model(JSON), VoiceOptions { threads: 1 }).expect("the voice loads")
}

/// The network, and a sentence as frames; `onnx` is the voice or an altered copy.
fn sentence(onnx: &Path, text: &str) -> (Piper, Frames) {
    let config = PiperConfig::read(&model(JSON)).expect("the configuration is valid");
    let table = config.table().expect("the table is complete");
    let mut piper = Piper::load(onnx, config.inference, 1).expect("the voice loads");
    let ids = table.encode(&Phonemizer::new().phonemes(text).expect("phonemes")).ids;
    piper.seed(1);
    let frames = piper.encode(&ids).expect("frames");
    assert_eq!(frames.len(), frames.durations.iter().sum::<usize>());
    (piper, frames)
}

/// What the graph itself makes of a sentence's draft, run by rten from the draft to the sound.
fn by_graph(onnx: &Path, frames: &Frames) -> Vec<f32> {
    let graph = rten::Model::load_file(onnx).unwrap();
    let node = |name| graph.node_id(name).unwrap();
    let n = frames.len();
    let draft = NdTensor::from_data([1, frames.draft().len() / n, n], frames.draft().to_vec());
    let mask = NdTensor::<f32, 3>::full([1, 1, n], 1.0);
    let inputs = vec![(node("/Add_output_0"), draft.into()), (node("/Cast_2_output_0"), mask.into())];
    let [sound] = graph.run_n(inputs, [node("output")], None).unwrap();
    NdTensor::<f32, 4>::try_from(sound).unwrap().to_vec()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, f32::max)
}

/// Frames are 256 samples in this voice: its decoder has strides of 8, 8 and 4.
#[test]
fn kernels_give_the_sound_of_the_graph_in_any_pieces() {
    let (piper, mut frames) = sentence(&model(ONNX), "The river runs past the old stone bridge to the sea.");
    assert!(piper.is_quick(), "the voice is built as Piper's are");
    let expected = by_graph(&model(ONNX), &frames);
    let whole = piper.sound(&mut frames, 1000).expect("sound");
    assert!(frames.is_sounded());
    assert_eq!((whole.len(), expected.len()), (frames.len() * 256, frames.len() * 256));
    assert!(active_rms(&whole, 22_050) > 0.01, "there is speech in it");
    // Ninety convolutions one after the other, each summing up to two thousand products in another order: the 24 bits of a
    // number lose some eight in such a chain, where its numbers are largest. 1e-3 of the peak would be 60 dB below it.
    let (worst, peak) = (largest(whole.iter().zip(&expected).map(|(a, b)| a - b)), largest(expected.iter().copied()));
    println!("the largest difference is {worst:e} of {peak}");
    assert!(worst < 1e-4 * peak, "off by {worst} of {peak}");

    let (piper, mut frames) = sentence(&model(ONNX), "The river runs past the old stone bridge to the sea.");
    let (mut joined, mut turn) = (Vec::new(), 0);
    while !frames.is_sounded() {
        let next = [17, 1, 40, 23][turn % 4];
        let sound = piper.sound(&mut frames, next).expect("sound");
        assert!(frames.is_sounded() || sound.len() >= next * 256, "{} samples of {next} frames", sound.len());
        joined.extend(sound);
        turn += 1;
    }
    assert!(turn > 3);
    assert_eq!(joined, whole, "pieces differ from the whole");
}

/// A voice's phonemes last for the least whole number of frames that holds their time (VITS, `models.py`: `ceil(w *
/// length_scale)`), and of half a time that is the half of it, rounded up, whichever is rounded first.
#[test]
fn at_twice_the_speed_every_phoneme_lasts_half_as_long() {
    let config = PiperConfig::read(&model(JSON)).unwrap();
    let ids = config.table().unwrap().encode(&Phonemizer::new().phonemes("The river runs to the sea.").unwrap()).ids;
    let mut piper = Piper::load(&model(ONNX), config.inference, 1).expect("the voice loads");
    let mut at = |speed| {
        piper.set_speed(speed);
        piper.seed(1);
        piper.encode(&ids).expect("frames")
    };
    let (mut quick, plain, slow) = (at(2.0), at(1.0), at(0.5));
    let halved = |durations: &[usize]| durations.iter().map(|d| d.div_ceil(2)).collect::<Vec<_>>();
    assert!(plain.len() > 100 && plain.len() < slow.len());
    assert_eq!(quick.durations, halved(&plain.durations));
    assert_eq!(plain.durations, halved(&slow.durations));
    // And the kernels sound what the graph sounds of it.
    let expected = by_graph(&model(ONNX), &quick);
    let sound = piper.sound(&mut quick, 1000).expect("sound");
    let (worst, peak) = (largest(sound.iter().zip(&expected).map(|(a, b)| a - b)), largest(expected.iter().copied()));
    assert!(sound.len() == expected.len() && worst < 1e-4 * peak, "off by {worst} of {peak}");
}

/// Voices that are built in another way, told by their structure or by their numbers, are left to rten.
#[test]
fn another_kind_of_voice_still_speaks() {
    let read = || ModelProto::parse_file(std::fs::File::open(model(ONNX)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    type Which = fn(&NodeProto) -> bool;
    let sigmoids: Which = |node| node.op_type.as_deref() == Some("Sigmoid");
    let ends: Which = |node| node.name.as_deref() == Some("/dec/Tanh");
    let kinds = [(ends, "Sigmoid"), (sigmoids, "Tanh")];
    for (i, (changed, kind)) in kinds.into_iter().enumerate() {
        let mut altered = read();
        let nodes = altered.graph.as_mut().unwrap().node.iter_mut().filter(|node| changed(node));
        assert!(nodes.map(|node| node.op_type = Some(kind.into())).count() > 0);
        let path = folder.path().join(format!("{i}.onnx"));
        altered.write_file(std::fs::File::create(&path).unwrap()).unwrap();
        let (piper, mut frames) = sentence(&path, "Hello.");
        assert!(!piper.is_quick());
        let sound = piper.sound(&mut frames, 5).expect("sound");
        assert!(frames.is_sounded());
        assert_eq!(sound, by_graph(&path, &frames));
        std::fs::remove_file(path).unwrap();
    }
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
    let (piper, mut frames) = sentence(&model(ONNX), text);
    let whole = piper.sound(&mut frames, 1000).expect("sound");
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
