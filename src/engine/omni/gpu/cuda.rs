//! The step's kernels on an NVIDIA GPU: launched one by one, or recorded once and launched as one graph.
//!
//! Owns the loaded kernels, the memory they work in and the graph; lives on the engine thread, on the device's one stream,
//! which candle's work on the keys and values is on as well: that is the order they happen in. The kernels come as PTX
//! (`kernels/decoder_step.ptx`, made by `scripts/cuda.sh kernels`), which the driver compiles when it first meets them.
//! Invariant: what an address in the plan points to lives as long as the plan.

use super::layout::THREADS;
use super::{Argument, Launch, Machine};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUgraphInstantiate_flags, CUstreamCaptureMode,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg, result,
};
use candle_core::quantized::QTensor;
use candle_core::{CudaDevice, Storage, Tensor};
use std::sync::Arc;

const PTX: &str = include_str!("../../../../kernels/decoder_step.ptx");
const MODULE: &str = "antiphon_decoder_step";
/// Bytes that a kernel reads at a time.
const UNIT: u64 = 16;

fn failed(error: DriverError) -> EngineError {
    EngineError::Unsupported(format!(
        "the GPU failed at a decoder's kernels ({error:?}): start again with --speech-step plain --language-step plain"
    ))
}

/// A graph, which its makers do not call safe to send.
struct Recorded(CudaGraph);

// SAFETY: CUDA's graphs may be used from any thread, one at a time; this one is owned by the machine, whose methods all
// borrow it exclusively.
#[expect(unsafe_code, reason = "cudarc leaves it to its user to keep a graph's calls apart")]
unsafe impl Send for Recorded {}

/// The GPU. See the module's head.
pub struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    plan: Vec<(CudaFunction, Launch)>,
    /// Whether to record a graph, and the one recorded.
    record: bool,
    ran: bool,
    graph: Option<Recorded>,
    /// The addresses of the cache of the last step.
    slots: Vec<u64>,
    placed: Vec<Tensor>,
    blocks: Vec<Arc<QTensor>>,
    rooms: Vec<CudaSlice<u8>>,
}

impl Cuda {
    /// On `device`; with `record`, the second run of the plan is recorded, and later ones are that graph.
    pub fn new(device: &CudaDevice, record: bool) -> Self {
        Self {
            device: device.clone(),
            stream: device.cuda_stream(),
            plan: Vec::new(),
            record,
            ran: false,
            graph: None,
            slots: Vec::new(),
            placed: Vec::new(),
            blocks: Vec::new(),
            rooms: Vec::new(),
        }
    }

    fn address(&self, tensor: &Tensor) -> Result<u64, EngineError> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(cuda), true) = (&*storage, layout.is_contiguous()) else {
            return Err(EngineError::Unsupported("a kernel was given a tensor that is not as it reads it".into()));
        };
        let (start, bytes) = match &cuda.slice {
            CudaStorageSlice::F32(values) => (values.device_ptr(&self.stream).0, 4),
            CudaStorageSlice::BF16(values) => (values.device_ptr(&self.stream).0, 2),
            _ => return Err(EngineError::Unsupported("a kernel was given numbers of another precision".into())),
        };
        Ok(start + (layout.start_offset() * bytes) as u64)
    }

    fn launch_all(&self) -> Result<(), EngineError> {
        for (kernel, launch) in &self.plan {
            let mut builder = self.stream.launch_builder(kernel);
            for argument in &launch.arguments {
                match argument {
                    Argument::Address(address) => builder.arg(address),
                    Argument::Number(number) => builder.arg(number),
                    Argument::Factor(factor) => builder.arg(factor),
                };
            }
            let config = LaunchConfig {
                grid_dim: (launch.grid.0, launch.grid.1, 1),
                block_dim: (THREADS as u32, 1, 1),
                shared_mem_bytes: launch.shared as u32,
            };
            // SAFETY: the arguments are those of the kernel's signature, of which the tests make sure by running the same
            // plan; what they point to is as large as the kernel takes it for, and lives as long as this machine.
            #[expect(unsafe_code, reason = "what a kernel does with its arguments is beyond Rust's sight")]
            let launched = unsafe { builder.launch(config) };
            launched.map_err(failed)?;
        }
        Ok(())
    }

    /// Records the plan. Every kernel has run before, so that none is loaded in the middle of it.
    fn record(&self) -> Result<Recorded, EngineError> {
        // Others may work on other streams meanwhile: only what this thread does is recorded.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed)?;
        let launched = self.launch_all();
        // Ended in any case: a stream that is left recording is of no use to anyone.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed)?;
        launched?;
        let nothing = || {
            EngineError::Unsupported(
                "the GPU recorded nothing: start with --speech-step launches --language-step launches".into(),
            )
        };
        let graph = graph.ok_or_else(nothing)?;
        graph.upload().map_err(failed)?;
        Ok(Recorded(graph))
    }
}

impl Machine for Cuda {
    fn place(&mut self, tensor: &Tensor) -> Result<u64, EngineError> {
        let address = self.address(tensor)?;
        if !address.is_multiple_of(UNIT) {
            return Err(EngineError::Unsupported("a tensor for a kernel lies between two of its units".into()));
        }
        self.placed.push(tensor.clone());
        Ok(address)
    }

    fn place_blocks(&mut self, blocks: &Arc<QTensor>) -> Result<u64, EngineError> {
        let address = blocks.device_ptr()? as u64;
        self.blocks.push(blocks.clone());
        Ok(address)
    }

    fn processors(&self) -> usize {
        let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        // Any number will do; this one suits a large GPU.
        self.stream.context().attribute(count).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(128)
    }

    fn room(&mut self, bytes: usize) -> Result<u64, EngineError> {
        let room = self.stream.alloc_zeros::<u8>(bytes).map_err(failed)?;
        let address = room.device_ptr(&self.stream).0;
        self.rooms.push(room);
        Ok(address)
    }

    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        // SAFETY: `to` is the address of a room of at least so many bytes. Memory of this size that is not locked is copied
        // aside before the call returns.
        #[expect(unsafe_code, reason = "the memory is known by its address")]
        let written = unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) };
        written.map_err(failed)
    }

    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        // SAFETY: `from` is the address of a room of at least so many bytes; they are waited for below, while `bytes` is
        // still borrowed.
        #[expect(unsafe_code, reason = "the memory is known by its address")]
        let asked = unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) };
        let done = self.stream.synchronize();
        asked.and(done).map_err(failed)
    }

    fn prepare(&mut self, plan: Vec<Launch>) -> Result<(), EngineError> {
        for launch in plan {
            let kernel = self.device.get_or_load_custom_func(&launch.kernel, MODULE, PTX)?;
            self.plan.push((kernel.into_cuda_function(), launch));
        }
        Ok(())
    }

    fn run(&mut self, caches: u64, cache: &KvCache, _: usize) -> Result<(), EngineError> {
        let mut slots = Vec::with_capacity(self.slots.len());
        for (keys, values) in cache.slots() {
            slots.extend([self.address(keys)?, self.address(values)?]);
        }
        if slots != self.slots {
            let bytes: Vec<u8> = slots.iter().copied().flat_map(u64::to_le_bytes).collect();
            self.write(caches, &bytes)?;
            self.slots = slots;
        }
        if self.record && self.ran && self.graph.is_none() {
            self.graph = Some(self.record()?);
        }
        match &self.graph {
            Some(Recorded(graph)) => graph.launch().map_err(failed)?,
            None => self.launch_all()?,
        }
        self.ran = true;
        Ok(())
    }
}
