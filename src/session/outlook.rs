//! What this machine has, and which models suit it, for somebody who begins. Plain data and a pure judgement, made on the
//! background runtime.

use crate::engine::device;
use crate::engine::omni::ways::{room, ways};
use crate::weights::fit::Machine;
use serde::{Deserialize, Serialize};

/// What there is to run on, and what could be run on it. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Main memory.
    pub memory: u64,
    /// Free on the disk that the models go to; `None`: the system does not say.
    pub disk_free: Option<u64>,
    /// The largest graphics card; `None`: none was found.
    pub gpu: Option<OutlookGpu>,
    /// The precisions that the omni model can be loaded in, the largest first.
    pub ways: Vec<OutlookWay>,
}

/// A graphics card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookGpu {
    pub name: String,
    pub memory: u64,
    /// Whether this build can compute on it.
    pub usable: bool,
}

/// A precision to load the omni model in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookWay {
    pub name: String,
    /// What it needs of the graphics card's memory.
    pub bytes: u64,
    pub fits: bool,
}

impl Outlook {
    /// The precision to take: the largest that fits.
    pub fn best(&self) -> Option<&OutlookWay> {
        self.ways.iter().find(|way| way.fits)
    }
}

/// What follows for this machine. `usable`: this build can compute on a graphics card.
pub fn outlook(machine: &Machine, usable: bool) -> Outlook {
    let gpu = machine.gpus.iter().max_by_key(|gpu| gpu.memory);
    let room = gpu.map_or(0, |gpu| room(gpu.memory));
    let way = |way: crate::engine::omni::ways::Way| OutlookWay {
        name: way.name.to_owned(),
        bytes: way.bytes,
        fits: way.bytes <= room,
    };
    Outlook {
        memory: machine.memory_total,
        disk_free: machine.disk_free,
        gpu: gpu.map(|gpu| OutlookGpu { name: gpu.name.clone(), memory: gpu.memory, usable }),
        ways: ways().map(way).to_vec(),
    }
}

/// Looks at this machine; takes up to a second where there is a graphics card.
pub fn look(store: &crate::weights::Store) -> Outlook {
    outlook(&Machine::probe(store), device::is_built_for_gpus())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::fit::Gpu;

    fn with_gpu(gigabytes: Option<u64>) -> Outlook {
        let gpu = |memory: u64| Gpu { name: "GPU".into(), memory: memory << 30, driver: "580".into() };
        let machine = Machine {
            cpu: "test".into(),
            cores: 8,
            memory_total: 16_000_000_000,
            memory_available: 0,
            disk_free: Some(1),
            gpus: gigabytes.map(gpu).into_iter().collect(),
            gpu_trouble: None,
        };
        outlook(&machine, true)
    }

    /// What the model's makers publish: 8.1 billion parameters at 2, about 1.06 and about 0.56 bytes, beside a speech part
    /// in f32 and what a conversation takes.
    #[test]
    fn the_precision_follows_the_card() {
        let best = |gigabytes| with_gpu(gigabytes).best().map(|way| way.name.clone());
        assert_eq!(best(None), None);
        assert_eq!(best(Some(6)), None);
        assert_eq!(best(Some(10)).as_deref(), Some("q4_k"));
        assert_eq!(best(Some(16)).as_deref(), Some("q8_0"));
        assert_eq!(best(Some(24)).as_deref(), Some("bf16"));
        assert_eq!(with_gpu(None).gpu, None);
    }
}
