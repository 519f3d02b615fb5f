//! What boot spent its time on, from `exec` on.
//!
//! The clock starts when `main` does. What lies before (the kernel's exec and the dynamic linker)
//! is only known to 10 ms: `/proc/self/stat` has the start in ticks, rounded down. Two lower
//! bounds are sharper together: the CPU time the process has used when `main` begins, exact but
//! blind to waiting for the disk, and the tick difference less one tick. The phase `exec` is the
//! larger of the two.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Length of the kernel's clock tick as user space sees it; 100 Hz on every Linux ABI.
const TICK: Duration = Duration::from_millis(10);

/// Measures the phases of one boot.
#[derive(Debug)]
pub struct PhaseRecorder {
    main: Instant,
    exec: Duration,
    phases: Mutex<Vec<(&'static str, Duration)>>,
}

impl PhaseRecorder {
    /// Starts the clock; call it first in `main`.
    pub fn start() -> Self {
        let main = Instant::now();
        let exec = before_main();
        Self { main, exec, phases: Mutex::new(vec![("exec", exec)]) }
    }

    /// Notes how long a phase took. A phase recorded twice keeps its first time.
    pub fn record(&self, phase: &'static str, duration: Duration) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        if !phases.iter().any(|(name, _)| *name == phase) {
            phases.push((phase, duration));
        }
    }

    /// Runs `work` as a phase.
    pub fn time<T>(&self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.record(phase, start.elapsed());
        result
    }

    /// Time since `exec`.
    pub fn since_exec(&self) -> Duration {
        self.exec + self.main.elapsed()
    }

    /// The phases so far, in order.
    pub fn phases(&self) -> Vec<(&'static str, Duration)> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The phases as `exec 2.1 ms, config 0.3 ms, …`.
    pub fn summary(&self) -> String {
        let phases = self.phases();
        let parts: Vec<_> = phases
            .iter()
            .map(|(name, time)| format!("{name} {:.1} ms", time.as_secs_f64() * 1e3))
            .collect();
        parts.join(", ")
    }
}

fn before_main() -> Duration {
    let cpu = to_duration(clock_gettime(ClockId::ProcessCPUTime));
    let now = to_duration(clock_gettime(ClockId::Boottime));
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| start_ticks(&stat));
    let by_ticks = ticks.map(|ticks| now.saturating_sub(TICK * ticks).saturating_sub(TICK));
    by_ticks.map_or(cpu, |wall| wall.max(cpu))
}

fn to_duration(time: rustix::time::Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// Field 22, counted after the command name, which may itself hold spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_name() {
        let fields: Vec<String> = (4..=40).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b) S {}", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn the_first_time_of_a_phase_stays() {
        let recorder = PhaseRecorder::start();
        recorder.record("engine", Duration::from_millis(5));
        recorder.record("engine", Duration::from_millis(9));
        let engine: Vec<_> =
            recorder.phases().into_iter().filter(|(name, _)| *name == "engine").collect();
        assert_eq!(engine, [("engine", Duration::from_millis(5))]);
        assert!(recorder.since_exec() < Duration::from_hours(1));
        assert!(recorder.summary().contains("engine 5.0 ms"));
    }
}
