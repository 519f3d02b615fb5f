//! Snapshots: prepared, checked, mappable copies of model weights.
//!
//! A [`SnapshotWriter`] turns a [`Plan`] and the bytes it promises into one immutable file; [`Snapshot::open`] maps
//! that file and hands out its tensors without parsing, copying or repacking, and never before their bytes are known
//! to be the ones that were written.
//!
//! The loader knows bytes and snapshots only, nothing of models or of the formats of checkpoints: names, layouts and
//! metadata are the caller's.
//!
//! ```
//! use defrost_loader::{Dtype, OpenOptions, Plan, SegmentPlan, Snapshot, SnapshotWriter, TensorPlan};
//!
//! # fn main() -> Result<(), defrost_loader::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("tiny.snap");
//! let tensor = TensorPlan {
//!     name: "w".into(),
//!     dtype: Dtype::U8,
//!     layout: "row-major".into(),
//!     shape: vec![2, 2],
//!     len: 4,
//! };
//! let plan = Plan {
//!     isa: "portable".into(),
//!     layout_abi: 1,
//!     segments: vec![SegmentPlan { name: "layer.0".into(), sparse: false, tensors: vec![tensor] }],
//!     ..Plan::default()
//! };
//! let mut writer = SnapshotWriter::create(&path, plan)?;
//! writer.write("w", &[1, 2, 3, 4])?;
//! let root = writer.finish()?;
//!
//! let snapshot = Snapshot::open(&path, &OpenOptions::new(["portable"], 1))?;
//! assert_eq!(snapshot.root(), root);
//! assert_eq!(&snapshot.tensor("w")?.bytes[..], [1, 2, 3, 4]);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should say where"))]

mod allocator;
mod board;
mod cache;
mod dtype;
mod error;
mod fetch;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod image;
mod location;
mod map;
mod plan;
mod reading;
mod restore;
mod root;
mod snapshot;
mod source;
mod temporary;
mod threads;
mod transfer;
mod verify;
mod writer;

pub use allocator::share_memory_among_threads;
pub use cache::{Cache, Cached, Collected, default_cache};
pub use dtype::Dtype;
pub use error::{Error, Kind, shown};
pub use fetch::FetchOptions;
pub use format::manifest::{Manifest, Segment, TensorEntry};
pub use format::{MAX_NAME, MAX_RANK};
pub use hash::ChunkHash;
pub use location::{Location, hub_name};
pub use map::{map_file, release_freed_memory};
pub use plan::{Plan, SegmentPlan, TensorPlan};
pub use restore::{RestoreOptions, restore};
pub use root::Root;
pub use snapshot::{OpenOptions, Place, Reading, Snapshot, Tensor, inspect};
pub use source::{Listed, StoreOptions};
pub use threads::{ThreadsWanted, given as given_threads, runtime};
pub use transfer::{Pushed, fetch, list, pull, push, remove};
pub use verify::full::verify;
pub use verify::{Verification, VerifyMode};
pub use writer::SnapshotWriter;

#[cfg(test)]
mod tests;
