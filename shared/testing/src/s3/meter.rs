//! Counting, and calls at an exact byte.
//!
//! Bytes are counted before they are written, and taken back where the write fails: a client that
//! has received a byte finds it counted. A writer asks for a grant ([`Meter::grant`]), writes no more
//! than it was granted and settles what became of it. Grants end at the next mark, and behind a
//! mark none is given until all earlier ones are settled and the mark's call has returned; so the
//! kernel then holds exactly the marked number of bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::lock;

/// What the server did since its start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The number of requests whose head was read.
    pub requests: u64,
    /// The number of requests that were a GET of an object.
    pub gets: u64,
    /// Bytes of objects that were handed to the kernel, in bodies whole or cut.
    pub body_bytes_sent: u64,
    /// Bytes of the bodies of requests, as they were decoded.
    pub body_bytes_received: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// The most GETs of objects that were being answered at one moment. A GET whose last bytes are
    /// being written no longer counts, so that one client in sequence never makes two.
    pub peak_concurrent_gets: u64,
    /// Answers with status 503.
    pub throttled: u64,
    /// The ranges of objects whose bodies were begun, in order, by `bucket/key`.
    pub ranges: BTreeMap<String, Vec<Range<u64>>>,
}

type Call = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    stats: Stats,
    active_gets: u64,
    /// Granted and not settled.
    unsettled: u64,
    marks: Vec<(u64, Call)>,
    calling: bool,
    stopped: bool,
}

impl State {
    fn next_mark(&self) -> Option<u64> {
        self.marks.iter().map(|&(at, _)| at).min()
    }
}

#[derive(Default)]
pub(super) struct Meter {
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    pub(super) fn stats(&self) -> Stats {
        lock(&self.state).stats.clone()
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> u64 {
        lock(&self.state).stats.requests
    }

    /// Counts from zero. Marks stay: their bytes are counted from here.
    pub(super) fn reset(&self) {
        let mut state = lock(&self.state);
        state.stats = Stats { peak_concurrent_gets: state.active_gets, ..Stats::default() };
    }

    /// Ends all waiting; nothing more is granted.
    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    /// Counts something.
    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut lock(&self.state).stats);
    }

    /// Counts a GET, which is active until the guard is dropped.
    pub(super) fn begin_get(&self) -> ActiveGet<'_> {
        let mut state = lock(&self.state);
        state.stats.gets += 1;
        state.active_gets += 1;
        state.stats.peak_concurrent_gets = state.stats.peak_concurrent_gets.max(state.active_gets);
        ActiveGet { meter: self }
    }

    pub(super) fn at(&self, sent: u64, call: Call) {
        let mut state = lock(&self.state);
        state.marks.push((sent, call));
        self.run_due(state);
    }

    /// How much of `wanted`, which is not 0, may be written now; waits while a mark is due. `None`
    /// when the server ends.
    pub(super) fn grant(&self, wanted: u64) -> Option<u64> {
        let mut state = lock(&self.state);
        loop {
            let room = match state.next_mark() {
                Some(at) => at.saturating_sub(state.stats.body_bytes_sent),
                None => u64::MAX,
            };
            if state.stopped {
                return None;
            } else if room > 0 && !state.calling {
                let granted = room.min(wanted);
                state.stats.body_bytes_sent += granted;
                state.unsettled += granted;
                return Some(granted);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says what became of a grant.
    pub(super) fn settle(&self, granted: u64, written: u64) {
        let mut state = lock(&self.state);
        state.unsettled -= granted;
        let sent = &mut state.stats.body_bytes_sent;
        *sent = sent.saturating_sub(granted - written);
        self.run_due(state);
    }

    /// Runs the calls whose byte has been reached, with every grant held back.
    fn run_due<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.marks.is_empty() || state.calling {
            return;
        }
        while state.unsettled == 0 && !state.stopped {
            let sent = state.stats.body_bytes_sent;
            let Some(due) = state.marks.iter().position(|&(at, _)| at <= sent) else { break };
            let (_, call) = state.marks.remove(due);
            state.calling = true;
            drop(state);
            // A failed assertion in a call must not leave every other connection waiting.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
            state = lock(&self.state);
            state.calling = false;
            if let Err(panic) = outcome {
                drop(state);
                self.changed.notify_all();
                std::panic::resume_unwind(panic);
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// A GET that is being answered.
#[derive(Debug)]
pub(super) struct ActiveGet<'a> {
    meter: &'a Meter,
}

impl Drop for ActiveGet<'_> {
    fn drop(&mut self) {
        lock(&self.meter.state).active_gets -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn grants_end_at_marks() {
        let meter = Meter::default();
        let called = Arc::new(AtomicU64::new(0));
        for at in [10, 7, 7] {
            let called = Arc::clone(&called);
            let count = move || {
                called.fetch_add(1, Ordering::SeqCst);
            };
            meter.at(at, Box::new(count));
        }
        assert_eq!(meter.grant(5), Some(5));
        meter.settle(5, 5);
        assert_eq!(meter.grant(5), Some(2));
        assert_eq!(called.load(Ordering::SeqCst), 0);
        meter.settle(2, 1);
        assert_eq!(called.load(Ordering::SeqCst), 0, "a byte was not written");
        assert_eq!(meter.grant(5), Some(1));
        meter.settle(1, 1);
        assert_eq!(called.load(Ordering::SeqCst), 2);
        assert_eq!(meter.grant(5), Some(3));
        meter.settle(3, 3);
        assert_eq!(called.load(Ordering::SeqCst), 3);
        assert_eq!(meter.grant(5), Some(5));
        meter.stop();
        assert_eq!(meter.grant(5), None);
    }

    #[test]
    fn a_mark_that_has_passed_is_called_at_once() {
        let meter = Meter::default();
        let called = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&called);
        meter.at(0, Box::new(move || seen.store(1, Ordering::SeqCst)));
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_mark_waits_for_other_writers() {
        let meter = Arc::new(Meter::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        meter.at(4, Box::new(move || lock(&seen).push("call")));
        assert_eq!((meter.grant(2), meter.grant(2)), (Some(2), Some(2)));
        let waiting = {
            let (meter, order) = (Arc::clone(&meter), Arc::clone(&order));
            std::thread::spawn(move || {
                let granted = meter.grant(1);
                lock(&order).push("granted");
                granted
            })
        };
        meter.settle(2, 2);
        lock(&order).push("settled");
        meter.settle(2, 2);
        assert_eq!(waiting.join().unwrap(), Some(1));
        assert_eq!(*lock(&order), ["settled", "call", "granted"]);
    }

    #[test]
    fn peak_of_gets() {
        let meter = Meter::default();
        let (first, second) = (meter.begin_get(), meter.begin_get());
        drop(first);
        drop(meter.begin_get());
        assert_eq!(meter.stats().peak_concurrent_gets, 2);
        meter.reset();
        assert_eq!((meter.stats().gets, meter.stats().peak_concurrent_gets), (0, 1));
        drop(second);
    }
}
