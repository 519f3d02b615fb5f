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
    /// One call at a time.
    pub(crate) turn: Mutex<()>,
    pub(crate) quiesced: watch::Sender<Quiesced>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Quiesced {
    #[default]
    No,
    /// On the way there or back.
    Partly,
    Yes,
}

impl Hooks {
    /// Whether the process serves, and nobody is changing that.
    pub(crate) fn quiesced(&self) -> Quiesced {
        *self.quiesced.borrow()
    }
}
