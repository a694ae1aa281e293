//! Reference voices for a door: what it may ask for, what it is told, and the thread that does it.
//!
//! The `voices` thread owns the recording that is being looked at and the library; it reads, checks and writes, so that
//! neither the session nor the window waits for a disk. What concerns the conversation (a voice to speak in, a sample to
//! play) it hands to the session through the inbox.

use super::event::{Event, EventSink};
use super::inbox::Inbox;
use super::told::{Told, file_name};
use crate::engine::HEARING_RATE;
pub use crate::voice::library::CONSENT;
use crate::voice::{self, KeptVoice, Recording, VoiceError, VoiceLibrary};
pub use crate::voice::{Aspect, Finding, Grade, Span};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

/// Stretches that a waveform is drawn from.
const PEAKS: usize = 300;

/// What is asked about voices.
#[derive(Clone, Debug, PartialEq)]
pub enum VoiceCommand {
    /// Ask the user for a file, then check it. `title`: what stands above the dialog.
    Ask {
        title: String,
    },
    /// Read a recording and check it: [`VoiceEvent::Checked`] or [`VoiceEvent::Refused`] follows.
    Check {
        file: PathBuf,
    },
    /// Record what the microphone hears, instead of listening to the user, until [`VoiceCommand::StopRecording`] or for
    /// 30 s; then it is checked like a file.
    Record,
    StopRecording,
    /// Check what was recorded, 16 kHz mono.
    Recorded(Arc<[f32]>),
    /// Check another stretch of the same recording.
    CheckSpan(Span),
    /// Keep a stretch of it as a voice.
    Keep {
        name: String,
        span: Span,
    },
    /// Put the recording aside.
    PutAside,
    /// Give the voice with this id another name.
    Rename {
        id: String,
        name: String,
    },
    /// Delete the voice with this id.
    Remove {
        id: String,
    },
    /// Speak in the voice with this id, or (`None`) in the engine's own.
    Choose(Option<String>),
    /// Play a sample through the loudspeaker, while nobody speaks.
    Preview(Sample),
    StopPreview,
}

/// What may be listened to.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A stretch of the recording that is being looked at.
    Draft(Span),
    /// A kept voice, by id.
    Kept(String),
    /// Three notes, to hear whether the loudspeaker works.
    Chime,
}

/// What is told about voices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VoiceEvent {
    /// An engine is ready, which can or cannot speak in a given voice.
    Engine { clones: bool },
    /// The voices that are kept, by name; replaces the list before. `broken`: a sentence for each folder that is no
    /// voice any more.
    Listed { voices: Vec<VoiceEntry>, broken: Vec<Told> },
    /// So many seconds have been recorded; `None`: the recording is over.
    Recording(Option<f64>),
    /// A recording is being read.
    Checking { file: String },
    /// A recording was read, or another stretch of it looked at.
    Checked(Box<VoiceDraft>),
    /// No recording is being looked at any more.
    PutAside,
    /// The voice with this id was kept.
    Kept { id: String },
    /// What was asked for cannot be done, and what to do about it.
    Refused { why: Told },
    /// A sample began, or ceased, to sound.
    Previewing(bool),
}

/// A kept voice, as a door shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoiceEntry {
    pub id: String,
    pub name: String,
    /// Length and origin, for people.
    pub details: Told,
    pub grade: Grade,
}

/// A recording that is being looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoiceDraft {
    /// Grows with every recording that is read: another number, another recording.
    pub number: u64,
    /// The file's name without its folder.
    pub file: String,
    pub suggested_name: String,
    /// Length of the whole recording.
    pub seconds: f64,
    /// The lowest and the highest sample of equal stretches of the whole recording.
    pub peaks: Vec<[f32; 2]>,
    /// What would be used.
    pub span: Span,
    /// The worst of the findings.
    pub grade: Grade,
    pub findings: Vec<Finding>,
}

/// What the voices thread has for the conversation.
pub enum VoiceJob {
    /// Speak in this voice from the next conversation on: its sample, and where engines may keep what they make of it.
    Choose(Option<(Arc<[f32]>, PathBuf)>),
    /// Play this sample, 16 kHz mono.
    Play(Arc<[f32]>),
}

/// Starts the thread. It ends when the sender is dropped.
///
/// # Errors
/// When the system has no threads left.
pub fn start(
    library: VoiceLibrary,
    events: EventSink,
    inbox: SyncSender<Inbox>,
) -> Result<Sender<VoiceCommand>, std::io::Error> {
    let (sender, commands) = mpsc::channel();
    let desk = Desk { library, events, inbox, draft: None, numbers: 0 };
    std::thread::Builder::new().name("voices".into()).spawn(move || desk.run(&commands))?;
    Ok(sender)
}

struct Desk {
    library: VoiceLibrary,
    events: EventSink,
    inbox: SyncSender<Inbox>,
    draft: Option<Draft>,
    numbers: u64,
}

struct Draft {
    number: u64,
    file: PathBuf,
    recording: Recording,
}

impl Desk {
    fn run(mut self, commands: &Receiver<VoiceCommand>) {
        self.list();
        while let Ok(command) = commands.recv() {
            if let Err(error) = self.take(command) {
                self.tell(VoiceEvent::Refused { why: Told::from(&error) });
            }
        }
    }

    fn take(&mut self, command: VoiceCommand) -> Result<(), VoiceError> {
        match command {
            VoiceCommand::Check { file } => {
                self.draft = None;
                self.tell(VoiceEvent::Checking { file: file_name(&file) });
                let recording = voice::read(&file)?;
                self.look_at(file, recording);
            }
            VoiceCommand::Recorded(samples) => {
                let recording = voice::recorded(&samples)?;
                self.look_at(PathBuf::from(voice::MICROPHONE), recording);
            }
            VoiceCommand::CheckSpan(span) => self.show(Some(span)),
            VoiceCommand::Keep { name, span } => {
                if let Some(draft) = &self.draft {
                    let kept = self.library.add(&draft.recording, span, &name, &draft.file)?;
                    self.draft = None;
                    self.list();
                    self.tell(VoiceEvent::Kept { id: kept.id });
                }
            }
            VoiceCommand::PutAside => {
                self.draft = None;
                self.tell(VoiceEvent::PutAside);
            }
            VoiceCommand::Rename { id, name } => {
                self.library.rename(&id, &name)?;
                self.list();
            }
            VoiceCommand::Remove { id } => {
                self.library.remove(&id)?;
                self.list();
            }
            VoiceCommand::Choose(None) => self.hand(VoiceJob::Choose(None)),
            VoiceCommand::Choose(Some(id)) => {
                let kept = self.library.find(&id)?;
                self.hand(VoiceJob::Choose(Some((kept.samples()?, kept.state_dir()))));
            }
            VoiceCommand::Preview(Sample::Draft(span)) => {
                if let Some(draft) = &self.draft {
                    self.hand(VoiceJob::Play(draft.recording.cut(span)));
                }
            }
            VoiceCommand::Preview(Sample::Chime) => self.hand(VoiceJob::Play(chime().into())),
            VoiceCommand::Preview(Sample::Kept(id)) => self.hand(VoiceJob::Play(self.library.find(&id)?.samples()?)),
            // The session's own.
            VoiceCommand::Ask { .. }
            | VoiceCommand::StopPreview
            | VoiceCommand::Record
            | VoiceCommand::StopRecording => {}
        }
        Ok(())
    }

    fn look_at(&mut self, file: PathBuf, recording: Recording) {
        self.numbers += 1;
        self.draft = Some(Draft { number: self.numbers, file, recording });
        self.show(None);
    }

    fn show(&self, span: Option<Span>) {
        let Some(draft) = &self.draft else { return };
        let check = draft.recording.check(span);
        self.tell(VoiceEvent::Checked(Box::new(VoiceDraft {
            number: draft.number,
            file: file_name(&draft.file),
            suggested_name: voice::suggested_name(&draft.file),
            seconds: check.seconds,
            peaks: draft.recording.peaks(PEAKS),
            span: check.span,
            grade: check.grade,
            findings: check.findings,
        })));
    }

    fn list(&self) {
        let listing = self.library.list();
        let voices = listing.voices.iter().map(entry).collect();
        let broken = listing.broken.iter().map(|b| {
            let folder = b.folder.display();
            Told::new("voice-damaged", format!("{folder}: {}", b.why)).with("folder", folder)
        });
        let broken = broken.collect();
        self.tell(VoiceEvent::Listed { voices, broken });
    }

    fn tell(&self, event: VoiceEvent) {
        self.events.send(Event::Voice(event));
    }

    fn hand(&self, job: VoiceJob) {
        // The session is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Voice(job));
    }
}

fn entry(kept: &KeptVoice) -> VoiceEntry {
    let record = &kept.record;
    let (seconds, file) = (format!("{:.1}", record.span.seconds()), file_name(Path::new(&record.source)));
    let details = Told::new("voice-details", format!("{seconds} s from {file}")).with("seconds", seconds);
    let details = details.with("file", file);
    VoiceEntry { id: kept.id.clone(), name: record.name.clone(), details, grade: record.check.grade }
}

/// Three rising notes of a chord, each fading into silence: 16 kHz mono.
fn chime() -> Vec<f32> {
    const NOTES: [f32; 3] = [523.25, 659.26, 783.99];
    const NOTE_S: f32 = 0.28;
    let rate = HEARING_RATE as f32;
    let length = (NOTE_S * rate) as usize;
    let note = |pitch: f32| {
        (0..length).map(move |i| {
            let at = i as f32 / length as f32;
            // Swells in a twentieth of its time, so that it does not click.
            let swell = (at * 20.0).min(1.0) * (1.0 - at).powi(2);
            0.25 * swell * (std::f32::consts::TAU * pitch * i as f32 / rate).sin()
        })
    };
    NOTES.into_iter().flat_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chime_is_loud_enough_to_hear_and_ends_in_silence() {
        let chime = chime();
        assert_eq!(chime.len(), 3 * 4480);
        let peak = chime.iter().fold(0f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.15..0.25).contains(&peak), "{peak}");
        assert!(chime[0].abs() < 1e-3 && chime[chime.len() - 1].abs() < 1e-3);
        let jump = chime.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0f32, f32::max);
        assert!(jump < 0.08, "the steepest slope of 784 Hz at a quarter of full scale is 0.077: {jump}");
        // The second note swings 659.26 times a second.
        let crossings = chime[4480..8960].windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count();
        assert!((crossings as f64 / 2.0 / 0.28 - 659.26).abs() < 5.0, "{crossings}");
    }
}
