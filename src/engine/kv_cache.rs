//! The keys and values a decoder has computed, per layer, in slots that stay where they are.
//!
//! Owns the cache's storage and length; lives on the engine thread. Slots are preallocated in blocks, so that a decode
//! step writes one slot and copies nothing. Invariants: slots below [`KvCache::len`] hold what was written there (or
//! zeros, after [`KvCache::set_len`]); truncation leaves the kept slots bit for bit as they were.

use super::EngineError;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// How many slots are added at a time.
pub const BLOCK: usize = 256;

/// Keys and values of one layer, each `[kv_heads, capacity, head_dim]`.
#[derive(Debug)]
struct LayerCache {
    k: Tensor,
    v: Tensor,
}

/// The keys and values of all layers of one decoder for one sequence.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    kv_heads: usize,
    head_dim: usize,
    dtype: DType,
    device: Device,
    capacity: usize,
    limit: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache for `layers` layers that can hold up to `limit` slots and begins with room for one block.
    pub fn new(
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        limit: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, EngineError> {
        let mut cache = Self {
            layers: Vec::with_capacity(layers),
            kv_heads,
            head_dim,
            dtype,
            device: device.clone(),
            capacity: BLOCK.min(limit),
            limit,
            len: 0,
        };
        for _ in 0..layers {
            cache.layers.push(LayerCache { k: cache.zeros(cache.capacity)?, v: cache.zeros(cache.capacity)? });
        }
        Ok(cache)
    }

    fn zeros(&self, slots: usize) -> Result<Tensor, EngineError> {
        Ok(Tensor::zeros((self.kv_heads, slots, self.head_dim), self.dtype, &self.device)?)
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most slots this cache may ever hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets every slot from `n` on. No effect when `n` is not below the length.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n);
    }

    /// Takes the slots `range` out; those behind move up, their keys as `turned` makes them (`[kv_heads, n, head_dim]`, to
    /// the same).
    ///
    /// # Errors
    /// When the range is not one of slots in use, and what `turned` fails with: then the slots are of no use any more.
    pub(super) fn remove(
        &mut self,
        range: Range<usize>,
        turned: impl Fn(&Tensor) -> Result<Tensor, EngineError>,
    ) -> Result<(), EngineError> {
        let behind = self.len.checked_sub(range.end).filter(|_| range.start <= range.end).ok_or_else(|| {
            EngineError::Unsupported(format!("slots {range:?} are not among the {} of the cache", self.len))
        })?;
        if behind > 0 {
            for layer in &self.layers {
                let k = turned(&layer.k.narrow(1, range.end, behind)?)?;
                // A copy in any case: a view of the slots cannot be written into them.
                let v = layer.v.narrow(1, range.end, behind)?.force_contiguous()?;
                layer.k.slice_set(&k.to_dtype(self.dtype)?.contiguous()?, 1, range.start)?;
                layer.v.slice_set(&v, 1, range.start)?;
            }
        }
        self.len -= range.len();
        Ok(())
    }

    /// Makes the length `n`: drops slots, or adds slots filled with zeros.
    pub fn set_len(&mut self, n: usize) -> Result<(), EngineError> {
        if n > self.len {
            self.reserve(n)?;
            let blank = self.zeros(n - self.len)?;
            for layer in &self.layers {
                layer.k.slice_set(&blank, 1, self.len)?;
                layer.v.slice_set(&blank, 1, self.len)?;
            }
        }
        self.len = n;
        Ok(())
    }

    /// A snapshot that shares nothing with this cache.
    pub fn copy(&self) -> Result<Self, EngineError> {
        let layers = self
            .layers
            .iter()
            .map(|l| Ok(LayerCache { k: l.k.copy()?, v: l.v.copy()? }))
            .collect::<Result<_, EngineError>>()?;
        Ok(Self { layers, device: self.device.clone(), ..*self })
    }

    /// Makes room for `n` slots, in whole blocks, keeping the slots in use.
    ///
    /// # Errors
    /// When `n` is over the limit.
    pub fn reserve(&mut self, n: usize) -> Result<(), EngineError> {
        if n <= self.capacity {
            return Ok(());
        }
        if n > self.limit {
            return Err(EngineError::Unsupported(format!(
                "the conversation needs {n} positions and the model's cache holds {}: begin a new conversation",
                self.limit
            )));
        }
        let capacity = n.next_multiple_of(BLOCK).min(self.limit);
        for i in 0..self.layers.len() {
            let (k, v) = (self.zeros(capacity)?, self.zeros(capacity)?);
            if self.len > 0 {
                k.slice_set(&self.layers[i].k.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
                v.slice_set(&self.layers[i].v.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            }
            self.layers[i] = LayerCache { k, v };
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Writes `k` and `v`, each `[kv_heads, n, head_dim]`, into the slots `at..at+n` of `layer`, in the cache's precision,
    /// and returns views of its slots `0..at+n`. Room must have been [reserved](Self::reserve); the length is left alone (the decoder
    /// advances it once all layers have written).
    pub(super) fn write(
        &self,
        layer: usize,
        at: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor), EngineError> {
        let end = at + k.dim(1)?;
        let slots = &self.layers[layer];
        slots.k.slice_set(&k.to_dtype(self.dtype)?.contiguous()?, 1, at)?;
        slots.v.slice_set(&v.to_dtype(self.dtype)?.contiguous()?, 1, at)?;
        Ok((slots.k.narrow(1, 0, end)?, slots.v.narrow(1, 0, end)?))
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The keys and values of `layer` in use, each `[kv_heads, len, head_dim]`.
    pub fn layer(&self, layer: usize) -> Result<(Tensor, Tensor), EngineError> {
        let l = self
            .layers
            .get(layer)
            .ok_or_else(|| EngineError::Unsupported(format!("the cache has no layer {layer}")))?;
        Ok((l.k.narrow(1, 0, self.len)?, l.v.narrow(1, 0, self.len)?))
    }

    /// How many slots there is room for without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The keys and values of every layer, layer by layer, each `[kv_heads, capacity, head_dim]`: for kernels that
    /// write their own slots. Growing moves them.
    pub fn slots(&self) -> impl Iterator<Item = (&Tensor, &Tensor)> {
        self.layers.iter().map(|l| (&l.k, &l.v))
    }

    /// Where the slots are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Makes the slots what [`layer`](Self::layer) gave of another cache, layer by layer.
    ///
    /// # Errors
    /// When the other cache was of another shape or precision, or longer than this one may be.
    pub fn restore(&mut self, layers: &[(Tensor, Tensor)]) -> Result<(), EngineError> {
        let len = layers.first().map_or(Ok(0), |(k, _)| k.dim(1))?;
        let shape = [self.kv_heads, len, self.head_dim];
        let fits = |t: &Tensor| t.dims() == shape && t.dtype() == self.dtype;
        if layers.len() != self.layers.len() || !layers.iter().all(|(k, v)| fits(k) && fits(v)) {
            return Err(EngineError::Unsupported(
                "keys and values of another model do not fit in: make them anew".into(),
            ));
        }
        self.len = 0;
        self.reserve(len)?;
        for (i, (k, v)) in layers.iter().enumerate() {
            self.write(i, 0, &k.to_device(&self.device)?, &v.to_device(&self.device)?)?;
        }
        self.len = len;
        Ok(())
    }

    /// Records that slots up to `end` have been written in every layer.
    pub(super) fn advance(&mut self, end: usize) {
        self.len = self.len.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit: usize) -> KvCache {
        KvCache::new(2, 2, 4, limit, DType::F32, &Device::Cpu).unwrap()
    }

    fn fill(n: usize, from: f32) -> Tensor {
        let data: Vec<f32> = (0..2 * n * 4).map(|i| from + i as f32).collect();
        Tensor::from_vec(data, (2, n, 4), &Device::Cpu).unwrap()
    }

    fn rows(t: &Tensor) -> Vec<Vec<Vec<f32>>> {
        t.to_vec3().unwrap()
    }

    #[test]
    fn slots_survive_growth_and_truncation() {
        let mut c = cache(1000);
        let first = fill(3, 0.);
        c.reserve(3).unwrap();
        c.write(0, 0, &first, &first).unwrap();
        c.write(1, 0, &first, &first).unwrap();
        c.advance(3);
        c.reserve(700).unwrap();
        assert_eq!(c.capacity, 768);
        let (k, _) = c.layer(1).unwrap();
        assert_eq!(rows(&k), rows(&first));
        c.truncate(2);
        let (k, v) = c.layer(0).unwrap();
        assert_eq!(rows(&k), rows(&first.narrow(1, 0, 2).unwrap()));
        assert_eq!(rows(&k), rows(&v));
        c.truncate(9);
        assert_eq!(c.len(), 2);
    }

    #[test]
    fn added_slots_are_zero_even_where_something_was() {
        let mut c = cache(64);
        let t = fill(4, 1.);
        c.reserve(4).unwrap();
        for l in 0..2 {
            c.write(l, 0, &t, &t).unwrap();
        }
        c.advance(4);
        c.truncate(1);
        c.set_len(6).unwrap();
        let (k, _) = c.layer(0).unwrap();
        let sums: Vec<f32> = rows(&k)[1].iter().map(|r| r.iter().sum()).collect();
        assert_eq!(sums, [17. + 18. + 19. + 20., 0., 0., 0., 0., 0.]);
    }

    #[test]
    fn a_copy_shares_nothing() {
        let mut c = cache(64);
        let t = fill(1, 1.);
        c.write(0, 0, &t, &t).unwrap();
        c.write(1, 0, &t, &t).unwrap();
        c.advance(1);
        let snapshot = c.copy().unwrap();
        let other = fill(1, 50.);
        c.write(0, 0, &other, &other).unwrap();
        assert_eq!(rows(&snapshot.layer(0).unwrap().0), rows(&t));
        assert_eq!(rows(&c.layer(0).unwrap().0), rows(&other));
    }

    #[test]
    fn the_limit_is_an_error_not_a_panic() {
        let mut c = cache(300);
        c.reserve(300).unwrap();
        assert_eq!(c.capacity, 300);
        let err = c.reserve(301).unwrap_err().to_string();
        assert!(err.contains("301") && err.contains("300"), "{err}");
    }
}
