//! One snapshot on its way into the cache: which process downloads it, and what is there already.
//!
//! The lock of `<root>.state` elects the one process that downloads; it is a lock of the kernel's, gone with its
//! process. The one that gets it looks first whether the snapshot is complete by now, then whether a killed download
//! left something: chunks that the board calls good are hashed once more and kept if they are. All others wait at the
//! board.
//!
//! The lock saves traffic; nothing depends on it for being right. Two processes that download at once write the same
//! verified bytes to the same places, and the second rename finds the work done.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, SealFlags, fallocate, flock};

use super::Cache;
use crate::board::Board;
use crate::error::Error;
use crate::format::PAGE;
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::format::superblock::Superblock;
use crate::hash::ChunkHash;
use crate::image::Image;
use crate::map::Mapping;
use crate::root::Root;
use crate::temporary::sync_dir;
use crate::verify::stamp;

/// What this process has to do about a snapshot.
#[derive(Debug)]
pub(crate) enum Role {
    /// Nothing is left to do: the cache has the snapshot.
    Done,
    /// This process downloads the snapshot.
    Lead(Download),
    /// Another process downloads the snapshot.
    Follow(Download),
}

/// The files of a download.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) root: Root,
    complete: PathBuf,
    pub(crate) partial: PathBuf,
    state_path: PathBuf,
    /// The file of the board, locked while this process leads.
    state: File,
}

impl Cache {
    /// Finds out what is to be done about a snapshot.
    pub(crate) fn role(&self, root: Root) -> io::Result<Role> {
        let complete = self.path_of(root);
        loop {
            if complete.is_file() {
                return Ok(Role::Done);
            }
            fs::create_dir_all(&self.dir)?;
            let state_path = self.file(root, "state");
            let state = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&state_path)?;
            let partial = self.file(root, "partial");
            let download =
                Download { root, complete: complete.clone(), partial, state_path, state };
            match download.try_lead() {
                Ok(false) => return Ok(Role::Follow(download)),
                Ok(true) if complete.is_file() => {
                    // Finished between the first look and the lock; the state is a new, empty file.
                    let _ = fs::remove_file(&download.state_path);
                    return Ok(Role::Done);
                }
                Ok(true) => return Ok(Role::Lead(download)),
                // The process that finished removed the file, or it was collected: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes room for the file of a download and takes over or begins it.
    pub(crate) fn prepare(&self, download: &Download, len: u64) -> Result<File, Error> {
        let failed =
            |error| Error::io("cannot keep the download in the cache", &download.partial, error);
        let there = fs::metadata(&download.partial).map_or(0, |stat| stat.len());
        if there != len {
            self.make_room(len)?;
        }
        let options =
            || File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options().open(&download.partial).map_err(failed)?;
        file.set_len(len).map_err(failed)?;
        // Reserved now, so that a full disk is found before the download and not by a fault in the middle of it.
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
            Err(error)
                if error == rustix::io::Errno::NOSPC || error == rustix::io::Errno::DQUOT =>
            {
                let _ = fs::remove_file(&download.partial);
                Err(failed(error.into()))
            }
            // Not every file system can reserve.
            _ => Ok(file),
        }
    }
}

impl Download {
    /// Takes the lock if no other process has it, and closes the board until this process publishes it. `NotFound` if
    /// the locked file is no longer the one under its name.
    pub(crate) fn try_lead(&self) -> io::Result<bool> {
        match flock(&self.state, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let (ours, named) = (self.state.metadata()?, fs::metadata(&self.state_path)?);
        if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
            self.board(0)?.withdraw();
            Ok(true)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// The board, which other processes see.
    pub(crate) fn board(&self, chunks: usize) -> io::Result<Board> {
        Board::shared(&self.state, chunks)
    }

    /// The table of contents, once a leader has published it.
    pub(crate) fn published(&self) -> Option<Image> {
        self.board(0).ok()?.is_published().then(|| self.image())?
    }

    /// The table of contents, if a download got that far before its process ended.
    pub(crate) fn image(&self) -> Option<Image> {
        let image = Image::open_writable(&self.partial).ok()?;
        let board = self.board(image.manifest.chunks.len()).ok()?;
        (image.root == self.root && board.describes(self.root, image.manifest.chunks.len()))
            .then_some(image)
    }

    /// Gives the file its name, durably, and stamps it. Other processes may have done so already.
    pub(crate) fn complete(&self, file: &File, stamp_dir: Option<&Path>) -> Result<(), Error> {
        let failed = |error| Error::io("cannot complete the download", &self.partial, error);
        file.sync_data().map_err(failed)?;
        let _ = stamp::settle(file);
        match fs::rename(&self.partial, &self.complete) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.complete.is_file() => {}
            renamed => renamed.map_err(failed)?,
        }
        sync_dir(&self.complete).map_err(failed)?;
        if let Ok(stat) = file.metadata() {
            // Without a stamp the next start hashes once more.
            let _ = stamp::write(
                &stamp::place(&self.complete, stamp_dir, &self.root),
                &self.root,
                &stat,
            );
        }
        let _ = fs::remove_file(&self.state_path);
        Ok(())
    }

    pub(crate) fn complete_path(&self) -> &Path {
        &self.complete
    }
}

/// Writes what surrounds the data: superblocks, manifest, zeros.
pub(crate) fn write_frame(file: &File, superblock: &Superblock, manifest: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let block = superblock.encode();
    file.write_all_at(manifest, PAGE)?;
    file.write_all_at(&block, superblock.file_len - PAGE)?;
    file.write_all_at(&block, 0)
}

/// Hashes again what a killed process called good, on several threads; what is not is fetched again.
pub(crate) fn recheck(board: &Arc<Board>, manifest: &Manifest, mapping: &Mapping, threads: usize) {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= board.chunks() {
                return;
            }
            if board.is_good(chunk) {
                let place = manifest.chunk_range(chunk);
                let bytes = to_usize(place.start).ok().zip(to_usize(place.end).ok());
                let bytes = bytes.and_then(|(start, end)| mapping.as_slice().get(start..end));
                if bytes.is_none_or(|bytes| ChunkHash::of(bytes) != manifest.chunks[chunk]) {
                    board.not_good(chunk);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(board.chunks()) {
            // Without helpers it merely takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

/// A file in memory, for when the cache cannot be used. It cannot shrink, so a mapping of it cannot be lost.
pub(crate) fn memory(len: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("defrost", flags)?);
    file.set_len(len)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}
