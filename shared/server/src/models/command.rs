//! What is sent to a model's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_tasks::Error;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::boot_error::BootError;
use crate::models::job::Work;

/// What a model's thread is asked to do.
pub(crate) enum Command {
    /// Run a request's job.
    Run(Queued),
    /// Do a part of a snapshot or a restore.
    Hook(HookCall),
    /// Give the model up: its bytes cannot be had any more, as a request has found.
    Break(Arc<Error>),
}

/// A job on its way to the model's thread.
pub(crate) struct Queued {
    pub(crate) job: Work,
    /// How long tokenising it took.
    pub(crate) tokenize: Duration,
    /// When its request asked.
    pub(crate) since: Instant,
    /// Its place in the queue, given up when the model begins with it.
    pub(crate) place: OwnedSemaphorePermit,
}

/// A part of a snapshot or a restore that only the model's thread can do.
#[derive(Debug)]
pub(crate) struct HookCall {
    pub(crate) step: HookStep,
    pub(crate) reply: oneshot::Sender<Result<(), BootError>>,
}

/// See [`crate::life::hooks`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum HookStep {
    WarmUp,
    BeforeSnapshot,
    AfterRestore,
}
