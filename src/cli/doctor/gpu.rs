//! What `doctor` says about the graphics card, and about the omni engine on it.
//!
//! Pure: the findings follow from the machine and from what this build could do with its GPU.

use super::{Finding, Severity, finding};
use crate::engine::device::GpuUse;
use crate::engine::omni::ways::{room, ways};
use crate::weights::Size;
use crate::weights::fit::{Gpu, Machine};

/// The finding about the GPU.
pub fn gpu(machine: &Machine, use_of: &GpuUse) -> Finding {
    let good = |seen: String| finding(Severity::Good, "gpu", seen, "");
    let warning = |seen: String, remedy: &str| finding(Severity::Warning, "gpu", seen, remedy);
    if let Some(trouble) = &machine.gpu_trouble {
        let remedy = "install the NVIDIA driver anew, or ignore this: the starter models do not need a GPU";
        return warning(format!("nvidia-smi says: {trouble}"), remedy);
    }
    let Some(largest) = machine.gpus.iter().max_by_key(|g| g.memory) else {
        return match use_of {
            GpuUse::Works(what) => good(format!("{what} works; the omni engine computes on it")),
            _ => good("no NVIDIA card; the starter models do not need one".into()),
        };
    };
    let name = |g: &Gpu| format!("{}, {}, driver {}", g.name, Size(g.memory), g.driver);
    let seen = machine.gpus.iter().map(name).collect::<Vec<_>>().join("; ");
    match use_of {
        GpuUse::NotBuilt => {
            warning(seen, "this program was built for the CPU alone: build it with `make cuda` for the omni engine")
        }
        GpuUse::Fails(why) => warning(format!("{seen}; it cannot be used"), why),
        GpuUse::Works(what) => {
            let room = room(largest.memory);
            match ways().into_iter().find(|way| way.bytes <= room) {
                Some(way) => {
                    let (flag, needs) = (way.flag, Size(way.bytes));
                    good(format!("{seen}; {what} works; MiniCPM-o 2.6 fits with {flag} ({needs})"))
                }
                None => warning(
                    format!("{seen}; {what} works"),
                    &format!(
                        "MiniCPM-o 2.6 needs {} of its memory even with --quantize q4_k: use the starter engine",
                        Size(ways()[2].bytes)
                    ),
                ),
            }
        }
    }
}
