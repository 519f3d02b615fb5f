//! The kinds of functions, a file each.

#[cfg(feature = "chat")]
pub(crate) mod chat;
pub(crate) mod embed;
pub(crate) mod rerank;
pub(crate) mod roles;
