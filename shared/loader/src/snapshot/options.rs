//! How a snapshot is opened, and whether this build can read it.

use std::path::PathBuf;

use crate::error::{Error, Kind, shown};
use crate::format::manifest::Manifest;
use crate::verify::VerifyMode;

/// How to open a snapshot.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The moment at which the bytes are hashed.
    pub verify: VerifyMode,
    /// The directory of stamps; they lie beside the snapshot if `None`.
    pub stamp_dir: Option<PathBuf>,
    /// The instruction sets this machine and build can run; a snapshot packed for another one is refused.
    pub isa_accepted: Vec<String>,
    /// The version of the packed layouts this build reads.
    pub layout_abi: u32,
    /// Threads that hash and read, at least 1.
    pub threads: usize,
    /// The way in which the file is read.
    pub reading: Reading,
}

/// How the bytes of a local file come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// Mapped where the file system is good at that, else copied; found out by asking and trying it.
    #[default]
    Probe,
    /// Mapped: shared with the page cache and with other processes.
    Map,
    /// Copied into private memory, past the page cache where possible.
    Copy,
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
            reading: Reading::default(),
        }
    }
}

/// Refuses weights that other kernels read.
pub(crate) fn check_kernels(manifest: &Manifest, options: &OpenOptions) -> Result<(), Error> {
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
