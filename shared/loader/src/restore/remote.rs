//! A snapshot in an object store: led, followed, or held in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Runtime;

use super::{RestoreOptions, not_one, runtime};
use crate::board::Board;
use crate::cache::{self, Cache, Download, Role};
use crate::error::{Error, Kind};
use crate::fetch::{self, Buffers, Object, Target};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::format::superblock::Superblock;
use crate::location::Location;
use crate::map::Mapping;
use crate::root::Root;
use crate::snapshot::{Parts, Snapshot, check_kernels};
use crate::source;
use crate::verify::gate::{Feed, Gate};

/// A follower looks this often whether the process that downloads still lives, if it brought nothing meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A process that holds the lock and brings nothing for this long is stopped or stuck: a follower fetches for itself.
const STUCK: Duration = Duration::from_secs(30);

/// A snapshot elsewhere, and how to restore it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) location: Location,
    pub(super) options: RestoreOptions,
}

/// What the first request tells.
struct Found {
    runtime: Runtime,
    object: Object,
    superblock: Superblock,
}

impl Remote {
    pub(super) fn restore(&self) -> Result<Snapshot, Error> {
        if let (Some(root), Some(cache)) = (self.pinned(), &self.options.cache)
            && cache.path_of(root).is_file()
        {
            return self.open_cached(cache, root);
        }
        let mut found = None;
        let root = match self.pinned().filter(|_| self.options.cache.is_some()) {
            Some(root) => root,
            None => found.insert(self.find()?).superblock.root,
        };
        let Some(cache) = &self.options.cache else {
            return self.fetch_to_memory(found.map_or_else(|| self.find(), Ok)?, "no cache");
        };
        match cache.role(root) {
            Ok(Role::Done) => self.open_cached(cache, root),
            Ok(Role::Lead(download)) => {
                self.lead(cache, download, found.map_or_else(|| self.find(), Ok)?)
            }
            Ok(Role::Follow(download)) => self.follow(cache, download, found),
            Err(error) => {
                let why = format!("{}: {error}", cache.dir().display());
                self.fetch_to_memory(found.map_or_else(|| self.find(), Ok)?, &why)
            }
        }
    }

    /// The root that the object's name promises.
    fn pinned(&self) -> Option<Root> {
        let Location::S3 { key, .. } = &self.location else { return None };
        Path::new(key).file_name()?.to_str()?.strip_suffix(".snap")?.parse().ok()
    }

    fn open_cached(&self, cache: &Cache, root: Root) -> Result<Snapshot, Error> {
        cache.touch(root);
        Snapshot::open(&cache.path_of(root), &self.options.open)
    }

    /// Makes the first request.
    fn find(&self) -> Result<Found, Error> {
        let runtime = runtime()?;
        let (object, superblock) = runtime.block_on(async {
            let opened = source::open(&self.location, &self.options.store).await?;
            let key = if self.location.is_snapshot() {
                opened.key
            } else {
                only(&*opened.source, &opened.key).await?
            };
            fetch::head(opened.source, key, self.options.fetch.stall).await
        })?;
        if let Some(root) = self.pinned().filter(|root| *root != superblock.root) {
            return Err(Error::new(
                Kind::Corrupt,
                "the object holds another snapshot than its name says",
            )
            .in_file(self.location.to_string())
            .mismatch(root, superblock.root)
            .remedy("push the snapshot again"));
        }
        Ok(Found { runtime, object, superblock })
    }

    /// Downloads into the cache, from the beginning or from where a killed process stopped.
    fn lead(&self, cache: &Cache, download: Download, found: Found) -> Result<Snapshot, Error> {
        let len = found.superblock.file_len;
        let (manifest, file, board) = if let Some(image) = download.image() {
            let board =
                download.board(image.manifest.chunks.len()).map_err(|e| no_board(&download, e))?;
            let (mapping, board) = (image.map(&download.partial)?, Arc::new(board));
            cache::recheck(&board, &image.manifest, &mapping, self.options.open.threads);
            (image.manifest, image.file, board)
        } else {
            let (manifest, text) = self.manifest(&found)?;
            let file = match cache.prepare(&download, len) {
                Ok(file) => file,
                Err(error) => {
                    drop(download);
                    return self.fetch_to_memory(found, &error.to_string());
                }
            };
            let board =
                download.board(manifest.chunks.len()).map_err(|e| no_board(&download, e))?;
            board.clear();
            cache::write_frame(&file, &found.superblock, &text)
                .map_err(|e| Error::io("cannot write the download", &download.partial, e))?;
            (manifest, file, Arc::new(board))
        };
        check_kernels(&manifest, &self.options.open)
            .map_err(|error| error.in_file(self.location.to_string()))?;
        board.publish(download.root);
        let origin = format!(
            "fetched from {} into {}",
            found.object.source.url(&found.object.key),
            cache.dir().display()
        );
        let (parts, target) =
            parts(manifest, file, board, download.partial.clone(), found.superblock.root, origin)?;
        let remote = self.clone();
        self.grow(parts, &Arc::clone(&target), move || remote.run(found, &target, Some(&download)))
    }

    /// Uses what another process downloads.
    fn follow(
        &self,
        cache: &Cache,
        download: Download,
        found: Option<Found>,
    ) -> Result<Snapshot, Error> {
        drop(found);
        let begun = Instant::now();
        let bell = download.board(0).map_err(|e| no_board(&download, e))?;
        let image = loop {
            let generation = bell.generation();
            if let Some(image) = download.published() {
                break image;
            }
            if download.complete_path().is_file() {
                return self.open_cached(cache, download.root);
            }
            match download.try_lead() {
                Ok(true) => return self.lead(cache, download, self.find()?),
                Ok(false) => {}
                // Another process emptied the cache meanwhile.
                Err(_) => return self.restore(),
            }
            if begun.elapsed() > self.options.fetch.deadline {
                return Err(Error::new(
                    Kind::Timeout,
                    "another process downloads the snapshot and is stuck",
                )
                .in_file(&download.partial)
                .remedy("end it, or use another CACHE_DIR"));
            }
            bell.wait(generation, LOOK);
        };
        check_kernels(&image.manifest, &self.options.open)
            .map_err(|error| error.in_file(&download.partial))?;
        let board =
            download.board(image.manifest.chunks.len()).map_err(|e| no_board(&download, e))?;
        let origin =
            format!("another process fetches {} into {}", self.location, cache.dir().display());
        let (parts, target) = parts(
            image.manifest,
            image.file,
            Arc::new(board),
            download.partial.clone(),
            image.root,
            origin,
        )?;
        let remote = self.clone();
        self.grow(parts, &Arc::clone(&target), move || remote.watch(&target, &download))
    }

    /// Downloads into memory of this process.
    fn fetch_to_memory(&self, found: Found, why: &str) -> Result<Snapshot, Error> {
        let (manifest, text) = self.manifest(&found)?;
        check_kernels(&manifest, &self.options.open)
            .map_err(|error| error.in_file(self.location.to_string()))?;
        let name = PathBuf::from(found.object.source.url(&found.object.key));
        let no_memory = |e| Error::io("cannot get memory for the snapshot", &name, e);
        let file = cache::memory(found.superblock.file_len).map_err(no_memory)?;
        cache::write_frame(&file, &found.superblock, &text).map_err(no_memory)?;
        let board = Board::private(manifest.chunks.len()).map_err(no_memory)?;
        let origin = format!("fetched from {} into memory ({why})", name.display());
        let (parts, target) =
            parts(manifest, file, Arc::new(board), name, found.superblock.root, origin)?;
        let remote = self.clone();
        self.grow(parts, &Arc::clone(&target), move || remote.run(found, &target, None))
    }

    /// The manifest, checked, and the bytes that go into the file.
    fn manifest(&self, found: &Found) -> Result<(Manifest, Vec<u8>), Error> {
        let text = found.runtime.block_on(fetch::manifest(
            &found.object,
            &found.superblock,
            self.options.fetch.stall,
        ))?;
        let named = |error: Error| error.in_file(self.location.to_string());
        let body = &text[..to_usize(found.superblock.manifest_len)?];
        let manifest = Manifest::decode(body, found.superblock.file_len).map_err(named)?;
        Ok((manifest, text))
    }

    /// Starts the thread that sees to the download.
    fn grow(
        &self,
        parts: Parts,
        target: &Arc<Target>,
        work: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<Snapshot, Error> {
        let file = target.file.try_clone();
        let file = file.map_err(|e| Error::io("cannot open the snapshot", &parts.path, e))?;
        let outcome = Arc::new(Mutex::new(None));
        let (gate, told) = (Arc::clone(&parts.gate), Arc::clone(&outcome));
        let thread: JoinHandle<()> = thread::Builder::new()
            .name("defrost-fetch".to_owned())
            .spawn(move || {
                if let Err(error) = work() {
                    // Bytes that are all there are good, whatever became of the cache.
                    if gate.progress().2 {
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    } else {
                        gate.fail(error);
                    }
                }
            })
            .map_err(|e| Error::io("cannot start the download's thread", &parts.path, e))?;
        Ok(Snapshot::growing(parts, file, vec![thread], outcome, self.options.open.verify))
    }

    /// Fetches everything that is missing, then gives the file its name.
    fn run(
        &self,
        found: Found,
        target: &Arc<Target>,
        download: Option<&Download>,
    ) -> Result<(), Error> {
        let Found { runtime, object, .. } = found;
        runtime.block_on(fetch::run(&Arc::new(object), target, &self.options.fetch))?;
        drop(runtime);
        match download.filter(|_| target.board.all_good(0..target.board.chunks())) {
            Some(download) => {
                download.complete(&target.file, self.options.open.stamp_dir.as_deref())
            }
            None => Ok(()),
        }
    }

    /// Sees to it that the download goes on if the process that leads it dies or stops.
    fn watch(&self, target: &Arc<Target>, download: &Download) -> Result<(), Error> {
        let chunks = 0..target.board.chunks();
        let mut quiet_since = Instant::now();
        loop {
            let generation = target.board.generation();
            if target.gate.cancelled() || target.board.all_good(chunks.clone()) {
                return Ok(());
            }
            // A file that is no longer under its name is collected or complete: no other process will bring the rest.
            let lead = download.try_lead().unwrap_or(true);
            if lead || quiet_since.elapsed() > STUCK {
                target.board.publish(download.root);
                return self.run(self.find()?, target, Some(download));
            }
            target.board.wait(generation, LOOK);
            if target.board.generation() != generation {
                quiet_since = Instant::now();
            }
        }
    }
}

async fn only(source: &dyn source::Source, prefix: &str) -> Result<String, Error> {
    let prefix = if prefix.is_empty() || prefix.ends_with('/') {
        prefix.to_owned()
    } else {
        format!("{prefix}/")
    };
    let url = source.url(&prefix);
    let listed =
        source.list(&prefix).await.map_err(|fault| fault.into_error("cannot be listed", &url))?;
    match listed.as_slice() {
        [one] => Ok(one.key.clone()),
        _ => Err(not_one(listed.len()).in_file(url)),
    }
}

fn no_board(download: &Download, error: std::io::Error) -> Error {
    Error::io("cannot share the state of the download", &download.partial, error)
}

/// What a snapshot and its download share.
fn parts(
    manifest: Manifest,
    file: File,
    board: Arc<Board>,
    path: PathBuf,
    root: Root,
    origin: String,
) -> Result<(Parts, Arc<Target>), Error> {
    let manifest = Arc::new(manifest);
    let mapping = Mapping::of(&file, to_usize(manifest.file_len())?)
        .map_err(|e| Error::io("cannot map the snapshot", &path, e))?;
    let gate = Arc::new(Gate::new(
        Arc::clone(&manifest),
        mapping.clone(),
        path.clone(),
        Arc::clone(&board),
        Feed::Download,
        false,
    ));
    // Keeps the finished file from being collected; a file in memory has no use for it.
    let _ = flock(&file, FlockOperation::NonBlockingLockShared);
    let target = Arc::new(Target {
        file,
        board,
        gate: Arc::clone(&gate),
        buffers: Buffers::new(to_usize(u64::from(manifest.chunk_size))?),
        manifest: Arc::clone(&manifest),
    });
    Ok((Parts { path, root, manifest, mapping, gate, origin }, target))
}
