//! Separates the large weights of an ONNX model from its graph.
//!
//! Small initializers stay in the graph: ONNX Runtime folds them into shapes and constants while it optimises, and a page
//! of the snapshot for each would cost more than they weigh. So do those of types that a snapshot cannot hold. What lies
//! in a file beside the model comes into the snapshot either way.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use defrost_engine::layout::ROW_MAJOR;
use defrost_loader::{Dtype, TensorPlan};
use defrost_model::stored::ONNX_WEIGHT as WEIGHT;

use crate::Error;
use crate::formats::{OnnxData, OnnxModel, OnnxTensor, OnnxType, Placement};

/// Smaller initializers stay in the graph, in bytes.
const SMALLEST: usize = 1024;
/// Longest name of an initializer that becomes a tensor; a snapshot's names end at 512 bytes.
const LONGEST_NAME: usize = 500;
/// The file that the graph says its weights are in. There is none: they are handed to ONNX Runtime by name.
const LOCATION: &str = "weights";

/// A weight as a tensor of the snapshot.
#[derive(Debug)]
pub(super) struct Weight {
    pub(super) plan: TensorPlan,
    pub(super) bytes: Bytes,
}

/// The graph, with references in place of the weights, and the weights. `folder` is where external data lie.
pub(super) fn take_apart(file: &Bytes, folder: &Path) -> Result<(Vec<u8>, Vec<Weight>), Error> {
    let mut files = HashMap::new();
    let mut weights = Vec::new();
    let graph = OnnxModel::rewrite(file, |tensor| {
        let (bytes, is_external) = match &tensor.data {
            OnnxData::Raw(bytes) => (bytes.clone(), false),
            OnnxData::External { location, offset, len } => {
                (external(&mut files, folder, tensor, location, *offset, *len)?, true)
            }
            _ => return Ok(Placement::Keep),
        };
        let Some(dtype) = dtype(tensor.data_type)
            .filter(|_| bytes.len() >= SMALLEST && tensor.name.len() <= LONGEST_NAME)
        else {
            return Ok(if is_external { Placement::Inline(bytes) } else { Placement::Keep });
        };
        check_numbers(&tensor.name, dtype, &bytes)?;
        let shape = tensor
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim))
            .collect::<Result<Vec<usize>, _>>()
            .map_err(|_| Error::Model(format!("initializer {:?} is too large", tensor.name)))?;
        let len = bytes.len();
        let plan = TensorPlan {
            name: format!("{WEIGHT}{}", tensor.name),
            dtype,
            layout: ROW_MAJOR.to_owned(),
            shape,
            len,
        };
        weights.push(Weight { plan, bytes });
        Ok::<_, Error>(Placement::External { location: LOCATION.to_owned(), len: len as u64 })
    })?;
    Ok((graph, weights))
}

/// Refuses weights of which one is not a number. Infinities have their use in graphs, as masks.
fn check_numbers(name: &str, dtype: Dtype, bytes: &[u8]) -> Result<(), Error> {
    // NaN is whatever lies beyond infinity, the sign left out.
    let nan16 = |infinity: u16| {
        let mut values = bytes.as_chunks::<2>().0.iter().map(|value| u16::from_le_bytes(*value));
        values.position(|value| value & 0x7fff > infinity)
    };
    let found = match dtype {
        Dtype::F32 => {
            let mut values =
                bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
            values.position(f32::is_nan)
        }
        Dtype::F16 => nan16(0x7c00),
        Dtype::Bf16 => nan16(0x7f80),
        _ => None,
    };
    match found {
        None => Ok(()),
        Some(at) => Err(Error::Model(format!(
            "initializer {name:?} has NaN at {at}: expected numbers. The file is damaged, or the training went wrong: \
             export the model again"
        ))),
    }
}

/// The snapshot's type for an ONNX type, where it has one and ONNX Runtime takes values of it from outside.
fn dtype(data_type: OnnxType) -> Option<Dtype> {
    Some(match data_type.number() {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        6 => Dtype::I32,
        10 => Dtype::F16,
        16 => Dtype::Bf16,
        _ => return None,
    })
}

/// The data of an initializer in another file; each file is mapped once.
fn external(
    files: &mut HashMap<String, Bytes>,
    folder: &Path,
    tensor: &OnnxTensor,
    location: &str,
    offset: u64,
    len: Option<u64>,
) -> Result<Bytes, Error> {
    let path = folder.join(location);
    if !files.contains_key(location) {
        files.insert(location.to_owned(), OnnxModel::map(&path)?);
    }
    let file = files.get(location).cloned().unwrap_or_default();
    let wanted = tensor.len_bytes().or(len).unwrap_or_default();
    let end = offset.checked_add(wanted).filter(|&end| end <= file.len() as u64).ok_or_else(|| {
        Error::Model(format!(
            "initializer {:?} is {wanted} bytes at {offset} of {}, which has only {}: the file is damaged or of another \
             model",
            tensor.name,
            path.display(),
            file.len()
        ))
    })?;
    // Both are within the file, whose length is a usize.
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    Ok(file.slice(place(offset)..place(end)))
}
