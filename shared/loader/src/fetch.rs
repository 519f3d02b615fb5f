//! Downloads the chunks of a snapshot: fast, whatever goes wrong on the way, and never a byte that was not verified.
//!
//! ```text
//! Queue (which chunks next) -> up to Pace (how many requests at once) parts in flight, each a ranged GET
//!   part: pieces arrive -> a chunk is complete -> BLAKE3 -> written to the file -> GOOD on the board
//!   a part that fails -> Retry (how soon again, how often) -> back in flight, only for what is still missing
//!   a part that is silent or slow -> a second request for what it has not brought; the first of the two wins
//! ```
//!
//! One task, the conductor, decides; parts only carry out. A part covers one to four chunks in a row. A chunk is put
//! together in memory, hashed, and handed to the kernel in one call: bytes that fail their hash are never in the file,
//! and a process that is killed at any point leaves a file in which every chunk that the board calls good is good.
//!
//! Readers of the snapshot mark the chunks that they wait for; those go first. So a model computes its first layer
//! while its last one is still on the way.
//!
//! Every request names the version the download began with (`If-Match`), and the answer must be the range that was
//! asked for, of that version. Anything else is refused before its body is read.

mod buffers;
mod pace;
mod part;
mod queue;
mod retry;
mod small;

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::board::Board;
use crate::error::{Error, Kind};
use crate::format::manifest::Manifest;
use crate::source::{Fault, FaultKind, Source};
use crate::verify::gate::Gate;

pub(crate) use buffers::Buffers;
pub(crate) use small::{head, manifest};

use pace::Pace;
use queue::Queue;
use retry::Retries;

/// How a download behaves. The defaults suit object stores from inside and outside their data centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// The whole download must be over after this time.
    pub deadline: Duration,
    /// Fewest and most requests at once. It begins with the fewest and adds more while that helps.
    ///
    /// 8 to 32: a connection to S3 carries 85 to 90 MB/s, so that 8 fill a link of 5 Gbit/s and 32 one of 20 Gbit/s.
    pub connections: std::ops::RangeInclusive<usize>,
    /// A request whose answer or next piece does not come for this long is given up and tried again.
    pub stall: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(10),
            connections: 8..=32,
            // The slowest of ordinary answers take 2 s (AWS advises to retry after 2 s, then 4 s).
            stall: Duration::from_secs(5),
        }
    }
}

/// The object that is downloaded.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) key: String,
    pub(crate) version: String,
    /// The length of the whole object in bytes.
    pub(crate) len: u64,
}

impl Object {
    fn url(&self) -> String {
        self.source.url(&self.key)
    }
}

/// Where it goes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) file: File,
    pub(crate) board: Arc<Board>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) buffers: Buffers,
}

impl Target {
    /// The bytes of the object that hold these chunks.
    fn bytes(&self, chunks: &Range<usize>) -> Range<u64> {
        let last = chunks.end.saturating_sub(1).max(chunks.start);
        self.manifest.chunk_range(chunks.start).start..self.manifest.chunk_range(last).end
    }
}

/// How often the conductor looks whether the download is still wanted, and which parts are late.
const TICK: Duration = Duration::from_millis(50);

/// A request is late if nothing came for this long: AWS answers after 30 ms, and then bytes flow.
const SILENT: Duration = Duration::from_millis(500);

/// One that trickles is late if it takes three times as long as 95 % of the others, and at least this long, AWS's own
/// figure. A shorter one would take a process that gets no processor for a slow network, and double its traffic.
const TRICKLING: Duration = Duration::from_secs(2);

/// Second requests are at most one in twenty, so that a slow network is not made slower, and a few for a start.
const ONE_SECOND_REQUEST_IN: usize = 20;
const FREE_SECOND_REQUESTS: usize = 4;

/// A request on its way.
struct Flight {
    chunks: Range<usize>,
    begun: Instant,
    /// The time at which bytes last came, in milliseconds since the download began.
    moved: Arc<AtomicU64>,
    /// Whether there is a second request for the same chunks, or this is one.
    doubled: bool,
    abort: AbortHandle,
}

/// Downloads every chunk that the board does not call good yet. `Ok` also when the gate was cancelled meanwhile.
pub(crate) async fn run(
    object: &Arc<Object>,
    target: &Arc<Target>,
    options: &FetchOptions,
) -> Result<(), Error> {
    let begun = Instant::now();
    let conducted =
        timeout_at(begun + options.deadline, Conductor::new(object, target, options).conduct());
    conducted.await.unwrap_or_else(|_| {
        let missing = (0..target.board.chunks()).filter(|&chunk| !target.board.is_good(chunk));
        let first = missing.clone().next().unwrap_or(0);
        Err(Error::new(Kind::Timeout, "the download did not end before its deadline")
            .in_file(object.url())
            .bytes(target.bytes(&(first..first + 1)))
            .mismatch(
                format_args!("all chunks within {} s", options.deadline.as_secs_f64()),
                format_args!("{} of {} missing", missing.count(), target.board.chunks()),
            )
            .remedy("what has arrived is kept: start again, or allow more time (RESTORE_TIMEOUT)"))
    })
}

struct Conductor<'a> {
    object: &'a Arc<Object>,
    target: &'a Arc<Target>,
    options: &'a FetchOptions,
    queue: Queue,
    pace: Pace,
    retries: Retries,
    running: JoinSet<Result<(), Fault>>,
    flights: HashMap<Id, Flight>,
    /// Failed parts and when they go again.
    resting: Vec<(Instant, Range<usize>)>,
    begun: usize,
    doubled: usize,
    window: (Instant, u64),
    arrived: Arc<AtomicU64>,
    since: Instant,
}

impl<'a> Conductor<'a> {
    fn new(object: &'a Arc<Object>, target: &'a Arc<Target>, options: &'a FetchOptions) -> Self {
        Self {
            object,
            target,
            options,
            queue: Queue::new(target.board.chunks()),
            pace: Pace::new(options.connections.clone()),
            retries: Retries::new(),
            running: JoinSet::new(),
            flights: HashMap::new(),
            resting: Vec::new(),
            begun: 0,
            doubled: 0,
            window: (Instant::now(), 0),
            arrived: Arc::default(),
            since: Instant::now(),
        }
    }

    fn milliseconds(&self) -> u64 {
        part::milliseconds(self.since.elapsed())
    }

    async fn conduct(mut self) -> Result<(), Error> {
        while !self.target.gate.cancelled() {
            self.measure();
            self.wake_the_rested();
            self.double_the_late();
            while self.running.len() < self.pace.limit()
                && let Some(chunks) = self.queue.next(&self.target.board, self.part())
            {
                self.begin(chunks, false);
            }
            if self.running.is_empty() && self.resting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        // Aborted by us, as the slower of two; or a bug, and then the chunks are simply missing.
                        Err(error) => (error.id(), Err(Fault::new(FaultKind::Broken, error.to_string()))),
                    };
                    self.ended(id, result)?;
                }
                () = sleep(TICK) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, chunks: Range<usize>, second: bool) {
        let moved = Arc::new(AtomicU64::new(self.milliseconds()));
        let retried = self.retries.attempts(chunks.start) > 0;
        let task = part::fetch(
            Arc::clone(self.object),
            Arc::clone(self.target),
            chunks.clone(),
            second || retried,
            self.options.stall,
            part::Progress {
                since: self.since,
                moved: Arc::clone(&moved),
                arrived: Arc::clone(&self.arrived),
            },
        );
        let abort = self.running.spawn(task);
        self.begun += 1;
        let flight = Flight { chunks, begun: Instant::now(), moved, doubled: second, abort };
        self.flights.insert(flight.abort.id(), flight);
    }

    fn ended(&mut self, id: Id, result: Result<(), Fault>) -> Result<(), Error> {
        let Some(flight) = self.flights.remove(&id) else { return Ok(()) };
        let missing: Vec<usize> =
            flight.chunks.clone().filter(|&chunk| !self.target.board.is_good(chunk)).collect();
        let Some(&first) = missing.first() else {
            self.arrive(&flight, result.is_ok());
            return Ok(());
        };
        if self.flights.values().any(|other| other.chunks.contains(&first)) {
            // The other request for the same chunks is still at it.
            return Ok(());
        }
        let fault = result.err().unwrap_or_else(|| {
            Fault::new(FaultKind::Corrupt, "chunks are missing after a complete answer")
        });
        if fault.kind == FaultKind::Throttled {
            self.pace.throttled();
        }
        let missing = first..missing.last().map_or(first, |last| last + 1);
        match self.retries.after(first, &fault) {
            Ok(rest) => {
                self.resting.push((Instant::now() + rest, missing));
                Ok(())
            }
            Err(attempts) => {
                let times = if attempts == 1 { "" } else { "s" };
                Err(fault
                    .into_error(
                        &format!("cannot be fetched ({attempts} attempt{times})"),
                        &self.object.url(),
                    )
                    .bytes(self.target.bytes(&missing)))
            }
        }
    }

    /// All of a part's chunks are good.
    fn arrive(&mut self, flight: &Flight, by_itself: bool) {
        for other in self.flights.values().filter(|other| other.chunks.end > flight.chunks.start) {
            if self.target.board.all_good(other.chunks.clone()) {
                other.abort.abort();
            }
        }
        self.queue.release(flight.chunks.clone());
        if !by_itself {
            return;
        }
        self.retries.succeeded();
        self.pace.took(flight.begun.elapsed());
    }

    fn part(&self) -> usize {
        self.pace.part(self.target.manifest.chunk_size, self.begun)
    }

    /// Tells the pace what has arrived. Bytes are counted as they come: requests that share a link end together, and
    /// counting them by the request would see floods and droughts.
    fn measure(&mut self) {
        let (since, before) = self.window;
        if since.elapsed() >= pace::WINDOW {
            let arrived = self.arrived.load(Ordering::Relaxed);
            self.pace.rate((arrived - before) as f64 / since.elapsed().as_secs_f64());
            self.window = (Instant::now(), arrived);
        }
    }

    fn wake_the_rested(&mut self) {
        let now = Instant::now();
        let mut rested: Vec<Range<usize>> = Vec::new();
        self.resting.retain(|(until, chunks)| {
            let rests = *until > now;
            if !rests {
                rested.push(chunks.clone());
            }
            rests
        });
        // They stay taken in the queue; a failed part does not wait in line again.
        for chunks in rested {
            self.begin(chunks, false);
        }
    }

    fn double_the_late(&mut self) {
        let slow = self.pace.usual().map_or(TRICKLING, |usual| (usual * 3).max(TRICKLING));
        let silent = self.milliseconds().saturating_sub(part::milliseconds(SILENT));
        let late = |flight: &Flight| {
            flight.moved.load(Ordering::Relaxed) < silent || flight.begun.elapsed() > slow
        };
        let allowed = FREE_SECOND_REQUESTS + self.begun / ONE_SECOND_REQUEST_IN;
        let due: Vec<Id> = self
            .flights
            .iter()
            .filter(|(_, flight)| !flight.doubled && late(flight))
            .map(|(id, _)| *id)
            .take(allowed.saturating_sub(self.doubled))
            .collect();
        for id in due {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            flight.doubled = true;
            let mut missing =
                flight.chunks.clone().filter(|&chunk| !self.target.board.is_good(chunk));
            let Some(first) = missing.next() else {
                // All it was sent for is there; only the end of its body is not.
                flight.abort.abort();
                continue;
            };
            let chunks = first..missing.next_back().unwrap_or(first) + 1;
            self.doubled += 1;
            self.begin(chunks, true);
        }
    }
}
