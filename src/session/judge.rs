//! The judge of pauses: runs the end-of-turn model on a thread of its own, so that the ear never waits for it.
//!
//! The ear asks about one pause at a time and goes on listening; the answer carries the number of the pause it was asked
//! for, and an answer about a pause that is over says nothing. A question about a pause that is over when its turn comes
//! is not even computed. The thread ends when the ear lets go of its [`Judge`].

use crate::time::Micros;
use crate::turn::TurnError;
use crate::turn::endpoint::Opinion;
use crate::turn::smart_turn::SmartTurn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel,
};
use std::time::Duration;

/// What judges a pause.
pub trait EndOfTurnJudge: Send {
    /// The probability that the speaker is done. `last_8s` is 16 kHz mono, up to and including the silence so far.
    ///
    /// # Errors
    /// When the computation failed; it is not asked again.
    fn probability(&mut self, last_8s: &[f32]) -> Result<f32, TurnError>;
}

impl EndOfTurnJudge for SmartTurn {
    fn probability(&mut self, last_8s: &[f32]) -> Result<f32, TurnError> {
        SmartTurn::probability(self, last_8s)
    }
}

/// Loads the end-of-turn model, on the judge's thread; `None` leaves the decision to silence alone, until it is asked for
/// again: the model may be fetched while the session runs.
pub type EndOfTurnModel = Box<dyn FnMut() -> Option<Box<dyn EndOfTurnJudge>> + Send>;

/// How often a model that is not here is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// A pause to be judged.
#[derive(PartialEq)]
struct Question {
    pause: u64,
    silence_ms: u32,
    sound: Vec<f32>,
}

enum Answer {
    /// The model is loaded.
    Ready,
    /// It failed: the last word.
    Gone,
    Judged {
        pause: u64,
        opinion: Opinion,
    },
}

/// The ear's end of the judge.
pub struct Judge {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    /// The pause that the ear is in; what is asked about another need not be answered.
    current: Arc<AtomicU64>,
    ready: bool,
    asked: bool,
}

impl Judge {
    /// Begins to load the model, in the background.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub fn start(model: EndOfTurnModel) -> Result<Self, std::io::Error> {
        // One question may wait while a stale one is still being computed.
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = channel();
        let current = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&current);
        std::thread::Builder::new().name("end of turn".into()).spawn(move || judge(model, &asked, &answer, &theirs))?;
        Ok(Judge { questions, answers, current, ready: false, asked: false })
    }

    /// Whether there is somebody to ask.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether an answer about the present pause is awaited.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Speech goes on or a turn is over: what was asked so far concerns nobody any more.
    pub fn forget(&mut self) {
        self.current.fetch_add(1, Ordering::AcqRel);
        self.asked = false;
    }

    /// Asks about the present pause, unless the judge is still busy with two others: then ask again later.
    pub fn ask(&mut self, silence_ms: u32, sound: Vec<f32>) {
        let pause = self.current.load(Ordering::Acquire);
        match self.questions.try_send(Question { pause, silence_ms, sound }) {
            Ok(()) => self.asked = true,
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => self.ready = false,
        }
    }

    /// The answer about the present pause, if it has come.
    pub fn answer(&mut self) -> Option<Opinion> {
        loop {
            match self.answers.try_recv() {
                Ok(Answer::Ready) => self.ready = true,
                Ok(Answer::Judged { pause, opinion }) if pause == self.current.load(Ordering::Acquire) => {
                    self.asked = false;
                    return Some(opinion);
                }
                Ok(Answer::Judged { .. }) => {}
                Ok(Answer::Gone) | Err(TryRecvError::Disconnected) => {
                    (self.ready, self.asked) = (false, false);
                    return None;
                }
                Err(TryRecvError::Empty) => return None,
            }
        }
    }
}

/// The thread.
fn judge(mut load: EndOfTurnModel, asked: &Receiver<Question>, answer: &Sender<Answer>, current: &AtomicU64) {
    let mut model = loop {
        if let Some(model) = load() {
            break model;
        }
        if asked.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    };
    // Whoever does not take an answer any more is gone, and so are the questions.
    let _ = answer.send(Answer::Ready);
    while let Ok(Question { pause, silence_ms, sound }) = asked.recv() {
        if pause != current.load(Ordering::Acquire) {
            continue;
        }
        let began = Micros::now();
        match model.probability(&sound) {
            Ok(complete) => {
                tracing::debug!(
                    "after {silence_ms} ms of silence the turn is complete with probability {complete:.2}, said in {:.0} ms",
                    Micros::now().ms_since(began)
                );
                let _ = answer.send(Answer::Judged { pause, opinion: Opinion { asked_at_ms: silence_ms, complete } });
            }
            Err(error) => {
                tracing::warn!("{error}");
                let _ = answer.send(Answer::Gone);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// Says when it was asked, and answers when it is told to, with the given probability.
    struct Slow {
        asked: Sender<usize>,
        tell: Receiver<Result<f32, TurnError>>,
    }

    impl EndOfTurnJudge for Slow {
        fn probability(&mut self, sound: &[f32]) -> Result<f32, TurnError> {
            self.asked.send(sound.len()).unwrap();
            self.tell.recv().unwrap()
        }
    }

    fn slow() -> (Judge, Receiver<usize>, Sender<Result<f32, TurnError>>) {
        let (asked_in, asked) = channel();
        let (tell, told) = mpsc::channel();
        let mut slow = Some(Slow { asked: asked_in, tell: told });
        let mut judge = Judge::start(Box::new(move || slow.take().map(|slow| Box::new(slow) as _))).unwrap();
        wait(|| {
            judge.answer();
            judge.is_ready()
        });
        (judge, asked, tell)
    }

    fn wait(mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_answer_belongs_to_the_pause_it_was_asked_for() {
        let (mut judge, asked, tell) = slow();
        judge.ask(200, vec![0.0; 1]);
        assert_eq!(asked.recv().unwrap(), 1);
        // Speech goes on while the model is thinking, and then there is another pause.
        judge.forget();
        assert!(!judge.is_asked());
        judge.ask(208, vec![0.0; 2]);
        assert!(judge.is_asked());
        tell.send(Ok(0.9)).unwrap();
        assert_eq!(asked.recv().unwrap(), 2, "the second question comes after the first answer");
        assert_eq!(judge.answer(), None, "0.9 was said about a pause that is over");
        tell.send(Ok(0.2)).unwrap();
        let mut answer = None;
        wait(|| {
            answer = judge.answer();
            answer.is_some()
        });
        assert_eq!(answer, Some(Opinion { asked_at_ms: 208, complete: 0.2 }));
        assert!(!judge.is_asked());
    }

    #[test]
    fn what_nobody_wants_to_know_any_more_is_not_computed() {
        let (mut judge, asked, tell) = slow();
        judge.ask(200, vec![0.0; 1]);
        asked.recv().unwrap();
        judge.ask(400, vec![0.0; 2]);
        judge.forget();
        tell.send(Ok(0.5)).unwrap();
        // The second question is skipped, so that the third is the next that the model hears of.
        wait(|| {
            judge.ask(200, vec![0.0; 3]);
            judge.is_asked()
        });
        assert_eq!(asked.recv().unwrap(), 3);
    }

    #[test]
    fn a_judge_that_fails_is_not_asked_again() {
        let (mut judge, asked, tell) = slow();
        judge.ask(200, vec![0.0; 1]);
        asked.recv().unwrap();
        tell.send(Err(TurnError::Compute("the model is on fire".into()))).unwrap();
        wait(|| {
            judge.answer();
            !judge.is_ready()
        });
        assert!(!judge.is_asked());
    }

    /// As when it is fetched while the program runs.
    #[test]
    fn a_judge_that_comes_late_is_found() {
        let (looked, looks) = channel();
        let (allow, allowed) = channel::<()>();
        let (asked_in, _asked) = channel();
        let (_tell, told) = mpsc::channel();
        let mut slow = Some(Slow { asked: asked_in, tell: told });
        let late = move || {
            looked.send(()).unwrap();
            allowed.try_recv().ok().and_then(|()| slow.take()).map(|slow| Box::new(slow) as _)
        };
        let mut judge = Judge::start(Box::new(late)).unwrap();
        looks.recv().unwrap();
        assert!(judge.answer().is_none() && !judge.is_ready(), "it is not here yet");
        allow.send(()).unwrap();
        wait(|| {
            judge.answer();
            judge.is_ready()
        });
    }
}
