//! The canceller on spoken fixtures in a simulated room, and the far end's clock.

use super::*;
use crate::audio::{Room, VirtualCard};
use crate::dsp::level;

fn fixture(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut reader = hound::WavReader::open(path).unwrap();
    reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect()
}

/// Runs the canceller over both sides, in frames of 16 ms.
fn cancelled(far: &[f32], near: &[f32]) -> Vec<f32> {
    let mut canceller = EchoCanceller::default();
    let mut out = near.to_vec();
    for (far, near) in far.chunks_exact(256).zip(out.chunks_exact_mut(256)) {
        canceller.process(far, near, false);
    }
    out
}

fn echo_of(far: &[f32], room: &Room) -> Vec<f32> {
    let at = |i: usize| room.taps.iter().filter_map(|&(delay, gain)| i.checked_sub(delay).map(|j| gain * far[j])).sum();
    (0..far.len()).map(at).collect()
}

#[test]
fn the_echo_of_speech_is_removed_from_the_first_second_on() {
    let far = ["capital", "fruit", "sky", "capital"].map(fixture).concat();
    for db in [-6.0, -12.0, -20.0] {
        let mut room = Room::echo(db, 60, RATE);
        room.taps.extend((1..20).map(|k| {
            let gain = 0.25 * (-0.3 * k as f32).exp() * if k % 3 == 0 { -1.0 } else { 1.0 };
            (960 + 97 * k, gain * level::from_db(db))
        }));
        let echo = echo_of(&far, &room);
        let clean = cancelled(&far, &echo);
        let second = RATE as usize;
        let enhancement: Vec<f32> = echo
            .chunks_exact(second)
            .zip(clean.chunks_exact(second))
            .map(|(echo, clean)| level::rms_db(echo) - level::rms_db(clean))
            .collect();
        println!("echo at {db} dB: return loss enhancement per second, dB: {enhancement:.0?}");
        // Seen: 29 dB and more. The rest is margin.
        assert!(enhancement.iter().all(|&erle| erle > 20.0), "echo at {db} dB: {enhancement:?}");
    }
}

#[test]
fn what_is_said_meanwhile_stays() {
    let far = ["capital", "fruit", "sky"].map(fixture).concat();
    let echo = echo_of(&far, &Room::echo(-12.0, 60, RATE));
    let (said, at) = (fixture("joke"), 40_000);
    let mut near = echo.clone();
    near.iter_mut().skip(at).zip(&said).for_each(|(near, said)| *near += said);
    let clean = cancelled(&far, &near);
    let heard = level::rms_db(&clean[at..at + said.len()]);
    assert!(heard > level::rms_db(&said) - 6.0, "{heard} dB of {} dB are left", level::rms_db(&said));
}

#[test]
fn without_an_answer_every_sample_passes_as_it_came() {
    let said = fixture("joke");
    let said = &said[..said.len() / 256 * 256];
    let silence = vec![0.0; said.len()];
    let out = cancelled(&silence, said);
    assert_eq!(out[EchoCanceller::DELAY..], said[..said.len() - EchoCanceller::DELAY]);
}

#[test]
fn what_is_to_be_left_as_it_came_is_and_the_echo_is_learned_all_the_same() {
    let far = ["capital", "fruit", "sky"].map(fixture).concat();
    let echo = echo_of(&far, &Room::echo(-12.0, 60, RATE));
    let (mut canceller, mut out, frames) = (EchoCanceller::default(), echo.clone(), echo.len() / 256);
    let mut explained = Vec::new();
    for (i, (far, near)) in far.chunks_exact(256).zip(out.chunks_exact_mut(256)).enumerate() {
        explained.push(canceller.process(far, near, i < frames / 2).explained_db);
    }
    let (half, delay) = (frames / 2 * 256, EchoCanceller::DELAY);
    assert_eq!(out[delay..half], echo[..half - delay]);
    let second = half + 1024..half + 1024 + RATE as usize;
    let less = level::rms_db(&echo[second.clone()]) - level::rms_db(&out[second]);
    assert!(less > 20.0, "from the first frame that it may, it takes {less} dB away");
    // A filter explains an echo, and it does not explain somebody else.
    let most = |explained: &[f32]| explained.iter().copied().fold(f32::MIN, f32::max);
    assert!(most(&explained) > 15.0, "{} dB", most(&explained));
    let (mut canceller, mut said) = (EchoCanceller::default(), fixture("joke"));
    let process = |(far, near): (&[f32], &mut [f32])| canceller.process(far, near, false).explained_db;
    let explained: Vec<f32> = far.chunks_exact(256).zip(said.chunks_exact_mut(256)).map(process).collect();
    assert!(most(&explained) < 6.0, "{} dB", most(&explained));
}

#[test]
fn beginning_and_ending_to_cancel_leaves_no_seam() {
    // A short sound of the loudspeaker without any echo, as from a headphone, while somebody speaks.
    let said = ["joke", "sky", "joke", "sky"].map(fixture).concat();
    let said = &said[..said.len() / 256 * 256];
    let mut far = vec![0.0; said.len()];
    far[30_000..30_400].fill(1e-4);
    let out = cancelled(&far, said);
    let delay = EchoCanceller::DELAY;
    let wrong: Vec<f32> = out[delay..].iter().zip(said).map(|(out, said)| out - said).collect();
    let worst = level::rms_db(&wrong[29_000..60_000]) - level::rms_db(&said[29_000..60_000]);
    assert!(worst < -25.0, "the difference is {worst} dB below the speech");
    assert_eq!(out[60_000..], said[60_000 - delay..said.len() - delay]);
}

#[test]
fn the_far_end_is_what_sounded_at_that_time() {
    for rate in [16_000, 44_100, 48_000] {
        let (mut card, mut world) = VirtualCard::simulated(rate, Micros(5_000_000));
        let mut playback = card.playback.take().unwrap();
        let mut far = FarEnd::of(&mut playback).unwrap().unwrap();
        assert!(FarEnd::of(&mut playback).unwrap().is_none(), "there is one tap");
        // A tone that sets in 200 ms after the card's beginning.
        let tone = (0..rate).map(|i| 0.5 * (std::f32::consts::TAU * 440.0 * i as f32 / rate as f32).sin());
        let mut samples = vec![0.0; rate as usize / 5];
        samples.extend(tone);
        playback.push(&samples);
        let mut heard = Vec::new();
        let step = rate as usize / 100;
        for _ in 0..100 {
            world.step(step);
            let newest = world.now();
            let mut frame = vec![0.0; 160];
            // The newest 5 ms have not come out of the tap's filter yet.
            far.sounded(newest - Duration::from_millis(10), newest, &mut frame);
            heard.extend(frame);
        }
        let onset = heard.iter().position(|x| x.abs() > 0.05).unwrap();
        // It began 200 ms after the card, which is 210 ms after what was asked for first.
        let ms = onset as f32 / 16.0;
        assert!((ms - 210.0).abs() < 3.0, "at {rate} Hz the tone was heard after {ms} ms");
    }
}

#[test]
fn a_tap_that_nobody_read_is_taken_up_where_the_loudspeaker_is() {
    let (mut card, mut world) = VirtualCard::simulated(16_000, Micros(0));
    let mut playback = card.playback.take().unwrap();
    let mut far = FarEnd::of(&mut playback).unwrap().unwrap();
    // Three seconds pass unread, of which the tap holds two.
    for _ in 0..300 {
        playback.push(&[0.1; 160]);
        world.step(160);
    }
    let mut frame = [0.0; 160];
    far.sounded(world.now(), world.now(), &mut frame);
    for _ in 0..20 {
        playback.push(&[0.2; 160]);
        world.step(160);
        far.sounded(world.now(), world.now(), &mut frame);
    }
    assert!(frame.iter().all(|x| (x - 0.2).abs() < 1e-3), "{frame:?}");
}
