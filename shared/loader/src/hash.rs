//! The two hashes of a chunk.
//!
//! Every chunk carries both. xxh3 is checked whenever a snapshot is restored: it is fast enough to vanish behind reading
//! the bytes and finds every kind of accident (flipped bits, zeroed or swapped blocks, short writes), but an attacker
//! can construct a collision. BLAKE3 is what the root is built from: it names the content, so that no attacker can make
//! another file with the same name; `verify` checks it, and so must whatever fetches a snapshot from elsewhere.
//!
//! Measured on 2026-11-21 on one core of a shared Xeon virtual machine with AVX-512, best of five, with
//! `examples/restore_speed.rs`: xxh3 19.5 GB/s (AVX2, chosen at run time by the library), BLAKE3 4.0 to 4.7 GB/s. A
//! 512 MiB snapshot in a warm page cache opens eagerly in 68 ms on one thread and 40 ms on two (7.9 and 13 GB/s,
//! page faults included), and is verified with both hashes in 185 ms (2.9 GB/s); the same disk reads 1.5 GB/s cold,
//! which hides the hashing. Mapping each chunk with `MADV_POPULATE_READ` before hashing it made a warm restore 10 %
//! slower and a cold one no faster, so the hashing pass is the prefault.

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
