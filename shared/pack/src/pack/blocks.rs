//! Matrices of a GGUF file as the engine stores them: each in the blocks that it has, or as floats where it has floats.
//!
//! A product of several matrices is one part elsewhere; here its part `P` is the tensors `P.0`, `P.1`, `P.2`, one for each, since
//! each may be of another kind. Parts without any blocks are stored as in a model of floats.

use bytes::Bytes;
use defrost_engine::{Encoding, blocks};
use defrost_loader::{Dtype, TensorPlan};
use defrost_model::parts::{Part, Storage};
use defrost_model::{Precision, isa};

use super::{Encoded, check_finite, check_range, values};
use crate::Error;
use crate::formats::{Checkpoint, CheckpointDtype, CheckpointTensor, to_f32};

/// Refuses what blocks cannot be.
pub(super) fn check(checkpoint: &Checkpoint, isa: &str) -> Result<(), Error> {
    if checkpoint.quantization().is_none() {
        return Err(Error::Model(
            "the precision blocks is that of GGUF files, and this checkpoint is none: expected --precision q8_0, q4_k_m or the \
             like, or int8, bf16 or f32"
                .to_owned(),
        ));
    }
    if isa == isa::PORTABLE {
        return Err(Error::Model(format!(
            "blocks are laid out for CPUs only: expected --isa {}, or --precision bf16 (or f32, int8) with --isa {isa}",
            isa::NATIVE
        )));
    }
    Ok(())
}

/// The precision that keeps a GGUF file's values and is no larger than it must be; int8 for all other checkpoints.
pub fn usual_precision(checkpoint: &Checkpoint) -> Precision {
    if checkpoint.quantization().is_none() {
        return Precision::Int8;
    }
    let matrices = || {
        let tensors = checkpoint.names().filter_map(|name| checkpoint.get(name));
        tensors.filter(|tensor| tensor.shape.len() > 1)
    };
    if matrices().any(|tensor| tensor.blocks.is_some()) {
        Precision::Blocks
    } else if matrices().all(|tensor| tensor.dtype == CheckpointDtype::BF16) {
        Precision::Bf16
    } else {
        Precision::F32
    }
}

/// Whether a part is stored in blocks.
fn is_of_blocks(checkpoint: &Checkpoint, part: &Part) -> bool {
    let has = |name: &String| checkpoint.get(name).is_some_and(|tensor| tensor.blocks.is_some());
    matches!(part.storage, Storage::Linear | Storage::Vocabulary | Storage::Table)
        && part.rows.is_empty()
        && part.sources.iter().any(has)
}

/// The precision of floats: that of the file, f16 as f32, for which there are kernels.
fn floats<'a>(checkpoint: &Checkpoint, encoding: Encoding<'a>, sources: &[String]) -> Encoding<'a> {
    let is_bf16 = |name: &String| {
        checkpoint.get(name).is_some_and(|tensor| tensor.dtype == CheckpointDtype::BF16)
    };
    let bf16 = !sources.is_empty() && sources.iter().all(is_bf16);
    let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
    Encoding { precision, ..encoding }
}

/// A matrix of a part.
fn source(checkpoint: &Checkpoint, part: &Part, name: &str) -> Result<CheckpointTensor, Error> {
    let columns = part.shape.last().copied().unwrap_or(1);
    let tensor = checkpoint.get(name).ok_or_else(|| {
        Error::Model(format!("the checkpoint has no tensor {name:?}, which {} needs", part.name))
    })?;
    if tensor.shape.len() != 2 || tensor.shape[1] != columns {
        return Err(Error::Model(format!(
            "tensor {name:?} has shape {:?}, expected rows of {columns} for {}",
            tensor.shape, part.name
        )));
    }
    Ok(tensor)
}

/// A part of one matrix.
fn alone(part: &Part, at: usize, tensor: &CheckpointTensor) -> Part {
    Part {
        name: format!("{}.{at}", part.name),
        storage: Storage::Linear,
        shape: tensor.shape.clone(),
        sources: vec![part.sources[at].clone()],
        rows: Vec::new(),
    }
}

/// The tensors of a part, in the order of [`encode`].
pub(super) fn plan(
    checkpoint: &Checkpoint,
    part: &Part,
    encoding: Encoding<'_>,
) -> Result<Vec<TensorPlan>, Error> {
    if !is_of_blocks(checkpoint, part) {
        return Ok(floats(checkpoint, encoding, &part.sources).plan(part));
    }
    let raw = |name: String, layout: String, len: usize| TensorPlan {
        name,
        dtype: Dtype::U8,
        layout,
        shape: vec![len],
        len,
    };
    let mut rows = 0;
    let mut tensors = Vec::new();
    for (at, name) in part.sources.iter().enumerate() {
        let tensor = source(checkpoint, part, name)?;
        let (n, k) = (tensor.shape[0], tensor.shape[1]);
        rows += n;
        let name = format!("{}.{at}", part.name);
        match tensor.blocks {
            Some(kind) if part.storage == Storage::Table => {
                let layout = format!("{}{}", blocks::ROWS_OF, kind.name());
                tensors.push(raw(part.name.clone(), layout, tensor.bytes.len()));
            }
            Some(kind) => {
                let layout = format!("{}{}", blocks::PANELS_OF, kind.name());
                tensors.push(raw(name, layout, blocks::panels_len(kind, n, k)));
            }
            None => {
                let own = alone(part, at, &tensor);
                tensors.extend(floats(checkpoint, encoding, &own.sources).plan(&own));
            }
        }
    }
    if rows != part.shape[0] {
        return Err(Error::Model(format!(
            "{} is put together from {rows} rows of {:?}, expected {} by the metadata",
            part.name, part.sources, part.shape[0]
        )));
    }
    Ok(tensors)
}

/// The bytes of the part's tensors.
pub(super) fn encode(
    checkpoint: &Checkpoint,
    part: &Part,
    encoding: Encoding<'_>,
) -> Result<Vec<Encoded>, Error> {
    let plans = plan(checkpoint, part, encoding)?;
    if !is_of_blocks(checkpoint, part) {
        let own = floats(checkpoint, encoding, &part.sources);
        return filled(checkpoint, part, own);
    }
    let mut all = Vec::new();
    for ((at, name), planned) in part.sources.iter().enumerate().zip(plans) {
        let tensor = source(checkpoint, part, name)?;
        let (n, k) = (tensor.shape[0], tensor.shape[1]);
        match tensor.blocks {
            Some(kind) => {
                check_blocks(name, &tensor)?;
                let bytes = if part.storage == Storage::Table {
                    tensor.bytes.clone()
                } else {
                    Bytes::from(blocks::pack(kind, &tensor.bytes, n, k))
                };
                all.push((planned, bytes));
            }
            None => {
                let own = alone(part, at, &tensor);
                let encoding = floats(checkpoint, encoding, &own.sources);
                all.extend(filled(checkpoint, &own, encoding)?);
            }
        }
    }
    Ok(all)
}

fn filled(
    checkpoint: &Checkpoint,
    part: &Part,
    encoding: Encoding<'_>,
) -> Result<Vec<Encoded>, Error> {
    let values = values(checkpoint, part)?;
    check_range(checkpoint, part, &values, encoding.precision(part))?;
    let bytes = encoding.fill(part, values).into_iter().map(Bytes::from);
    Ok(encoding.plan(part).into_iter().zip(bytes).collect())
}

/// Rows whose values are looked at together.
const ROWS: usize = 256;

/// Refuses blocks of which a value is no number.
fn check_blocks(name: &str, tensor: &CheckpointTensor) -> Result<(), Error> {
    let (rows, width) = (tensor.shape[0], tensor.shape[1]);
    let len = tensor.bytes.len() / rows.max(1);
    for first in (0..rows).step_by(ROWS) {
        let last = rows.min(first + ROWS);
        let part = CheckpointTensor {
            dtype: tensor.dtype,
            shape: vec![last - first, width],
            bytes: tensor.bytes.slice(first * len..last * len),
            blocks: tensor.blocks,
        };
        check_finite(name, &part, &to_f32(&part)?)?;
    }
    Ok(())
}
