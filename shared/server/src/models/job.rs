//! What one request asks of a model, as the model's thread sees it: sequences to run, and what
//! makes events of the answers. What the sequences mean, and what the events are, only the service
//! knows that made the job.
//!
//! ```text
//! Question ──begin──> Preparation ──step, step, …──> Job ──advance, …──> events ──end──> last event
//! (a service's)       (a piece of text at a time)         (all answers to its sequences)
//! ```
//!
//! A job runs in rounds. In each, all of its sequences run, in as many micro-batches as it takes
//! and beside those of other jobs; then [`Job::advance`] gets the answers and says whether there is
//! another round. An answer at once ([`at_once`]) has one round and one event.

use defrost_model::{Answers, Share, Tokens, Wanted};
pub(crate) use defrost_tasks::Next;
use defrost_tasks::{Bounds, Error, Prepared, Preparing};

use crate::edge::budget::BYTES_OF_A_NUMBER;
use crate::models::events::{End, Sink};
#[cfg(feature = "chat")]
use crate::models::usage::Times;
use crate::models::usage::Usage;

/// What a request asks of a model: how its texts become a job.
pub(crate) trait Question: Send {
    /// What the job's events carry.
    type Part: Send + 'static;

    /// Bytes of text that tokenising reads, about and at most: what goes before each text counts
    /// with each.
    fn bytes(&self) -> usize;

    /// Begins to tokenise it for a job that answers through `sink`.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn begin(self, bounds: Bounds, sink: Sink<Self::Part>) -> Result<Box<dyn Preparation>, Error>;
}

/// A job, by the way in which the model's thread runs it ([`crate::models::turns`]).
pub(crate) enum Work {
    /// Whole sequences, in passes.
    Passes(Box<dyn Job>),
    /// Sequences that go on, a step at a time.
    #[cfg(feature = "chat")]
    Generation(Box<dyn Generating>),
}

/// A job that completions are generated for.
#[cfg(feature = "chat")]
pub(crate) trait Generating: defrost_tasks::GenerationJob + Send {
    /// Bytes that may lie between the model's thread and its request.
    fn bytes(&self) -> usize;

    /// Hears what it took, before its end.
    fn took(&mut self, usage: defrost_tasks::Usage);

    /// What it has had of the model so far.
    fn usage(&self) -> &Usage;

    /// Sends its last event.
    fn end(self: Box<Self>, end: End);
}

impl Work {
    /// Bytes that its answer may take while it is made and on its way, as far as they may be many.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Passes(job) => job.numbers().saturating_mul(BYTES_OF_A_NUMBER),
            #[cfg(feature = "chat")]
            Self::Generation(job) => job.bytes(),
        }
    }

    /// What it has had of the model so far.
    pub(crate) fn usage(&self) -> &Usage {
        match self {
            Self::Passes(job) => job.usage(),
            #[cfg(feature = "chat")]
            Self::Generation(job) => job.usage(),
        }
    }

    /// Sends its last event.
    pub(crate) fn end(self, end: End) {
        match self {
            Self::Passes(job) => job.end(end),
            #[cfg(feature = "chat")]
            Self::Generation(job) => job.end(end),
        }
    }

    /// Ends it, because its model does not run such jobs.
    #[cfg(feature = "chat")]
    pub(crate) fn refuse(self) {
        let error = Error::Model("the model does not run jobs of this kind".into());
        self.end(End { result: Err(std::sync::Arc::new(error)), times: Times::default() });
    }
}

/// A question that is being tokenised, a piece at a time.
pub(crate) trait Preparation: Send {
    /// Tokenises about so many bytes of text, at least one text; the job once all are.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn step(&mut self, bytes: usize) -> Result<Option<Work>, Error>;
}

/// See the module page.
pub(crate) trait Job: Send {
    /// The sequences of this round.
    fn sequences(&self) -> &[Tokens];

    /// How each of them comes by its beginning, and so what it costs.
    fn shares(&self) -> &[Share];

    /// What is wanted of every token of them.
    fn wanted(&self) -> Wanted;

    /// Numbers of the answer, as far as it may be large.
    fn numbers(&self) -> usize;

    /// Whether its request has been given up.
    fn is_abandoned(&self) -> bool;

    /// Takes the answers to all sequences of this round, and sends what they make.
    ///
    /// # Errors
    /// What is wrong with the answers; the job is then ended with it.
    fn advance(&mut self, answers: &[Answers]) -> Result<Next, Error>;

    /// What it has had of the model so far.
    fn usage(&self) -> &Usage;

    /// Sends its last event.
    fn end(self: Box<Self>, end: End);
}

/// A job that answers at once: one part, made of all answers together. `usage` says what that part
/// has had of the model.
pub(crate) fn at_once<P: Send + 'static>(
    preparing: Box<dyn Preparing<P>>,
    sink: Sink<P>,
    usage: fn(&P) -> Usage,
) -> Box<dyn Preparation> {
    Box::new(PreparingAtOnce { preparing, sink, usage })
}

struct PreparingAtOnce<P> {
    preparing: Box<dyn Preparing<P>>,
    sink: Sink<P>,
    usage: fn(&P) -> Usage,
}

impl<P: Send + 'static> Preparation for PreparingAtOnce<P> {
    fn step(&mut self, bytes: usize) -> Result<Option<Work>, Error> {
        let Some(prepared) = self.preparing.step(bytes)? else { return Ok(None) };
        let (sink, usage_of) = (self.sink.clone(), self.usage);
        let job = AtOnce { prepared: Some(prepared), sink, usage_of, usage: Usage::default() };
        Ok(Some(Work::Passes(Box::new(job))))
    }
}

struct AtOnce<P> {
    /// The request's sequences, until they are answered.
    prepared: Option<Prepared<P>>,
    sink: Sink<P>,
    usage_of: fn(&P) -> Usage,
    usage: Usage,
}

impl<P: Send> Job for AtOnce<P> {
    fn sequences(&self) -> &[Tokens] {
        self.prepared.as_ref().map_or(&[], Prepared::sequences)
    }

    fn shares(&self) -> &[Share] {
        self.prepared.as_ref().map_or(&[], Prepared::shares)
    }

    fn wanted(&self) -> Wanted {
        self.prepared.as_ref().map_or_else(Wanted::default, Prepared::wanted)
    }

    fn numbers(&self) -> usize {
        self.prepared.as_ref().map_or(0, Prepared::numbers)
    }

    fn is_abandoned(&self) -> bool {
        self.sink.is_abandoned()
    }

    fn advance(&mut self, answers: &[Answers]) -> Result<Next, Error> {
        if let Some(prepared) = self.prepared.take() {
            let part = prepared.finish(answers)?;
            self.usage = (self.usage_of)(&part);
            self.sink.part(part);
        }
        Ok(Next::End)
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn end(self: Box<Self>, end: End) {
        self.sink.end(end);
    }
}

/// What was tokenised in one step.
pub(crate) struct InOneStep<T>(Option<Prepared<T>>);

impl<T> InOneStep<T> {
    pub(crate) fn new(prepared: Prepared<T>) -> Self {
        Self(Some(prepared))
    }
}

impl<T: Send> Preparing<T> for InOneStep<T> {
    fn step(&mut self, _: usize) -> Result<Option<Prepared<T>>, Error> {
        Ok(self.0.take())
    }
}
