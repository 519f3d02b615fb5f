//! Plain HTTP/1.1: an accept loop that ends by finishing what it has begun.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::app::App;
use crate::pace::Paced;
use crate::router::router;

/// Longest time for a request's headers to arrive; hyper's own default, stated because it only
/// holds with a timer set.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes that a connection buffers beside what a request holds: headers, and a piece of a body.
const CONNECTION_BUFFER: usize = 64 << 10;

/// Pause after a failed accept. It fails when file descriptors have run out; they come back as
/// connections close, and trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let service = router.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = TowerToHyperService::new(service);
        tokio::spawn(app.connections.serve(&builder, Paced::new(TokioIo::new(stream)), service));
    }
    drop(listener);
    app.drain();
    tokio::time::timeout(app.config.shutdown_grace, app.connections.close_all()).await.is_ok()
}
