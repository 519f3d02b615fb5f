//! From a location to a snapshot the kernels can read.
//!
//! A native snapshot is mapped, or fetched, and that is all. A portable one is packed for this processor family
//! once: the result is written to the cache directory under its parent's root, found there by every
//! later start, and verified like any other snapshot. ONNX models are used as they are: their runtime packs.

use std::path::PathBuf;

use defrost_loader::{
    Cache, FetchOptions, Location, OpenOptions, Snapshot, VerifyMode, default_cache,
};
use defrost_model::spec::Description;
use defrost_model::{Runtime, isa, runtime};

use crate::Error;

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The moment at which bytes are hashed.
    pub verify: VerifyMode,
    /// The directory of stamps, downloads and packed copies of portable snapshots. `None`: stamps go beside a local
    /// snapshot, all else into [`default_cache`].
    pub cache_dir: Option<PathBuf>,
    /// The most bytes that downloads may take there; others make room before, least recently used ones first.
    pub cache_max_bytes: Option<u64>,
    /// Threads that hash; `None`: one per core.
    pub threads: Option<usize>,
    /// The options of downloads.
    pub fetch: FetchOptions,
    /// Name of the runtime that must run the model; `None`: what the snapshot is made for.
    pub backend: Option<&'static str>,
}

impl RestoreOptions {
    /// The same as options of the loader, for snapshots that runtimes of this build read.
    pub fn for_loader(&self) -> defrost_loader::RestoreOptions {
        let mut open = OpenOptions::new(isa::ACCEPTED, isa::LAYOUT_ABI);
        open.verify = self.verify;
        open.stamp_dir.clone_from(&self.cache_dir);
        if let Some(threads) = self.threads {
            open.threads = threads.max(1);
        }
        let cache = Some(Cache::new(self.cache(), self.cache_max_bytes));
        defrost_loader::RestoreOptions {
            cache,
            fetch: self.fetch.clone(),
            ..defrost_loader::RestoreOptions::new(open)
        }
    }

    fn cache(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(default_cache)
    }
}

/// Opens the snapshot at `location` (a path or `s3://bucket/key`), laid out for the one of the `linked` runtimes that will
/// run it. One that is fetched may be used before it is complete; see [`defrost_loader::restore`].
pub fn restore(
    linked: &[&dyn Runtime],
    location: &Location,
    options: &RestoreOptions,
) -> Result<Snapshot, Error> {
    let loader = options.for_loader();
    if let Some(dir) = &options.cache_dir {
        // A directory that cannot be made only costs the stamp; packing and fetching below say it loudly.
        let _ = std::fs::create_dir_all(dir);
    }
    let snapshot = defrost_loader::restore(location, &loader)?;
    if snapshot.isa() != isa::PORTABLE {
        return Ok(snapshot);
    }
    let description = Description::of(&snapshot)?;
    // Where none runs it, loading says so.
    let chosen = runtime::choose(linked, options.backend, &description, snapshot.path()).ok();
    let Some(runtime) = chosen.filter(|runtime| runtime.isa() != isa::PORTABLE) else {
        return Ok(snapshot);
    };
    let (cache, open) = (options.cache(), loader.open);
    let name = format!("{}.{}-{}.snap", snapshot.root(), runtime.isa(), isa::LAYOUT_ABI);
    let copy = cache.join(name);
    if copy.is_file() {
        match Snapshot::open(&copy, &open) {
            Ok(found) if runtime.is_laid_out(&found, &snapshot) => return Ok(found),
            // A damaged or foreign copy is only a cache miss: the parent is verified and at hand.
            Ok(_) | Err(_) => runtime.lay_out(&snapshot, &copy)?,
        }
    } else {
        std::fs::create_dir_all(&cache).map_err(|err| {
            Error::Model(format!(
                "cannot create {} for the packed copy of a portable snapshot: {err}; \
                 set CACHE_DIR to a writable directory or pack with --isa {}",
                cache.display(),
                runtime.isa()
            ))
        })?;
        runtime.lay_out(&snapshot, &copy)?;
    }
    Ok(Snapshot::open(&copy, &open)?)
}
