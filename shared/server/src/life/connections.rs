//! The open connections, and how to be rid of them: politely, never in the middle of an answer.
//!
//! Told to close, a connection with a request at hand closes after its answer, which says
//! `connection: close`. One that waits for a request gets [`LAST_CALL`]: what its client has sent
//! already, or sends because it was just answered or has just connected, is answered like that too,
//! and then the connection is closed. Two counts follow: `kept`, the connections that may still lie
//! idle, which is zero a last call after they were told; and `open`, all of them. A connection
//! accepted while others are told to close takes one request and was never kept.

use std::fmt::Display;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use tokio::sync::watch;

/// For a request that is on its way to a connection about to be closed: the time across a continent
/// and back. HTTP lets a client find its idle connection closed, but most libraries do not send a
/// POST again by themselves.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(100);

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    closing: watch::Sender<bool>,
    kept: watch::Sender<usize>,
    open: watch::Sender<usize>,
}

/// Counts one of something as long as it lives.
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
    pub(crate) fn serve<I, S, B>(
        &self,
        builder: &http1::Builder,
        io: I,
        service: S,
    ) -> impl Future<Output = ()> + use<I, S, B>
    where
        I: Read + Write + Unpin,
        S: Service<Request<Incoming>, Response = Response<B>>,
        S::Error: std::error::Error + Send + Sync + 'static,
        B: Body<Error: std::error::Error + Send + Sync> + 'static,
    {
        let open = Counted::enter(&self.open);
        let mut closing = self.closing.subscribe();
        let keep = !*closing.borrow_and_update();
        let mut kept = keep.then(|| Counted::enter(&self.kept));
        let at_hand = watch::Sender::new(0);
        let mut busy = at_hand.subscribe();
        let is_closing = closing.clone();
        let service = service_fn(move |request| {
            let at_hand = Counted::enter(&at_hand);
            let answer = service.call(request);
            let is_closing = is_closing.clone();
            async move {
                let _at_hand = at_hand;
                let mut answer = answer.await?;
                if *is_closing.borrow() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, S::Error>(answer)
            }
        });
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
                            tokio::select! {
                                biased;
                                ended = connection.as_mut() => break ended,
                                _ = busy.wait_for(|&requests| requests > 0) => {}
                                () = tokio::time::sleep(LAST_CALL) => {}
                            }
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

    /// Tells every connection to close, those that are yet to come too.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
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

pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
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

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;

    const REQUEST: &[u8] = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// A client's end of a connection that answers every request at once.
    fn connected(connections: &Connections) -> DuplexStream {
        let (client, server) = duplex(1 << 10);
        let answer = service_fn(async |_: Request<Incoming>| {
            Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let served = connections.serve(&http1::Builder::new(), TokioIo::new(server), answer);
        drop(tokio::spawn(served));
        client
    }

    async fn ask(client: &mut DuplexStream) -> String {
        client.write_all(REQUEST).await.expect("the connection is open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.expect("an answer"));
        }
        String::from_utf8(answer).expect("text")
    }

    async fn is_closed(client: &mut DuplexStream) -> bool {
        client.read(&mut [0]).await.is_ok_and(|bytes| bytes == 0)
    }

    /// Closed under them, these clients would lose what they are sending at that moment.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_on_its_way_is_answered() {
        let connections = Connections::default();
        let (mut fresh, mut used) = (connected(&connections), connected(&connections));
        let mut silent = connected(&connections);
        assert!(!ask(&mut used).await.contains("connection: close"));
        let closed = connections.close_idle();
        let clients = async {
            sleep(LAST_CALL / 2).await;
            for client in [&mut fresh, &mut used] {
                assert!(ask(client).await.contains("connection: close"));
                assert!(is_closed(client).await);
            }
            assert_eq!(*connections.open.borrow(), 1, "the one that says nothing");
        };
        tokio::join!(closed, clients);
        assert!(is_closed(&mut silent).await);
        connections.close_all().await;
        connections.keep();
        assert!(!ask(&mut connected(&connections)).await.contains("connection: close"));
    }
}
