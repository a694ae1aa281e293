//! Attention on the CPU: of one input over all that is cached, what a decode step does in every layer; and the softmax of many.
//!
//! Owns nothing; runs on the caller's thread. The keys and values are read where they lie, once, with the widest vectors
//! this machine has; a matrix product would lay all keys out anew for the few rows that one input has. They may be kept
//! in half precision, which halves what has to be read; sums and softmax are in f32.

use crate::engine::EngineError;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor};
use rten_simd::ops::{BitOps, Extend, NumOps};
use rten_simd::{Isa, SimdOp, f16};
use rten_vecmath::Softmax;

/// Attention of `q`, `[heads, 1, head_dim]` and scaled already, over `keys` and `values`, views `[kv_heads, len, head_dim]`
/// of a cache; on the CPU, `q` in f32, the cache in f32 or f16. Returns `[heads, 1, head_dim]`, or `None` when these are
/// not such tensors.
pub(super) fn of_one(q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Option<Tensor>, EngineError> {
    let ((heads, one, head_dim), (kv_heads, len, _)) = (q.dims3()?, keys.dims3()?);
    let q = q.contiguous()?;
    let (q_at, q_layout) = q.storage_and_layout();
    let (k_at, k_layout) = keys.storage_and_layout();
    let (v_at, v_layout) = values.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(q_all)) = &*q_at else {
        return Ok(None);
    };
    // Rows lie one behind the other, heads a whole capacity apart.
    let stride = k_layout.stride()[0];
    if one != 1 || k_layout.stride() != [stride, head_dim, 1] || v_layout.stride() != k_layout.stride() {
        return Ok(None);
    }
    let q_all = &q_all[q_layout.start_offset()..][..heads * head_dim];
    let (k_from, v_from, group) = (k_layout.start_offset(), v_layout.start_offset(), heads / kv_heads);
    let mut mixed = vec![0.0; heads * head_dim];
    match (&*k_at, &*v_at) {
        (Storage::Cpu(CpuStorage::F32(k)), Storage::Cpu(CpuStorage::F32(v))) => {
            let (keys, values) = (&k[k_from..], &v[v_from..]);
            OneRow { q: q_all, keys, values, stride, len, head_dim, group, mixed: &mut mixed }.dispatch();
        }
        (Storage::Cpu(CpuStorage::F16(k)), Storage::Cpu(CpuStorage::F16(v))) => {
            let (keys, values) = (&halves(k)[k_from..], &halves(v)[v_from..]);
            OneRow { q: q_all, keys, values, stride, len, head_dim, group, mixed: &mut mixed }.dispatch();
        }
        _ => return Ok(None),
    }
    Ok(Some(Tensor::from_vec(mixed, (heads, 1, head_dim), q.device())?))
}

/// `slots`, a view `[kv_heads, len, head_dim]` of a cache, in another precision, for matrix products with many rows.
pub(super) fn in_precision(slots: &Tensor, dtype: DType) -> Result<Tensor, EngineError> {
    let (kv_heads, len, head_dim) = slots.dims3()?;
    let (at, layout) = slots.storage_and_layout();
    let stride = layout.stride()[0];
    match (&*at, dtype) {
        (Storage::Cpu(CpuStorage::F16(all)), DType::F32) if layout.stride() == [stride, head_dim, 1] => {
            let mut wide = vec![0.0; kv_heads * len * head_dim];
            let from = &halves(all)[layout.start_offset()..];
            for (head, wide) in wide.chunks_exact_mut((len * head_dim).max(1)).enumerate() {
                Widen { from: &from[head * stride..][..len * head_dim], wide }.dispatch();
            }
            Ok(Tensor::from_vec(wide, (kv_heads, len, head_dim), slots.device())?)
        }
        _ => Ok(slots.to_dtype(dtype)?),
    }
}

/// Softmax of `scores`, `[kv_heads, group * n, at + n]` in f32 on the CPU, where the `n` inputs from slot `at` on see all slots
/// up to their own; 0 for the others. Written over the scores.
pub(super) fn causal_softmax(scores: Tensor, n: usize, at: usize) -> Result<Tensor, EngineError> {
    let scores = scores.contiguous()?;
    scores.inplace_op1(&CausalSoftmax { n, at })?;
    Ok(scores)
}

struct CausalSoftmax {
    n: usize,
    at: usize,
}

impl InplaceOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(all), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("causal softmax of scores that are not contiguous f32");
        };
        for (i, row) in all[from..to].chunks_exact_mut(self.at + self.n).enumerate() {
            let (seen, unseen) = row.split_at_mut(self.at + i % self.n + 1);
            Softmax::new_mut(seen).dispatch();
            unseen.fill(0.0);
        }
        Ok(())
    }
}

/// The same numbers under the name that the vectors know them by.
fn halves(numbers: &[half::f16]) -> &[f16] {
    // SAFETY: both types are transparent around the 16 bits of an IEEE half, so that length and alignment are the same.
    #[expect(unsafe_code, reason = "two libraries, each with its own type for the same bits")]
    unsafe {
        std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len())
    }
}

/// A number that a cache is made of.
trait Slot: Copy {
    fn wide(self) -> f32;

    /// The first two vectors of `from`, which must hold as many.
    fn two_vectors<I: Isa>(isa: I, from: &[Self]) -> [I::F32; 2];
}

impl Slot for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn two_vectors<I: Isa>(isa: I, from: &[Self]) -> [I::F32; 2] {
        let ops = isa.f32();
        [ops.load(from), ops.load(&from[ops.len()..])]
    }
}

impl Slot for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn two_vectors<I: Isa>(isa: I, from: &[Self]) -> [I::F32; 2] {
        let ops = isa.f16();
        let both = ops.load(from);
        [ops.extend_low(both), ops.extend_high(both)]
    }
}

/// One input's queries over the keys and values of all heads.
struct OneRow<'a, T> {
    /// `[heads, head_dim]`.
    q: &'a [f32],
    /// `[kv_heads, len, head_dim]`, heads `stride` apart.
    keys: &'a [T],
    values: &'a [T],
    stride: usize,
    len: usize,
    head_dim: usize,
    /// Query heads that share a key.
    group: usize,
    /// `[heads, head_dim]`, written over.
    mixed: &'a mut [f32],
}

impl<T: Slot> SimdOp for OneRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let OneRow { q, keys, values, stride, len, head_dim, group, mixed } = self;
        let mut scores = vec![0.0; group * len];
        let width = group * head_dim;
        for (head, (q, mixed)) in q.chunks_exact(width).zip(mixed.chunks_exact_mut(width)).enumerate() {
            let rows = head * stride..head * stride + len * head_dim;
            let (keys, values) = (&keys[rows.clone()], &values[rows]);
            let together = group - group % TOGETHER;
            let (q, q_rest) = q.split_at(together * head_dim);
            let (mixed, mixed_rest) = mixed.split_at_mut(together * head_dim);
            let (many, few) = scores.split_at_mut(together * len);
            for (q, scores) in q.chunks_exact(TOGETHER * head_dim).zip(many.chunks_exact_mut(TOGETHER * len)) {
                score::<I, T, TOGETHER>(isa, q, keys, scores);
            }
            for (q, scores) in q_rest.chunks_exact(head_dim).zip(few.chunks_exact_mut(len)) {
                score::<I, T, 1>(isa, q, keys, scores);
            }
            for scores in many.chunks_exact_mut(len).chain(few.chunks_exact_mut(len)) {
                Softmax::new_mut(scores).eval(isa);
            }
            for (mixed, scores) in mixed.chunks_exact_mut(TOGETHER * head_dim).zip(many.chunks_exact(TOGETHER * len)) {
                mix::<I, T, TOGETHER>(isa, scores, values, mixed);
            }
            for (mixed, scores) in mixed_rest.chunks_exact_mut(head_dim).zip(few.chunks_exact(len)) {
                mix::<I, T, 1>(isa, scores, values, mixed);
            }
        }
    }
}

/// Query heads that go over the keys and values together: each is read and widened once for all of them, and their sums
/// fit into the sixteen registers of AVX2 (the language models have six or seven to a key).
const TOGETHER: usize = 6;

/// `scores`, `[N, len]`, of `q`, `[N, head_dim]`, and `keys`, `[len, head_dim]`.
#[inline(always)]
fn score<I: Isa, T: Slot, const N: usize>(isa: I, q: &[f32], keys: &[T], scores: &mut [f32]) {
    let (ops, head_dim, len) = (isa.f32(), q.len() / N, scores.len() / N);
    let step = 2 * ops.len();
    let whole = head_dim - head_dim % step;
    for (at, key) in keys.chunks_exact(head_dim).enumerate() {
        let mut sums = [[ops.zero(); 2]; N];
        for d in (0..whole).step_by(step) {
            let key = T::two_vectors(isa, &key[d..d + step]);
            for (i, sums) in sums.iter_mut().enumerate() {
                let q = f32::two_vectors(isa, &q[i * head_dim + d..][..step]);
                *sums = [ops.mul_add(q[0], key[0], sums[0]), ops.mul_add(q[1], key[1], sums[1])];
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            let q = &q[i * head_dim..][..head_dim];
            let rest: f32 = q[whole..].iter().zip(&key[whole..]).map(|(q, key)| q * key.wide()).sum();
            scores[i * len + at] = ops.sum(ops.add(sums[0], sums[1])) + rest;
        }
    }
}

/// `mixed`, `[N, head_dim]`: the sums of `values`, `[len, head_dim]`, each times its score of `scores`, `[N, len]`.
#[inline(always)]
fn mix<I: Isa, T: Slot, const N: usize>(isa: I, scores: &[f32], values: &[T], mixed: &mut [f32]) {
    let (ops, head_dim, len) = (isa.f32(), mixed.len() / N, scores.len() / N);
    let step = 2 * ops.len();
    let whole = head_dim - head_dim % step;
    for d in (0..whole).step_by(step) {
        let mut sums = [[ops.zero(); 2]; N];
        for (at, value) in values.chunks_exact(head_dim).enumerate() {
            let value = T::two_vectors(isa, &value[d..d + step]);
            for (i, sums) in sums.iter_mut().enumerate() {
                let score = ops.splat(scores[i * len + at]);
                *sums = [ops.mul_add(value[0], score, sums[0]), ops.mul_add(value[1], score, sums[1])];
            }
        }
        for (mixed, sums) in mixed.chunks_exact_mut(head_dim).zip(sums) {
            let (low, high) = mixed[d..d + step].split_at_mut(ops.len());
            ops.store(sums[0], low);
            ops.store(sums[1], high);
        }
    }
    for (mixed, scores) in mixed.chunks_exact_mut(head_dim).zip(scores.chunks_exact(len)) {
        for d in whole..head_dim {
            mixed[d] = values.chunks_exact(head_dim).zip(scores).map(|(value, score)| score * value[d].wide()).sum();
        }
    }
}

/// Halves as f32.
struct Widen<'a> {
    from: &'a [f16],
    /// As long as `from`.
    wide: &'a mut [f32],
}

impl SimdOp for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Widen { from, wide } = self;
        let ops = isa.f32();
        let whole = from.len() - from.len() % (2 * ops.len());
        for (wide, from) in wide[..whole].chunks_exact_mut(2 * ops.len()).zip(from.chunks_exact(2 * ops.len())) {
            let both = f16::two_vectors(isa, from);
            let (low, high) = wide.split_at_mut(ops.len());
            ops.store(both[0], low);
            ops.store(both[1], high);
        }
        wide[whole..].iter_mut().zip(&from[whole..]).for_each(|(wide, from)| *wide = from.to_f32());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Repeatable numbers in -1..1.
    fn numbers(shape: (usize, usize, usize), seed: f32) -> Tensor {
        let n = shape.0 * shape.1 * shape.2;
        let data: Vec<f32> = (0..n).map(|i| ((i as f32 * 12.9898 + seed).sin() * 43_758.547).fract()).collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// The definition, in double precision.
    fn defined(q: &[Vec<f32>], k: &[Vec<f32>], v: &[Vec<f32>]) -> Vec<Vec<f64>> {
        let mix = |q: &Vec<f32>| {
            let scores: Vec<f64> =
                k.iter().map(|k| k.iter().zip(q).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum()).collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            (0..q.len()).map(|d| v.iter().zip(&weights).map(|(v, w)| f64::from(v[d]) * w / sum).sum()).collect()
        };
        q.iter().map(mix).collect()
    }

    #[test]
    fn is_the_definition_at_every_length_and_width() {
        let shapes =
            [(12, 2, 1, 256, 128), (12, 2, 301, 512, 128), (4, 4, 37, 37, 12), (14, 2, 65, 256, 64), (3, 1, 5, 8, 7)];
        let both = shapes.iter().flat_map(|shape| [DType::F32, DType::F16].map(|kept| (*shape, kept)));
        for ((heads, kv_heads, len, capacity, head_dim), kept) in both {
            let q = (numbers((heads, 1, head_dim), 1.0) * 0.5).unwrap();
            let slots = |seed| numbers((kv_heads, capacity, head_dim), seed).to_dtype(kept).unwrap();
            let (keys, values) = (slots(2.0).narrow(1, 0, len).unwrap(), slots(3.0).narrow(1, 0, len).unwrap());
            let mixed = of_one(&q, &keys, &values).unwrap().expect("tensors it can read").to_vec3::<f32>().unwrap();
            let exactly = |t: &Tensor| t.to_dtype(DType::F32).unwrap().to_vec3::<f32>().unwrap();
            let (q, k, v) = (exactly(&q), exactly(&keys), exactly(&values));
            assert_eq!(exactly(&in_precision(&keys, DType::F32).unwrap()), k, "{kept:?}");
            let group = heads / kv_heads;
            for head in 0..heads {
                let expected = &defined(&q[head], &k[head / group], &v[head / group])[0];
                for (ours, exact) in mixed[head][0].iter().zip(expected) {
                    assert!(
                        (f64::from(*ours) - exact).abs() < 2e-6,
                        "head {head} of {heads}, {len} keys: {ours}, {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_input_sees_what_is_before_it_and_itself() {
        let (n, at) = (3, 2);
        let scores = (numbers((2, 4 * n, at + n), 4.0) * 9.0).unwrap();
        let before = scores.to_vec3::<f32>().unwrap();
        let weights = causal_softmax(scores, n, at).unwrap().to_vec3::<f32>().unwrap();
        for (i, (row, weights)) in before.iter().flatten().zip(weights.iter().flatten()).enumerate() {
            let seen = at + i % n + 1;
            let sum: f64 = row[..seen].iter().map(|x| f64::from(*x).exp()).sum();
            for (j, weight) in weights.iter().enumerate() {
                let exact = if j < seen { f64::from(row[j]).exp() / sum } else { 0.0 };
                assert!((f64::from(*weight) - exact).abs() < 1e-6, "row {i}, slot {j}: {weight}, {exact}");
            }
        }
    }

    #[test]
    fn leaves_what_it_cannot_read_to_others() {
        let half = |t: Tensor| t.to_dtype(DType::BF16).unwrap();
        let (q, k) = (numbers((2, 1, 8), 1.0), numbers((2, 3, 8), 2.0));
        assert!(of_one(&half(q.clone()), &half(k.clone()), &half(k.clone())).unwrap().is_none());
        assert!(of_one(&q, &k.transpose(0, 1).unwrap(), &k.transpose(0, 1).unwrap()).unwrap().is_none());
    }
}
