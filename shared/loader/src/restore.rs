//! From a location to a snapshot: opened where it lies, or downloaded into the cache while it is already in use.
//!
//! ```text
//! path ------------------------------------------------> Snapshot::open
//! s3://bucket/key -> superblock -> root -> cache has it -> Snapshot::open
//!                                   |-> no process yet  -> lead: manifest, then a thread that fetches the chunks
//!                                   `-> another process -> follow: its file, its board; take over if it dies
//! ```
//!
//! In the last two cases the snapshot is returned as soon as its manifest is known; its chunks arrive while the caller
//! builds the model, and [`Snapshot::wait`] holds it back where it is ahead of them. An object whose name is its root
//! (`<root>.snap`, what `push` makes) needs no request at all when the cache has it.
//!
//! The thread that fetches has its own runtime, which ends with the download: a restored process has no open connection.

mod remote;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::runtime::Runtime;

use crate::cache::Cache;
use crate::error::{Error, Kind};
use crate::fetch::FetchOptions;
use crate::location::{Location, advice};
use crate::snapshot::{OpenOptions, Snapshot};
use crate::source::StoreOptions;
use crate::threads::{self, ThreadsWanted};

use remote::Remote;

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The options with which files are opened.
    pub open: OpenOptions,
    /// The cache that downloads go to; they stay in memory if `None`.
    pub cache: Option<Cache>,
    /// The options of downloads.
    pub fetch: FetchOptions,
    /// The options with which object stores are reached.
    pub store: StoreOptions,
}

impl RestoreOptions {
    /// Options without a cache, with the defaults of everything but `open`.
    pub fn new(open: OpenOptions) -> Self {
        Self { open, cache: None, fetch: FetchOptions::default(), store: StoreOptions::default() }
    }
}

/// Restores the snapshot at a location.
///
/// Blocks until it can be used: a local one is opened as [`Snapshot::open`] says, a remote one until its manifest is
/// there. Must not be called on a thread of an asynchronous runtime.
///
/// Fails as [`Snapshot::open`] does; for a remote one also with [`Kind::NotFound`], [`Kind::Denied`],
/// [`Kind::Throttled`], [`Kind::Unavailable`], [`Kind::Changed`] or [`Kind::Timeout`], which name the object, the range
/// and the cause. The same errors come from [`Snapshot::wait`] if they happen later.
pub fn restore(location: &Location, options: &RestoreOptions) -> Result<Snapshot, Error> {
    match location {
        Location::Path(path) => Snapshot::open(&find(path)?, &options.open),
        Location::S3 { .. } | Location::Hub { .. } => {
            let remote = Remote { location: location.clone(), options: options.clone() };
            // An object that is replaced between the first two requests is read once more from the start.
            match remote.restore() {
                Err(error) if error.kind() == Kind::Changed => remote.restore(),
                restored => restored,
            }
        }
    }
}

/// The snapshot that a path means: a file, or the only one in a directory.
fn find(path: &Path) -> Result<PathBuf, Error> {
    let Ok(entries) = fs::read_dir(path) else {
        return Ok(path.to_owned());
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
        .collect();
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        found => {
            let error = not_one(found.len()).in_file(path);
            Err(match advice(path).filter(|_| found.is_empty()) {
                Some(advice) => error.remedy(advice),
                None => error,
            })
        }
    }
}

fn not_one(found: usize) -> Error {
    let kind = if found == 0 { Kind::NotFound } else { Kind::Invalid };
    Error::new(kind, "not the place of one snapshot")
        .mismatch("one .snap file", format_args!("{found} of them"))
        .remedy("name the file")
}

/// Names are looked up on threads that may block; two at a time are enough for one store.
const LOOKUPS: usize = 2;

/// The runtime of one download. Two threads receive and hash at the speed of memory; more only take processors from
/// the model.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    // The thread that sees to the download.
    let others = 1;
    let wanted = ThreadsWanted { name: "defrost-fetch", workers, blocking: LOOKUPS, others };
    threads::runtime(wanted).map_err(|error| {
        Error::new(Kind::Io, format!("cannot start the download's threads: {error}"))
    })
}
