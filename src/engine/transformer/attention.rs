//! Attention of one input over all that is cached, on the CPU: what a decode step does in every layer.
//!
//! Owns nothing; runs on the caller's thread. The keys and values are read where they lie, once, with the widest vectors
//! this machine has; a matrix product would lay all keys out anew for the few rows that one input has. Softmax in f32.

use crate::engine::EngineError;
use candle_core::{CpuStorage, Storage, Tensor};
use rten_simd::ops::NumOps;
use rten_simd::{Isa, SimdOp};
use rten_vecmath::Softmax;

/// Attention of `q`, `[heads, 1, head_dim]` and scaled already, over `keys` and `values`, views `[kv_heads, len, head_dim]`
/// of a cache; f32 on the CPU. Returns `[heads, 1, head_dim]`, or `None` when these are not such tensors.
pub(super) fn of_one(q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Option<Tensor>, EngineError> {
    let ((heads, one, head_dim), (kv_heads, len, _)) = (q.dims3()?, keys.dims3()?);
    let q = q.contiguous()?;
    let (q_at, q_layout) = q.storage_and_layout();
    let (k_at, k_layout) = keys.storage_and_layout();
    let (v_at, v_layout) = values.storage_and_layout();
    let (
        Storage::Cpu(CpuStorage::F32(q_all)),
        Storage::Cpu(CpuStorage::F32(k_all)),
        Storage::Cpu(CpuStorage::F32(v_all)),
    ) = (&*q_at, &*k_at, &*v_at)
    else {
        return Ok(None);
    };
    // Rows lie one behind the other, heads a whole capacity apart.
    let stride = k_layout.stride()[0];
    if one != 1 || k_layout.stride() != [stride, head_dim, 1] || v_layout.stride() != k_layout.stride() {
        return Ok(None);
    }
    let mut mixed = vec![0.0; heads * head_dim];
    OneRow {
        q: &q_all[q_layout.start_offset()..][..heads * head_dim],
        keys: &k_all[k_layout.start_offset()..],
        values: &v_all[v_layout.start_offset()..],
        stride,
        len,
        head_dim,
        group: heads / kv_heads,
        mixed: &mut mixed,
    }
    .dispatch();
    Ok(Some(Tensor::from_vec(mixed, (heads, 1, head_dim), q.device())?))
}

/// One input's queries over the keys and values of all heads.
struct OneRow<'a> {
    /// `[heads, head_dim]`.
    q: &'a [f32],
    /// `[kv_heads, len, head_dim]`, heads `stride` apart.
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
    len: usize,
    head_dim: usize,
    /// Query heads that share a key.
    group: usize,
    /// Zeros, `[heads, head_dim]`.
    mixed: &'a mut [f32],
}

impl SimdOp for OneRow<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let OneRow { q, keys, values, stride, len, head_dim, group, mixed } = self;
        let ops = isa.f32();
        let mut scores = vec![0.0; group * len];
        let width = group * head_dim;
        for (head, (q, mixed)) in q.chunks_exact(width).zip(mixed.chunks_exact_mut(width)).enumerate() {
            let rows = head * stride..head * stride + len * head_dim;
            for (at, key) in keys[rows.clone()].chunks_exact(head_dim).enumerate() {
                for (query, scores) in q.chunks_exact(head_dim).zip(scores.chunks_exact_mut(len)) {
                    scores[at] = dot(ops, query, key);
                }
            }
            for scores in scores.chunks_exact_mut(len) {
                Softmax::new_mut(scores).eval(isa);
            }
            for (at, value) in values[rows].chunks_exact(head_dim).enumerate() {
                for (mixed, scores) in mixed.chunks_exact_mut(head_dim).zip(scores.chunks_exact(len)) {
                    add_scaled(ops, mixed, scores[at], value);
                }
            }
        }
    }
}

#[inline(always)]
fn dot<O: NumOps<f32>>(ops: O, a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(ops.len()), b.chunks_exact(ops.len()));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [ops.zero(); 2];
    for (i, (a, b)) in a.zip(b).enumerate() {
        sums[i % 2] = ops.mul_add(ops.load(a), ops.load(b), sums[i % 2]);
    }
    ops.sum(ops.add(sums[0], sums[1])) + rest
}

/// `to += by * from`.
#[inline(always)]
fn add_scaled<O: NumOps<f32>>(ops: O, to: &mut [f32], by: f32, from: &[f32]) {
    let lanes = ops.len();
    let scale = ops.splat(by);
    let whole = to.len() - to.len() % lanes;
    for (to, from) in to[..whole].chunks_exact_mut(lanes).zip(from.chunks_exact(lanes)) {
        ops.store(ops.mul_add(ops.load(from), scale, ops.load(to)), to);
    }
    to[whole..].iter_mut().zip(&from[whole..]).for_each(|(to, from)| *to += by * from);
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
        for (heads, kv_heads, len, capacity, head_dim) in
            [(12, 2, 1, 256, 128), (12, 2, 301, 512, 128), (4, 4, 37, 37, 12), (14, 2, 65, 256, 64), (3, 1, 5, 8, 7)]
        {
            let q = (numbers((heads, 1, head_dim), 1.0) * 0.5).unwrap();
            let keys = numbers((kv_heads, capacity, head_dim), 2.0).narrow(1, 0, len).unwrap();
            let values = numbers((kv_heads, capacity, head_dim), 3.0).narrow(1, 0, len).unwrap();
            let mixed = of_one(&q, &keys, &values).unwrap().expect("tensors it can read").to_vec3::<f32>().unwrap();
            let (q, k, v) =
                (q.to_vec3::<f32>().unwrap(), keys.to_vec3::<f32>().unwrap(), values.to_vec3::<f32>().unwrap());
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
    fn leaves_what_it_cannot_read_to_others() {
        let half = |t: Tensor| t.to_dtype(DType::BF16).unwrap();
        let (q, k) = (numbers((2, 1, 8), 1.0), numbers((2, 3, 8), 2.0));
        assert!(of_one(&half(q.clone()), &half(k.clone()), &half(k.clone())).unwrap().is_none());
        assert!(of_one(&q, &k.transpose(0, 1).unwrap(), &k.transpose(0, 1).unwrap()).unwrap().is_none());
    }
}
