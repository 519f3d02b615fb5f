//! What a request holds until the last byte of its answer has been handed over.
//!
//! An answer may take long to send, or come piece by piece. So a request does not end when its headers are ready: its ticket
//! moves into the body, and is dropped with it, whether the client has taken everything or has gone.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::gauge::Gauge;

use crate::app::App;
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

    /// The answer, which holds what the ticket holds.
    pub(crate) fn move_into(self, answer: Response) -> Response {
        answer.map(|body| Body::new(Carrier { body, _ticket: self }))
    }
}

struct Carrier {
    body: Body,
    _ticket: Ticket,
}

impl hyper::body::Body for Carrier {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
