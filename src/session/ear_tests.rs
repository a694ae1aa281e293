//! The ear on a simulated card: its clock moves by hand, so that nothing depends on the machine.

use super::*;
use crate::audio::{PlaybackEnd, Room, SimulatedCard, VirtualCard};
use crate::dsp::resample::convert;
use crate::session::judge::EndOfTurnJudge;
use crate::session::utterance::Utterance;
use crate::turn::TurnError;
use crate::turn::backchannel::{BackChannel, Verdict};
use std::sync::mpsc::{self, Sender};

const RATE: u32 = 48_000;
/// 10 ms.
const STEP: usize = RATE as usize / 100;

fn fixture(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
    convert(&samples, 16_000, RATE).unwrap()
}

/// A card in a room, what the loudspeaker still has to play, and what the ear told.
struct World {
    card: SimulatedCard,
    playback: PlaybackEnd,
    answer: VecDeque<f32>,
    inbox: Receiver<Inbox>,
    steps: usize,
    /// What was told, and at which step (of 10 ms).
    told: Vec<(usize, EarEvent)>,
}

impl World {
    fn step(&mut self, ear: &mut Ear<'_>, steps: usize) {
        for _ in 0..steps {
            let next: Vec<f32> = self.answer.drain(..STEP.min(self.answer.len())).collect();
            self.playback.push(&next);
            self.card.step(STEP);
            self.steps += 1;
            ear.listen();
            while let Ok(Inbox::Ear(event)) = self.inbox.try_recv() {
                self.told.push((self.steps, event));
            }
        }
    }

    fn onsets(&self) -> Vec<usize> {
        self.told.iter().filter(|(_, e)| matches!(e, EarEvent::Onset)).map(|(at, _)| *at).collect()
    }

    fn ends(&self) -> Vec<usize> {
        self.told.iter().filter(|(_, e)| matches!(e, EarEvent::EndOfTurn { .. })).map(|(at, _)| *at).collect()
    }

    /// Everything that was heard.
    fn heard(&self) -> Vec<f32> {
        let frames = self
            .told
            .iter()
            .filter_map(|(_, e)| if let EarEvent::Frame { samples, .. } = e { Some(samples) } else { None });
        frames.flatten().copied().collect()
    }
}

fn with_ear(judge: Judge, room: Room, test: impl FnOnce(&mut Ear<'_>, &mut World)) {
    let (inbox_in, inbox) = mpsc::sync_channel(100_000);
    let (mut card, mut simulated) = VirtualCard::simulated(RATE, Micros(1_000_000));
    simulated.enter(room);
    let (capture, mut playback) = (card.capture.take(), card.playback.take().unwrap());
    let far = FarEnd::of(&mut playback).unwrap();
    let mut ear = Ear::new(&inbox_in, judge, Eagerness::Balanced);
    ear.take(EarJob::Card(capture));
    ear.take(EarJob::Far(far));
    let answer = VecDeque::new();
    test(&mut ear, &mut World { card: simulated, playback, answer, inbox, steps: 0, told: Vec::new() });
}

fn nobody() -> Judge {
    Judge::start(Box::new(|| None)).unwrap()
}

/// A small room: the direct way after 60 ms, and its walls; all together `db` below the loudspeaker.
fn room(db: f32) -> Room {
    let mut room = Room::echo(db, 60, RATE);
    room.taps.extend((1..20).map(|k| {
        let gain = 0.25 * (-0.3 * k as f32).exp() * if k % 3 == 0 { -1.0 } else { 1.0 };
        (2880 + 290 * k, gain * level::from_db(db))
    }));
    room
}

fn answer() -> VecDeque<f32> {
    ["capital", "fruit", "sky", "capital"].map(fixture).concat().into()
}

#[test]
fn the_assistant_does_not_hear_itself_and_hears_somebody_else() {
    for db in [-6.0, -12.0, -20.0] {
        with_ear(nobody(), room(db), |ear, world| {
            world.answer = answer();
            world.step(ear, 900);
            assert!(world.onsets().is_empty(), "echo at {db} dB");
        });
        // The same, with somebody speaking from the fifth second of the answer, and from its first.
        for at in [90, 500] {
            let mut found = Vec::new();
            for room in [Room::default(), room(db)] {
                with_ear(nobody(), room, |ear, world| {
                    world.answer = answer();
                    world.step(ear, at);
                    world.card.say(&fixture("joke"));
                    world.step(ear, 300);
                    found.push(world.onsets().first().map(|onset| (onset - at) * 10));
                });
            }
            println!(
                "echo at {db} dB, {} ms into the answer: onset after {found:?} ms, without and with echo",
                at * 10
            );
            let (quiet, loud) = (found[0].unwrap(), found[1].expect("an interruption is heard through the echo"));
            assert!(loud <= quiet + 250, "echo at {db} dB: heard {loud} ms after it began, without echo {quiet} ms");
        }
    }
}

#[test]
fn a_short_word_is_heard_through_the_echo() {
    for db in [-6.0, -12.0, -20.0] {
        with_ear(nobody(), room(db), |ear, world| {
            world.answer = answer();
            world.step(ear, 400);
            world.card.say(&fixture("stop"));
            world.step(ear, 150);
            assert_eq!(world.onsets().len(), 1, "echo at {db} dB");
        });
    }
}

/// What becomes of a word said so many steps after the answer began.
fn verdict(db: f32, word: &str, at: usize) -> Verdict {
    let mut verdict = Verdict::Wait;
    with_ear(nobody(), room(db), |ear, world| {
        world.answer = answer();
        world.step(ear, at);
        world.card.say(&fixture(word));
        world.step(ear, 200);
        let mut utterance = Utterance::default();
        let mut doubt = None;
        for (_, event) in &world.told {
            match event {
                EarEvent::Frame { samples, end, speech, torn } => {
                    utterance.hear(samples, *end, *speech);
                    if let (Some(doubt), Verdict::Wait) = (&mut doubt, verdict) {
                        verdict = BackChannel::hear(doubt, samples, *speech, *torn);
                    }
                }
                EarEvent::Onset if doubt.is_none() => {
                    doubt.insert(BackChannel::default()).before_onset(&utterance.lately());
                }
                _ => {}
            }
        }
    });
    verdict
}

#[test]
fn a_word_and_a_hum_are_told_apart_through_the_echo_wherever_they_fall() {
    for db in [-6.0, -12.0, -20.0] {
        for at in (150..850).step_by(60) {
            let into = format!("echo at {db} dB, {at} hundredths of a second into the answer");
            assert_eq!(verdict(db, "stop", at), Verdict::Interruption, "\"stop\", {into}");
            assert_eq!(verdict(db, "mhm", at), Verdict::BackChannel, "\"mhm\", {into}");
        }
    }
}

#[test]
fn a_moved_microphone_makes_nobody_speak() {
    with_ear(nobody(), room(-12.0), |ear, world| {
        world.answer = answer();
        world.step(ear, 400);
        world.card.enter(Room::echo(-10.0, 75, RATE));
        world.step(ear, 500);
        let spoken = world.told.iter().filter(|(_, e)| matches!(e, EarEvent::Frame { speech: true, .. })).count();
        assert!(spoken < 250 / 16, "{spoken} frames of echo were taken for speech: as many as an interruption needs");
    });
}

/// Steady sound of the loudspeaker.
fn tone() -> VecDeque<f32> {
    (0..RATE * 5).map(|i| 0.5 * (std::f32::consts::TAU * 440.0 * i as f32 / RATE as f32).sin()).collect()
}

#[test]
fn over_headphones_that_nobody_told_of_every_word_is_heard() {
    // What the canceller does to sound without echo depends on how the sound falls into its blocks of 192 samples.
    for (playing, far) in [("a tone", tone()), ("speech", answer())] {
        for (word, gain) in [("joke", 1.0), ("stop", 1.0), ("stop", 0.3)] {
            for (at, shift) in [(80, 0), (80, 135), (200, 60), (200, 100)] {
                with_ear(nobody(), Room::default(), |ear, world| {
                    world.answer = far.clone();
                    world.step(ear, at);
                    let said = fixture(word).iter().map(|x| x * gain).collect::<Vec<f32>>();
                    world.card.say(&[vec![0.0; shift], said].concat());
                    world.step(ear, 170);
                    let told = format!("{word} at a gain of {gain}, {at}0 ms and {shift} samples into {playing}");
                    assert!(!world.onsets().is_empty(), "{told}: nobody was heard");
                    assert!(world.onsets()[0] > at, "{told}: heard before it was said");
                });
            }
        }
    }
}

#[test]
fn headphones_that_are_pulled_out_make_nobody_speak() {
    for db in [-6.0, -12.0, -20.0] {
        with_ear(nobody(), Room::default(), |ear, world| {
            world.answer = answer();
            world.step(ear, 400);
            world.card.enter(room(db));
            world.step(ear, 500);
            let spoken = world.told.iter().filter(|(_, e)| matches!(e, EarEvent::Frame { speech: true, .. })).count();
            assert!(spoken < 250 / 16, "{spoken} frames of echo at {db} dB were taken for speech");
        });
    }
}

#[test]
fn headphones_leave_the_sound_alone() {
    with_ear(nobody(), Room::default(), |ear, world| {
        ear.take(EarJob::Headphones(true));
        world.answer = answer();
        world.card.say(&fixture("joke"));
        world.step(ear, 300);
        let heard = level::rms_db(&world.heard());
        assert_eq!(world.onsets().len(), 1);
        // What was said, in as much time.
        let mut said = fixture("joke");
        said.resize(300 * STEP, 0.0);
        assert!((heard - level::rms_db(&said)).abs() < 0.5, "{heard} dB");
    });
    with_ear(nobody(), room(-6.0), |ear, world| {
        ear.take(EarJob::Headphones(true));
        world.answer = answer();
        world.step(ear, 300);
        assert!(!world.onsets().is_empty(), "nothing is cancelled: this room needs no headphones");
    });
}

#[test]
fn a_deaf_ear_hears_silence_and_ends_the_turn() {
    with_ear(nobody(), Room::default(), |ear, world| {
        world.card.say(&fixture("capital"));
        world.step(ear, 80);
        assert_eq!(world.onsets().len(), 1);
        ear.take(EarJob::Deaf(true));
        let before = world.heard().len();
        world.step(ear, 300);
        assert!(world.heard()[before..].iter().all(|x| *x == 0.0));
        assert!(world.heard().len() > before + 16_000, "time goes on");
        assert_eq!((world.onsets().len(), world.ends().len()), (1, 1), "{:?}", world.ends());
    });
}

/// A judge that answers what it is told, when it is told.
struct Told {
    asked: Sender<usize>,
    answers: Receiver<f32>,
}

impl EndOfTurnJudge for Told {
    fn probability(&mut self, sound: &[f32]) -> Result<f32, TurnError> {
        self.asked.send(sound.len()).map_err(|e| TurnError::Compute(e.to_string()))?;
        self.answers.recv().map_err(|e| TurnError::Compute(e.to_string()))
    }
}

fn told() -> (Judge, Receiver<usize>, Sender<f32>) {
    let ((asked_in, asked), (tell, answers)) = (mpsc::channel(), mpsc::channel());
    let mut told = Some(Told { asked: asked_in, answers });
    let mut judge = Judge::start(Box::new(move || told.take().map(|told| Box::new(told) as _))).unwrap();
    settle(|| {
        judge.answer();
        judge.is_ready()
    });
    (judge, asked, tell)
}

/// Waits for another thread.
fn settle(mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_ear_listens_on_while_a_pause_is_judged_and_a_late_answer_ends_nothing() {
    let (judge, asked, tell) = told();
    with_ear(judge, Room::default(), |ear, world| {
        world.card.say(&fixture("capital"));
        world.step(ear, 250);
        // Asked once, at 200 ms of silence, with everything that was heard.
        let sound = asked.recv_timeout(LIMIT).unwrap();
        assert!(sound > 2 * 16_000, "{sound} samples");
        assert!(world.ends().is_empty(), "it has not answered");
        // The user goes on; the ear hears that, although the judge is still thinking.
        world.card.say(&fixture("sky"));
        world.step(ear, 100);
        assert_eq!(world.onsets().len(), 2);
        // The answer to the first question comes now, in the middle of a word.
        tell.send(0.99).unwrap();
        world.step(ear, 20);
        assert!(world.ends().is_empty(), "what was said about the first pause ends nothing");
        world.step(ear, 130);
        asked.recv_timeout(LIMIT).unwrap();
        assert!(world.ends().is_empty());
        tell.send(0.99).unwrap();
        settle(|| {
            world.step(ear, 1);
            world.ends().len() == 1
        });
    });
}

#[test]
fn a_hesitation_waits_and_a_judge_that_never_answers_ends_no_patience() {
    let (judge, asked, tell) = told();
    with_ear(judge, Room::default(), |ear, world| {
        world.card.say(&fixture("capital"));
        world.step(ear, 240);
        asked.recv_timeout(LIMIT).unwrap();
        tell.send(0.1).unwrap();
        world.step(ear, 60);
        assert!(world.ends().is_empty(), "not complete");
        // It is asked again, and says nothing more: the turn ends when the longest wait is over (2 s of silence).
        settle(|| {
            if world.ends().is_empty() {
                world.step(ear, 1);
            }
            !world.ends().is_empty()
        });
        let spoken = world.told.iter().rfind(|(_, e)| matches!(e, EarEvent::Frame { speech: true, .. })).unwrap().0;
        let waited = (world.ends()[0] - spoken) * 10;
        assert!((1_980..=2_060).contains(&waited), "{waited} ms");
        drop(tell);
    });
}
