//! A snapshot's weights as tensors under the names of Hugging Face checkpoints.
//!
//! A snapshot holds what the engine multiplies: queries, keys and values as one matrix, gate and up as one, in panels of 64
//! channels unless it is portable, biases filled up to whole panels. [`defrost_model::parts`] says which tensors of a
//! checkpoint each part was made of; here they are taken apart again. Tensors of the head keep the snapshot's names.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use defrost_loader::{Dtype, Snapshot};
use defrost_model::parts::{Naming, Part, Storage, plan};
use defrost_model::{Error, ModelConfig, Precision, stored};
use half::{bf16, f16};

use crate::fault;

/// The layout tag of matrices in panels, and how many channels lie side by side in each; the engine's `layout` has them.
const PANELS: (&str, usize) = ("panel64", 64);

/// Where weights are to be, and in which type those of the body are; those of the head are f32.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
}

/// All weights of a model, by name.
pub(crate) struct Weights {
    tensors: HashMap<String, Tensor>,
    target: Target,
}

impl Weights {
    /// Reads every part of such a model; `prefix` goes before the names of the body's tensors. Waits for parts that are
    /// still on their way. Tables that the snapshot's own family does not have are zeros.
    pub(crate) fn read(
        snapshot: &Snapshot,
        config: &ModelConfig,
        prefix: &str,
        target: &Target,
    ) -> Result<Self, Error> {
        if snapshot.meta(stored::PRECISION) == Some(Precision::Int8.name()) {
            return Err(int8(snapshot));
        }
        let naming = Naming { prefix: prefix.to_owned(), ..Naming::default() };
        let mut tensors = HashMap::new();
        let Target { device, dtype } = target;
        let placed = |whole: Tensor| {
            whole.to_dtype(*dtype).and_then(|whole| whole.to_device(device)).map_err(fault)
        };
        for part in plan(config, &naming).iter().flat_map(|group| &group.parts) {
            if part.storage == Storage::Prefix {
                continue;
            }
            let whole = if part.storage == Storage::FineTable && !snapshot.has(&part.name) {
                Tensor::zeros(&part.shape[..], DType::F32, &Device::Cpu).map_err(fault)?
            } else {
                tensor(snapshot, part)?
            };
            if part.name.starts_with("head.") {
                tensors.insert(part.name.clone(), whole.to_device(device).map_err(fault)?);
                continue;
            }
            if let [only] = &part.sources[..] {
                tensors.insert(only.clone(), placed(whole)?);
                continue;
            }
            let mut start = 0;
            for (source, rows) in part.sources.iter().zip(rows(config, part)) {
                let own = whole.narrow(0, start, rows).and_then(|own| own.force_contiguous());
                tensors.insert(source.clone(), placed(own.map_err(fault)?)?);
                start += rows;
            }
        }
        Ok(Self { tensors, target: target.clone() })
    }

    /// The weights as the builder from which candle's models are made.
    pub(crate) fn builder(self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.tensors, self.target.dtype, &self.target.device)
    }
}

fn int8(snapshot: &Snapshot) -> Error {
    Error::Model(format!(
        "snapshot {} is int8, which candle has no layers for: expected f32 or bf16, or f16. Pack the model again with `defrost pack \
         --precision f32` (or bf16, f16), or leave BACKEND unset",
        snapshot.path().display()
    ))
}

/// How many rows of a part each of its sources has: queries are as many as heads, keys and values fewer where heads share
/// them; all else that is stored as one is made of equal parts.
fn rows(config: &ModelConfig, part: &Part) -> Vec<usize> {
    if let [_, _, _] = part.sources[..] {
        let key_values = config.kv_heads * config.head_dim;
        return vec![config.heads * config.head_dim, key_values, key_values];
    }
    vec![part.shape[0] / part.sources.len().max(1); part.sources.len()]
}

/// A part in f32, row-major, in the processor's memory.
fn tensor(snapshot: &Snapshot, part: &Part) -> Result<Tensor, Error> {
    let stored = snapshot.tensor(&part.name)?;
    let values = match stored.dtype {
        Dtype::F32 => elements(&stored.bytes, f32::from_le_bytes),
        Dtype::Bf16 => elements(&stored.bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F16 => elements(&stored.bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::I8 => return Err(int8(snapshot)),
        other => {
            return Err(Error::mismatch(
                &part.name,
                "f32, bf16 or f16 elements",
                other.to_string(),
            ));
        }
    };
    let values = match part.shape[..] {
        [n, k] if stored.layout == PANELS.0 => rows_of_panels(&values, n, k),
        // Biases are longer than their part says.
        _ => values.get(..part.shape.iter().product()).map(<[f32]>::to_vec),
    };
    let values = values.ok_or_else(|| {
        let found = format!("{:?} in {} bytes", stored.shape, stored.bytes.len());
        Error::mismatch(&part.name, format!("shape {:?}", part.shape), found)
    })?;
    Tensor::from_vec(values, &part.shape[..], &Device::Cpu).map_err(fault)
}

fn elements<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&element| read(element)).collect()
}

/// The row-major `n x k` matrix that lies in these panels: those of inputs that are not grouped. `None` if it does not.
fn rows_of_panels(panels: &[f32], n: usize, k: usize) -> Option<Vec<f32>> {
    let width = PANELS.1;
    if panels.len() != n.next_multiple_of(width) * k {
        return None;
    }
    let row = |channel: usize| {
        let panel = &panels[channel / width * width * k..][..width * k];
        panel.iter().skip(channel % width).step_by(width).copied()
    };
    Some((0..n).flat_map(row).collect())
}

#[cfg(test)]
mod tests {
    use defrost_engine::layout;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn panels_are_those_of_the_engine() {
        assert_eq!(PANELS, (layout::PANEL64, layout::PANEL));
    }

    proptest! {
        #[test]
        fn what_the_engine_packs_is_unpacked(n in 1usize..200, k in 1usize..40) {
            let rows: Vec<f32> = (0..u16::try_from(n * k).unwrap()).map(f32::from).collect();
            prop_assert_eq!(rows_of_panels(&layout::panels(&rows, n, k, 1), n, k), Some(rows.clone()));
            prop_assert_eq!(rows_of_panels(&rows[1..], n, k), None);
        }
    }
}
