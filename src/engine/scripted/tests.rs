//! What a script says is what the sink gets.

use super::*;

/// Keeps what it is given.
#[derive(Default)]
struct Sink {
    heard: Mutex<Vec<(String, bool)>>,
    text: Mutex<String>,
    chunks: Mutex<Vec<PcmChunk>>,
    marks: Mutex<Vec<StageMark>>,
    cancel_at_chunk: Option<(usize, CancelToken)>,
}

impl ResponseSink for Sink {
    fn heard(&self, text: &str, is_final: bool) {
        self.heard.lock().unwrap().push((text.to_owned(), is_final));
    }
    fn text(&self, piece: &str) {
        self.text.lock().unwrap().push_str(piece);
    }
    fn audio(&self, chunk: PcmChunk) -> bool {
        let mut chunks = self.chunks.lock().unwrap();
        chunks.push(chunk);
        if let Some((at, cancel)) = &self.cancel_at_chunk
            && chunks.len() == *at
        {
            cancel.cancel();
        }
        true
    }
    fn mark(&self, mark: StageMark) {
        self.marks.lock().unwrap().push(mark);
    }
}

const SCRIPT: &str = r#"
output_rate = 8000
[[turns]]
heard = "What is it?"
delay_ms = 300
[[turns.steps]]
text = { text = "It is ", delay_ms = 20 }
[[turns.steps]]
audio = { sound = { tone = { hz = 100.0 } }, seconds = 0.5, delay_ms = 40 }
[[turns.steps]]
text = { text = "a tone." }
[[turns.steps]]
audio = { sound = { tone = { hz = 100.0 } }, seconds = 0.5, overlap_ms = 50, text_end = 11 }
[[turns]]
heard = ""
[[turns]]
heard = "And now?"
[[turns.steps]]
audio = { sound = { noise = { seed = 1 } }, seconds = 0.1, fault = "nan" }
[[turns.steps]]
audio = { sound = { tone = { hz = 50.0 } }, seconds = 0.1, fault = "clipped" }
[[turns.steps]]
audio = { sound = "silence", seconds = 0.1, fault = "empty" }
[[turns.steps]]
audio = { sound = { samples = [0.5, -0.5] } }
[[turns.steps]]
fail = { message = "the drill" }
[[turns]]
heard = "Boom"
[[turns.steps]]
panic = { message = "the other drill" }
"#;

struct Drill {
    session: Box<dyn EngineSession>,
    record: Record,
    slept: Arc<Mutex<Vec<u128>>>,
}

fn drill() -> Drill {
    let slept = Arc::new(Mutex::new(Vec::new()));
    let log = slept.clone();
    let sleeper: Sleeper = Arc::new(move |time, _| log.lock().unwrap().push(time.as_millis()));
    let mut engine = ScriptedEngine::new(toml::from_str(SCRIPT).unwrap()).with_sleeper(sleeper);
    assert_eq!((engine.info().output_rate, engine.info().max_overlap), (8000, 400));
    let record = engine.record();
    Drill { session: engine.open(&SessionSetup::default()).unwrap(), record, slept }
}

impl Drill {
    fn turn(&mut self, sink: &Arc<Sink>, cancel: &CancelToken) -> Result<ReplyEnd, EngineError> {
        let dynamic: Arc<dyn ResponseSink> = sink.clone();
        self.session.hear(&[0.0; 160], &dynamic).unwrap();
        self.session.respond(&dynamic, cancel)
    }
}

#[test]
fn a_turn_is_played_as_written() {
    let mut drill = drill();
    let sink = Arc::new(Sink::default());
    assert_eq!(drill.turn(&sink, &CancelToken::default()).unwrap(), ReplyEnd::Complete);
    assert_eq!(*sink.heard.lock().unwrap(), [("What is it?".to_owned(), true)]);
    assert_eq!(*sink.text.lock().unwrap(), "It is a tone.");
    assert_eq!(*drill.slept.lock().unwrap(), [300, 20, 40]);
    let chunks = sink.chunks.lock().unwrap();
    let shape: Vec<_> = chunks.iter().map(|c| (c.samples.len(), c.overlap, c.text_end, c.last)).collect();
    assert_eq!(shape, [(4000, 0, 6, false), (4000, 400, 11, true)]);
    // The overlapping parts are the same stretch of the same sine.
    for (a, b) in chunks[0].samples[3600..].iter().zip(&chunks[1].samples[..400]) {
        assert!((a - b).abs() < 1e-5);
    }
    let stages: Vec<Stage> = sink.marks.lock().unwrap().iter().map(|m| m.stage).collect();
    assert_eq!(stages, [Stage::LlmDecode, Stage::TtsDecode, Stage::LlmDecode, Stage::TtsDecode]);
}

#[test]
fn cancelling_stops_at_the_next_step() {
    let mut drill = drill();
    let cancel = CancelToken::default();
    let sink = Arc::new(Sink { cancel_at_chunk: Some((1, cancel.clone())), ..Sink::default() });
    assert_eq!(drill.turn(&sink, &cancel).unwrap(), ReplyEnd::Cancelled);
    assert_eq!(sink.chunks.lock().unwrap().len(), 1);
    assert!(!sink.chunks.lock().unwrap()[0].last);
    drill.session.truncate(6).unwrap();
    let end = drill.record.all().split_off(3);
    assert_eq!(end, [Recorded::Ended(ReplyEnd::Cancelled), Recorded::Truncated(6)]);
}

#[test]
fn retracting_plays_the_same_turn_again_with_what_was_heard() {
    let mut drill = drill();
    let sink = Arc::new(Sink::default());
    let cancel = CancelToken::default();
    cancel.cancel();
    assert_eq!(drill.turn(&sink, &cancel).unwrap(), ReplyEnd::Cancelled);
    assert!(sink.chunks.lock().unwrap().is_empty() && drill.slept.lock().unwrap().is_empty());
    drill.session.retract().unwrap();
    let dynamic: Arc<dyn ResponseSink> = sink.clone();
    assert_eq!(drill.session.respond(&dynamic, &CancelToken::default()).unwrap(), ReplyEnd::Complete);
    assert_eq!(*sink.text.lock().unwrap(), "It is a tone.");
    assert_eq!(drill.record.samples_heard(), 160);
}

#[test]
fn nothing_heard_discarding_and_typing() {
    let mut drill = drill();
    let sink = Arc::new(Sink::default());
    let dynamic: Arc<dyn ResponseSink> = sink.clone();
    let cancel = CancelToken::default();
    // Discarded sound is not answered, and uses up no turn.
    drill.session.hear(&[0.0; 10], &dynamic).unwrap();
    drill.session.discard().unwrap();
    assert_eq!(drill.session.respond(&dynamic, &cancel).unwrap(), ReplyEnd::NothingHeard);
    drill.session.read("Hello?").unwrap();
    assert_eq!(drill.session.respond(&dynamic, &cancel).unwrap(), ReplyEnd::Complete);
    assert_eq!(sink.heard.lock().unwrap().last().unwrap(), &("Hello?".to_owned(), true));
    // The second turn of the script has nothing to hear.
    assert_eq!(drill.turn(&sink, &cancel).unwrap(), ReplyEnd::NothingHeard);
    drill.session.hear(&[0.0; 10], &dynamic).unwrap();
    drill.session.pause(&dynamic, &cancel).unwrap();
    assert_eq!(sink.heard.lock().unwrap().last().unwrap(), &("And now?".to_owned(), false));
}

#[test]
fn faults_come_as_ordered() {
    let mut drill = drill();
    let sink = Arc::new(Sink::default());
    let cancel = CancelToken::default();
    drill.turn(&sink, &cancel).unwrap();
    drill.turn(&sink, &cancel).unwrap();
    sink.chunks.lock().unwrap().clear();
    let failure = drill.turn(&sink, &cancel).unwrap_err();
    assert_eq!(failure.to_string(), "the drill");
    {
        let chunks = sink.chunks.lock().unwrap();
        assert_eq!(chunks[0].samples.iter().filter(|x| x.is_nan()).count(), 1);
        assert!(chunks[1].samples.iter().any(|x| *x > 1.0));
        assert!(chunks[2].samples.is_empty() && !chunks[2].last);
        assert_eq!(chunks[3].samples, [0.5, -0.5]);
        assert!(chunks.iter().all(|c| !c.last), "a reply that fails has no last chunk");
    }
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drill.turn(&sink, &cancel)));
    assert_eq!(caught.unwrap_err().downcast_ref::<String>().unwrap(), "the other drill");
}

#[test]
fn a_real_sleep_ends_when_cancelled() {
    let cancel = CancelToken::default();
    let flag = cancel.clone();
    let waker = std::thread::spawn(move || flag.cancel());
    real_sleep(Duration::from_secs(3600), &cancel);
    waker.join().unwrap();
}

#[test]
fn a_script_with_an_unknown_word_is_refused_by_name() {
    let error = serde_json::from_str::<Script>(r#"{"turns": [{"herd": "moo"}]}"#).unwrap_err().to_string();
    assert!(error.contains("herd"), "{error}");
    let again: Script =
        serde_json::from_str(&serde_json::to_string(&toml::from_str::<Script>(SCRIPT).unwrap()).unwrap()).unwrap();
    assert_eq!(again, toml::from_str::<Script>(SCRIPT).unwrap());
}
