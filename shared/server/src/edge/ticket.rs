//! What a request holds until the last byte of its answer has been handed over.
//!
//! An answer may take long to send, or come piece by piece. So a request does not end when its
//! headers are ready: its ticket moves into the body, and is dropped with it, whether the client
//! has taken everything or has gone.
//!
//! The ticket also knows when the time of the request is over. A body that is still being written
//! then ends with an error, which closes the connection before the answer is complete, and what
//! wrote it is given up. A body of known length was written at once and is only on its way: how
//! slowly a client may take that is the business of [`crate::edge::pace`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Sleep, sleep_until};

use crate::app::App;
use crate::edge::deadline::Deadline;
use crate::edge::request_id::RequestId;
use crate::life::idle::Busy;

/// See the module page.
pub(crate) struct Ticket {
    _in_flight: InFlight,
    _busy: Option<Busy>,
}

/// Counts a request.
struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Ticket {
    /// For a request that begins now. A probe is no reason for a process to stay.
    pub(crate) fn new(app: &App, is_probe: bool) -> Self {
        app.metrics.inflight.inc();
        Self {
            _in_flight: InFlight(app.metrics.inflight.clone()),
            _busy: (!is_probe).then(|| app.activity.enter()),
        }
    }

    /// The answer to the request of this id, which holds what the ticket holds until its last byte
    /// or its deadline.
    pub(crate) fn move_into(self, mut answer: Response, id: &RequestId) -> Response {
        let deadline = answer.extensions_mut().remove::<Deadline>();
        answer.map(|body| {
            let is_written = hyper::body::Body::size_hint(&body).exact().is_some();
            let deadline = deadline.filter(|_| !is_written);
            let late = deadline.map(|Deadline { at, limit }| Late {
                timer: Box::pin(sleep_until(at)),
                limit,
                id: id.clone(),
            });
            Body::new(Carrier { body, late, _ticket: self })
        })
    }
}

/// The end of the time of a body that is still being written.
struct Late {
    timer: Pin<Box<Sleep>>,
    limit: Duration,
    id: RequestId,
}

struct Carrier {
    body: Body,
    late: Option<Late>,
    _ticket: Ticket,
}

impl Carrier {
    /// Gives up what writes the body; the error that ends it.
    fn cut(&mut self, Late { limit, id, .. }: Late) -> axum::Error {
        self.body = Body::empty();
        let limit = limit.as_secs_f64();
        let message = format!(
            "the answer was not complete within {limit} s, the time that the request or REQUEST_TIMEOUT gives"
        );
        tracing::warn!(request_id = &*id.0, "cut off: {message}");
        axum::Error::new(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
    }
}

impl hyper::body::Body for Carrier {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // A body that has ended was complete in time.
        if let Poll::Ready(None) = frame {
            return frame;
        }
        let is_over = |late: &mut Late| late.timer.as_mut().poll(cx).is_ready();
        match self.late.take_if(is_over) {
            Some(late) => Poll::Ready(Some(Err(self.cut(late)))),
            None => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::edge::deadline::within;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(3);

    /// A body of so many parts, each of which is there when it is asked for; then it ends, or never
    /// does.
    struct Parts {
        left: usize,
        ends: bool,
        _job: Arc<()>,
    }

    impl hyper::body::Body for Parts {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.left.checked_sub(1) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part")))))
                }
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    /// The body of an answer that was begun in time, the count of requests in flight, and what its
    /// job holds.
    async fn answered(left: usize, ends: bool) -> (Body, Gauge, Arc<()>) {
        let job = Arc::new(());
        let body = Body::new(Parts { left, ends, _job: Arc::clone(&job) });
        let in_flight = Gauge::default();
        in_flight.inc();
        let ticket = Ticket { _in_flight: InFlight(in_flight.clone()), _busy: None };
        let answer = within(LIMIT, std::future::ready(Response::new(body))).await;
        (ticket.move_into(answer, &RequestId::of(None)).into_body(), in_flight, job)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_no_more_after_the_deadline() {
        let (mut body, in_flight, job) = answered(1000, true).await;
        for _ in 0..3 {
            assert!(body.frame().await.is_some_and(|part| part.is_ok()));
            advance(SECOND).await;
        }
        assert_eq!((in_flight.get(), Arc::strong_count(&job)), (1, 2));
        let error = body.frame().await.expect("an event").expect_err("the time is over");
        assert!(error.to_string().contains("within 3 s"), "{error}");
        assert_eq!(Arc::strong_count(&job), 1, "its job is given up with it");
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!(in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_cut_off() {
        let (mut body, ..) = answered(1, false).await;
        assert!(body.frame().await.is_some_and(|part| part.is_ok()));
        let begun = tokio::time::Instant::now();
        let cut = timeout(LIMIT * 2, body.frame()).await.expect("it does not wait for ever");
        assert!(cut.is_some_and(|part| part.is_err()));
        assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_complete_in_time_is_no_error_however_late_its_end_is_read() {
        let (mut body, ..) = answered(1, true).await;
        assert!(body.frame().await.is_some_and(|part| part.is_ok()));
        advance(SECOND * 10).await;
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_written_at_once_is_not_bounded() {
        let ticket = Ticket { _in_flight: InFlight(Gauge::default()), _busy: None };
        let answer = within(LIMIT, std::future::ready(Response::new(Body::from("all")))).await;
        let body = ticket.move_into(answer, &RequestId::of(None)).into_body();
        advance(SECOND * 10).await;
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "all");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_are_late_are_an_answer_of_their_own() {
        let answer = within(LIMIT, std::future::pending::<Response>()).await;
        assert_eq!(answer.status(), 504);
    }
}
