//! How much sound must be queued before the first sample may sound. Pure arithmetic, on the mouth thread.
//!
//! An engine that makes sound slower than it is played needs a lead, or its reply has holes; an engine that is faster
//! needs none, and every millisecond of lead is a millisecond of waiting. The decision rests on how fast the engine
//! has been, how steadily, and how much it still has to make.

use std::time::Duration;

/// How fast an engine makes sound: seconds of sound per second of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    pub mean: f64,
    /// Standard deviation from chunk to chunk.
    pub spread: f64,
}

/// Measures [`Speed`] over the chunks of this reply and the ones before; old chunks fade from memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpeedMeter {
    weight: f64,
    mean: f64,
    variance: f64,
}

/// How much of the memory remains after each chunk.
const MEMORY: f64 = 0.85;

impl SpeedMeter {
    /// A chunk of `sound` took `work` to make. Chunks without sound, or made in no time, say nothing.
    pub fn record(&mut self, sound: Duration, work: Duration) {
        if sound.is_zero() || work.is_zero() {
            return;
        }
        let speed = sound.as_secs_f64() / work.as_secs_f64();
        self.weight = self.weight * MEMORY + 1.0;
        let share = 1.0 / self.weight;
        let off = speed - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    /// The speed as measured so far, `None` before the first chunk.
    pub fn speed(&self) -> Option<Speed> {
        (self.weight > 0.0).then(|| Speed { mean: self.mean, spread: self.variance.max(0.0).sqrt() })
    }
}

/// What is taken into account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrerollRules {
    /// Queued in any case, against the unevenness of threads and devices.
    pub cushion: Duration,
    /// Never waited for longer than this much sound: a hole now and then is better than an answer that never starts.
    pub limit: Duration,
    /// How long a reply is taken to be when nobody knows.
    pub usual_reply: Duration,
}

impl Default for PrerollRules {
    fn default() -> Self {
        Self { cushion: Duration::from_millis(20), limit: Duration::from_secs(3), usual_reply: Duration::from_secs(5) }
    }
}

/// How many standard deviations slower than usual the engine is assumed to be.
const CAUTION: f64 = 1.5;

/// The slowest speed that is reckoned with.
const SLOWEST: f64 = 0.05;

impl PrerollRules {
    /// How much sound must be queued before the first sample sounds.
    ///
    /// `speed`: as measured, `None` if nothing was; `next_chunk`: how much sound the engine makes at a time;
    /// `remaining`: how much it still has to make, `None` if unknown.
    ///
    /// Two needs, the greater counts. The reply as a whole: while the remaining `L` seconds are made, `L/s` seconds
    /// pass, so `L/s - L` must be queued. The next chunk: it comes `chunk/s` from now.
    pub fn needed(&self, speed: Option<Speed>, next_chunk: Duration, remaining: Option<Duration>) -> Duration {
        let Some(speed) = speed else { return self.cushion };
        let cautious = (speed.mean - CAUTION * speed.spread).max(SLOWEST);
        let remaining = remaining.unwrap_or(self.usual_reply).as_secs_f64();
        let whole = remaining * (1.0 / cautious - 1.0).max(0.0);
        let chunk = next_chunk.as_secs_f64().min(remaining) / cautious;
        let needed = Duration::from_secs_f64(whole.max(chunk)) + self.cushion;
        // With nothing left to make there is nothing to wait for.
        if remaining == 0.0 { Duration::ZERO } else { needed.min(self.limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Duration {
        Duration::from_millis(t)
    }

    #[test]
    fn decisions() {
        let rules = PrerollRules::default();
        let even = |mean| Some(Speed { mean, spread: 0.0 });
        // (speed, chunk ms, remaining ms) -> needed ms
        let table = [
            (None, 500, Some(4000), 20),                                     // unknown: begin
            (even(10.0), 500, Some(4000), 70),                               // fast: the next chunk is 50 ms away
            (even(2.0), 100, None, 70),                                      // fast, length unknown
            (even(1.0), 500, Some(4000), 520),                               // as fast as it plays: one chunk
            (even(0.8), 400, Some(4000), 1020),                              // 4 s take 5 s: one second of lead
            (even(0.8), 400, Some(1000), 520),                               // the end is near: the chunk counts
            (even(0.5), 400, Some(1200), 1220),                              // 1.2 s take 2.4 s
            (even(0.5), 400, Some(60_000), 3000),                            // hopeless: the limit
            (even(0.8), 400, None, 1270),                                    // a usual reply of 5 s
            (Some(Speed { mean: 1.1, spread: 0.2 }), 400, Some(4000), 1020), // 0.8 when it is slow
            (Some(Speed { mean: 0.2, spread: 1.0 }), 400, Some(4000), 3000), // no better than the slowest
            (even(0.8), 400, Some(0), 0),                                    // all is made
        ];
        for (speed, chunk, remaining, expected) in table {
            let needed = rules.needed(speed, ms(chunk), remaining.map(ms));
            let off = needed.as_secs_f64() * 1000.0 - expected as f64;
            assert!(off.abs() < 0.01, "{speed:?} {chunk} {remaining:?}: {needed:?}, expected {expected} ms");
        }
    }

    /// Plays what the decision promises: with the lead it asks for, an engine of that speed leaves no hole.
    #[test]
    fn the_lead_is_enough_and_not_much_too_long() {
        let rules = PrerollRules { limit: Duration::from_secs(60), ..PrerollRules::default() };
        for speed in [0.3, 0.6, 0.95, 1.0, 1.5, 4.0] {
            let (chunk, total) = (0.4, 6.0);
            let chunks = (total / chunk) as usize;
            let made_at = |i: usize| (i + 1) as f64 * chunk / speed;
            let start = (0..chunks)
                .find(|&i| {
                    let (queued, left) = ((i + 1) as f64 * chunk, total - (i + 1) as f64 * chunk);
                    let needed = rules.needed(
                        Some(Speed { mean: speed, spread: 0.0 }),
                        Duration::from_secs_f64(chunk),
                        Some(Duration::from_secs_f64(left.max(0.0))),
                    );
                    queued >= needed.as_secs_f64()
                })
                .unwrap();
            let hole = |start: usize| (0..chunks).any(|i| made_at(i) > made_at(start) + i as f64 * chunk + 1e-9);
            assert!(!hole(start), "speed {speed}: a hole when starting after chunk {start}");
            assert!(start < 2 || hole(start - 2), "speed {speed}: waits for chunk {start}, two more than needed");
        }
    }

    #[test]
    fn the_meter_finds_mean_and_spread() {
        let mut meter = SpeedMeter::default();
        assert_eq!(meter.speed(), None);
        meter.record(ms(0), ms(10));
        meter.record(ms(10), ms(0));
        assert_eq!(meter.speed(), None);
        meter.record(ms(400), ms(200));
        assert_eq!(meter.speed(), Some(Speed { mean: 2.0, spread: 0.0 }));
        for _ in 0..100 {
            meter.record(ms(400), ms(200));
            meter.record(ms(400), ms(400));
        }
        let speed = meter.speed().unwrap();
        assert!((speed.mean - 1.5).abs() < 0.06 && (speed.spread - 0.5).abs() < 0.03, "{speed:?}");
    }
}
