//! A decoder's step in a few kernels of our own, for a GPU: a frame of speech in about a hundred launches, a word in some
//! 145, recorded once.
//!
//! `layout` knows the kernels of `kernels/` that a decoder is made of and what they are given; [`step`] adds what the
//! speech model has around its decoder, [`language`] what the language model has. A [`Machine`] runs them: `cuda` on a
//! GPU, and in the tests a program that runs the same source on the processor. [`verify`] holds the result against the
//! plain decoder before it is ever used. Lives on the engine thread. Invariant: nothing but the keys and values in the
//! plain decoder's own [`KvCache`] outlives a step, so that both ways may take turns, and a turn may be broken off after
//! any step.

#[cfg(feature = "cuda")]
mod cuda;
pub mod language;
mod layout;
pub mod step;
pub mod verify;

#[cfg(test)]
mod language_tests;
#[cfg(test)]
mod on_host;
#[cfg(test)]
mod tests;

use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

/// How a decoder makes a step on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuStep {
    /// By the kernels of our own, recorded as one graph, when they agree with the plain way; else the plain way.
    #[default]
    Graph,
    /// The same kernels, launched one by one.
    Launches,
    /// As everywhere else.
    Plain,
}

impl Display for GpuStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Graph => "graph",
            Self::Launches => "launches",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for GpuStep {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        [Self::Graph, Self::Launches, Self::Plain].into_iter().find(|way| way.to_string() == s).ok_or_else(|| {
            EngineError::Unsupported(format!("{s:?} is no way to make a step; choose one of graph, launches, plain"))
        })
    }
}

/// What a kernel is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    Address(u64),
    Number(u32),
    Factor(f32),
}

/// One kernel at work, in blocks of 128 threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: String,
    /// Blocks across and down.
    pub grid: (u32, u32),
    /// Bytes of memory that a block's threads share.
    pub shared: usize,
    pub arguments: Vec<Argument>,
}

/// What runs kernels, and the memory they work in. Everything happens in the order it is asked for.
pub trait Machine: Send {
    /// The address of a contiguous tensor's values, which stays true as long as the machine lives.
    fn place(&mut self, tensor: &Tensor) -> Result<u64, EngineError>;
    /// The address of quantised blocks, likewise.
    fn place_blocks(&mut self, blocks: &Arc<QTensor>) -> Result<u64, EngineError>;
    /// How many processors there are to share the work.
    fn processors(&self) -> usize;
    /// The address of new memory, as long as the machine lives.
    fn room(&mut self, bytes: usize) -> Result<u64, EngineError>;
    /// Copies into the machine's memory.
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError>;
    /// Copies out of it, when all that was asked for is done.
    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError>;
    /// Says what [`run`](Self::run) is to run.
    fn prepare(&mut self, plan: Vec<Launch>) -> Result<(), EngineError>;
    /// Runs the plan on `cache`, whose addresses go to `caches`: keys, then values, layer by layer. The plan writes slot
    /// `at`, for which there is room.
    fn run(&mut self, caches: u64, cache: &KvCache, at: usize) -> Result<(), EngineError>;
}

/// The machine of `device`; `None` when it is none, or the plain way is wanted.
pub fn machine(device: &Device, way: GpuStep) -> Option<Box<dyn Machine>> {
    #[cfg(feature = "cuda")]
    if let (Ok(cuda), false) = (device.as_cuda_device(), way == GpuStep::Plain) {
        return Some(Box::new(cuda::Cuda::new(cuda, way == GpuStep::Graph)));
    }
    let _ = (device, way);
    None
}

/// Copies numbers out of the memory of `machine`.
fn read_f32(machine: &mut dyn Machine, from: u64, n: usize) -> Result<Vec<f32>, EngineError> {
    Ok(read_u32(machine, from, n)?.into_iter().map(f32::from_bits).collect())
}

fn read_u32(machine: &mut dyn Machine, from: u64, n: usize) -> Result<Vec<u32>, EngineError> {
    let mut bytes = vec![0; 4 * n];
    machine.read(from, &mut bytes)?;
    let number = |b: &[u8]| b.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
    Ok(bytes.chunks_exact(4).map(number).collect())
}
