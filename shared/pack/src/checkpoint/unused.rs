//! Tensors that a checkpoint has and no part of the model reads.
//!
//! Buffers that are computed, poolers, and heads for other tasks are known and passed over; with any other the model
//! computes something else than this version would, so it is refused. What is passed over changes no result even where it
//! is damaged, so packing goes on; but a file that is damaged there may be damaged elsewhere, in ways that cannot be seen,
//! so it is told. Looking costs one pass over those bytes and no memory.

use std::collections::BTreeSet;

use defrost_model::Family;
use defrost_model::parts::Group;

use super::told::Told;
use crate::Error;
use crate::formats::{Checkpoint, first_not_finite};
use crate::pack::place;

/// Ends of their names.
const UNUSED: [&str; 4] =
    ["position_ids", "rotary_emb.inv_freq", "pooler.dense.weight", "pooler.dense.bias"];

/// Refuses tensors that nothing reads: a model with them computes something else than this one. Tells of those that are
/// passed over and hold what is no number.
pub(crate) fn check_all_read(
    checkpoint: &Checkpoint,
    groups: &[Group],
    family: Family,
) -> Result<Vec<Told>, Error> {
    let read: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| &group.parts)
        .flat_map(|part| &part.sources)
        .map(String::as_str)
        .collect();
    let ignored = |name: &str| {
        name.starts_with("cls.")
            || name.starts_with("lm_head.")
            || family.files.unused.iter().any(|begin| name.starts_with(begin))
            || UNUSED.iter().any(|end| name.ends_with(end))
    };
    let mut told = Vec::new();
    for name in checkpoint.names().filter(|name| !read.contains(name)) {
        if !ignored(name) {
            return Err(Error::Model(format!(
                "the checkpoint has a tensor {name:?} that this version does not use: the model \
                 differs from what its config.json says, or is not supported"
            )));
        }
        if let Some(tensor) = checkpoint.get(name)
            && let Some((at, value)) = first_not_finite(&tensor)
        {
            let value = format!(
                "tensor {name:?} has {value} at {:?}; no result depends on it, but the file may be damaged: compare it with \
                 where it came from",
                place(&tensor.shape, at)
            );
            told.push(Told::new("warning", value, "a tensor that is not used"));
        }
    }
    Ok(told)
}
