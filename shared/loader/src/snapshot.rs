//! An open snapshot: mapped, checked, its tensors handed out without copying.

mod options;
mod place;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use crate::board::Board;
use crate::dtype::Dtype;
use crate::error::{Error, Kind, shown};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::image::Image;
use crate::map::Mapping;
use crate::reading::{self, Choice, Reader};
use crate::root::Root;
use crate::verify::gate::{Feed, Gate};
use crate::verify::watch::Watch;
use crate::verify::{Verification, VerifyMode, stamp};

pub(crate) use options::check_kernels;
pub use options::{OpenOptions, Reading};
pub use place::Place;

/// An open snapshot; clones share it. The file stays mapped while a clone or any [`Tensor`] of it lives.
#[derive(Debug, Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    root: Root,
    file_len: u64,
    manifest: Arc<Manifest>,
    numbers: HashMap<Arc<str>, usize>,
    file: Bytes,
    mapping: Mapping,
    gate: Arc<Gate>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// `None` once no file is needed.
    in_use: Mutex<Option<Watch>>,
    origin: String,
    /// Why a download that brought every byte could not be kept in the cache.
    outcome: Arc<Mutex<Option<Error>>>,
    requested: VerifyMode,
    used: VerifyMode,
}

/// A tensor; the bytes of a snapshot's are a view of the mapped file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The name of the tensor.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// The arrangement of the elements.
    pub layout: String,
    /// Logical dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, little endian; starts on a multiple of 64 bytes in memory, from 64 KiB on of 4096.
    pub bytes: Bytes,
    /// The place of the bytes in the snapshot; the default for a tensor of no snapshot.
    pub place: Place,
}

impl Tensor {
    /// One in memory of its own.
    pub fn in_memory(
        name: &str,
        dtype: Dtype,
        layout: &str,
        shape: Vec<usize>,
        bytes: Bytes,
    ) -> Self {
        let (name, layout) = (name.to_owned(), layout.to_owned());
        let place = Place { len: bytes.len() as u64, ..Place::default() };
        Self { name, dtype, layout, shape, bytes, place }
    }
}

impl Snapshot {
    /// Opens, checks and maps a snapshot.
    ///
    /// Superblocks, lengths and manifest are checked in every mode; the data as `options.verify` says. Fails with
    /// [`Kind::WrongIsa`] or [`Kind::Unsupported`] if the weights are packed for other kernels.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let began = SystemTime::now();
        let image = Image::open(path)?;
        check_kernels(&image.manifest, options).map_err(|error| error.in_file(path))?;
        share(&image.file);
        let place = stamp::place(path, options.stamp_dir.as_deref(), &image.root);
        let trusted = options.verify == VerifyMode::Stamped
            && stamp::matches(&place, &image.root, &image.stat);
        let (mapping, feed, origin) = bring(&image, path, options.reading)?;
        let Image { file, stat, root, manifest } = image;
        let manifest = Arc::new(manifest);
        let board = Board::private(manifest.chunks.len())
            .map_err(|e| Error::io("cannot get memory for the snapshot", path, e))?;
        let mapped = matches!(feed, Feed::Check);
        let gate = Arc::new(Gate::new(
            Arc::clone(&manifest),
            mapping.clone(),
            path.to_path_buf(),
            Arc::new(board),
            feed,
            trusted,
        ));
        let threads = options.threads.max(1);
        let (used, threads) = match options.verify {
            VerifyMode::OnTheFly => (VerifyMode::OnTheFly, gate.start(threads)),
            _ if trusted && mapped => (VerifyMode::Stamped, gate.trust()),
            _ if trusted => (VerifyMode::Stamped, gate.start(threads)),
            VerifyMode::Eager | VerifyMode::Stamped => {
                gate.run_all(threads)?;
                // Without a stamp the next start hashes again; a read-only volume must not fail a good restore.
                if options.verify == VerifyMode::Stamped && stamp::settled(&stat, began) {
                    let _ = stamp::write(&place, &root, &stat);
                }
                (VerifyMode::Eager, Vec::new())
            }
        };
        let watch = Watch::of(file, &stat, began, mapped);
        let parts = Parts { path: path.to_path_buf(), root, manifest, mapping, gate, origin };
        Ok(Self::assemble(parts, watch, threads, Arc::default(), options.verify, used))
    }

    /// A snapshot that is still being fetched into `file`, which `parts.mapping` maps.
    pub(crate) fn growing(
        parts: Parts,
        file: File,
        threads: Vec<JoinHandle<()>>,
        outcome: Arc<Mutex<Option<Error>>>,
        requested: VerifyMode,
    ) -> Self {
        let watch = Watch::growing(file);
        Self::assemble(parts, watch, threads, outcome, requested, VerifyMode::OnTheFly)
    }

    fn assemble(
        parts: Parts,
        watch: Watch,
        threads: Vec<JoinHandle<()>>,
        outcome: Arc<Mutex<Option<Error>>>,
        requested: VerifyMode,
        used: VerifyMode,
    ) -> Self {
        let Parts { path, root, manifest, mapping, gate, origin } = parts;
        let numbers =
            manifest.tensors.iter().enumerate().map(|(i, t)| (Arc::clone(&t.name), i)).collect();
        let inner = Inner {
            path,
            root,
            file_len: manifest.file_len(),
            manifest,
            numbers,
            file: mapping.bytes(),
            mapping,
            gate,
            threads: Mutex::new(threads),
            in_use: Mutex::new(Some(watch)),
            origin,
            outcome,
            requested,
            used,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name of the content.
    pub fn root(&self) -> Root {
        self.inner.root
    }

    /// The path it was opened at.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.inner.file_len
    }

    /// The table of contents.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The instruction set the weights are packed for.
    pub fn isa(&self) -> &str {
        &self.inner.manifest.isa
    }

    /// A fact about the model.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.inner.manifest.meta.get(key).map(|value| &**value)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.inner.numbers.contains_key(name)
    }

    /// Where it came from and how it is held, in words for the log.
    pub fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// A tensor, once every chunk that holds it is known to be good.
    ///
    /// Waits for that in [`VerifyMode::OnTheFly`] and while the snapshot is being fetched. Fails with [`Kind::NotFound`] if there is no such tensor, and with
    /// [`Kind::Corrupt`] if any chunk of the snapshot is known to be bad.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let tensor = self.peek(name)?;
        self.wait(tensor.place)?;
        Ok(tensor)
    }

    /// A tensor whose bytes must not be looked at before [`wait`](Self::wait) has returned for them.
    ///
    /// This is how a model is built over a snapshot that is still being fetched: views of everything at once, and a
    /// wait for each layer's when its turn comes. Fails with [`Kind::NotFound`] if there is no such tensor.
    pub fn peek(&self, name: &str) -> Result<Tensor, Error> {
        let inner = &*self.inner;
        let entry =
            inner.numbers.get(name).and_then(|&i| inner.manifest.tensors.get(i)).ok_or_else(
                || {
                    Error::new(Kind::NotFound, "no such tensor")
                        .in_file(&inner.path)
                        .mismatch(
                            shown(name),
                            format_args!("{} tensors of other names", inner.numbers.len()),
                        )
                        .remedy("`defrost inspect` lists them")
                },
            )?;
        let start = to_usize(entry.offset)?;
        Ok(Tensor {
            name: entry.name.to_string(),
            dtype: entry.dtype,
            layout: entry.layout.to_string(),
            shape: entry.shape.clone(),
            bytes: inner.file.slice(start..start + to_usize(entry.len)?),
            place: Place { of: self.root().short(), offset: entry.offset, len: entry.len },
        })
    }

    /// Returns when the bytes at this place are known to be good.
    ///
    /// Fails with [`Kind::Corrupt`], [`Kind::Truncated`] or what kept them from being fetched; with [`Kind::Invalid`]
    /// if the place is not one of this snapshot.
    pub fn wait(&self, place: Place) -> Result<(), Error> {
        self.check(place)?;
        self.inner.gate.pass(place.offset, place.len)
    }

    /// Says that the bytes at this place will be waited for soon, so that they are fetched before others.
    pub fn want(&self, place: Place) {
        if self.check(place).is_ok() {
            self.inner.gate.want(place.offset, place.len);
        }
    }

    /// Fails if bytes that were read since the last wait may not have been the snapshot's: the file was shortened or
    /// edited in place, or a chunk turned out to be bad. To be asked before an answer computed from them is given away.
    pub fn intact(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        inner.gate.intact()?;
        let mut in_use = inner.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = in_use.as_mut() else { return Ok(()) };
        watch
            .look((&inner.path, inner.file_len), self.is_left_alone(), || inner.gate.check_again())
            .inspect_err(|error| inner.gate.fail(error.clone()))
    }

    /// Whether all bytes are here and no thread of ours reads or writes the file any more.
    fn is_left_alone(&self) -> bool {
        let threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.gate.progress().2 && threads.iter().all(JoinHandle::is_finished)
    }

    fn check(&self, place: Place) -> Result<(), Error> {
        if place.of == self.root().short() {
            return Ok(());
        }
        Err(Error::new(Kind::Invalid, "a place in another snapshot").in_file(&self.inner.path))
    }

    /// Returns when every byte is known to be good, or fails as [`tensor`](Self::tensor) does.
    pub fn wait_verified(&self) -> Result<(), Error> {
        self.inner.gate.pass_all()
    }

    /// Returns when every byte is known to be good and, for a snapshot that is being fetched into a cache, the cache
    /// has it under its final name. Fails also with what kept it out of the cache; the snapshot can be used all the same.
    pub fn wait_complete(&self) -> Result<(), Error> {
        self.wait_verified()?;
        self.join();
        self.intact()?;
        let outcome = self.inner.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone().map_or(Ok(()), Err)
    }

    /// Waits for more chunks, half a second at most; true when every byte is known to be good. For showing progress.
    pub(crate) fn wait_briefly(&self) -> Result<bool, Error> {
        self.inner.gate.wait_briefly()
    }

    /// Bytes of data that are known to be good by now, and in all; counts what a stamp vouches for.
    pub fn progress(&self) -> (u64, u64) {
        self.inner.gate.good_bytes()
    }

    /// Makes the snapshot independent of files: when every byte is good, it is held in private memory at the same
    /// addresses, and no file, lock or thread of it is left. For platforms that freeze the memory of a process and
    /// thaw it where the files are others.
    ///
    /// Costs a copy of the snapshot's size. Fails as [`wait_verified`](Self::wait_verified), and with [`Kind::Io`] if
    /// there is not enough memory.
    pub fn detach(&self) -> Result<(), Error> {
        self.wait_verified()?;
        self.join();
        let inner = &*self.inner;
        inner.mapping.detach().map_err(|e| {
            Error::io("cannot hold the snapshot in memory of its own", &inner.path, e)
        })?;
        self.intact()?;
        inner.in_use.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    fn join(&self) {
        let mut threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic in it would already have shown as a missing chunk.
            let _ = thread.join();
        }
    }

    /// What has been done to check the data.
    pub fn verification(&self) -> Verification {
        let (bytes, duration, complete) = self.inner.gate.progress();
        Verification {
            requested: self.inner.requested,
            mode: self.inner.used,
            duration,
            bytes,
            complete,
        }
    }
}

/// When the last clone is gone, no thread of ours touches the file any more.
impl Drop for Inner {
    fn drop(&mut self) {
        self.gate.cancel();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // It ends after the chunk it is at; a panic in it would already have shown as a missing chunk.
            let _ = thread.join();
        }
    }
}

/// Marks a file as in use. The exclusive lock that stands in the way is held by `Cache` for a moment, while it looks or
/// removes; where locks are not supported there is no cache of ours that would remove the file.
fn share(file: &File) {
    for _ in 0..50 {
        match flock(file, FlockOperation::NonBlockingLockShared) {
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            _ => return,
        }
    }
}

/// What a snapshot is made of.
pub(crate) struct Parts {
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) mapping: Mapping,
    pub(crate) gate: Arc<Gate>,
    pub(crate) origin: String,
}

/// Maps the file, or prepares memory to copy it into.
fn bring(image: &Image, path: &Path, reading: Reading) -> Result<(Mapping, Feed, String), Error> {
    let mapping = image.map(path)?;
    let choice = match reading {
        Reading::Map => Choice::Map,
        Reading::Copy => Choice::Copy("asked for".to_owned()),
        Reading::Probe => {
            let data = to_usize(image.manifest.data_offset)?;
            let end = data + to_usize(image.manifest.data_len)?;
            reading::choose(&image.file, &mapping, data..end)
        }
    };
    let Choice::Copy(why) = choice else {
        return Ok((mapping, Feed::Check, "mapped".to_owned()));
    };
    let memory = Mapping::memory(to_usize(image.manifest.file_len())?)
        .map_err(|e| Error::io("cannot get memory for a copy of the snapshot", path, e))?;
    let file =
        image.file.try_clone().map_err(|e| Error::io("cannot open the snapshot", path, e))?;
    Ok((memory, Feed::Read(Reader::new(file, path)), format!("copied into memory ({why})")))
}

/// Reads the root and table of contents of a snapshot for any machine; checks structure, not data.
pub fn inspect(path: &Path) -> Result<(Root, Manifest), Error> {
    Image::open(path).map(|image| (image.root, image.manifest))
}
