//! The waiting room, the queue and clients that go away. Requests are parked by polling them once,
//! and released through channels: nothing here depends on time.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
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
    let toy = Toy::with_hook(move || {
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
    let count = r#"defrost_inference_duration_seconds_count{model="toy/words"} 2"#;
    assert!(metrics.contains(count), "{metrics}");
}

/// What is left of a request whose client goes is not run.
#[tokio::test]
async fn running_work_sees_its_client_go() {
    let (toy, starts, release) = gated();
    // Each document in a micro-batch of its own.
    let app = start_with(&[("MAX_BATCH_TOKENS", "1")], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    {
        let body = json!({"query": "a", "documents": ["a", "b", "c"]});
        let mut gone = pin!(post(&router, "/v1/rerank", &body));
        park(gone.as_mut()).await;
        starts.recv().expect("the first micro-batch starts");
    }
    drop(release);
    assert_eq!(ask(&router).await.status, 200);
    assert_eq!(starts.try_iter().count(), 1, "the second micro-batch is the next request's");
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains("defrost_cancelled_total 1"), "{metrics}");
}

/// A request that comes while a large one runs is in the very next micro-batch.
#[tokio::test]
async fn a_small_request_does_not_wait_for_a_large_one() {
    let (toy, starts, release) = gated();
    let app = start_with(&[("MAX_BATCH_TOKENS", "4")], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let documents: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    let body = json!({"query": "a", "documents": documents});
    let mut large = pin!(post(&router, "/v1/rerank", &body));
    park(large.as_mut()).await;
    starts.recv().expect("the first micro-batch starts");
    let mut small = pin!(ask(&router));
    park(small.as_mut()).await;
    for _ in 0..2 {
        release.send(()).expect("the model waits");
        starts.recv().expect("another micro-batch starts");
    }
    assert_eq!(small.await.status, 200, "while the large one still runs");
    drop(release);
    let answer = large.await;
    assert_eq!(answer.json()["results"].as_array().map(Vec::len), Some(20));
}

/// As many large requests as may run at once do, and more wait: the small one has its turn among
/// those that run.
#[tokio::test]
async fn a_small_request_does_not_wait_for_many_large_ones() {
    let (toy, starts, release) = gated();
    let app = start_with(&[("MAX_BATCH_TOKENS", "4"), ("MAX_QUEUE", "3")], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let documents: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    let body = json!({"query": "a", "documents": documents});
    let mut large = Vec::new();
    for at in 0..5 {
        let mut one = Box::pin(post(&router, "/v1/rerank", &body));
        park(one.as_mut()).await;
        large.push(one);
        if at == 0 {
            starts.recv().expect("the first micro-batch starts");
        } else if at < 4 {
            // The model takes up those that have come; places are free again.
            for _ in 0..4 {
                release.send(()).expect("the model waits");
                starts.recv().expect("another micro-batch starts");
            }
        }
    }
    let mut small = pin!(ask(&router));
    park(small.as_mut()).await;
    // One that runs already, and a turn of each large one.
    for _ in 0..5 {
        release.send(()).expect("the model waits");
        starts.recv().expect("another micro-batch starts");
    }
    assert_eq!(small.await.status, 200, "while three large ones run and two wait");
    drop(release);
    for one in large {
        assert_eq!(one.await.json()["results"].as_array().map(Vec::len), Some(20));
    }
}

/// Jobs without anything in common run together, and each gets its own answers.
#[tokio::test]
async fn requests_share_micro_batches() {
    let (toy, starts, release) = gated();
    let app = start_with(&[], move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let mut first = pin!(ask(&router));
    park(first.as_mut()).await;
    starts.recv().expect("the first micro-batch starts");
    let body =
        |word: &str| json!({"query": "a b c", "documents": [word, "a b"], "raw_scores": true});
    let bodies = ["a", "b c a", "x"].map(body);
    let mut others: Vec<_> =
        bodies.iter().map(|body| Box::pin(post(&router, "/v1/rerank", body))).collect();
    for other in &mut others {
        park(other.as_mut()).await;
    }
    release.send(()).expect("the model waits");
    starts.recv().expect("the second micro-batch starts");
    drop(release);
    assert_eq!(first.await.status, 200);
    for (other, score) in others.into_iter().zip([0.0, 2.0, -1.0]) {
        let answer = other.await.json();
        let results = answer["results"].as_array().expect("results").clone();
        let found = results.iter().find(|one| one["index"] == 0).expect("the first document");
        assert_eq!(found["relevance_score"], score);
    }
    assert_eq!(starts.try_iter().count(), 0, "three requests, one micro-batch");
}

/// However many clients there are, `MAX_QUEUE` requests run and as many wait; the next is refused.
#[tokio::test]
async fn requests_that_have_begun_are_bounded_too() {
    let (toy, starts, release) = gated();
    let vars = [("MAX_BATCH_TOKENS", "1"), ("MAX_QUEUE", "2")];
    let app = start_with(&vars, move || Ok(toy));
    app.booted().await;
    let router = router(app);
    let body = json!({"query": "a", "documents": ["a", "b", "c", "d"]});
    let mut first = pin!(post(&router, "/v1/rerank", &body));
    park(first.as_mut()).await;
    starts.recv().expect("its first micro-batch starts");
    let mut second = pin!(post(&router, "/v1/rerank", &body));
    park(second.as_mut()).await;
    let mut third = pin!(post(&router, "/v1/rerank", &body));
    park(third.as_mut()).await;
    release.send(()).expect("the model waits");
    starts.recv().expect("the second request begins");
    let mut fourth = pin!(post(&router, "/v1/rerank", &body));
    park(fourth.as_mut()).await;
    for _ in 0..4 {
        release.send(()).expect("the model waits");
        starts.recv().expect("the two that run take turns");
        assert_eq!(ask(&router).await.status, 429, "two run and two wait");
    }
    drop(release);
    for request in [first, second, third, fourth] {
        assert_eq!(request.await.status, 200);
    }
}
