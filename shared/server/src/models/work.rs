//! What is sent to a model's thread.

use std::sync::Arc;

use defrost_tasks::Error;
use tokio::sync::oneshot;

use crate::boot_error::BootError;
use crate::models::batching::Job;

/// What the inference thread is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    Run(Job),
    Call(Call),
    /// The model's bytes cannot be had any more, as a request has found.
    Broken(Arc<Error>),
}

/// A part of a snapshot or a restore that only the thread with the backend can do.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) task: Task,
    pub(crate) reply: oneshot::Sender<Result<(), BootError>>,
}

/// See [`crate::life::hooks`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    WarmUp,
    BeforeSnapshot,
    AfterRestore,
}
