//! Every sample rate, channel count and sample format that a device may have, from the device's buffer to the ear and from
//! the engine's sound to the device's buffer: a tone keeps its level and its pitch. And two clocks that drift apart for an
//! hour.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use antiphon::audio::capture::CaptureCallback;
use antiphon::audio::playback::PlaybackCallback;
use antiphon::dsp::resample::Resampler;
use antiphon::time::Micros;
use cpal::{FromSample, I24, Sample};
use std::f64::consts::TAU;

const RATES: [u32; 6] = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000];
const CHANNELS: [usize; 3] = [1, 2, 6];
const HZ: f64 = 1_000.0;
const LEVEL: f64 = 0.5;
/// By how much the level may be off, in decibels. Eight bits are few: their steps fall on the same places of the tone
/// again and again.
const OFF_DB: f64 = 0.1;
const OFF_8_BIT_DB: f64 = 0.2;

fn tone(rate: u32, seconds: f64) -> Vec<f32> {
    let n = (seconds * f64::from(rate)) as usize;
    (0..n).map(|i| (LEVEL * (TAU * HZ * i as f64 / f64::from(rate)).sin()) as f32).collect()
}

/// Level and pitch of the middle of a tone, whose beginning and end are left out: the amplitude of the frequency itself,
/// and how far its phase turns away from the beginning to the end, as a frequency.
fn measure(sound: &[f32], rate: u32) -> (f64, f64) {
    let edge = rate as usize / 20;
    let middle = &sound[edge..sound.len() - edge];
    // A whole number of periods of 1 kHz at all of the rates: a multiple of 441 / 4.41 and so on is any whole 20 ms.
    let half = middle.len() / 2 / (rate as usize / 50) * (rate as usize / 50);
    let bin = |part: &[f32], from: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for (i, x) in part.iter().enumerate() {
            let (sin, cos) = (TAU * HZ * (from + i) as f64 / f64::from(rate)).sin_cos();
            re += f64::from(*x) * cos;
            im -= f64::from(*x) * sin;
        }
        (2.0 * re.hypot(im) / part.len() as f64, im.atan2(re))
    };
    let (first, second) = (bin(&middle[..half], 0), bin(&middle[half..2 * half], half));
    let turned = (second.1 - first.1 + TAU * 1.5).rem_euclid(TAU) - TAU / 2.0;
    ((first.0 + second.0) / 2.0, HZ + turned / TAU / (half as f64 / f64::from(rate)))
}

fn check<T>(sound: &[f32], rate: u32, what: &str) {
    let (level, pitch) = measure(sound, rate);
    let off = 20.0 * (level / LEVEL).log10();
    let allowed = if size_of::<T>() == 1 { OFF_8_BIT_DB } else { OFF_DB };
    assert!(off.abs() < allowed, "{what}: {off} dB off");
    assert!((pitch - HZ).abs() < 0.05, "{what}: {pitch} Hz");
}

/// From a device to the ear.
fn captured<T>(rate: u32, channels: usize)
where
    T: Sample + FromSample<f32>,
    f32: FromSample<T>,
{
    let (mut callback, mut end) = CaptureCallback::new(rate, "test");
    let frames: Vec<T> =
        tone(rate, 1.0).iter().flat_map(|&x| std::iter::repeat_n(T::from_sample(x), channels)).collect();
    let mut resampler = Resampler::new(end.rate, 16_000).unwrap();
    let (mut raw, mut heard) = (Vec::new(), Vec::new());
    for (i, buffer) in frames.chunks(channels * (rate as usize / 100)).enumerate() {
        callback.process(buffer, channels, Micros(i as u64 * 10_000));
        raw.clear();
        end.read(&mut raw);
        resampler.process(&raw, &mut heard);
    }
    resampler.flush(&mut heard);
    assert_eq!(heard.len(), 16_000);
    check::<T>(&heard, 16_000, &format!("{rate} Hz, {channels} channels of {} in", std::any::type_name::<T>()));
}

/// From the engine to a device.
fn played<T>(rate: u32, channels: usize)
where
    T: Sample + FromSample<f32>,
    f32: FromSample<T>,
{
    let (mut callback, mut end) = PlaybackCallback::new(rate, "test");
    let mut resampler = Resampler::new(24_000, rate).unwrap();
    let mut sound = Vec::new();
    resampler.process(&tone(24_000, 1.0), &mut sound);
    resampler.flush(&mut sound);
    assert_eq!(end.push(&sound), sound.len());
    let mut buffer = vec![T::EQUILIBRIUM; channels * (rate as usize / 100)];
    let mut out = Vec::new();
    for i in 0..100 {
        callback.process(&mut buffer, channels, Micros(i * 10_000));
        for frame in buffer.chunks(channels) {
            let sample = f32::from_sample(frame[0]);
            assert!(frame.iter().all(|s| f32::from_sample(*s) == sample), "every channel has the same");
            out.push(sample);
        }
    }
    check::<T>(&out, rate, &format!("{rate} Hz, {channels} channels of {} out", std::any::type_name::<T>()));
}

#[test]
fn a_tone_keeps_its_level_and_pitch_on_every_device() {
    for rate in RATES {
        for channels in CHANNELS {
            captured::<f32>(rate, channels);
            captured::<i16>(rate, channels);
            captured::<u8>(rate, channels);
            played::<f32>(rate, channels);
            played::<i16>(rate, channels);
            played::<u8>(rate, channels);
        }
        captured::<u16>(rate, 2);
        captured::<i32>(rate, 2);
        captured::<I24>(rate, 2);
        captured::<i8>(rate, 2);
        captured::<f64>(rate, 2);
        played::<u16>(rate, 2);
        played::<i32>(rate, 2);
        played::<I24>(rate, 2);
        played::<i8>(rate, 2);
        played::<f64>(rate, 2);
    }
}

/// An hour, with a microphone whose clock is 200 millionths fast and a loudspeaker whose clock is as slow, and the other way
/// round: nothing is lost or gained on either way, nothing piles up, and every sample keeps its time.
#[test]
fn clocks_that_drift_apart_for_an_hour_lose_and_gain_nothing() {
    const RATE: u32 = 16_000;
    const PERIOD: usize = 160;
    for ppm in [200i64, -200] {
        let (mut input, mut ear) = CaptureCallback::new(RATE, "test");
        let (mut output, mut mouth) = PlaybackCallback::new(RATE, "test");
        let control = mouth.control.clone();
        control.set_expecting(true);
        // Microseconds of true time that 160 samples take.
        let period = |ppm: i64| 10_000.0 * 1e6 / (1e6 + ppm as f64);
        let (mic_period, speaker_period) = (period(ppm), period(-ppm));
        let (mut next_in, mut next_out) = (mic_period, 0.0);
        let (mut said, mut heard, mut read) = (0u64, 0u64, Vec::new());
        let (mut pushed, mut played) = (0u64, 0u64);
        let mut worst_queue = 0;
        let saw = |n: u64| ((n % 251) as f32 - 125.0) / 250.0;
        let mut buffer = [0.0f32; PERIOD];
        while next_in < 3_600e6 {
            if next_in < next_out {
                buffer.iter_mut().enumerate().for_each(|(i, x)| *x = saw(said + i as u64));
                said += PERIOD as u64;
                input.process(&buffer, 1, Micros(next_in as u64));
                next_in += mic_period;
                read.clear();
                ear.read(&mut read);
                assert!(read.iter().enumerate().all(|(i, x)| *x == saw(heard + i as u64)), "lost after {heard}");
                heard += read.len() as u64;
                let told = ear.time_of_newest_read().unwrap().0 as f64;
                assert!((told - (next_in - mic_period)).abs() < 2.0);
            } else {
                // The mouth keeps 100 ms in the ring, whatever the clocks do.
                while mouth.queued() < RATE as usize / 10 {
                    let block: Vec<f32> = (0..PERIOD as u64).map(|i| saw(pushed + i)).collect();
                    pushed += mouth.push(&block) as u64;
                }
                worst_queue = worst_queue.max(mouth.queued());
                output.process(&mut buffer, 1, Micros(next_out as u64));
                assert!(buffer.iter().enumerate().all(|(i, x)| *x == saw(played + i as u64)), "torn after {played}");
                played += PERIOD as u64;
                let told = control.time_of_frame(played - 1).unwrap().0 as f64;
                let true_time = next_out + speaker_period * (PERIOD - 1) as f64 / PERIOD as f64;
                assert!((told - true_time).abs() < 5.0, "{told} {true_time}");
                next_out += speaker_period;
            }
        }
        assert_eq!((heard, ear.shared.lost(), control.starved_events()), (said, 0, 0));
        assert!(worst_queue < RATE as usize / 5, "{worst_queue} samples piled up");
        // 200 millionths of an hour are 0.72 s to either side.
        let apart = (said as f64 - played as f64) / f64::from(RATE);
        assert!((apart.abs() - 1.44).abs() < 0.05, "{apart} s apart");
    }
}
