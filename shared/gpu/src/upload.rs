//! Weights from a snapshot to the device, a group at a time, while the first groups are computed with.
//!
//! ```text
//! threads, each with a pinned buffer:  wait until verified ─> convert or copy into the buffer ─┐ chunk k, k+4, ...
//! one stream, chunks in order:         copy to the arena ─> event after the last of a group    <┘
//! a pass, before each layer:           Upload::wait ─> its stream waits for the group's event
//! ```
//!
//! Pinned memory is dear: page-locking takes longer than copying. So there are four buffers of 8 MiB, which is enough that
//! one is copied from while others fill, whatever the model's size. A chunk is a run of the arena's bytes, whichever tensors
//! they belong to, so small tensors cost no copies of their own. Bytes of the snapshot are read once the loader has verified
//! them, and a group counts as uploaded only if they still were the snapshot's afterwards.

mod convert;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, scope};
use std::time::{Duration, Instant};

use defrost_loader::Snapshot;

use crate::arena::{Arena, ArenaPlan, Piece, PlannedGroup};
use crate::device::{self, Device, Event, Pinned, Stream};

/// Pinned buffers. One thread copies out of the page cache at some 5 GB/s, a card takes 25 or more.
const BUFFERS: usize = 4;
/// Bytes of each: from there on a copy's own cost, some microseconds, is nothing.
const CHUNK: usize = 8 << 20;

/// Why weights did not come to the device.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The snapshot's bytes cannot be had, or are not the right ones.
    #[error(transparent)]
    Snapshot(#[from] defrost_loader::Error),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Values that the type which is computed in cannot hold.
    #[error(
        "tensor {tensor:?} has values beyond 65504, which f16 cannot hold; set DTYPE=bf16, or pack the model with --precision bf16"
    )]
    Range {
        /// The tensor.
        tensor: String,
    },
    /// A thread ended before its work was done.
    #[error("the upload of weights was given up")]
    GivenUp,
}

impl From<Error> for defrost_model::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Snapshot(error) => Self::Weights(Box::new(error)),
            Error::Device(error) => error.into(),
            other => Self::Model(other.to_string()),
        }
    }
}

/// An upload, under way or done. Dropped, it is given up.
#[derive(Debug)]
pub struct Upload {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Whether all of it is there, so that there is nothing to wait for.
    is_complete: AtomicBool,
    is_given_up: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// One for each group that has been asked for, in order.
    groups: Vec<Box<dyn Event>>,
    ended: Option<Result<Duration, Error>>,
}

impl Upload {
    /// Begins to bring what is planned into the arena.
    pub fn start(
        device: &Arc<dyn Device>,
        snapshot: &Snapshot,
        plan: ArenaPlan,
        arena: &Arc<Arena>,
    ) -> Self {
        Self::start_in_chunks(device, snapshot, plan, arena, CHUNK)
    }

    /// As [`Upload::start`], in chunks of so many bytes, a multiple of 256: for tests, whose models are small.
    #[doc(hidden)]
    pub fn start_in_chunks(
        device: &Arc<dyn Device>,
        snapshot: &Snapshot,
        plan: ArenaPlan,
        arena: &Arc<Arena>,
        chunk: usize,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        let job = Job {
            device: Arc::clone(device),
            snapshot: snapshot.clone(),
            plan,
            arena: Arc::clone(arena),
            chunk,
            progress: Arc::clone(&progress),
        };
        let job = Arc::new(job);
        let own = Arc::clone(&job);
        let thread = Builder::new().name("upload".into()).spawn(move || own.run()).ok();
        if thread.is_none() {
            job.run();
        }
        Self { progress, thread }
    }

    /// Lets the stream's further work wait until this group, by its place in the plan, is there.
    ///
    /// # Errors
    /// Why it will not be.
    pub fn wait(&self, group: usize, stream: &dyn Stream) -> Result<(), Error> {
        if self.progress.is_complete.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.progress.state();
        loop {
            match &state.ended {
                Some(Err(error)) => return Err(error.clone()),
                // Also where there is no such group: a head without weights.
                Some(Ok(_)) => return Ok(()),
                None => {}
            }
            if let Some(event) = state.groups.get(group) {
                return Ok(stream.wait(&**event)?);
            }
            state = self.progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The time that it took, once all of it is there.
    pub fn took(&self) -> Option<Duration> {
        self.progress.state().ended.as_ref()?.as_ref().ok().copied()
    }

    /// Returns when all of it is there, with the time that it took.
    ///
    /// # Errors
    /// Why it will not be.
    pub fn finish(&self) -> Result<Duration, Error> {
        let mut state = self.progress.state();
        loop {
            if let Some(ended) = &state.ended {
                return ended.clone();
            }
            state = self.progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.progress.is_given_up.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in it has told those that waited.
            let _ = thread.join();
        }
    }
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploaded(&self, event: Box<dyn Event>) {
        self.state().groups.push(event);
        self.changed.notify_all();
    }

    fn end(&self, ended: Result<Duration, Error>) {
        // What ended it first counts: the job's own end is told again when it is dropped.
        let is_complete = self.state().ended.get_or_insert(ended).is_ok();
        self.is_complete.store(is_complete, Ordering::Release);
        self.changed.notify_all();
    }
}

#[derive(Debug)]
struct Job {
    device: Arc<dyn Device>,
    snapshot: Snapshot,
    plan: ArenaPlan,
    arena: Arc<Arena>,
    /// The most bytes that are copied at once.
    chunk: usize,
    progress: Arc<Progress>,
}

/// However the job ends, nobody is left waiting for it.
impl Drop for Job {
    fn drop(&mut self) {
        self.progress.end(Err(Error::GivenUp));
    }
}

/// A run of the arena's bytes that is copied at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    group: usize,
    bytes: Range<usize>,
    /// Whether it is the last of its group.
    ends: bool,
}

/// The groups' bytes in chunks of at most so many; of a group without any, an empty one.
fn chunks(groups: &[PlannedGroup], most: usize) -> Vec<Chunk> {
    let of_group = |(group, planned): (usize, &PlannedGroup)| {
        let Range { start, end } = planned.bytes;
        let starts = (start..end.max(start + 1)).step_by(most);
        starts.map(move |from| {
            let to = end.min(from + most);
            Chunk { group, bytes: from..to, ends: to == end }
        })
    };
    groups.iter().enumerate().flat_map(of_group).collect()
}

/// A thread that fills one of the buffers, and the way there and back.
struct Lane {
    empty: Sender<Box<dyn Pinned>>,
    filled: Receiver<Result<Box<dyn Pinned>, Error>>,
}

impl Job {
    fn run(&self) {
        let began = Instant::now();
        let done = self.upload().map(|()| began.elapsed());
        self.progress.end(done);
    }

    fn upload(&self) -> Result<(), Error> {
        let chunks = chunks(self.plan.groups(), self.chunk);
        let largest = chunks.iter().map(|chunk| chunk.bytes.len()).max().unwrap_or(0);
        let stream = self.device.stream()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let wanted = BUFFERS.min(cores).min(chunks.len());
        scope(|scope| {
            let lanes: Vec<Lane> = (0..wanted)
                .map_while(|at| self.lane(scope, &chunks, largest, at, wanted))
                .collect();
            if lanes.len() == wanted {
                return self.copy_all(&*stream, &chunks, |at| {
                    let lane = &lanes[at % wanted];
                    let filled = lane.filled.recv().map_err(|_| Error::GivenUp)?;
                    // After the last chunk nobody takes it.
                    filled.map(|buffer| (buffer, Some(lane.empty.clone())))
                });
            }
            // Without threads, one buffer after the other.
            drop(lanes);
            self.copy_all(&*stream, &chunks, |at| {
                let mut buffer = self.device.pinned(chunks[at].bytes.len())?;
                self.fill(&chunks[at], buffer.bytes()?)?;
                Ok((buffer, None))
            })
        })?;
        Ok(stream.synchronize()?)
    }

    /// Copies chunk after chunk, as they are filled.
    fn copy_all(
        &self,
        stream: &dyn Stream,
        chunks: &[Chunk],
        mut filled: impl FnMut(
            usize,
        )
            -> Result<(Box<dyn Pinned>, Option<Sender<Box<dyn Pinned>>>), Error>,
    ) -> Result<(), Error> {
        for (at, chunk) in chunks.iter().enumerate() {
            if self.progress.is_given_up.load(Ordering::Acquire) {
                return Err(Error::GivenUp);
            }
            let (mut buffer, empty) = filled(at)?;
            let to = self.arena.address().plus(chunk.bytes.start);
            buffer.upload(stream, 0..chunk.bytes.len(), to)?;
            if let Some(empty) = empty {
                let _ = empty.send(buffer);
            }
            if chunk.ends {
                self.snapshot.intact()?;
                let event = self.device.event()?;
                stream.record(&*event)?;
                self.progress.uploaded(event);
            }
        }
        Ok(())
    }

    /// Starts a thread that fills every `step`th chunk from `first` on. `None` where the system gives no thread.
    fn lane<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        chunks: &'scope [Chunk],
        largest: usize,
        first: usize,
        step: usize,
    ) -> Option<Lane> {
        let (empty, returned) = channel();
        let (full, filled) = channel();
        let work = move || {
            let mut buffer = self.device.pinned(largest).map_err(Error::from);
            for chunk in chunks.iter().skip(first).step_by(step) {
                let done = buffer.and_then(|mut buffer| {
                    self.fill(chunk, buffer.bytes()?)?;
                    Ok(buffer)
                });
                // Who has stopped receiving has stopped uploading.
                let (Ok(()), Ok(next)) = (full.send(done), returned.recv()) else { return };
                buffer = Ok(next);
            }
        };
        Builder::new().name("upload-fill".into()).spawn_scoped(scope, work).ok()?;
        Some(Lane { empty, filled })
    }

    /// Fills a buffer with a chunk's bytes as they are to be on the device.
    fn fill(&self, chunk: &Chunk, buffer: &mut [u8]) -> Result<(), Error> {
        let Range { start, end } = chunk.bytes;
        for Piece { tensor, slot } in &self.plan.groups()[chunk.group].pieces {
            let (from, to) = (slot.offset.max(start), (slot.offset + slot.len).min(end));
            if from >= to {
                continue;
            }
            let of_source =
                |at: usize| (at - slot.offset) / slot.dtype.size() * tensor.dtype.size();
            let source = of_source(from)..of_source(to);
            self.snapshot.wait(tensor.place.part(source.clone()))?;
            let target = &mut buffer[from - start..to - start];
            let fits = convert::convert(&tensor.bytes[source], tensor.dtype, target, slot.dtype);
            if !fits {
                return Err(Error::Range { tensor: tensor.name.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_are_all_bytes_in_order(lens in prop::collection::vec(0usize..40, 1..8), most in 1usize..20) {
            let mut end = 0;
            let groups: Vec<PlannedGroup> = lens.iter().map(|len| {
                let start = end;
                end += len;
                PlannedGroup { name: String::new(), bytes: start..end, pieces: Vec::new() }
            }).collect();
            let chunks = chunks(&groups, most);
            let mut at = 0;
            for chunk in &chunks {
                prop_assert_eq!(chunk.bytes.start, at);
                prop_assert!(chunk.bytes.len() <= most);
                at = chunk.bytes.end;
            }
            prop_assert_eq!(at, end);
            let ends: Vec<usize> = chunks.iter().filter(|chunk| chunk.ends).map(|chunk| chunk.group).collect();
            prop_assert_eq!(ends, (0..lens.len()).collect::<Vec<_>>());
        }
    }
}
