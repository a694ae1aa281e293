//! The window with a recorded conversation instead of a session: to look at it, and to measure what it costs.
//!
//!     cargo run --example window_demo -- [talk | first-run | pulling | loading | fault | idle] [light | dark] [zh]
//!
//! `talk` plays one exchange after the other; the others show their state and stay.

use antiphon::metrics::{Bar, Stage, StageMark, StageReport, TurnReport};
use antiphon::session::event::{
    self, DeviceEntry, DeviceList, Event, EventSink, ModelKind, ModelState, ModelStatus, Outlook, OutlookGpu,
    OutlookWay, PullProgress, PullState, Severity, TurnState,
};
use antiphon::settings::{Interface, Settings, Theme};
use antiphon::time::Micros;
use std::thread;
use std::time::Duration;

fn main() -> Result<(), eframe::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let theme = if has("dark") { Theme::Dark } else { Theme::Light };
    let scene = arguments.first().map_or("talk", String::as_str).to_owned();
    let (sink, source) = event::channel();
    thread::spawn(move || play(&scene, &sink));
    let (commands, _inbox) = std::sync::mpsc::channel();
    let interface = if has("zh") { Interface::Chinese } else { Interface::English };
    antiphon::app::run(commands, source, Settings { theme, interface, ..Settings::default() }, |_| Ok(()))
}

fn play(scene: &str, sink: &EventSink) {
    sink.send(devices());
    let here = !matches!(scene, "first-run" | "pulling");
    sink.send(models(here));
    let engine = Event::EngineReady {
        name: "cascade".into(),
        description: "Whisper base.en · SmolLM2 1.7B Q4_K · Kokoro 82M".into(),
    };
    match scene {
        "first-run" => drop(sink.send(outlook())),
        "pulling" => pull(sink),
        "loading" => load(sink),
        "fault" => {
            exchanges(sink, 2);
            sink.send(Event::State(TurnState::Faulted {
                why: "The language model ran out of memory".into(),
                remedy: "Close other programs, or choose a smaller model under Models.".into(),
            }));
            problem(sink, "The microphone is very quiet", "Raise its level in the system's sound settings.");
        }
        "idle" => {
            sink.send(engine);
            exchanges(sink, 1);
        }
        _ => {
            sink.send(engine);
            exchanges(sink, usize::MAX);
        }
    }
    // The session stays until the window closes.
    loop {
        thread::park();
    }
}

fn problem(sink: &EventSink, what: &str, remedy: &str) {
    sink.send(Event::Problem { what: what.into(), remedy: remedy.into(), severity: Severity::Warning });
}

fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

const SAID: [(&str, &str); 3] = [
    (
        "Why is the sky blue?",
        "Sunlight is a mix of all colours. Air scatters the blue part much more than the red, so blue light reaches your eyes from every direction.",
    ),
    ("你好，你会说中文吗？", "你好！我听得懂一点中文。今天天气很好，我们可以慢慢聊。"),
    (
        "And at sunset?",
        "Then the light crosses far more air. Most of the blue is scattered away on its long path, and what is left is orange and red.",
    ),
];

fn exchanges(sink: &EventSink, count: usize) {
    for turn in 1..=count as u64 {
        let (question, answer) = SAID[(turn as usize - 1) % SAID.len()];
        exchange(sink, turn, question, answer, turn % 3 == 0);
    }
}

fn levels(sink: &EventSink, mic: bool, speaker: bool, step: u64) {
    let wave = ((step as f32 * 0.9).sin() + (step as f32 * 2.3).sin()) * 7.0;
    let db = |on: bool| if on { -22.0 + wave } else { -75.0 };
    sink.send(Event::Levels { mic_db: db(mic), speaker_db: db(speaker) });
}

fn exchange(sink: &EventSink, turn: u64, question: &str, answer: &str, cut_off: bool) {
    sink.send(Event::State(TurnState::Listening));
    pause(800);
    sink.send(Event::State(TurnState::Capturing));
    let ends: Vec<usize> = question.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    for step in 0..30 {
        levels(sink, true, false, step);
        let end = ends[(ends.len() - 1) * step as usize / 29];
        sink.send(Event::Heard { turn, text: question[..end].into(), is_final: false });
        pause(50);
    }
    levels(sink, false, false, 0);
    sink.send(Event::State(TurnState::MaybeDone));
    pause(300);
    sink.send(Event::Heard { turn, text: question.into(), is_final: true });
    sink.send(Event::State(TurnState::Thinking));
    pause(600);
    let (report, bars) = report(turn, question, answer, cut_off);
    for bar in &bars {
        let at = |ms: f64| Micros(((ms + 1000.0) * 1000.0) as u64);
        let (start, end) = (at(bar.start_ms), at(bar.end_ms));
        sink.send(Event::Mark(StageMark { epoch: turn, stage: bar.stage, start, end, units: 12 }));
    }
    sink.send(Event::State(TurnState::Speaking));
    let pieces: Vec<&str> = answer.split_inclusive([' ', '，', '。', '！']).collect();
    let (mut told, mut bytes) = (0, 0);
    let heard = if cut_off { pieces.len() / 2 } else { pieces.len() };
    for (step, piece) in pieces.iter().take(heard).enumerate() {
        while told < (step + 6).min(pieces.len()) {
            sink.send(Event::Answer { turn, piece: pieces[told].into() });
            told += 1;
        }
        for fine in 0..5 {
            levels(sink, false, true, step as u64 * 5 + fine);
            pause(50);
        }
        bytes += piece.len();
        sink.send(Event::Spoken { turn, bytes });
    }
    levels(sink, false, false, 0);
    sink.send(Event::TurnEnded { report: Box::new(report), bars });
    sink.send(Event::Counters { xruns: 0, starvation: turn / 4, lost_capture: 0, queued_ms: 0.0 });
    sink.send(Event::State(TurnState::Listening));
}

fn report(turn: u64, question: &str, answer: &str, cut_off: bool) -> (TurnReport, Vec<Bar>) {
    let shift = (turn % 5) as f64 * 14.0;
    let bar = |stage, start_ms: f64, end_ms: f64| Bar { stage, start_ms, end_ms };
    let mut bars = vec![
        bar(Stage::Vad, -800.0, 320.0),
        bar(Stage::EndOfTurn, 200.0, 226.0),
        bar(Stage::AudioEncode, 60.0, 180.0),
        bar(Stage::Stt, 180.0, 260.0 + shift),
        bar(Stage::LlmPrefill, 262.0 + shift, 330.0 + shift),
        bar(Stage::LlmDecode, 330.0 + shift, 470.0 + shift),
        bar(Stage::LlmDecode, 520.0 + shift, 900.0),
    ];
    for i in 0..4 {
        let start = 475.0 + shift + f64::from(i) * 260.0;
        bars.push(bar(Stage::TtsDecode, start, start + 105.0));
        bars.push(bar(Stage::Vocoder, start + 105.0, start + 130.0));
    }
    bars.push(bar(Stage::PlaybackBuffer, 606.0 + shift, 625.0 + shift));
    let spoken_bytes = if cut_off {
        answer.split_inclusive(' ').take(answer.split(' ').count() / 2).map(str::len).sum()
    } else {
        answer.len()
    };
    let report = TurnReport {
        turn,
        heard: question.into(),
        answer: answer.into(),
        spoken_bytes,
        cut_off,
        ttfa_ms: Some(628.0 + shift),
        ttfa_compute_ms: Some(402.0 + shift),
        end_of_turn_ms: Some(226.0),
        rtf: Some(0.31 + shift / 500.0),
        speech_seconds: 6.4,
        stages: vec![StageReport {
            stage: Stage::Stt,
            total_ms: 80.0,
            count: 1,
            units: 1,
            first_start_ms: 180.0,
            last_end_ms: 260.0,
        }],
        ..TurnReport::default()
    };
    (report, bars)
}

fn devices() -> Event {
    let entry = |id: &str, name: &str| DeviceEntry { id: id.into(), name: name.into() };
    Event::Devices {
        input: DeviceList {
            available: vec![entry("mic", "Built-in microphone"), entry("usb", "USB headset with a rather long name")],
            chosen: None,
            open: Some("Built-in microphone".into()),
            rate: Some(48_000),
            buffer_ms: Some(10),
            telephone: false,
        },
        output: DeviceList {
            available: vec![entry("out", "Built-in loudspeakers")],
            chosen: Some("out".into()),
            open: Some("Built-in loudspeakers".into()),
            rate: Some(48_000),
            buffer_ms: Some(10),
            telephone: false,
        },
    }
}

fn outlook() -> Event {
    let way = |name: &str, bytes, fits| OutlookWay { name: name.into(), bytes, fits };
    Event::Outlook(Outlook {
        memory: 32_000_000_000,
        disk_free: Some(212_000_000_000),
        gpu: Some(OutlookGpu { name: "NVIDIA GeForce RTX 4080".into(), memory: 17_000_000_000, usable: true }),
        ways: vec![
            way("bf16", 18_100_000_000, false),
            way("q8_0", 11_300_000_000, true),
            way("q4_k", 7_800_000_000, true),
        ],
    })
}

fn models(here: bool) -> Event {
    let model = |id: &str, title: &str, purpose: &str, licence: &str, megabytes: u64, state, needed| ModelStatus {
        id: id.into(),
        title: title.into(),
        purpose: purpose.into(),
        licence: licence.into(),
        bytes: megabytes * 1_000_000,
        memory: megabytes * 1_600_000,
        state,
        needed,
        thinks: id == "llm",
        terms: None,
        kind: ModelKind::Starter,
    };
    let state = |or| if here { ModelState::Ready } else { or };
    Event::Models(vec![
        model(
            "stt",
            "Whisper base.en",
            "hears English",
            "MIT",
            145,
            state(ModelState::Partial { have: 60_000_000 }),
            true,
        ),
        model("llm", "SmolLM2 1.7B Instruct", "thinks", "Apache-2.0", 1060, state(ModelState::Absent), true),
        model("tts", "Kokoro 82M", "speaks", "Apache-2.0", 330, state(ModelState::Absent), true),
        model(
            "omni",
            "MiniCPM-o 2.6",
            "hears, thinks and speaks",
            "MiniCPM licence",
            17_000,
            ModelState::Absent,
            false,
        ),
    ])
}

fn pull(sink: &EventSink) {
    let total = 1_475_000_000;
    for step in 0..=400 {
        let done = 60_000_000 + (total - 60_000_000) * step / 400;
        let progress =
            PullProgress { id: "llm".into(), state: PullState::Fetching, done, total, bytes_per_second: 8.4e6 };
        sink.send(Event::Pull(progress));
        pause(100);
    }
}

fn load(sink: &EventSink) {
    sink.send(Event::State(TurnState::Loading));
    for step in 0..=300 {
        let fraction = Some(step as f32 / 300.0);
        sink.send(Event::EngineLoading { what: "SmolLM2 1.7B Instruct".into(), fraction });
        pause(100);
    }
}
