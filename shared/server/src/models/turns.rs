//! How the jobs of one model take turns on its thread.
//!
//! ```text
//!                    ┌─ Passes: micro-batches of whole sequences   (scores, vectors)
//! worker ── Turns ───┤
//!                    └─ Generation: steps of sequences that go on  (chat)
//! ```
//!
//! The thread of a model ([`crate::models::worker`]) looks at its queue, then gives the model one [`Turns::round`],
//! and so on. What a round is depends on what the model does, and so a loaded model brings its own
//! ([`crate::models::loaded`]): functions whose models only answer in passes do not link what generates.
//!
//! A round is short, one pass or one step, since everything else waits for it: jobs that have come in, requests that
//! have been given up, other models' rounds, and hooks.

use crate::models::command::Queued;
use crate::models::events::End;
use crate::models::job::Work;
use crate::models::usage::Load;

/// See the module page.
pub(crate) trait Turns {
    /// Takes a job from the queue.
    fn push(&mut self, queued: Queued);

    /// Whether there is nothing to do.
    fn is_empty(&self) -> bool;

    /// Runs what is there once, after dropping what has been given up.
    fn round(&mut self) -> Round;
}

/// A job that is done with, and what it is to be told.
pub(crate) struct Ended {
    pub(crate) job: Work,
    pub(crate) end: End,
}

/// What happened between two looks at the queue.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) ended: Vec<Ended>,
    /// How many jobs were dropped because their requests have been given up.
    pub(crate) cancelled: usize,
    /// How busy the model is now, where it says so.
    pub(crate) load: Option<Load>,
}
