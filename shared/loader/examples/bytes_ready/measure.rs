//! What one restore cost, as one JSON line.
//!
//! The clock starts as the first thing in `main`; where `BENCH_GATE` is set, once the benchmark has answered the line
//! `waiting` with one of its own, for which it may free memory or the like. *Opened*: the loader's open call returned. *Ready*: every tensor has
//! been handed out, that is, may be used. *Touched*: one byte of every page of every tensor has been read; what a lazy
//! loader left for later is paid here. Processor time is that of all threads of the process. The checksum, XXH3-64
//! of the tensors in the order of their names, is computed after that and not part of any time.
//!
//! Times are milliseconds, memory is 10^6 bytes. `from_exec_ms` is given if `BENCH_EXEC_NS` holds the monotonic clock
//! from before the process was started; the wait at the gate is not part of it.

use std::error::Error;
use std::fs;
use std::hash::Hasher;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use twox_hash::XxHash3_64;

/// The smallest page there is; touching more often than needed costs little, less often would cheat.
const PAGE: usize = 4096;

/// Collects the figures of one restore.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    cpu: Duration,
    faults: Faults,
    waited: Duration,
    line: Map<String, Value>,
}

#[derive(Debug, Clone, Copy)]
struct Faults {
    minor: u64,
    major: u64,
}

impl Meter {
    /// Starts the clock.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let waited = wait_at_gate()?;
        let mut line = Map::new();
        let memory = fs::read_to_string("/proc/self/smaps_rollup")?;
        line.insert("base_rss_mb".to_owned(), json!(field_mb(&memory, "Rss:")));
        Ok(Self { faults: Faults::now()?, waited, line, cpu: cpu_now(), begun: Instant::now() })
    }

    /// The loader's open call returned.
    pub(crate) fn opened(&mut self) {
        self.lap("open_ms", "open_cpu_ms");
    }

    /// Every tensor may be used.
    pub(crate) fn ready(&mut self) {
        self.lap("ready_ms", "ready_cpu_ms");
    }

    /// Every page has been read: the end of what is timed.
    pub(crate) fn touched(&mut self) -> Result<(), Box<dyn Error>> {
        self.lap("wall_ms", "cpu_ms");
        if let Some(start) = std::env::var("BENCH_EXEC_NS").ok().and_then(|ns| ns.parse().ok()) {
            let since = monotonic_now().saturating_sub(Duration::from_nanos(start) + self.waited);
            self.note("from_exec_ms", milliseconds(since));
        }
        let now = Faults::now()?;
        self.note("minflt", now.minor - self.faults.minor);
        self.note("majflt", now.major - self.faults.major);
        let memory = fs::read_to_string("/proc/self/smaps_rollup")?;
        for (name, field) in [("rss_mb", "Rss:"), ("pss_mb", "Pss:"), ("anon_mb", "Anonymous:")] {
            self.note(name, field_mb(&memory, field));
        }
        let peak = field_mb(&fs::read_to_string("/proc/self/status")?, "VmHWM:");
        self.note("peak_rss_mb", peak);
        Ok(())
    }

    /// Adds a figure or a remark of the contestant's own.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.line.insert(name.to_owned(), value.into());
    }

    /// The line, with the checksum of the content, given in the order of the tensors' names.
    pub(crate) fn line<'a>(
        mut self,
        contestant: &str,
        content: impl Iterator<Item = &'a [u8]>,
    ) -> Result<String, Box<dyn Error>> {
        let begun = Instant::now();
        let mut hash = XxHash3_64::default();
        let mut bytes = 0;
        for part in content {
            hash.write(part);
            bytes += part.len();
        }
        self.note("checksum", format!("{:016x}", hash.finish()));
        self.note("checksum_ms", milliseconds(begun.elapsed()));
        self.note("bytes", bytes);
        self.note("contestant", contestant);
        self.finish()
    }

    /// The line as it is.
    pub(crate) fn finish(self) -> Result<String, Box<dyn Error>> {
        Ok(serde_json::to_string(&self.line)?)
    }

    fn lap(&mut self, wall: &str, cpu: &str) {
        let (elapsed, used) = (self.begun.elapsed(), cpu_now().saturating_sub(self.cpu));
        self.note(wall, milliseconds(elapsed));
        self.note(cpu, milliseconds(used));
    }
}

/// Returns how long the gate was closed.
fn wait_at_gate() -> io::Result<Duration> {
    if std::env::var_os("BENCH_GATE").is_none() {
        return Ok(Duration::ZERO);
    }
    let begun = Instant::now();
    println!("waiting");
    io::stdin().read_line(&mut String::new())?;
    Ok(begun.elapsed())
}

/// Reads one byte of every page of the slice.
pub(crate) fn touch(bytes: &[u8]) {
    let sum = bytes.iter().step_by(PAGE).fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    black_box(sum.wrapping_add(bytes.last().copied().unwrap_or(0)));
}

impl Faults {
    /// Fields 10 and 12 of `/proc/self/stat`, counted from behind the command, which may hold anything.
    fn now() -> Result<Self, Box<dyn Error>> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|text| text.parse().ok());
        match (number(7), number(9)) {
            (Some(minor), Some(major)) => Ok(Self { minor, major }),
            _ => Err(format!("/proc/self/stat: expected fault counts, found {stat:?}").into()),
        }
    }
}

fn cpu_now() -> Duration {
    duration(ClockId::ProcessCPUTime)
}

fn monotonic_now() -> Duration {
    duration(ClockId::Monotonic)
}

fn duration(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::try_from(now).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A field of `/proc` that is given in KiB; 0 if it is missing.
fn field_mb(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
