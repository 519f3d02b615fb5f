//! A lock that threads get in the order in which they ask for it.
//!
//! A `Mutex` will not do: a thread that lets go of it and asks again at once, as one with jobs left
//! does, mostly gets it again, and the others wait as long as that one has jobs.

use std::sync::PoisonError;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct FairLock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number that the next thread to ask gets.
    next: u64,
    /// The number of the thread that may hold the lock.
    now: u64,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub(crate) struct FairLockGuard<'a>(&'a FairLock);

impl FairLock {
    /// Waits behind the threads that have asked before.
    pub(crate) fn lock(&self) -> FairLockGuard<'_> {
        let mut state = self.state();
        let own = state.next;
        state.next += 1;
        while state.now != own {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        FairLockGuard(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FairLockGuard<'_> {
    fn drop(&mut self) {
        self.0.state().now += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_thread_that_asks_again_stands_behind() {
        let test = || {
            let lock = Arc::new(FairLock::default());
            let first = lock.lock();
            let order = Arc::new(std::sync::Mutex::new(Vec::new()));
            let waiting: Vec<_> = (0..3)
                .map(|number| {
                    let (their, order) = (Arc::clone(&lock), Arc::clone(&order));
                    let thread = shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let _guard = their.lock();
                            order.lock().unwrap().push(number);
                        }
                    });
                    // Asked before the next one is started.
                    while lock.state().next < number + 2 {
                        shuttle::thread::yield_now();
                    }
                    thread
                })
                .collect();
            drop(first);
            for thread in waiting {
                thread.join().unwrap();
            }
            let order = order.lock().unwrap();
            assert_eq!(order[..3], [0, 1, 2], "no thread has it twice before all had it once");
            assert_eq!(order.len(), 6);
        };
        shuttle::check_random(test, 300);
    }
}
