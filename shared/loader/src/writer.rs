//! Writes snapshots: streaming, in plan order, visible only when complete.
//!
//! Data goes through a buffer of one chunk; each full chunk is hashed twice and written at its final offset. The
//! manifest's place was reserved when the plan was laid out, so it is written last, with the hashes in it, followed by
//! the two superblocks. Until then the file has no valid superblock and no final name: a crash at any point leaves
//! either nothing or a hidden temporary file, never a snapshot that looks whole.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, shown};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::format::superblock::{self, Superblock};
use crate::format::{CHUNK, PAGE};
use crate::hash::ChunkHash;
use crate::plan::Plan;
use crate::root::Root;
use crate::temporary::{Temporary, sync_dir};
use crate::verify::stamp;

/// Writes one snapshot; dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct SnapshotWriter {
    path: PathBuf,
    file: File,
    temporary: Temporary,
    manifest: Manifest,
    /// The tensor to be written next.
    tensor: usize,
    /// The chunk being filled; all before it are hashed and written.
    chunk: usize,
    buffer: Vec<u8>,
}

impl SnapshotWriter {
    /// Checks the plan and begins a snapshot that will be at `path` (customarily `*.snap`).
    ///
    /// Fails with [`Kind::Invalid`] if the plan contradicts itself, and with the operating system's reason if
    /// nothing can be created beside `path`.
    pub fn create(path: &Path, plan: Plan) -> Result<Self, Error> {
        Self::with_chunk_size(path, plan, CHUNK)
    }

    pub(crate) fn with_chunk_size(path: &Path, plan: Plan, chunk_size: u32) -> Result<Self, Error> {
        let manifest = plan.lay_out(chunk_size).map_err(|error| error.in_file(path))?;
        let (file, temporary) = Temporary::create(path, OpenOptions::new().write(true))
            .map_err(|e| Error::io("cannot create a file beside the snapshot", path, e))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            temporary,
            buffer: Vec::with_capacity(to_usize(chunk_size)?),
            manifest,
            tensor: 0,
            chunk: 0,
        })
    }

    /// Writes the next tensor of the plan, all of it.
    ///
    /// Fails with [`Kind::Invalid`] if it is not this tensor's turn or its length is not the planned one.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let Some(tensor) = self.manifest.tensors.get(self.tensor) else {
            return Err(self
                .invalid("a tensor too many")
                .mismatch("no further tensor", shown(name)));
        };
        if *tensor.name != *name {
            let error = self.invalid("tensors must be written in the order of the plan");
            return Err(error.mismatch(shown(&tensor.name), shown(name)));
        }
        if tensor.len != bytes.len() as u64 {
            let error =
                self.invalid(format!("tensor {} has another length than planned", shown(name)));
            return Err(error.mismatch(format_args!("{} bytes", tensor.len), bytes.len()));
        }
        let offset = tensor.offset;
        self.pad_to(offset)?;
        self.append(bytes)?;
        self.tensor += 1;
        Ok(())
    }

    /// Completes the snapshot, makes it durable, gives it its name and stamps it; returns its root.
    ///
    /// Fails with [`Kind::Invalid`] if tensors of the plan are missing. A stamp that cannot be written is no failure.
    pub fn finish(mut self) -> Result<Root, Error> {
        if let Some(missing) = self.manifest.tensors.get(self.tensor) {
            let error = self.invalid("the snapshot is not complete");
            return Err(error.mismatch(format_args!("tensor {}", shown(&missing.name)), "the end"));
        }
        self.pad_to(self.manifest.data_offset + self.manifest.data_len)?;
        self.flush_chunk()?;

        let manifest = self.manifest.encode().map_err(|error| error.in_file(&self.path))?;
        let superblock = Superblock {
            file_len: self.manifest.file_len(),
            manifest_len: manifest.len() as u64,
            root: Root::of(&manifest),
        };
        self.put(&manifest, PAGE)?;
        let block = superblock.encode();
        self.put(&block, superblock.file_len - PAGE)?;
        self.put(&block, 0)?;
        self.file
            .sync_all()
            .map_err(|e| Error::io("cannot make the snapshot durable", &self.path, e))?;
        let _ = stamp::settle(&self.file);

        let Self { path, file, temporary, .. } = self;
        let replaced = std::fs::symlink_metadata(&path).ok();
        temporary
            .rename()
            .map_err(|e| Error::io("cannot rename the finished snapshot", &path, e))?;
        sync_dir(&path)
            .map_err(|e| Error::io("cannot make the snapshot's name durable", &path, e))?;
        if let Some(stat) = replaced {
            stamp::forget(&path, None, &stat);
        }
        if let Ok(stat) = file.metadata() {
            let _ =
                stamp::write(&stamp::place(&path, None, &superblock.root), &superblock.root, &stat);
        }
        Ok(superblock.root)
    }

    fn invalid(&self, what: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, what).in_file(&self.path)
    }

    /// The file offset of the next byte to be appended.
    fn position(&self) -> u64 {
        let whole = self.chunk as u64 * u64::from(self.manifest.chunk_size);
        self.manifest.data_offset + whole + self.buffer.len() as u64
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), Error> {
        const ZEROS: [u8; superblock::LEN] = [0; superblock::LEN];
        // Alignment never asks for more than a page at once.
        while self.position() < offset {
            let step = to_usize((offset - self.position()).min(PAGE))?;
            self.append(&ZEROS[..step])?;
        }
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let chunk_size = to_usize(self.manifest.chunk_size)?;
        while !bytes.is_empty() {
            let room = chunk_size - self.buffer.len();
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            bytes = rest;
            if head.len() == chunk_size {
                self.put_chunk(head)?;
            } else {
                self.buffer.extend_from_slice(head);
                if self.buffer.len() == chunk_size {
                    self.flush_chunk()?;
                }
            }
        }
        Ok(())
    }

    fn flush_chunk(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.put_chunk(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn put_chunk(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.manifest.chunk_range(self.chunk).start;
        self.put(bytes, offset)?;
        if let Some(hash) = self.manifest.chunks.get_mut(self.chunk) {
            *hash = ChunkHash::of(bytes);
        }
        self.chunk += 1;
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io("cannot write the snapshot", &self.path, e).at(offset))
    }
}
