//! Sees that a file in use was edited in place.
//!
//! The pages of a mapped file are those of the page cache: `cp other.snap served.snap` puts the other model under the
//! first one's addresses, and without a look at the file it would be served under the first one's name and root. The
//! kernel moves a file's times before it changes a byte through a write or a truncation. So after each pass one `fstat`
//! of the open file is compared with what it said when its bytes were believed:
//!
//! * the same: the bytes are the same.
//! * another size: the file is another one, and the snapshot fails as one that was shortened.
//! * other times: the file was edited, or merely touched, renamed, linked or unlinked. Every chunk is hashed again
//!   where it lies (0.1 s for half a gigabyte). One that differs fails the snapshot; otherwise the new times are the
//!   ones to compare with, unless they are so recent that another edit could hide behind them ([`stamp::settled`]), in
//!   which case the next look hashes once more.
//!
//! The open file is asked, not its path: one that was replaced by a rename is still mapped whole, and is what it was.
//!
//! What this does not see are stores through a shared mapping that was writable before: the kernel moves times when such
//! a page becomes dirty, not at each store into it, and on file systems in memory not at all.
//!
//! Of a snapshot that was copied, the file matters until it is read; of one that is being downloaded, from the moment
//! when no process writes it any more.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::stamp;
use crate::error::{Error, Kind};

/// A file in use. Holding it holds its lock, which tells `Cache::collect` that it is in use.
#[derive(Debug)]
pub(crate) struct Watch {
    file: File,
    /// The file as it was when its bytes were believed; `None` if they are to be hashed before that.
    known: Option<Seen>,
    holds: Holds,
}

/// What the snapshot has of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Mapped,
    /// A mapping of a file that is still being written.
    Growing,
    /// A copy that is still being made.
    Copying,
    /// A copy that is complete: nothing of the file.
    Nothing,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(stat: &Metadata) -> Self {
        Self {
            len: stat.len(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
        }
    }
}

impl Watch {
    /// The watch over a file with this state at `began`, before any of its bytes were read.
    pub(crate) fn of(file: File, stat: &Metadata, began: SystemTime, mapped: bool) -> Self {
        let known = stamp::settled(stat, began).then(|| Seen::of(stat));
        Self { file, known, holds: if mapped { Holds::Mapped } else { Holds::Copying } }
    }

    /// The watch over a download.
    pub(crate) fn growing(file: File) -> Self {
        Self { file, known: None, holds: Holds::Growing }
    }

    /// Fails if bytes that were read may not have been those of the snapshot, `len` bytes long, that was opened at
    /// `path`. `complete`: whether all have been read or written. `hash` checks what is in memory.
    pub(crate) fn look(
        &mut self,
        (path, len): (&Path, u64),
        complete: bool,
        hash: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.holds {
            Holds::Nothing => return Ok(()),
            Holds::Growing | Holds::Copying if !complete => return Ok(()),
            Holds::Mapped | Holds::Growing | Holds::Copying => {}
        }
        let began = SystemTime::now();
        let stat = || {
            self.file.metadata().map_err(|e| Error::io("cannot stat the snapshot in use", path, e))
        };
        let before = stat()?;
        if self.holds == Holds::Growing {
            self.known = Some(Seen::of(&before));
            self.holds = Holds::Mapped;
        }
        if self.known != Some(Seen::of(&before)) {
            if self.holds == Holds::Mapped && before.len() != len {
                return Err(edited().in_file(path).mismatch(
                    format_args!("{len} bytes"),
                    format_args!("{} bytes", before.len()),
                ));
            }
            hash().map_err(|error| told(error, path))?;
            let left_alone =
                Seen::of(&stat()?) == Seen::of(&before) && stamp::settled(&before, began);
            self.known = left_alone.then(|| Seen::of(&before));
        }
        if self.holds == Holds::Copying {
            self.holds = Holds::Nothing;
        }
        Ok(())
    }
}

/// A chunk's mismatch as what it is here.
fn told(error: Error, path: &Path) -> Error {
    match (error.kind(), error.offset(), error.expected(), error.found()) {
        (Kind::Corrupt, Some(offset), Some(expected), Some(found)) => {
            edited().in_file(path).at(offset).mismatch(expected, found)
        }
        _ => error,
    }
}

fn edited() -> Error {
    Error::new(Kind::Corrupt, "the file was edited in place while it was in use").remedy(
        "nothing computed since is given away; put a new snapshot in its place by a rename (`mv`, not `cp`) and start \
         again",
    )
}
