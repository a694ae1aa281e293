//! Whole conversations with a scripted engine on a virtual sound card: what sounds, what is told, and what the engine is
//! asked, through the real session, ear, mouth, rings and callbacks.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::{Room, StereoRecording, VirtualCard, VirtualCardHandle};
use antiphon::dsp::resample::convert;
use antiphon::engine::scripted::{Audio, Recorded, Script, ScriptedEngine, Sound, Step, Turn};
use antiphon::engine::{Engine, EngineError, ReplyEnd};
use antiphon::session::CardSource;
use antiphon::session::command::{Command, Sensitivity};
use antiphon::session::event::{Event, TurnState};
use common::rig::{RATE, Rig, script, sounding_s, text, tone, words};
use common::sound::speech;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A session on a virtual card.
struct Talk {
    rig: Rig,
    card: VirtualCardHandle,
}

impl Talk {
    fn start(script: Script) -> Talk {
        let (rig, card) = Rig::start(script);
        Talk { rig, card }
    }

    fn start_in(room: Room, script: Script) -> Talk {
        let (card, handle) = VirtualCard::start_in(room, RATE).unwrap();
        Talk { rig: Rig::on(CardSource::Open(Box::new(card)), script), card: handle }
    }

    /// The number of the next turn in which something was heard.
    fn next_heard(&mut self) -> u64 {
        let mut heard = 0;
        self.until("what was heard", |e| {
            if let Event::Heard { turn, .. } = e {
                heard = *turn;
            }
            heard > 0
        });
        heard
    }

    fn say(&self, name: &str) {
        self.card.say(words(name, RATE));
    }

    fn stop(self) -> (StereoRecording, Vec<Recorded>) {
        let asked = self.rig.stop();
        (self.card.stop(), asked)
    }
}

impl Deref for Talk {
    type Target = Rig;
    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl DerefMut for Talk {
    fn deref_mut(&mut self) -> &mut Rig {
        &mut self.rig
    }
}

/// Where a side sounds, in seconds: from the first to the last sample above -50 dBFS.
fn sounding(side: &[f32]) -> Option<(f64, f64)> {
    let loud = |x: &f32| x.abs() > 0.003_162;
    let at = |i: usize| i as f64 / f64::from(RATE);
    Some((at(side.iter().position(loud)?), at(side.iter().rposition(loud)?)))
}

#[test]
fn a_spoken_question_is_answered_once_and_to_the_end() {
    let mut rig = Talk::start(script(vec![text("It is "), tone(0.5, 50), text("a tone."), tone(0.7, 50)]));
    rig.say("sky");
    let report = rig.until_ended();
    assert_eq!((report.heard.as_str(), report.answer.as_str()), ("What is it?", "It is a tone."));
    assert_eq!((report.spoken_bytes, report.cut_off, report.starvation_events), (13, false, 0));
    rig.until_state(TurnState::Listening);
    let states: Vec<_> =
        rig.seen.iter().filter_map(|e| if let Event::State(s) = e { Some(s.clone()) } else { None }).collect();
    let tail = &states[states.iter().position(|s| *s == TurnState::Capturing).unwrap()..];
    assert!(tail.ends_with(&[TurnState::Thinking, TurnState::Speaking, TurnState::Listening]), "{states:?}");

    let (recording, asked) = rig.stop();
    let (_, user_end) = sounding(&recording.user).unwrap();
    let (start, end) = sounding(&recording.assistant).unwrap();
    assert!((end - start - 1.2).abs() < 0.05, "1.2 s of tone were made, {} s sounded", end - start);
    // The program's own time to first audio is what the recording shows. The virtual card has no delay of its own;
    // 40 ms is the promise.
    let outside = (start - user_end) * 1000.0;
    let own = report.ttfa_ms.unwrap();
    assert!((own - outside).abs() < 40.0, "own {own:.1} ms, outside {outside:.1} ms");
    assert_eq!(asked.iter().filter(|r| matches!(r, Recorded::Responding(_))).count(), 1);
    assert_eq!(asked.last(), Some(&Recorded::Ended(ReplyEnd::Complete)));
}

#[test]
fn what_the_engine_hears_is_the_whole_question_with_its_beginning() {
    let mut rig = Talk::start(script(vec![text("Yes."), tone(0.3, 0)]));
    rig.say("capital");
    rig.until_ended();
    let (recording, _) = (rig.record.samples_heard(), ());
    let voiced = speech("capital");
    let (start, end) = {
        let loud = |x: &f32| x.abs() > 0.003_162;
        (voiced.iter().position(loud).unwrap(), voiced.iter().rposition(loud).unwrap())
    };
    assert!(recording >= end - start + 16_000 * 3 / 10, "heard {recording} of {} voiced samples", end - start);
}

#[test]
fn an_interruption_stops_the_sound_and_the_engine_keeps_what_was_heard() {
    let mut steps = Vec::new();
    for i in 0..20 {
        steps.extend([text(&format!("word{i:02} ")), tone(0.5, 10)]);
    }
    let mut rig = Talk::start(script(steps));
    rig.say("sky");
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(1500));
    rig.say("joke");
    let report = rig.until_ended();
    assert!(report.cut_off && report.spoken_bytes > 7 && report.spoken_bytes < 70, "{report:?}");
    let stop = report.barge_in_stop_ms.expect("the answer was stopped by a voice");
    println!("the answer was silent {stop:.0} ms after the interruption was certain");
    let next = rig.until_ended();
    assert_eq!(next.barge_in_stop_ms, None);
    assert_eq!(next.turn, report.turn + 1, "the interrupting words are a turn of their own");
    let (recording, asked) = rig.stop();
    assert!(asked.contains(&Recorded::Truncated(report.spoken_bytes)), "{asked:?}");
    // The interruption began 0.5 s after `say`; from 1 s after its first sound on, the first answer is silent until the
    // second begins, which is when the interrupting words have ended.
    let silent_for = recording.assistant.chunks(RATE as usize / 100).map(|c| c.iter().all(|x| x.abs() < 0.003_162));
    let longest =
        silent_for.fold((0, 0), |(run, best), quiet| if quiet { (run + 1, best.max(run + 1)) } else { (0, best) });
    assert!(longest.1 > 100, "at least a second of silence between the two answers");
}

#[test]
fn a_window_that_hangs_for_two_seconds_tears_nothing() {
    // Three seconds of sound, most of which is only made while the window hangs.
    let steps = std::iter::once(text("A long tone.")).chain((0..30).map(|_| tone(0.1, 70))).collect();
    let mut rig = Talk::start(script(steps));
    rig.commands.send(Command::SendText("Go on".into()));
    rig.until_state(TurnState::Speaking);
    // Nobody takes an event any more.
    std::thread::sleep(Duration::from_secs(2));
    let report = rig.until_ended();
    assert_eq!((report.cut_off, report.starvation_events, report.xruns), (false, 0, 0), "{report:?}");
    let (recording, _) = rig.stop();
    let (start, end) = sounding(&recording.assistant).unwrap();
    let sounded = sounding_s(&recording.assistant, RATE);
    assert!((sounded - 3.0).abs() < 0.05 && end - start < 3.05, "{sounded} s from {start} s to {end} s");
}

#[test]
fn a_typed_turn_needs_no_microphone() {
    let mut rig = Talk::start(script(vec![text("Typed."), tone(0.3, 0)]));
    rig.commands.send(Command::SendText("  How are you?  ".into()));
    let report = rig.until_ended();
    assert_eq!((report.heard.as_str(), report.answer.as_str()), ("How are you?", "Typed."));
    let (_, asked) = rig.stop();
    assert!(asked.contains(&Recorded::Read("How are you?".into())), "{asked:?}");
}

#[test]
fn a_failing_engine_is_told_in_its_own_words_and_can_be_loaded_again() {
    for broken in [
        Step::Fail { message: "the model is on fire".into(), delay_ms: 0 },
        Step::Panic { message: "the model is on fire".into(), delay_ms: 0 },
    ] {
        let mut rig = Talk::start(script(vec![text("I "), broken]));
        rig.commands.send(Command::SendText("Hello".into()));
        rig.until(
            "the fault",
            |e| matches!(e, Event::State(TurnState::Faulted { why, .. }) if why.to_string().contains("on fire")),
        );
        assert!(rig.seen.iter().any(|e| matches!(e, Event::TurnEnded { .. })), "the turn ended");
        rig.commands.send(Command::RetryAfterFault);
        rig.until_state(TurnState::Listening);
        rig.stop();
    }
}

#[test]
fn silence_is_no_turn_and_push_to_talk_needs_no_pause() {
    let mut rig = Talk::start(script(vec![text("Pushed."), tone(0.3, 0)]));
    rig.commands.send(Command::SetHandsFree(false));
    rig.say("sky");
    std::thread::sleep(Duration::from_secs(4));
    while let Ok(event) = rig.events.next_within(Duration::from_millis(1)) {
        assert!(!matches!(event, Event::TurnEnded { .. } | Event::State(TurnState::Capturing)), "{event:?}");
    }
    rig.commands.send(Command::Talk);
    rig.say("joke");
    std::thread::sleep(Duration::from_millis(3200));
    rig.commands.send(Command::TalkEnd);
    let report = rig.until_ended();
    assert_eq!(report.answer, "Pushed.");
    rig.stop();
}

/// Ten seconds of a spoken answer, with some words to each stretch.
fn long_answer() -> Vec<Step> {
    let mut steps = Vec::new();
    for name in ["capital", "fruit", "sky", "capital", "fruit"] {
        let samples = convert(&speech(name), 16_000, 24_000).unwrap();
        let sound = Sound::Samples(samples);
        steps.push(text(&format!("{name} ")));
        steps.push(Step::Audio(Audio { sound, seconds: 0.0, delay_ms: 0, overlap_ms: 0, text_end: None, fault: None }));
    }
    steps
}

fn ducked(seen: &[Event]) -> usize {
    seen.iter().filter(|e| matches!(e, Event::State(TurnState::Ducked))).count()
}

#[test]
fn a_hum_lets_the_answer_go_on_and_a_word_stops_it_through_the_echo_of_the_answer() {
    let mut rig = Talk::start_in(Room::echo(-12.0, 60, RATE), script(long_answer()));
    rig.commands.send(Command::SendText("Go on".into()));
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(1500));
    rig.say("mhm");
    rig.until_state(TurnState::Ducked);
    rig.until_state(TurnState::Speaking);
    // A while later it still speaks, at its full level, and the hum is nobody's turn.
    std::thread::sleep(Duration::from_millis(1000));
    rig.say("stop");
    let report = rig.until_ended();
    assert!(report.cut_off && report.spoken_bytes > 0, "{report:?}");
    assert_eq!((report.turn, report.heard.as_str()), (1, "Go on"), "the hum was no turn");
    assert!(ducked(&rig.seen) >= 2, "once for the hum, once for the word");
    assert_eq!(rig.next_heard(), 2, "the word is a turn of its own");
    let (_, asked) = rig.stop();
    assert!(asked.contains(&Recorded::Truncated(report.spoken_bytes)), "{asked:?}");
}

#[test]
fn a_hum_stops_an_answer_that_is_to_give_way() {
    let mut rig = Talk::start(script(long_answer()));
    rig.commands.send(Command::SetSensitivity(Sensitivity::High));
    rig.commands.send(Command::SendText("Go on".into()));
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(500));
    rig.say("mhm");
    let report = rig.until_ended();
    assert!(report.cut_off, "{report:?}");
    rig.stop();
}

#[test]
fn half_duplex_hears_nothing_while_it_speaks_and_everything_after() {
    let mut rig = Talk::start(script(long_answer()));
    rig.commands.send(Command::SetHalfDuplex(true));
    rig.commands.send(Command::SendText("Go on".into()));
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(500));
    rig.say("stop");
    let report = rig.until_ended();
    assert!(!report.cut_off, "{report:?}");
    assert_eq!(ducked(&rig.seen), 0);
    rig.until_state(TurnState::Listening);
    std::thread::sleep(Duration::from_millis(600));
    rig.say("sky");
    rig.until_state(TurnState::Capturing);
    rig.until_state(TurnState::Speaking);
    // The button still interrupts.
    rig.commands.send(Command::Interrupt);
    assert!(rig.until_ended().cut_off);
    rig.stop();
}

#[test]
fn push_to_talk_interrupts_an_answer_and_is_heard_in_half_duplex() {
    let mut rig = Talk::start(script(long_answer()));
    rig.commands.send(Command::SetHandsFree(false));
    rig.commands.send(Command::SetHalfDuplex(true));
    rig.commands.send(Command::SendText("Go on".into()));
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(500));
    rig.commands.send(Command::Talk);
    assert!(rig.until_ended().cut_off);
    rig.until_state(TurnState::Capturing);
    let before = rig.record.samples_heard();
    rig.say("sky");
    std::thread::sleep(Duration::from_millis(2800));
    rig.commands.send(Command::TalkEnd);
    rig.until_state(TurnState::Thinking);
    rig.until_state(TurnState::Speaking);
    assert!(rig.record.samples_heard() > before + 2 * 16_000, "the words were heard");
    rig.stop();
}

#[test]
fn speech_that_goes_on_before_the_answer_sounds_is_the_same_turn() {
    let turn = Turn { heard: "Both.".into(), delay_ms: 4000, steps: vec![text("Yes."), tone(0.3, 0)] };
    let mut rig = Talk::start(Script { repeat: true, turns: vec![turn], ..Script::default() });
    rig.say("capital");
    rig.until_state(TurnState::Thinking);
    rig.say("sky");
    rig.until_state(TurnState::Capturing);
    let report = rig.until_ended();
    assert_eq!((report.turn, report.cut_off, report.answer.as_str()), (1, false, "Yes."));
    let (_, asked) = rig.stop();
    let count = |what: fn(&Recorded) -> bool| asked.iter().filter(|r| what(r)).count();
    assert_eq!(count(|r| matches!(r, Recorded::Retracted)), 1, "{asked:?}");
    assert_eq!(count(|r| matches!(r, Recorded::Responding(_))), 2);
    assert_eq!(count(|r| matches!(r, Recorded::Ended(ReplyEnd::Complete))), 1);
}

#[test]
fn muting_in_the_middle_of_a_sentence_ends_the_turn() {
    let mut rig = Talk::start(script(vec![text("Yes."), tone(0.3, 0)]));
    rig.say("capital");
    rig.until_state(TurnState::Capturing);
    rig.commands.send(Command::SetMuted(true));
    assert_eq!(rig.until_ended().answer, "Yes.");
    rig.until_state(TurnState::Listening);
    rig.stop();
}

/// What somebody is saying when the engine becomes ready is heard from its first word on; what was said before is not
/// answered late.
#[test]
fn a_question_begun_while_the_engine_is_loaded_is_heard_whole() {
    let spoken = speech("capital");
    let is_loud = |x: &f32| x.abs() > 0.02;
    let voiced = spoken.iter().rposition(is_loud).unwrap() - spoken.iter().position(is_loud).unwrap();
    for (wait, answered) in [(1200, true), (3500, false)] {
        let engine = ScriptedEngine::new(script(vec![text("Paris."), tone(0.3, 0)]));
        let record = engine.record();
        let mut engine = Some(engine);
        let (loaded, when_loaded) = channel();
        let loader = move |_: &mut dyn FnMut(&str, f32)| -> Result<Box<dyn Engine>, EngineError> {
            when_loaded.recv().unwrap();
            Ok(Box::new(engine.take().unwrap()))
        };
        let (card, handle) = VirtualCard::start(RATE).unwrap();
        let mut rig = Rig::loading(CardSource::Open(Box::new(card)), Box::new(loader));
        handle.say(words("capital", RATE));
        std::thread::sleep(Duration::from_millis(wait));
        loaded.send(()).unwrap();
        if answered {
            assert_eq!(rig.until_ended().answer, "Paris.");
        } else {
            rig.until_state(TurnState::Listening);
            std::thread::sleep(Duration::from_millis(500));
        }
        rig.session.stop();
        handle.stop();
        let samples = |r: &Recorded| if let Recorded::Heard(samples) = r { *samples } else { 0 };
        let heard: usize = record.all().iter().map(samples).sum();
        assert_eq!(heard > 0, answered, "{heard} samples");
        assert!(!answered || heard >= voiced, "{heard} of {voiced} samples");
    }
}
