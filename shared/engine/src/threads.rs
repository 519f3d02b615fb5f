//! The worker threads of one model.
//!
//! Work is cut into tasks whose boundaries depend on the problem alone, never on the number of
//! threads, and no task combines floating-point results of another. So the thread count changes
//! when a result arrives, not what it is.
//!
//! A pass over a short text makes some two hundred parallel steps of a few microseconds each, so the
//! hand-over must cost less than one: see [`crew`].

mod crew;

use crew::{Crew, Start};

use crate::Kernel;

/// A fixed set of threads, the caller among them; with one thread everything runs on the caller.
#[derive(Debug)]
pub struct Threads {
    crew: Option<Crew>,
    missing: Option<String>,
}

impl Threads {
    /// Starts as many threads as make `count` with the caller's, or [`Threads::default_count`]; fewer where the system
    /// gives no more, which [`Threads::missing`] tells.
    pub fn new(count: Option<usize>) -> Self {
        Self::started(count.unwrap_or_else(Self::default_count).max(1), &mut crew::start)
    }

    fn started(count: usize, start: Start<'_>) -> Self {
        if count == 1 {
            return Self { crew: None, missing: None };
        }
        let (crew, error) = Crew::new(count - 1, start);
        let missing = error.map(|error| {
            format!(
                "computing on {} threads instead of {count}, for the system gives no more ({error}): see `ulimit -u` and \
                 the container's limit of processes",
                crew.helpers() + 1
            )
        });
        Self { crew: Some(crew), missing }
    }

    /// Physical cores, no more than the affinity mask and the cgroup's CPU quota allow. Two
    /// hyperthreads share one set of multipliers, so a second one brings nothing here.
    pub fn default_count() -> usize {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        num_cpus::get_physical().clamp(1, allowed.max(1))
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        1 + self.crew.as_ref().map_or(0, Crew::helpers)
    }

    /// Why there are fewer than were asked for, if there are.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Runs `work(0..tasks)`, each once, in no particular order, and waits for all. Callers of
    /// several threads take turns; inside a task, the tasks run one after the other.
    pub fn for_each(&self, tasks: usize, work: impl Fn(usize) + Send + Sync) {
        self.run(None, tasks, &work);
    }

    /// Runs as [`Threads::for_each`] does work that calls the tiles of `kernel`: each thread is made ready for them
    /// before its first task and set back after its last.
    pub(crate) fn for_each_with(
        &self,
        kernel: Kernel,
        tasks: usize,
        work: impl Fn(usize) + Send + Sync,
    ) {
        self.run(Some(kernel), tasks, &work);
    }

    fn run(&self, kernel: Option<Kernel>, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        match &self.crew {
            Some(crew) if tasks > 1 => crew.run(kernel, tasks, work),
            _ => {
                let _entered = kernel.map(Kernel::enter);
                (0..tasks).for_each(work);
            }
        }
    }

    /// Cuts `data` into runs of `len` and hands each to `work` with its index.
    #[allow(unsafe_code, reason = "one run a task, each its own")]
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        work: impl Fn(usize, &mut [T]) + Send + Sync,
    ) {
        struct Start<T>(*mut T);
        impl<T> Start<T> {
            fn at(&self, offset: usize) -> *mut T {
                self.0.wrapping_add(offset)
            }
        }
        // SAFETY: tasks make exclusive references to disjoint runs only, and T may be sent to them.
        unsafe impl<T: Send> Sync for Start<T> {}

        let whole = data.len();
        let start = Start(data.as_mut_ptr());
        self.for_each(whole.div_ceil(len), |task| {
            let first = task * len;
            // SAFETY: inside of `data`, which is borrowed exclusively until all tasks are done; every
            // task runs once and has a run of its own.
            let run =
                unsafe { std::slice::from_raw_parts_mut(start.at(first), len.min(whole - first)) };
            work(task, run);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in [1, 2, 5] {
            let threads = Threads::new(Some(count));
            assert_eq!(threads.count(), count);
            for tasks in [0, 1, 2, 100] {
                let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.for_each(runs.len(), |task| {
                    runs[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|run| run.load(Ordering::Relaxed) == 1));
            }
            let mut data = vec![0usize; 103];
            threads.for_each_chunk(&mut data, 10, |index, run| run.fill(index + 1));
            assert!(data.iter().enumerate().all(|(at, value)| *value == at / 10 + 1));
        }
        assert!(Threads::default_count() >= 1);
    }

    /// Where the system gives few threads, those that are there do all tasks.
    #[test]
    fn fewer_threads_do_the_same() {
        for given in 0..4 {
            let mut left = given;
            let threads = Threads::started(5, &mut |name, work| {
                if left == 0 {
                    return Err(std::io::ErrorKind::WouldBlock.into());
                }
                left -= 1;
                crew::start(name, work)
            });
            assert_eq!(threads.count(), given + 1);
            let missing = threads.missing().expect("a reason");
            assert!(
                missing.starts_with(&format!("computing on {} threads instead of 5", given + 1))
            );
            for tasks in [1, 3, 100] {
                let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.for_each(runs.len(), |task| {
                    runs[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|run| run.load(Ordering::Relaxed) == 1));
            }
        }
        assert_eq!(Threads::new(Some(5)).missing(), None);
    }

    #[test]
    fn steps_follow_each_other_and_may_nest() {
        let threads = Threads::new(Some(3));
        let sum = AtomicUsize::new(0);
        for step in 0..2000 {
            threads.for_each(7, |task| {
                sum.fetch_add(step * task, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), 21 * (0..2000).sum::<usize>());
        threads.for_each(4, |_| {
            threads.for_each(5, |_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.load(Ordering::Relaxed), 21 * (0..2000).sum::<usize>() + 20);
    }

    #[test]
    fn callers_of_several_threads_take_turns() {
        let threads = Threads::new(Some(2));
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        threads.for_each(9, |_| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3 * 300 * 9);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_else() {
        let threads = Threads::new(Some(2));
        for _ in 0..50 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.for_each(10, |task| assert_ne!(task, 7, "task seven fails"));
            }));
            assert!(outcome.is_err());
            let done = AtomicUsize::new(0);
            threads.for_each(10, |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 10);
        }
    }
}
