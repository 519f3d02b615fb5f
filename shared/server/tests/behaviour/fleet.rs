//! Several models in one process: loaded when they are asked for, unloaded when another one needs
//! their memory.

use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use defrost_model::{Planned, Wanted};
use defrost_server::{
    App, BootError, Config, Info, Loaded, Offer, PhaseRecorder, Pipeline, RERANK, ScoreLists,
    Scorer, router, start,
};
use defrost_tasks::{Error, ModelInfo, Prepared, ScoreTask};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::toy::{Answer, FUNCTION, Toy, get, park, parse, post, served};

/// `@` is a folder with a file of 100 bytes for each model, which is what a toy takes.
const THREE: [(&str, &str); 2] =
    [("MODELS", "small=@/a,medium=@/b,large=@/c"), ("MODEL_ALIASES", "0.6b=small,8b=large")];

type Journal = Arc<Mutex<Vec<String>>>;

/// A toy that writes down when it comes and goes.
struct Noted {
    toy: Toy,
    place: String,
    journal: Journal,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.journal.lock().expect("no panic").push(format!("-{}", self.place));
    }
}

impl Scorer for Noted {
    fn facts(&self) -> &ModelInfo {
        self.toy.facts()
    }

    fn prepare(&self, requests: &[ScoreTask]) -> Result<Prepared<ScoreLists>, Error> {
        self.toy.prepare(requests)
    }
}

impl Pipeline for Noted {
    fn info(&self) -> Info {
        self.toy.info()
    }

    fn run(
        &self,
        tokens: &[Planned<'_>],
        wanted: Wanted,
    ) -> Result<Vec<defrost_model::Answers>, Error> {
        self.toy.run(tokens, wanted)
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        self.toy.sample()
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.journal.lock().expect("no panic").push(format!("quiet {}", self.place));
        Ok(())
    }
}

/// A process with these settings whose models come from `toys`, and what happened to them.
fn fleet(
    vars: &[(&str, &str)],
    toys: impl Fn(&str) -> Result<Toy, BootError> + Send + Sync + 'static,
) -> (Arc<App>, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a", "b", "c"] {
        std::fs::write(folder.path().join(name), [0; 100]).expect("a file");
    }
    let root = folder.path().display().to_string();
    let vars: Vec<_> =
        vars.iter().map(|(name, value)| (*name, value.replace('@', &root))).collect();
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let journal = Journal::default();
    let notes = Arc::clone(&journal);
    let load = move |config: &Config, _: &PhaseRecorder| {
        let _lives_as_long = &folder;
        let place = config.model.rsplit('/').next().expect("a name").to_owned();
        let toy = toys(&place)?.named(&format!("toy/{place}"));
        notes.lock().expect("no panic").push(format!("+{place}"));
        let journal = Arc::clone(&notes);
        Ok(Loaded::scorer(Noted { toy, place, journal }))
    };
    let phases = Arc::new(PhaseRecorder::start());
    let offers = [Offer::new(&RERANK, load)];
    (start(FUNCTION, served(&vars), phases, offers).expect("a thread starts"), journal)
}

async fn booted(vars: &[(&str, &str)]) -> (Router, Journal) {
    let (app, journal) = fleet(vars, |_| Ok(Toy::new()));
    app.booted().await;
    (router(app), journal)
}

fn seen(journal: &Journal) -> Vec<String> {
    journal.lock().expect("no panic").clone()
}

async fn ask(router: &Router, model: Option<&str>) -> Answer {
    let body = json!({"query": "a b", "documents": ["a b"], "model": model});
    post(router, "/v1/rerank", &body).await
}

async fn served_by(router: &Router, model: Option<&str>) -> String {
    let answer = ask(router, model).await;
    assert_eq!(answer.status, 200, "{model:?}: {}", answer.text);
    answer.json()["model"].as_str().expect("a name").to_owned()
}

async fn states(router: &Router) -> Value {
    let models = get(router, "/models").await.json();
    let all = models["models"].as_object().expect("models by name").clone();
    all.into_iter().map(|(name, facts)| (name, facts["loaded"].clone())).collect()
}

#[tokio::test]
async fn d8_d10_a_model_is_loaded_when_it_is_named() {
    let (router, journal) = booted(&THREE).await;
    assert_eq!(seen(&journal), ["+a"], "only the default");
    let before = json!({"small": true, "0.6b": true, "toy/a": true, "medium": false, "large": false, "8b": false});
    assert_eq!(states(&router).await, before);
    assert_eq!(served_by(&router, None).await, "small");
    assert_eq!(served_by(&router, Some("0.6b")).await, "0.6b");
    assert_eq!(served_by(&router, Some("toy/a")).await, "toy/a");
    assert_eq!(seen(&journal), ["+a"]);
    assert_eq!(served_by(&router, Some("8b")).await, "8b");
    assert_eq!(seen(&journal), ["+a", "+c"]);
    assert_eq!(states(&router).await["large"], true);
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(models["default_model"], "small");
    assert!(models["data"].as_array().is_some_and(|data| data.len() >= 3));
    let info = get(&router, "/info?model=8b").await.json();
    assert_eq!(info["model_id"], "toy/c");
}

#[tokio::test]
async fn a_name_that_no_model_has_is_refused() {
    let (router, journal) = booted(&THREE).await;
    for (path, body) in [
        ("/v1/rerank", json!({"query": "a", "documents": ["a"], "model": "huge"})),
        ("/v1/score", json!({"text_1": "a", "text_2": "a", "model": "huge"})),
    ] {
        let answer = post(&router, path, &body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
        assert!(answer.text.contains("0.6b"), "the names are told: {}", answer.text);
    }
    assert_eq!(get(&router, "/info?model=huge").await.status, 404);
    let twice = get(&router, "/info?model=small&model=large").await;
    assert_eq!((twice.status.as_u16(), &twice.json()["error"]["param"]), (400, &json!("model")));
    assert_eq!(seen(&journal), ["+a"]);
}

#[tokio::test]
async fn the_least_recently_used_one_makes_room() {
    let vars = [THREE[0], ("MODELS_MEMORY", "250")];
    let (router, journal) = booted(&vars).await;
    served_by(&router, Some("medium")).await;
    served_by(&router, Some("small")).await;
    served_by(&router, Some("large")).await;
    assert_eq!(seen(&journal), ["+a", "+b", "-b", "+c"]);
    served_by(&router, Some("medium")).await;
    assert_eq!(seen(&journal), ["+a", "+b", "-b", "+c", "-a", "+b"], "the default is no exception");
    assert_eq!(get(&router, "/ready").await.status, 200, "it comes when it is asked for");
    assert_eq!(served_by(&router, None).await, "small");
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains("defrost_model_evictions_total 3"), "{metrics}");
    assert!(metrics.contains("defrost_models_loaded 2"), "{metrics}");
    assert!(!metrics.contains("defrost_model_info{model=\"toy/c\""), "{metrics}");
}

#[tokio::test]
async fn one_that_is_larger_than_the_limit_is_alone() {
    let vars = [THREE[0], ("MODELS_MEMORY", "50")];
    let (router, journal) = booted(&vars).await;
    served_by(&router, Some("medium")).await;
    served_by(&router, Some("large")).await;
    assert_eq!(seen(&journal), ["+a", "-a", "+b", "-b", "+c"]);
}

/// A toy whose micro-batches begin with a word to `begun` and wait for one from `go_on`.
fn waiting(begun: Sender<()>, go_on: Receiver<()>) -> Toy {
    let go_on = Mutex::new(go_on);
    Toy::with_hook(move || {
        begun.send(()).expect("the test listens");
        go_on.lock().expect("no panic").recv().expect("the test speaks");
        Ok(())
    })
}

#[tokio::test]
async fn nothing_is_unloaded_under_a_running_request() {
    let (begin, begun) = channel();
    let (let_go, go_on) = channel();
    let slow = Mutex::new(Some(waiting(begin, go_on)));
    let vars = [THREE[0], ("MODELS_MEMORY", "100")];
    let (app, journal) = fleet(&vars, move |place| match place {
        "b" => Ok(slow.lock().expect("no panic").take().expect("loaded once")),
        _ => Ok(Toy::new()),
    });
    app.booted().await;
    let router = router(app);
    let running = tokio::spawn({
        let router = router.clone();
        async move { ask(&router, Some("medium")).await }
    });
    tokio::task::spawn_blocking(move || begun.recv()).await.expect("no panic").expect("it runs");
    let mut next = pin!(ask(&router, Some("large")));
    park(next.as_mut()).await;
    // What the large one waits for is that the other's thread ends, and that waits for the test.
    while states(&router).await["medium"] == true {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen(&journal), ["+a", "-a", "+b"]);
    let_go.send(()).expect("it waits");
    assert_eq!(running.await.expect("no panic").status, 200);
    assert_eq!(next.await.status, 200);
    assert_eq!(seen(&journal), ["+a", "-a", "+b", "-b", "+c"]);
}

#[tokio::test]
async fn a_request_during_boot_waits_for_the_default_and_then_for_its_own() {
    let (let_go, go_on) = channel::<()>();
    let go_on = Mutex::new(go_on);
    let vars = [THREE[0], ("MODELS_MEMORY", "100")];
    let (app, journal) = fleet(&vars, move |place| {
        if place == "a" {
            go_on.lock().expect("no panic").recv().expect("the test speaks");
        }
        Ok(Toy::new())
    });
    let router = router(app);
    let mut early = pin!(ask(&router, Some("medium")));
    park(early.as_mut()).await;
    let_go.send(()).expect("it waits");
    assert_eq!(early.await.status, 200);
    assert_eq!(seen(&journal), ["+a", "-a", "+b"]);
}

#[tokio::test]
async fn one_that_fails_leaves_the_others_and_is_tried_again() {
    let attempts = Mutex::new(0);
    let (app, journal) = fleet(&THREE, move |place| {
        let mut attempts = attempts.lock().expect("no panic");
        *attempts += usize::from(place == "b");
        if place == "b" && *attempts == 1 {
            return Err(BootError::new("/secret/b is broken"));
        }
        Ok(Toy::new())
    });
    app.booted().await;
    let router = router(app);
    let answer = ask(&router, Some("medium")).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.text.contains("secret"));
    assert_eq!(get(&router, "/ready").await.status, 200);
    assert_eq!(served_by(&router, None).await, "small");
    assert_eq!(served_by(&router, Some("medium")).await, "medium");
    assert_eq!(seen(&journal), ["+a", "+b"]);
}

/// A model that can never be loaded throws a good one out of memory at most once a rest.
#[tokio::test(start_paused = true)]
async fn one_that_fails_again_and_again_rests() {
    // While such work runs, the stopped clock does not jump to the next timer.
    let (stop, stopped) = channel::<()>();
    let still = spawn_blocking(move || stopped.recv());
    let vars = [THREE[0], ("MODELS_MEMORY", "100")];
    let (app, journal) = fleet(&vars, |place| match place {
        "b" => Err(BootError::new("b is broken")),
        _ => Ok(Toy::new()),
    });
    app.booted().await;
    let router = router(app);
    let ask_both = async || {
        let answer = ask(&router, Some("medium")).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["error"]["code"], "model_unavailable");
        assert_eq!(served_by(&router, None).await, "small");
        answer.headers.get("retry-after").map(|seconds| seconds.to_str().expect("text").to_owned())
    };
    assert_eq!(ask_both().await, None, "the first time may be an accident");
    assert!(ask_both().await.is_some_and(|seconds| seconds == "1"));
    let tried = seen(&journal);
    for _ in 0..5 {
        assert!(ask_both().await.is_some());
    }
    assert_eq!(seen(&journal), tried, "neither loaded nor unloaded while it rests");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(ask_both().await.is_some_and(|seconds| seconds == "2"));
    assert_ne!(seen(&journal), tried, "tried once more");
    drop(stop);
    assert!(still.await.is_ok());
}

/// Its file was overwritten while it was unloaded: what is in it now is not what its name stands
/// for.
#[tokio::test]
async fn another_snapshot_under_a_models_name_is_not_served() {
    let loads = Mutex::new(0);
    let vars = [THREE[0], ("MODELS_MEMORY", "100")];
    let (app, _) = fleet(&vars, move |place| {
        let mut loads = loads.lock().expect("no panic");
        *loads += usize::from(place == "a");
        let edited = place == "a" && *loads > 1;
        Ok(if edited { Toy::new().of_snapshot("another") } else { Toy::new() })
    });
    app.booted().await;
    let router = router(app);
    assert_eq!(served_by(&router, None).await, "small");
    assert_eq!(served_by(&router, Some("medium")).await, "medium");
    for _ in 0..2 {
        let answer = ask(&router, None).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    assert_eq!(served_by(&router, Some("large")).await, "large");
}

#[tokio::test]
async fn a_default_that_fails_at_start_ends_the_process() {
    let (app, _) = fleet(&THREE, |_| Err(BootError::new("a is broken")));
    assert_eq!(app.failed().await, "a is broken");
}

#[tokio::test]
async fn c21_lazy_load_waits_for_the_first_request() {
    let (app, journal) = fleet(&[("MODEL", "@/a"), ("LAZY_LOAD", "1")], |_| Ok(Toy::new()));
    app.booted().await;
    let router = router(app);
    assert_eq!(get(&router, "/ready").await.status, 200);
    let health = get(&router, "/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["model_status"]), (200, &json!("unloaded")));
    assert_eq!(seen(&journal), [""; 0]);
    assert_eq!(served_by(&router, Some("whatever")).await, "toy/a");
    assert_eq!(seen(&journal), ["+a"]);
    assert_eq!(get(&router, "/health").await.json()["model_status"], "ready");
}

#[tokio::test]
async fn a_lazy_model_that_is_asked_about_is_loaded() {
    let (app, journal) = fleet(&[("MODEL", "@/a"), ("LAZY_LOAD", "1")], |_| Ok(Toy::new()));
    let router = router(app);
    assert_eq!(get(&router, "/info").await.json()["model_id"], "toy/a");
    assert_eq!(seen(&journal), ["+a"]);
}

#[tokio::test]
async fn a_memory_snapshot_holds_the_default_and_whatever_else_is_loaded() {
    let vars = [THREE[0], THREE[1], ("LAZY_LOAD", "true")];
    let (app, journal) = fleet(&vars, |_| Ok(Toy::new()));
    let router = router(Arc::clone(&app));
    served_by(&router, Some("large")).await;
    app.before_snapshot().await.expect("quiesced");
    assert_eq!(seen(&journal), ["+c", "+a", "quiet a", "quiet c"]);
    app.after_restore().await.expect("serves again");
    assert_eq!(served_by(&router, Some("large")).await, "large");
    assert_eq!(served_by(&router, Some("medium")).await, "medium");
}

#[tokio::test]
async fn answers_are_kept_by_model() {
    let vars = [THREE[0], ("ENABLE_CACHE", "true"), ("MODELS_MEMORY", "100")];
    let (router, _) = booted(&vars).await;
    let cached = async |model| ask(&router, model).await.header("x-cache").to_owned();
    assert_eq!(cached(None).await, "miss");
    assert_eq!(cached(None).await, "hit");
    assert_eq!(cached(Some("medium")).await, "", "what is not loaded has no answers");
    assert_eq!(cached(Some("medium")).await, "miss");
    assert_eq!(cached(None).await, "", "unloaded");
    assert_eq!(cached(None).await, "hit", "the same model again");
}

#[test]
fn mistakes_in_the_lists_are_all_told() {
    let errors = |vars: &[(&str, &str)]| parse(&[], vars).expect_err("a mistake").to_string();
    assert!(errors(&[]).contains("MODELS"), "{}", errors(&[]));
    for (vars, expected) in [
        (&[("MODELS", "a")][..], "MODELS: expected name=place, found \"a\""),
        (&[("MODELS", "a=x,a=y")], "a is there twice"),
        (&[("MODELS", "a=x"), ("MODEL_ALIASES", "b=c")], "MODELS has no c"),
        (&[("MODELS", "a=x,b=y"), ("MODEL_ALIASES", "b=a")], "b is there twice"),
        (&[("MODELS", "a=x"), ("MODEL", "y")], "set one of them"),
        (&[("MODELS", "a=x"), ("SERVED_MODEL_NAME", "y")], "MODEL_ALIASES"),
        (&[("MODELS", "a=x"), ("MODELS_MEMORY", "0")], "MODELS_MEMORY: expected a whole number"),
    ] {
        assert!(errors(vars).contains(expected), "{}", errors(vars));
    }
}
