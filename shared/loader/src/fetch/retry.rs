//! How often a range is tried again, and after what rest.
//!
//! A rest is drawn evenly from zero to a bound that doubles with each attempt (full jitter), so that clients that failed
//! together do not come back together. A chunk's attempts are counted only while it makes no progress: a part of which
//! some chunks arrived goes on with the count of the first that did not. Over the whole download a budget, filled up
//! again by successes, keeps a store that is down from being hammered.

use std::collections::HashMap;
use std::time::Duration;

use crate::source::{Fault, FaultKind};

/// Attempts at one chunk. With the rests below the last comes after 3 s on average, 6 s at most.
const ATTEMPTS: u32 = 8;

/// Attempts at a chunk that arrives whole but wrong: a fault on the way passes, a damaged object does not.
const CORRUPT_ATTEMPTS: u32 = 3;

/// The bound of the first rest; it doubles up to the longest.
const FIRST: Duration = Duration::from_millis(50);
const FIRST_THROTTLED: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Retries that may be spent ahead of successes, and successes that earn one more.
const BUDGET: u32 = 64;
const EARNED_BY: u32 = 2;

#[derive(Debug)]
pub(crate) struct Retries {
    /// Attempts that failed, by the first chunk they did not bring: in all, and with wrong bytes.
    failed: HashMap<usize, (u32, u32)>,
    budget: u32,
    successes: u32,
}

impl Retries {
    pub(crate) fn new() -> Self {
        Self { failed: HashMap::new(), budget: BUDGET, successes: 0 }
    }

    /// Failed attempts at a chunk so far.
    pub(crate) fn attempts(&self, chunk: usize) -> u32 {
        self.failed.get(&chunk).map_or(0, |counts| counts.0)
    }

    /// A part arrived.
    pub(crate) fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes.is_multiple_of(EARNED_BY) {
            self.budget = (self.budget + 1).min(BUDGET);
        }
    }

    /// How long to rest after this failure; the number of attempts made if there must be no other.
    pub(crate) fn after(&mut self, chunk: usize, fault: &Fault) -> Result<Duration, u32> {
        let (attempts, corrupt) = self.failed.entry(chunk).or_default();
        *attempts += 1;
        *corrupt += u32::from(fault.kind == FaultKind::Corrupt);
        let over = *attempts >= ATTEMPTS || *corrupt >= CORRUPT_ATTEMPTS || self.budget == 0;
        if over || !fault.is_passing() {
            return Err(*attempts);
        }
        self.budget -= 1;
        Ok(bound(*attempts, fault.kind).mul_f64(random_fraction()))
    }
}

fn bound(attempts: u32, kind: FaultKind) -> Duration {
    let first = if kind == FaultKind::Throttled { FIRST_THROTTLED } else { FIRST };
    first.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST)
}

/// Evenly from 0 to 1. From the operating system, because processes that were restored from one memory snapshot share
/// every generator of their own.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind) -> Fault {
        Fault::new(kind, "x")
    }

    #[test]
    fn passing_faults_are_tried_again_up_to_a_number() {
        let mut retries = Retries::new();
        for attempt in 1..ATTEMPTS {
            let rest = retries.after(7, &fault(FaultKind::Unavailable)).unwrap();
            assert!(rest <= bound(attempt, FaultKind::Unavailable));
        }
        assert_eq!(retries.after(7, &fault(FaultKind::Unavailable)), Err(ATTEMPTS));
        assert_eq!(retries.attempts(7), ATTEMPTS);
        assert!(
            retries.after(8, &fault(FaultKind::Broken)).is_ok(),
            "other chunks are not affected"
        );
    }

    #[test]
    fn wrong_bytes_are_believed_sooner_and_refusals_at_once() {
        let mut retries = Retries::new();
        for _ in 1..CORRUPT_ATTEMPTS {
            assert!(retries.after(0, &fault(FaultKind::Corrupt)).is_ok());
        }
        assert_eq!(retries.after(0, &fault(FaultKind::Corrupt)), Err(CORRUPT_ATTEMPTS));
        for kind in [FaultKind::Missing, FaultKind::Denied, FaultKind::Changed, FaultKind::Local] {
            assert_eq!(Retries::new().after(0, &fault(kind)), Err(1));
        }
    }

    #[test]
    fn the_budget_ends_and_successes_fill_it() {
        let mut retries = Retries::new();
        for chunk in 0..BUDGET as usize {
            assert!(retries.after(chunk, &fault(FaultKind::Broken)).is_ok());
        }
        assert_eq!(retries.after(1000, &fault(FaultKind::Broken)), Err(1));
        for _ in 0..EARNED_BY {
            retries.succeeded();
        }
        assert!(retries.after(1001, &fault(FaultKind::Broken)).is_ok());
    }

    #[test]
    fn bounds_double_up_to_the_longest() {
        let bounds: Vec<_> = (1..=9).map(|n| bound(n, FaultKind::Broken).as_millis()).collect();
        assert_eq!(bounds, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(bound(1, FaultKind::Throttled), FIRST_THROTTLED);
    }
}
