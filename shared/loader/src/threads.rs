//! Runtimes of asynchronous tasks where the system gives few threads.
//!
//! The number of threads is limited by user (`ulimit -u`) and by container (`pids.max`). A runtime does not take a refusal:
//! it panics, and with `panic = "abort"` takes the process along, when it starts and also later, at the first task that
//! may block. So where a limit is near, the threads are counted first: as many as are wanted are started at once and end again. What the system
//! gave decides how many the runtime gets, and too few are an error before anything has begun. Those for tasks that may
//! block are started with the runtime and stay, so that none is asked for later.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread::{Builder, scope};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

/// Looks at the process's threads until those that were counted are gone. The kernel takes them off its count a moment
/// after they are joined, within microseconds; this many looks take some milliseconds.
const LOOKS: usize = 1000;

/// How long a blocking thread waits for a task: as long as the process.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 100);

/// A wait for a thread that has been started to run; one that takes longer is not waited for.
const STARTS: Duration = Duration::from_secs(1);

/// The threads that a process wants.
#[derive(Debug, Clone, Copy)]
pub struct ThreadsWanted<'a> {
    /// Name of the runtime's threads.
    pub name: &'a str,
    /// Threads that run tasks, at least 1.
    pub workers: usize,
    /// Threads for tasks that may block, at least 1.
    pub blocking: usize,
    /// Threads that the caller needs besides.
    pub others: usize,
}

/// A runtime with these threads, or with fewer where the system gives no more.
///
/// Fails if it does not give the least that is needed: one worker, one blocking thread and the others.
pub fn runtime(wanted: ThreadsWanted<'_>) -> io::Result<Runtime> {
    runtime_where(is_near_a_limit(), wanted)
}

fn runtime_where(is_near: bool, wanted: ThreadsWanted<'_>) -> io::Result<Runtime> {
    let ThreadsWanted { name, workers, blocking, others } = wanted;
    let all = workers + blocking + others;
    let (workers, blocking) = share(if is_near { given(all) } else { all }, wanted)?;
    let runtime = RuntimeBuilder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking)
        .thread_keep_alive(FOR_EVER)
        .thread_name(name)
        .enable_all()
        .build()?;
    if !is_near {
        return Ok(runtime);
    }
    // Each holds its thread until all are there, so that none does two of these tasks.
    let (here, arrived) = channel();
    let releases: Vec<_> = (0..blocking)
        .map(|_| {
            let (release, released) = channel::<()>();
            let here = here.clone();
            runtime.spawn_blocking(move || {
                // Whether or not the caller still waits, this ends when the other end is dropped.
                let _ = here.send(());
                let _ = released.recv();
            });
            release
        })
        .collect();
    for _ in 0..blocking {
        let _ = arrived.recv_timeout(STARTS);
    }
    drop(releases);
    Ok(runtime)
}

/// A limit of the user's threads from which on a process is not held up by trying whether it gets its own few: a
/// millisecond, which is a tenth of a small model's start. Where limits are set at all they are hundreds, the system's own are
/// tens of thousands.
const FAR: u64 = 16 << 10;

/// Threads that must be left in the process's control group.
const SPARE: u64 = 64;

/// Whether a limit of threads is so near that the process might not get what it wants.
fn is_near_a_limit() -> bool {
    let of_user = getrlimit(Resource::Nproc).current.is_some_and(|most| most < FAR);
    let number = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number, and no limit.
    let of_group = ["", "pids/"].into_iter().any(|folder| {
        let most = number(&format!("{folder}pids.max"));
        let taken = number(&format!("{folder}pids.current")).unwrap_or(0);
        most.is_some_and(|most| most.saturating_sub(taken) < SPARE)
    });
    of_user || of_group
}

/// Workers and blocking threads when `given` threads are given.
fn share(given: usize, wanted: ThreadsWanted<'_>) -> io::Result<(usize, usize)> {
    let least = 2 + wanted.others;
    let Some(spare) = given.checked_sub(least) else {
        return Err(io::Error::other(format!(
            "at least {least} more threads are needed and the system gives {given}; see `ulimit -u` and the container's \
             limit of processes"
        )));
    };
    let workers = wanted.workers.clamp(1, 1 + spare);
    let blocking = wanted.blocking.clamp(1, 1 + spare - (workers - 1));
    Ok((workers, blocking))
}

/// How many threads the system gives at once, `most` at most.
pub fn given(most: usize) -> usize {
    let before = own_threads();
    let hold = Mutex::new(());
    let count = scope(|scope| {
        let held = hold.lock();
        let start = |_| Builder::new().spawn_scoped(scope, || drop(hold.lock())).ok();
        let started: Vec<_> = (0..most).map_while(start).collect();
        drop(held);
        let count = started.len();
        for thread in started {
            // It does nothing that could panic.
            let _ = thread.join();
        }
        count
    });
    // Where nothing tells, there is nothing to wait for.
    for _ in 0..LOOKS {
        if own_threads() <= before {
            break;
        }
        std::thread::yield_now();
    }
    count
}

/// Threads of this process.
fn own_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    const WANTED: ThreadsWanted<'_> =
        ThreadsWanted { name: "test", workers: 2, blocking: 3, others: 1 };

    #[test]
    fn few_threads_go_where_they_are_needed_most() {
        for (given, shared) in [
            (0, None),
            (2, None),
            (3, Some((1, 1))),
            (4, Some((2, 1))),
            (5, Some((2, 2))),
            (6, Some((2, 3))),
        ] {
            let found = share(given, WANTED);
            let message = found.as_ref().err().map(ToString::to_string).unwrap_or_default();
            assert_eq!(found.ok(), shared, "{given}");
            let told = format!("at least 3 more threads are needed and the system gives {given};");
            assert_eq!(message.starts_with(&told), shared.is_none(), "{message}");
        }
    }

    #[test]
    fn where_there_are_enough_all_are_given() {
        assert_eq!(given(7), 7);
    }

    #[test]
    fn blocking_threads_are_there_from_the_start() {
        const NAME: &str = "few-and-fixed";
        let count = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let names =
                tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.trim_end() == NAME).count()
        };
        let runtime = runtime_where(true, ThreadsWanted { name: NAME, ..WANTED }).unwrap();
        assert_eq!(count(), 5);
        // With fewer than three, these would wait for each other for ever.
        let meet = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let meet = Arc::clone(&meet);
            runtime.spawn_blocking(move || meet.wait());
        }
        meet.wait();
        assert_eq!(count(), 5);
    }
}
