//! Turns of several threads at one thing, first come, first served.
//!
//! A `Mutex` will not do: who lets go of it and asks again at once, as a thread with work left does, mostly gets it again,
//! and the others wait as long as that one has work.

use std::sync::PoisonError;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number that the next one who asks gets.
    next: u64,
    /// Whose turn it is.
    now: u64,
}

/// It is the holder's turn until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for its turn.
    pub(crate) fn wait(&self) -> Turn<'_> {
        let mut state = self.state();
        let own = state.next;
        state.next += 1;
        while state.now != own {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
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
    fn who_asks_again_stands_behind() {
        let test = || {
            let turns = Arc::new(Turns::default());
            let first = turns.wait();
            let order = Arc::new(std::sync::Mutex::new(Vec::new()));
            let waiting: Vec<_> = (0..3)
                .map(|number| {
                    let (their, order) = (Arc::clone(&turns), Arc::clone(&order));
                    let thread = shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let _turn = their.wait();
                            order.lock().unwrap().push(number);
                        }
                    });
                    // Asked before the next one is started.
                    while turns.state().next < number + 2 {
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
            assert_eq!(order[..3], [0, 1, 2], "nobody has a second turn before all had the first");
            assert_eq!(order.len(), 6);
        };
        shuttle::check_random(test, 300);
    }
}
