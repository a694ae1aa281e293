//! The archivist thread: owns the archive of conversations and writes what the session hands it, so that the session
//! never waits for the disk. May block on the disk. Jobs are done in order; answers go to the window as events, and to
//! the session's inbox where the session has to act on them. Ends when its job channel closes.

use super::event::{ConversationEntry, Event, EventSink, Severity};
use super::inbox::{Inbox, KeptEvent};
use super::told::Told;
use super::turn_sound::FinishedSound;
use crate::conversation::archive::{Archive, ArchiveError};
use crate::conversation::export::{self, Form};
use crate::conversation::{Conversation, KeptSound, KeptTurn, Side, Summary};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};

/// What the archivist is asked to do.
pub enum Job {
    /// Keep this turn in the open conversation, which begins with its first turn.
    Keep(Box<KeptTurn>, FinishedSound),
    /// What follows is a new conversation.
    Close,
    /// Open the conversation that was begun last, if there is one.
    OpenNewest,
    Open(String),
    /// List the conversations with these words in them.
    List(String),
    Delete(String),
    DeleteAll,
    /// Write a conversation (`None`: the open one) to a file, or (`None`) to the folder for exports.
    Export {
        id: Option<String>,
        form: Form,
        to: Option<PathBuf>,
    },
    /// Fetch the sound of a turn of the open conversation.
    Fetch {
        turn: u64,
        side: Side,
    },
}

/// Runs until the job channel closes.
pub fn run(jobs: &Receiver<Job>, archive: Archive, events: EventSink, inbox: SyncSender<Inbox>) {
    archive.tidy();
    let mut archivist = Archivist { archive, events, inbox, open: None, query: String::new(), told_trouble: false };
    while let Ok(job) = jobs.recv() {
        let keeping = matches!(job, Job::Keep(..));
        match archivist.work(job) {
            Ok(()) if keeping => archivist.told_trouble = false,
            Ok(()) => {}
            // A full disk would otherwise be told with every turn.
            Err(_) if keeping && archivist.told_trouble => {}
            Err(error) => {
                archivist.told_trouble |= keeping;
                let not_kept = || Told::new("kept-not", "What you say now is not being kept.");
                archivist.tell(Event::Problem {
                    what: Told::from(&error),
                    remedy: if keeping { not_kept() } else { Told::default() },
                    severity: Severity::Warning,
                });
            }
        }
    }
}

struct Archivist {
    archive: Archive,
    events: EventSink,
    inbox: SyncSender<Inbox>,
    /// The conversation that turns are added to.
    open: Option<String>,
    query: String,
    told_trouble: bool,
}

impl Archivist {
    fn tell(&self, event: Event) {
        self.events.send(event);
    }

    fn to_session(&self, event: KeptEvent) {
        // The session thread is gone only when the program ends.
        let _ = self.inbox.send(Inbox::Kept(event));
    }

    fn work(&mut self, job: Job) -> Result<(), ArchiveError> {
        match job {
            Job::Keep(turn, sound) => self.keep(*turn, &sound)?,
            Job::Close => self.open = None,
            Job::OpenNewest => {
                if let Some(newest) = self.archive.newest() {
                    self.opened(newest);
                }
            }
            Job::Open(id) => {
                let conversation = self.archive.load(&id)?;
                self.opened(conversation);
            }
            Job::List(query) => self.query = query,
            Job::Delete(id) => {
                if self.open.as_ref() == Some(&id) {
                    self.open = None;
                }
                self.archive.delete(&id)?;
            }
            Job::DeleteAll => {
                self.open = None;
                self.archive.delete_all()?;
            }
            Job::Export { id, form, to } => return self.export(id, form, to),
            Job::Fetch { turn, side } => return self.fetch(turn, side),
        }
        self.list();
        Ok(())
    }

    fn list(&self) {
        let entry = |s: Summary| ConversationEntry { id: s.id, began: s.began, title: s.title, turns: s.turns };
        let list = self.archive.list(&self.query).into_iter().map(entry).collect();
        self.tell(Event::Conversations { query: self.query.clone(), list, open: self.open.clone() });
    }

    fn keep(&mut self, mut turn: KeptTurn, sound: &FinishedSound) -> Result<(), ArchiveError> {
        let id = match self.open.take() {
            Some(id) => id,
            None => self.archive.begin(turn.at)?,
        };
        self.open = Some(id.clone());
        for (side, name) in [(Side::User, "user"), (Side::Assistant, "assistant")] {
            let Some(track) = sound.track(side) else { continue };
            let file = format!("{:04}-{name}.wav", turn.turn);
            self.archive.keep_sound(&id, &file, track.rate, &track.samples)?;
            let kept = Some(KeptSound { file, at: track.at, heard_seconds: track.heard_seconds });
            match side {
                Side::User => turn.user_sound = kept,
                Side::Assistant => turn.answer_sound = kept,
            }
        }
        self.archive.append(&id, &turn)?;
        self.tell(Event::TurnKept {
            turn: turn.turn,
            at: turn.at,
            user_sound: turn.user_sound.is_some(),
            answer_sound: turn.answer_sound.is_some(),
        });
        Ok(())
    }

    fn opened(&mut self, conversation: Conversation) {
        self.open = Some(conversation.id);
        self.to_session(KeptEvent::Opened(conversation.turns));
    }

    fn open_conversation(&self) -> Result<Conversation, ArchiveError> {
        self.archive.load(self.open.as_deref().unwrap_or_default())
    }

    fn fetch(&self, turn: u64, side: Side) -> Result<(), ArchiveError> {
        let conversation = self.open_conversation()?;
        let kept = conversation.turns.iter().rfind(|kept| kept.turn == turn).and_then(|kept| kept.sound(side));
        let Some(sound) = kept else { return Ok(()) };
        let clip = self.archive.sound(&conversation.id, &sound.file)?;
        self.to_session(KeptEvent::Sound { turn, side, clip });
        Ok(())
    }

    fn export(&self, id: Option<String>, form: Form, to: Option<PathBuf>) -> Result<(), ArchiveError> {
        let conversation = match id {
            Some(id) => self.archive.load(&id)?,
            None => self.open_conversation()?,
        };
        let to = to.unwrap_or_else(|| {
            self.archive.export_folder().join(format!("antiphon-{}.{}", conversation.id, form.extension()))
        });
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|source| disk(folder, source))?;
        }
        let text = match form {
            Form::Markdown => export::to_markdown(&conversation, &TimeZone::system()),
            Form::Json => export::to_json(&conversation)?,
            Form::StereoWav => {
                let load = |sound: &KeptSound| self.archive.sound(&conversation.id, &sound.file).ok();
                let (user, assistant) = export::to_stereo(&conversation, load);
                crate::audio::file::write_wav(&to, export::RATE, &[&user, &assistant])?;
                self.exported(&to);
                return Ok(());
            }
        };
        std::fs::write(&to, text).map_err(|source| disk(&to, source))?;
        self.exported(&to);
        Ok(())
    }

    fn exported(&self, to: &Path) {
        let what = Told::new("kept-exported", "The conversation was exported");
        let remedy = to.display().to_string().into();
        self.tell(Event::Problem { what, remedy, severity: Severity::Note });
    }
}

fn disk(path: &Path, source: std::io::Error) -> ArchiveError {
    ArchiveError::Disk { path: path.to_owned(), source }
}
