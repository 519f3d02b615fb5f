//! Snapshots between this machine and a source: what is there, store one, fetch one into a file.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Cache;
use crate::error::{Error, Kind};
use crate::location::Location;
use crate::restore::{RestoreOptions, restore, runtime};
use crate::root::Root;
use crate::snapshot::{Snapshot, inspect};
use crate::source::{self, Listed, StoreOptions};
use crate::verify::full::verify;

/// What [`push`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pushed {
    /// Where it is now, to be given as `MODEL`.
    pub url: String,
    /// Its root.
    pub root: Root,
    /// Bytes of the file.
    pub len: u64,
    /// It was there already; nothing was sent.
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
/// there under its root is not sent again. `progress` gets bytes sent and in all.
///
/// Fails as [`verify`] does, and with [`Kind::NotFound`], [`Kind::Denied`] or [`Kind::Unavailable`] for the store.
pub fn push(
    file: &Path,
    location: &Location,
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
        if !own_name {
            let there = opened.source.list(&key).await;
            let there = there.map_err(|fault| fault.into_error("cannot be listed", &url))?;
            if there.iter().any(|listed| listed.key == key && listed.len == len) {
                return Ok(Pushed { url, root, len, already: true });
            }
        }
        let sent = AtomicU64::new(0);
        let count = |more: u64| progress(sent.fetch_add(more, Ordering::Relaxed) + more, len);
        let stored = opened.source.put(&key, file, &count).await;
        stored.map_err(|fault| fault.into_error("cannot be stored", &url))?;
        Ok(Pushed { url, root, len, already: false })
    })
}

/// Removes one snapshot from a source. `location` must name it; one that is not there is no failure.
pub fn remove(location: &Location, store: &StoreOptions) -> Result<(), Error> {
    if !location.is_snapshot() {
        return Err(Error::new(Kind::Invalid, "not the name of one snapshot")
            .in_file(location.to_string())
            .mismatch("a name that ends in .snap", "a prefix or directory"));
    }
    runtime()?.block_on(async {
        let opened = source::open(location, store).await?;
        let removed = opened.source.remove(&opened.key).await;
        removed.map_err(|fault| fault.into_error("cannot be removed", &location.to_string()))
    })
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
    let beside = RestoreOptions { cache: Some(Cache::new(dir, None)), ..options.clone() };
    let snapshot = fetch(location, &beside, progress)?;
    let root = snapshot.root();
    let from = snapshot.path().to_owned();
    drop(snapshot);
    let fetched = dir.join(format!("{root}.snap"));
    if matches!(location, Location::Path(_)) {
        source::dir::copy(&from, out, &|_| {})
            .map_err(|e| Error::io("cannot write the snapshot", out, e))?;
    } else if fetched != out {
        // The stamp was for the file under its other name.
        for stamps in [Some(dir), options.open.stamp_dir.as_deref()].into_iter().flatten() {
            let _ = fs::remove_file(stamps.join(format!("{root}.ok")));
        }
        fs::rename(&fetched, out).map_err(|e| Error::io("cannot name the snapshot", out, e))?;
    }
    inspect(out).map(|(root, _)| root)
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
