//! Devices that come, go, change, freeze, are busy or forbidden, in the middle of a conversation: simulated ones, so that
//! every moment can be chosen. The same with a real sound service is in `drills.rs`.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use antiphon::audio::{AudioError, CardChoice, DeviceId, Direction};
use antiphon::engine::scripted::{Script, Step};
use antiphon::session::CardSource;
use antiphon::session::command::Command;
use antiphon::session::event::{Event, TurnState};
use common::desk::Desk;
use common::rig::{Rig, largest_step, script, sounding_s, text, tone, words};
use std::sync::Arc;
use std::time::Duration;

fn sit_down(desk: &Desk, script: Script) -> Rig {
    choose(desk, CardChoice::both(), script)
}

fn choose(desk: &Desk, choice: CardChoice, script: Script) -> Rig {
    let mut rig = Rig::on(CardSource::Supply(Arc::new(desk.clone()), choice), script);
    rig.until_open("open devices", |input, output| input.is_some() && output.is_some());
    rig
}

trait UntilOpen {
    fn until_open(&mut self, what: &str, is_it: impl Fn(Option<&str>, Option<&str>) -> bool);
}

impl UntilOpen for Rig {
    /// Waits until the open microphone and loudspeaker are such.
    fn until_open(&mut self, what: &str, is_it: impl Fn(Option<&str>, Option<&str>) -> bool) {
        let open = |e: &Event| match e {
            Event::Devices { input, output } => Some(is_it(input.open.as_deref(), output.open.as_deref())),
            _ => None,
        };
        self.drain();
        if self.seen.iter().filter_map(open).next_back() != Some(true) {
            self.until(what, |e| open(e) == Some(true));
        }
    }
}

fn long_answer() -> Vec<Step> {
    (0..12).flat_map(|_| [text("word "), tone(0.25, 40)]).collect()
}

fn ask(rig: &Rig) {
    rig.commands.send(Command::SendText("Well?".into()));
}

/// An answer under way goes on, on whatever device takes over, without losing more than the change itself.
fn answer_goes_on(desk: &Desk, change: impl FnOnce(&Desk), old: &str, new: &str) {
    let mut rig = sit_down(desk, script(long_answer()));
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(700));
    change(desk);
    let report = rig.until_ended();
    assert_eq!((report.cut_off, report.spoken_bytes), (false, report.answer.len()));
    rig.until_state(TurnState::Listening);
    assert_eq!(rig.ended(), 1);
    rig.stop();
    let recorded = desk.stop();
    let side = |id: &str| recorded.iter().find(|(name, _)| name == id).map(|(_, r)| r).unwrap();
    assert_eq!(recorded.len(), 3, "nothing was opened for nothing");
    let (before, after) = (side(old), side(new));
    let (s1, s2) = (sounding_s(&before.assistant, before.rate), sounding_s(&after.assistant, after.rate));
    assert!(s1 > 0.3 && s2 > 0.3, "{s1} s on {old}, {s2} s on {new}");
    assert!((s1 + s2 - 3.0).abs() < 0.2, "{s1} s on {old} and {s2} s on {new} of 3 s");
    // The new device begins in the middle of the tone, at most at its crest.
    assert!(largest_step(&before.assistant) < 0.03, "{}", largest_step(&before.assistant));
}

#[test]
fn an_answer_goes_on_in_the_headphones_that_are_plugged_in() {
    let desk = Desk::usual();
    answer_goes_on(&desk, |desk| desk.plug("headphones", Direction::Output, 48_000), "speaker", "headphones");
}

#[test]
fn an_answer_goes_on_at_another_sample_rate() {
    let desk = Desk::usual();
    // A Bluetooth headset in its telephone profile.
    answer_goes_on(&desk, |desk| desk.plug("headset", Direction::Output, 16_000), "speaker", "headset");
}

#[test]
fn an_answer_goes_on_in_the_loudspeaker_when_the_headphones_are_pulled_out() {
    let desk = Desk::usual();
    desk.plug("headphones", Direction::Output, 44_100);
    answer_goes_on(&desk, |desk| desk.unplug("headphones"), "headphones", "speaker");
}

#[test]
fn an_answer_goes_on_when_another_loudspeaker_is_chosen() {
    let desk = Desk::usual();
    desk.plug("other", Direction::Output, 48_000);
    desk.prefer("speaker");
    let mut rig = sit_down(&desk, script(long_answer()));
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    rig.commands.send(Command::SelectOutput(Some("other".into())));
    rig.until_open("the other one", |_, output| output == Some("other"));
    assert!(!rig.until_ended().cut_off);
    rig.stop();
}

#[test]
fn a_question_is_heard_over_a_change_of_the_microphone() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(vec![text("Yes."), tone(0.3, 0)]));
    desk.say("mic", |rate| words("sky", rate));
    rig.until_state(TurnState::Capturing);
    std::thread::sleep(Duration::from_millis(300));
    desk.plug("headset", Direction::Input, 16_000);
    rig.until_open("the headset", |input, _| input == Some("headset"));
    desk.say("headset", |rate| words("sky", rate)[rate as usize / 2..].to_vec());
    let report = rig.until_ended();
    assert_eq!((report.turn, report.answer.as_str(), report.cut_off), (1, "Yes.", false));
    rig.until_state(TurnState::Listening);
    let heard = rig.record.samples_heard();
    assert!(heard > 16_000, "{heard} samples");
    rig.stop();
}

/// The microphone is pulled out in the middle of a question, with nothing to take its place.
#[test]
fn a_lost_microphone_ends_the_question_and_nothing_else() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(vec![text("Yes."), tone(0.3, 0)]));
    ask(&rig);
    rig.until_ended();
    desk.say("mic", |rate| words("sky", rate));
    rig.until_state(TurnState::Capturing);
    desk.unplug("mic");
    rig.until("what happened", |e| matches!(e, Event::Problem { what, .. } if what.to_string().contains("microphone")));
    assert!(rig.until_ended().cut_off);
    let why = rig.until_degraded();
    assert!(why.contains("microphone") && why.contains("connect"), "{why}");
    // By text it goes on, and is heard.
    ask(&rig);
    let typed = rig.until_ended();
    assert_eq!((typed.turn, typed.cut_off, typed.answer.as_str()), (3, false, "Yes."));
    desk.plug("mic", Direction::Input, 44_100);
    rig.until_state(TurnState::Listening);
    desk.say("mic", |rate| words("joke", rate));
    assert_eq!(rig.until_ended().turn, 4, "the conversation was kept");
    rig.stop();
}

/// PulseAudio keeps the stream of a microphone that is gone running, on nothing.
#[test]
fn a_microphone_that_goes_silently_is_missed() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(vec![text("Yes."), tone(0.3, 0)]));
    desk.unplug_silently("mic");
    let why = rig.until_degraded();
    assert!(why.contains("microphone"), "{why}");
    desk.plug("mic", Direction::Input, 48_000);
    rig.until_state(TurnState::Listening);
    rig.stop();
}

#[test]
fn a_lost_loudspeaker_ends_the_answer_and_the_next_ones_are_read() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(long_answer()));
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    desk.unplug("speaker");
    let report = rig.until_ended();
    assert!(report.cut_off && report.spoken_bytes < report.answer.len().max(1), "{report:?}");
    let why = rig.until_degraded();
    assert!(why.contains("loudspeaker"), "{why}");
    desk.say("mic", |rate| words("sky", rate));
    let silent = rig.until_ended();
    assert_eq!((silent.turn, silent.cut_off, silent.answer.len()), (2, false, 60));
    desk.plug("speaker", Direction::Output, 48_000);
    rig.until_state(TurnState::Listening);
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    rig.stop();
}

#[test]
fn no_device_at_all_leaves_text() {
    let desk = Desk::default();
    let supply = CardSource::Supply(Arc::new(desk.clone()), CardChoice::both());
    let mut rig = Rig::on(supply, script(long_answer()));
    let why = rig.until_degraded();
    assert!(why.contains("microphone") || why.contains("loudspeaker"), "{why}");
    ask(&rig);
    let report = rig.until_ended();
    assert_eq!((report.cut_off, report.answer.len(), report.spoken_bytes), (false, 60, 60));
    desk.plug("speaker", Direction::Output, 48_000);
    desk.plug("mic", Direction::Input, 8_000);
    rig.until_open("both", |input, output| input.is_some() && output.is_some());
    desk.say("mic", |rate| words("sky", rate));
    rig.until_state(TurnState::Speaking);
    rig.stop();
}

#[test]
fn a_busy_or_forbidden_microphone_says_so_and_is_tried_until_it_works() {
    for (refusal, words) in [
        (AudioError::Busy { direction: Direction::Input, name: "mic".into() }, "in use by another program"),
        (AudioError::Denied { direction: Direction::Input, name: "mic".into() }, "privacy settings"),
    ] {
        let desk = Desk::usual();
        desk.refuse("mic", Some(refusal));
        let supply = CardSource::Supply(Arc::new(desk.clone()), CardChoice::both());
        let mut rig = Rig::on(supply, script(vec![text("Yes."), tone(0.3, 0)]));
        let why = rig.until_degraded();
        assert!(why.contains(words) && why.contains("microphone \"mic\""), "{why}");
        ask(&rig);
        rig.until_state(TurnState::Speaking);
        rig.until_ended();
        desk.refuse("mic", None);
        rig.until_state(TurnState::Listening);
        let told = rig
            .seen
            .iter()
            .filter(|e| matches!(e, Event::Problem { what, .. } if what.to_string().contains(words)))
            .count();
        assert_eq!(told, 1, "the same is not told again with every attempt");
        rig.stop();
    }
}

/// Everything stops without a word: a frozen sound service, or a computer that slept.
#[test]
fn devices_that_freeze_are_opened_again_and_the_answer_goes_on() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(long_answer()));
    ask(&rig);
    rig.until_state(TurnState::Speaking);
    std::thread::sleep(Duration::from_millis(300));
    desk.freeze();
    let report = rig.until_ended();
    assert_eq!((report.cut_off, report.spoken_bytes), (false, 60));
    assert_eq!(desk.opened(), 4, "each was opened twice");
    desk.say("mic", |rate| words("sky", rate));
    rig.until_state(TurnState::Speaking);
    rig.stop();
}

#[test]
fn a_chosen_device_is_used_whenever_it_is_there() {
    let desk = Desk::usual();
    desk.plug("usb", Direction::Input, 48_000);
    desk.prefer("mic");
    let choice = CardChoice { input: Some(DeviceId("usb".into())), ..CardChoice::both() };
    let mut rig = choose(&desk, choice, script(vec![text("Yes."), tone(0.3, 0)]));
    rig.until_open("the chosen one", |input, _| input == Some("usb"));
    desk.unplug("usb");
    rig.until_open("the default", |input, _| input == Some("mic"));
    desk.plug("usb", Direction::Input, 48_000);
    rig.until_open("the chosen one again", |input, _| input == Some("usb"));
    // It may have come with the list of devices.
    rig.until_seen(
        "a word about it",
        |e| matches!(e, Event::Problem { what, .. } if what.to_string().contains("\"usb\"")),
    );
    rig.stop();
}

#[test]
fn a_default_that_cannot_be_opened_leaves_the_old_device_in_use() {
    let desk = Desk::usual();
    let mut rig = sit_down(&desk, script(vec![text("Yes."), tone(0.3, 0)]));
    let why = AudioError::Denied { direction: Direction::Input, name: "broken".into() };
    desk.plug_refusing("broken", Direction::Input, why);
    rig.until(
        "a word about it",
        |e| matches!(e, Event::Problem { what, .. } if what.to_string().contains("\"broken\"")),
    );
    desk.say("mic", |rate| words("sky", rate));
    rig.until_state(TurnState::Speaking);
    rig.stop();
}
