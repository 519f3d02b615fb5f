//! Memory of atomic words and bytes, private or shared with other processes through a file.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32};

use memmap2::{MmapOptions, MmapRaw};

use super::guard::Guarded;

/// Zero-initialised memory that is only ever touched through atomics.
#[derive(Debug)]
pub(crate) struct Words {
    _guarded: Option<Guarded>,
    map: MmapRaw,
}

impl Words {
    /// Private memory of `len` bytes.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        Ok(Self { _guarded: None, map: MmapOptions::new().len(len.max(1)).map_anon()?.into() })
    }

    /// The first `len` bytes of a file, shared with every process that maps it.
    pub(crate) fn shared(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len.max(1)).map_raw(file)?;
        let guarded = Guarded::new(map.as_ptr() as usize, map.len());
        Ok(Self { _guarded: guarded, map })
    }

    /// The byte at an offset; panics if it lies outside.
    pub(crate) fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.map.len(), "byte {offset} of {}", self.map.len());
        // SAFETY: inside the mapping, which lives as long as `self`, is writable, and is accessed only through atomics
        // by every process that knows this format.
        unsafe { AtomicU8::from_ptr(self.map.as_mut_ptr().add(offset)) }
    }

    /// The word at an offset that is a multiple of 4; panics if it is not or lies outside.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.map.len(), "word at {offset}");
        // SAFETY: as above; mappings start on a page, so a multiple of 4 is aligned.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }
}
