//! (skeleton)
/// Skeleton.
#[derive(Debug)]
pub struct Snapshot;
/// Skeleton.
#[derive(Debug, thiserror::Error)]
#[error("skeleton")]
pub struct Error;
