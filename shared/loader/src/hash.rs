//! The two hashes of a chunk.
//!
//! Every chunk carries both. xxh3 is checked whenever a snapshot is restored: it costs a small part of what reading
//! the bytes costs and finds every kind of accident (flipped bits, zeroed or swapped blocks, short writes). BLAKE3 is
//! what the root is built from: it names the content, so that nobody can construct another file with the same name;
//! `verify` checks it, and so does a download.

use twox_hash::XxHash3_64;

/// Both hashes of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkHash {
    /// XXH3, 64 bits, seed 0: for speed.
    pub xxh3: u64,
    /// BLAKE3, 256 bits: for identity.
    pub blake3: [u8; 32],
}

impl ChunkHash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { xxh3: xxh3(bytes), blake3: *blake3::hash(bytes).as_bytes() }
    }
}

pub(crate) fn xxh3(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published test vectors, so that a change of library cannot change the format.
    #[test]
    fn hashes_match_their_published_vectors() {
        assert_eq!(xxh3(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(ChunkHash::of(b"").blake3[..4], [0xaf, 0x13, 0x49, 0xb9]);
    }
}
