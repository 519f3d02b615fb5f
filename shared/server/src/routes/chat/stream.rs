//! A reply as a stream of server-sent events, each sent when it is there.
//!
//! ```text
//! model's thread ── parts ──> Reply ── events ──> frame, as many as have come ──> the connection
//!                                └──── nothing for KEEP_ALIVE seconds: a comment
//! ```
//!
//! A frame is made when the connection asks for one, so a slow client slows nobody but itself: what it has not taken
//! lies bounded before it ([`crate::services::chat::job`]). While there is nothing to say, in the queue or during a
//! long prompt, a comment now and then keeps proxies from closing the connection.
//!
//! The body holds the model, its place and its ticket until its last byte, and when the client goes away it is
//! dropped: the job sees that nobody listens, and is gone before the next step. What fails after the first byte is an
//! event too, after which nothing comes; so is the end of the request's time, which a connection that is cut off would not
//! tell from a server that died.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::reply::Reply;
use crate::app::App;
use crate::edge::cost::Cost;
use crate::edge::deadline::{Deadline, OwnDeadline};
use crate::error::ApiError;
use crate::life::logging;

/// Bytes of a frame from which on it is sent as it is: a few network packets.
const FULL_FRAME: usize = 16 << 10;

/// The beginning of the answer, and its body to come.
pub(super) fn answer(app: &Arc<App>, reply: Reply) -> Response {
    let content_type = HeaderValue::from_static(reply.content_type());
    let begun = Instant::now();
    let deadline = OwnDeadline::default();
    let mut response = Response::new(Body::new(Stream {
        reply: Some(reply),
        silence: Silence::of(app.config.chat.keep_alive),
        time: Time::Unknown(deadline.clone()),
        begun,
    }));
    response.extensions_mut().insert(deadline);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would collect events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// See the module page.
struct Stream {
    /// `None` once all of it was said.
    reply: Option<Reply>,
    silence: Option<Silence>,
    time: Time,
    begun: Instant,
}

/// How long all of it may take.
enum Time {
    /// Not asked yet: it is known when the answer's headers are on their way.
    Unknown(OwnDeadline),
    Bounded(Duration, Pin<Box<Sleep>>),
    Unbounded,
}

impl Time {
    /// The error if it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Option<ApiError> {
        if let Self::Unknown(deadline) = self {
            *self = match deadline.get() {
                Some(Deadline { at, limit }) => Self::Bounded(limit, Box::pin(sleep_until(at))),
                None => Self::Unbounded,
            };
        }
        let Self::Bounded(limit, timer) = self else { return None };
        timer.as_mut().poll(cx).is_ready().then(|| ApiError::cut_off(*limit))
    }
}

/// How long nothing was said.
struct Silence {
    most: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn of(most: Duration) -> Option<Self> {
        (!most.is_zero()).then(|| Self { most, timer: Box::pin(sleep(most)) })
    }

    /// It begins anew.
    fn restart(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.most);
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(reply) = &mut this.reply else { return Poll::Ready(None) };
        let mut out = Vec::new();
        let is_over = loop {
            match reply.poll_write(cx, &mut out) {
                Poll::Ready(Ok(true)) if out.len() < FULL_FRAME => {}
                Poll::Ready(Ok(more)) => break !more,
                Poll::Ready(Err(error)) => {
                    reply.fail(&error, &mut out);
                    break true;
                }
                Poll::Pending => break false,
            }
        };
        // What was complete in time is no error, however late it is asked for.
        let is_late = if is_over { None } else { this.time.poll_over(cx) };
        let is_over = is_over || is_late.is_some();
        if let Some(error) = is_late {
            tracing::warn!(request_id = &*reply.id.0, "cut off: {error}");
            reply.fail(&error, &mut out);
        }
        if is_over {
            log(reply, this.begun.elapsed());
            this.reply = None;
        } else if out.is_empty() {
            let Some(silence) = &mut this.silence else { return Poll::Pending };
            if silence.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            out.extend_from_slice(reply.keep_alive());
        }
        if let Some(silence) = &mut this.silence {
            silence.restart();
        }
        if out.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Ready(Some(Ok(Frame::data(out.into()))))
        }
    }
}

/// The line that other answers have when their headers are ready.
fn log(reply: &Reply, took: Duration) {
    let Cost { items, tokens, times } = reply.cost();
    let [queue_ms, tokenize_ms, inference_ms] =
        [times.queue, times.tokenize, times.inference].map(logging::ms);
    let (ms, request_id) = (took.as_secs_f64() * 1e3, &*reply.id.0);
    tracing::info!(
        items,
        tokens,
        queue_ms,
        tokenize_ms,
        inference_ms,
        request_id,
        "streamed in {ms:.1} ms"
    );
}
