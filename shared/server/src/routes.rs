//! The handlers.

pub(crate) mod admin;
mod body;
pub(crate) mod models;
pub(crate) mod probes;
pub(crate) mod rerank;
pub(crate) mod score;
