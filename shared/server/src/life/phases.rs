//! What boot spent its time on, from `exec` on; after a memory snapshot, from the restore on.
//!
//! The clock starts when `main` does. What lies before (the kernel's exec and the dynamic linker)
//! is only known to 10 ms: `/proc/self/stat` has the start in ticks, rounded down. Two lower bounds
//! are sharper together: the CPU time the process has used when `main` begins, exact but blind to
//! waiting for the disk, and the tick difference less one tick. The phase `exec` is the larger of
//! the two.
//!
//! Every phase is a difference of two readings of one clock, so it stays true when the process is
//! copied. The zero that [`PhaseRecorder::since_zero`] counts from does not: it is a reading that
//! another machine's clock may be anywhere from. [`PhaseRecorder::restart`] sets a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::life::clock::{Clock, SystemClock};

/// Length of the kernel's clock tick as user space sees it; 100 Hz on every Linux ABI.
const TICK: Duration = Duration::from_millis(10);

const FIRST_SCORE: &str = "first_score";
const RESTORED: &str = "restored";
/// What lies between the other phases: starting the runtime and threads, binding the port.
const OTHER: &str = "other";

/// The origin of times for a model that is not part of boot.
const ON_DEMAND: &str = "it was asked for";

/// Measures the phases of one boot.
#[derive(Debug)]
pub struct PhaseRecorder {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    zero: Instant,
    /// The time before `zero` that counts as well.
    exec: Duration,
    origin: &'static str,
    phases: Vec<(&'static str, Duration)>,
    /// What went on at the same time as these.
    beside: Vec<(&'static str, Duration)>,
    first_score_after: Option<Duration>,
}

impl PhaseRecorder {
    /// Starts the clock; call it first in `main`.
    pub fn start() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// As [`start`](Self::start), with other clocks than the system's.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let zero = clock.now();
        let exec = before_main();
        let state = State {
            zero,
            exec,
            origin: "exec",
            phases: vec![("exec", exec)],
            beside: Vec::new(),
            first_score_after: None,
        };
        Self { clock, state: Mutex::new(state) }
    }

    /// Starts the clock for a model that is loaded while the process runs.
    pub(crate) fn on_demand() -> Self {
        let clock = Arc::new(SystemClock);
        let zero = clock.now();
        let (exec, phases, beside) = (Duration::ZERO, Vec::new(), Vec::new());
        let state =
            State { zero, exec, origin: ON_DEMAND, phases, beside, first_score_after: None };
        Self { clock, state: Mutex::new(state) }
    }

    /// Whether these are not the phases of boot.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.origin() == ON_DEMAND
    }

    /// Starts again at zero, in a process that has just been restored from a memory snapshot. The
    /// phases of the boot before the snapshot stay; the first score is yet to come.
    pub fn restart(&self) {
        let mut state = self.state();
        state.zero = self.clock.now();
        state.exec = Duration::ZERO;
        state.origin = "restore";
        state.phases.retain(|(name, _)| ![FIRST_SCORE, RESTORED].contains(name));
        state.first_score_after = None;
    }

    /// Notes that a restored process is ready, as the phase `restored`, and returns its length.
    pub fn restored(&self) -> Duration {
        let took = self.since_zero();
        self.record(RESTORED, took);
        took
    }

    /// Notes that the model is ready: what no phase tells of the time since zero is the phase
    /// `other`, so that all of them add up to the time that is returned.
    pub(crate) fn ready(&self) -> Duration {
        let now = self.clock.now();
        let mut state = self.state();
        let after = state.until(now);
        let told = state.phases.iter().map(|(_, time)| *time).sum();
        if !state.phases.iter().any(|(name, _)| *name == OTHER) {
            state.phases.push((OTHER, after.saturating_sub(told)));
        }
        after
    }

    /// Notes how long a phase took. A phase recorded twice keeps its first time.
    pub fn record(&self, phase: &'static str, duration: Duration) {
        let mut state = self.state();
        if !state.phases.iter().any(|(name, _)| *name == phase) {
            state.phases.push((phase, duration));
        }
    }

    /// Notes how long something took that went on beside other phases, such as a device being opened while the snapshot is
    /// restored: it is told with them, and is no part of their sum. One noted twice keeps its first time.
    pub(crate) fn beside(&self, phase: &'static str, duration: Duration) {
        let mut state = self.state();
        if !state.beside.iter().any(|(name, _)| *name == phase) {
            state.beside.push((phase, duration));
        }
    }

    /// Notes a score computed for a client. The first one is the phase `first_score`, and only for
    /// that one the time since zero is returned.
    pub(crate) fn scored(&self, inference: Duration) -> Option<Duration> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.first_score_after.is_some() {
            return None;
        }
        state.phases.push((FIRST_SCORE, inference));
        state.first_score_after = Some(state.until(now));
        state.first_score_after
    }

    /// Runs `work` as a phase.
    pub fn time<T>(&self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let start = self.clock.now();
        let result = work();
        self.record(phase, self.clock.now().saturating_duration_since(start));
        result
    }

    /// Time since `exec`, or since the last restore.
    pub fn since_zero(&self) -> Duration {
        let now = self.clock.now();
        self.state().until(now)
    }

    /// What zero is: `exec`, `restore`, or when the model was asked for.
    pub fn origin(&self) -> &'static str {
        self.state().origin
    }

    /// Time from zero to the first computed scores.
    pub fn first_score_after(&self) -> Option<Duration> {
        self.state().first_score_after
    }

    /// The wall clock, since 1970.
    pub(crate) fn unix(&self) -> Duration {
        self.clock.unix()
    }

    /// The phases so far, in order, and then those that went on beside them.
    pub fn phases(&self) -> Vec<(&'static str, Duration)> {
        let state = self.state();
        [&state.phases[..], &state.beside].concat()
    }

    /// The names of phases that went on beside others.
    pub(crate) fn names_beside(&self) -> Vec<&'static str> {
        self.state().beside.iter().map(|(name, _)| *name).collect()
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn until(&self, now: Instant) -> Duration {
        self.exec + now.saturating_duration_since(self.zero)
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
        assert!(recorder.since_zero() < Duration::from_hours(1));
        assert!(recorder.summary().contains("engine 5.0 ms"));
    }

    /// Clocks that go where they are told.
    #[derive(Debug)]
    struct Jumping(Mutex<Instant>);

    impl Clock for Jumping {
        fn now(&self) -> Instant {
            *self.0.lock().expect("no panic")
        }

        fn unix(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn phases_add_up_to_ready() {
        let clock = Arc::new(Jumping(Mutex::new(Instant::now())));
        let recorder = PhaseRecorder::with_clock(Arc::<Jumping>::clone(&clock));
        let second = Duration::from_secs(1);
        let step = || *clock.0.lock().expect("no panic") += second;
        step();
        recorder.time("restore", step);
        step();
        recorder.time("engine", step);
        recorder.beside("context", second * 9);
        recorder.beside("context", second);
        let after = recorder.ready();
        let mut phases = recorder.phases();
        assert_eq!(phases.pop(), Some(("context", second * 9)));
        assert_eq!(recorder.names_beside(), ["context"]);
        assert_eq!(phases.iter().map(|(_, time)| *time).sum::<Duration>(), after);
        assert_eq!(phases.last(), Some(&("other", second * 2)));
        assert!(after >= second * 4);
    }

    #[test]
    fn a_restore_is_a_new_zero_wherever_the_clock_went() {
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        let earlier = Instant::now();
        let begin = earlier + day;
        let clock = Arc::new(Jumping(Mutex::new(begin)));
        let recorder = PhaseRecorder::with_clock(Arc::<Jumping>::clone(&clock));
        let go = |to: Instant| *clock.0.lock().expect("no panic") = to;
        go(begin + second);
        assert!(recorder.scored(second).is_some_and(|after| after >= second));
        assert_eq!(recorder.origin(), "exec");
        for restored in [begin + day, earlier] {
            go(restored);
            recorder.restart();
            go(restored + second);
            assert_eq!(recorder.restored(), second);
            go(restored + second * 2);
            assert_eq!(recorder.scored(second), Some(second * 2));
            assert_eq!(recorder.scored(second), None);
            go(restored + second * 3);
            assert_eq!(recorder.since_zero(), second * 3);
            let names: Vec<_> = recorder.phases().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["exec", "restored", "first_score"]);
        }
        assert_eq!(recorder.origin(), "restore");
    }
}
