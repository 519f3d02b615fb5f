//! Plain HTTP/1.1: an accept loop that ends by finishing what it has begun.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;
use tower::ServiceExt as _;

use crate::app::App;
use crate::edge::pace::Paced;
use crate::life::connections::{LAST_CALL, poll_once};
use crate::router::router;

/// Longest time for a request's headers to arrive; hyper's own default, stated because it only
/// holds with a timer set.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes that a connection buffers beside what a request holds: headers, and a piece of a
/// body.
const CONNECTION_BUFFER: usize = 64 << 10;

/// Pause after a failed accept. It fails when file descriptors have run out; they come back as
/// connections close, and trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time between two lines about failed accepts. Where descriptors come and go, accepts fail and
/// succeed many times a second, and a line each would fill a disk.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Failed accepts, of which the log gets a line each period.
#[derive(Debug, Default)]
struct Refused {
    told: Option<Instant>,
    untold: u64,
}

impl Refused {
    /// Counts one; how many there were since the last line, if it is time for the next.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let is_time =
            self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        is_time.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

/// Serves until `shutdown` resolves, then stops accepting, finishes the requests at hand within
/// `SHUTDOWN_GRACE`, and returns whether all of them were finished.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let router = router(Arc::clone(&app));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(CONNECTION_BUFFER);
    let serve = |stream: TcpStream, peer| {
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let service = router.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = TowerToHyperService::new(service);
        tokio::spawn(app.connections.serve(&builder, Paced::new(TokioIo::new(stream)), service));
    };
    let mut shutdown = pin!(shutdown);
    let mut refused = Refused::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(count) = refused.one_more(Instant::now()) {
                        tracing::warn!("accepting a connection failed, {count} times since the last such line: {error}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        serve(stream, peer);
    }
    app.drain();
    app.connections.close();
    // The kernel has accepted connections that this process has not, and closing the listener would
    // reset them. What comes within a last call is served, and then what is there.
    let last_call = tokio::time::Instant::now() + LAST_CALL;
    while let Ok(Ok((stream, peer))) = timeout_at(last_call, listener.accept()).await {
        serve(stream, peer);
    }
    while let Some(Ok((stream, peer))) = poll_once(pin!(listener.accept())).await {
        serve(stream, peer);
    }
    drop(listener);
    tokio::time::timeout(app.config.shutdown_grace, app.connections.close_all()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_accepts_are_a_line_a_period() {
        let mut refused = Refused::default();
        let begin = Instant::now();
        let mut told = Vec::new();
        // Half a minute of failures, as often as they are tried.
        for attempt in 0..600 {
            let now = begin + ACCEPT_PAUSE * attempt;
            told.extend(refused.one_more(now).map(|count| (now - begin, count)));
        }
        let seconds = Duration::from_secs;
        assert_eq!(told, [(seconds(0), 1), (seconds(10), 200), (seconds(20), 200)]);
        // What came after the last line is in the next one, however late.
        assert_eq!(refused.one_more(begin + seconds(3600)), Some(200));
        // A clock that stands elsewhere after a memory snapshot does no harm.
        assert_eq!(refused.one_more(begin), None);
    }
}
