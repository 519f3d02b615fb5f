//! The clocks that measurements are taken with, as a value, so that tests can make them jump.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks of a process. Neither may be trusted across a memory snapshot: the monotonic one
/// may jump, the wall clock has moved on.
pub trait Clock: Debug + Send + Sync {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The wall clock, since 1970.
    fn unix(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
