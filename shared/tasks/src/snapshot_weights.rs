//! A snapshot's tensors as the engine's weights: the same bytes, other words.

use std::sync::Arc;

use defrost_engine::{Element, Error as EngineError, Gate, WeightView, Weights};
use defrost_loader::{Dtype, Snapshot};

/// Views of a snapshot that may still be on its way; [`Gate`] holds the engine back where it is ahead.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotWeights(pub(crate) Snapshot);

impl Weights for SnapshotWeights {
    fn get(&self, name: &str) -> Result<Option<WeightView>, EngineError> {
        if !self.0.has(name) {
            return Ok(None);
        }
        let tensor = self.0.peek(name).map_err(unreadable)?;
        let element = match tensor.dtype {
            Dtype::I8 => Element::I8,
            Dtype::I32 => Element::I32,
            Dtype::Bf16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            other => {
                return Err(EngineError::Mismatch {
                    name: name.to_owned(),
                    expected: "i8, i32, bf16 or f32".to_owned(),
                    found: other.to_string(),
                });
            }
        };
        Ok(Some(WeightView {
            element,
            layout: tensor.layout.clone(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
        }))
    }

    fn gate(&self) -> Arc<dyn Gate> {
        Arc::new(self.clone())
    }
}

impl Gate for SnapshotWeights {
    fn wait(&self, bytes: &[u8]) -> Result<(), EngineError> {
        self.0.wait(bytes).map_err(unreadable)
    }

    fn want(&self, bytes: &[u8]) {
        self.0.want(bytes);
    }

    fn intact(&self) -> Result<(), EngineError> {
        self.0.intact().map_err(unreadable)
    }
}

fn unreadable(error: defrost_loader::Error) -> EngineError {
    EngineError::Weights(Box::new(error))
}
