//! Around a memory snapshot: what waits, what is told, what is renewed. The snapshot itself is what
//! happens between two calls, so a jump of the injected clock is all there is of it.

use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use defrost_server::{
    App, BootError, Clock, Config, HookError, Loaded, Offer, PhaseRecorder, RERANK, router, start,
};
use defrost_tasks::Error;
use serde_json::json;

use super::toy::{Answer, FUNCTION, Toy, config, get, park, post, start_with};

async fn ask(router: &Router) -> Answer {
    post(router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await
}

async fn ready_app(vars: &[(&str, &str)], toy: Toy) -> Arc<App> {
    let app = start_with(vars, move || Ok(toy));
    app.booted().await;
    app
}

/// A scorer that writes down what is asked of it, and what it wrote.
fn recording() -> (Toy, Arc<Mutex<Vec<&'static str>>>) {
    let journal = Arc::new(Mutex::new(Vec::new()));
    let (scores, hooks) = (Arc::clone(&journal), Arc::clone(&journal));
    let toy = Toy::with_hook(move || {
        scores.lock().expect("no panic").push("score");
        Ok(())
    });
    let toy = toy.with_snapshot_hook(move |name| {
        hooks.lock().expect("no panic").push(name);
        Ok(())
    });
    (toy, journal)
}

#[tokio::test]
async fn hooks_run_once_and_in_order() {
    let (toy, journal) = recording();
    let app = ready_app(&[], toy).await;
    app.after_restore().await.expect("nothing to do");
    for _ in 0..2 {
        app.before_snapshot().await.expect("quiesced");
    }
    assert_eq!(*journal.lock().expect("no panic"), ["score", "before_snapshot"]);
    for _ in 0..2 {
        app.after_restore().await.expect("restored");
    }
    assert_eq!(ask(&router(app)).await.status, 200);
    assert_eq!(
        *journal.lock().expect("no panic"),
        ["score", "before_snapshot", "after_restore", "score"]
    );
}

#[tokio::test]
async fn requests_wait_until_the_restore() {
    let app = ready_app(&[("MAX_QUEUE", "1")], Toy::new()).await;
    let router = router(app.clone());
    app.before_snapshot().await.expect("quiesced");
    let mut waiting = pin!(ask(&router));
    park(waiting.as_mut()).await;
    let refused = ask(&router).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    let message = refused.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("the model is quiesced for a memory snapshot"), "{message}");
    for path in ["/health", "/ready"] {
        let answer = get(&router, path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (503, &json!("quiesced")));
    }
    assert_eq!(get(&router, "/live").await.status, 200);
    app.after_restore().await.expect("restored");
    assert_eq!(waiting.await.status, 200);
    assert_eq!(get(&router, "/health").await.json()["status"], "ok");
}

#[tokio::test]
async fn waiting_requests_hear_of_shutdown_and_of_the_timeout() {
    let app = ready_app(&[], Toy::new()).await;
    let running = router(app.clone());
    app.before_snapshot().await.expect("quiesced");
    let mut waiting = pin!(ask(&running));
    park(waiting.as_mut()).await;
    app.drain();
    assert_eq!(waiting.await.json()["error"]["code"], "shutting_down");

    let app = ready_app(&[], Toy::new()).await;
    app.drain();
    assert_eq!(app.before_snapshot().await, Err(HookError::ShuttingDown));
}

#[tokio::test]
async fn what_runs_is_finished_first() {
    let (started, starts) = channel();
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let toy = Toy::with_hook(move || {
        let _ = started.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(())
    });
    let app = ready_app(&[], toy).await;
    let router = router(app.clone());
    let mut running = pin!(ask(&router));
    park(running.as_mut()).await;
    starts.recv().expect("scoring starts");
    let mut quiescing = pin!(app.before_snapshot());
    park(quiescing.as_mut()).await;
    let mut behind = pin!(ask(&router));
    park(behind.as_mut()).await;
    drop(release);
    assert_eq!(running.await.status, 200);
    quiescing.await.expect("quiesced");
    park(behind.as_mut()).await;
    app.after_restore().await.expect("restored");
    assert_eq!(behind.await.status, 200);
}

#[tokio::test]
async fn a_snapshot_waits_for_boot() {
    let (release, gate) = channel::<()>();
    let (toy, journal) = recording();
    let app = start_with(&[], move || {
        let _ = gate.recv();
        Ok(toy)
    });
    let mut quiescing = pin!(app.before_snapshot());
    park(quiescing.as_mut()).await;
    release.send(()).expect("the loader waits");
    quiescing.await.expect("quiesced");
    assert_eq!(*journal.lock().expect("no panic"), ["score", "before_snapshot"]);

    let app = start_with(&[], || Err(BootError::new("broken")));
    assert_eq!(app.before_snapshot().await, Err(HookError::NotLoaded("broken".into())));

    let (release, gate) = channel::<()>();
    let app = start_with(&[("BOOT_TIMEOUT", "0")], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    });
    assert_eq!(app.before_snapshot().await, Err(HookError::Late(Duration::ZERO)));
    drop(release);
    app.booted().await;
    assert_eq!(ask(&router(app)).await.status, 200, "the gate is open");
}

#[tokio::test]
async fn a_failed_snapshot_is_undone_and_a_failed_restore_is_not() {
    let broken = Arc::new(Mutex::new("before_snapshot"));
    let breaks = Arc::clone(&broken);
    let toy = Toy::new().with_snapshot_hook(move |name| match name {
        name if name == *breaks.lock().expect("no panic") => Err(Error::Model("broken".into())),
        _ => Ok(()),
    });
    let app = ready_app(&[], toy).await;
    let router = router(app.clone());
    let error = app.before_snapshot().await.expect_err("broken");
    assert_eq!(error.to_string(), "detaching the model before a snapshot failed: broken");
    assert_eq!(get(&router, "/ready").await.status, 200);
    assert_eq!(ask(&router).await.status, 200);

    *broken.lock().expect("no panic") = "after_restore";
    app.before_snapshot().await.expect("quiesced");
    let error = app.after_restore().await.expect_err("broken");
    assert_eq!(error.to_string(), "renewing the model after a restore failed: broken");
    assert_eq!(get(&router, "/ready").await.json()["status"], "quiesced");
    let mut waiting = pin!(ask(&router));
    park(waiting.as_mut()).await;
    *broken.lock().expect("no panic") = "";
    app.after_restore().await.expect("restored");
    assert_eq!(waiting.await.status, 200);
}

/// Clocks that go where they are told, both at once.
#[derive(Debug)]
struct Jumping(Mutex<(Instant, Duration)>);

impl Jumping {
    fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("no panic");
        *now = (now.0 + by, now.1 + by);
    }
}

impl Clock for Jumping {
    fn now(&self) -> Instant {
        self.0.lock().expect("no panic").0
    }

    fn unix(&self) -> Duration {
        self.0.lock().expect("no panic").1
    }
}

#[tokio::test]
async fn times_are_counted_from_the_restore() {
    let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
    let earlier = Instant::now();
    let clock = Arc::new(Jumping(Mutex::new((earlier + day, Duration::from_secs(1000)))));
    let phases = Arc::new(PhaseRecorder::with_clock(Arc::<Jumping>::clone(&clock)));
    let (scoring, restoring) = (Arc::clone(&clock), Arc::clone(&clock));
    let toy = Toy::with_hook(move || {
        scoring.advance(second * 2);
        Ok(())
    });
    let toy = toy.with_snapshot_hook(move |name| {
        if name == "after_restore" {
            restoring.advance(second * 3);
        }
        Ok(())
    });
    let toy = Mutex::new(Some(toy));
    let load = move |_: &Config, _: &PhaseRecorder| {
        let toy = toy.lock().expect("no panic").take().expect("loaded once");
        Ok(Loaded::scorer(toy))
    };
    let app =
        start(FUNCTION, config(&[]), phases, [Offer::new(&RERANK, load)]).expect("a thread starts");
    app.booted().await;
    let router = router(app.clone());
    let created = async || get(&router, "/v1/models").await.json()["data"][0]["created"].clone();
    assert_eq!(created().await, 1000);
    ask(&router).await;

    // The second copy wakes up where the monotonic clock has not been yet, the first where it was.
    for (restores, monotonic, unix) in [(1, earlier + day * 9, 5_000), (2, earlier, 9_000)] {
        app.before_snapshot().await.expect("quiesced");
        *clock.0.lock().expect("no panic") = (monotonic, Duration::from_secs(unix));
        app.after_restore().await.expect("restored");
        let boot = async || get(&router, "/health").await.json()["boot"].clone();
        assert_eq!(boot().await["phases"]["restored"], 3.0);
        assert_eq!(boot().await["ready_seconds"], 3.0);
        assert_eq!(boot().await["first_score_seconds"], json!(null));
        assert_eq!(created().await, unix + 3);
        let first = ask(&router).await;
        let timing = first.header("server-timing");
        assert!(timing.contains("boot_restored;dur=3000.000"), "{timing}");
        assert!(timing.contains("boot_first_score;dur="), "{timing}");
        assert!(!ask(&router).await.header("server-timing").contains("boot_"));
        assert_eq!(boot().await["first_score_seconds"], 5.0);
        assert_eq!(get(&router, "/health").await.json()["uptime_seconds"], 7.0);
        let metrics = get(&router, "/metrics").await.text;
        for line in [
            format!("defrost_restores_total {restores}"),
            "defrost_restore_seconds 3.0".to_owned(),
            "defrost_cold_start_seconds 3.0".to_owned(),
            "defrost_boot_phase_seconds{phase=\"restored\"} 3.0".to_owned(),
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
        }
    }
}

/// Two restores of one process stand for two copies of it: same memory, same counters, same keys.
#[tokio::test]
async fn copies_give_different_ids() {
    let app = ready_app(&[], Toy::new()).await;
    let router = router(app.clone());
    let mut ids = Vec::new();
    for _ in 0..2 {
        app.before_snapshot().await.expect("quiesced");
        app.after_restore().await.expect("restored");
        let answer = ask(&router).await;
        let id = answer.header("x-request-id").to_owned();
        assert_eq!(answer.json()["id"], format!("rerank-{id}"));
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}
