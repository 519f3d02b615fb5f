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
    match config.dtype {
        Some(wanted) if !agrees(wanted, found, config.uses_device()) => {
            let (wanted, path) = (wanted.name(), snapshot.path().display());
            Err(BootError::new(format!(
                "DTYPE={wanted}: snapshot {path} is packed in {found}; pack the model with --precision {wanted}, or leave \
                 DTYPE unset"
            )))
        }
        _ => Ok(snapshot),
    }
}

/// Whether a snapshot in `found` is what `DTYPE` asks for. A device computes in another float than the snapshot's if asked
/// to; int8 are products of their own everywhere.
fn agrees(wanted: Precision, found: &str, on_device: bool) -> bool {
    let int8 = Precision::Int8.name();
    if on_device { (wanted.name() == int8) == (found == int8) } else { wanted.name() == found }
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
        device: config.device.clone(),
        compute: config.dtype.filter(|_| config.uses_device()),
        memory_fraction: config.gpu_memory_fraction,
        kv_tokens: config.chat.kv_tokens,
        context: config.chat.context_length,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_computes_in_another_float_than_the_snapshots() {
        use Precision::{Bf16, F16, F32, Int8};
        for (wanted, found, cpu, device) in [
            (Int8, "int8", true, true),
            (Int8, "bf16", false, false),
            (Bf16, "int8", false, false),
            (Bf16, "bf16", true, true),
            (F16, "bf16", false, true),
            (Bf16, "f32", false, true),
            (F32, "f32", true, true),
        ] {
            assert_eq!(agrees(wanted, found, false), cpu, "{wanted:?} {found}");
            assert_eq!(agrees(wanted, found, true), device, "{wanted:?} {found}");
        }
    }
}
