//! Texts become tokens beside the model's thread, a piece of a request at a time.
//!
//! ```text
//! request ──> small: at once, on the thread that has it ─────────────────┐
//!         └─> large: wait for a place, tokenise a piece, give it back ──>┴──> sequences, within bounds ──> queue
//!                    └───────────────< the next piece <──────┘
//! ```
//!
//! Tokenising a megabyte takes as long as a forward pass, and a client may send ten: on the model's
//! thread every request would wait for it. Here a large request has one of few places for as long
//! as a piece takes and stands behind the others that wait before it has one for its next piece, so
//! it delays another large one by a piece at a time, and a small one, which is tokenised before it
//! could be handed over, not at all. A request whose client goes away has no next piece.

use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_tasks::{Bounds, Error};
use tokio::sync::Semaphore;

use crate::models::job::{Preparation, Work};
use crate::models::model::Model;
use crate::sync;

/// Requests of up to so many bytes of text, repeated ones counted each time, are tokenised where
/// they are: a fifth of a millisecond, a few times what handing them over and back takes.
const SMALL_BYTES: usize = 4 << 10;

/// Bytes of a piece: 1 to 4 ms, which a large request waits for another one.
const PIECE_BYTES: usize = 64 << 10;

/// See the module page.
#[derive(Debug)]
pub(crate) struct Tokenising {
    places: Arc<Semaphore>,
    bounds: Bounds,
}

/// What came of tokenising.
pub(crate) struct Tokenised {
    pub(crate) job: Work,
    /// The time that it took, without waiting.
    pub(crate) took: Duration,
}

impl Tokenising {
    /// With places for half of the processors: the other half goes on with what is tokenised.
    pub(crate) fn within(bounds: Bounds) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new((processors / 2).max(1))), bounds }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A place for work of about a piece on a thread of its own.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let stopped = || Error::Tokenizer("the thread that tokenises stopped".into());
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopped())?;
        let work = move || {
            // Given back when the work ends, also where its request has been given up.
            let _place = place;
            work()
        };
        sync::apart(work).await.ok_or_else(stopped)
    }

    /// The job of a question of so many bytes of text, which `begin` begins to tokenise. Dropping
    /// the future gives it up.
    pub(crate) async fn tokenise(
        &self,
        model: &Arc<Model>,
        bytes: usize,
        begin: impl FnOnce(Bounds) -> Result<Box<dyn Preparation>, Error>,
    ) -> Result<Tokenised, Error> {
        let begun = Instant::now();
        let mut preparation = begin(self.bounds)?;
        if bytes <= SMALL_BYTES {
            loop {
                if let Some(job) = preparation.step(usize::MAX)? {
                    return Ok(Tokenised { job, took: begun.elapsed() });
                }
            }
        }
        let mut took = Duration::ZERO;
        loop {
            // The model too, and to be dropped after the rest: its mapping must not go while a
            // piece reads the tokenizer in it.
            let model = Arc::clone(model);
            let piece = move || {
                let begun = Instant::now();
                let step = preparation.step(PIECE_BYTES);
                (step, preparation, begun.elapsed(), model)
            };
            let (step, rest, time, _model) = self.apart(piece).await?;
            took += time;
            preparation = rest;
            if let Some(job) = step? {
                return Ok(Tokenised { job, took });
            }
        }
    }
}
