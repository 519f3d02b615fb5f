//! An open snapshot: mapped, checked, its tensors handed out without copying.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;

use crate::dtype::Dtype;
use crate::error::{Error, Kind, shown};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::image::Image;
use crate::root::Root;
use crate::verify::gate::Gate;
use crate::verify::{Verification, VerifyMode, stamp};

/// How to open a snapshot.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// When the bytes are hashed.
    pub verify: VerifyMode,
    /// Where stamps lie; beside the snapshot if `None`.
    pub stamp_dir: Option<PathBuf>,
    /// The instruction sets this machine and build can run; a snapshot packed for another one is refused.
    pub isa_accepted: Vec<String>,
    /// The version of the packed layouts this build reads.
    pub layout_abi: u32,
    /// Threads that hash, at least 1.
    pub threads: usize,
}

impl OpenOptions {
    /// The default way to open (stamped, one thread per core) on a machine that runs these instruction sets.
    pub fn new(isa_accepted: impl IntoIterator<Item = impl Into<String>>, layout_abi: u32) -> Self {
        Self {
            verify: VerifyMode::default(),
            stamp_dir: None,
            isa_accepted: isa_accepted.into_iter().map(Into::into).collect(),
            layout_abi,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

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
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    requested: VerifyMode,
    used: VerifyMode,
}

/// A tensor of a snapshot; the bytes are a view of the mapped file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// How the elements are arranged.
    pub layout: String,
    /// Logical dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, little endian; starts on a multiple of 64 bytes in memory, from 64 KiB on of 4096.
    pub bytes: Bytes,
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
        let mapping = image.map(path)?;
        let Image { file, stat, root, manifest } = image;
        let manifest = Arc::new(manifest);
        let gate = Arc::new(Gate::new(Arc::clone(&manifest), mapping.clone(), path.to_path_buf()));
        let threads = options.threads.max(1);
        let (used, threads) = match options.verify {
            VerifyMode::OnTheFly => (VerifyMode::OnTheFly, gate.start(threads)),
            VerifyMode::Eager => {
                gate.run_all(threads)?;
                (VerifyMode::Eager, Vec::new())
            }
            VerifyMode::Stamped => {
                let place = stamp::place(path, options.stamp_dir.as_deref(), &root);
                if stamp::matches(&place, &root, &stat) {
                    (VerifyMode::Stamped, gate.trust())
                } else {
                    gate.run_all(threads)?;
                    // Without a stamp the next start hashes again; a read-only volume must not fail a good restore.
                    if stamp::settled(&stat, began) {
                        let _ = stamp::write(&place, &root, &stat);
                    }
                    (VerifyMode::Eager, Vec::new())
                }
            }
        };
        drop(file);
        let numbers =
            manifest.tensors.iter().enumerate().map(|(i, t)| (Arc::clone(&t.name), i)).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_path_buf(),
                root,
                file_len: stat.len(),
                manifest,
                numbers,
                file: mapping.bytes(),
                gate,
                threads,
                requested: options.verify,
                used,
            }),
        })
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

    /// A tensor, once every chunk that holds it is known to be good.
    ///
    /// Waits for that in [`VerifyMode::OnTheFly`]. Fails with [`Kind::NotFound`] if there is no such tensor, and with
    /// [`Kind::Corrupt`] if any chunk of the snapshot is known to be bad.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Error> {
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
        inner.gate.pass(entry.offset, entry.len)?;
        let start = to_usize(entry.offset)?;
        Ok(Tensor {
            name: entry.name.to_string(),
            dtype: entry.dtype,
            layout: entry.layout.to_string(),
            shape: entry.shape.clone(),
            bytes: inner.file.slice(start..start + to_usize(entry.len)?),
        })
    }

    /// Returns when every byte is known to be good, or fails as [`tensor`](Self::tensor) does.
    pub fn wait_verified(&self) -> Result<(), Error> {
        self.inner.gate.pass_all()
    }

    /// Makes the mapped weights independent of their file, for a memory snapshot of the process.
    ///
    /// STAND-IN: only waits until every byte is known to be good.
    pub fn detach(&self) -> Result<(), Error> {
        self.wait_verified()
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
        for thread in self.threads.drain(..) {
            // It ends after the chunk it is at; a panic in it would already have shown as a missing chunk.
            let _ = thread.join();
        }
    }
}

/// Reads the root and table of contents of a snapshot for any machine; checks structure, not data.
pub fn inspect(path: &Path) -> Result<(Root, Manifest), Error> {
    Image::open(path).map(|image| (image.root, image.manifest))
}

fn check_kernels(manifest: &Manifest, options: &OpenOptions) -> Result<(), Error> {
    if !options.isa_accepted.iter().any(|isa| **isa == *manifest.isa) {
        let accepted = options.isa_accepted.join(", ");
        return Err(Error::new(
            Kind::WrongIsa,
            "the weights are packed for another instruction set",
        )
        .mismatch(format_args!("one of [{accepted}]"), shown(&manifest.isa))
        .remedy("pack the model again with `defrost pack --isa <one of these>`"));
    }
    if manifest.layout_abi != options.layout_abi {
        return Err(Error::new(
            Kind::Unsupported,
            "the weights are packed in another version of the layout",
        )
        .mismatch(options.layout_abi, manifest.layout_abi)
        .remedy("pack the model again with this version of `defrost pack`"));
    }
    Ok(())
}
