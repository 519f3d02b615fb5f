//! Where a process stands between two memory snapshots, and what may go wrong there.

use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::boot_error::BootError;

/// Why a hook failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The process is going away.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// There is no model, for this reason.
    #[error("{0}")]
    NotLoaded(String),
    /// Boot, or the requests at hand, took too long.
    #[error("boot and the requests at hand were not done within {0:?} (BOOT_TIMEOUT)")]
    Late(Duration),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] BootError),
}

/// Where the process stands between two snapshots.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    /// Held by the one call that changes it.
    pub(crate) turn: Mutex<()>,
    pub(crate) quiesced: watch::Sender<Quiesced>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Quiesced {
    #[default]
    No,
    /// On the way into a snapshot or out of one.
    Partly,
    Yes,
}

impl Hooks {
    /// How far the process is on its way into a snapshot or out of one.
    pub(crate) fn quiesced(&self) -> Quiesced {
        *self.quiesced.borrow()
    }
}
