//! What will be in a snapshot, said before its first byte is written.
//!
//! All sizes are known up front, so all offsets are too: the data can be streamed once, front to back, and the
//! manifest's length does not depend on what the data turns out to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::error::{Error, Kind};
use crate::format::codec::data_offset;
use crate::format::manifest::{Manifest, Segment, TensorEntry};
use crate::format::{PAGE, align_up, tensor_alignment};
use crate::hash::ChunkHash;

/// The contents of a snapshot to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The instruction set the weights are packed for, for instance `portable`.
    pub isa: String,
    /// The version of the packed layouts, counted by the engine.
    pub layout_abi: u32,
    /// Free facts about the model; values up to 64 KiB.
    pub meta: BTreeMap<String, String>,
    /// Segments in execution order.
    pub segments: Vec<SegmentPlan>,
}

/// A run of tensors that are needed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPlan {
    /// The name of the segment, unique in the plan.
    pub name: String,
    /// Whether its bytes are read here and there, as embedding tables are.
    pub sparse: bool,
    /// The tensors of the segment in the order in which they are written.
    pub tensors: Vec<TensorPlan>,
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// The name of the tensor, unique in the plan.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// `row-major` (length checked against shape and type), `file` for raw files, or a packing the engine knows.
    pub layout: String,
    /// Logical dimensions, outermost first; at most 8.
    pub shape: Vec<usize>,
    /// Length in bytes.
    pub len: usize,
}

impl Plan {
    /// Gives every tensor its place; the chunk hashes are still zero.
    pub(crate) fn lay_out(self, chunk_size: u32) -> Result<Manifest, Error> {
        let too_large = || {
            Error::new(Kind::Invalid, "the plan is too large").mismatch("below 2^64 bytes", "more")
        };
        let mut end = 0u64;
        let mut segments = Vec::with_capacity(self.segments.len());
        let mut tensors = Vec::new();
        for (index, segment) in self.segments.into_iter().enumerate() {
            let start = align_up(end, PAGE).ok_or_else(too_large)?;
            end = start;
            for tensor in segment.tensors {
                let len = tensor.len as u64;
                let offset = align_up(end, tensor_alignment(len)).ok_or_else(too_large)?;
                end = offset.checked_add(len).ok_or_else(too_large)?;
                tensors.push(TensorEntry {
                    name: tensor.name.into(),
                    dtype: tensor.dtype,
                    layout: tensor.layout.into(),
                    shape: tensor.shape,
                    segment: index,
                    offset,
                    len,
                });
            }
            let (name, len) = (segment.name.into(), end - start);
            segments.push(Segment { name, offset: start, len, sparse: segment.sparse });
        }
        let data_len = align_up(end, PAGE).ok_or_else(too_large)?;
        let chunks = data_len.div_ceil(u64::from(chunk_size));
        // The manifest's own limit refuses such a plan anyway; here it bounds the allocation.
        let chunks =
            usize::try_from(chunks).ok().filter(|&n| n <= 1 << 24).ok_or_else(too_large)?;
        let mut manifest = Manifest {
            isa: self.isa.into(),
            layout_abi: self.layout_abi,
            meta: self.meta.into_iter().map(|(k, v)| (Arc::from(k), Arc::from(v))).collect(),
            segments,
            tensors,
            chunk_size,
            chunks: vec![ChunkHash::default(); chunks],
            data_offset: 0,
            data_len,
        };
        let manifest_len = manifest.encoded_len()?;
        let file_len = |start: u64| start.checked_add(data_len)?.checked_add(PAGE);
        // A file that is large without the padding of large files is so with it, and one that is not gets none.
        let least = file_len(data_offset(manifest_len, 0)?).ok_or_else(too_large)?;
        let start = data_offset(manifest_len, least)?;
        file_len(start).ok_or_else(too_large)?;
        manifest.data_offset = start;
        manifest.segments.iter_mut().for_each(|segment| segment.offset += start);
        manifest.tensors.iter_mut().for_each(|tensor| tensor.offset += start);
        manifest.check().map_err(|error| error.recast(Kind::Invalid))?;
        Ok(manifest)
    }
}
