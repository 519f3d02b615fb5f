//! A snapshot's tensors as the engine's weights.

use std::sync::Arc;

use defrost_loader::{Place, Snapshot, Tensor};

use crate::{Error, ReadinessGate, Weights};

/// Views of a snapshot that may still be on its way; [`ReadinessGate`] holds the engine back where it is ahead.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotWeights(pub(crate) Snapshot);

impl Weights for SnapshotWeights {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        if !self.0.has(name) {
            return Ok(None);
        }
        self.0.peek(name).map(Some).map_err(unreadable)
    }

    fn gate(&self) -> Arc<dyn ReadinessGate> {
        Arc::new(self.clone())
    }
}

impl ReadinessGate for SnapshotWeights {
    fn wait(&self, place: Place) -> Result<(), Error> {
        self.0.wait(place).map_err(unreadable)
    }

    fn want(&self, place: Place) {
        self.0.want(place);
    }

    fn intact(&self) -> Result<(), Error> {
        self.0.intact().map_err(unreadable)
    }
}

fn unreadable(error: defrost_loader::Error) -> Error {
    Error::Weights(Box::new(error))
}
