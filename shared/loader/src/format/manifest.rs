//! The manifest in memory: what a snapshot holds and where.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::hash::ChunkHash;

/// The table of contents of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The instruction set the weights are packed for, for instance `portable` or `avx512-vnni`.
    pub isa: Arc<str>,
    /// The version of the packed layouts, counted by the engine.
    pub layout_abi: u32,
    /// Free facts about the model, sorted by key.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
    /// Runs of bytes that are needed together, in execution order.
    pub segments: Vec<Segment>,
    /// All tensors, in file order.
    pub tensors: Vec<TensorEntry>,
    /// Bytes of every chunk but the last.
    pub chunk_size: u32,
    /// The hashes of the data region, chunk by chunk.
    pub chunks: Vec<ChunkHash>,
    /// The offset of the data region in the file, in bytes.
    pub data_offset: u64,
    /// Bytes of the data region, a multiple of 4096.
    pub data_len: u64,
}

/// A run of bytes that are needed together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The name of the segment, for instance `layer.3`.
    pub name: Arc<str>,
    /// The offset of the segment in the file, in bytes; a multiple of 4096.
    pub offset: u64,
    /// The length of the segment in bytes, without the padding after it.
    pub len: u64,
    /// Whether it is read here and there, as embedding tables are: its pages are then not mapped ahead of use.
    pub sparse: bool,
}

/// Where a tensor lies and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorEntry {
    /// The name of the tensor, unique in the snapshot.
    pub name: Arc<str>,
    /// Element type.
    pub dtype: Dtype,
    /// The arrangement of the elements: `row-major`, `file`, or a packing the engine knows.
    pub layout: Arc<str>,
    /// Logical dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Index into [`Manifest::segments`].
    pub segment: usize,
    /// The offset of the tensor in the file, in bytes; a multiple of 64, from 64 KiB on of 4096.
    pub offset: u64,
    /// The length of the tensor in bytes.
    pub len: u64,
}

impl Manifest {
    /// The file range of a chunk, in bytes. The index is one of `chunks`.
    pub(crate) fn chunk_range(&self, index: usize) -> Range<u64> {
        let start = index as u64 * u64::from(self.chunk_size);
        let end = (start + u64::from(self.chunk_size)).min(self.data_len);
        self.data_offset + start..self.data_offset + end
    }

    /// The chunks that hold these bytes of the file, which lie in the data region.
    pub(crate) fn chunks_of(&self, offset: u64, len: u64) -> Range<u64> {
        let size = u64::from(self.chunk_size);
        let start = offset - self.data_offset;
        if len == 0 {
            return 0..0;
        }
        start / size..(start + len).div_ceil(size)
    }

    /// The first tensor with a byte in this file range, to give damage a name.
    pub(crate) fn tensor_in(&self, range: &Range<u64>) -> Option<&TensorEntry> {
        let first =
            self.tensors.partition_point(|tensor| tensor.offset + tensor.len <= range.start);
        self.tensors.get(first).filter(|tensor| tensor.offset < range.end)
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.data_offset + self.data_len + super::PAGE
    }
}
