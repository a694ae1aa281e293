//! The turn machine: one state, one function, a list of effects. Owned by the session thread; it never waits and never
//! fails, and every state has a way out.
//!
//! ```text
//! Listening -onset-> Capturing -pause-> MaybeDone -end of turn-> Thinking -first audio-> Speaking -played-> Listening
//! MaybeDone -speech-> Capturing       Thinking -speech before first audio-> Capturing (same turn, reply dropped)
//! Speaking -onset-> Ducked -not sustained-> Speaking | -confirmed-> Capturing (new turn; the old one was cut off)
//!                   Ducked -played-> Capturing -not sustained-> Listening (it was no turn)
//! any -card lost-> Degraded -card back-> Listening       any -engine failed-> Faulted -retry-> Listening
//! ```
//!
//! Invariants: every turn that began ends with exactly one [`Effect::End`]; an epoch is used for one reply only; what
//! belongs to an older epoch changes nothing.

use serde::{Deserialize, Serialize};

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody speaks.
    Listening,
    /// The user speaks.
    Capturing,
    /// The user has fallen silent, perhaps for good.
    MaybeDone,
    /// The turn is over; no sound of the answer has been heard yet.
    Thinking,
    /// The answer sounds.
    Speaking,
    /// The answer sounds quietly, because the user may be interrupting.
    Ducked,
    /// A sound device is missing; typed turns still work once it is back.
    Degraded,
    /// The engine failed; a retry reloads it.
    Faulted,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The user began to speak (or pressed to talk).
    Onset,
    /// The user has been silent for long enough to wonder.
    Pause,
    /// The user's turn is over.
    EndOfTurn,
    /// The user typed a whole turn.
    Typed,
    /// The sound heard while the assistant speaks is an interruption.
    Sustained,
    /// It is not: a sign of listening, a cough.
    NotSustained,
    /// The first audible sample of this reply was handed to the device.
    FirstAudio { epoch: u64 },
    /// This reply has been played to its end.
    Played { epoch: u64 },
    /// The engine found no words in what it heard.
    NothingHeard { epoch: u64 },
    /// The user asked for silence (button, key).
    Interrupt,
    /// A sound device went away.
    CardLost,
    /// Both devices are there again.
    CardBack,
    /// The engine reported an error.
    EngineFailed,
    /// The engine is loaded again.
    Retry,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer was played to its end.
    Played,
    /// The answer was broken off.
    CutOff,
    /// There were no words in what was heard.
    NothingHeard,
    /// A device or the engine failed before the end.
    Failed,
}

/// What has to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A turn begins: what was captured since shortly before the onset, and from now on, goes to the engine.
    Begin,
    /// The engine may do early what the answer will need.
    HintPause,
    /// What is heard from now on still belongs to this turn.
    Resume,
    /// Ask for the answer under this epoch.
    Respond { epoch: u64 },
    /// Stop the reply of this epoch: cancel the engine, fade, discard what is queued.
    Stop { epoch: u64 },
    /// The reply never sounded: the engine goes back to where the user still speaks.
    Retract,
    /// The engine forgets what was not heard of the reply.
    Truncate,
    /// The engine forgets the words it heard for this turn.
    Discard,
    /// Turn the answer down.
    Duck,
    /// Turn the answer up again.
    Unduck,
    /// The turn is over; exactly one for each `Begin` or typed turn.
    End(Outcome),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Turn {
    phase: Phase,
    epoch: u64,
}

impl Default for Turn {
    fn default() -> Self {
        Turn { phase: Phase::Listening, epoch: 0 }
    }
}

impl Turn {
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The epoch of the newest reply; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn go(&mut self, to: Phase, effects: &[Effect]) -> Vec<Effect> {
        self.phase = to;
        effects.to_vec()
    }

    fn respond(&mut self, before: &[Effect]) -> Vec<Effect> {
        self.epoch += 1;
        self.phase = Phase::Thinking;
        let mut effects = before.to_vec();
        effects.push(Effect::Respond { epoch: self.epoch });
        effects
    }

    /// Takes note of what happened and says what to do about it.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        use Effect::*;
        use Phase::*;
        let epoch = self.epoch;
        if let Input::FirstAudio { epoch: e } | Input::Played { epoch: e } | Input::NothingHeard { epoch: e } = input
            && e != epoch
        {
            return Vec::new();
        }
        match (self.phase, input) {
            (Degraded, Input::CardBack) => self.go(Listening, &[]),
            (Degraded, Input::Typed) => self.respond(&[]),
            (Degraded, Input::EngineFailed) => self.go(Faulted, &[]),
            (Faulted, Input::Retry) => self.go(Listening, &[]),
            (Degraded | Faulted, _) => Vec::new(),

            (_, Input::CardLost) => self.fail(Degraded),
            (_, Input::EngineFailed) => self.fail(Faulted),
            (_, Input::CardBack | Input::Retry) => Vec::new(),

            (Listening, Input::Onset) => self.go(Capturing, &[Begin]),
            (Listening, Input::Typed) => self.respond(&[]),
            (Listening, _) => Vec::new(),

            (Capturing, Input::Pause) => self.go(MaybeDone, &[HintPause]),
            (MaybeDone, Input::Onset) => self.go(Capturing, &[Resume]),
            (Capturing | MaybeDone, Input::EndOfTurn) => self.respond(&[]),
            (Capturing | MaybeDone, Input::Typed) => self.respond(&[Discard, End(Outcome::CutOff)]),
            // The answer ended during a sound that turned out to be no turn.
            (Capturing | MaybeDone, Input::NotSustained) => self.go(Listening, &[Discard, End(Outcome::NothingHeard)]),
            (Capturing | MaybeDone, Input::Interrupt) => self.go(Listening, &[Discard, End(Outcome::CutOff)]),
            (Capturing | MaybeDone, _) => Vec::new(),

            (Thinking, Input::Onset) => self.go(Capturing, &[Stop { epoch }, Retract, Resume]),
            (Thinking, Input::FirstAudio { .. }) => self.go(Speaking, &[]),
            (Thinking, Input::NothingHeard { .. }) => self.go(Listening, &[End(Outcome::NothingHeard)]),

            (Speaking, Input::Onset) => self.go(Ducked, &[Duck]),
            (Ducked, Input::NotSustained | Input::EndOfTurn) => self.go(Speaking, &[Unduck]),
            (Ducked, Input::Sustained) => {
                self.go(Capturing, &[Stop { epoch }, Truncate, End(Outcome::CutOff), Unduck, Begin])
            }
            (Ducked, Input::Played { .. }) => self.go(Capturing, &[End(Outcome::Played), Unduck, Begin]),

            (Thinking | Speaking, Input::Played { .. }) => self.go(Listening, &[End(Outcome::Played)]),
            (Thinking | Speaking | Ducked, Input::Interrupt) => {
                self.go(Listening, &[Stop { epoch }, Truncate, End(Outcome::CutOff), Unduck])
            }
            (Thinking | Speaking | Ducked, Input::Typed) => {
                self.respond(&[Stop { epoch }, Truncate, End(Outcome::CutOff), Unduck])
            }
            (Thinking | Speaking | Ducked, _) => Vec::new(),
        }
    }

    fn fail(&mut self, to: Phase) -> Vec<Effect> {
        let epoch = self.epoch;
        let from = std::mem::replace(&mut self.phase, to);
        match from {
            Phase::Capturing | Phase::MaybeDone => vec![Effect::Discard, Effect::End(Outcome::Failed)],
            Phase::Thinking | Phase::Speaking | Phase::Ducked => {
                vec![Effect::Stop { epoch }, Effect::Truncate, Effect::End(Outcome::Failed), Effect::Unduck]
            }
            Phase::Listening | Phase::Degraded | Phase::Faulted => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(phase: Phase) -> Turn {
        Turn { phase, epoch: 7 }
    }

    /// The table of HOUSE rules: from, input, to, effects. Everything not listed leaves the state alone and does nothing.
    fn table() -> Vec<(Phase, Input, Phase, Vec<Effect>)> {
        use Effect::*;
        use Phase::*;
        let cut = |then: &[Effect]| {
            let mut v = vec![Stop { epoch: 7 }, Truncate, End(Outcome::CutOff), Unduck];
            v.extend(then);
            v
        };
        let failed = vec![Stop { epoch: 7 }, Truncate, End(Outcome::Failed), Unduck];
        let mut t = vec![
            (Listening, Input::Onset, Capturing, vec![Begin]),
            (Listening, Input::Typed, Thinking, vec![Respond { epoch: 8 }]),
            (Listening, Input::CardLost, Degraded, vec![]),
            (Listening, Input::EngineFailed, Faulted, vec![]),
            (Capturing, Input::Pause, MaybeDone, vec![HintPause]),
            (MaybeDone, Input::Onset, Capturing, vec![Resume]),
            (Thinking, Input::Onset, Capturing, vec![Stop { epoch: 7 }, Retract, Resume]),
            (Thinking, Input::FirstAudio { epoch: 7 }, Speaking, vec![]),
            (Thinking, Input::NothingHeard { epoch: 7 }, Listening, vec![End(Outcome::NothingHeard)]),
            (Thinking, Input::Played { epoch: 7 }, Listening, vec![End(Outcome::Played)]),
            (Speaking, Input::Played { epoch: 7 }, Listening, vec![End(Outcome::Played)]),
            (Speaking, Input::Onset, Ducked, vec![Duck]),
            (Ducked, Input::NotSustained, Speaking, vec![Unduck]),
            (Ducked, Input::Sustained, Capturing, cut(&[Begin])),
            (Ducked, Input::EndOfTurn, Speaking, vec![Unduck]),
            (Ducked, Input::Played { epoch: 7 }, Capturing, vec![End(Outcome::Played), Unduck, Begin]),
            (Degraded, Input::CardBack, Listening, vec![]),
            (Degraded, Input::Typed, Thinking, vec![Respond { epoch: 8 }]),
            (Degraded, Input::EngineFailed, Faulted, vec![]),
            (Faulted, Input::Retry, Listening, vec![]),
        ];
        for s in [Capturing, MaybeDone] {
            t.push((s, Input::EndOfTurn, Thinking, vec![Respond { epoch: 8 }]));
            t.push((s, Input::Typed, Thinking, vec![Discard, End(Outcome::CutOff), Respond { epoch: 8 }]));
            t.push((s, Input::Interrupt, Listening, vec![Discard, End(Outcome::CutOff)]));
            t.push((s, Input::NotSustained, Listening, vec![Discard, End(Outcome::NothingHeard)]));
            t.push((s, Input::CardLost, Degraded, vec![Discard, End(Outcome::Failed)]));
            t.push((s, Input::EngineFailed, Faulted, vec![Discard, End(Outcome::Failed)]));
        }
        for s in [Thinking, Speaking, Ducked] {
            t.push((s, Input::Interrupt, Listening, cut(&[])));
            t.push((s, Input::Typed, Thinking, cut(&[Respond { epoch: 8 }])));
            t.push((s, Input::CardLost, Degraded, failed.clone()));
            t.push((s, Input::EngineFailed, Faulted, failed.clone()));
        }
        t
    }

    const PHASES: [Phase; 8] = [
        Phase::Listening,
        Phase::Capturing,
        Phase::MaybeDone,
        Phase::Thinking,
        Phase::Speaking,
        Phase::Ducked,
        Phase::Degraded,
        Phase::Faulted,
    ];

    fn inputs(epoch: u64) -> [Input; 14] {
        [
            Input::Onset,
            Input::Pause,
            Input::EndOfTurn,
            Input::Typed,
            Input::Sustained,
            Input::NotSustained,
            Input::FirstAudio { epoch },
            Input::Played { epoch },
            Input::NothingHeard { epoch },
            Input::Interrupt,
            Input::CardLost,
            Input::CardBack,
            Input::EngineFailed,
            Input::Retry,
        ]
    }

    #[test]
    fn every_state_with_every_input_follows_the_table() {
        for from in PHASES {
            for input in inputs(7) {
                let mut turn = at(from);
                let effects = turn.step(input);
                let row = table().into_iter().find(|r| r.0 == from && r.1 == input);
                let (to, wanted) = row.map_or((from, vec![]), |r| (r.2, r.3));
                assert_eq!((turn.phase(), effects), (to, wanted), "{from:?} with {input:?}");
            }
        }
    }

    #[test]
    fn every_state_has_a_way_back_to_listening() {
        for from in PHASES {
            let mut seen = vec![from];
            let mut i = 0;
            while i < seen.len() {
                for input in inputs(7) {
                    let mut t = at(seen[i]);
                    t.step(input);
                    if !seen.contains(&t.phase()) {
                        seen.push(t.phase());
                    }
                }
                i += 1;
            }
            assert!(seen.contains(&Phase::Listening), "{from:?} never comes back");
        }
    }

    #[test]
    fn what_belongs_to_an_older_reply_changes_nothing() {
        for from in PHASES {
            for input in [Input::FirstAudio { epoch: 6 }, Input::Played { epoch: 6 }, Input::NothingHeard { epoch: 6 }]
            {
                let mut turn = at(from);
                assert_eq!((turn.step(input), turn.phase()), (vec![], from));
            }
        }
    }

    proptest! {
        /// In any order of events: at most one turn is open, every one that began ends once before the next begins,
        /// and a reply that was stopped is never asked for again.
        #[test]
        fn turns_begin_and_end_in_pairs(picks in proptest::collection::vec((0usize..14, 0u64..2), 0..200)) {
            let mut turn = Turn::default();
            let mut open = false;
            let mut newest = 0;
            for (pick, age) in picks {
                let before = turn.epoch();
                let input = inputs(before.saturating_sub(age))[pick];
                let typed = input == Input::Typed;
                for effect in turn.step(input) {
                    match effect {
                        Effect::Begin => { prop_assert!(!open); open = true; }
                        Effect::Respond { epoch } => {
                            prop_assert!(epoch == newest + 1);
                            newest = epoch;
                            prop_assert!(open || typed);
                            open = true;
                        }
                        Effect::End(_) => { prop_assert!(open); open = false; }
                        Effect::Stop { epoch } => prop_assert_eq!(epoch, newest),
                        _ => {}
                    }
                }
                let busy = !matches!(turn.phase(), Phase::Listening | Phase::Degraded | Phase::Faulted);
                prop_assert_eq!(open, busy);
            }
        }

        /// In any order of events: a reply may sound only while the machine thinks, speaks or ducks, and whatever stops
        /// it is told so; and from wherever that leads, three events lead back.
        #[test]
        fn nothing_sounds_after_it_was_stopped_and_no_state_is_stuck(
            picks in proptest::collection::vec((0usize..14, 0u64..2), 0..200),
        ) {
            let mut turn = Turn::default();
            let mut live = None;
            let mut ducked = false;
            for (pick, age) in picks {
                let input = inputs(turn.epoch().saturating_sub(age))[pick];
                for effect in turn.step(input) {
                    match effect {
                        Effect::Respond { epoch } => live = Some(epoch),
                        Effect::Stop { epoch } => {
                            prop_assert_eq!(live, Some(epoch), "what is stopped is what may sound");
                            live = None;
                        }
                        Effect::End(Outcome::Played | Outcome::NothingHeard) => live = None,
                        Effect::Duck => ducked = true,
                        Effect::Unduck => ducked = false,
                        _ => {}
                    }
                }
                let may_sound = matches!(turn.phase(), Phase::Thinking | Phase::Speaking | Phase::Ducked);
                prop_assert_eq!(live.is_some(), may_sound);
                prop_assert_eq!(ducked, turn.phase() == Phase::Ducked);
            }
            for input in [Input::CardBack, Input::Retry, Input::Interrupt] {
                turn.step(input);
            }
            prop_assert_eq!(turn.phase(), Phase::Listening);
        }
    }
}
