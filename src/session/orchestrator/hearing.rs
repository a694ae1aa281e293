//! What the session makes of what the ear noticed: whose words they are, and whether they interrupt. On the session
//! thread, as all of the [`Orchestrator`].

use super::Orchestrator;
use crate::metrics::{Stage, StageMark};
use crate::session::ear::EarJob;
use crate::session::inbox::EarEvent;
use crate::time::Micros;
use crate::turn::backchannel::{BackChannel, Verdict};
use crate::turn::state::{Input, Phase};

impl Orchestrator {
    pub(super) fn ear(&mut self, event: EarEvent) {
        let may = self.listening.finds_turns() && !self.preview.is_on() && !self.recorder.is_on();
        let listens = may && self.engine.is_some();
        let waits = may && self.engine.is_none() && self.turn.phase() == Phase::Listening;
        match event {
            EarEvent::Frame { samples, .. } if self.recorder.is_on() => self.record(&samples),
            EarEvent::Frame { samples, end, speech, torn } => {
                self.utterance.hear(&samples, end, speech);
                let verdict = self.weigh(&samples, speech, torn);
                if self.utterance.is_open() {
                    self.hear(samples);
                }
                match verdict {
                    Verdict::Wait => {}
                    Verdict::Interruption => {
                        self.barge_in.confirm(Some(end));
                        self.step(Input::Sustained);
                        self.barge_in.confirm(None);
                    }
                    Verdict::BackChannel => {
                        self.step(Input::NotSustained);
                        self.utterance.close();
                    }
                }
            }
            EarEvent::Onset if listens => {
                self.doubt = (self.turn.phase() == Phase::Speaking).then(|| {
                    let mut doubt = BackChannel::new(self.listening.sensitivity);
                    doubt.before_onset(&self.utterance.lately());
                    doubt
                });
                self.utterance.onset();
                self.step(Input::Onset);
            }
            EarEvent::Pause if listens => self.step(Input::Pause),
            EarEvent::EndOfTurn { last_voiced } if listens => self.end_of_turn(last_voiced),
            EarEvent::Onset if waits => self.utterance.onset(),
            EarEvent::EndOfTurn { .. } if waits => self.utterance.close(),
            EarEvent::Onset | EarEvent::Pause | EarEvent::EndOfTurn { .. } => {}
            EarEvent::Mark(mark) => self.mark(mark),
        }
    }

    /// The engine is ready to listen. What somebody is saying just then is a turn, from its beginning on as far as
    /// that is remembered (5 s).
    pub(super) fn ready(&mut self) {
        let begun = self.utterance.has_begun() && self.turn.phase() == Phase::Listening;
        self.step(Input::Retry);
        if begun && self.listening.finds_turns() {
            self.utterance.onset();
            self.step(Input::Onset);
        }
    }

    /// What is thought of a sound that was made during the answer (which may have ended meanwhile).
    fn weigh(&mut self, samples: &[f32], speech: bool, torn: bool) -> Verdict {
        if !matches!(self.turn.phase(), Phase::Ducked | Phase::Capturing | Phase::MaybeDone) {
            self.doubt = None;
        }
        let verdict = self.doubt.as_mut().map_or(Verdict::Wait, |doubt| doubt.hear(samples, speech, torn));
        if verdict != Verdict::Wait {
            tracing::debug!("what was said into the answer is taken for: {verdict:?}");
            self.doubt = None;
        }
        verdict
    }

    /// Tells the ear whether the microphone counts, when that has changed.
    pub(super) fn mind_the_ear(&mut self) {
        let sounding = matches!(self.turn.phase(), Phase::Speaking | Phase::Ducked);
        if let Some(deaf) = self.listening.deafness(sounding, Micros::now()) {
            self.to_ear(EarJob::Deaf(deaf));
        }
    }

    pub(super) fn end_of_turn(&mut self, last_voiced: Micros) {
        if let Some(record) = &mut self.record
            && matches!(self.turn.phase(), Phase::Capturing | Phase::MaybeDone)
        {
            let now = Micros::now();
            record.ended(last_voiced, now);
            let epoch = self.turn.epoch() + 1;
            self.mark(StageMark { epoch, stage: Stage::EndOfTurn, start: last_voiced, end: now, units: 1 });
        }
        self.step(Input::EndOfTurn);
    }
}
