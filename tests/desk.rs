//! What a desktop asks of a session beside talking: other engines, other personas, conversations that are kept. With a
//! scripted engine on a virtual sound card, through the real threads.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::{VirtualCard, VirtualCardHandle};
use antiphon::conversation::Side;
use antiphon::conversation::archive::Archive;
use antiphon::engine::scripted::{Recorded, Script, ScriptedEngine};
use antiphon::engine::{Engine, EngineError, PastTurn, SessionSetup};
use antiphon::metrics::TurnReport;
use antiphon::session::command::{Command, Keep};
use antiphon::session::event::{Event, TurnState};
use antiphon::session::voices::{Sample, VoiceCommand, VoiceEvent};
use antiphon::session::{self, CardSource, EngineSelection, Extras};
use common::rig::{RATE, Rig, script, sounding_s, text, tone, words};
use common::sound::speech;
use std::sync::Mutex;

fn start(script: Script, extras: Extras) -> (Rig, VirtualCardHandle) {
    let (card, handle) = VirtualCard::start(RATE).unwrap();
    (Rig::with(CardSource::Open(Box::new(card)), script, extras), handle)
}

/// Types a turn and waits for its end.
fn type_turn(rig: &mut Rig, words: &str) -> TurnReport {
    rig.commands.send(Command::SendText(words.into()));
    rig.until_ended()
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
        assert_eq!(selection, &EngineSelection { engine: "other".into(), llm: Some("small".into()), omni: None });
        let mut engine = others.lock().unwrap().take();
        Box::new(move |_| {
            let missing = || EngineError::Model("it was taken already".into());
            Ok(Box::new(engine.take().ok_or_else(missing)?) as Box<dyn Engine>)
        })
    };
    let extras = Extras { engines: Some(Box::new(factory)), ..Extras::default() };
    let (mut rig, card) = start(script(vec![text("First."), tone(0.2, 0)]), extras);
    type_turn(&mut rig, "One?");
    type_turn(&mut rig, "Two?");
    // The speed is told to both engines.
    rig.commands.send(Command::SetSpeed(1.3));
    // A persona is told with what was said, too.
    rig.commands.send(Command::SetPersona { system_prompt: "Be brief.".into(), seed: 3 });
    rig.commands.send(Command::UseEngine(EngineSelection {
        engine: "other".into(),
        llm: Some("small".into()),
        omni: None,
    }));
    rig.until_state(TurnState::Loading);
    rig.until_state(TurnState::Listening);
    let report = type_turn(&mut rig, "Three?");
    assert_eq!((report.turn, report.answer.as_str()), (3, "Other."));
    let so_far = vec![past("One?", "First."), past("Two?", "First.")];
    let setup = SessionSetup { system_prompt: "Be brief.".into(), seed: 3, ..SessionSetup::default() };
    let asked = rig.stop();
    drop(card);
    assert!(asked.ends_with(&[Recorded::Opened(setup.clone()), Recorded::Recalled(so_far.clone())]), "{asked:?}");
    assert!(asked.contains(&Recorded::Speed(1.3)), "{asked:?}");
    let asked = record.all();
    let opened = [Recorded::Speed(1.3), Recorded::Opened(setup), Recorded::Recalled(so_far)];
    assert_eq!((&asked[..3], &asked[3]), (&opened[..], &Recorded::Read("Three?".into())));
}

#[test]
fn another_persona_waits_for_the_end_of_the_turn() {
    let (mut rig, card) = start(script(vec![text("A long answer."), tone(1.5, 0)]), Extras::default());
    rig.commands.send(Command::SendText("Now?".into()));
    rig.until_state(TurnState::Speaking);
    rig.commands.send(Command::SetPersona { system_prompt: "Be kind.".into(), seed: 0 });
    let report = rig.until_ended();
    assert!(!report.cut_off, "the answer is not broken off");
    type_turn(&mut rig, "And now?");
    let asked = rig.stop();
    drop(card);
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
    let (mut rig, card) = start(script(vec![text("First."), tone(0.2, 0)]), extras);
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "bad".into(), llm: None, omni: None }));
    rig.until(
        "the fault",
        |e| matches!(e, Event::State(TurnState::Faulted { why, .. }) if why.to_string().contains("pull them")),
    );
    // Of two wishes the last counts, whatever the first one comes to.
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "bad".into(), llm: None, omni: None }));
    rig.commands.send(Command::UseEngine(EngineSelection { engine: "good".into(), llm: None, omni: None }));
    rig.until_state(TurnState::Listening);
    assert_eq!(type_turn(&mut rig, "Well?").answer, "Good.");
    rig.stop();
    drop(card);
}

#[test]
fn a_conversation_is_kept_reopened_and_replayed() {
    let home = tempfile::tempdir().unwrap();
    let archive = Archive::new(home.path().join("conversations"));
    let extras = |keep| Extras { archive: Some(archive.clone()), keep, engines: None, engine: None };
    let answer = || script(vec![text("It is a tone."), tone(0.6, 50)]);
    let (mut rig, card) = start(answer(), extras(Keep::WordsAndSound));
    card.say(words("sky", RATE));
    rig.until_ended();
    rig.until("the turn to be kept", |e| {
        matches!(e, Event::TurnKept { turn: 1, user_sound: true, answer_sound: true, .. })
    });
    rig.stop();
    drop(card);

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
    let (mut rig, card) = start(answer(), extras(Keep::Nothing));
    rig.until_seen("the conversation", |e| matches!(e, Event::ConversationOpened(turns) if turns.len() == 1));
    rig.commands.send(Command::Replay { turn: 1, side: Side::Assistant });
    rig.until("the replay", |e| matches!(e, Event::Replaying(Some(_))));
    rig.until("its end", |e| *e == Event::Replaying(None));
    assert_eq!(type_turn(&mut rig, "Again?").turn, 2);
    let asked = rig.stop();
    let recording = card.stop();
    assert!(asked.contains(&Recorded::Recalled(vec![past("What is it?", "It is a tone.")])), "{asked:?}");
    let heard = sounding_s(&recording.assistant, RATE);
    assert!((1.1..1.4).contains(&heard), "the replay and the answer, each 0.6 s: {heard} s");
    assert_eq!(archive.newest().unwrap().turns.len(), 1, "the second turn was not to be kept");
}

#[test]
fn kept_conversations_are_told_apart_found_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    let archive = Archive::new(home.path().join("conversations"));
    let extras = Extras { archive: Some(archive.clone()), keep: Keep::Words, engines: None, engine: None };
    let (mut rig, card) = start(script(vec![text("Yes."), tone(0.1, 0)]), extras);
    let kept = |e: &Event| matches!(e, Event::TurnKept { user_sound: false, answer_sound: false, .. });
    type_turn(&mut rig, "Are there birds?");
    rig.until("the first to be kept", kept);
    rig.commands.send(Command::NewConversation);
    type_turn(&mut rig, "Are there trees?");
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
    assert_eq!(type_turn(&mut rig, "And flowers?").turn, 2, "the conversation that is open goes on");
    rig.until("it to be kept", kept);
    assert_eq!(archive.newest().unwrap().turns.len(), 2);
    rig.commands.send(Command::DeleteAllConversations);
    rig.until("the end of all", |e| matches!(e, Event::Conversations { list, open: None, .. } if list.is_empty()));
    rig.stop();
    drop(card);
    assert!(archive.newest().is_none());
}

#[test]
fn a_voice_is_recorded_from_the_microphone_and_is_no_turn() {
    let (mut rig, card) = start(script(vec![text("Yes."), tone(0.1, 0)]), Extras::default());
    rig.until_state(TurnState::Listening);
    rig.commands.send(Command::Voice(VoiceCommand::Record));
    rig.until("the recording to begin", |e| *e == Event::Voice(VoiceEvent::Recording(Some(0.0))));
    card.say(words("sky", RATE));
    let mut said = false;
    rig.until("the words and some silence", |e| {
        said |= matches!(e, Event::Heard { .. } | Event::State(TurnState::Capturing));
        matches!(e, Event::Voice(VoiceEvent::Recording(Some(seconds))) if *seconds > 3.0)
    });
    assert!(!said, "what is recorded is said to nobody");
    rig.commands.send(Command::Voice(VoiceCommand::StopRecording));
    let mut draft = None;
    rig.until("the recording to be checked", |e| {
        if let Event::Voice(VoiceEvent::Checked(checked)) = e {
            draft = Some(checked.clone());
        }
        draft.is_some()
    });
    let draft = draft.unwrap();
    assert!(draft.seconds > 3.0 && draft.seconds < 30.0, "{}", draft.seconds);
    assert_eq!((draft.number, draft.file.as_str()), (1, "microphone"));
    let loudest = draft.peaks.iter().flatten().fold(0f32, |most, peak| most.max(peak.abs()));
    assert!(loudest > 0.05, "the words are in it: {loudest}");
    // Then it listens again.
    assert_eq!(type_turn(&mut rig, "Well?").turn, 1);
    rig.stop();
    drop(card);
}

#[test]
fn the_loudspeaker_is_tried_with_three_notes() {
    let (mut rig, card) = start(script(vec![text("Yes."), tone(0.1, 0)]), Extras::default());
    rig.until_state(TurnState::Listening);
    rig.commands.send(Command::Voice(VoiceCommand::Preview(Sample::Chime)));
    rig.until("the notes", |e| *e == Event::Voice(VoiceEvent::Previewing(true)));
    rig.until("their end", |e| *e == Event::Voice(VoiceEvent::Previewing(false)));
    rig.stop();
    let heard = sounding_s(&card.stop().assistant, RATE);
    assert!((0.5..0.9).contains(&heard), "three notes of 0.28 s: {heard} s");
}
