//! The worker threads of one model.
//!
//! Work is cut into tasks whose boundaries depend on the problem alone, never on the number of
//! threads, and no task combines floating-point results of another. So the thread count changes
//! when a result arrives, not what it is.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::Error;

/// A fixed set of worker threads; with one thread everything runs on the caller.
#[derive(Debug)]
pub struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// Starts `count` threads, or [`Threads::default_count`] of them.
    pub fn new(count: Option<usize>) -> Result<Self, Error> {
        let count = count.unwrap_or_else(Self::default_count).max(1);
        let pool = (count > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|index| format!("engine-{index}"))
                    .build()
                    .map_err(|err| Error::Threads { threads: count, reason: err.to_string() })
            })
            .transpose()?;
        Ok(Self { pool, count })
    }

    /// Physical cores, no more than the affinity mask and the cgroup's CPU quota allow. Two
    /// hyperthreads share one set of multipliers, so a second one brings nothing here.
    pub fn default_count() -> usize {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        num_cpus::get_physical().clamp(1, allowed.max(1))
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on one of the threads, so that the calls below need not wake one each time: a pass makes hundreds.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `work(0..tasks)`, each once, in no particular order, and waits for all.
    pub fn for_each(&self, tasks: usize, work: impl Fn(usize) + Send + Sync) {
        match &self.pool {
            Some(pool) if tasks > 1 => {
                pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(work));
            }
            _ => (0..tasks).for_each(work),
        }
    }

    /// Cuts `data` into runs of `len` and hands each to `work` with its index.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        work: impl Fn(usize, &mut [T]) + Send + Sync,
    ) {
        match &self.pool {
            Some(pool) if data.len() > len => pool.install(|| {
                data.par_chunks_mut(len).enumerate().for_each(|(index, run)| work(index, run));
            }),
            _ => data.chunks_mut(len).enumerate().for_each(|(index, run)| work(index, run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in [1, 2, 5] {
            let threads = Threads::new(Some(count)).unwrap();
            assert_eq!(threads.count(), count);
            let runs: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            threads.for_each(runs.len(), |task| {
                runs[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|run| run.load(Ordering::Relaxed) == 1));
            let mut data = vec![0usize; 103];
            threads.for_each_chunk(&mut data, 10, |index, run| run.fill(index + 1));
            assert!(data.iter().enumerate().all(|(at, value)| *value == at / 10 + 1));
        }
        assert!(Threads::default_count() >= 1);
    }
}
