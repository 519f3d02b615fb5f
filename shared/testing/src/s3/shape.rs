//! The simulated network: token buckets and delays.
//!
//! A bucket keeps one number, the moment at which it will be full again. Taking `n` bytes moves
//! that moment by `n / rate`; they may be sent as soon as it is no further away than a full
//! bucket takes to fill. Takers are thus served in the order in which they come, and a taker that
//! sends in small pieces shares with the others. A sleep that lasts too long costs no throughput, because
//! the next piece is counted from where the last one should have ended.
//!
//! Sleeping happens on a condition variable, so that a stopping server need not wait for it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock;

/// Bytes per second, with a burst.
#[derive(Debug)]
pub(super) struct TokenBucket {
    rate_bytes_per_s: u64,
    burst: Duration,
    full_at: Mutex<Instant>,
}

impl TokenBucket {
    pub(super) fn new(rate_bytes_per_s: u64, burst_bytes: u64) -> Self {
        let rate_bytes_per_s = rate_bytes_per_s.max(1);
        let burst = cost(burst_bytes, rate_bytes_per_s);
        Self { rate_bytes_per_s, burst, full_at: Mutex::new(Instant::now()) }
    }

    /// Takes these bytes and says when they may be sent.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> Instant {
        let mut full_at = lock(&self.full_at);
        *full_at = (*full_at).max(now) + cost(bytes, self.rate_bytes_per_s);
        full_at.checked_sub(self.burst).unwrap_or(now).max(now)
    }

    pub(super) fn refill(&self) {
        *lock(&self.full_at) = Instant::now();
    }
}

fn cost(bytes: u64, rate_bytes_per_s: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate_bytes_per_s);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Whether the server is to end, and a place to sleep until it does.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn stop(&self) {
        *lock(&self.stopped) = true;
        self.changed.notify_all();
    }

    pub(super) fn stopped(&self) -> bool {
        *lock(&self.stopped)
    }

    /// Sleeps until then, or until the server ends.
    pub(super) fn sleep_until(&self, then: Instant) {
        let mut stopped = lock(&self.stopped);
        while !*stopped {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(stopped, left);
            stopped = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = TokenBucket::new(1000, 500);
        let start = Instant::now() + Duration::from_secs(1);
        let after = |bytes, now| bucket.take(bytes, now).duration_since(start).as_millis();
        assert_eq!(after(300, start), 0);
        assert_eq!(after(200, start), 0);
        assert_eq!(after(100, start), 100);
        assert_eq!(after(100, start), 200);
        // A pause of a second refills it, but not beyond the burst.
        let later = start + Duration::from_secs(2);
        assert_eq!(after(500, later), 2000);
        assert_eq!(after(500, later), 2500);
    }

    #[test]
    fn hostile_numbers() {
        let now = Instant::now();
        assert!(TokenBucket::new(0, u64::MAX).take(0, now) >= now);
    }
}
