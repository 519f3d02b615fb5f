//! From settings to a restored snapshot, and what every service says of the model that it builds
//! over it.

use std::time::{Duration, Instant};

use defrost_loader::{FetchOptions, Location, Snapshot};
use defrost_model::Precision;
use defrost_tasks::{LoadTimings, ModelOptions, RestoreOptions, restore};

use crate::boot_error::BootError;
use crate::config::Config;
use crate::life::phases::PhaseRecorder;

/// Restores the snapshot named by `MODEL`.
pub(crate) fn snapshot(config: &Config, phases: &PhaseRecorder) -> Result<Snapshot, BootError> {
    let options = RestoreOptions {
        verify: config.verify,
        cache_dir: config.cache_dir.clone(),
        cache_max_bytes: config.cache_max_bytes,
        threads: config.num_threads,
        fetch: fetch_options(config),
        backend: config.backend,
    };
    let location: Location =
        config.model.parse().map_err(|error| BootError::new(format!("MODEL: {error}")))?;
    let snapshot = phases.time("restore", || {
        restore(config.runtimes, &location, &options).map_err(|error| BootError::from_error(&error))
    })?;
    report(&snapshot, phases.since_zero());
    let found = snapshot.meta("precision").unwrap_or("unknown");
    match config.dtype.map(Precision::name) {
        Some(wanted) if wanted != found => Err(BootError::new(format!(
            "DTYPE={wanted}: snapshot {} is packed in {found}; pack the model with --precision {wanted}, or leave DTYPE \
             unset",
            snapshot.path().display()
        ))),
        _ => Ok(snapshot),
    }
}

/// How the model is to be run, by the settings.
pub(crate) fn options(config: &Config) -> ModelOptions {
    ModelOptions {
        max_length: config.max_length,
        max_batch_tokens: config.max_batch_tokens,
        num_threads: config.num_threads,
        kernel: None,
        backend: config.backend,
        library: config.ort_dylib_path.clone(),
        compile: !config.fast_boot,
        cache_dir: config.cache_dir.clone(),
        ..ModelOptions::default()
    }
}

/// Notes how loading went.
pub(crate) fn note(phases: &PhaseRecorder, notes: &[String], timings: LoadTimings) {
    for note in notes {
        tracing::info!("{note}");
    }
    phases.record("tokenizer", timings.tokenizer);
    phases.record("engine", timings.engine);
    // Beside the first request; without the thread, it is only some memory more.
    let release = std::thread::Builder::new().name("release".into());
    let _ = release.spawn(defrost_loader::release_freed_memory);
}

fn fetch_options(config: &Config) -> FetchOptions {
    let usual = FetchOptions::default();
    let most = config.restore_connections;
    FetchOptions {
        deadline: config.restore_timeout,
        connections: (*usual.connections.start()).min(most)..=most,
        ..usual
    }
}

/// Logs how the snapshot came here, and for one that is still on its way also when it has.
fn report(snapshot: &Snapshot, at: Duration) {
    let verification = snapshot.verification();
    if verification.complete {
        tracing::info!(
            "restored {} ({}, {}, verified {} in {:.1} ms)",
            snapshot.root(),
            snapshot.path().display(),
            snapshot.origin(),
            verification.mode,
            verification.duration.as_secs_f64() * 1e3
        );
        return;
    }
    tracing::info!(
        "restoring {} ({}), {:.1} ms after exec",
        snapshot.root(),
        snapshot.origin(),
        ms(at)
    );
    let begun = Instant::now();
    let snapshot = snapshot.clone();
    let watch = move || {
        let verified = snapshot.wait_verified();
        let (bytes, _) = snapshot.progress();
        match verified {
            Ok(()) => tracing::info!(
                "all {bytes} bytes of the snapshot here and verified {:.1} ms after exec",
                ms(at + begun.elapsed())
            ),
            Err(error) => {
                tracing::error!("the snapshot cannot be restored: {error}");
                return;
            }
        }
        if let Err(error) = snapshot.wait_complete() {
            tracing::warn!("the next start must fetch the snapshot again: {error}");
        }
    };
    // Without the thread, only these lines are missing.
    let _ = std::thread::Builder::new().name("restore-report".into()).spawn(watch);
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
