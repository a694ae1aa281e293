//! What a sound device that comes or goes means for the conversation. Part of the session thread.

use super::super::card_keeper::News;
use super::Orchestrator;
use crate::audio::Direction;
use crate::turn::state::{Input, Phase};

impl Orchestrator {
    pub(super) fn card_news(&mut self, news: Vec<News>) {
        for news in news {
            match news {
                News::Tell(event) => self.tell(event),
                News::Lost(direction) => self.lost(direction),
                News::Back(direction) => {
                    // The machine is Degraded while nobody can be heard; a lost loudspeaker only makes answers silent.
                    if direction == Direction::Input || self.cards.hears() {
                        self.step(Input::CardBack);
                    }
                }
            }
        }
    }

    /// A device is gone. It ends the turn that needs it, and no other.
    fn lost(&mut self, direction: Direction) {
        use Phase::{Capturing, Ducked, MaybeDone, Speaking, Thinking};
        match (direction, self.turn.phase()) {
            (Direction::Input, Capturing | MaybeDone) | (Direction::Output, Thinking | Speaking | Ducked) => {
                self.listening.talking = false;
                self.step(Input::CardLost);
                if self.cards.hears() {
                    self.step(Input::CardBack);
                }
            }
            // Whoever was about to interrupt is not heard any more.
            (Direction::Input, Ducked) => self.step(Input::NotSustained),
            _ => {}
        }
    }
}
