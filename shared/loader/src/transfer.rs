//! Snapshots between this machine and a source: what is there, store one, fetch one into a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{Cache, names_a_root};
use crate::error::{Error, Kind};
use crate::fetch::{self, FetchOptions};
use crate::format::superblock::MAGIC;
use crate::location::Location;
use crate::restore::{RestoreOptions, restore, runtime};
use crate::root::Root;
use crate::snapshot::{Snapshot, inspect};
use crate::source::{self, Fault, FaultKind, Listed, Request, Source, StoreOptions};
use crate::verify::full::verify;
use crate::verify::stamp;

/// What [`push`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pushed {
    /// The location of the copy, to be given as `MODEL`.
    pub url: String,
    /// The root of the snapshot.
    pub root: Root,
    /// Bytes of the file.
    pub len: u64,
    /// Whether the snapshot was there already, so that nothing was sent.
    pub already: bool,
}

/// The snapshots at a location, sorted by key: objects below a prefix, or files in a directory.
///
/// ```
/// use defrost_loader::{Location, StoreOptions, list};
///
/// let dir = tempfile::tempdir().unwrap();
/// let location: Location = dir.path().to_str().unwrap().parse()?;
/// assert_eq!(list(&location, &StoreOptions::default())?, []);
/// # Ok::<(), defrost_loader::Error>(())
/// ```
pub fn list(location: &Location, store: &StoreOptions) -> Result<Vec<Listed>, Error> {
    runtime()?.block_on(async {
        let opened = source::open(location, store).await?;
        let listed = opened.source.list(&opened.key).await;
        listed.map_err(|fault| fault.into_error("cannot be listed", &location.to_string()))
    })
}

/// Stores a snapshot: under its root if `location` is a directory or prefix, else under that name.
///
/// The file is verified first, all of it and with both hashes: what is stored is what was packed. A snapshot that is
/// there is not sent again. Another one under that name is replaced only with `replace`, which does not ask what is there.
/// `progress` gets bytes sent and in all.
///
/// Fails as [`verify`] does, with [`Kind::NotFound`], [`Kind::Denied`] or [`Kind::Unavailable`] for the store, and with
/// [`Kind::Invalid`] where another snapshot has the name.
pub fn push(
    file: &Path,
    location: &Location,
    replace: bool,
    store: &StoreOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Pushed, Error> {
    let root = verify(file, &mut |_, _| {})?;
    let len = fs::metadata(file).map_err(|e| Error::io("cannot stat the snapshot", file, e))?.len();
    runtime()?.block_on(async {
        let opened = source::open(location, store).await?;
        let own_name = location.is_snapshot();
        let key = match opened.key.as_str() {
            key if own_name => key.to_owned(),
            "" => format!("{root}.snap"),
            prefix => format!("{}/{root}.snap", prefix.trim_end_matches('/')),
        };
        let url = opened.source.url(&key);
        let already = if own_name {
            !replace && is_there(&opened.source, &key, &url, root).await?
        } else {
            let there = opened.source.list(&key).await;
            let there = there.map_err(|fault| fault.into_error("cannot be listed", &url))?;
            there.iter().any(|listed| listed.key == key && listed.len == len)
        };
        if already {
            return Ok(Pushed { url, root, len, already });
        }
        let sent = AtomicU64::new(0);
        let count = |more: u64| progress(sent.fetch_add(more, Ordering::Relaxed) + more, len);
        let stored = opened.source.put(&key, file, &count).await;
        stored.map_err(|fault| fault.into_error("cannot be stored", &url))?;
        Ok(Pushed { url, root, len, already: false })
    })
}

/// Whether the object under a name of its own is this snapshot. Fails if it is something else.
async fn is_there(
    source: &Arc<dyn Source>,
    key: &str,
    url: &str,
    root: Root,
) -> Result<bool, Error> {
    let stall = FetchOptions::default().stall;
    let found = match fetch::head(Arc::clone(source), key.to_owned(), stall).await {
        Ok((_, superblock)) if superblock.root == root => return Ok(true),
        Ok((_, superblock)) => format!("that of root {}", superblock.root),
        Err(error) => match error.kind() {
            Kind::NotFound => return Ok(false),
            Kind::Truncated | Kind::Corrupt | Kind::Unsupported | Kind::Denied => {
                format!("what cannot be read ({error})")
            }
            _ => return Err(error),
        },
    };
    Err(Error::new(Kind::Invalid, "the name is taken by another snapshot")
        .in_file(Path::new(url))
        .mismatch(format_args!("none, or that of root {root}"), found)
        .remedy("give another name, or `push --force` to replace it"))
}

/// Removes one snapshot from a source; from a directory with its stamp, there and in `stamp_dir`.
///
/// What is removed begins as snapshots do, or has a root for its name, which a damaged one keeps. Returns whether it was
/// seen to be there: a store may allow to remove what it does not let read. Fails with [`Kind::Invalid`] if `location` does
/// not name a snapshot or holds something else, and with [`Kind::NotFound`] if it is not there.
pub fn remove(
    location: &Location,
    stamp_dir: Option<&Path>,
    store: &StoreOptions,
) -> Result<bool, Error> {
    if !location.is_snapshot() {
        return Err(Error::new(Kind::Invalid, "not the name of one snapshot")
            .in_file(location.to_string())
            .mismatch("a name that ends in .snap", "a prefix or directory"));
    }
    let stat = match location {
        Location::Path(path) => fs::symlink_metadata(path).ok(),
        _ => None,
    };
    let was_seen = runtime()?.block_on(async {
        let opened = source::open(location, store).await?;
        let failed = |fault: Fault| match fault.kind {
            FaultKind::Missing => Error::new(Kind::NotFound, "there is no such snapshot")
                .in_file(location.to_string())
                .remedy("`defrost ls` lists what is there"),
            _ => fault.into_error("cannot be removed", &location.to_string()),
        };
        let range = 0..MAGIC.len() as u64;
        let first = Request { key: &opened.key, range, version: None, fresh: false };
        let name = opened.key.rsplit('/').next().unwrap_or_default();
        let is_named = name.strip_suffix(".snap").is_some_and(names_a_root);
        let not_one = |found: String| {
            Error::new(Kind::Invalid, "not a snapshot")
                .in_file(location.to_string())
                .mismatch("the first bytes of one, or a root for its name", found)
                .remedy("`rm`, or the store's own tool, removes files of any kind")
        };
        let was_seen = match opened.source.get(first).await {
            Ok(_) if is_named => true,
            Ok(mut reply) => {
                let mut begins = Vec::new();
                while begins.len() < MAGIC.len()
                    && let Some(more) = reply.body.next().await.map_err(failed)?
                {
                    begins.extend_from_slice(&more);
                }
                if !begins.starts_with(&MAGIC) {
                    return Err(not_one(begins.escape_ascii().to_string()));
                }
                true
            }
            Err(fault) if fault.kind == FaultKind::Missing => return Err(failed(fault)),
            // One without bytes.
            Err(fault) if fault.kind == FaultKind::Wrong && !is_named => {
                return Err(not_one("none".to_owned()));
            }
            // A folder, or a pipe.
            Err(fault) if fault.kind == FaultKind::Local => return Err(failed(fault)),
            // One that must not be read may be removed all the same.
            Err(_) => false,
        };
        opened.source.remove(&opened.key).await.map_err(failed)?;
        Ok(was_seen)
    })?;
    if let (Location::Path(path), Some(stat)) = (location, &stat) {
        stamp::forget(path, stamp_dir, stat);
    }
    Ok(was_seen || stat.is_some())
}

/// Fetches a snapshot into the file `out`; what an interrupted call brought is used by the next one.
///
/// `progress` gets bytes that are there and in all. Fails as [`restore`] does.
pub fn pull(
    location: &Location,
    out: &Path,
    options: &RestoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Root, Error> {
    let dir =
        out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot make the directory", dir, e))?;
    let replaced = fs::symlink_metadata(out).ok();
    let beside = RestoreOptions { cache: Some(Cache::new(dir, None)), ..options.clone() };
    let were_there: Vec<PathBuf> = snapshots(dir);
    let snapshot = fetch(location, &beside, progress)?;
    let root = snapshot.root();
    let from = snapshot.path().to_owned();
    drop(snapshot);
    let fetched = dir.join(format!("{root}.snap"));
    if matches!(location, Location::Path(_)) || fetched != out && were_there.contains(&fetched) {
        // A file that lay there before is the user's own.
        let from = if from.is_file() { from } else { fetched };
        source::dir::copy(&from, out, &|_| {})
            .map_err(|e| Error::io("cannot write the snapshot", out, e))?;
    } else if fetched != out {
        // The stamp was for the file under its other name.
        for stamps in [Some(dir), options.open.stamp_dir.as_deref()].into_iter().flatten() {
            let _ = fs::remove_file(stamps.join(format!("{root}.ok")));
        }
        fs::rename(&fetched, out).map_err(|e| Error::io("cannot name the snapshot", out, e))?;
    }
    if let Some(stat) = replaced {
        stamp::forget(out, options.open.stamp_dir.as_deref(), &stat);
    }
    inspect(out).map(|(root, _)| root)
}

/// The snapshots in a directory.
fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension() == Some("snap".as_ref())).collect()
}

/// Restores a snapshot and returns once all of it is here.
pub fn fetch(
    location: &Location,
    options: &RestoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Snapshot, Error> {
    let snapshot = restore(location, options)?;
    while !snapshot.wait_briefly()? {
        let (good, all) = snapshot.progress();
        progress(good, all);
    }
    snapshot.wait_complete()?;
    Ok(snapshot)
}
