//! Snapshot format, version 2: one immutable file, all numbers little endian.
//!
//! ```text
//! 0            superblock, 4096 bytes
//! 4096         manifest
//!              zeros up to the data offset: the next multiple of 4096, or in a file of 64 MiB or more of 2 MiB
//! data offset  segments, each on a multiple of 4096, in execution order; inside them the tensors
//!              zeros up to a multiple of 4096
//! length-4096  the superblock again
//! ```
//!
//! Every byte is covered by a check: superblocks by a CRC, by being exactly what an encoder would write and by being
//! equal to each other; the manifest by the superblock's BLAKE3; the zeros after it by looking; the data, padding
//! included, by the manifest's chunk hashes. The second superblock turns "was this file truncated or is it still
//! being copied?" into one read at its end. There is no time, path or host fact anywhere, so equal input gives equal
//! files.
//!
//! Chunks divide the data region on a fixed grid that starts at the data offset; the last one is short. In large files
//! that grid is the grid of huge pages: a chunk that is written in one call then becomes one huge page of the page cache,
//! and is mapped by one fault instead of 32 (measured: 5 instead of 80 ms of processor time for a freshly written GiB).
//! The data offset follows from the lengths of manifest and file, the number of chunks from the file's length: neither
//! is stored, so neither can be wrong.
//!
//! [`superblock`] and [`manifest`] hold the two structures, [`cursor`] reads untrusted bytes, [`codec`] turns a
//! manifest into bytes and back, [`rules`] says which manifests are valid.

pub(crate) mod codec;
pub(crate) mod cursor;
pub(crate) mod manifest;
mod rules;
pub(crate) mod superblock;

/// Alignment of segments, of large tensors and of the data region, and the size of a superblock: one x86-64 page, the
/// smallest unit a mapping can share.
pub(crate) const PAGE: u64 = 4096;

/// What the data region of a large file starts on: a huge page of x86-64 and arm64, and the size of a chunk.
pub(crate) const HUGE_PAGE: u64 = 2 * 1024 * 1024;

/// Files from here on are large: the padding, a huge page at most, is below 3 % of them, of a 0.5-billion-parameter
/// model 0.4 %.
pub(crate) const LARGE_FILE: u64 = 64 * 1024 * 1024;

/// Alignment of small tensors: one cache line, also the width of an AVX-512 load.
pub(crate) const LINE: u64 = 64;

/// Tensors from here on start on a page. Below, the padding (half a page on average) would exceed 3 % of the tensor.
pub(crate) const LARGE_TENSOR: u64 = 64 * 1024;

/// Bytes of a chunk. Small enough that one fits in a core's L2 cache while hashed twice and that a damaged one is
/// cheap to fetch again, large enough that its 40 bytes in the manifest are 0.002 % of it.
pub(crate) const CHUNK: u32 = 2 * 1024 * 1024;

/// Chunk sizes a reader accepts: powers of two in this range. Tests write small ones.
pub(crate) const CHUNK_RANGE: std::ops::RangeInclusive<u32> = 4096..=64 * 1024 * 1024;

/// Longest manifest a reader accepts, in bytes. It is read into memory, so this bounds what a hostile file can make
/// us allocate; it suffices for 2 TiB of data or 600,000 tensors, and a 0.5-billion-parameter model needs 0.1 MB.
pub(crate) const MAX_MANIFEST: u64 = 64 * 1024 * 1024;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Longest name of a segment, tensor or metadata key, in bytes; checkpoints stay below 100.
pub const MAX_NAME: usize = 512;

/// Longest ISA or layout tag, in bytes.
pub(crate) const MAX_TAG: usize = 64;

/// Longest metadata value, in bytes; larger things belong into a tensor of layout `file`.
pub(crate) const MAX_VALUE: usize = 64 * 1024;

/// The layout whose length must equal the product of its shape and element size.
pub(crate) const ROW_MAJOR: &str = "row-major";

/// The next multiple of `to` (a power of two), if it fits.
pub(crate) fn align_up(value: u64, to: u64) -> Option<u64> {
    value.checked_add(to - 1).map(|sum| sum & !(to - 1))
}

/// The alignment a tensor of this many bytes has.
pub(crate) fn tensor_alignment(len: u64) -> u64 {
    if len >= LARGE_TENSOR { PAGE } else { LINE }
}
