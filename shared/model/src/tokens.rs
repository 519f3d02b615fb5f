//! A sequence of tokens.

/// Token ids and types as the model takes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types; empty for all zero.
    pub types: Vec<u32>,
}
