//! A snapshot's tensors as the engine's weights: the same bytes, other words.

use defrost_engine::{Element, Error as EngineError, WeightView, Weights};
use defrost_loader::{Dtype, Snapshot};

pub(crate) struct SnapshotWeights<'a>(pub(crate) &'a Snapshot);

impl Weights for SnapshotWeights<'_> {
    fn get(&self, name: &str) -> Result<Option<WeightView>, EngineError> {
        if !self.0.has(name) {
            return Ok(None);
        }
        let fault = |expected: &str, found: String| EngineError::Mismatch {
            name: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let tensor = self.0.tensor(name).map_err(|err| fault("verified bytes", err.to_string()))?;
        let element = match tensor.dtype {
            Dtype::I8 => Element::I8,
            Dtype::I32 => Element::I32,
            Dtype::Bf16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            other => return Err(fault("i8, i32, bf16 or f32", other.to_string())),
        };
        Ok(Some(WeightView {
            element,
            layout: tensor.layout.clone(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
        }))
    }
}
