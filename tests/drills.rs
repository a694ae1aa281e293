//! Drills with a real sound service: microphone and loudspeaker are pulled out and put back while the user speaks, while
//! the assistant speaks and while nobody does; the service is killed, started again, frozen and thawed. The whole of the
//! program but its window, with a scripted engine for speed; what it plays is recorded outside of it.
//!
//! One test, because the service's address is in the environment, of which a process has one. While anything is wrong the
//! program answers what it is asked, and takes less than 5 % of a core.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "says what the drill is at, for whoever reads a failure")]

mod common;
mod lab;

use antiphon::audio::CardChoice;
use antiphon::metrics::TurnReport;
use antiphon::session::CardSource;
use antiphon::session::command::Command;
use antiphon::session::event::{Event, TurnState};
use anyhow::Result;
use common::rig::{Rig, script, sounding_s, text, tone};
use lab::sound::{Lab, Plug};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Seconds of the scripted answer.
const ANSWER_S: f64 = 2.0;
/// Of one core.
const MOST_CPU: f64 = 0.05;

struct Drill {
    lab: Lab,
    rig: Rig,
    /// The names of the usual microphone and loudspeaker.
    usual: (String, String),
}

impl Drill {
    /// What is open now.
    fn open(&mut self) -> (Option<String>, Option<String>) {
        self.rig.drain();
        let last = self.rig.seen.iter().rev().find_map(|e| match e {
            Event::Devices { input, output } => Some((input.open.clone(), output.open.clone())),
            _ => None,
        });
        last.unwrap_or_default()
    }

    fn until_open(&mut self, what: &str, is_it: impl Fn(&Option<String>, &Option<String>) -> bool) {
        let start = Instant::now();
        loop {
            let (input, output) = self.open();
            if is_it(&input, &output) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no {what}: {input:?} {output:?}; {:#?}", self.rig.seen);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_usual(&mut self) {
        let (mic, speaker) = self.usual.clone();
        self.until_open("usual devices", |input, output| {
            input.as_ref() == Some(&mic) && output.as_ref() == Some(&speaker)
        });
        let start = Instant::now();
        while self.state() != TurnState::Listening {
            assert!(start.elapsed() < Duration::from_secs(60), "not listening: {:#?}", self.rig.seen);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The state as the window shows it.
    fn state(&mut self) -> TurnState {
        self.rig.drain();
        let state =
            self.rig.seen.iter().rev().find_map(|e| if let Event::State(s) = e { Some(s.clone()) } else { None });
        state.unwrap_or_default()
    }

    /// Asks in writing; the words come back at once, whatever the sound service does.
    fn ask(&mut self) {
        self.rig.drain();
        self.rig.commands.send(Command::SendText("Well?".into()));
        self.rig.until("the question", |e| matches!(e, Event::Heard { text, .. } if text == "Well?"));
    }

    fn ask_and_hear(&mut self) {
        self.ask();
        self.rig.until_state(TurnState::Speaking);
        std::thread::sleep(Duration::from_millis(500));
    }

    fn whole(&self, report: &TurnReport) {
        assert_eq!((report.cut_off, report.spoken_bytes), (false, report.answer.len()), "{report:?}");
    }

    /// A question in writing is answered aloud: the sound is heard outside.
    fn speaks(&mut self) -> Result<()> {
        let recorder = self.lab.recorder()?;
        self.ask();
        let report = self.rig.until_ended();
        self.whole(&report);
        std::thread::sleep(Duration::from_millis(300));
        let recording = recorder.stop();
        let heard = sounding_s(&recording.answer, recording.rate);
        assert!((ANSWER_S - 0.3..ANSWER_S + 0.5).contains(&heard), "{heard} s of {ANSWER_S} s were heard outside");
        Ok(())
    }

    /// A spoken question is heard and answered.
    fn hears(&mut self) -> Result<()> {
        self.lab.say(&question())?;
        self.rig.until_state(TurnState::Speaking);
        let report = self.rig.until_ended();
        self.whole(&report);
        Ok(())
    }

    /// What this process takes of a core, over some seconds.
    fn cpu(&self) -> f64 {
        let (before, start) = (cpu_seconds(), Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        (cpu_seconds() - before) / start.elapsed().as_secs_f64()
    }

    /// The answer under way breaks off, the user is told, what is typed is answered in text, and the wait for sound costs
    /// next to nothing. `how`: what the sound service is like.
    fn does_without_sound(&mut self, how: &str) {
        assert!(self.rig.until_ended().cut_off);
        let why = self.rig.until_degraded();
        self.ask();
        let report = self.rig.until_ended();
        self.whole(&report);
        let cpu = self.cpu();
        println!("{how}: {:.2} % of a core; it says: {why}", cpu * 100.0);
        assert!(cpu < MOST_CPU, "{:.1} % of a core {how}", cpu * 100.0);
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel tells these in hundredths of a second on every architecture of today (USER_HZ).
    ticks as f64 / 100.0
}

fn question() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/question.wav")
}

#[test]
fn the_conversation_survives_its_sound_service() -> Result<()> {
    let lab = Lab::start()?;
    lab.adopt();
    let steps = (0..4).flat_map(|_| [text("word "), tone(0.5, 30)]).collect();
    let rig = Rig::on(CardSource::Devices(CardChoice::both()), script(steps));
    let mut drill = Drill { lab, rig, usual: Default::default() };
    drill.until_open("devices", |input, output| input.is_some() && output.is_some());
    let (mic, speaker) = drill.open();
    drill.usual = (mic.unwrap(), speaker.unwrap());
    drill.speaks()?;
    drill.hears()?;

    hung_window(&mut drill)?;
    microphone(&mut drill)?;
    loudspeaker(&mut drill)?;
    killed(&mut drill)?;
    frozen(&mut drill)?;

    let history = drill.rig.session.stop();
    assert!(history.exchanges().len() >= 14, "the conversation was kept: {:?}", history.exchanges());
    Ok(())
}

/// The window thread hangs for two seconds while the assistant speaks: nobody takes an event.
fn hung_window(drill: &mut Drill) -> Result<()> {
    println!("the window hangs while the assistant speaks");
    let recorder = drill.lab.recorder()?;
    drill.ask();
    drill.rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_secs(2));
    let report = drill.rig.until_ended();
    drill.whole(&report);
    std::thread::sleep(Duration::from_millis(300));
    let recording = recorder.stop();
    let heard = sounding_s(&recording.answer, recording.rate);
    println!("{} xruns, {} starvations, {heard} s heard", report.xruns, report.starvation_events);
    assert_eq!(report.starvation_events, 0, "{report:?}");
    assert!((ANSWER_S - 0.1..ANSWER_S + 0.2).contains(&heard), "{heard} s of {ANSWER_S} s were heard outside");
    Ok(())
}

fn microphone(drill: &mut Drill) -> Result<()> {
    println!("the microphone, while nobody speaks");
    drill.lab.unplug(Plug::Microphone)?;
    let why = drill.rig.until_degraded();
    assert!(why.contains("microphone"), "{why}");
    drill.speaks()?;
    drill.lab.plug(Plug::Microphone)?;
    drill.until_usual();
    drill.hears()?;

    println!("the microphone, while the user speaks");
    let turns = drill.rig.ended();
    std::thread::scope(|scope| -> Result<()> {
        // What is said is lost with the microphone.
        let said = scope.spawn(|| question_into("mouth"));
        drill.rig.until_state(TurnState::Capturing);
        drill.lab.unplug(Plug::Microphone)?;
        assert!(drill.rig.until_ended().cut_off);
        said.join().unwrap()
    })?;
    assert_eq!(drill.rig.ended(), turns + 1);
    drill.lab.plug(Plug::Microphone)?;
    drill.until_usual();
    drill.hears()?;

    println!("the microphone, while the assistant speaks");
    drill.ask_and_hear();
    drill.lab.unplug(Plug::Microphone)?;
    let report = drill.rig.until_ended();
    drill.whole(&report);
    drill.lab.plug(Plug::Microphone)?;
    drill.until_usual();
    Ok(())
}

/// Speaks the question into a sink of the lab, whose address is in the environment.
fn question_into(sink: &str) -> Result<()> {
    lab::process::tool("paplay", &[], ["-d", sink, &question().to_string_lossy()]).map(drop)
}

fn loudspeaker(drill: &mut Drill) -> Result<()> {
    println!("the loudspeaker, while nobody speaks");
    let usual = drill.usual.1.clone();
    drill.lab.unplug(Plug::Loudspeaker)?;
    drill.until_open("spare loudspeaker", |_, output| output.as_ref().is_some_and(|o| *o != usual));
    drill.ask();
    let report = drill.rig.until_ended();
    drill.whole(&report);
    drill.lab.plug(Plug::Loudspeaker)?;
    drill.until_usual();
    drill.speaks()?;

    println!("the loudspeaker, while the assistant speaks");
    drill.ask_and_hear();
    drill.lab.unplug(Plug::Loudspeaker)?;
    let report = drill.rig.until_ended();
    drill.whole(&report);
    drill.lab.plug(Plug::Loudspeaker)?;
    drill.until_usual();

    println!("the loudspeaker comes back while the assistant speaks");
    drill.lab.unplug(Plug::Loudspeaker)?;
    drill.until_open("spare loudspeaker", |_, output| output.as_ref().is_some_and(|o| *o != usual));
    drill.ask_and_hear();
    drill.lab.plug(Plug::Loudspeaker)?;
    let report = drill.rig.until_ended();
    drill.whole(&report);
    drill.until_usual();
    drill.speaks()
}

fn killed(drill: &mut Drill) -> Result<()> {
    println!("the sound service is killed while the assistant speaks");
    drill.ask_and_hear();
    drill.lab.kill()?;
    drill.does_without_sound("without a sound service");
    drill.lab.restart()?;
    drill.until_usual();
    drill.speaks()?;
    drill.hears()?;

    println!("the sound service is killed while nobody speaks, and started again at once");
    drill.lab.kill()?;
    drill.lab.restart()?;
    drill.rig.until_degraded();
    drill.until_usual();
    drill.speaks()
}

fn frozen(drill: &mut Drill) -> Result<()> {
    println!("the sound service freezes while the assistant speaks");
    drill.ask_and_hear();
    drill.lab.freeze()?;
    drill.does_without_sound("with a frozen sound service");
    drill.lab.thaw()?;
    drill.until_usual();
    drill.speaks()?;
    drill.hears()
}
