//! The threads on which packing computes, where the system gives few.
//!
//! rayon starts its threads at the first call that wants them, and panics if the system gives fewer (`ulimit -u`, a
//! container's limit of processes). It cannot be asked a second time. So the threads are counted before it is started, with
//! as many as there are; where there is none, the calling thread computes alone.

use std::error::Error as _;
use std::sync::OnceLock;

use defrost_loader::given_threads;
use rayon::ThreadPoolBuilder;

use crate::Error;

/// Sees to it that there are threads. Where the program has started a pool, that one is used.
pub(crate) fn start() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let wanted = std::thread::available_parallelism().map_or(1, usize::from);
        let builder = match given_threads(wanted) {
            0 => ThreadPoolBuilder::new().num_threads(1).use_current_thread(),
            given if given < wanted => ThreadPoolBuilder::new().num_threads(given),
            _ => ThreadPoolBuilder::new(),
        };
        match builder.build_global() {
            Err(error) if error.source().is_some() => Err(error.to_string()),
            // The other reason is that they are there already.
            _ => Ok(()),
        }
    });
    started.clone().map_err(|error| {
        Error::Model(format!(
            "cannot start the threads that pack ({error}); see `ulimit -u` and the container's limit of processes"
        ))
    })
}
