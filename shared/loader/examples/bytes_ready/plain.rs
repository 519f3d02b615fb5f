//! The same bytes read without a loader: what the machine can do, and what verification and handing out tensors cost.
#![allow(unsafe_code, reason = "mapping a file is unsafe by nature; it is done in one function")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use rustix::fs::OFlags;

use crate::measure::{Meter, touch};

/// Enough in flight to fill a virtual disk's queue; more threads or other parts were not faster (loader.md 2).
const DIRECT_THREADS: usize = 8;
const DIRECT_PART: usize = 8 * 1024 * 1024;
/// Contiguous spans, one a thread: interleaved parts would break the kernel's readahead.
const PREAD_THREADS: usize = 2;
const PREAD_STEP: usize = 2 * 1024 * 1024;
const HUGE_PAGE: usize = 2 * 1024 * 1024;
/// `O_DIRECT` wants lengths and addresses in blocks.
const BLOCK: usize = 4096;

/// Maps the file, with all its pages in one call or one fault after the other.
pub(crate) fn map(mut meter: Meter, path: &Path, populate: bool) -> Result<String, Box<dyn Error>> {
    let map = map_file(&File::open(path)?, populate)?;
    meter.opened();
    meter.ready();
    touch(&map);
    meter.touched()?;
    meter.line(if populate { "mmap-populate" } else { "mmap-touch" }, std::iter::once(&map[..]))
}

/// Reads the file into memory of huge pages, through the page cache.
pub(crate) fn pread(mut meter: Meter, path: &Path) -> Result<String, Box<dyn Error>> {
    let file = File::open(path)?;
    let len = length(&file)?;
    let mut memory = Memory::new(len)?;
    meter.opened();
    let span = len.div_ceil(PREAD_THREADS).next_multiple_of(PREAD_STEP);
    let file = &file;
    thread::scope(|scope| {
        let parts = memory.bytes().chunks_mut(span).zip((0u64..).step_by(span));
        let threads: Vec<_> = parts
            .map(|(part, start)| {
                scope.spawn(move || {
                    let steps = part.chunks_mut(PREAD_STEP).zip((start..).step_by(PREAD_STEP));
                    steps.into_iter().try_for_each(|(step, at)| file.read_exact_at(step, at))
                })
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    finish(meter, "pread", &mut memory)
}

/// Reads the file past the page cache, many parts at once: the speed of the disk.
pub(crate) fn odirect(mut meter: Meter, path: &Path) -> Result<String, Box<dyn Error>> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut memory = Memory::new(length(&file)?)?;
    meter.opened();
    let (file, len) = (&file, memory.len);
    // Whole blocks, so the last part may reach beyond the end of the file.
    let blocks = memory.blocks().chunks_mut(DIRECT_PART).zip((0u64..).step_by(DIRECT_PART));
    let parts = &Mutex::new(blocks);
    thread::scope(|scope| {
        let read = || {
            loop {
                let next = parts.lock().map_err(|_| io::Error::other("a reader panicked"))?.next();
                let Some((part, start)) = next else { return Ok(()) };
                read_direct(file, part, start, len)?;
            }
        };
        let threads: Vec<_> = (0..DIRECT_THREADS).map(|_| scope.spawn(read)).collect();
        threads.into_iter().try_for_each(joined)
    })?;
    finish(meter, "odirect", &mut memory)
}

fn finish(mut meter: Meter, name: &str, memory: &mut Memory) -> Result<String, Box<dyn Error>> {
    meter.ready();
    touch(memory.bytes());
    meter.touched()?;
    meter.line(name, std::iter::once(&*memory.bytes()))
}

/// Fills `part` from `start` on, or up to the end of the file at `len`.
fn read_direct(file: &File, part: &mut [u8], start: u64, len: usize) -> io::Result<()> {
    let wanted = part.len().min(len - usize::try_from(start).map_err(io::Error::other)?);
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut part[filled..], start + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            // A short read ends at a block, or at the end of the file, after which nothing is wanted.
            count => filled += count,
        }
    }
    Ok(())
}

fn joined(thread: thread::ScopedJoinHandle<'_, io::Result<()>>) -> io::Result<()> {
    thread.join().map_err(|_| io::Error::other("a reader panicked"))?
}

fn length(file: &File) -> Result<usize, Box<dyn Error>> {
    Ok(usize::try_from(file.metadata()?.len())?)
}

fn map_file(file: &File, populate: bool) -> io::Result<Mmap> {
    let mut options = MmapOptions::new();
    if populate {
        options.populate();
    }
    // SAFETY: the file must not change or shrink while it is mapped. `make` wrote it for this benchmark into the
    // benchmark's own directory and nothing writes to it afterwards; its bytes are read as plain `u8`.
    unsafe { options.map(file) }
}

/// Anonymous memory that starts on a huge page and consists of huge pages where the kernel has some.
struct Memory {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Memory {
    fn new(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len.next_multiple_of(HUGE_PAGE) + HUGE_PAGE)?;
        // Advice only: without huge pages it is slower, not wrong.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_ptr().align_offset(HUGE_PAGE);
        Ok(Self { map, start, len })
    }

    fn bytes(&mut self) -> &mut [u8] {
        let range = self.range(self.len);
        &mut self.map[range]
    }

    fn blocks(&mut self) -> &mut [u8] {
        let range = self.range(self.len.next_multiple_of(BLOCK));
        &mut self.map[range]
    }

    fn range(&self, len: usize) -> Range<usize> {
        self.start..self.start + len
    }
}
