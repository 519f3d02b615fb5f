//! From settings to a loaded reranker.

use std::path::Path;

use defrost_inference::{Normalization, Reranker, RerankerOptions, RestoreOptions, restore};

use crate::backend::Backend;
use crate::boot::BootError;
use crate::config::Config;
use crate::phases::PhaseRecorder;

/// Restores the snapshot named by `MODEL` and builds a reranker over it.
pub fn reranker(config: &Config, phases: &PhaseRecorder) -> Result<Box<dyn Backend>, BootError> {
    let options = RestoreOptions {
        verify: config.verify,
        cache_dir: config.cache_dir.clone(),
        threads: config.num_threads,
    };
    let snapshot = phases.time("restore", || {
        restore(Path::new(&config.model), &options).map_err(|error| BootError::from_error(&error))
    })?;
    let options = RerankerOptions {
        max_length: config.max_length,
        max_batch_tokens: config.max_batch_tokens,
        num_threads: config.num_threads,
        kernel: None,
    };
    let reranker =
        Reranker::load(&snapshot, &options).map_err(|error| BootError::from_error(&error))?;
    let info = reranker.info();
    if config.normalization == Some(Normalization::Mxbai)
        && !Normalization::takes_mxbai(info.template)
    {
        return Err(BootError::new(format!(
            "NORMALIZATION=mxbai is made for mxbai-rerank-v2 models only, {} is none: use sigmoid \
             or raw",
            info.name
        )));
    }
    let timings = reranker.timings();
    phases.record("tokenizer", timings.tokenizer);
    phases.record("engine", timings.engine);
    let verification = snapshot.verification();
    tracing::info!(
        "restored {} ({}, verified {} in {:.1} ms)",
        snapshot.root(),
        snapshot.path().display(),
        verification.mode,
        verification.duration.as_secs_f64() * 1e3
    );
    Ok(Box::new(reranker))
}
