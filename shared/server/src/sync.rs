//! Threads, tasks, locks and timers of the hand-overs between requests, models and hooks.
//!
//! In the product these are the standard library's and tokio's. In this crate's unit tests they are
//! those of `shuttle`, which runs one task or thread at a time and chooses at every step which one
//! goes on, so that a test sees thousands of orders instead of the one that the machine happened to
//! take (`src/interleavings.rs`). tokio's channels and locks work under either: they need no
//! runtime, only wakers. Timers never fire there: whatever is to end must end because of what
//! others do.

#[cfg(not(test))]
pub(crate) use self::real::*;
#[cfg(test)]
pub(crate) use self::scheduled::*;

#[cfg(not(test))]
mod real {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::Builder;
    use std::time::Duration;

    use tokio::sync::mpsc::UnboundedReceiver;
    pub(crate) use tokio::time::{Instant, sleep, timeout};

    /// The time, which tests with a runtime can stop.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// Time since then.
    pub(crate) fn since(then: Instant) -> Duration {
        Instant::now().saturating_duration_since(then)
    }

    /// Runs a task beside the others.
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    /// Runs work that takes a while on another thread; `None` if it panicked there.
    pub(crate) async fn apart<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Blocks the thread until there is something; `None` when every sender has gone.
    pub(crate) fn receive<T>(from: &mut UnboundedReceiver<T>) -> Option<T> {
        from.blocking_recv()
    }

    /// A step at which others may go on, in tests.
    pub(crate) fn step() {}
}

#[cfg(test)]
mod scheduled {
    use std::convert::Infallible;
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::Builder;
    use tokio::sync::mpsc::UnboundedReceiver;

    /// All time has passed: nothing can be waited for here.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instant;

    pub(crate) fn now() -> Instant {
        Instant
    }

    pub(crate) fn since(_: Instant) -> Duration {
        Duration::MAX
    }

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }

    pub(crate) async fn apart<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        drop(shuttle::thread::spawn(move || drop(done.send(work()))));
        result.await.ok()
    }

    pub(crate) fn receive<T>(from: &mut UnboundedReceiver<T>) -> Option<T> {
        shuttle::future::block_on(from.recv())
    }

    pub(crate) fn step() {
        shuttle::thread::yield_now();
    }

    pub(crate) async fn sleep(_: Duration) {
        std::future::pending::<()>().await;
    }

    pub(crate) async fn timeout<F: Future>(
        _: Duration,
        future: F,
    ) -> Result<F::Output, Infallible> {
        Ok(future.await)
    }
}
