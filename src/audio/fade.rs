//! Fades and gains that move by one sample at a time. Plain arithmetic, used inside the output callback: nothing here
//! allocates or can panic.

/// A gain that is at 0, at 1, or on a straight line between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declicker {
    SettledAt0,
    SettledAt1,
    FadingTo0 { left: u32, of: u32 },
    FadingTo1 { left: u32, of: u32 },
}

impl Declicker {
    /// Begins to fade to silence over `samples`, from wherever the gain is now.
    pub fn fade_out(&mut self, samples: u32) {
        *self = match *self {
            Declicker::SettledAt0 => Declicker::SettledAt0,
            Declicker::SettledAt1 => Declicker::FadingTo0 { left: samples, of: samples.max(1) },
            Declicker::FadingTo0 { left, of } => Declicker::FadingTo0 { left, of },
            Declicker::FadingTo1 { left, of } => {
                // As far from 0 on the way down as it was on the way up.
                let of = of.max(1);
                let risen = u64::from(of.saturating_sub(left)) * u64::from(samples) / u64::from(of);
                Declicker::FadingTo0 { left: risen as u32, of: samples.max(1) }
            }
        };
    }

    /// Begins to fade in from silence over `samples`.
    pub fn fade_in(&mut self, samples: u32) {
        *self = Declicker::FadingTo1 { left: samples, of: samples.max(1) };
    }

    /// The gain for the next sample.
    pub fn step(&mut self) -> f32 {
        match *self {
            Declicker::SettledAt0 => 0.0,
            Declicker::SettledAt1 => 1.0,
            Declicker::FadingTo0 { left, of } => {
                let left = left.saturating_sub(1);
                *self = if left == 0 { Declicker::SettledAt0 } else { Declicker::FadingTo0 { left, of } };
                left as f32 / of as f32
            }
            Declicker::FadingTo1 { left, of } => {
                let left = left.saturating_sub(1);
                *self = if left == 0 { Declicker::SettledAt1 } else { Declicker::FadingTo1 { left, of } };
                1.0 - left as f32 / of as f32
            }
        }
    }

    /// How many samples until the gain settles.
    pub fn left(&self) -> usize {
        match *self {
            Declicker::SettledAt0 | Declicker::SettledAt1 => 0,
            Declicker::FadingTo0 { left, .. } | Declicker::FadingTo1 { left, .. } => left as usize,
        }
    }
}

/// A gain that follows its target at a limited speed, so that a step in the target does not click.
#[derive(Clone, Copy, Debug)]
pub struct SlewedGain {
    now: f32,
    step: f32,
}

impl SlewedGain {
    /// A gain that needs `samples` to go from 0 to 1.
    pub fn new(now: f32, samples: u32) -> Self {
        Self { now, step: 1.0 / samples.max(1) as f32 }
    }

    /// The gain for the next sample, one step nearer to `target`.
    pub fn step(&mut self, target: f32) -> f32 {
        self.now += (target - self.now).clamp(-self.step, self.step);
        self.now
    }
}

/// The rest of a sound that was cut off: a straight line from its last value to zero, instead of a click.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    value: f32,
    left: u32,
    of: u32,
}

impl Tail {
    /// Begins at `value`, to reach zero after `samples`.
    pub fn begin(&mut self, value: f32, samples: u32) {
        *self = Tail { value, left: samples, of: samples.max(1) };
    }

    /// The next sample of the line; zero when it is over.
    pub fn step(&mut self) -> f32 {
        if self.left == 0 {
            return 0.0;
        }
        self.left -= 1;
        self.value * (self.left as f32 / self.of as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fades_are_straight_and_settle() {
        let mut d = Declicker::SettledAt1;
        d.fade_out(4);
        let down: Vec<f32> = (0..6).map(|_| d.step()).collect();
        assert_eq!(down, [0.75, 0.5, 0.25, 0.0, 0.0, 0.0]);
        assert_eq!(d, Declicker::SettledAt0);
        d.fade_in(4);
        let up: Vec<f32> = (0..6).map(|_| d.step()).collect();
        assert_eq!(up, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(d, Declicker::SettledAt1);
    }

    #[test]
    fn a_fade_out_during_a_fade_in_starts_where_the_gain_is() {
        let mut d = Declicker::SettledAt0;
        d.fade_in(10);
        let reached = (0..5).map(|_| d.step()).last().unwrap();
        assert_eq!(reached, 0.5);
        d.fade_out(20);
        assert_eq!(d.left(), 10);
        assert!((d.step() - 0.45).abs() < 1e-6);
    }

    #[test]
    fn a_slewed_gain_arrives_and_stays() {
        let mut g = SlewedGain::new(1.0, 10);
        let path: Vec<f32> = (0..12).map(|_| g.step(0.25)).collect();
        assert!((path[0] - 0.9).abs() < 1e-6);
        assert!((path[7] - 0.25).abs() < 1e-6 && (path[11] - 0.25).abs() < 1e-6);
    }

    #[test]
    fn a_tail_ends_at_zero() {
        let mut t = Tail::default();
        assert_eq!(t.step(), 0.0);
        t.begin(1.0, 4);
        let line: Vec<f32> = (0..5).map(|_| t.step()).collect();
        assert_eq!(line, [0.75, 0.5, 0.25, 0.0, 0.0]);
    }
}
