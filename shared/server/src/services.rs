//! The kinds of functions, a file each.

pub(crate) mod embed;
pub(crate) mod rerank;
