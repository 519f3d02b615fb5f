//! The one place that maps files into memory.
#![allow(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; everything else in this crate is safe code"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

/// A whole file, mapped read-only and shared with the page cache; clones share the mapping.
///
/// # Who may change the file
///
/// The pages are those of the page cache, so a process that writes to the file in place changes what we read, and
/// one that shortens it makes later reads fault (SIGBUS). Snapshots are therefore immutable by contract: `defrost`
/// only ever creates them under a temporary name and renames them when complete, and replacing one by rename leaves
/// existing mappings on the old file. Whoever has write permission on the cache directory is trusted not to edit
/// files in place; file systems where others can (shared NFS, Lustre) need a private copy first.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    map: Option<Arc<Mmap>>,
}

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Maps the first `len` bytes; the caller has checked that the file is that long.
    pub(crate) fn of(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the bytes must not change or vanish while mapped. The file is ours and immutable once renamed
        // into place (see above), and its length was compared with the file system's before this call. The content
        // is only ever read as plain bytes, for which every bit pattern is valid.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self { map: Some(Arc::new(map)) })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| map)
    }

    /// The same bytes as a reference-counted view that keeps the mapping alive.
    pub(crate) fn bytes(&self) -> Bytes {
        self.map.as_ref().map_or_else(Bytes::new, |map| Bytes::from_owner(Owner(Arc::clone(map))))
    }

    /// Reads and maps a range in one call instead of one fault per 64 KiB. Failure changes nothing but speed
    /// (`MADV_POPULATE_READ` needs Linux 5.14), so it is not reported.
    pub(crate) fn populate(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            let _ = map.advise_range(Advice::PopulateRead, range.start, range.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (range, Advice::Normal);
    }
}
