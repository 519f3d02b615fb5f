//! The open connections, and how to be rid of them: politely, never in the middle of an answer.
//!
//! Told to close, a connection that waits for a request is closed at once, and one with a request
//! at hand after its answer, which says `connection: close`. Two counts follow: `kept`, the
//! connections that may still lie idle, which is zero moments after they were told; and `open`,
//! all of them. A connection accepted while others are told to close takes one request and was
//! never kept.

use std::fmt::Display;
use std::pin::{Pin, pin};

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use tokio::sync::watch;

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    closing: watch::Sender<bool>,
    kept: watch::Sender<usize>,
    open: watch::Sender<usize>,
}

/// One of the counted, while it lives.
#[derive(Debug)]
struct Counted(watch::Sender<usize>);

impl Counted {
    fn enter(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Connections {
    /// A connection's whole life, to be run on a task of its own.
    pub(crate) fn serve<I, S>(
        &self,
        builder: &http1::Builder,
        io: I,
        service: S,
    ) -> impl Future<Output = ()> + use<I, S>
    where
        I: Read + Write + Unpin,
        S: HttpService<Incoming, ResBody: Body<Error: std::error::Error + Send + Sync> + 'static>,
        S::Error: std::error::Error + Send + Sync,
    {
        let open = Counted::enter(&self.open);
        let mut closing = self.closing.subscribe();
        let keep = !*closing.borrow_and_update();
        let mut kept = keep.then(|| Counted::enter(&self.kept));
        let connection = builder.clone().keep_alive(keep).serve_connection(io, service);
        async move {
            let _open = open;
            let mut connection = pin!(connection);
            let ended = loop {
                let told = async { closing.wait_for(|closing| *closing).await.is_ok() };
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => break ended,
                    told = told, if kept.is_some() => {
                        if told {
                            connection.as_mut().graceful_shutdown();
                        }
                        // The next poll closes an idle connection.
                        if let Some(ended) = poll_once(connection.as_mut()).await {
                            break ended;
                        }
                        kept = None;
                    }
                }
            };
            log(ended);
        }
    }

    /// Tells every connection to close, and returns when none lies idle any more.
    pub(crate) async fn close_idle(&self) {
        self.closing.send_replace(true);
        none(&self.kept).await;
    }

    /// Tells every connection to close, and returns when all are closed.
    pub(crate) async fn close_all(&self) {
        self.closing.send_replace(true);
        none(&self.open).await;
    }

    /// New connections are kept again between requests.
    pub(crate) fn keep(&self) {
        self.closing.send_replace(false);
    }
}

async fn none(count: &watch::Sender<usize>) {
    // The sender is ours: the channel is open.
    let _ = count.subscribe().wait_for(|count| *count == 0).await;
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

fn log(ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        tracing::debug!("connection ended: {error}");
    }
}
