//! How much memory this process holds. Asks the system on the caller's thread.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Bytes of memory that this process holds; 0 where the system does not say.
pub fn memory_held() -> u64 {
    let Ok(pid) = sysinfo::get_current_pid() else { return 0 };
    let (mut system, kind) = (System::new(), ProcessRefreshKind::nothing().with_memory());
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map_or(0, sysinfo::Process::memory)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_some_memory() {
        assert!(super::memory_held() > 1 << 20);
    }
}
