//! Snapshots kept on this host: a directory, by the names of their contents.
//!
//! ```text
//! <root>.snap       a complete snapshot, immutable
//! <root>.ok         the stamp of one that was verified (verify/stamp.rs); its own time tells the last use
//! <root>.partial    one that is being downloaded, or whose download was killed
//! <root>.state      the board of that download (board.rs); the process that holds its lock downloads
//! .<name>.<n>.tmp   a file that is being written, or whose process was killed (temporary.rs)
//! ```
//!
//! Packed copies of portable snapshots and of models of the hub lie there too, as `*.snap` under names of their own; which
//! stamp is theirs is told by the stamp. A file by any other name is not the cache's, and is left alone (own.rs).
//!
//! Every process that uses a snapshot holds a shared lock (`flock`) on its file; locks end with the process however it
//! ends. [`Cache::collect`] removes, least recently used first, only files of which it gets the exclusive lock, so a
//! snapshot in use is never removed, and a partial only if no process downloads it.

mod entry;
mod own;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Kind};
use crate::root::Root;
use crate::temporary;
use crate::verify::stamp;

pub(crate) use own::names_a_root;
use own::{Own, own};

pub(crate) use entry::{Download, Role, memory, recheck, write_frame};

/// Where downloads and packed copies go when nothing is said: `$XDG_CACHE_HOME/defrost`, `~/.cache/defrost`, or the
/// temporary directory.
pub fn default_cache() -> PathBuf {
    let home = |name: &str, below: &str| {
        std::env::var_os(name).filter(|dir| !dir.is_empty()).map(|dir| Path::new(&dir).join(below))
    };
    home("XDG_CACHE_HOME", "defrost")
        .or_else(|| home("HOME", ".cache/defrost"))
        .unwrap_or_else(|| std::env::temp_dir().join("defrost"))
}

/// A directory of snapshots.
///
/// ```
/// use defrost_loader::Cache;
///
/// let dir = tempfile::tempdir().unwrap();
/// let cache = Cache::new(dir.path(), Some(10_000_000_000));
/// assert!(cache.list()?.is_empty());
/// assert_eq!(cache.collect(0)?.bytes, 0);
/// # Ok::<(), defrost_loader::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    max_bytes: Option<u64>,
}

/// One file of a cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cached {
    /// The path of the file.
    pub path: PathBuf,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// The time at which the file was last opened from the cache, or written.
    pub last_used: SystemTime,
    /// A process has it open, or is downloading it.
    pub in_use: bool,
    /// A snapshot; else what a killed download left.
    pub complete: bool,
}

/// What [`Cache::collect`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Collected {
    /// The paths of the files that were removed.
    pub removed: Vec<PathBuf>,
    /// The bytes that their removal freed.
    pub freed: u64,
    /// The bytes that are left.
    pub bytes: u64,
    /// Why files stayed that should have gone.
    pub failed: Vec<Error>,
}

impl Cache {
    /// A cache in this directory, which is made when it is first needed. With `max_bytes`, other snapshots are removed
    /// before one is downloaded, so that all together take no more.
    pub fn new(dir: impl Into<PathBuf>, max_bytes: Option<u64>) -> Self {
        Self { dir: dir.into(), max_bytes }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a snapshot of this root is, or would be.
    pub fn path_of(&self, root: Root) -> PathBuf {
        self.file(root, "snap")
    }

    fn file(&self, root: Root, extension: &str) -> PathBuf {
        self.dir.join(format!("{root}.{extension}"))
    }

    /// Notes that a snapshot is used now.
    pub(crate) fn touch(&self, root: Root) {
        // Without a stamp the snapshot's own age counts; that only makes it go earlier.
        let stamp = File::options().write(true).open(self.file(root, "ok"));
        let _ = stamp.and_then(|stamp| stamp.set_modified(SystemTime::now()));
    }

    /// All snapshots and unfinished downloads of the cache's own, least recently used first. Other files are no part of it. A
    /// directory that does not exist is empty.
    pub fn list(&self) -> Result<Vec<Cached>, Error> {
        let failed = |error| Error::io("cannot list the cache", &self.dir, error);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let Some(own) = own(&path) else { continue };
            let complete = own == Own::Snapshot;
            // Gone since it was listed.
            let Ok(stat) = fs::metadata(&path) else { continue };
            let written = stat.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let used = fs::metadata(path.with_extension("ok")).and_then(|stamp| stamp.modified());
            let lock = if complete { path.clone() } else { path.with_extension("state") };
            found.push(Cached {
                bytes: occupied(&stat),
                last_used: used.map_or(written, |used| used.max(written)),
                in_use: matches!(Lock::of(&lock), Lock::Busy | Lock::Unknown(_)),
                complete,
                path,
            });
        }
        found.sort_by_key(|cached| cached.last_used);
        Ok(found)
    }

    /// Removes least recently used files until all together take at most `max_bytes`; never one that is in use.
    ///
    /// What killed processes left goes first: downloads, temporary files, stamps and boards without their snapshot. A file
    /// that cannot be removed does not keep others from being removed; [`Collected::failed`] tells.
    pub fn collect(&self, max_bytes: u64) -> Result<Collected, Error> {
        self.shrink(max_bytes, true)
    }

    fn shrink(&self, max_bytes: u64, with_stamps: bool) -> Result<Collected, Error> {
        let mut found = self.list()?;
        let mut left_over = leftovers(&self.dir, &found, with_stamps);
        found.sort_by_key(|cached| (cached.complete, cached.last_used));
        let occupied = found.iter().chain(&left_over).map(|cached| cached.bytes).sum();
        let mut done = Collected { bytes: occupied, ..Collected::default() };
        left_over.extend(found);
        for cached in left_over {
            if done.bytes <= max_bytes {
                break;
            }
            self.discard(&cached, &mut done);
        }
        Ok(done)
    }

    /// Removes one file, with its stamp or board, if no process uses it.
    fn discard(&self, cached: &Cached, done: &mut Collected) {
        let failed = |path: &Path, error| Error::io("cannot remove it from the cache", path, error);
        let board = cached.path.with_extension("state");
        let is_partial = cached.path.extension() == Some("partial".as_ref());
        let held = Lock::of(if is_partial { &board } else { &cached.path });
        match held {
            Lock::Busy => return,
            Lock::Unknown(error) => {
                done.failed.push(failed(&cached.path, error));
                return;
            }
            Lock::Held { .. } | Lock::Absent => {}
        }
        let stat = fs::symlink_metadata(&cached.path);
        match fs::remove_file(&cached.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                done.failed.push(failed(&cached.path, error));
                return;
            }
            _ => {}
        }
        done.freed += cached.bytes;
        done.bytes -= cached.bytes;
        done.removed.push(cached.path.clone());
        if cached.complete
            && let Ok(stat) = stat
        {
            stamp::forget(&cached.path, Some(&self.dir), &stat);
        }
        let beside = if is_partial { board } else { cached.path.with_extension("ok") };
        if cached.complete || is_partial {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    done.failed.push(failed(&beside, error));
                }
                _ => {}
            }
        }
    }

    /// Makes room for a snapshot of so many bytes. Fails with [`Kind::Invalid`] if it can never fit, or does not
    /// because of what is in use.
    fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let Some(max_bytes) = self.max_bytes else { return Ok(()) };
        let left = max_bytes.checked_sub(bytes).map(|most| (most, self.shrink(most, false)));
        match left {
            Some((_, Err(error))) => Err(error),
            Some((most, Ok(done))) if done.bytes <= most => Ok(()),
            Some((_, Ok(Collected { failed, .. }))) if !failed.is_empty() => Err(failed[0].clone()),
            _ => Err(Error::new(Kind::Invalid, "the cache is too small")
                .in_file(&self.dir)
                .mismatch(
                    format_args!("room for {bytes} bytes"),
                    format_args!("a limit of {max_bytes}"),
                )
                .remedy("raise CACHE_MAX_BYTES")),
        }
    }
}

/// A temporary file untouched for so long has no process: writing the largest snapshot takes minutes.
const ABANDONED: Duration = Duration::from_hours(24);

/// The files that no process has a use for: boards without a download, temporary files of killed processes, and stamps
/// of files that are not in the cache. Such stamps may be about files elsewhere, which are then hashed once more; that
/// is for `gc` to decide, which empties the cache, and not for a download that needs room.
fn leftovers(dir: &Path, found: &[Cached], with_stamps: bool) -> Vec<Cached> {
    let paths = || fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    // Snapshots that are not the cache's count too: their stamps stay with them.
    let subjects: Vec<(u64, u64)> = paths()
        .filter(|path| path.extension() == Some("snap".as_ref()))
        .filter_map(|path| fs::metadata(path).ok())
        .map(|stat| (stat.dev(), stat.ino()))
        .collect();
    let has = |path: &Path, extension| {
        let path = path.with_extension(extension);
        found.iter().any(|cached| cached.path == path)
    };
    let mut left = Vec::new();
    for path in paths() {
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if !stat.is_file() {
            continue;
        }
        let last_used = stat.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let is_left = match path.extension().and_then(|extension| extension.to_str()) {
            Some("ok") => {
                with_stamps
                    && stamp::subject(&path).is_some_and(|subject| !subjects.contains(&subject))
                    && !has(&path, "snap")
            }
            Some("state") => {
                let name = path.file_stem().and_then(|name| name.to_str());
                name.is_some_and(|name| name.parse::<Root>().is_ok()) && !has(&path, "partial")
            }
            Some("tmp") => {
                let age = SystemTime::now().duration_since(last_used).unwrap_or_default();
                temporary::is_own(&path) && age >= ABANDONED
            }
            _ => false,
        };
        if is_left && !matches!(Lock::of(&path), Lock::Busy) {
            left.push(Cached {
                bytes: occupied(&stat),
                last_used,
                in_use: false,
                complete: false,
                path,
            });
        }
    }
    left.sort_by_key(|cached| cached.last_used);
    left
}

/// Blocks a file has on the disk; a partial is sparse where it has not been reserved.
fn occupied(stat: &fs::Metadata) -> u64 {
    stat.blocks() * 512
}

/// The exclusive lock of a file, if it can be had.
enum Lock {
    /// No process uses the file while this lock is held.
    Held { _file: File },
    /// There is no such file to use.
    Absent,
    /// A process uses the file.
    Busy,
    /// The file cannot be opened, so there is no telling whether a process uses it.
    Unknown(io::Error),
}

impl Lock {
    fn of(path: &Path) -> Self {
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            // To open a pipe is to wait for its writer.
            return Self::Unknown(io::Error::other("it is a pipe, a socket or a device"));
        }
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Unknown(error),
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => Self::Busy,
                // A file system without locks is no place for several processes anyway.
                _ => Self::Held { _file: file },
            },
        }
    }
}
