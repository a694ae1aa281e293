//! What the voices thread has for the conversation: a voice to speak in, a sample to play.

use super::super::preview::Aside;
use super::super::voices::{VoiceCommand, VoiceJob};
use super::Orchestrator;
use crate::engine::HEARING_RATE;
use crate::turn::state::Phase;

impl Orchestrator {
    pub(super) fn voice_command(&mut self, command: VoiceCommand) {
        match command {
            VoiceCommand::StopPreview => self.preview.stop(&self.wires, &self.cards),
            command => self.errands.voice(command),
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
