//! Plain HTTP/1.1: an accept loop that ends by finishing what it has begun.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::app::App;
use crate::router::router;

/// Longest time for a request's headers to arrive; hyper's own default, stated because it only
/// holds with a timer set.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

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
    let service = TowerToHyperService::new(router(Arc::clone(&app)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let connection =
            connections.watch(builder.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection ended: {error}");
            }
        });
    }
    drop(listener);
    app.drain();
    tokio::time::timeout(app.config.shutdown_grace, connections.shutdown()).await.is_ok()
}
