//! What Prometheus client libraries tell of their process, under the names that dashboards know.
//!
//! Read from `/proc/self` at each scrape; what cannot be read is left out.

use std::fmt::Error;
use std::fs::{read_dir, read_to_string};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The running process.
#[derive(Debug)]
pub(super) struct Process;

/// Fields of `/proc/self/stat`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    /// Time on the processor for user and system together, in ticks.
    cpu: u64,
    threads: u64,
    /// When the process started, in ticks since the machine did.
    start: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Counted after the command name, which may itself hold spaces and parentheses.
    fn read(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // The manual counts from 1, and the first here is its third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu: field(14)? + field(15)?,
            threads: field(20)?,
            start: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut told = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let stat = read_to_string("/proc/self/stat").ok().and_then(|text| Stat::read(&text));
        if let Some(stat) = stat {
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            let cpu = ConstCounter::new(stat.cpu as f64 / ticks);
            // The encoder adds `_total`.
            told("process_cpu_seconds", "User and system time of the process", &cpu)?;
            told("process_threads", "Threads of the process", &ConstGauge::new(stat.threads))?;
            let bytes = ConstGauge::new(stat.virtual_bytes);
            told("process_virtual_memory_bytes", "Size of the address space", &bytes)?;
            let bytes = ConstGauge::new(stat.resident_pages * rustix::param::page_size() as u64);
            told("process_resident_memory_bytes", "Memory, mapped files included", &bytes)?;
            if let Some(start) = started(stat.start as f64 / ticks) {
                let start = ConstGauge::new(start);
                told("process_start_time_seconds", "Start of the process, since 1970", &start)?;
            }
        }
        // Without the one that looks.
        if let Ok(open) = read_dir("/proc/self/fd") {
            let open = ConstGauge::new((open.count() as u64).saturating_sub(1));
            told("process_open_fds", "Open file descriptors", &open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let most = ConstGauge::new(most);
            told("process_max_fds", "Most file descriptors that may be open", &most)?;
        }
        Ok(())
    }
}

/// Unix time of a moment so many seconds after the machine was started.
fn started(after_boot: f64) -> Option<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let up = Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    Some(now.as_secs_f64() - (up.as_secs_f64() - after_boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let fields: Vec<String> = (4..=40).map(|n| n.to_string()).collect();
        let stat = Stat::read(&format!("7 (a) b) S {}", fields.join(" ")));
        let expected =
            Stat { cpu: 29, threads: 20, start: 22, virtual_bytes: 23, resident_pages: 24 };
        assert_eq!(stat, Some(expected));
        assert_eq!(Stat::read("7 (a) S 1 2"), None);
    }
}
