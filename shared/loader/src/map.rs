//! The one place that maps files: snapshots, memory to read them into, words shared by processes.
//!
//! # Changes of a mapped file
//!
//! The pages of a mapped file are those of the page cache, so a process that writes to the file in place changes what
//! we read. Snapshots are therefore immutable by contract: `defrost` only ever creates them under a temporary name and
//! renames them when complete, and replacing one by rename leaves existing mappings on the old file. A download is
//! mapped while it grows, but there a byte is handed out only after it was written and is never written again with
//! another value. Of file systems where other machines write (network mounts) a private copy is made first (`reading`).
//! After an edit in place all the same, requests get an error instead of answers (`verify::watch`).
//!
//! A file that is shortened all the same is caught: [`guard`] turns the fault into zeros and a flag, and every
//! reader asks [`Mapping::lost`] before it believes what it read.
#![allow(
    unsafe_code,
    reason = "mapping memory is unsafe by nature; everything else in this crate is safe code"
)]

mod guard;
mod words;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::mm::MremapFlags;

pub(crate) use words::Words;

use crate::error::Error;
use crate::format::cursor::to_usize;
use guard::Guarded;

/// Memory that holds a snapshot; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    area: Option<Arc<Area>>,
}

/// `guarded` is dropped first, so that the handler forgets the addresses before they are given back.
#[derive(Debug)]
struct Area {
    guarded: Option<Guarded>,
    map: MmapRaw,
}

impl Area {
    fn as_slice(&self) -> &[u8] {
        // SAFETY: the area is mapped readable for as long as `map` lives, and `map.len()` bytes long. Every bit pattern
        // is a valid u8. For a file, see the head of this module for why its bytes do not change once they are handed
        // out. Memory that is filled by `fill` is written only before the gate declares the chunk good and only by the
        // thread that claimed it; readers pass the gate first, which orders the writes before their reads.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }
}

struct Owner(Arc<Area>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Mapping {
    /// Maps the first `len` bytes of a file; the caller has checked that the file is that long.
    pub(crate) fn of(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { area: None });
        }
        // SAFETY: the bytes must not change or vanish while mapped; the head of this module says why they do not. They
        // are only ever read as plain bytes, for which every bit pattern is valid.
        let map = MmapRaw::from(unsafe { MmapOptions::new().len(len).map(file)? });
        let guarded = Guarded::new(map.as_ptr() as usize, map.len());
        Ok(Self { area: Some(Arc::new(Area { guarded, map })) })
    }

    /// Fresh zeroed memory of `len` bytes, in huge pages where the kernel has them: its first touch is the cost of
    /// copying a snapshot, and a huge page is touched 5 to 20 times faster than 512 small ones.
    pub(crate) fn memory(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { area: None });
        }
        let map = MmapRaw::from(MmapOptions::new().len(len).map_anon()?);
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage);
        Ok(Self { area: Some(Arc::new(Area { guarded: None, map })) })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.area.as_ref().map_or(&[], |area| area.as_slice())
    }

    /// The same bytes as a reference-counted view that keeps the mapping alive.
    pub(crate) fn bytes(&self) -> Bytes {
        self.area
            .as_ref()
            .map_or_else(Bytes::new, |area| Bytes::from_owner(Owner(Arc::clone(area))))
    }

    /// Fills a range of [`Mapping::memory`] through `write`. Only for the one thread that claimed the range, before
    /// any reader was told that it may be read.
    pub(crate) fn fill<T>(
        &self,
        range: Range<usize>,
        write: impl FnOnce(&mut [u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a range outside the memory");
        let area = self.area.as_ref().filter(|area| area.guarded.is_none()).ok_or_else(outside)?;
        if range.start > range.end || range.end > area.map.len() {
            return Err(outside());
        }
        // SAFETY: the range lies inside the area, which is private writable memory (a mapped file has `guarded`). The
        // caller has claimed the chunk: no other thread writes it, and readers wait at the gate until it is good.
        let target = unsafe {
            std::slice::from_raw_parts_mut(area.map.as_mut_ptr().add(range.start), range.len())
        };
        write(target)
    }

    /// Whether the mapped file was shortened under us; what was read since may be zeros.
    pub(crate) fn lost(&self) -> bool {
        self.area.as_ref().and_then(|area| area.guarded.as_ref()).is_some_and(Guarded::lost)
    }

    /// Reads and maps a range in one call instead of one fault per 64 KiB. Failure changes nothing but speed
    /// (`MADV_POPULATE_READ` needs Linux 5.14), so it is not reported.
    pub(crate) fn populate(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Some(area) = &self.area {
            let _ = area.map.advise_range(Advice::PopulateRead, range.start, range.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (range, Advice::Normal);
    }

    /// Replaces the mapped file by private memory with the same bytes at the same address: afterwards nothing depends
    /// on the file, and every view handed out before stays valid.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let Some(area) = self.area.as_ref().filter(|area| area.guarded.is_some()) else {
            return Ok(());
        };
        let mut copy = MmapOptions::new().len(area.map.len()).map_anon()?;
        copy.copy_from_slice(area.as_slice());
        let copy = MmapRaw::from(copy);
        let len = whole_pages(area.map.len());
        // SAFETY: both ranges are whole mappings of this process of `len` bytes, page-aligned. The kernel moves the
        // pages of `copy` over those of the file in one step: a reader sees the one or the other, and both hold the
        // same bytes. `copy` is forgotten below, because its addresses no longer belong to it; `area.map` unmaps its
        // own address when dropped, whatever lies there.
        let moved = unsafe {
            rustix::mm::mremap_fixed(
                copy.as_mut_ptr().cast(),
                len,
                len,
                MremapFlags::MAYMOVE,
                area.map.as_mut_ptr().cast(),
            )
        };
        let moved = moved.map(NonNull::new).map_err(io::Error::from)?;
        debug_assert!(moved.is_some(), "mremap gives an address or an error");
        std::mem::forget(copy);
        Ok(())
    }
}

/// The content of a file of weights that is no snapshot, mapped: a view that keeps the mapping alive, empty for an empty
/// file.
///
/// Nothing is hashed: an edit of the file in place changes what is read, and of a file that was shortened the pages
/// that are gone read as zeros.
///
/// Fails with [`Kind::NotFound`](crate::Kind::NotFound), [`Kind::Denied`](crate::Kind::Denied) or
/// [`Kind::Io`](crate::Kind::Io) if the file cannot be opened or mapped.
pub fn map_file(path: &Path) -> Result<Bytes, Error> {
    let file = File::open(path).map_err(|e| Error::io("cannot open the weights", path, e))?;
    let len = file.metadata().map_err(|e| Error::io("cannot stat the weights", path, e))?.len();
    let mapping = Mapping::of(&file, to_usize(len)?)
        .map_err(|e| Error::io("cannot map the weights", path, e))?;
    Ok(mapping.bytes())
}

/// Gives memory that was freed back to the system.
///
/// A boot frees much of what it takes (the text of tokenizers, pieces of downloads), and the allocator keeps it for a
/// process that will not need it again: 6 MB for a tokenizer of 150,000 words. Takes a few milliseconds; does nothing
/// where the allocator is not glibc's.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes the allocator's own locks and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn whole_pages(len: usize) -> usize {
    len.next_multiple_of(rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn detached_views_keep_their_address_and_bytes_without_the_file() {
        let content: Vec<u8> = (0..30_000u32).map(|i| i.to_le_bytes()[0]).collect();
        let file = file(&content);
        let mapping = Mapping::of(&file, content.len()).unwrap();
        let (view, address) = (mapping.bytes(), mapping.as_slice().as_ptr());
        mapping.detach().unwrap();
        file.set_len(0).unwrap();
        assert_eq!((&view[..], view.as_ptr()), (&content[..], address));
        assert!(!mapping.lost());
    }

    #[test]
    fn a_truncated_file_reads_as_zeros_and_is_reported() {
        let file = file(&vec![7; 5 * 4096]);
        let mapping = Mapping::of(&file, 5 * 4096).unwrap();
        assert_eq!(mapping.as_slice()[4 * 4096], 7);
        file.set_len(4096).unwrap();
        assert!(!mapping.lost(), "nothing was touched yet");
        assert_eq!(mapping.as_slice()[3 * 4096], 0);
        assert_eq!((mapping.as_slice()[0], mapping.lost()), (7, true));
    }

    #[test]
    fn memory_is_filled_only_within_its_bounds() {
        let memory = Mapping::memory(100).unwrap();
        memory.fill(10..20, |bytes| bytes.write_all_at_start(b"0123456789")).unwrap();
        assert_eq!(&memory.as_slice()[9..21], b"\x000123456789\x00");
        assert!(memory.fill(90..101, |_| Ok(())).is_err());
        assert!(Mapping::of(&file(b"x"), 1).unwrap().fill(0..1, |_| Ok(())).is_err());
    }

    #[test]
    fn a_whole_file_is_mapped_and_one_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        for content in [&b"abc"[..], b""] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(&map_file(&path).unwrap()[..], content);
        }
        std::fs::remove_file(&path).unwrap();
        let error = map_file(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (crate::Kind::NotFound, Some(path.as_path())));
    }

    trait Start {
        fn write_all_at_start(&mut self, bytes: &[u8]) -> io::Result<()>;
    }

    impl Start for [u8] {
        fn write_all_at_start(&mut self, bytes: &[u8]) -> io::Result<()> {
            self[..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }
}
