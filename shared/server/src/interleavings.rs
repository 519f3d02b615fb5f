//! Orders in which tasks and threads hand over to each other, chosen by `shuttle`: no request waits
//! for ever, and what must not happen beside something else does not.
//!
//! The real [`App`] runs here, its models' threads too, around a toy of a model. Which loads fail,
//! which client goes away and which task goes on at each step is drawn; a hang is found as one
//! (every task waits), not by a clock.

#[cfg(feature = "chat")]
mod generation;
pub(crate) mod stream;
pub(crate) mod toy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::Uri;
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use shuttle::future::{block_on, spawn};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use self::stream::{Guard, Stream};
use self::toy::{FILE_BYTES, World, service_of};
use crate::app::App;
use crate::error::ApiError;
use crate::life::quiesce::Quiesced;
use crate::routes::cached;
use crate::service::Service;
use crate::services::embed::EMBED;
use crate::services::rerank::RERANK;

/// Orders tried by each test and scheduler: a few seconds of a debug build. The deadlocks that this
/// page was written after were found within the first hundred.
const ORDERS: usize = 500;

/// Changes of which task goes first that a schedule of the second kind makes. Known faults needed
/// two or three.
const CHANGES: usize = 4;

/// Runs `test` in many orders: some where each step is drawn, some where one task is held back for
/// long.
fn in_many_orders(test: impl Fn() + Send + Sync + Clone + 'static) {
    let config = || {
        let mut config = shuttle::Config::new();
        // A request's future is larger than shuttle's default stack of 32 KiB.
        config.stack_size = 512 << 10;
        config.max_steps = shuttle::MaxSteps::FailAfter(1_000_000);
        config
    };
    shuttle::Runner::new(RandomScheduler::new(ORDERS), config()).run(test.clone());
    shuttle::Runner::new(PctScheduler::new(CHANGES, ORDERS), config()).run(test);
}

/// The service that a request for this model goes to: its own, or in one of eight the other one's,
/// which refuses it at once.
fn service_for(name: &str) -> &'static Service {
    match (thread_rng().gen_range(0..8), service_of(name).name()) {
        (0, "rerank") => &EMBED,
        (0, _) => &RERANK,
        _ => service_of(name),
    }
}

async fn ask(app: &App, name: &str) -> Result<(), ApiError> {
    ask_of(app, service_for(name), name).await
}

async fn ask_of(app: &App, service: &Service, name: &str) -> Result<(), ApiError> {
    let model = app.model(service.role, Some(name)).await?;
    let scorer = model.loaded.own().expect("toys score");
    let finished = app.run(&model, toy::question(scorer)).await?;
    finished.result.map(drop).map_err(|error| (&*error).into())
}

/// Asks as the routes do where answers are kept.
async fn ask_for_a_kept_answer(app: &App, name: &str) -> Result<(), ApiError> {
    let body = format!(r#"{{"model": "{name}"}}"#).into();
    let answer = |_| async {
        ask(app, name).await?;
        Ok(([("content-type", "application/json")], "{}").into_response())
    };
    cached(app, service_for(name).role, &Uri::from_static("/v1/rerank"), body, answer)
        .await
        .map(drop)
}

/// Polls a request so often at most, then drops it: its client has gone.
async fn ask_for_a_while(app: &App, name: &str, polls: usize) {
    let mut request = std::pin::pin!(ask(app, name));
    for _ in 0..polls {
        let done =
            std::future::poll_fn(|cx| std::task::Poll::Ready(request.as_mut().poll(cx).is_ready()));
        if done.await {
            return;
        }
        shuttle::future::yield_now().await;
    }
}

fn name() -> &'static str {
    ["a", "b", "c"][thread_rng().gen_range(0..3)]
}

/// Clients that ask for three models of which there is room for one; some loads fail, some clients
/// go away.
fn clients(app: &Arc<App>, count: usize) -> Vec<shuttle::future::JoinHandle<()>> {
    (0..count)
        .map(|_| {
            let app = Arc::clone(app);
            spawn(async move {
                for _ in 0..2 {
                    // A load that failed is an answer too.
                    match thread_rng().gen_range(0..4) {
                        0 => ask_for_a_while(&app, name(), thread_rng().gen_range(0..6)).await,
                        1 => drop(ask_for_a_kept_answer(&app, name()).await),
                        _ => drop(ask(&app, name()).await),
                    }
                }
            })
        })
        .collect()
}

#[test]
fn models_that_come_and_go_leave_no_request_waiting() {
    let world = World::new();
    in_many_orders(move || {
        let app = world.start(&[("MODELS_MEMORY", FILE_BYTES), ("ENABLE_CACHE", "true")], 3);
        block_on(async {
            for client in clients(&app, 3) {
                client.await.expect("no client fails");
            }
            // Whatever went wrong before, every model can still be had.
            world.heal();
            for name in ["a", "b", "c"] {
                // A load that was under way may still fail, but not the next one.
                let service = service_of(name);
                if ask_of(&app, service, name).await.is_err() {
                    let again = ask_of(&app, service, name).await;
                    again.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                }
            }
            app.fleet.end().await;
        });
    });
}

#[test]
fn a_single_model_that_fails_is_told_to_all() {
    let world = World::new();
    in_many_orders(move || {
        let app = world.start(&[], 2);
        block_on(async {
            let told = spawn({
                let app = Arc::clone(&app);
                async move { app.failed().await }
            });
            let mut answered = 0;
            for client in clients(&app, 2) {
                client.await.expect("no client fails");
                answered += 1;
            }
            assert_eq!(answered, 2);
            if ask_of(&app, service_of("a"), "a").await.is_err() {
                assert_eq!(told.await.expect("no panic"), "drawn to fail");
            } else {
                told.abort();
            }
            app.fleet.end().await;
        });
    });
}

#[test]
fn nothing_happens_between_a_snapshot_and_its_restore() {
    let world = World::new();
    in_many_orders(move || {
        let app = world.start(&[("MODELS_MEMORY", FILE_BYTES)], 8);
        block_on(async {
            let clients = clients(&app, 3);
            let platform = spawn({
                let (app, world) = (Arc::clone(&app), world.clone());
                async move {
                    for _ in 0..2 {
                        if app.before_snapshot().await.is_err() {
                            continue;
                        }
                        assert_eq!(app.hooks.quiesced(), Quiesced::Yes);
                        world.quiet(true);
                        for _ in 0..thread_rng().gen_range(0..8) {
                            shuttle::future::yield_now().await;
                        }
                        world.quiet(false);
                        app.after_restore().await.expect("a toy wakes up");
                    }
                }
            });
            platform.await.expect("nothing ran while it was quiet");
            for client in clients {
                client.await.expect("no client fails");
            }
            app.fleet.end().await;
        });
    });
}

/// Parts of each stream below.
const PARTS: usize = 3;

/// Asks for a stream, reads some of it, and goes away.
async fn read_some(app: &App, guard: Guard) {
    let reads = thread_rng().gen_range(0..=PARTS + 1);
    let (name, stream) = (name(), Stream { parts: PARTS, guard });
    let answer = stream::answer(app, name, stream).await.expect("models load");
    let mut body = answer.into_body();
    let mut parts = 0;
    for _ in 0..reads {
        match body.frame().await {
            Some(part) => drop(part.expect("a model runs")),
            None => break,
        }
        parts += 1;
        let slot = app.fleet.find(None, Some(name)).here().expect("a known name");
        assert!(slot.is_held(), "its model is held as long as its body is there");
        assert!(app.metrics.inflight.get() > 0, "it counts as long as its body is there");
    }
    assert_eq!(parts, reads.min(PARTS), "a stream ends after its last part and not before");
}

#[test]
fn a_stream_holds_its_model_until_its_last_part_is_read_or_its_client_has_gone() {
    let world = World::new();
    in_many_orders(move || {
        let app = world.start(&[("MODELS_MEMORY", FILE_BYTES)], 8);
        world.heal();
        let guard = Guard::default();
        block_on(async {
            let clients: Vec<_> = (0..3)
                .map(|_| {
                    let (app, guard) = (Arc::clone(&app), Guard::clone(&guard));
                    spawn(async move { read_some(&app, guard).await })
                })
                .collect();
            // A snapshot waits for the streams that have begun, and those that come later for the
            // restore.
            app.before_snapshot().await.expect("streams end");
            world.quiet(true);
            shuttle::future::yield_now().await;
            world.quiet(false);
            app.after_restore().await.expect("a toy wakes up");
            for client in clients {
                client.await.expect("no client fails");
            }
            assert_eq!(app.metrics.inflight.get(), 0);
            assert!(!app.fleet.slots.iter().any(|slot| slot.is_held()));
            app.fleet.end().await;
            assert_eq!(app.places.available_permits(), app.config.max_queue);
            assert_eq!(Arc::strong_count(&guard), 1, "no job is left");
        });
    });
}

#[test]
fn the_fair_lock_has_one_holder_at_a_time() {
    in_many_orders(|| {
        let lock = Arc::new(crate::models::fair_lock::FairLock::default());
        let (asked, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (lock, asked, inside) =
                    (Arc::clone(&lock), Arc::clone(&asked), Arc::clone(&inside));
                shuttle::thread::spawn(move || {
                    for _ in 0..3 {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let _guard = lock.lock();
                        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                        shuttle::thread::yield_now();
                        inside.store(false, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 9);
    });
}
