//! Hashes chunks on several threads and holds back readers until theirs are good.
//!
//! Each chunk has one atomic state: untouched, claimed, good. Whoever moves it from untouched to claimed hashes it, so
//! every chunk is hashed once, whether by a worker that walks the file in order or by a reader that needs this chunk
//! now. A reader first claims what nobody has begun and then sleeps on a condition variable for the rest; it therefore
//! makes progress even if no worker could be started. The first bad chunk fails the whole snapshot: from then on every
//! reader gets the error, also for chunks that were good, because a file with one wrong byte is the wrong file.
//!
//! State is published with release stores and read with acquire loads. Waking needs no more care than taking the lock
//! once between the store and the notification: a reader checks the states under that lock before it sleeps.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, shown};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::hash::xxh3;
use crate::map::Mapping;

const UNTOUCHED: u8 = 0;
const CLAIMED: u8 = 1;
const GOOD: u8 = 2;

/// Bytes that are mapped per call when nothing is hashed: large enough to amortise the call, small enough that a
/// snapshot dropped meanwhile waits for milliseconds only.
const POPULATE_STEP: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Gate {
    manifest: Arc<Manifest>,
    mapping: Mapping,
    path: PathBuf,
    states: Box<[AtomicU8]>,
    next: AtomicUsize,
    remaining: AtomicUsize,
    hashed: AtomicU64,
    begun: Instant,
    outcome: Mutex<Outcome>,
    changed: Condvar,
    failed: AtomicBool,
    cancelled: AtomicBool,
}

#[derive(Debug, Default)]
struct Outcome {
    failure: Option<Error>,
    duration: Option<Duration>,
}

impl Gate {
    pub(crate) fn new(manifest: Arc<Manifest>, mapping: Mapping, path: PathBuf) -> Self {
        let chunks = manifest.chunks.len();
        Self {
            manifest,
            mapping,
            path,
            states: (0..chunks).map(|_| AtomicU8::new(UNTOUCHED)).collect(),
            next: AtomicUsize::new(0),
            remaining: AtomicUsize::new(chunks),
            hashed: AtomicU64::new(0),
            begun: Instant::now(),
            outcome: Mutex::default(),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Hashes everything on up to `threads` threads, this one included; returns when all is known.
    pub(crate) fn run_all(&self, threads: usize) -> Result<(), Error> {
        thread::scope(|scope| {
            for _ in 1..threads.min(self.states.len()) {
                // Without helpers it merely takes longer.
                let _ = named("defrost-verify").spawn_scoped(scope, || self.work());
            }
            self.work();
        });
        self.wait_for(0..self.states.len())
    }

    /// Starts up to `threads` threads that hash in order until the end, a failure or `cancel`.
    pub(crate) fn start(self: &Arc<Self>, threads: usize) -> Vec<JoinHandle<()>> {
        (0..threads.min(self.states.len()))
            .filter_map(|_| {
                let gate = Arc::clone(self);
                // Without workers, readers hash what they need.
                named("defrost-verify").spawn(move || gate.work()).ok()
            })
            .collect()
    }

    /// Declares everything good on the word of a stamp, and maps the pages ahead of the first reader,
    /// but for those of sparse segments, of which few are ever read.
    pub(crate) fn trust(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        self.states.iter().for_each(|state| state.store(GOOD, Ordering::Release));
        self.remaining.store(0, Ordering::Release);
        self.lock().duration = Some(Duration::ZERO);
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
                if self.cancelled.load(Ordering::Relaxed) {
                    return;
                }
                self.mapping.populate(step..(step + POPULATE_STEP).min(end));
            }
        }
    }

    /// Lets the threads stop; for when nobody can ask for tensors any more.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Returns when all chunks that hold these bytes of the file are good.
    pub(crate) fn pass(&self, offset: u64, len: u64) -> Result<(), Error> {
        let chunks = self.manifest.chunks_of(offset, len);
        self.wait_for(to_usize(chunks.start)?..to_usize(chunks.end)?)
    }

    /// Returns when every chunk is good.
    pub(crate) fn pass_all(&self) -> Result<(), Error> {
        self.wait_for(0..self.states.len())
    }

    /// Bytes hashed, time taken so far, and whether all is good.
    pub(crate) fn progress(&self) -> (u64, Duration, bool) {
        let duration = self.lock().duration;
        let complete =
            self.remaining.load(Ordering::Acquire) == 0 && !self.failed.load(Ordering::Acquire);
        (
            self.hashed.load(Ordering::Relaxed),
            duration.unwrap_or_else(|| self.begun.elapsed()),
            complete,
        )
    }

    fn wait_for(&self, chunks: Range<usize>) -> Result<(), Error> {
        let Some(states) = self.states.get(chunks.clone()) else {
            return Err(Error::new(Kind::Invalid, "chunks out of range"));
        };
        if !self.failed.load(Ordering::Acquire) {
            for chunk in chunks {
                self.try_chunk(chunk);
            }
        }
        let mut outcome = self.lock();
        loop {
            if let Some(failure) = &outcome.failure {
                return Err(failure.clone());
            }
            if states.iter().all(|state| state.load(Ordering::Acquire) == GOOD) {
                return Ok(());
            }
            outcome = self.changed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while !self.cancelled.load(Ordering::Relaxed) && !self.failed.load(Ordering::Relaxed) {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= self.states.len() {
                return;
            }
            self.try_chunk(chunk);
        }
    }

    /// Hashes a chunk unless somebody else has or does.
    fn try_chunk(&self, chunk: usize) {
        let state = &self.states[chunk];
        if state.compare_exchange(UNTOUCHED, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        match self.check(chunk) {
            Ok(bytes) => {
                self.hashed.fetch_add(bytes as u64, Ordering::Relaxed);
                state.store(GOOD, Ordering::Release);
                let last = self.remaining.fetch_sub(1, Ordering::AcqRel) == 1;
                let mut outcome = self.lock();
                if last {
                    outcome.duration = Some(self.begun.elapsed());
                }
            }
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                self.lock().failure.get_or_insert(error);
            }
        }
        self.changed.notify_all();
    }

    fn check(&self, chunk: usize) -> Result<usize, Error> {
        let place = self.manifest.chunk_range(chunk);
        let range = to_usize(place.start)?..to_usize(place.end)?;
        let bytes = self.mapping.as_slice().get(range).ok_or_else(|| {
            Error::new(Kind::Truncated, "a chunk lies outside the file")
                .at(place.start)
                .in_file(&self.path)
        })?;
        let (expected, found) = (self.manifest.chunks[chunk].xxh3, xxh3(bytes));
        if expected == found {
            return Ok(bytes.len());
        }
        let holder = self.manifest.tensor_in(&place);
        let holder = holder.map_or_else(
            || "padding".to_owned(),
            |tensor| format!("tensor {}", shown(&tensor.name)),
        );
        Err(Error::new(Kind::Corrupt, format!("chunk {chunk} ({holder}) does not match its hash"))
            .in_file(&self.path)
            .at(place.start)
            .mismatch(format_args!("xxh3 {expected:016x}"), format_args!("{found:016x}"))
            .remedy("the file is damaged: delete it, then fetch or pack the snapshot again"))
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}
