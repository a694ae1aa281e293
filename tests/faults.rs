//! Faults, scripted: engines that are slow, late, uneven, broken or deaf to a cancel, users who interrupt at the worst
//! moment. Whatever happens, a turn ends once, what sounds is whole or softly ended, and the next turn works. Faults of
//! devices are in `devices.rs`.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::VirtualCard;
use antiphon::engine::scripted::{Audio, Fault, Recorded, Script, ScriptedEngine, Sound, Step, Turn};
use antiphon::engine::{
    CancelToken, Engine, EngineError, EngineInfo, EngineSession, PastTurn, PcmChunk, ReplyEnd, ResponseSink,
    SessionSetup,
};
use antiphon::session::CardSource;
use antiphon::session::command::Command;
use antiphon::session::event::{Event, TurnState};
use common::rig::{RATE, Rig, chunk, largest_step, script, sounding_s, text, tone, words};
use std::sync::Arc;
use std::time::Duration;

/// The largest step of a 440 Hz tone at 0.3 of full scale and 48 kHz is 0.0173; a fade of 5 ms adds 0.00125. What is more
/// than this is a click.
const CLICK: f32 = 0.025;

fn ask(rig: &Rig) {
    rig.commands.send(Command::SendText("Well?".into()));
}

/// Asks once, lets the answer come to its end, and gives what sounded and how often and how long the ring ran empty.
fn played(steps: Vec<Step>) -> (Vec<f32>, u64, f64) {
    let (mut rig, card) = Rig::start(script(steps));
    ask(&rig);
    let report = rig.until_ended();
    assert!(!report.cut_off, "{report:?}");
    assert_eq!(report.spoken_bytes, report.answer.len());
    rig.until_state(TurnState::Listening);
    assert_eq!(rig.ended(), 1);
    rig.stop();
    (card.stop().assistant, report.starvation_events, report.starvation_ms)
}

#[test]
fn an_engine_slower_than_it_plays_pauses_softly_and_says_everything() {
    // Eight chunks of 0.25 s, each 325 ms in the making: 1.3 times as long as it plays.
    let steps = (0..8).flat_map(|_| [text("word "), tone(0.25, 325)]).collect();
    let (sound, events, ms) = played(steps);
    let heard = sounding_s(&sound, RATE);
    assert!((1.9..2.3).contains(&heard), "{heard} s of 2 s sounded");
    assert!(largest_step(&sound) < CLICK, "{}", largest_step(&sound));
    // With a lead of a chunk or two, an engine that loses 75 ms a chunk still runs dry; it is counted, not hidden.
    assert_eq!(events > 0, ms > 0.0);
}

#[test]
fn a_first_chunk_that_comes_late_is_waited_for() {
    let (sound, events, _) = played(vec![text("Late."), tone(0.6, 1500)]);
    assert!((sounding_s(&sound, RATE) - 0.6).abs() < 0.04);
    assert_eq!(events, 0, "waiting for the first sound is not starvation");
}

#[test]
fn a_gap_of_more_than_a_second_is_soft_and_counted() {
    let (sound, events, ms) = played(vec![text("Before. "), tone(0.6, 10), text("After."), tone(0.6, 1700)]);
    assert!((sounding_s(&sound, RATE) - 1.2).abs() < 0.05);
    assert!(largest_step(&sound) < CLICK);
    assert_eq!(events, 1);
    let loud: Vec<bool> = sound.chunks(RATE as usize / 100).map(|w| w.iter().any(|x| x.abs() > 0.003)).collect();
    let (first, last) = (loud.iter().position(|l| *l).unwrap(), loud.iter().rposition(|l| *l).unwrap());
    let quiet = loud[first..last].iter().filter(|l| !**l).count() as f64 * 10.0;
    assert!((quiet - ms).abs() < 40.0, "{quiet} ms were silent, {ms} ms were counted");
}

/// Another program takes the graphics card now and then: the same speed on average, chunks as they come.
#[test]
fn an_engine_that_stumbles_says_everything() {
    let delays = [10, 400, 10, 10, 600, 10, 10, 10];
    let steps = delays.iter().flat_map(|ms| [text("word "), tone(0.25, *ms)]).collect();
    let (sound, _, _) = played(steps);
    assert!((sounding_s(&sound, RATE) - 2.0).abs() < 0.2);
    assert!(largest_step(&sound) < CLICK);
}

#[test]
fn chunks_that_are_empty_clipped_or_no_numbers_harm_nothing_else() {
    let broken = |fault| {
        Step::Audio(Audio {
            sound: Sound::Tone { hz: 440.0 },
            seconds: 0.2,
            delay_ms: 5,
            overlap_ms: 0,
            text_end: None,
            fault: Some(fault),
        })
    };
    let steps = vec![
        text("One "),
        tone(0.3, 5),
        broken(Fault::Empty),
        broken(Fault::Nan),
        broken(Fault::Clipped),
        broken(Fault::Empty),
        text("two."),
        tone(0.3, 5),
        broken(Fault::Empty),
    ];
    let (sound, _, _) = played(steps);
    assert!(sound.iter().all(|x| x.is_finite() && x.abs() <= 1.0));
    // 0.3 + 0.2 + 0.2 + 0.3 s; what is not a number may cost the filter's length around it.
    assert!((0.9..1.1).contains(&sounding_s(&sound, RATE)), "{}", sounding_s(&sound, RATE));
}

#[test]
fn an_engine_that_breaks_while_it_speaks_falls_silent_softly_and_can_be_loaded_again() {
    for broken in [
        Step::Fail { message: "the drill".into(), delay_ms: 700 },
        Step::Panic { message: "the drill".into(), delay_ms: 700 },
    ] {
        let (mut rig, card) = Rig::start(script(vec![text("I was saying "), tone(3.0, 0), broken]));
        ask(&rig);
        rig.until_state(TurnState::Speaking);
        rig.until("the fault", |e| matches!(e, Event::State(TurnState::Faulted { .. })));
        assert_eq!(rig.ended(), 1);
        rig.commands.send(Command::RetryAfterFault);
        rig.until_state(TurnState::Listening);
        ask(&rig);
        rig.until_state(TurnState::Speaking);
        rig.session.stop();
        let sound = card.stop().assistant;
        assert!(largest_step(&sound) < CLICK, "{}", largest_step(&sound));
    }
}

/// Memory runs out while the model is loaded, twice; then it fits. Or while it answers.
#[test]
fn a_model_that_does_not_fit_is_told_and_tried_again() {
    let mut tries = 0;
    let loader = move |_: &mut dyn FnMut(&str, f32)| -> Result<Box<dyn Engine>, EngineError> {
        tries += 1;
        if tries < 3 {
            return Err(EngineError::Model("out of memory: choose a smaller model".into()));
        }
        Ok(Box::new(ScriptedEngine::new(script(vec![text("Fits."), tone(0.2, 0)]))))
    };
    let (card, handle) = VirtualCard::start(RATE).unwrap();
    let mut rig = Rig::loading(CardSource::Open(Box::new(card)), Box::new(loader));
    for _ in 0..2 {
        rig.until(
            "the fault",
            |e| matches!(e, Event::State(TurnState::Faulted { why, .. }) if why.to_string().contains("smaller model")),
        );
        rig.commands.send(Command::RetryAfterFault);
    }
    rig.until_state(TurnState::Listening);
    ask(&rig);
    assert_eq!(rig.until_ended().answer, "Fits.");
    rig.session.stop();
    handle.stop();
}

/// Interrupts (twice at once, as people do) after `when`, waits, asks again, and checks that the first answer ended once,
/// that nothing of it sounds later, and that the second is whole.
fn interrupted(steps: Vec<Step>, when: impl Fn(&mut Rig)) {
    let long = Turn { heard: String::new(), delay_ms: 150, steps };
    let next = Turn { heard: String::new(), delay_ms: 0, steps: vec![text("Next."), chunk(1000.0, 0.5, 0, 0)] };
    let (mut rig, card) = Rig::start(Script { turns: vec![long, next], ..Script::default() });
    ask(&rig);
    when(&mut rig);
    rig.commands.send(Command::Interrupt);
    rig.commands.send(Command::Interrupt);
    let first = rig.until_ended();
    rig.until_state(TurnState::Listening);
    ask(&rig);
    let second = rig.until_ended();
    assert_eq!((second.answer.as_str(), second.cut_off, second.turn), ("Next.", false, first.turn + 1));
    rig.until_state(TurnState::Listening);
    assert_eq!(rig.ended(), 2, "every turn ends once");
    rig.stop();
    let sound = card.stop().assistant;
    // The second answer, of another pitch, sounds to its last sample; in it there is nothing of the first.
    let last = sound.iter().rposition(|x| x.abs() > 0.01).unwrap();
    let tail = &sound[last + 1 - RATE as usize * 45 / 100..=last];
    assert!(
        power_at(tail, 1000.0) > 0.2 && power_at(tail, 440.0) < 0.005,
        "{} {}",
        power_at(tail, 1000.0),
        power_at(tail, 440.0)
    );
    // A step of a 1 kHz tone at 0.3 is 0.0393.
    assert!(largest_step(&sound) < 0.045, "{}", largest_step(&sound));
}

/// The amplitude of one frequency (a single bin of a Fourier transform).
fn power_at(samples: &[f32], hz: f64) -> f64 {
    let step = hz * std::f64::consts::TAU / f64::from(RATE);
    let (mut re, mut im) = (0.0, 0.0);
    for (i, x) in samples.iter().enumerate() {
        let (sin, cos) = (step * i as f64).sin_cos();
        re += f64::from(*x) * cos;
        im += f64::from(*x) * sin;
    }
    2.0 * re.hypot(im) / samples.len() as f64
}

fn long_answer() -> Vec<Step> {
    (0..20).flat_map(|_| [text("word "), tone(0.3, 60)]).collect()
}

#[test]
fn an_answer_can_be_stopped_before_its_first_word() {
    interrupted(long_answer(), |rig| rig.until_state(TurnState::Thinking));
}

#[test]
fn an_answer_can_be_stopped_between_its_first_word_and_its_first_sound() {
    let mut steps = vec![text("Word ")];
    steps.extend([tone(2.0, 600)]);
    interrupted(steps, |rig| rig.until("a word", |e| matches!(e, Event::Answer { .. })));
}

#[test]
fn an_answer_can_be_stopped_while_it_is_buffered() {
    // The first chunks come so slowly that a lead is gathered: sound is made, and none of it sounds yet.
    let steps = (0..10).flat_map(|_| [text("word "), tone(0.2, 400)]).collect();
    interrupted(steps, |rig| rig.until("some sound", |e| matches!(e, Event::Mark(m) if m.units == 4800)));
}

#[test]
fn an_answer_can_be_stopped_as_it_begins_to_sound() {
    interrupted(long_answer(), |rig| rig.until_state(TurnState::Speaking));
}

#[test]
fn an_answer_can_be_stopped_within_a_crossfade() {
    let overlap = |i| if i == 0 { 0 } else { 85 };
    let steps = (0..30).flat_map(|i| [text("word "), chunk(440.0, 0.2, 20, overlap(i))]).collect();
    interrupted(steps, |rig| {
        rig.until_state(TurnState::Speaking);
        std::thread::sleep(Duration::from_millis(350));
    });
}

#[test]
fn an_answer_can_be_stopped_at_its_last_sample() {
    interrupted(vec![text("Word "), tone(0.4, 0)], |rig| {
        let whole = "Word ".len() - 1;
        rig.until("nearly the last word", |e| matches!(e, Event::Spoken { bytes, .. } if *bytes >= whole));
    });
}

#[test]
fn a_new_question_stops_the_answer_to_the_old_one() {
    let (mut rig, card) = Rig::start(Script {
        turns: vec![
            Turn { steps: long_answer(), ..Turn::default() },
            Turn { steps: vec![text("Next."), chunk(1000.0, 0.4, 0, 0)], ..Turn::default() },
        ],
        ..Script::default()
    });
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    ask(&rig);
    assert!(rig.until_ended().cut_off);
    assert_eq!(rig.until_ended().answer, "Next.");
    rig.stop();
    assert!(largest_step(&card.stop().assistant) < 0.045);
}

/// An engine that goes on after a cancel, as one does whose step takes long or whose author forgot.
struct Deaf;

impl Engine for Deaf {
    fn info(&self) -> EngineInfo {
        let description = "goes on after a cancel".into();
        EngineInfo {
            name: "deaf",
            description,
            output_rate: 24_000,
            max_overlap: 512,
            clones_voices: false,
            transcribes: true,
        }
    }
    fn open(&mut self, _: &SessionSetup) -> Result<Box<dyn EngineSession>, EngineError> {
        Ok(Box::new(DeafSession { answers: 0 }))
    }
    fn read_aloud(
        &mut self,
        _: &str,
        _: &SessionSetup,
        _: &Arc<dyn ResponseSink>,
        _: &CancelToken,
    ) -> Result<ReplyEnd, EngineError> {
        Ok(ReplyEnd::NothingHeard)
    }
}

struct DeafSession {
    answers: usize,
}

impl EngineSession for DeafSession {
    fn recall(&mut self, _: &[PastTurn]) -> Result<(), EngineError> {
        Ok(())
    }

    fn hear(&mut self, _: &[f32], _: &Arc<dyn ResponseSink>) -> Result<(), EngineError> {
        Ok(())
    }
    fn pause(&mut self, _: &Arc<dyn ResponseSink>, _: &CancelToken) -> Result<(), EngineError> {
        Ok(())
    }
    fn read(&mut self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }
    fn respond(&mut self, sink: &Arc<dyn ResponseSink>, _: &CancelToken) -> Result<ReplyEnd, EngineError> {
        self.answers += 1;
        let hz = if self.answers == 1 { 440.0 } else { 1000.0 };
        let chunks = if self.answers == 1 { 15 } else { 4 };
        for i in 0..chunks {
            sink.text("word ");
            let turn = hz * std::f32::consts::TAU / 24_000.0;
            let samples = (0..2400).map(|n| 0.3 * (turn * (i * 2400 + n) as f32).sin()).collect();
            sink.audio(PcmChunk { samples, overlap: 0, text_end: (i + 1) * 5, last: i + 1 == chunks });
            std::thread::sleep(Duration::from_millis(60));
        }
        Ok(ReplyEnd::Complete)
    }
    fn truncate(&mut self, _: usize) -> Result<(), EngineError> {
        Ok(())
    }
    fn retract(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
    fn discard(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

#[test]
fn what_comes_of_an_answer_that_was_stopped_is_neither_heard_nor_shown() {
    let (card, handle) = VirtualCard::start(RATE).unwrap();
    let mut rig = Rig::loading(
        CardSource::Open(Box::new(card)),
        Box::new(|_: &mut dyn FnMut(&str, f32)| Ok(Box::new(Deaf) as Box<dyn Engine>)),
    );
    rig.until_state(TurnState::Listening);
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    // The engine is still at its first answer, and writes on, while the user says the second question.
    rig.commands.send(Command::Talk);
    assert!(rig.until_ended().cut_off);
    std::thread::sleep(Duration::from_millis(300));
    rig.commands.send(Command::TalkEnd);
    let second = rig.until_ended();
    assert_eq!((second.answer.as_str(), second.cut_off), ("word word word word ", false));
    rig.stop();
    let sound = handle.stop().assistant;
    let last = sound.iter().rposition(|x| x.abs() > 0.01).unwrap();
    let tail = &sound[last + 1 - RATE as usize * 35 / 100..=last];
    assert!(power_at(tail, 1000.0) > 0.2 && power_at(tail, 440.0) < 0.005);
    assert!(sounding_s(&sound, RATE) < 1.4, "a stopped answer went on sounding");
}

#[test]
fn a_user_who_goes_on_after_the_end_of_turn_is_in_the_same_turn() {
    let turn = Turn { heard: "Both halves".into(), delay_ms: 2500, steps: vec![text("Yes."), tone(0.3, 0)] };
    let (mut rig, card) = Rig::start(Script { repeat: true, turns: vec![turn], ..Script::default() });
    card.say(words("sky", RATE));
    rig.until_state(TurnState::Thinking);
    // `words` begins with half a second of silence; this one begins 0.3 s after the end of the turn.
    card.say(words("joke", RATE)[RATE as usize / 5..].to_vec());
    rig.until_state(TurnState::Capturing);
    let report = rig.until_ended();
    assert_eq!((report.turn, report.answer.as_str(), report.cut_off), (1, "Yes.", false));
    assert_eq!(rig.ended(), 1);
    let asked = rig.stop();
    assert!(asked.contains(&Recorded::Retracted), "{asked:?}");
    card.stop();
}

/// Half a minute of speech without a pause, on a clock that runs eight times too fast: all of it is heard, as one turn.
#[test]
fn a_turn_of_half_a_minute_is_heard_whole() {
    let (card, handle) = VirtualCard::hurried(RATE, 8).unwrap();
    let mut rig = Rig::on(CardSource::Open(Box::new(card)), script(vec![text("Long."), tone(0.2, 0)]));
    // A fixture without the silence at its ends, again and again.
    let one = words("sky", RATE);
    let loud = |x: &f32| x.abs() > 0.01;
    let voiced = &one[one.iter().position(loud).unwrap()..one.iter().rposition(loud).unwrap()];
    let times = 32 * RATE as usize / voiced.len() + 1;
    let speech: Vec<f32> = voiced.iter().copied().cycle().take(voiced.len() * times).collect();
    let samples = speech.len() as u64 * 16_000 / u64::from(RATE);
    handle.say(vec![0.0; RATE as usize]);
    handle.say(speech);
    rig.until_ended();
    assert_eq!(rig.ended(), 1, "one turn");
    let heard = rig.record.samples_heard() as u64;
    assert!(heard >= samples && heard < samples + 4 * 16_000, "{heard} of {samples} samples were heard");
    rig.stop();
    handle.stop();
}

#[test]
fn minutes_of_silence_are_no_turn_and_lose_nothing() {
    let (card, handle) = VirtualCard::hurried(RATE, 20).unwrap();
    let mut rig = Rig::on(CardSource::Open(Box::new(card)), script(vec![text("What?"), tone(0.2, 0)]));
    std::thread::sleep(Duration::from_secs(3));
    rig.drain();
    for event in &rig.seen {
        let busy = matches!(event, Event::TurnEnded { .. } | Event::State(TurnState::Capturing | TurnState::Thinking));
        assert!(!busy, "{event:?}");
        if let Event::Counters { lost_capture, .. } = event {
            assert_eq!(*lost_capture, 0);
        }
    }
    let asked = rig.stop();
    assert!(asked.iter().all(|r| matches!(r, Recorded::Opened(_))), "{asked:?}");
    assert!(handle.stop().user.len() > RATE as usize * 20, "the card ran");
}

/// The window hangs for seconds: nobody fetches events, and the sound goes on.
#[test]
fn a_door_that_hangs_makes_no_hole() {
    let (mut rig, card) = Rig::start(script((0..10).flat_map(|_| [text("word "), tone(0.3, 50)]).collect()));
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_secs(5));
    let report = rig.until_ended();
    assert_eq!((report.starvation_events, report.xruns, report.cut_off), (0, 0, false));
    rig.stop();
    let sound = card.stop().assistant;
    assert!((sounding_s(&sound, RATE) - 3.0).abs() < 0.05);
    assert!(largest_step(&sound) < CLICK);
}
