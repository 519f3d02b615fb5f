//! A job that answers in several parts, a round each, and a body that carries them to a client.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use defrost_model::{Answers, Share, Tokens, Wanted};
use defrost_tasks::{Bounds, Error};
use hyper::body::Frame;
use shuttle::rand::{Rng as _, thread_rng};

use crate::app::App;
use crate::edge::budget::Held;
use crate::edge::request_id::RequestId;
use crate::edge::ticket::Ticket;
use crate::error::ApiError;
use crate::interleavings::toy::service_of;
use crate::models::admission::{Admitted, Begun};
use crate::models::events::{End, Event, Events, Sink};
use crate::models::job::{Job, Next, Preparation, Question, Work};
use crate::models::usage::Usage;

/// What the tests look at: as long as a job is anywhere, it has a clone of this.
pub(crate) type Guard = Arc<()>;

/// Asks for so many parts.
pub(crate) struct Stream {
    pub(crate) parts: usize,
    pub(crate) guard: Guard,
}

impl Question for Stream {
    type Part = Bytes;

    /// Tokenised where it is, or handed over for it.
    fn bytes(&self) -> usize {
        if thread_rng().gen_range(0..2) == 0 { 1 } else { 10_000 }
    }

    fn begin(self, _: Bounds, sink: Sink<Bytes>) -> Result<Box<dyn Preparation>, Error> {
        Ok(Box::new(Tokenised(Some(StreamJob::new(self.parts, sink, self.guard)))))
    }
}

struct Tokenised(Option<StreamJob>);

impl Preparation for Tokenised {
    fn step(&mut self, _: usize) -> Result<Option<Work>, Error> {
        Ok(self.0.take().map(|job| Work::Passes(Box::new(job))))
    }
}

/// Runs one sequence a round, and sends a part after each.
pub(crate) struct StreamJob {
    left: usize,
    sequences: [Tokens; 1],
    sink: Sink<Bytes>,
    usage: Usage,
    _guard: Guard,
}

impl StreamJob {
    pub(crate) fn new(parts: usize, sink: Sink<Bytes>, guard: Guard) -> Self {
        let sequences = [Tokens { ids: vec![1], types: Vec::new() }];
        Self { left: parts, sequences, sink, usage: Usage::default(), _guard: guard }
    }
}

impl Job for StreamJob {
    fn sequences(&self) -> &[Tokens] {
        &self.sequences
    }

    fn shares(&self) -> &[Share] {
        &[Share { stored: 0, prefix: 0, joins: false }]
    }

    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    fn numbers(&self) -> usize {
        0
    }

    fn is_abandoned(&self) -> bool {
        self.sink.is_abandoned()
    }

    fn advance(&mut self, answers: &[Answers]) -> Result<Next, Error> {
        assert_eq!(answers.len(), 1, "one answer a round");
        self.usage.lengths.push(1);
        self.sink.part(Bytes::from_static(b"part"));
        self.left -= 1;
        Ok(if self.left == 0 { Next::End } else { Next::Round })
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn end(self: Box<Self>, end: End) {
        self.sink.end(end);
    }
}

/// The answer to a request for a stream: its headers at once, its parts as they come.
pub(super) async fn answer(app: &App, name: &str, stream: Stream) -> Result<Response, ApiError> {
    let ticket = Ticket::new(app, false);
    let admitted = app.model(service_of(name).role, Some(name)).await?;
    let Begun { events, held } = app.begin(&admitted, stream).await?;
    let body = EventBody { events, _held: held, _admitted: admitted };
    let answer = Response::new(Body::new(body));
    Ok(ticket.move_into(answer, &RequestId::of(None)))
}

/// Parts as they come. What the request holds is dropped with it, the model last.
struct EventBody {
    events: Events<Bytes>,
    _held: Held,
    _admitted: Admitted,
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        pin!(self.events.next()).poll(cx).map(|event| match event {
            Some(Event::Part(part)) => Some(Ok(Frame::data(part))),
            Some(Event::End(End { result: Ok(()), .. })) => None,
            Some(Event::End(End { result: Err(error), .. })) => Some(Err((&*error).into())),
            None => Some(Err(ApiError::unavailable())),
        })
    }
}
