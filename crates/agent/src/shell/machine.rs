//! The resources of the machine: the default capacity of a node.

use model::{Bytes, Cpu, Resources};

/// All cores and all memory.
pub(super) fn capacity() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu = u32::try_from(cores.saturating_mul(1000)).unwrap_or(u32::MAX);
    Resources { cpu: Cpu(cpu), memory: Bytes(memory(&meminfo).unwrap_or(0)) }
}

/// `MemTotal` of proc_meminfo(5), in whole MiB.
fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib << 10) >> 20 << 20)
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_read() {
        let text = "MemTotal:       24679520 kB\nMemFree:         1 kB\n";
        assert_eq!(super::memory(text), Some(24101 << 20));
        assert_eq!(super::memory(""), None);
    }
}
