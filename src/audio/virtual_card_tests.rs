//! Tests of the virtual card, from one end to the other: what is said is captured, what is pushed is recorded.

use super::*;

fn ramp(n: usize, from: usize) -> Vec<f32> {
    (from..from + n).map(|i| (i % 1000) as f32 / 1000.0 - 0.5).collect()
}

#[test]
fn a_simulated_card_is_exact_to_the_sample() {
    let start = Micros(5_000_000);
    let (mut card, mut sim) = VirtualCard::simulated(48_000, start);
    let (mut ear, mut mouth) = (card.capture.take().unwrap(), card.playback.take().unwrap());
    let (speech, answer) = (ramp(10_000, 0), ramp(7_000, 333));
    sim.step(4800);
    sim.say(&speech);
    let mut heard = Vec::new();
    while !sim.said() {
        sim.step(480);
        ear.read(&mut heard);
    }
    // 100 ms of silence, then the speech, to the end of the stretch in which it ended.
    assert_eq!(heard.len(), 4800 + 10_080);
    assert!(heard[..4800].iter().all(|&s| s == 0.0));
    assert_eq!(heard[4800..14_800], speech);
    assert_eq!(ear.shared.time_of(4800), Some(start + Duration::from_millis(100)));
    assert_eq!(ear.time_of_newest_read(), Some(sim.now()));
    assert_eq!(mouth.push(&answer), 7000);
    let asked_at = sim.now();
    for _ in 0..20 {
        sim.step(480);
    }
    assert_eq!(mouth.control.time_of_frame(0), Some(asked_at));
    let last = asked_at + Micros::of_samples(6999, 48_000);
    let told = mouth.control.time_of_frame(6999).unwrap();
    assert!(told.0.abs_diff(last.0) <= 2, "{told:?} {last:?}");
    let recording = sim.into_recording();
    assert_eq!((recording.rate, recording.start), (48_000, start));
    assert_eq!(recording.user.len(), recording.assistant.len());
    assert_eq!(recording.user[4800..14_800], speech);
    assert_eq!(recording.assistant[14_880..21_880], answer);
}

#[test]
fn a_running_card_hears_and_plays_everything_at_the_time_it_says() {
    // A rate that 10 ms do not divide.
    let rate = 22_050;
    let (mut card, handle) = VirtualCard::start(rate).unwrap();
    let (mut ear, mut mouth) = (card.capture.take().unwrap(), card.playback.take().unwrap());
    assert_eq!(handle.say_end(), None);
    let (speech, answer) = (ramp(3000, 1), ramp(3000, 500));
    handle.say(speech.clone());
    let mut heard = Vec::new();
    while !handle.said() || heard.iter().filter(|&&s| s != 0.0).count() < 2990 {
        ear.read(&mut heard);
        std::thread::yield_now();
    }
    mouth.push(&answer);
    while mouth.control.played_frames() < 3000 {
        std::thread::yield_now();
    }
    let (say_end, answer_at) = (handle.say_end().unwrap(), mouth.control.time_of_frame(0).unwrap());
    assert!(card.health(Micros::now()).is_well());
    // The stretch with the answer's end in it is begun; it belongs to the recording once it has ended.
    let last = mouth.control.time_of_frame(2999).unwrap();
    while ear.shared.newest().is_none_or(|(_, until)| until <= last) {
        std::thread::yield_now();
    }
    let recording = handle.stop();
    let find = |side: &[f32], what: &[f32]| side.windows(what.len()).position(|w| w == what).unwrap();
    let said_from = find(&recording.user, &speech);
    let answered_from = find(&recording.assistant, &answer);
    let time = |sample: usize| recording.start + Micros::of_samples(sample as u64, rate);
    assert!(say_end.0.abs_diff(time(said_from + 3000).0) <= 2);
    assert!(answer_at.0.abs_diff(time(answered_from).0) <= 2);
    assert!(say_end < answer_at);
}

#[test]
fn an_unplugged_card_is_lost() {
    let (mut card, handle) = VirtualCard::start(48_000).unwrap();
    handle.unplug();
    while card.health(Micros::now()).is_well() {
        std::thread::yield_now();
    }
    let health = card.health(Micros::now());
    assert_eq!((health.input, health.output), (Some(super::super::Trouble::Lost), Some(super::super::Trouble::Lost)));
    handle.stop();
}
