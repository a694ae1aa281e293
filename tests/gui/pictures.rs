//! Pictures of the window at two sizes and in two themes, compared with those in `tests/gui/pictures`. When the window is
//! to look different: `UPDATE_SNAPSHOTS=1 cargo test --test gui pictures`, and look at them.

use crate::first_run::{devices, omni, outlook};
use crate::raster::Raster;
use crate::window::{Window, answer, model};
use antiphon::metrics::{Bar, Stage, StageMark, TurnReport};
use antiphon::session::event::{Event, ModelState, PullProgress, PullState, Severity, TurnState};
use antiphon::settings::{Settings, Theme};
use antiphon::time::Micros;
use egui_kittest::{SnapshotOptions, SnapshotResults};

/// Pixels that may differ: corners of curves, whose sines differ in the last bit between machines.
const FRAYED: usize = 40;

fn picture(name: &str, events: &dyn Fn() -> Vec<Event>) {
    let options = SnapshotOptions::new().output_path("tests/gui/pictures").max_failed_pixels(FRAYED);
    let mut results = SnapshotResults::new();
    for (size, of_size) in [([1100.0, 760.0], "wide"), ([640.0, 480.0], "small")] {
        for (theme, of_theme) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
            let settings = Settings { theme, ..Settings::default() };
            let mut window = Window::drawn(settings, size, Raster::default());
            window.tell(events());
            // Past the end of every animation.
            window.harness.run_steps(8);
            window.harness.snapshot_options(format!("{name}-{of_size}-{of_theme}"), &options);
            results.extend_harness(&mut window.harness);
        }
    }
}

#[test]
fn the_first_steps_look_as_they_did() {
    picture("first-steps", &|| {
        let pull = PullProgress {
            id: "a".into(),
            state: PullState::Fetching,
            done: 312_000_000,
            total: 1_300_000_000,
            bytes_per_second: 8.4e6,
        };
        vec![
            devices(),
            Event::Models(vec![model("a", ModelState::Partial { have: 31_000_000 }), omni(None)]),
            Event::State(TurnState::Faulted { why: "not here".into(), remedy: "get it".into() }),
            outlook(Some((16, true))),
            Event::Pull(pull),
            Event::Levels { mic_db: -24.0, speaker_db: -90.0 },
        ]
    });
}

#[test]
fn a_conversation_looks_as_it_did() {
    picture("conversation", &|| {
        let mut events = vec![
            devices(),
            Event::EngineReady { name: "cascade".into(), description: "Whisper · Qwen2.5 · Piper".into() },
            Event::State(TurnState::Speaking),
        ];
        let mark = |stage, ms: u64| {
            Event::Mark(StageMark { epoch: 1, stage, start: Micros(0), end: Micros(ms * 1000), units: 12 })
        };
        let stages = [(Stage::Stt, 120), (Stage::LlmPrefill, 90), (Stage::LlmDecode, 210), (Stage::Vocoder, 60)];
        events.extend(stages.map(|(stage, ms)| mark(stage, ms)));
        events.extend(answer(
            1,
            "Why is the sky blue?",
            &["Air scatters blue light more than red. ", "So it is blue."],
        ));
        let report = TurnReport {
            turn: 1,
            heard: "Why is the sky blue?".into(),
            answer: "Air scatters blue light more than red. So it is blue.".into(),
            spoken_bytes: 39,
            cut_off: true,
            ttfa_ms: Some(612.0),
            ttfa_compute_ms: Some(400.0),
            rtf: Some(0.25),
            ..TurnReport::default()
        };
        let bar = |stage, start_ms, end_ms| Bar { stage, start_ms, end_ms };
        let bars = vec![
            bar(Stage::Stt, 0.0, 120.0),
            bar(Stage::LlmPrefill, 200.0, 290.0),
            bar(Stage::LlmDecode, 290.0, 500.0),
            bar(Stage::Vocoder, 500.0, 612.0),
        ];
        events.push(Event::TurnEnded { report: Box::new(report), bars });
        events.extend(answer(
            2,
            "你好，今天天气怎么样？",
            &["And at sunset it is ", "red, because the way through the air is long."],
        ));
        events.extend([Event::Spoken { turn: 2, bytes: 20 }, Event::Levels { mic_db: -70.0, speaker_db: -18.0 }]);
        events
    });
}

#[test]
fn trouble_looks_as_it_did() {
    picture("trouble", &|| {
        let mut events = vec![
            Event::EngineReady { name: "cascade".into(), description: "Whisper · Qwen2.5 · Piper".into() },
            Event::State(TurnState::Faulted {
                why: "The model ran out of memory".into(),
                remedy: "Close programs.".into(),
            }),
            Event::Problem {
                what: "The microphone is very quiet".into(),
                remedy: "Raise its level in the sound settings.".into(),
                severity: Severity::Warning,
            },
        ];
        events.extend(answer(1, "What is it?", &["It is a tree."]));
        events
    });
}
