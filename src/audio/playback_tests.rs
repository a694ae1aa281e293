//! Tests of the output callback: it is driven by hand, so every sample and every time is known beforehand.

use super::*;
use cpal::I24;

const RATE: u32 = 48_000;
/// 20 ms and 5 ms at [`RATE`].
const FADE: usize = 960;
const RAMP: usize = 240;

struct Rig {
    callback: PlaybackCallback,
    end: PlaybackEnd,
    now: Micros,
}

impl Rig {
    fn new() -> Self {
        let (callback, end) = PlaybackCallback::new(RATE, "test");
        Self { callback, end, now: Micros(1_000_000) }
    }

    /// Asks for `frames`, as a mono device would.
    fn play(&mut self, frames: usize) -> Vec<f32> {
        let mut out = vec![9.0f32; frames];
        self.callback.process(&mut out, 1, self.now);
        self.now = self.now + Micros::of_samples(frames as u64, RATE);
        out
    }
}

fn largest_step(samples: &[f32]) -> f32 {
    samples.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn samples_reach_every_channel_of_every_format_unchanged() {
    fn check<T: Sample + FromSample<f32> + PartialEq + std::fmt::Debug>(expected: [T; 4]) {
        for channels in [1, 2, 6] {
            let mut rig = Rig::new();
            rig.end.push(&[0.5, -1.0, 0.0, 2.0]);
            let mut out = vec![T::EQUILIBRIUM; 4 * channels];
            rig.callback.process(&mut out, channels, rig.now);
            let all: Vec<T> = expected.iter().flat_map(|&e| std::iter::repeat_n(e, channels)).collect();
            assert_eq!(out, all, "{channels} channels");
        }
    }
    // The last sample is beyond full scale: it is cut to the greatest value of the format, and never wraps.
    check([0.5f32, -1.0, 0.0, CEILING]);
    check([0.5f64, -1.0, 0.0, f64::from(CEILING)]);
    check([16384i16, -32768, 0, 32767]);
    check([49152u16, 0, 32768, 65535]);
    check([1i32 << 30, i32::MIN, 0, 2_147_483_520]);
    check([
        I24::new_unchecked(4_194_304),
        I24::new_unchecked(-8_388_608),
        I24::new_unchecked(0),
        I24::new_unchecked(8_388_607),
    ]);
    check([192u8, 0, 128, 255]);
    check([64i8, -128, 0, 127]);
}

#[test]
fn a_buffer_that_ends_inside_a_frame_is_filled_to_its_end() {
    let mut rig = Rig::new();
    rig.end.push(&[0.5; 8]);
    let mut out = [9.0f32; 7];
    rig.callback.process(&mut out, 2, rig.now);
    assert_eq!(out, [0.5; 7]);
    rig.callback.process::<f32>(&mut [], 2, rig.now);
    rig.callback.process(&mut out, 0, rig.now);
    assert_eq!(rig.end.control.pulse.beats(), 3);
}

#[test]
fn what_is_not_a_number_is_silence() {
    let mut rig = Rig::new();
    rig.end.push(&[0.25, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.25]);
    assert_eq!(rig.play(5), [0.25, 0.0, 0.0, 0.0, 0.25]);
    assert_eq!(rig.end.control.meter.take(), 0.25);
}

#[test]
fn a_flush_fades_out_in_20_ms_and_leaves_nothing_stale() {
    for period in [64, 480, 960, 4096] {
        let mut rig = Rig::new();
        rig.end.push(&vec![0.8; 20_000]);
        rig.play(period);
        let heard = rig.end.control.played_frames();
        rig.end.control.flush();
        assert!(rig.end.control.flush_pending());
        let mut out = Vec::new();
        while rig.end.control.flush_pending() {
            out.extend(rig.play(period));
        }
        // A straight line of 960 samples, then nothing.
        assert!(out.len() < FADE + period, "acknowledged at once: {} frames", out.len());
        for (i, &s) in out.iter().enumerate() {
            let expected = 0.8 * (1.0 - (i + 1) as f32 / FADE as f32).max(0.0);
            assert!((s - expected).abs() < 1e-5, "period {period}, sample {i}: {s}, expected {expected}");
        }
        let control = rig.end.control.clone();
        assert_eq!((control.queued(), rig.end.queued()), (0, 0));
        assert_eq!(control.played_frames(), heard + FADE as u64);
        assert_eq!(control.discarded_frames(), 20_000 - heard - FADE as u64);
        assert_eq!(rig.end.next_frame(), control.played_frames());
        assert!(rig.play(5000).iter().all(|&s| s == 0.0), "stale sound after the flush");
        // What comes next fades in and is then itself, with nothing of what was before.
        rig.end.push(&[-0.4; 1000]);
        let next = rig.play(1000);
        assert!(next.iter().all(|&s| (-0.4..=0.0).contains(&s)) && largest_step(&next) < 0.01);
        assert!(next[RAMP..].iter().all(|&s| s == -0.4));
    }
}

#[test]
fn a_flush_before_the_first_sample_sounds_lets_none_of_them_sound() {
    let mut rig = Rig::new();
    rig.end.push(&[0.8; 5000]);
    rig.end.control.flush();
    assert!(rig.play(480).iter().all(|&s| s == 0.0));
    assert!(!rig.end.control.flush_pending());
    assert_eq!((rig.end.control.played_frames(), rig.end.control.discarded_frames()), (0, 5000));
}

#[test]
fn a_flush_of_the_last_few_samples_is_no_click() {
    let mut rig = Rig::new();
    rig.end.push(&[0.8; 580]);
    rig.play(480);
    rig.end.control.flush();
    let out = rig.play(960);
    assert!(!rig.end.control.flush_pending());
    assert!(largest_step(&out) < 0.8 / 200.0, "{}", largest_step(&out));
    assert_eq!(out[959], 0.0);
}

#[test]
fn two_flushes_at_once_are_one_and_a_later_one_is_another() {
    let mut rig = Rig::new();
    rig.end.push(&[0.8; 20_000]);
    rig.play(480);
    rig.end.control.flush();
    rig.end.control.flush();
    rig.play(FADE);
    // Both are over: the second came before the first was begun.
    assert!(!rig.end.control.flush_pending());
    rig.end.push(&[0.5; 4000]);
    rig.play(480);
    rig.end.control.flush();
    rig.play(480);
    rig.end.control.flush();
    assert!(rig.end.control.flush_pending());
    rig.play(480);
    rig.play(1);
    assert!(!rig.end.control.flush_pending(), "the second found nothing to fade");
}

#[test]
fn ducking_is_12_db_and_has_no_step() {
    let mut rig = Rig::new();
    rig.end.push(&[1.0 / 2.0; 9600]);
    rig.play(480);
    rig.end.control.set_duck(true);
    let down = rig.play(2400);
    rig.end.control.set_duck(false);
    let up = rig.play(2400);
    let db = 20.0 * (down[FADE] / 0.5).log10();
    assert!((db + 12.0).abs() < 0.01, "{db} dB after 20 ms");
    assert!((up[FADE] - 0.5).abs() < 1e-5);
    assert!(largest_step(&down).max(largest_step(&up)) < 0.5 / 900.0);
}

#[test]
fn volume_is_a_factor_brought_within_0_and_1() {
    let mut rig = Rig::new();
    rig.end.push(&[0.5; 9600]);
    for (asked, heard) in [(0.5, 0.25), (-3.0, 0.0), (7.0, 0.5), (f32::NAN, 0.5)] {
        rig.end.control.set_volume(asked);
        assert!((rig.play(2000)[1999] - heard).abs() < 1e-5, "{asked}");
    }
}

#[test]
fn starvation_is_counted_and_does_not_click() {
    let mut rig = Rig::new();
    let control = rig.end.control.clone();
    control.set_expecting(true);
    rig.end.push(&[0.6; 700]);
    let mut out = rig.play(480);
    out.extend(rig.play(480));
    out.extend(rig.play(480));
    assert_eq!((control.starved_events(), control.starved_samples()), (1, 260 + 480));
    rig.end.push(&[0.6; 1000]);
    out.extend(rig.play(1000));
    assert_eq!(control.starved_events(), 1);
    assert!(largest_step(&out) < 0.6 / (RAMP as f32 - 1.0), "{}", largest_step(&out));
    assert_eq!(out[700 + RAMP], 0.0, "silence after the ramp");
    assert!((out[1440 + RAMP] - 0.6).abs() < 1e-6, "full level after the fade-in");
    out = rig.play(10);
    assert_eq!((control.starved_events(), control.starved_samples()), (2, 750));
    assert!(out[0] < 0.6 && out[0] > 0.5);
}

#[test]
fn what_was_stopped_does_not_starve() {
    let mut rig = Rig::new();
    rig.end.control.set_expecting(true);
    rig.end.push(&[0.6; 4800]);
    rig.play(480);
    rig.end.control.flush();
    (0..5).for_each(|_| drop(rig.play(480)));
    assert!(!rig.end.control.flush_pending());
    assert_eq!(rig.end.control.starved_events(), 0);
}

#[test]
fn the_end_of_what_there_was_is_not_starvation() {
    let mut rig = Rig::new();
    rig.end.push(&[0.6; 100]);
    let out = rig.play(1000);
    assert!(largest_step(&out[..500]) < 0.6 / (RAMP as f32 - 1.0));
    assert_eq!((rig.end.control.starved_events(), rig.end.control.starved_samples()), (0, 0));
    // The next sound is not the rest of this one: it begins at once.
    rig.end.push(&[0.6; 10]);
    assert_eq!(rig.play(10), [0.6; 10]);
}

#[test]
fn every_frame_has_its_time() {
    let mut rig = Rig::new();
    let control = rig.end.control.clone();
    let start = rig.now;
    rig.play(4800);
    assert_eq!(control.time_of_frame(0), None);
    assert_eq!(rig.end.next_frame(), 0);
    rig.end.push(&[0.1; 1000]);
    rig.play(480);
    // 100 ms of silence came before.
    assert_eq!(control.time_of_frame(0), Some(start + std::time::Duration::from_millis(100)));
    assert_eq!(control.time_of_frame(240), Some(start + std::time::Duration::from_millis(105)));
    assert_eq!(control.time_of_frame(480), None, "queued, not handed over");
    rig.play(4800);
    assert_eq!(control.played_frames(), 1000);
    assert_eq!(rig.end.next_frame(), 1000);
    rig.end.push(&[0.1; 48]);
    rig.play(480);
    // 100 + 10 + 100 ms after the start.
    assert_eq!(control.time_of_frame(1000), Some(start + std::time::Duration::from_millis(210)));
    assert_eq!(control.time_of_frame(240), Some(start + std::time::Duration::from_millis(105)), "still remembered");
    assert_eq!(control.device_frames(), Some((10_560, start + std::time::Duration::from_millis(220))));
}

#[test]
fn frame_numbers_go_on_over_a_flush() {
    let mut rig = Rig::new();
    let control = rig.end.control.clone();
    rig.end.push(&[0.5; 40_000]);
    rig.play(480);
    control.flush();
    rig.play(FADE);
    rig.play(480);
    let first = rig.end.next_frame();
    assert_eq!(first, 480 + FADE as u64);
    let at = rig.now;
    rig.end.push(&[0.5; 100]);
    rig.play(480);
    assert_eq!(control.time_of_frame(first), Some(at));
}

#[test]
fn the_tap_has_what_was_played_silence_and_gain_included() {
    let mut rig = Rig::new();
    rig.end.control.set_volume(0.5);
    let mut tap = rig.end.tap.take().unwrap();
    let mut played = rig.play(100);
    rig.end.push(&[0.8; 3000]);
    played.extend(rig.play(777));
    played.extend(rig.play(3000));
    let mut tapped = Vec::new();
    assert_eq!(tap.read(&mut tapped), 3877);
    assert_eq!(tapped, played);
    assert_eq!((tap.read_total(), tap.lost()), (3877, 0));
}
