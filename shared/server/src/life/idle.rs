//! When the function last had something to do, and the end of one that has had nothing for
//! `SHUTDOWN_TIMEOUT`.
//!
//! For platforms that pay by the hour or wake a process by socket activation: it goes away by
//! itself and exits with 0. Probes and scrapers are no reason to stay.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Requests at hand, and when there were any.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    /// Notified when the last request at hand is done.
    idle: Notify,
}

#[derive(Debug)]
struct State {
    running: usize,
    last: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        let state = Mutex::new(State { running: 0, last: Instant::now() });
        Self { state, idle: Notify::new() }
    }
}

/// A request at hand.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| state.running -= 1);
        self.0.idle.notify_one();
    }
}

impl Activity {
    /// Until the guard is dropped there is something to do.
    pub(crate) fn enter(self: &Arc<Self>) -> Busy {
        self.change(|state| state.running += 1);
        Busy(Arc::clone(self))
    }

    /// Counts idleness from now on.
    pub(crate) fn touch(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        state.last = Instant::now();
    }

    /// Resolves once nothing has been done for `timeout`; never if that is zero.
    pub(crate) async fn idle_for(&self, timeout: Duration) {
        if timeout.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let (running, end) = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                (state.running, state.last + timeout)
            };
            if running > 0 {
                self.idle.notified().await;
            } else if Instant::now() >= end {
                return;
            } else {
                sleep_until(end).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn ends_within(activity: &Activity, time: Duration) -> bool {
        timeout(time, activity.idle_for(SECOND * 10)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_is_counted_from_the_end_of_the_last_request() {
        let activity = Arc::new(Activity::default());
        assert!(!ends_within(&activity, SECOND * 9).await);
        let busy = activity.enter();
        assert!(!ends_within(&activity, SECOND * 100).await, "while a request runs");
        drop(busy);
        assert!(!ends_within(&activity, SECOND * 9).await);
        activity.touch();
        assert!(!ends_within(&activity, SECOND * 9).await);
        advance(SECOND).await;
        assert!(ends_within(&activity, SECOND / 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_never() {
        let activity = Activity::default();
        assert!(timeout(SECOND * 100_000, activity.idle_for(Duration::ZERO)).await.is_err());
    }
}
