//! Weights that are still on their way.
//!
//! A model is built over views of its weights before their bytes need to be there. During a pass, each layer waits for
//! its own when its turn comes, and the embedding only for the rows of the batch's tokens; what is computed until then
//! overlaps with what arrives. Where everything is there already, a wait is a few atomic loads.

use std::fmt;

use crate::Error;

/// Holds a reader back until bytes of weights may be read.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Returns when `bytes`, a view or part of a view of the weights, may be read. Fails if they never can.
    fn wait(&self, bytes: &[u8]) -> Result<(), Error>;

    /// Says that these bytes will be waited for next, so that they may come before others.
    fn want(&self, bytes: &[u8]);

    /// Asked at the end of a pass: fails if bytes that were read may not have been the right ones.
    fn intact(&self) -> Result<(), Error>;
}

/// The gate of weights that are there and stay there.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl Gate for Open {
    fn wait(&self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn want(&self, _: &[u8]) {}

    fn intact(&self) -> Result<(), Error> {
        Ok(())
    }
}
