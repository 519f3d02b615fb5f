//! From settings to a loaded reranker.

use defrost_inference::{Reranker, RerankerOptions};
use defrost_loader::Snapshot;

use crate::backend::Backend;
use crate::boot::BootError;
use crate::config::Config;
use crate::phases::PhaseRecorder;

/// Restores the snapshot named by `MODEL` and builds a reranker over it.
pub fn reranker(config: &Config, phases: &PhaseRecorder) -> Result<Box<dyn Backend>, BootError> {
    let snapshot = phases.time("restore", || open(config))?;
    let options = RerankerOptions {
        max_length: config.max_length,
        max_batch_tokens: config.max_batch_tokens,
        num_threads: config.num_threads,
    };
    let reranker =
        Reranker::load(&snapshot, &options).map_err(|error| BootError::from_error(&error))?;
    Ok(Box::new(reranker))
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the loader's Snapshot::open fails; its skeleton does not"
)]
fn open(_config: &Config) -> Result<Snapshot, BootError> {
    Ok(Snapshot)
}
