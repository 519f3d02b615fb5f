//! A snapshot file whose structure has been checked: superblocks, lengths, manifest, padding. Not yet its data.
//!
//! This much is read and checked whenever a snapshot is touched, in every mode; it costs three small reads and the
//! hash of the manifest (0.1 MB for a 0.5-billion-parameter model). It is read into memory rather than looked at
//! through the mapping, so that what was checked is what is used.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Kind};
use crate::format::PAGE;
use crate::format::codec::data_offset;
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::format::superblock::{self, Superblock};
use crate::location::advice;
use crate::map::Mapping;
use crate::root::Root;

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) file: File,
    /// The file's state before any of its bytes were read.
    pub(crate) stat: Metadata,
    pub(crate) root: Root,
    pub(crate) manifest: Manifest,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::read(path, OpenOptions::new().read(true)).map_err(|error| {
            let error = error.in_file(path);
            match advice(path) {
                Some(advice) => error.remedy(advice),
                None => error,
            }
        })
    }

    /// Opens the file of a download that may have to be continued.
    pub(crate) fn open_writable(path: &Path) -> Result<Self, Error> {
        Self::read(path, OpenOptions::new().read(true).write(true))
    }

    fn read(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            // To open a pipe is to wait for its writer.
            return Err(Error::new(Kind::Invalid, "cannot open the snapshot")
                .in_file(path)
                .mismatch("a regular file", "a pipe, a socket or a device"));
        }
        let file =
            options.open(path).map_err(|e| Error::io("cannot open the snapshot", path, e))?;
        let stat = file.metadata().map_err(|e| Error::io("cannot stat the snapshot", path, e))?;
        if !stat.is_file() {
            return Err(Error::new(Kind::Invalid, "not a snapshot")
                .mismatch("a regular file", "something else"));
        }
        let len = stat.len();
        if len < 2 * PAGE {
            return Err(Error::new(Kind::Truncated, "too short for a snapshot")
                .mismatch(format_args!("at least {} bytes", 2 * PAGE), len)
                .remedy("fetch or pack the snapshot again"));
        }
        let read = |buffer: &mut [u8], offset: u64| {
            file.read_exact_at(buffer, offset)
                .map_err(|e| Error::io("cannot read the snapshot", path, e).at(offset))
        };
        let mut head = [0; superblock::LEN];
        read(&mut head, 0)?;
        let superblock = Superblock::decode(&head, len)?;
        let mut tail = [0; superblock::LEN];
        read(&mut tail, len - PAGE)?;
        Superblock::check_tail(&head, &tail, len)?;

        // The superblock bounds the manifest by the file and by MAX_MANIFEST, so this allocation is bounded too.
        let data = data_offset(superblock.manifest_len, len)?;
        if data > len - PAGE {
            return Err(Error::new(Kind::Corrupt, "the manifest reaches into the last superblock")
                .mismatch(format_args!("an end up to {}", len - PAGE), data));
        }
        let mut text = vec![0; to_usize(superblock.manifest_len)?];
        read(&mut text, PAGE)?;
        let root = Root::of(&text);
        if root != superblock.root {
            return Err(Error::new(Kind::Corrupt, "the manifest's hash differs")
                .at(PAGE)
                .mismatch(superblock.root, root)
                .remedy("fetch or pack the snapshot again"));
        }
        // Of a large file up to 2 MiB, in which nothing is kept: a small buffer again and again touches no new memory.
        let mut buffer = [0; LOOKED_AT];
        let mut at = PAGE + superblock.manifest_len;
        while at < data {
            let part = &mut buffer[..to_usize((data - at).min(LOOKED_AT as u64))?];
            read(part, at)?;
            if let Some(first) = part.iter().position(|&byte| byte != 0) {
                return Err(not_zero(at + first as u64, part[first]));
            }
            at += part.len() as u64;
        }
        let manifest = Manifest::decode(&text, len)?;
        Ok(Self { file, stat, root, manifest })
    }

    /// Maps the file at the length that was checked.
    pub(crate) fn map(&self, path: &Path) -> Result<Mapping, Error> {
        let len = to_usize(self.stat.len())?;
        Mapping::of(&self.file, len).map_err(|e| Error::io("cannot map the snapshot", path, e))
    }
}

/// Bytes of padding that are looked at at a time: few enough for a stack and the nearest cache.
const LOOKED_AT: usize = 8 << 10;

/// Padding that holds anything but zeros.
pub(crate) fn not_zero(offset: u64, found: u8) -> Error {
    Error::new(Kind::Corrupt, "padding is not zero")
        .at(offset)
        .mismatch("0x00", format_args!("{found:#04x}"))
        .remedy(
            "the file was not written by `defrost pack`, or is damaged: pack the snapshot again",
        )
}
