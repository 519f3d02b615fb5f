//! The waiting room, the queue and clients that go away. Requests are parked by polling them
//! once, and released through channels: nothing here depends on time.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
use defrost_inference::Error;
use defrost_server::{BootError, router};
use serde_json::json;

use super::toy::{Answer, Toy, get, park, post, start_with};

async fn ask(router: &Router) -> Answer {
    post(router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await
}

/// A scorer that says when it starts and waits to be released.
fn gated() -> (Toy, Receiver<()>, Sender<()>) {
    let (started, starts) = channel();
    let (release, gate) = channel();
    let gate = Mutex::new(gate);
    let toy = Toy::with_hook(move |_| {
        let _ = started.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(())
    });
    (toy, starts, release)
}

#[tokio::test]
async fn requests_wait_for_the_model() {
    let (release, gate) = channel::<()>();
    let app = start_with(&[("MAX_QUEUE", "2")], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    });
    let router = router(app);
    let mut first = pin!(ask(&router));
    park(first.as_mut()).await;
    let mut second = pin!(ask(&router));
    park(second.as_mut()).await;
    let third = ask(&router).await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (503, "1"));
    assert_eq!(third.json()["error"]["code"], "loading");
    let invalid = post(&router, "/v1/rerank", &json!({"query": "a"})).await;
    assert_eq!(invalid.status, 400, "a bad request need not wait to hear so");
    release.send(()).expect("the loader waits");
    assert_eq!(first.await.status, 200);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn waiting_requests_hear_of_a_failed_boot() {
    let (release, gate) = channel::<()>();
    let app = start_with(&[], move || {
        let _ = gate.recv();
        Err(BootError::new("broken"))
    });
    let router = router(app);
    let mut waiting = pin!(ask(&router));
    park(waiting.as_mut()).await;
    release.send(()).expect("the loader waits");
    let answer = waiting.await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "model_unavailable");
}

#[tokio::test]
async fn waiting_requests_hear_of_shutdown_and_of_the_timeout() {
    let (release, gate) = channel::<()>();
    let app = start_with(&[], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    });
    let running = router(app.clone());
    let mut waiting = pin!(ask(&running));
    park(waiting.as_mut()).await;
    app.drain();
    assert_eq!(waiting.await.json()["error"]["code"], "shutting_down");
    drop(release);

    let (_release, gate) = channel::<()>();
    let app = start_with(&[("BOOT_TIMEOUT", "0")], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    });
    assert_eq!(ask(&router(app)).await.json()["error"]["code"], "loading");
}

#[tokio::test]
async fn a_full_queue_is_429() {
    let (toy, starts, release) = gated();
    let app = start_with(&[("MAX_QUEUE", "1")], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let mut running = pin!(ask(&router));
    park(running.as_mut()).await;
    starts.recv().expect("scoring starts");
    let mut queued = pin!(ask(&router));
    park(queued.as_mut()).await;
    let metrics = get(&router, "/metrics").await;
    assert!(metrics.text.contains("defrost_queue_depth 1"), "{}", metrics.text);
    let refused = ask(&router).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    let tei = post(&router, "/rerank", &json!({"query": "a", "texts": ["a"]})).await;
    assert_eq!((tei.status.as_u16(), &tei.json()["error_type"]), (429, &json!("Overloaded")));
    drop(release);
    assert_eq!(running.await.status, 200);
    assert_eq!(queued.await.status, 200);
}

#[tokio::test]
async fn work_of_gone_clients_is_dropped() {
    let (toy, starts, release) = gated();
    let app = start_with(&[], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let mut running = pin!(ask(&router));
    park(running.as_mut()).await;
    starts.recv().expect("scoring starts");
    {
        let mut gone = pin!(ask(&router));
        park(gone.as_mut()).await;
    }
    drop(release);
    assert_eq!(running.await.status, 200);
    assert_eq!(ask(&router).await.status, 200);
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains("defrost_cancelled_total 1"), "{metrics}");
    assert!(metrics.contains("defrost_inference_duration_seconds_count 2"), "{metrics}");
}

#[tokio::test]
async fn running_work_sees_its_client_go() {
    let (started, starts) = channel();
    let (stopped, stops) = channel();
    let toy = Toy::with_hook(move |cancelled| {
        let _ = started.send(());
        while !cancelled() {
            std::thread::yield_now();
        }
        let _ = stopped.send(());
        Err(Error::Cancelled)
    });
    let app = start_with(&[], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    {
        let mut gone = pin!(ask(&router));
        park(gone.as_mut()).await;
        starts.recv().expect("scoring starts");
    }
    stops.recv().expect("scoring stops");
}
