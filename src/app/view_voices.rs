//! What the voices panel shows, as plain data, and how an event changes it. Pure.

use crate::session::told::Told;
use crate::session::voices::{VoiceDraft, VoiceEntry, VoiceEvent};

/// The voices, as far as they come from the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VoicesView {
    /// Whether the engine that is loaded can speak in a given voice; `None`: no engine has been loaded yet.
    pub clones: Option<bool>,
    pub voices: Vec<VoiceEntry>,
    /// A sentence for each folder that is no voice any more.
    pub broken: Vec<Told>,
    /// Seconds recorded so far, while the microphone is being recorded.
    pub recording: Option<f64>,
    /// The file that is being read.
    pub checking: Option<String>,
    /// The recording that is being looked at.
    pub draft: Option<VoiceDraft>,
    /// The voice that was just kept.
    pub kept: Option<String>,
    /// Why the last thing asked for was not done.
    pub refused: Option<Told>,
    /// Whether a sample sounds.
    pub previewing: bool,
}

impl VoicesView {
    /// Takes in a fact.
    pub fn apply(&mut self, event: VoiceEvent) {
        match event {
            VoiceEvent::Engine { clones } => self.clones = Some(clones),
            VoiceEvent::Listed { voices, broken } => {
                (self.voices, self.broken) = (voices, broken);
                self.refused = None;
                if !self.voices.iter().any(|v| Some(&v.id) == self.kept.as_ref()) {
                    self.kept = None;
                }
            }
            VoiceEvent::Recording(seconds) => {
                if seconds.is_some() {
                    (self.draft, self.kept, self.refused) = (None, None, None);
                }
                self.recording = seconds;
            }
            VoiceEvent::Checking { file } => {
                *self =
                    VoicesView { checking: Some(file), draft: None, kept: None, refused: None, ..std::mem::take(self) };
            }
            VoiceEvent::Checked(draft) => {
                (self.checking, self.refused) = (None, None);
                self.draft = Some(*draft);
            }
            VoiceEvent::PutAside => (self.draft, self.checking, self.refused) = (None, None, None),
            VoiceEvent::Kept { id } => {
                (self.draft, self.refused) = (None, None);
                self.kept = Some(id);
            }
            VoiceEvent::Refused { why } => {
                self.checking = None;
                self.refused = Some(why);
            }
            VoiceEvent::Previewing(on) => self.previewing = on,
        }
    }

    /// Whether something waits for the user here.
    pub fn is_busy(&self) -> bool {
        self.checking.is_some() || self.draft.is_some() || self.recording.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::voices::{Grade, Span};

    fn draft(number: u64) -> VoiceEvent {
        VoiceEvent::Checked(Box::new(VoiceDraft {
            number,
            file: "a.wav".into(),
            suggested_name: "a".into(),
            seconds: 9.0,
            peaks: vec![[-0.5, 0.5]],
            span: Span::new(1.0, 8.0),
            grade: Grade::Ok,
            findings: Vec::new(),
        }))
    }

    fn listed(id: &str) -> VoiceEvent {
        let entry = VoiceEntry { id: id.into(), name: "Ann".into(), details: Told::default(), grade: Grade::Ok };
        VoiceEvent::Listed { voices: vec![entry], broken: vec!["x: damaged".into()] }
    }

    fn after(events: impl IntoIterator<Item = VoiceEvent>) -> VoicesView {
        let mut view = VoicesView::default();
        events.into_iter().for_each(|event| view.apply(event));
        view
    }

    #[test]
    fn a_recording_is_read_looked_at_and_kept() {
        let mut view = after([VoiceEvent::Engine { clones: true }, VoiceEvent::Checking { file: "a.wav".into() }]);
        assert!(view.is_busy() && view.draft.is_none() && view.clones == Some(true));
        view.apply(draft(1));
        assert!(view.is_busy() && view.checking.is_none());
        assert_eq!(view.draft.as_ref().map(|d| d.number), Some(1));
        view.apply(VoiceEvent::Refused { why: "the name is taken".into() });
        assert!(view.draft.is_some(), "a refusal leaves the recording to be named otherwise");
        view.apply(listed("1"));
        view.apply(VoiceEvent::Kept { id: "1".into() });
        assert!(!view.is_busy() && view.refused.is_none());
        assert_eq!((view.kept.as_deref(), view.voices.len(), view.broken.len()), (Some("1"), 1, 1));
        view.apply(listed("2"));
        assert_eq!(view.kept, None, "a voice that is gone is not the newest");
    }

    #[test]
    fn a_file_that_is_no_recording_leaves_nothing_but_the_reason() {
        let view = after([
            draft(1),
            VoiceEvent::Checking { file: "letter.wav".into() },
            VoiceEvent::Refused { why: "letter.wav is not a sound file".into() },
        ]);
        assert!(!view.is_busy());
        assert_eq!(view.refused, Some("letter.wav is not a sound file".into()));
        let view = after([draft(1), VoiceEvent::Previewing(true), VoiceEvent::PutAside]);
        assert!(!view.is_busy() && view.previewing);
    }
}
