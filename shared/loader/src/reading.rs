//! How a local snapshot is read: mapped, or copied into memory.
//!
//! Mapping is the best there is where the page cache works: nothing is copied, processes share one copy, and a warm
//! file is ready in microseconds. It is a disaster elsewhere. Without readahead every 4 KiB is a request of its own
//! (measured: 10.5 s instead of 0.2 s for 500 MB on the same disk), which is what FUSE and network mounts do; and there
//! another host may shorten the file under the mapping.
//!
//! So the file system is asked and then tried:
//!
//! 1. Its kind: network and FUSE mounts are copied from.
//! 2. Whether the file is in the page cache already: then it is mapped.
//! 3. Otherwise two small pieces of it are touched through the mapping and two others are read, both by the clock. If
//!    the mapping is several times slower than the reads, the file is copied, else mapped.
//!
//! Copies are read chunk by chunk on several threads, each over a contiguous run (interleaved buffered reads defeat
//! readahead, measured three times slower), past the page cache (`O_DIRECT`) where the file system takes that, because a
//! page cache in between would hold the bytes a second time.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fstatfs};

use crate::map::Mapping;

/// Kinds of file system (`statfs`'s `f_type`, `linux/magic.h` and the drivers' sources) whose files live elsewhere.
const REMOTE: [(u32, &str); 11] = [
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x0bd0_0bd0, "lustre"),
    (0x00c3_6400, "ceph"),
    (0x4750_4653, "gpfs"),
    (0x5346_414f, "afs"),
    (0x6a65_6a63, "virtiofs"),
];

/// Bytes of one trial: what readahead fetches at once where it works, and a few milliseconds where it does not.
const TRIAL: usize = 2 * 1024 * 1024;

/// A mapping this much slower than reads is not worth sharing pages for: copying costs at most one more touch of memory.
const TOO_SLOW: u32 = 4;

/// Chunks in a row for one thread of a buffered copy: 16 MiB, twice the largest readahead window seen.
const RUN: usize = 8;

/// Blocks that `O_DIRECT` wants offsets, lengths and addresses to be multiples of; no disk asks for more than a page.
const BLOCK: u64 = 4096;

/// The way that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Map,
    Copy(String),
}

/// Reads ranges of a file into memory.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    direct: Option<File>,
}

impl Reader {
    /// A reader of `file`, which was opened at `path`.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        let flags = OFlags::DIRECT.bits();
        let direct = i32::try_from(flags)
            .ok()
            .and_then(|flags| OpenOptions::new().read(true).custom_flags(flags).open(path).ok())
            .filter(|direct| same_file(direct, &file));
        Self { file, direct }
    }

    /// Chunks that one thread should read in a row.
    pub(crate) fn run(&self) -> usize {
        if self.direct.is_some() { 1 } else { RUN }
    }

    /// Fills `bytes` from the file's offset.
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let whole_blocks = offset.is_multiple_of(BLOCK)
            && (bytes.len() as u64).is_multiple_of(BLOCK)
            && (bytes.as_ptr() as u64).is_multiple_of(BLOCK);
        if let Some(direct) = self.direct.as_ref().filter(|_| whole_blocks)
            && direct.read_exact_at(bytes, offset).is_ok()
        {
            return Ok(());
        }
        self.file.read_exact_at(bytes, offset)
    }
}

/// The path could have been given to another file meanwhile.
fn same_file(a: &File, b: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((a.metadata(), b.metadata()), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Decides how the data region of a mapped file is to be read.
pub(crate) fn choose(file: &File, mapping: &Mapping, data: Range<usize>) -> Choice {
    let kind = fstatfs(file).map(|stat| i128::from(stat.f_type)).unwrap_or_default();
    // Where the field is signed and short, magics of 32 bits come out negative.
    let is = |magic: u32| kind == i128::from(magic) || kind == i128::from(magic.cast_signed());
    if let Some((_, name)) = REMOTE.iter().find(|(magic, _)| is(*magic)) {
        return Choice::Copy(format!("a {name} mount"));
    }
    let trials = trials(&data);
    let Some([mapped, read]) = trials.filter(|_| !resident(file, &data)) else {
        return Choice::Map;
    };
    let by_map = timed(|| mapped.iter().for_each(|range| mapping.populate(range.clone())));
    let mut buffer = vec![0; TRIAL];
    let mut failed = false;
    let by_read = timed(|| {
        for range in &read {
            failed |= file.read_exact_at(&mut buffer[..range.len()], range.start as u64).is_err();
        }
    });
    if failed { Choice::Map } else { judge(by_map, by_read) }
}

/// Compares the two trials.
fn judge(by_map: Duration, by_read: Duration) -> Choice {
    if by_map > by_read * TOO_SLOW {
        Choice::Copy(format!(
            "mapping it is {:.0} times slower than reading it",
            by_map.as_secs_f64() / by_read.as_secs_f64().max(1e-9)
        ))
    } else {
        Choice::Map
    }
}

/// Two pieces to map and two to read, spread over the data so that one's readahead does not serve the other; `None`
/// where the file is so small that it does not matter.
fn trials(data: &Range<usize>) -> Option<[[Range<usize>; 2]; 2]> {
    let piece = |eighth: usize| {
        let start = (data.start + data.len() / 8 * eighth) / TRIAL * TRIAL;
        start..start + TRIAL
    };
    (data.len() >= 64 * TRIAL).then(|| [[piece(1), piece(5)], [piece(3), piece(7)]])
}

/// Whether the pieces that would be tried are in the page cache.
fn resident(file: &File, data: &Range<usize>) -> bool {
    // A read that must not wait for a disk fails with EAGAIN unless the page is there.
    let mut byte = [0; 1];
    (0..8).all(|eighth| {
        let offset = (data.start + data.len() / 8 * eighth) as u64;
        let mut into = [io::IoSliceMut::new(&mut byte)];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        matches!(rustix::io::preadv2(file, &mut into, offset, flags), Ok(1))
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_mapping_may_be_slower_than_reads_but_not_several_times() {
        let ms = Duration::from_millis;
        assert_eq!(judge(ms(8), ms(2)), Choice::Map);
        assert_eq!(judge(Duration::ZERO, Duration::ZERO), Choice::Map);
        assert!(matches!(judge(ms(86), ms(2)), Choice::Copy(why) if why.contains("43 times")));
    }

    #[test]
    fn trials_lie_apart_inside_the_data() {
        assert_eq!(trials(&(4096..63 * TRIAL)), None);
        let data = 8192..8192 + 100 * TRIAL + 4096;
        let mut pieces: Vec<_> = trials(&data).unwrap().into_iter().flatten().collect();
        pieces.sort_by_key(|piece| piece.start);
        assert!(pieces.iter().all(|piece| piece.start >= data.start && piece.end <= data.end));
        assert!(pieces.windows(2).all(|pair| pair[0].end + 4 * TRIAL < pair[1].start));
    }

    #[test]
    fn aligned_and_unaligned_reads_give_the_files_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..3 * 4096u32).map(|i| (i / 7).to_le_bytes()[0]).collect();
        file.write_all(&content).unwrap();
        let reader = Reader::new(file.reopen().unwrap(), file.path());
        let memory = Mapping::memory(2 * 4096).unwrap();
        memory.fill(0..8192, |bytes| reader.read(bytes, 4096)).unwrap();
        assert_eq!(memory.as_slice(), &content[4096..]);
        let mut odd = [0; 100];
        reader.read(&mut odd, 4001).unwrap();
        assert_eq!(odd, content[4001..4101]);
        assert!(reader.read(&mut odd, 3 * 4096).is_err());
    }
}
