//! The reducer, with streams of events as a session sends them.

use super::*;
use crate::metrics::StageMark;

fn after(events: impl IntoIterator<Item = Event>) -> ViewState {
    let mut view = ViewState::default();
    for (i, event) in events.into_iter().enumerate() {
        view.apply(event, Micros(i as u64 * 1000));
    }
    view
}

fn heard(turn: u64, text: &str, is_final: bool) -> Event {
    Event::Heard { turn, text: text.into(), is_final }
}

fn answer(turn: u64, piece: &str) -> Event {
    Event::Answer { turn, piece: piece.into() }
}

fn ended(turn: u64, answer: &str, spoken_bytes: usize, cut_off: bool) -> Event {
    let report = TurnReport {
        turn,
        answer: answer.into(),
        spoken_bytes,
        cut_off,
        ttfa_ms: Some(500.0 + turn as f64),
        ttfa_compute_ms: Some(200.0),
        rtf: None,
        ..TurnReport::default()
    };
    Event::TurnEnded { report: Box::new(report), bars: Vec::new() }
}

#[test]
fn words_come_sound_and_are_cut_off() {
    let mut events = vec![
        Event::State(TurnState::Capturing),
        heard(1, "what is", false),
        heard(1, "What is it?", true),
        Event::State(TurnState::Thinking),
        answer(1, "It is "),
        answer(1, "a tree."),
        Event::State(TurnState::Speaking),
        Event::Spoken { turn: 1, bytes: 6 },
        Event::Spoken { turn: 1, bytes: 3 },
    ];
    let view = after(events.clone());
    let turn = &view.turns[0];
    assert_eq!((turn.heard.as_str(), turn.heard_final), ("What is it?", true));
    assert_eq!(turn.answer_parts(), ("It is ", "a tree."));
    assert!(!turn.ended && view.can_interrupt());
    assert_eq!((view.state.clone(), view.since), (TurnState::Speaking, Micros(6000)));

    events.extend([ended(1, "It is a tree.", 8, true), answer(1, " late"), Event::State(TurnState::Listening)]);
    let view = after(events);
    let turn = &view.turns[0];
    assert_eq!(turn.answer_parts(), ("It is a ", "tree."));
    assert!(turn.ended && turn.cut_off && !view.can_interrupt());
    assert_eq!((view.turns.len(), turn.ttfa_ms, view.meters.ttfa.last()), (1, Some(501.0), Some(501.0)));
    assert_eq!(view.meters.rtf.last(), None);
}

#[test]
fn a_count_of_bytes_inside_a_character_does_not_tear_it() {
    let view = after([answer(1, "你好吗"), Event::Spoken { turn: 1, bytes: 4 }]);
    assert_eq!(view.turns[0].answer_parts(), ("你", "好吗"));
    // More than there is, and a report that counts into a character.
    let view = after([answer(1, "好"), Event::Spoken { turn: 1, bytes: 99 }]);
    assert_eq!(view.turns[0].answer_parts(), ("好", ""));
    let view = after([ended(1, "你好", 5, true)]);
    assert_eq!(view.turns[0].answer_parts(), ("你", "好"));
}

#[test]
fn turns_are_kept_apart_bounded_and_cleared() {
    let view = after((1..=250).flat_map(|turn| [heard(turn, "a", true), answer(turn, "b")]));
    assert_eq!((view.turns.len(), view.turns[0].turn, view.turns[199].turn), (TURNS_SHOWN, 51, 250));
    let view = after([heard(1, "a", true), heard(2, "b", true), answer(1, "late"), Event::ConversationCleared]);
    assert!(view.turns.is_empty());
}

#[test]
fn marks_fill_the_figures_of_their_stage() {
    let mark =
        |stage, ms: u64| Event::Mark(StageMark { epoch: 1, stage, start: Micros(0), end: Micros(ms * 1000), units: 1 });
    let view = after([mark(Stage::Stt, 40), mark(Stage::LlmDecode, 10), mark(Stage::LlmDecode, 30)]);
    assert_eq!(view.meters.stages.keys().copied().collect::<Vec<_>>(), [Stage::Stt, Stage::LlmDecode]);
    let decode = &view.meters.stages[&Stage::LlmDecode];
    assert_eq!((decode.last(), decode.p50()), (Some(30.0), Some(20.0)));
}

#[test]
fn an_engine_loads_is_ready_and_fails() {
    let mut view = after([
        Event::State(TurnState::Loading),
        Event::EngineLoading { what: "language model".into(), fraction: Some(7.0) },
    ]);
    assert_eq!(view.loading, Some(LoadingView { what: "language model".into(), fraction: Some(1.0) }));
    assert!(!view.can_talk());
    view.apply(Event::EngineReady { name: "cascade".into(), description: "d".into() }, Micros(0));
    view.apply(Event::State(TurnState::Listening), Micros(9));
    assert!(view.loading.is_none() && view.can_talk());
    view.apply(Event::State(TurnState::Faulted { why: "x".into(), remedy: "y".into() }), Micros(10));
    assert!(!view.can_talk());
    view.apply(Event::State(TurnState::Degraded { why: vec!["no microphone".into()] }), Micros(11));
    assert!(view.can_talk(), "typing still works");
    view.session_lost();
    assert!(!view.can_talk());
}

#[test]
fn what_is_missing_is_what_is_needed_and_not_here() {
    let model = |id: &str, state, needed| ModelStatus {
        id: id.into(),
        title: id.into(),
        purpose: "".into(),
        licence: String::new(),
        bytes: 1000,
        memory: 2000,
        state,
        needed,
        thinks: false,
        terms: None,
        kind: ModelKind::Other,
    };
    let view = after([Event::Models(vec![
        model("ready", ModelState::Ready, true),
        model("part", ModelState::Partial { have: 400 }, true),
        model("none", ModelState::Absent, true),
        model("other", ModelState::Absent, false),
    ])]);
    assert_eq!(view.missing(), (vec!["part".to_owned(), "none".to_owned()], 1600));
}

#[test]
fn problems_are_shown_once_notes_pass_and_errors_outlast_them() {
    let problem = |what: &str, severity| Event::Problem { what: what.into(), remedy: "r".into(), severity };
    let mut view = after([
        problem("e1", Severity::Error),
        problem("n", Severity::Note),
        problem("e1", Severity::Error),
        problem("w", Severity::Warning),
        problem("e2", Severity::Error),
    ]);
    let names = |view: &ViewState| view.problems.iter().map(|p| p.what.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&view), ["e1", "w", "e2"]);
    view.apply(problem("n2", Severity::Note), Micros(1_000_000));
    assert_eq!(names(&view), ["e1", "e2", "n2"]);
    assert_eq!(view.expire_notes(Micros(4_000_000)), Some(Duration::from_secs(5)));
    assert_eq!(view.expire_notes(Micros(9_000_000)), None);
    assert_eq!(names(&view), ["e1", "e2"]);
    view.dismiss(0);
    view.dismiss(7);
    assert_eq!(names(&view), ["e2"]);
}

#[test]
fn the_time_left_is_known_once_the_speed_is() {
    let pull = |bytes_per_second| PullProgress {
        id: "m".into(),
        state: PullState::Fetching,
        done: 400,
        total: 1000,
        bytes_per_second,
    };
    assert_eq!(time_left(&pull(0.0)), None);
    assert_eq!(time_left(&pull(200.0)), Some(Duration::from_secs(3)));
    assert_eq!(time_left(&pull(f64::NAN)), None);
}

#[test]
fn a_kept_conversation_comes_back_with_its_turns() {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let kept = |turn, cut_off| KeptTurnView {
        turn,
        at,
        heard: "What is it?".into(),
        question_seconds: None,
        answer: "“é” is a letter.".into(),
        spoken_bytes: 4,
        cut_off,
        ttfa_ms: None,
        user_sound: false,
        answer_sound: true,
    };
    let entry = ConversationEntry { id: "c".into(), began: at, title: "What is it?".into(), turns: 2 };
    let list = Event::Conversations { query: "it".into(), list: vec![entry], open: Some("c".into()) };
    let opened = Event::ConversationOpened(vec![kept(3, false), kept(4, true)]);
    let mut events = vec![heard(1, "before", true), list, opened];
    let view = after(events.clone());
    assert_eq!(view.turns.iter().map(|turn| turn.turn).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(view.turns[1].answer_parts().0, "“", "never inside a character");
    assert!(view.turns[0].ended && view.turns[0].answer_sound && !view.turns[0].user_sound);
    assert_eq!((view.history.query.as_str(), view.history.open.as_deref()), ("it", Some("c")));

    // The next turn follows; it can be replayed once it is kept, and not by mistake after it was cleared away.
    let told = Event::TurnKept { turn: 5, at, user_sound: true, answer_sound: true };
    events.extend([heard(5, "and", true), ended(5, "So.", 3, false), told.clone()]);
    let view = after(events.clone());
    assert!(view.turns[2].user_sound && view.turns[2].at == Some(at));
    events.extend([Event::ConversationCleared, told]);
    assert!(after(events).turns.is_empty());
}

#[test]
fn a_replay_can_be_interrupted() {
    let replay = Some(Replay { turn: 1, side: crate::conversation::Side::User });
    let view = after([Event::State(TurnState::Listening), Event::Replaying(replay)]);
    assert!(view.can_interrupt() && view.replaying == replay);
    assert!(!after([Event::Replaying(replay), Event::Replaying(None)]).can_interrupt());
}

#[test]
fn a_missing_device_is_told_by_one_banner() {
    let problem = |what: &str| Event::Problem { what: what.into(), remedy: "r".into(), severity: Severity::Warning };
    let mut view = after([problem("there is no microphone"), problem("the disk is full")]);
    assert!(view.problems.iter().all(|p| !view.state_says(p)), "nothing else says so while the engine is loading");
    let why = vec!["there is no microphone".into(), "there is no loudspeaker".into()];
    view.apply(Event::State(TurnState::Degraded { why }), Micros(9));
    let left: Vec<String> = view.problems.iter().filter(|p| !view.state_says(p)).map(|p| p.what.to_string()).collect();
    assert_eq!(left, ["the disk is full"]);
}

#[test]
fn what_is_wrong_with_a_device_is_told_once_and_no_more_when_it_is_back() {
    let about = |key, direction| Told::new(key, key).about(direction);
    let problem = |what: Told, severity| Event::Problem { what, remedy: "r".into(), severity };
    let mut view = after([
        problem(about("sound-gone", Direction::Input), Severity::Warning),
        problem(about("sound-gone", Direction::Output), Severity::Warning),
        problem("the disk is full".into(), Severity::Error),
    ]);
    let why = vec![about("audio-no-device", Direction::Input)];
    view.apply(Event::State(TurnState::Degraded { why }), Micros(9));
    let shown = |view: &ViewState| {
        let left = view.problems.iter().filter(|p| !view.state_says(p));
        left.map(|p| (p.what.to_string(), p.what.device())).collect::<Vec<_>>()
    };
    let output = ("sound-gone".to_owned(), Some(Direction::Output));
    let disk = ("the disk is full".to_owned(), None);
    assert_eq!(shown(&view), [output.clone(), disk.clone()]);
    let open = |name: Option<&str>| DeviceList { open: name.map(str::to_owned), ..DeviceList::default() };
    view.apply(Event::Devices { input: open(Some("mic")), output: open(None) }, Micros(10));
    // Only the newest of the devices that took over from one another is still true.
    for name in ["headset", "mic"] {
        view.apply(problem(about("sound-now", Direction::Input).with("name", name), Severity::Note), Micros(10));
    }
    view.apply(Event::State(TurnState::Listening), Micros(11));
    let now = ("sound-now".to_owned(), Some(Direction::Input));
    assert_eq!(shown(&view), [output, disk.clone(), now.clone()]);
    view.apply(Event::Devices { input: open(Some("mic")), output: open(Some("speaker")) }, Micros(12));
    assert_eq!(shown(&view), [disk, now]);
}

#[test]
fn an_interruption_is_in_the_meters_and_an_answer_to_its_end_is_not() {
    let end = |turn, barge_in_stop_ms| {
        let report = TurnReport { turn, barge_in_stop_ms, ..TurnReport::default() };
        Event::TurnEnded { report: Box::new(report), bars: Vec::new() }
    };
    let view = after([end(1, Some(31.0)), end(2, None), end(3, Some(45.0)), end(4, None)]);
    let stops: Vec<f64> = view.meters.barge_in_stop.newest(9).collect();
    assert_eq!(stops, [31.0, 45.0]);
    assert_eq!(view.meters.last.unwrap().barge_in_stop_ms, None);
}

#[test]
fn a_question_that_is_not_written_down_is_known_by_its_length() {
    let view = after([Event::HeardSound { turn: 1, seconds: 2.13 }, answer(1, "Yes.")]);
    let question = |view: &ViewState| (view.turns[0].heard.clone(), view.turns[0].question_seconds);
    assert_eq!((question(&view), view.turns[0].heard_final), ((String::new(), Some(2.13)), true));
    // Also when only the report tells.
    let report = TurnReport { turn: 1, question_seconds: Some(0.9), ..TurnReport::default() };
    let view = after([Event::TurnEnded { report: Box::new(report), bars: Vec::new() }]);
    assert_eq!(question(&view), (String::new(), Some(0.9)));
}
