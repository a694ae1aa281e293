//! What the voices thread has for the conversation: a voice to speak in, a sample to play.

use super::super::event::Event;
use super::super::preview::Aside;
use super::super::recorder::Progress;
use super::super::voices::{VoiceCommand, VoiceEvent, VoiceJob};
use super::Orchestrator;
use crate::engine::HEARING_RATE;
use crate::turn::state::Phase;

impl Orchestrator {
    pub(super) fn voice_command(&mut self, command: VoiceCommand) {
        match command {
            VoiceCommand::StopPreview => self.preview.stop(&self.wires, &self.cards),
            VoiceCommand::Record => {
                self.listening.talking = false;
                self.interrupt();
                self.recorder.start();
                self.tell(Event::Voice(VoiceEvent::Recording(Some(0.0))));
            }
            VoiceCommand::StopRecording => self.stop_recording(),
            command => self.errands.voice(command),
        }
    }

    /// The microphone's sound goes to the recording, and to nobody else.
    pub(super) fn record(&mut self, samples: &[f32]) {
        match self.recorder.hear(samples) {
            Progress::Quiet => {}
            Progress::Seconds(seconds) => self.tell(Event::Voice(VoiceEvent::Recording(Some(seconds)))),
            Progress::Full => self.stop_recording(),
        }
    }

    fn stop_recording(&mut self) {
        if let Some(samples) = self.recorder.stop() {
            self.tell(Event::Voice(VoiceEvent::Recording(None)));
            self.errands.voice(VoiceCommand::Recorded(samples.into()));
        }
    }

    pub(super) fn voice(&mut self, job: VoiceJob) {
        match job {
            VoiceJob::Play(samples) if is_quiet(self.turn.phase()) => {
                self.preview.play(Aside::Voice, samples.to_vec(), HEARING_RATE, &self.wires, &self.cards);
            }
            VoiceJob::Play(_) => {}
            VoiceJob::Choose(voice) => {
                (self.setup.reference_voice, self.setup.voice_state) = voice.unzip();
                // The conversation goes on in the new voice.
                if self.turns == 0 || self.engine.as_ref().is_some_and(|e| e.clones_voices) {
                    self.reopen();
                }
            }
        }
    }
}

/// Whether nobody speaks, also because there is no engine that could.
fn is_quiet(phase: Phase) -> bool {
    matches!(phase, Phase::Listening | Phase::Faulted)
}
