//! Holds readers back until the chunks they ask for are good.
//!
//! Chunks become good in one of three ways, the gate's *feed*:
//!
//! * `Check`: the file is mapped; a chunk is hashed where it lies.
//! * `Read`: the file lies where mapping it would be slow or dangerous; a chunk is read into private memory and hashed
//!   there, unless a stamp vouches for the file.
//! * `Download`: the downloader, perhaps another process, fetches chunks and declares them good (`fetch`).
//!
//! In the first two every chunk has one worker: the thread that *takes* it on the [`Board`], be it one that walks the
//! file in execution order or a reader that needs this chunk now. A reader first takes the chunks that no worker has
//! begun and then sleeps for the rest; it therefore makes progress even if no worker could be started. In the third a
//! reader marks the chunk as wanted, so that it is fetched next, and sleeps.
//!
//! The first bad chunk fails the whole snapshot: from then on every reader gets the error, also for chunks that were
//! good, because a file with one wrong byte is the wrong file. So does a file that was shortened while mapped, or edited
//! in place (`watch`).

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::board::{Board, IDLE};
use crate::error::{Error, Kind, shown};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::hash::xxh3;
use crate::map::Mapping;
use crate::reading::Reader;

/// Bytes that are mapped per call when nothing is hashed: large enough to amortise the call, small enough that a
/// snapshot dropped meanwhile waits for milliseconds only.
const POPULATE_STEP: usize = 4 * 1024 * 1024;

/// How long a reader sleeps before it looks again though no worker rang: only a process killed between declaring a
/// chunk good and ringing leaves a change unrung.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Where good chunks come from.
#[derive(Debug)]
pub(crate) enum Feed {
    /// The chunks are hashed in the mapped file.
    Check,
    /// The chunks are read into memory first.
    Read(Reader),
    /// The chunks are fetched by the downloader.
    Download,
}

#[derive(Debug)]
pub(crate) struct Gate {
    manifest: Arc<Manifest>,
    mapping: Mapping,
    path: PathBuf,
    board: Arc<Board>,
    feed: Feed,
    /// A stamp vouches for the bytes: read them, but do not hash.
    trusted: bool,
    next: AtomicUsize,
    remaining: AtomicUsize,
    checked: AtomicU64,
    begun: Instant,
    duration: OnceLock<Duration>,
    complete: AtomicBool,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    cancelled: AtomicBool,
}

impl Gate {
    pub(crate) fn new(
        manifest: Arc<Manifest>,
        mapping: Mapping,
        path: PathBuf,
        board: Arc<Board>,
        feed: Feed,
        trusted: bool,
    ) -> Self {
        Self {
            remaining: AtomicUsize::new(board.chunks()),
            manifest,
            mapping,
            path,
            board,
            feed,
            trusted,
            next: AtomicUsize::new(0),
            checked: AtomicU64::new(0),
            begun: Instant::now(),
            duration: OnceLock::new(),
            complete: AtomicBool::new(false),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Works through everything on up to `threads` threads, this one included; returns when all is known.
    pub(crate) fn run_all(&self, threads: usize) -> Result<(), Error> {
        thread::scope(|scope| {
            for _ in 1..threads.min(self.board.chunks()) {
                // Without helpers it merely takes longer.
                let _ = named("defrost-verify").spawn_scoped(scope, || self.work());
            }
            self.work();
        });
        self.pass_all()
    }

    /// Starts up to `threads` threads that work in order until the end, a failure or `cancel`.
    pub(crate) fn start(self: &Arc<Self>, threads: usize) -> Vec<JoinHandle<()>> {
        (0..threads.min(self.board.chunks()))
            .filter_map(|_| {
                let gate = Arc::clone(self);
                // Without workers, readers do what they need.
                named("defrost-verify").spawn(move || gate.work()).ok()
            })
            .collect()
    }

    /// Declares everything good on the word of a stamp, and maps the pages ahead of the first reader,
    /// but for those of sparse segments, of which few are ever read.
    pub(crate) fn trust(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        self.board.all_are_good();
        self.finish(Duration::ZERO);
        let gate = Arc::clone(self);
        // Without it, the first touch of each page faults; nothing is wrong.
        named("defrost-prefault").spawn(move || gate.prefault()).into_iter().collect()
    }

    fn prefault(&self) {
        for segment in self.manifest.segments.iter().filter(|segment| !segment.sparse) {
            let (Ok(start), Ok(end)) =
                (to_usize(segment.offset), to_usize(segment.offset + segment.len))
            else {
                return;
            };
            for step in (start..end).step_by(POPULATE_STEP) {
                if self.cancelled() {
                    return;
                }
                self.mapping.populate(step..(step + POPULATE_STEP).min(end));
            }
        }
    }

    /// Lets the threads stop; for when no caller can ask for tensors any more.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.board.ring();
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Every reader gets this error from now on; the first one stays.
    pub(crate) fn fail(&self, error: Error) {
        self.failure().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.board.ring();
    }

    /// Counts bytes that a download brought and verified.
    pub(crate) fn count(&self, bytes: u64) {
        self.checked.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns when all chunks that hold these bytes of the file are good.
    pub(crate) fn pass(&self, offset: u64, len: u64) -> Result<(), Error> {
        let chunks = self.manifest.chunks_of(offset, len);
        self.want(offset, len);
        self.wait_for(to_usize(chunks.start)?..to_usize(chunks.end)?)
    }

    /// Says that these bytes will be asked for next, without waiting.
    pub(crate) fn want(&self, offset: u64, len: u64) {
        if !self.complete.load(Ordering::Relaxed) && matches!(self.feed, Feed::Download) {
            let chunks = self.manifest.chunks_of(offset, len);
            for chunk in chunks.filter_map(|chunk| to_usize(chunk).ok()) {
                self.board.want(chunk);
            }
        }
    }

    /// Returns when every chunk is good. A caller that waits for everything wants nothing before the rest.
    pub(crate) fn pass_all(&self) -> Result<(), Error> {
        self.wait_for(0..self.board.chunks())?;
        self.finish(self.begun.elapsed());
        Ok(())
    }

    /// Fails if what was read since the last chunk was passed may not have been the snapshot's bytes.
    pub(crate) fn intact(&self) -> Result<(), Error> {
        if self.mapping.lost() {
            self.fail(shortened().in_file(&self.path));
        }
        if self.failed.load(Ordering::Acquire) {
            return Err(self.failure().clone().unwrap_or_else(shortened));
        }
        Ok(())
    }

    /// Sleeps until something changes, but not for long; whether every chunk is good.
    pub(crate) fn wait_briefly(&self) -> Result<bool, Error> {
        let generation = self.board.generation();
        self.intact()?;
        let all = self.board.all_good(0..self.board.chunks());
        if !all {
            self.board.wait(generation, LOOK_AGAIN);
        }
        Ok(all)
    }

    /// Bytes of good chunks, and of all.
    pub(crate) fn good_bytes(&self) -> (u64, u64) {
        let good = (0..self.board.chunks()).filter(|&chunk| self.board.is_good(chunk));
        let bytes =
            good.map(|chunk| self.manifest.chunk_range(chunk)).map(|place| place.end - place.start);
        (bytes.sum(), self.manifest.data_len)
    }

    /// Bytes checked, time taken so far, and whether all is good.
    pub(crate) fn progress(&self) -> (u64, Duration, bool) {
        let failed = self.failed.load(Ordering::Acquire);
        let complete = !failed
            && (self.complete.load(Ordering::Acquire)
                || self.board.all_good(0..self.board.chunks()));
        let duration = self.duration.get().copied().unwrap_or_else(|| self.begun.elapsed());
        (self.checked.load(Ordering::Relaxed), duration, complete)
    }

    fn wait_for(&self, chunks: Range<usize>) -> Result<(), Error> {
        if chunks.end > self.board.chunks() {
            return Err(Error::new(Kind::Invalid, "chunks out of range"));
        }
        self.intact()?;
        if self.complete.load(Ordering::Acquire) {
            return Ok(());
        }
        if !matches!(self.feed, Feed::Download) {
            let idle = chunks.clone().filter(|&chunk| self.board.state(chunk) == IDLE);
            idle.for_each(|chunk| self.try_chunk(chunk));
        }
        loop {
            let generation = self.board.generation();
            self.intact()?;
            if self.board.all_good(chunks.clone()) {
                return Ok(());
            }
            self.board.wait(generation, LOOK_AGAIN);
        }
    }

    fn work(&self) {
        let run = match &self.feed {
            Feed::Read(reader) => reader.run(),
            Feed::Check | Feed::Download => 1,
        };
        while !self.cancelled() && !self.failed.load(Ordering::Relaxed) {
            let first = self.next.fetch_add(run, Ordering::Relaxed);
            if first >= self.board.chunks() {
                return;
            }
            (first..(first + run).min(self.board.chunks())).for_each(|chunk| self.try_chunk(chunk));
        }
    }

    /// Brings a chunk in and checks it, unless another worker has or does.
    fn try_chunk(&self, chunk: usize) {
        if !self.board.take(chunk) {
            return;
        }
        match self.bring(chunk) {
            Ok(bytes) => {
                self.checked.fetch_add(bytes, Ordering::Relaxed);
                self.board.good(chunk);
                if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.finish(self.begun.elapsed());
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Reads a chunk if it is to be read, hashes it if it is to be hashed; returns the bytes hashed.
    fn bring(&self, chunk: usize) -> Result<u64, Error> {
        let place = self.manifest.chunk_range(chunk);
        let range = to_usize(place.start)?..to_usize(place.end)?;
        if let Feed::Read(reader) = &self.feed {
            self.mapping.fill(range.clone(), |bytes| reader.read(bytes, place.start)).map_err(
                |error| {
                    Error::io("cannot read the snapshot", &self.path, error).bytes(place.clone())
                },
            )?;
        }
        if self.trusted {
            return Ok(0);
        }
        self.check(chunk)
    }

    /// Hashes every chunk where it lies now, whatever was found before.
    pub(crate) fn check_again(&self) -> Result<(), Error> {
        (0..self.board.chunks()).try_for_each(|chunk| self.check(chunk).map(drop))
    }

    /// Hashes a chunk; returns its bytes.
    fn check(&self, chunk: usize) -> Result<u64, Error> {
        let place = self.manifest.chunk_range(chunk);
        let range = to_usize(place.start)?..to_usize(place.end)?;
        let bytes = self.mapping.as_slice().get(range).ok_or_else(|| {
            Error::new(Kind::Truncated, "a chunk lies outside the file")
                .at(place.start)
                .in_file(&self.path)
        })?;
        let (expected, found) = (self.manifest.chunks[chunk].xxh3, xxh3(bytes));
        if expected == found {
            return Ok(bytes.len() as u64);
        }
        if self.mapping.lost() {
            return Err(shortened().in_file(&self.path));
        }
        Err(Error::new(
            Kind::Corrupt,
            format!("chunk {chunk} ({}) does not match its hash", holder(&self.manifest, &place)),
        )
        .in_file(&self.path)
        .at(place.start)
        .mismatch(format_args!("xxh3 {expected:016x}"), format_args!("{found:016x}"))
        .remedy("the file is damaged: delete it, then fetch or pack the snapshot again"))
    }

    fn finish(&self, duration: Duration) {
        // The first to notice that all is good notes the time.
        let _ = self.duration.set(duration);
        self.complete.store(true, Ordering::Release);
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a range of the file holds, to give damage a name.
pub(crate) fn holder(manifest: &Manifest, place: &Range<u64>) -> String {
    manifest
        .tensor_in(place)
        .map_or_else(|| "padding".to_owned(), |tensor| format!("tensor {}", shown(&tensor.name)))
}

fn shortened() -> Error {
    Error::new(Kind::Truncated, "the file was shortened, or could not be read, while it was mapped")
        .remedy("nothing computed since is given away; restore the file and start again")
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}
