//! Weights that are still on their way.
//!
//! A model is built over views of its weights before their bytes need to be there. During a pass, each layer waits for
//! its own when its turn comes, and the embedding only for the rows of the batch's tokens; what is computed until then
//! overlaps with what arrives. Where everything is there already, a wait is a few atomic loads.

use std::fmt;

use defrost_loader::Place;

use crate::Error;

/// Holds a reader back until bytes of weights may be read.
pub trait ReadinessGate: fmt::Debug + Send + Sync {
    /// Returns when the bytes at this place of the weights may be read. Fails if they never can.
    fn wait(&self, place: Place) -> Result<(), Error>;

    /// Says that the bytes at this place will be waited for next, so that they may come before others.
    fn want(&self, place: Place);

    /// Asked at the end of a pass: fails if bytes that were read may not have been the right ones.
    fn intact(&self) -> Result<(), Error>;
}

/// The gate of weights that are there and stay there.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl ReadinessGate for Open {
    fn wait(&self, _: Place) -> Result<(), Error> {
        Ok(())
    }

    fn want(&self, _: Place) {}

    fn intact(&self) -> Result<(), Error> {
        Ok(())
    }
}
