//! Whole conversations with a scripted engine on a virtual sound card: what sounds, what is told, and what the engine is
//! asked, through the real session, ear, mouth, rings and callbacks.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::{StereoRecording, VirtualCard, VirtualCardHandle};
use antiphon::conversation::Side;
use antiphon::conversation::archive::Archive;
use antiphon::dsp::resample::convert;
use antiphon::engine::scripted::{Audio, Record, Recorded, Script, ScriptedEngine, Sound, Step, Turn};
use antiphon::engine::{Engine, EngineError, PastTurn, ReplyEnd, SessionSetup};
use antiphon::metrics::TurnReport;
use antiphon::session::command::{Command, CommandSink, Eagerness, Keep};
use antiphon::session::event::{Event, EventSource, TurnState};
use antiphon::session::{self, CardSource, EngineSelection, Extras, Parts, Session};
use antiphon::weights::Store;
use common::sound::speech;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const RATE: u32 = 48_000;
const LIMIT: Duration = Duration::from_secs(30);

/// A session with a scripted engine, and everything it told.
struct Rig {
    session: Session,
    commands: CommandSink,
    events: EventSource,
    card: VirtualCardHandle,
    record: Record,
    seen: Vec<Event>,
}

impl Rig {
    fn start(script: Script) -> Rig {
        Rig::start_with(script, Extras::default())
    }

    fn start_with(script: Script, extras: Extras) -> Rig {
        let engine = ScriptedEngine::new(script.clone());
        let record = engine.record();
        // The first load takes the engine whose record we hold; a reload after a fault plays the script anew.
        let first = Arc::new(Mutex::new(Some(engine)));
        let loader = move |_: &mut dyn FnMut(&str, f32)| -> Result<Box<dyn Engine>, EngineError> {
            let engine = first.lock().unwrap().take().unwrap_or_else(|| ScriptedEngine::new(script.clone()));
            Ok(Box::new(engine))
        };
        let (card, handle) = VirtualCard::start(RATE).unwrap();
        let home = tempfile::tempdir().unwrap();
        let parts = Parts {
            card: CardSource::Open(Box::new(card)),
            engine: Box::new(loader),
            setup: SessionSetup::default(),
            end_of_turn: Box::new(|| None),
            hands_free: true,
            eagerness: Eagerness::Eager,
            volume: 1.0,
            store: Store::open(Some(home.path().into())).unwrap(),
            greeting: None,
        };
        let (session, events) = session::start_with(parts, extras).unwrap();
        let commands = session.commands();
        let mut rig = Rig { session, commands, events, card: handle, record, seen: Vec::new() };
        rig.until("ready", |e| matches!(e, Event::EngineReady { .. }));
        rig
    }

    /// Waits for an event.
    fn until(&mut self, what: &str, mut is_it: impl FnMut(&Event) -> bool) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < LIMIT, "waited too long for {what}; seen: {:#?}", self.seen);
            if let Ok(event) = self.events.next_within(Duration::from_millis(50)) {
                let found = is_it(&event);
                self.seen.push(event);
                if found {
                    return;
                }
            }
        }
    }

    fn until_state(&mut self, state: TurnState) {
        self.until(&format!("{state:?}"), |e| *e == Event::State(state.clone()));
    }

    /// Types a turn and waits for its end.
    fn type_turn(&mut self, words: &str) -> TurnReport {
        self.commands.send(Command::SendText(words.into()));
        self.until_ended()
    }

    fn until_ended(&mut self) -> TurnReport {
        let mut ended = None;
        self.until("the end of the turn", |e| {
            if let Event::TurnEnded { report, .. } = e {
                ended = Some((**report).clone());
            }
            ended.is_some()
        });
        ended.unwrap()
    }

    fn say(&self, name: &str) {
        let mut samples = vec![0.0; RATE as usize / 2];
        samples.extend(convert(&speech(name), 16_000, RATE).unwrap());
        self.card.say(samples);
    }

    fn stop(self) -> (StereoRecording, Vec<Recorded>) {
        self.session.stop();
        (self.card.stop(), self.record.all())
    }
}

fn tone(seconds: f32, delay_ms: u64) -> Step {
    let sound = Sound::Tone { hz: 440.0 };
    Step::Audio(Audio { sound, seconds, delay_ms, overlap_ms: 0, text_end: None, fault: None })
}

fn text(text: &str) -> Step {
    Step::Text { text: text.into(), delay_ms: 0 }
}

fn script(steps: Vec<Step>) -> Script {
    let turn = Turn { heard: "What is it?".into(), delay_ms: 100, steps };
    Script { repeat: true, turns: vec![turn], ..Script::default() }
}

/// Where a side sounds, in seconds: from the first to the last sample above -50 dBFS.
fn sounding(side: &[f32]) -> Option<(f64, f64)> {
    let loud = |x: &f32| x.abs() > 0.003_162;
    let at = |i: usize| i as f64 / f64::from(RATE);
    Some((at(side.iter().position(loud)?), at(side.iter().rposition(loud)?)))
}

#[test]
fn a_spoken_question_is_answered_once_and_to_the_end() {
    let mut rig = Rig::start(script(vec![text("It is "), tone(0.5, 50), text("a tone."), tone(0.7, 50)]));
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
    let mut rig = Rig::start(script(vec![text("Yes."), tone(0.3, 0)]));
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
    let mut rig = Rig::start(script(steps));
    rig.say("sky");
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(1500));
    rig.say("joke");
    let report = rig.until_ended();
    assert!(report.cut_off && report.spoken_bytes > 7 && report.spoken_bytes < 70, "{report:?}");
    let next = rig.until_ended();
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
fn a_typed_turn_needs_no_microphone() {
    let mut rig = Rig::start(script(vec![text("Typed."), tone(0.3, 0)]));
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
        let mut rig = Rig::start(script(vec![text("I "), broken]));
        rig.commands.send(Command::SendText("Hello".into()));
        rig.until(
            "the fault",
            |e| matches!(e, Event::State(TurnState::Faulted { why, .. }) if why.contains("on fire")),
        );
        assert!(rig.seen.iter().any(|e| matches!(e, Event::TurnEnded { .. })), "the turn ended");
        rig.commands.send(Command::RetryAfterFault);
        rig.until_state(TurnState::Listening);
        rig.stop();
    }
}

#[test]
fn silence_is_no_turn_and_push_to_talk_needs_no_pause() {
    let mut rig = Rig::start(script(vec![text("Pushed."), tone(0.3, 0)]));
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

fn past(user: &str, answer: &str) -> PastTurn {
    PastTurn { user: user.into(), answer: answer.into(), cut_off: false }
}

#[test]
fn another_engine_goes_on_with_the_conversation() {
    let other = ScriptedEngine::new(script(vec![text("Other."), tone(0.2, 0)]));
    let record = other.record();
    let others = Mutex::new(Some(other));
    let factory = move |selection: &EngineSelection| -> session::EngineLoader {
        assert_eq!(selection, &EngineSelection { engine: "other".into(), llm: Some("small".into()) });
        let mut engine = others.lock().unwrap().take();
        Box::new(move |_| {
            let missing = || EngineError::Model("it was taken already".into());
            Ok(Box::new(engine.take().ok_or_else(missing)?) as Box<dyn Engine>)
        })
    };
    let extras = Extras { engines: Some(Box::new(factory)), ..Extras::default() };
    let mut rig = Rig::start_with(script(vec![text("First."), tone(0.2, 0)]), extras);
    rig.type_turn("One?");
    rig.type_turn("Two?");
    // A persona is told with what was said, too.
    rig.commands.send(Command::SetPersona { system_prompt: "Be brief.".into(), seed: 3 });
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "other".into(), llm: Some("small".into()) }));
    rig.until_state(TurnState::Loading);
    rig.until_state(TurnState::Listening);
    let report = rig.type_turn("Three?");
    assert_eq!((report.turn, report.answer.as_str()), (3, "Other."));
    let so_far = vec![past("One?", "First."), past("Two?", "First.")];
    let setup = SessionSetup { system_prompt: "Be brief.".into(), seed: 3, ..SessionSetup::default() };
    let (_, asked) = rig.stop();
    assert!(asked.ends_with(&[Recorded::Opened(setup.clone()), Recorded::Recalled(so_far.clone())]), "{asked:?}");
    let asked = record.all();
    assert_eq!(asked[..3], [Recorded::Opened(setup), Recorded::Recalled(so_far), Recorded::Read("Three?".into())]);
}

#[test]
fn another_persona_waits_for_the_end_of_the_turn() {
    let mut rig = Rig::start(script(vec![text("A long answer."), tone(1.5, 0)]));
    rig.commands.send(Command::SendText("Now?".into()));
    rig.until_state(TurnState::Speaking);
    rig.commands.send(Command::SetPersona { system_prompt: "Be kind.".into(), seed: 0 });
    let report = rig.until_ended();
    assert!(!report.cut_off, "the answer is not broken off");
    rig.type_turn("And now?");
    let (_, asked) = rig.stop();
    let opened = asked.iter().rposition(|r| matches!(r, Recorded::Opened(setup) if setup.system_prompt == "Be kind."));
    assert_eq!(asked[opened.unwrap() + 1], Recorded::Recalled(vec![past("Now?", "A long answer.")]));
}

#[test]
fn an_engine_that_does_not_load_is_told_and_another_can_be_chosen() {
    let factory = move |selection: &EngineSelection| -> session::EngineLoader {
        let good = selection.engine == "good";
        Box::new(move |_| match good {
            true => Ok(Box::new(ScriptedEngine::new(script(vec![text("Good."), tone(0.2, 0)]))) as Box<dyn Engine>),
            false => Err(EngineError::Model("the weights are missing: pull them".into())),
        })
    };
    let extras = Extras { engines: Some(Box::new(factory)), ..Extras::default() };
    let mut rig = Rig::start_with(script(vec![text("First."), tone(0.2, 0)]), extras);
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "bad".into(), llm: None }));
    rig.until("the fault", |e| matches!(e, Event::State(TurnState::Faulted { why, .. }) if why.contains("pull them")));
    // Of two wishes the last counts, whatever the first one comes to.
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "bad".into(), llm: None }));
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "good".into(), llm: None }));
    rig.until_state(TurnState::Listening);
    assert_eq!(rig.type_turn("Well?").answer, "Good.");
    rig.stop();
}

#[test]
fn a_conversation_is_kept_reopened_and_replayed() {
    let home = tempfile::tempdir().unwrap();
    let archive = Archive::new(home.path().join("conversations"));
    let extras = |keep| Extras { archive: Some(archive.clone()), keep, engines: None };
    let answer = || script(vec![text("It is a tone."), tone(0.6, 50)]);
    let mut rig = Rig::start_with(answer(), extras(Keep::WordsAndSound));
    rig.say("sky");
    rig.until_ended();
    rig.until("the turn to be kept", |e| {
        matches!(e, Event::TurnKept { turn: 1, user_sound: true, answer_sound: true, .. })
    });
    rig.stop();

    let kept = archive.newest().unwrap();
    let turn = &kept.turns[0];
    assert_eq!(
        (turn.heard.as_str(), turn.answer.as_str(), turn.engine.as_str()),
        ("What is it?", "It is a tone.", "scripted")
    );
    let said = archive.sound(&kept.id, &turn.sound(Side::User).unwrap().file).unwrap();
    assert!(said.rate == 16_000 && said.seconds() > speech("sky").len() as f64 / 16_000.0 - 0.5, "{}", said.seconds());
    let answered = archive.sound(&kept.id, &turn.sound(Side::Assistant).unwrap().file).unwrap();
    assert!((answered.seconds() - 0.6).abs() < 0.01, "{}", answered.seconds());

    // The next start goes on with it: the window shows it, the engine is told, and it can be heard again.
    let mut rig = Rig::start_with(answer(), extras(Keep::Nothing));
    rig.until("the conversation", |e| matches!(e, Event::ConversationOpened(turns) if turns.len() == 1));
    rig.commands.send(Command::Replay { turn: 1, side: Side::Assistant });
    rig.until("the replay", |e| matches!(e, Event::Replaying(Some(_))));
    rig.until("its end", |e| *e == Event::Replaying(None));
    assert_eq!(rig.type_turn("Again?").turn, 2);
    let (recording, asked) = rig.stop();
    assert!(asked.contains(&Recorded::Recalled(vec![past("What is it?", "It is a tone.")])), "{asked:?}");
    let (start, end) = sounding(&recording.assistant).unwrap();
    assert!(end - start > 1.2, "the replay and the answer: {start} to {end}");
    assert_eq!(archive.newest().unwrap().turns.len(), 1, "the second turn was not to be kept");
}

#[test]
fn kept_conversations_are_told_apart_found_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    let archive = Archive::new(home.path().join("conversations"));
    let extras = Extras { archive: Some(archive.clone()), keep: Keep::Words, engines: None };
    let mut rig = Rig::start_with(script(vec![text("Yes."), tone(0.1, 0)]), extras);
    let kept = |e: &Event| matches!(e, Event::TurnKept { user_sound: false, answer_sound: false, .. });
    rig.type_turn("Are there birds?");
    rig.until("the first to be kept", kept);
    rig.commands.send(Command::NewConversation);
    rig.type_turn("Are there trees?");
    rig.until("the second to be kept", kept);
    rig.commands.send(Command::ListConversations("BIRDS".into()));
    let mut found = Vec::new();
    rig.until("the list", |e| match e {
        Event::Conversations { query, list, .. } if query == "BIRDS" => {
            found = list.iter().map(|entry| (entry.id.clone(), entry.title.clone())).collect();
            true
        }
        _ => false,
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "Are there birds?");
    rig.commands.send(Command::DeleteConversation { id: found[0].0.clone(), open: false });
    rig.until("its deletion", |e| matches!(e, Event::Conversations { list, open: Some(_), .. } if list.is_empty()));
    assert_eq!(rig.type_turn("And flowers?").turn, 2, "the conversation that is open goes on");
    rig.until("it to be kept", kept);
    assert_eq!(archive.newest().unwrap().turns.len(), 2);
    rig.commands.send(Command::DeleteAllConversations);
    rig.until("the end of all", |e| matches!(e, Event::Conversations { list, open: None, .. } if list.is_empty()));
    rig.stop();
    assert!(archive.newest().is_none());
}
