//! Where a model computes: finding a GPU, opening it, and setting it up for one thread that makes many small steps.
//!
//! Owns nothing for long; used on the engine thread, which alone owns the GPU. Invariants: without the features `cuda`
//! and `metal` only the CPU is ever found; a GPU that cannot be used is an error that says what to do, never a panic.
//! What is special about CUDA or Metal is in this file and nowhere else.

use super::EngineError;
use candle_core::Device;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

const KNOWN: &str = "auto, cpu, cuda, cuda:N, metal";

/// A place to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    #[default]
    Cpu,
    /// The NVIDIA GPU of that number; needs a build with the `cuda` feature.
    Cuda(usize),
    /// The Apple GPU; needs a build with the `metal` feature.
    Metal,
}

/// A place to compute, or the best there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU if there is one that this build can use, else the CPU.
    #[default]
    Auto,
    At(Compute),
}

/// What was found for a [`DeviceChoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub compute: Compute,
    /// Why it is the CPU although a GPU would have been taken.
    pub note: Option<String>,
}

/// What this build could do with a GPU on this machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "what")]
pub enum GpuUse {
    /// It was built for the CPU alone.
    NotBuilt,
    /// It was built for GPUs of this kind, and has opened one.
    Works(&'static str),
    /// It was built for GPUs, and this is why it has none.
    Fails(String),
}

impl Display for Compute {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

fn unknown(found: &str) -> EngineError {
    EngineError::Unsupported(format!("{found:?} is no device; choose one of {KNOWN}"))
}

impl FromStr for Compute {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        match s.split_once(':') {
            None if s == "cpu" => Ok(Self::Cpu),
            None if s == "metal" => Ok(Self::Metal),
            None if s == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", n)) => n.parse().map(Self::Cuda).map_err(|_| unknown(s)),
            _ => Err(unknown(s)),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        if s == "auto" { Ok(Self::Auto) } else { s.parse().map(Self::At) }
    }
}

impl DeviceChoice {
    /// Finds the place. One that was asked for by name is not tried here: [`Compute::open`] says what is wrong with it.
    pub fn find(self) -> Found {
        let gpu = match self {
            Self::At(compute) => return Found { compute, note: None },
            Self::Auto => BUILT_FOR,
        };
        let Some(gpu) = gpu else {
            let note = "this program was built without GPU support (see `make cuda`), so it computes on the CPU";
            return Found { compute: Compute::Cpu, note: Some(note.into()) };
        };
        match gpu.open() {
            Ok(_) => Found { compute: gpu, note: None },
            Err(error) => {
                Found { compute: Compute::Cpu, note: Some(format!("computing on the CPU instead of a GPU: {error}")) }
            }
        }
    }
}

/// The GPU that this build takes when none is named.
const BUILT_FOR: Option<Compute> = if cfg!(feature = "cuda") {
    Some(Compute::Cuda(0))
} else if cfg!(feature = "metal") {
    Some(Compute::Metal)
} else {
    None
};

/// Whether this build can use a GPU at all.
pub const fn is_built_for_gpus() -> bool {
    BUILT_FOR.is_some()
}

/// Tries the GPU that this build is for. Takes up to a second where there is one.
pub fn gpu_use() -> GpuUse {
    match BUILT_FOR.map(|gpu| (gpu, gpu.open())) {
        None => GpuUse::NotBuilt,
        Some((Compute::Metal, Ok(_))) => GpuUse::Works("Metal"),
        Some((_, Ok(_))) => GpuUse::Works("CUDA"),
        Some((_, Err(error))) => GpuUse::Fails(error.to_string()),
    }
}

impl Compute {
    /// Opens it, ready for the thread that calls.
    ///
    /// # Errors
    /// Says what is missing, in the build or on the machine, and what to do.
    pub fn open(self) -> Result<Device, EngineError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(n) => cuda::open(n),
            Self::Metal => metal::open(),
        }
    }
}

/// Keeps the small tables that kernels are launched with on the GPU, on this thread, for as long as what it gives lives.
///
/// For the steps that a model makes over and over. `candle` forgets no table that it once kept, so this is not for work
/// whose inputs never repeat.
pub fn keep_launch_tables(device: &Device) -> impl Sized + use<> {
    cuda::keep_launch_tables(device)
}

/// What goes wrong on the way to an NVIDIA GPU, and what to do about it. `why` is candle's word for it.
#[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "kept and tested in every build"))]
fn explain_cuda(number: usize, why: &str) -> String {
    // A backtrace may follow.
    let why = why.lines().next().unwrap_or_default();
    let lacks = |library: &str| {
        format!(
            "the NVIDIA driver is there, but {library} of CUDA 13 cannot be used ({why}): install it, or put its folder \
             on LD_LIBRARY_PATH; or use --device cpu"
        )
    };
    if why.contains("CUBLAS") || why.contains("Cublas") {
        lacks("libcublas")
    } else if why.contains("CURAND") || why.contains("Curand") {
        lacks("libcurand")
    } else if why.contains("NO_DEVICE") {
        "there is no CUDA device: no NVIDIA driver, or no GPU that it may use; install the driver (580 or newer), or \
         use --device cpu"
            .into()
    } else if why.contains("INVALID_DEVICE") {
        format!("there is no CUDA device {number}: see `nvidia-smi -L` for their numbers, or use --device cpu")
    } else {
        format!("the CUDA device {number} cannot be used ({why}): look at `nvidia-smi`, or use --device cpu")
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{EngineError, explain_cuda};
    use candle_core::cuda_backend::cudarc::driver::result::{DriverError, device, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
    use candle_core::{CudaDevice, Device};

    pub fn open(number: usize) -> Result<Device, EngineError> {
        // One stream for all of this device's work, and not a stream for each thread that happens to ask.
        let opened = CudaDevice::new_with_stream(number);
        let cuda = opened.map_err(|e| EngineError::Unsupported(explain_cuda(number, &e.to_string())))?;
        // SAFETY: events order the use of memory between several streams; every tensor of this device is made, used and
        // freed on its one stream.
        #[expect(unsafe_code, reason = "saves two events a tensor, which cost more than most kernels")]
        unsafe {
            cuda.disable_event_tracking();
        }
        if let Err(error) = keep_freed_memory(&cuda) {
            // A driver without memory pools allocates in another way.
            tracing::debug!("freed memory goes back to the driver at every synchronisation: {error:?}");
        }
        Ok(Device::Cuda(cuda))
    }

    /// Lets the driver keep what is freed for what is allocated next, instead of returning it at every synchronisation.
    fn keep_freed_memory(cuda: &CudaDevice) -> Result<(), DriverError> {
        let mut threshold = u64::MAX;
        let device = cuda.cuda_stream().context().cu_device();
        // SAFETY: the device is that of an open context, the pool is the driver's own and lives as long as it, and this
        // attribute is a 64-bit number, which is read before the call returns.
        #[expect(unsafe_code, reason = "cudarc has no safe form of it")]
        unsafe {
            let pool = device::get_default_mem_pool(device)?;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut threshold).cast())
        }
    }

    pub fn keep_launch_tables(device: &Device) -> impl Sized + use<> {
        device.as_cuda_device().ok().map(CudaDevice::enable_cuda_graph_htod_cache)
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::EngineError;
    use candle_core::Device;

    pub fn open(_: usize) -> Result<Device, EngineError> {
        let why = "this program was built without CUDA: build it with `make cuda`, or use --device cpu";
        Err(EngineError::Unsupported(why.into()))
    }

    pub fn keep_launch_tables(_: &Device) -> impl Sized + use<> {}
}

#[cfg(feature = "metal")]
mod metal {
    use super::EngineError;
    use candle_core::Device;

    pub fn open() -> Result<Device, EngineError> {
        let failed = |why: String| {
            EngineError::Unsupported(format!("there is no GPU that Metal can use ({why}): use --device cpu"))
        };
        // candle takes the first of the system's GPUs without looking whether there is one.
        let opened = std::panic::catch_unwind(|| Device::new_metal(0));
        opened.map_err(|_| failed("the system names none".into()))?.map_err(|e| failed(e.to_string()))
    }
}

#[cfg(not(feature = "metal"))]
mod metal {
    use super::EngineError;
    use candle_core::Device;

    pub fn open() -> Result<Device, EngineError> {
        let why = "this program was built without Metal: build it on a Mac with --features metal, or use --device cpu";
        Err(EngineError::Unsupported(why.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_from_words() {
        let cases = [
            ("cpu", Compute::Cpu),
            ("cuda", Compute::Cuda(0)),
            ("cuda:3", Compute::Cuda(3)),
            ("metal", Compute::Metal),
        ];
        for (word, expected) in cases {
            assert_eq!(word.parse::<DeviceChoice>().unwrap(), DeviceChoice::At(expected));
            assert_eq!(expected.to_string().parse::<Compute>().unwrap(), expected);
        }
        assert_eq!("auto".parse::<DeviceChoice>().unwrap(), DeviceChoice::Auto);
        for bad in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "metal:0", "Auto"] {
            let error = bad.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("auto, cpu, cuda"), "{error}");
        }
    }

    #[test]
    fn a_device_asked_for_by_name_is_taken_at_its_word() {
        let found = DeviceChoice::At(Compute::Cuda(7)).find();
        assert_eq!(found, Found { compute: Compute::Cuda(7), note: None });
    }

    /// Holds on every machine: what a GPU build finds, it can open; where it falls back, it says why.
    #[test]
    fn auto_finds_what_can_be_opened() {
        let found = DeviceChoice::Auto.find();
        assert!(found.compute.open().is_ok());
        assert_eq!(found.note.is_some(), found.compute == Compute::Cpu);
        assert_eq!(matches!(gpu_use(), GpuUse::Works(_)), found.compute != Compute::Cpu);
        if cfg!(not(any(feature = "cuda", feature = "metal"))) {
            assert!(found.note.is_some_and(|n| n.contains("make cuda")));
        }
    }

    #[test]
    fn a_device_that_cannot_be_had_says_what_to_do() {
        for missing in [Compute::Cuda(4096), Compute::Metal].into_iter().filter(|c| Some(*c) != BUILT_FOR) {
            let error = missing.open().err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("--device cpu"), "{missing}: {error}");
        }
    }

    #[test]
    fn failures_of_cuda_are_told_apart() {
        let cases = [
            ("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")", "install the driver"),
            ("DriverError(CUDA_ERROR_INVALID_DEVICE, \"invalid device ordinal\")", "no CUDA device 2"),
            ("CublasError(CUBLAS_STATUS_NOT_INITIALIZED)\n   0: a backtrace", "libcublas"),
            ("CurandError(CURAND_STATUS_INITIALIZATION_FAILED)", "libcurand"),
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", "out of memory"),
        ];
        for (why, expected) in cases {
            let told = explain_cuda(2, why);
            assert!(told.contains(expected) && told.contains("--device cpu"), "{told}");
            assert!(!told.contains('\n') && !told.contains("backtrace"), "{told}");
        }
    }
}
