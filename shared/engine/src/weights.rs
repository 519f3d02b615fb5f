//! Weights as the engine sees them: named, typed views of memory that it does not own.
//!
//! A view is a [`Bytes`] of a mapped snapshot or of an allocation, so nothing is copied. Names
//! of a linear layer `L`: `L.weight`, for int8 also `L.scale` and `L.offset` (one per channel,
//! padded to whole panels, see [`crate::layout`]), and `L.bias` where the layer has one. A layer of several matrices that are
//! stored one by one has `L.weight.0` and so on instead: see [`matrices`].

mod embedding;
mod linear;
mod matrices;

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::AnyBitPattern;
use bytes::Bytes;
use defrost_loader::{Dtype, Place, Tensor};

use crate::Error;
use crate::gate::{Open, ReadinessGate};

pub(crate) use embedding::Embedding;
pub(crate) use linear::{Gate, Linear};

/// Where weights come from.
pub trait Weights {
    /// The tensor of that name, or `None` when there is none. Its bytes are read only once [`Weights::gate`] says so.
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error>;

    /// Says when bytes of the views may be read.
    fn gate(&self) -> Arc<dyn ReadinessGate> {
        Arc::new(Open)
    }
}

/// A tensor checked once, read as a slice ever after.
#[derive(Debug, Clone)]
pub(crate) struct Values<T> {
    bytes: Bytes,
    place: Place,
    element: PhantomData<T>,
}

impl<T: AnyBitPattern> Values<T> {
    fn new(name: &str, view: &Tensor, element: Dtype, len: usize) -> Result<Self, Error> {
        if view.dtype != element {
            return Err(Error::mismatch(name, format!("{element:?}"), format!("{:?}", view.dtype)));
        }
        match bytemuck::try_cast_slice::<u8, T>(&view.bytes) {
            Ok(values) if values.len() == len => {
                Ok(Self { bytes: view.bytes.clone(), place: view.place, element: PhantomData })
            }
            Ok(values) => {
                Err(Error::mismatch(name, format!("{len} values"), values.len().to_string()))
            }
            Err(err) => Err(Error::mismatch(
                name,
                format!("{len} aligned values"),
                format!("{} bytes: {err}", view.bytes.len()),
            )),
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes)
    }

    /// Returns when the values may be read.
    pub(crate) fn wait(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        gate.wait(self.place)
    }

    /// Where the `index`th row of `width` values lies.
    fn row_place(&self, index: usize, width: usize) -> Place {
        let size = size_of::<T>() * width;
        self.place.part(index * size..(index + 1) * size)
    }
}

fn require(weights: &dyn Weights, name: &str) -> Result<Tensor, Error> {
    weights.get(name)?.ok_or_else(|| Error::Missing { name: name.to_owned() })
}

/// A vector of f32, such as a norm's weight.
pub(crate) fn vector(weights: &dyn Weights, name: &str, len: usize) -> Result<Values<f32>, Error> {
    Values::new(name, &require(weights, name)?, Dtype::F32, len)
}

#[cfg(test)]
mod tests;
