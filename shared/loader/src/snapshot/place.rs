//! Where bytes of a snapshot lie: what a reader asks for instead of an address, which a copy elsewhere would not have.

use std::ops::Range;

/// A run of bytes of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The beginning of the snapshot's root.
    pub(super) of: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Place {
    /// The place of these bytes of it.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    pub fn part(self, bytes: Range<usize>) -> Self {
        let (start, end) = (bytes.start as u64, bytes.end as u64);
        assert!(start <= end && end <= self.len, "bytes {bytes:?} of {self:?}");
        Self { offset: self.offset + start, len: end - start, ..self }
    }
}
