//! The handlers.

mod body;
pub(crate) mod models;
pub(crate) mod probes;
pub(crate) mod rerank;
