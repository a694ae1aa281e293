//! The table of errors: one line per kind of comparison.

struct Line {
    name: String,
    count: usize,
    worst: f32,
    scale: f32,
    wrong: Option<String>,
}

/// What has been compared so far.
pub struct Table {
    lines: Vec<Line>,
    /// Values may differ by this much.
    tolerance: f32,
}

impl Table {
    pub fn new(tolerance: f32) -> Self {
        Self { lines: Vec::new(), tolerance }
    }

    fn line(&mut self, name: &str) -> &mut Line {
        let at = self.lines.iter().position(|l| l.name == name).unwrap_or_else(|| {
            let line = Line { name: name.to_string(), count: 0, worst: 0.0, scale: 0.0, wrong: None };
            self.lines.push(line);
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    /// Compares values; `item` says which of the kind, for the message.
    pub fn values(&mut self, name: &str, item: usize, found: &[f32], expected: &[f32]) {
        let tolerance = self.tolerance;
        let line = self.line(name);
        line.count += 1;
        if found.len() != expected.len() {
            line.wrong.get_or_insert(format!("no. {item}: {} values, expected {}", found.len(), expected.len()));
            return;
        }
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let error = if f == e { 0.0 } else { (f - e).abs() };
            if e.is_finite() {
                line.scale = line.scale.max(e.abs());
            }
            if error.is_nan() || error > line.worst {
                line.worst = error;
            }
            if error.is_nan() || error > tolerance {
                line.wrong.get_or_insert(format!("no. {item}, value {i}: {f}, expected {e}"));
            }
        }
    }

    /// Compares what must be equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, item: usize, found: &T, expected: &T) {
        let line = self.line(name);
        line.count += 1;
        if found != expected {
            line.worst = f32::INFINITY;
            line.wrong.get_or_insert_with(|| {
                let short = |t: &T| format!("{t:?}").chars().take(300).collect::<String>();
                format!("no. {item}: {}, expected {}", short(found), short(expected))
            });
        }
    }

    /// The table as text, and whether everything agreed.
    pub fn finish(&self) -> (String, bool) {
        let mut text = format!("{:<34} {:>6} {:>10} {:>10}\n", "compared", "count", "max error", "scale");
        for l in &self.lines {
            let verdict = l.wrong.as_ref().map_or(String::new(), |w| format!("  WRONG {w}"));
            text += &format!("{:<34} {:>6} {:>10.2e} {:>10.2e}{verdict}\n", l.name, l.count, l.worst, l.scale);
        }
        (text, self.lines.iter().all(|l| l.wrong.is_none()))
    }
}
