//! Where sound cards come from, and the watch over which devices are connected and which of them the system prefers.
//!
//! cpal tells nobody when the default device changes or a device comes or goes (on PulseAudio a stream whose device went
//! away moves to another one in silence), so a thread of its own looks every half second, over one connection that it
//! keeps. A sound service that freezes freezes this thread and no other: [`Watching::answers`] says so, and nobody has
//! to send more threads after it.

use super::device::{self, CardChoice, DeviceList};
use super::stream_thread::spawn;
use super::{AudioError, Card};
use crate::time::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often to look where a look is four short messages over an open connection.
const OFTEN: Duration = Duration::from_millis(500);
/// How often to look elsewhere: ALSA reads its configuration files each time, some 10 ms.
const SELDOM: Duration = Duration::from_secs(2);
/// A look that takes this long met a sound service that was frozen or busy; what was opened meanwhile may have failed.
const SLOW: Duration = Duration::from_secs(1);
/// A sound service that has not answered for this long is taken for frozen.
const FROZEN: Duration = Duration::from_millis(2500);

/// Told of the devices that are connected, at first and whenever that changes; `false` ends the watch.
pub type Teller = Box<dyn FnMut(DeviceList) -> bool + Send>;

/// Opens cards and watches over devices: those of the system, or simulated ones.
pub trait CardSupply: Send + Sync {
    /// Opens what was chosen. Blocks for as long as the sound service takes, at most some seconds.
    fn open(&self, choice: &CardChoice) -> Result<Card, AudioError>;
    /// Begins to watch; ends when what is returned is dropped.
    fn watch(&self, tell: Teller) -> Result<Watching, AudioError>;
}

/// The system's own devices.
pub struct SystemCards;

impl CardSupply for SystemCards {
    fn open(&self, choice: &CardChoice) -> Result<Card, AudioError> {
        Card::open(choice)
    }

    fn watch(&self, tell: Teller) -> Result<Watching, AudioError> {
        watch(tell)
    }
}

/// A watch that goes on until this is dropped. The default is one that never has anything to tell.
#[derive(Debug, Default)]
pub struct Watching {
    /// When the question was asked that is not answered yet; 0 when none is open.
    asked: Arc<AtomicU64>,
    /// Dropping it ends the thread.
    _stop: Option<Sender<()>>,
}

impl Watching {
    /// Whether the sound service answers at all.
    pub fn answers(&self, now: Micros) -> bool {
        let asked = self.asked.load(Ordering::Acquire);
        asked == 0 || now.since(Micros(asked)) < FROZEN
    }
}

fn watch(mut tell: Teller) -> Result<Watching, AudioError> {
    let (stop, stopped) = channel::<()>();
    let asked = Arc::new(AtomicU64::new(0));
    let theirs = asked.clone();
    spawn("antiphon-watch", move || {
        let (mut host, mut known) = (None, None);
        loop {
            let start = Micros::now();
            theirs.store(start.0.max(1), Ordering::Release);
            let asked_host = host.take().unwrap_or_else(cpal::default_host);
            let found = device::names(&asked_host);
            theirs.store(0, Ordering::Release);
            let took = Micros::now().since(start);
            let is_pulse = device::is_pulse(&asked_host);
            let answered = found.is_some();
            let list = found.unwrap_or_default();
            if took >= SLOW || known.as_ref() != Some(&list) {
                known = Some(list.clone());
                if !tell(list) {
                    return;
                }
            }
            // Another host is only a makeshift while PulseAudio is away: it is asked for anew each time.
            host = (is_pulse && answered).then_some(asked_host);
            let pause = if is_pulse { OFTEN } else { SELDOM };
            if stopped.recv_timeout(pause.max(took * 4)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    })?;
    Ok(Watching { asked, _stop: Some(stop) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_an_answer_means_frozen() {
        let watching = Watching::default();
        assert!(watching.answers(Micros(u64::MAX)), "nothing was asked");
        watching.asked.store(5_000_000, Ordering::Release);
        assert!(watching.answers(Micros(7_400_000)));
        assert!(!watching.answers(Micros(7_500_000)));
        watching.asked.store(0, Ordering::Release);
        assert!(watching.answers(Micros(9_000_000)));
    }

    /// Whatever this machine has, the watch tells of it once, and ends when nobody wants it any more.
    #[test]
    fn the_watch_tells_at_once_and_ends_when_it_is_dropped() {
        let (tx, rx) = channel();
        let watching = watch(Box::new(move |list| tx.send(list).is_ok())).unwrap();
        let list = rx.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(list.inputs.iter().filter(|d| d.is_default).count() <= 1);
        drop(watching);
        // The thread drops its sender when it ends; should a device come or go meanwhile, that is told first.
        while rx.recv_timeout(Duration::from_secs(60)).is_ok() {}
        assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Disconnected));
    }
}
