//! How a job answers: parts of an answer as they are made, then its end.
//!
//! ```text
//! model's thread                                      request
//! Sink ── Part, Part, …, End(times, or the error) ──> Events
//! ```
//!
//! An answer at once is a stream of one part ([`Events::only`]). Sending never blocks, since the
//! model's thread serves other requests too; what may lie between the two ends is bounded before a
//! job runs, by the bytes that are held for its answer. A request that is given up drops its
//! [`Events`]: the job sees that its events are not read any more, and is not run any further. A
//! model's thread that goes away drops the sink, and the request finds events that stop without an
//! end.

use std::sync::Arc;
#[cfg(feature = "chat")]
use std::task::{Context, Poll};

use defrost_tasks::Error;
use tokio::sync::mpsc;

use crate::models::usage::Times;

/// One message of a job to its request.
#[derive(Debug)]
pub(crate) enum Event<P> {
    /// The next part of the answer.
    Part(P),
    /// The last event.
    End(End),
}

/// How a job ended, and how long it took.
#[derive(Debug)]
pub(crate) struct End {
    /// The model's error is that of every job in the micro-batch.
    pub(crate) result: Result<(), Arc<Error>>,
    pub(crate) times: Times,
}

/// Where a job's events go.
#[derive(Debug)]
pub(crate) struct Sink<P>(mpsc::UnboundedSender<Event<P>>);

/// Where a request takes them.
#[derive(Debug)]
pub(crate) struct Events<P>(mpsc::UnboundedReceiver<Event<P>>);

/// Both ends of a job's answer.
pub(crate) fn channel<P>() -> (Sink<P>, Events<P>) {
    let (sink, events) = mpsc::unbounded_channel();
    (Sink(sink), Events(events))
}

// Not derived, which would ask it of the parts.
impl<P> Clone for Sink<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P> Sink<P> {
    /// Sends a part of the answer; one that no request waits for is dropped.
    pub(crate) fn part(&self, part: P) {
        let _ = self.0.send(Event::Part(part));
    }

    /// Sends the last event.
    pub(crate) fn end(self, end: End) {
        // The request may have been given up.
        let _ = self.0.send(Event::End(end));
    }

    /// Whether the request has been given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl<P> Events<P> {
    /// The next event; `None` after the last one, or where the model's thread has gone.
    pub(crate) async fn next(&mut self) -> Option<Event<P>> {
        self.0.recv().await
    }

    /// As [`Events::next`], for what is polled itself.
    #[cfg(feature = "chat")]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<P>>> {
        self.0.poll_recv(cx)
    }

    /// The one part of an answer at once, and where its time went; `None` where the model's thread
    /// has gone.
    pub(crate) async fn only(mut self) -> Option<(Result<P, Arc<Error>>, Times)> {
        let mut only = None;
        loop {
            match self.next().await? {
                Event::Part(part) => only = Some(part),
                Event::End(End { result: Ok(()), times }) => return Some((Ok(only?), times)),
                Event::End(End { result: Err(error), times }) => return Some((Err(error), times)),
            }
        }
    }
}
