//! Threads that own the streams of real devices: each opens its stream, waits, and drops it.
//!
//! Some hosts hang in opening or in dropping a stream whose sound service died. Then only that thread is left behind:
//! nobody ever joins one.

use super::{AudioError, Direction};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long opening or listing may take before the sound service is taken for dead.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// How many openings may hang at a time. A sound service that answers none of these answers no further one either.
const MOST_HANGING: usize = 4;

/// Openings that have not come to an end.
static HANGING: AtomicUsize = AtomicUsize::new(0);

/// How much the threads that move sound are preferred (Linux' nice value, as PulseAudio gives its own threads).
#[cfg(target_os = "linux")]
const URGENCY: i32 = -11;

/// How long the closing of a card is waited for before threads are left behind.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// The streams of one card. When dropped, all are told to close before any is waited for.
#[derive(Default)]
pub(super) struct Streams(Vec<StreamGuard>);

impl Streams {
    /// The microphones' and the loudspeakers'.
    pub(super) fn split(mut self) -> (Streams, Streams) {
        let (inputs, outputs) = self.0.drain(..).partition(|stream| stream.direction == Direction::Input);
        (Streams(inputs), Streams(outputs))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|stream| drop(stream.close.take()));
        let deadline = Instant::now() + CLOSE_WITHIN;
        for stream in &self.0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = stream.closed.recv_timeout(left) {
                tracing::warn!("the {} does not close; its thread is left behind", stream.direction);
            }
        }
    }
}

/// A stream and our end of it.
pub(super) type Running<E> = (cpal::Stream, E);

/// Keeps one stream open: its thread closes it when `close` is dropped, and drops its end of `closed` when that is done.
struct StreamGuard {
    direction: Direction,
    close: Option<Sender<()>>,
    closed: Receiver<()>,
}

/// A stream that is being opened on its own thread.
pub(super) struct Opening<E> {
    direction: Direction,
    result: Receiver<Result<E, AudioError>>,
    guard: StreamGuard,
}

impl<E: Send + 'static> Opening<E> {
    /// Begins to open on a new thread.
    pub(super) fn start(
        direction: Direction,
        open: impl FnOnce() -> Result<Running<E>, AudioError> + Send + 'static,
    ) -> Result<Self, AudioError> {
        if HANGING.load(Ordering::Acquire) >= MOST_HANGING {
            return Err(no_answer(&format!("opening the {direction}")));
        }
        let (result_tx, result) = channel();
        let (close, close_rx) = channel::<()>();
        let (closed_tx, closed) = channel();
        let name = match direction {
            Direction::Input => "antiphon-input",
            Direction::Output => "antiphon-output",
        };
        HANGING.fetch_add(1, Ordering::AcqRel);
        let spawned = spawn(name, move || {
            go_first();
            let opened = open();
            HANGING.fetch_sub(1, Ordering::AcqRel);
            match opened {
                Ok((stream, end)) => {
                    if result_tx.send(Ok(end)).is_ok() {
                        // Returns when the guard drops its sender; nothing is ever sent.
                        let _ = close_rx.recv();
                    }
                    drop(stream);
                }
                Err(e) => {
                    let _ = result_tx.send(Err(e));
                }
            }
            drop(closed_tx);
        });
        if spawned.is_err() {
            HANGING.fetch_sub(1, Ordering::AcqRel);
        }
        spawned?;
        Ok(Self { direction, result, guard: StreamGuard { direction, close: Some(close), closed } })
    }

    /// Waits until it is open; what keeps it open goes to `streams`.
    pub(super) fn wait(self, streams: &mut Streams) -> Result<E, AudioError> {
        let end = self
            .result
            .recv_timeout(ANSWER_WITHIN)
            .unwrap_or_else(|_| Err(no_answer(&format!("opening the {}", self.direction))))?;
        streams.0.push(self.guard);
        Ok(end)
    }
}

/// Lets this thread, and those that the host starts from it for its callbacks, go before all that computes. Most systems
/// allow this only to some users; without it, sound still goes before the engine, which gives way by itself.
fn go_first() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(URGENCY) {
        tracing::debug!("sound is not preferred: {error}");
    }
}

/// Starts a thread that nobody waits for.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AudioError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|e| AudioError::Exhausted { detail: e.to_string() })
}

/// The sound service is taken for dead.
pub(super) fn no_answer(doing: &str) -> AudioError {
    AudioError::NoAnswer { doing: doing.into(), seconds: ANSWER_WITHIN.as_secs() }
}
