//! A process's memory, by what the kernel says of it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// The most there was at any time.
    pub(super) peak: u64,
    /// Pages of files: the snapshot's, mapped, and the binary's. Shared with others that map them.
    pub(super) mapped: u64,
    /// Pages of its own: the heap, stacks, what was written of the binary.
    pub(super) anonymous: u64,
    /// Pages of memory that is shared with no file.
    pub(super) shared: u64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .context("memory is read from /proc, which only Linux has")?;
        let field = |name: &str| {
            let mut values =
                status.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.next().and_then(kib).with_context(|| format!("no {name} in /proc/PID/status"))
        };
        Ok(Self {
            peak: field("VmHWM")?,
            mapped: field("RssFile")?,
            anonymous: field("RssAnon")?,
            shared: field("RssShmem")?,
        })
    }

    /// What no other process can share.
    pub(super) fn private(&self) -> u64 {
        self.anonymous + self.shared
    }

    /// The most of each.
    pub(super) fn most(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |most, one| Self {
            peak: most.peak.max(one.peak),
            mapped: most.mapped.max(one.mapped),
            anonymous: most.anonymous.max(one.anonymous),
            shared: most.shared.max(one.shared),
        })
    }
}

/// A process's mappings of one file, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Of the file that are mapped.
    pub(super) size: u64,
    /// Of those, in memory.
    pub(super) resident: u64,
    /// The process's share: of a page that several map, each has its part.
    pub(super) proportional: u64,
    /// In memory and mapped by this process alone.
    pub(super) private: u64,
    /// In memory and mapped by others as well.
    pub(super) shared: u64,
}

impl Mapping {
    pub(super) fn of(pid: u32, file: &Path) -> Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps"))
            .context("mappings are read from /proc/PID/smaps, which only Linux has")?;
        let found = Self::read(&maps, &file.to_string_lossy());
        found.with_context(|| format!("the function does not map {}", file.display()))
    }

    fn read(maps: &str, file: &str) -> Option<Self> {
        let mut all = Self::default();
        let mut is_of_file = false;
        for line in maps.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            // Lines of addresses, with a colon in the device's number, start a mapping; all others are a name and a number.
            if name.contains(' ') {
                is_of_file = line.ends_with(file);
                continue;
            }
            if !is_of_file {
                continue;
            }
            let bytes = kib(value).unwrap_or(0);
            match name {
                "Size" => all.size += bytes,
                "Rss" => all.resident += bytes,
                "Pss" => all.proportional += bytes,
                "Private_Clean" | "Private_Dirty" => all.private += bytes,
                "Shared_Clean" | "Shared_Dirty" => all.shared += bytes,
                _ => {}
            }
        }
        (all.size > 0).then_some(all)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "mapped_bytes": self.size, "rss_bytes": self.resident, "pss_bytes": self.proportional,
            "private_bytes": self.private, "shared_bytes": self.shared,
        })
    }
}

/// `  123 kB` in bytes.
fn kib(text: &str) -> Option<u64> {
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_one_file_are_added_up() {
        let maps = "7f00-7f10 r--s 00000000 fe:00 12  /m/a.snap\nSize: 64 kB\nRss: 40 kB\nPss: 20 kB\nShared_Clean: 40 kB\n\
                    Private_Clean: 0 kB\nVmFlags: rd\n7f20-7f30 r--s 00000000 fe:00 12  /m/a.snap\nSize: 4 kB\nRss: 4 kB\n\
                    Pss: 4 kB\nPrivate_Clean: 4 kB\n7f40-7f50 rw-p 00000000 00:00 0\nSize: 8 kB\nRss: 8 kB\n";
        let found = Mapping::read(maps, "/m/a.snap").unwrap();
        let kib = |count: u64| count * 1024;
        let expected = Mapping {
            size: kib(68),
            resident: kib(44),
            proportional: kib(24),
            private: kib(4),
            shared: kib(40),
        };
        assert_eq!(found, expected);
        assert_eq!(Mapping::read(maps, "/m/b.snap"), None);
    }
}
