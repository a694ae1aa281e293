//! Rows of a signal: one per moment, its channels side by side, so that a convolution reads what it needs from a few
//! neighbouring rows, and the next moment is simply appended.
//!
//! Plain data. Invariants: the rows before the first moment are zeros, as many as the margin says; a row holds its channels
//! and then zeros up to the stride; what is at least a margin older than what is still wanted can be forgotten.

/// Numbers from the beginning of a cache line on: a vector that lies across two lines is loaded twice.
pub struct Aligned {
    data: Vec<f32>,
    first: usize,
    len: usize,
}

/// Floats in a cache line.
const LINE: usize = 16;

impl Aligned {
    pub fn zeros(len: usize) -> Self {
        let data = vec![0.0; len + LINE - 1];
        // Where no line begins soon, as under an interpreter, anywhere is right too.
        let first = data.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        Aligned { data, first, len }
    }

    pub fn of(values: &[f32]) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.as_mut_slice().copy_from_slice(values);
        aligned
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.data[self.first..self.first + self.len]
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[self.first..self.first + self.len]
    }
}

/// The part of a signal that is still needed.
pub struct Rows {
    stride: usize,
    margin: usize,
    /// The first row that is kept, counted from the beginning of the margin.
    start: usize,
    /// Rows that are kept.
    kept: usize,
    data: Aligned,
}

impl Rows {
    /// An empty signal of `stride` numbers a row, behind `margin` rows of zeros.
    pub fn new(stride: usize, margin: usize) -> Self {
        Rows { stride, margin, start: 0, kept: margin, data: Aligned::zeros(stride * margin) }
    }

    /// The moment after the last.
    pub fn end(&self) -> usize {
        self.start + self.kept - self.margin
    }

    /// Numbers from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Room for `rows` more, to be written whole: it holds anything.
    pub fn grow(&mut self, rows: usize) -> &mut [f32] {
        let (from, to) = (self.kept * self.stride, (self.kept + rows) * self.stride);
        if to > self.data.len {
            let mut larger = Aligned::zeros(to.max(2 * self.data.len));
            larger.as_mut_slice()[..from].copy_from_slice(&self.data.as_slice()[..from]);
            self.data = larger;
        }
        self.kept += rows;
        &mut self.data.as_mut_slice()[from..to]
    }

    /// Zeros after the last moment, for what looks beyond it.
    pub fn pad(&mut self, rows: usize) {
        self.grow(rows).fill(0.0);
    }

    /// Everything from `back` rows before `moment` on; `back` is at most the margin.
    pub fn since(&self, moment: usize, back: usize) -> &[f32] {
        &self.data.as_slice()[self.place(moment, back)..self.kept * self.stride]
    }

    /// The same, to be changed.
    pub fn since_mut(&mut self, moment: usize) -> &mut [f32] {
        let (from, to) = (self.place(moment, 0), self.kept * self.stride);
        &mut self.data.as_mut_slice()[from..to]
    }

    fn place(&self, moment: usize, back: usize) -> usize {
        (moment + self.margin - back - self.start) * self.stride
    }

    /// Nothing before `moment` will be asked for again, but for the margin.
    pub fn forget(&mut self, moment: usize) {
        let gone = moment.saturating_sub(self.start).min(self.kept);
        let (from, to) = (gone * self.stride, self.kept * self.stride);
        self.data.as_mut_slice().copy_within(from..to, 0);
        self.start += gone;
        self.kept -= gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_found_at_its_moment_behind_the_margin() {
        let mut rows = Rows::new(2, 3);
        assert_eq!((rows.end(), rows.since(0, 3)), (0, &[0.0; 6][..]));
        let mut next = 0.0;
        for n in [1, 4, 30, 2] {
            for row in rows.grow(n).chunks_exact_mut(2) {
                row.copy_from_slice(&[next, -next]);
                next += 1.0;
            }
            let end = rows.end();
            assert_eq!(end as f32, next);
            assert_eq!(rows.since(end - 1, 0), [next - 1.0, 1.0 - next]);
            let before = end.saturating_sub(3);
            assert_eq!(rows.since(before, 0)[0], before as f32);
            rows.forget(end);
        }
        // Three rows are still there after everything was forgotten.
        assert_eq!(rows.since(37, 3), [34.0, -34.0, 35.0, -35.0, 36.0, -36.0]);
        rows.pad(2);
        assert_eq!(rows.since(37, 1), [36.0, -36.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn aligned_numbers_begin_a_cache_line() {
        for len in [0, 1, 7, 160] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let aligned = Aligned::of(&values);
            assert_eq!(aligned.as_slice(), values);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(64), 0);
        }
    }
}
