//! The joints of streamed sound, against the same frames decoded in one piece.

#[path = "../../../../tests/common/seams.rs"]
mod seams;

use super::super::probe::NoProbe;
use super::super::vocoder::{SoundStream, Vocoder};
use super::tiny;
use crate::audio::Joiner;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;

/// Frames of codes, made by a walk that dwells on some codes, as speech does.
fn frames(n: usize, codebooks: usize, codes: u32) -> Vec<Vec<u32>> {
    let mut rng = StdRng::seed_from_u64(11);
    let mut now: Vec<u32> = (0..codebooks).map(|_| rng.random_range(0..codes - 1)).collect();
    let step = |_| {
        let book = rng.random_range(0..codebooks);
        now[book] = rng.random_range(0..codes - 1);
        now.clone()
    };
    (0..n).map(step).collect()
}

/// Streams the frames in chunks of these sizes: the joined sound, and where its joints are.
fn stream(vocoder: &mut Vocoder, frames: &[Vec<u32>], sizes: &[usize]) -> (Vec<f32>, Vec<Range<usize>>) {
    let (mut stream, mut joiner) = (SoundStream::new(), Joiner::new(super::super::vocoder::FADE));
    let (mut joined, mut joints, mut made) = (Vec::new(), Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    let mut left = *sizes.next().unwrap();
    for (i, frame) in frames.iter().enumerate() {
        stream.push(frame.clone());
        left -= 1;
        let last = i + 1 == frames.len();
        if left == 0 || last {
            left = *sizes.next().unwrap();
            let (sound, overlap) = stream.flush(vocoder, last, &mut NoProbe).unwrap();
            if made > 0 && !sound.is_empty() {
                joints.push(made - overlap..made);
            }
            made += sound.len() - overlap;
            joiner.push(&sound, overlap, &mut joined);
        }
    }
    joiner.finish(&mut joined);
    (joined, joints)
}

#[test]
fn the_joints_of_a_stream_cannot_be_heard() {
    let mut omni = tiny();
    let frames = frames(160, omni.config.tts.codebooks, omni.config.tts.audio_codes as u32);
    let vocoder = &mut omni.mouth.vocoder;
    let (_, whole) = vocoder.decode(&frames, &mut NoProbe).unwrap();
    for sizes in [&[16, 25][..], &[10], &[5, 7, 40]] {
        let (joined, joints) = stream(vocoder, &frames, sizes);
        assert_eq!(joined.len(), whole.len());
        assert!(joints.len() > 2, "{joints:?}");
        seams::judge(&joined, &whole, &joints, 24_000).unwrap();
    }
}

/// The measure is worth something only if it can fail: chunks that are simply put side by side are found out.
#[test]
fn a_joint_that_does_not_fit_is_found() {
    let turn = std::f32::consts::TAU * 300.0 / 24_000.0;
    let whole: Vec<f32> = (0..24_000).map(|i| 0.4 * (turn * i as f32).sin()).collect();
    seams::judge(&whole, &whole, std::slice::from_ref(&(12_000..12_000)), 24_000).unwrap();
    let mut torn = whole.clone();
    torn[12_000..].iter_mut().for_each(|x| *x = -*x);
    // A crest on one side, a trough on the other.
    torn.drain(12_000..12_020);
    torn.extend([0.0; 20]);
    assert!(seams::judge(&torn, &whole, std::slice::from_ref(&(12_000..12_000)), 24_000).is_err());
    // A knee: no step, but a burst of high frequencies.
    let mut bent = whole.clone();
    bent[12_000] += 0.01;
    assert!(seams::judge(&bent, &whole, std::slice::from_ref(&(12_000..12_000)), 24_000).is_err());
}
