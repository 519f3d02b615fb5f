//! How much memory models may take where nothing is set.

use std::fs::read_to_string;

use rustix::process::{Resource, getrlimit};

/// Of what the process may use, the part that models may take. The rest is for activations,
/// requests and answers: 200 MB on the smallest container a 0.5B model fits in.
const SHARE: f64 = 0.8;

/// Most bytes of models: a share of what the process may use.
pub(crate) fn most_bytes() -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of bytes"
    )]
    let share = (available() as f64 * SHARE) as u64;
    share
}

/// Bytes that the process may use: the container's limit, that of its own address space, or the
/// machine's memory.
pub(crate) fn available() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit =
        limits.iter().filter_map(|path| read_to_string(path).ok()?.trim().parse().ok()).min();
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = getrlimit(Resource::As).current;
    [limit, machine, own].into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// The machine's memory, from the kernel's `meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_found() {
        assert_eq!(total("MemTotal:       24 kB\nMemFree: 1 kB\n"), Some(24 * 1024));
        assert_eq!(total("nonsense"), None);
        assert!(most_bytes() > 0);
    }
}
