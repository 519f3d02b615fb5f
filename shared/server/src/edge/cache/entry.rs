//! A kept answer, and the question that it answers.

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;

/// Largest answer that is kept: 1,000 of them and their files stay within a gigabyte.
pub(super) const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What identifies a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) blake3::Hash);

impl Key {
    /// Each part is hashed with its length, so that no two splits of the same bytes are alike.
    pub(super) fn of(parts: [&[u8]; 4]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hasher.finalize())
    }
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}
