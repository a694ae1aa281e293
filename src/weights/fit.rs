//! What this machine has, and which models it can hold.
//!
//! [`Machine::probe`] asks the system (up to a second where it starts `nvidia-smi`); the judgement is pure.

use super::error::Size;
use super::{Catalog, Model, Role, Store};
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

/// Memory that the system and other programs keep for themselves, at least.
const RESERVED: u64 = 1_500_000_000;

/// An NVIDIA graphics card.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gpu {
    pub name: String,
    /// Bytes.
    pub memory: u64,
    pub driver: String,
}

/// What there is to run on. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    pub cpu: String,
    /// Threads that run at once.
    pub cores: u32,
    pub memory_total: u64,
    pub memory_available: u64,
    /// Free on the disk of the store; `None` when unknown.
    pub disk_free: Option<u64>,
    pub gpus: Vec<Gpu>,
    /// Why there are none, when `nvidia-smi` is there but fails.
    pub gpu_trouble: Option<String>,
}

impl Machine {
    /// Looks at this machine.
    pub fn probe(store: &Store) -> Machine {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted);
        let (gpus, gpu_trouble) = gpus();
        // In a container the limit that counts is its own.
        let limit = system.cgroup_limits();
        let memory_total = limit.as_ref().map_or(system.total_memory(), |c| c.total_memory.min(system.total_memory()));
        let available = system.available_memory();
        Machine {
            cpu: system.cpus().first().map(|c| c.brand().trim().to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory_total,
            memory_available: limit.map_or(available, |c| c.free_memory.min(available)),
            disk_free: free_space(store.models_dir()),
            gpus,
            gpu_trouble,
        }
    }
}

/// Bytes of main memory that a program can still take without another losing what it has.
pub fn free_memory() -> u64 {
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let available = system.available_memory();
    // In a container the limit that counts is its own.
    system.cgroup_limits().map_or(available, |limit| limit.free_memory.min(available))
}

/// Free bytes of the memory of the NVIDIA graphics card that CUDA counts as `number`; `None` when the driver does not
/// say.
pub fn free_gpu_memory(number: usize) -> Option<u64> {
    // CUDA counts the cards it is shown; the driver's tool counts all of them.
    let shown = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let id = shown.split(',').nth(number).map(str::trim).filter(|id| !id.is_empty());
    let id = id.map_or_else(|| number.to_string(), str::to_owned);
    let answer = ask_driver(&["--query-gpu=memory.free", "-i", &id]).ok().filter(|answer| answer.status.success())?;
    String::from_utf8_lossy(&answer.stdout).trim().parse::<u64>().ok().map(|mebibytes| mebibytes << 20)
}

/// Bytes of graphics cards' memory that this program holds; `None` where the driver does not say (inside a container it may
/// count processes otherwise).
pub fn own_gpu_memory() -> Option<u64> {
    let answer = ask_driver(&["--query-compute-apps=pid,used_memory"]).ok().filter(|answer| answer.status.success())?;
    held_by(std::process::id(), &String::from_utf8_lossy(&answer.stdout))
}

/// What a process holds by the driver's list: its number and mebibytes, a line for each card.
fn held_by(process: u32, list: &str) -> Option<u64> {
    let lines = list.lines().filter_map(|line| line.split_once(','));
    let own = lines.filter(|(number, _)| number.trim().parse() == Ok(process));
    let held = own.map(|(_, mebibytes)| mebibytes.trim().parse::<u64>().ok());
    held.sum::<Option<u64>>().filter(|mebibytes| *mebibytes > 0).map(|mebibytes| mebibytes << 20)
}

/// Free bytes on the disk that holds `path` (or will hold it); `None` when the system does not say.
pub fn free_space(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find_map(|p| p.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let holds = disks.iter().filter(|d| existing.starts_with(d.mount_point()));
    holds.max_by_key(|d| d.mount_point().components().count()).map(|d| d.available_space())
}

/// Asks the driver's tool; it answers in lines of values, apart by commas and without units.
fn ask_driver(query: &[&str]) -> io::Result<Output> {
    Command::new("nvidia-smi").args(query).arg("--format=csv,noheader,nounits").stdin(Stdio::null()).output()
}

fn gpus() -> (Vec<Gpu>, Option<String>) {
    match ask_driver(&["--query-gpu=name,memory.total,driver_version"]) {
        Err(_) => (Vec::new(), None),
        Ok(answer) if answer.status.success() => (read_gpus(&String::from_utf8_lossy(&answer.stdout)), None),
        Ok(answer) => {
            let said = String::from_utf8_lossy(if answer.stdout.is_empty() { &answer.stderr } else { &answer.stdout });
            (Vec::new(), Some(said.lines().next().unwrap_or("nvidia-smi fails and says nothing").trim().to_owned()))
        }
    }
}

/// Reads `nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits`.
fn read_gpus(answer: &str) -> Vec<Gpu> {
    let read = |line: &str| {
        let mut fields = line.rsplitn(3, ',').map(str::trim);
        let driver = fields.next()?.to_owned();
        let mebibytes: u64 = fields.next()?.parse().ok()?;
        Some(Gpu { name: fields.next()?.to_owned(), memory: mebibytes << 20, driver })
    };
    answer.lines().filter_map(read).collect()
}

/// How well a model suits a machine, from bad to good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It needs more memory than there is.
    TooLarge {
        needs: Size,
        has: Size,
    },
    /// It runs, but will make the user wait.
    Slow {
        wants_cores: u32,
        has: u32,
    },
    Good,
}

/// How well `model` suits `machine`.
pub fn fit(model: &Model, machine: &Machine) -> Fit {
    let has = machine.memory_total.saturating_sub(RESERVED);
    if model.memory > has {
        Fit::TooLarge { needs: Size(model.memory), has: Size(has) }
    } else if model.cores > machine.cores {
        Fit::Slow { wants_cores: model.cores, has: machine.cores }
    } else {
        Fit::Good
    }
}

/// The best model for a role on this machine: the largest that suits it well, else the smallest that can be loaded.
pub fn best<'a>(catalog: &'a Catalog, role: Role, machine: &Machine) -> Option<&'a Model> {
    let of_role = || catalog.models.iter().filter(|m| m.role == role);
    let good = of_role().filter(|m| fit(m, machine) == Fit::Good).max_by_key(|m| m.memory);
    good.or_else(|| of_role().filter(|m| matches!(fit(m, machine), Fit::Slow { .. })).min_by_key(|m| m.memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the driver writes it.
    #[test]
    fn what_a_process_holds_is_added_up_over_the_cards() {
        let list = "812, 310\n4711, 8120\n4711, 512\n99, [N/A]\n";
        assert_eq!(held_by(4711, list), Some((8120 + 512) << 20));
        assert_eq!([held_by(99, list), held_by(5, list), held_by(5, "")], [None; 3]);
    }

    fn machine(gigabytes: u64, cores: u32) -> Machine {
        Machine {
            cpu: "test".into(),
            cores,
            memory_total: gigabytes * 1_000_000_000,
            memory_available: 0,
            disk_free: None,
            gpus: Vec::new(),
            gpu_trouble: None,
        }
    }

    #[test]
    fn the_language_model_follows_the_machine() {
        let catalog = Catalog::built_in().unwrap();
        let best = |gigabytes, cores| best(catalog, Role::Llm, &machine(gigabytes, cores)).map(|m| m.id.as_str());
        assert_eq!(best(16, 8), Some("qwen2.5-coder-1.5b"));
        assert_eq!(best(16, 2), Some("qwen2.5-coder-1.5b"));
        assert_eq!(best(3, 8), Some("qwen2.5-coder-0.5b"), "little memory");
        assert_eq!(best(16, 1), Some("qwen2.5-coder-0.5b"), "slow either way: the smaller");
        assert_eq!(best(2, 8), None);
    }

    #[test]
    fn nvidia_smi_is_read() {
        let answer = "NVIDIA GeForce RTX 4090, 24564, 550.54.15\nNVIDIA A100-SXM4-80GB, 81920, 550.54.15\n";
        let gpus = read_gpus(answer);
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].name, "NVIDIA GeForce RTX 4090");
        assert_eq!(gpus[1].memory, 81_920 * 1024 * 1024);
        assert_eq!(gpus[1].driver, "550.54.15");
        assert_eq!(read_gpus("No devices were found\n"), []);
    }

    #[test]
    fn the_disk_of_a_folder_yet_to_be_made_is_that_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let (here, below) = (free_space(dir.path()), free_space(&dir.path().join("a/b")));
        assert!(here.is_some_and(|b| b > 0));
        assert_eq!(here.is_some(), below.is_some());
    }
}
