//! Arrays of little-endian numbers inside an image. Every read is checked: an index from a damaged image gives `None`,
//! never memory of something else.

/// `u16` values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halves<'a>(&'a [[u8; 2]]);

impl<'a> Halves<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    #[inline]
    pub(crate) fn at(self, index: usize) -> Option<u16> {
        self.0.get(index).map(|&bytes| u16::from_le_bytes(bytes))
    }
}

/// `u32` values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a>(&'a [[u8; 4]]);

impl<'a> Words<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    #[inline]
    pub(crate) fn at(self, index: usize) -> Option<u32> {
        self.0.get(index).map(|&bytes| u32::from_le_bytes(bytes))
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}

/// `u64` values, or the bits of `f64`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Longs<'a>(&'a [[u8; 8]]);

impl<'a> Longs<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    #[inline]
    pub(crate) fn at(self, index: usize) -> Option<u64> {
        self.0.get(index).map(|&bytes| u64::from_le_bytes(bytes))
    }

    #[inline]
    pub(crate) fn float(self, index: usize) -> Option<f64> {
        self.at(index).map(f64::from_bits)
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}
