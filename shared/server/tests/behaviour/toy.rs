//! The scorer and the client that the tests share.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use defrost_model::{Answers, Grouping, Planned, RerankerKind, Tokens, Wanted};
use defrost_server::{
    Action, App, BootError, Config, ConfigError, Function, Info, Loaded, Offer, PhaseRecorder,
    Pipeline, RERANK, ScoreLists, Scorer, router, start,
};
use defrost_tasks::{Error, ModelInfo, Prepared, Score, ScoreScale, ScoreTask, TextToken};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const FUNCTION: Function =
    Function { name: "toy", version: "1.2.3", about: "a toy", runtimes: &[] };

/// Longest pair in words; longer ones count as truncated.
const MAX_WORDS: usize = 8;

type Hook = dyn Fn() -> Result<(), Error> + Send + Sync;

type SnapshotHook = dyn Fn(&'static str) -> Result<(), Error> + Send + Sync;

/// Scores by words in common. Some documents make it fail in chosen ways.
pub(crate) struct Toy {
    info: ModelInfo,
    hook: Box<Hook>,
    snapshot_hook: Box<SnapshotHook>,
}

impl Toy {
    pub(crate) fn new() -> Self {
        Self::with_hook(|| Ok(()))
    }

    /// A scorer that first runs `hook`, for every micro-batch.
    pub(crate) fn with_hook(hook: impl Fn() -> Result<(), Error> + Send + Sync + 'static) -> Self {
        let info = ModelInfo {
            name: "toy/words".into(),
            family: "bert".into(),
            template: "mxbai-rerank-v2",
            kind: RerankerKind::CrossEncoder,
            precision: "int8".into(),
            hidden: 16,
            layers: 2,
            max_length: MAX_WORDS,
            max_sequence: MAX_WORDS,
            vocab: 1000,
            takes_instruction: false,
            estimated_max: 9.0,
            backend: "engine",
            kernel: "portable",
            threads: 1,
            snapshot: "00ff".into(),
            bytes: 100,
            default_normalization: ScoreScale::Sigmoid,
        };
        Self { info, hook: Box::new(hook), snapshot_hook: Box::new(|_| Ok(())) }
    }

    /// The same scorer under another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.info.name);
        self
    }

    /// The same scorer, of another snapshot.
    pub(crate) fn of_snapshot(mut self, root: &str) -> Self {
        root.clone_into(&mut self.info.snapshot);
        self
    }

    /// The same scorer, which runs `hook` with the name of the one it is called by.
    pub(crate) fn with_snapshot_hook(
        self,
        hook: impl Fn(&'static str) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { snapshot_hook: Box::new(hook), ..self }
    }
}

impl Scorer for Toy {
    fn facts(&self) -> &ModelInfo {
        &self.info
    }

    fn prepare(&self, requests: &[ScoreTask]) -> Result<Prepared<ScoreLists>, Error> {
        let mut sequences = Vec::new();
        let mut unscored = Vec::new();
        for request in requests {
            let mut scores = Vec::new();
            for (index, document) in request.documents.iter().enumerate() {
                sequences.push(pair(&request.query, document));
                scores.push(read(request, index, document)?);
            }
            unscored.push(scores);
        }
        Ok(Prepared::new(sequences, Grouping::AsTheyCome, Wanted::default(), move |answers| {
            let mut answers = answers.iter();
            for score in unscored.iter_mut().flatten() {
                score.raw +=
                    answers.next().and_then(|one| *one).map_or(f32::NAN, |(_, one)| one.pooled[0]);
            }
            Ok(unscored)
        }))
    }
}

impl Pipeline for Toy {
    fn info(&self) -> Info {
        (&self.info).into()
    }

    /// Words in common, less one.
    fn run(&self, sequences: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        (self.hook)()?;
        let score = |Planned { tokens, .. }: &Planned<'_>| {
            let end = tokens.ids.iter().position(|&id| id == END).unwrap_or_default();
            let (query, document) = tokens.ids.split_at(end);
            let common = query.iter().filter(|word| document.contains(word)).count();
            #[allow(clippy::cast_precision_loss, reason = "a handful of words")]
            let score = common as f32 - 1.0;
            Answers { pooled: vec![score], ..Answers::default() }
        };
        Ok(sequences.iter().map(score).collect())
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        let documents = vec!["a".into()];
        let request = ScoreTask { documents, ..ScoreTask::default() };
        Ok(self.prepare(&[request])?.map(drop))
    }

    /// Words, each with its place among those of the text.
    fn tokenize(&self, text: &str, _: bool) -> Result<Vec<TextToken>, Error> {
        let token = |(id, word): (u32, &str)| {
            let start = word.as_ptr().addr() - text.as_ptr().addr();
            let range = start..start + word.len();
            TextToken {
                id,
                piece: word.to_owned(),
                bytes: Some(range.clone()),
                chars: Some(range),
                special: false,
            }
        };
        Ok((0..).zip(text.split_whitespace()).map(token).collect())
    }

    fn detokenize(&self, ids: &[u32], _: bool) -> Result<String, Error> {
        Ok(ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        (self.snapshot_hook)("before_snapshot")
    }

    fn after_restore(&self) -> Result<(), Error> {
        (self.snapshot_hook)("after_restore")
    }
}

/// Between the words of a query and those of a document.
const END: u32 = 0;

fn pair(query: &str, document: &str) -> Tokens {
    let words = |text: &str| -> Vec<u32> { text.split_whitespace().map(word).collect() };
    Tokens { ids: [words(query), vec![END], words(document)].concat(), types: Vec::new() }
}

/// FNV-1a.
fn word(word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A score to which the model's answer is to be added.
fn read(request: &ScoreTask, index: usize, document: &str) -> Result<Score, Error> {
    let words = |text: &str| text.split_whitespace().count();
    let tokens = words(&request.query) + words(document);
    let mut raw = 0.0;
    match document {
        "NAN" => return Err(Error::NonFinite { request: 0, index }),
        "RAW-NAN" => raw = f32::NAN,
        "BROKEN" => return Err(Error::Model("/secret/path is broken".into())),
        "REFUSED" => {
            return Err(Error::InvalidInput {
                param: "instruction",
                message: "no instruction".into(),
            });
        }
        _ => {}
    }
    if request.truncation.forbidden && tokens > MAX_WORDS {
        return Err(Error::TooLong { limit: MAX_WORDS, param: "documents" });
    }
    Ok(Score {
        raw,
        tokens: tokens.min(MAX_WORDS),
        truncated: tokens > MAX_WORDS,
        query_truncated: words(&request.query) > MAX_WORDS,
    })
}

pub(crate) fn parse(args: &[&str], vars: &[(&str, &str)]) -> Result<Action, ConfigError> {
    parse_as("rerank", args, vars)
}

/// As a function of this kind.
pub(crate) fn parse_as(
    kind: &str,
    args: &[&str],
    vars: &[(&str, &str)],
) -> Result<Action, ConfigError> {
    let lookup = |name: &str| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let names = vars.iter().map(|(name, _)| (*name).to_owned());
    Config::from_lookup(&FUNCTION, &[kind], ["toy"].iter().chain(args).copied(), lookup, names)
}

pub(crate) fn config(vars: &[(&str, &str)]) -> Config {
    let vars: Vec<_> = [("MODEL", "toy")].iter().chain(vars).copied().collect();
    served(&vars)
}

/// The settings of these variables alone.
pub(crate) fn served(vars: &[(&str, &str)]) -> Config {
    match parse(&[], vars) {
        Ok(Action::Serve(config)) => *config,
        other => panic!("not a configuration to serve: {other:?}"),
    }
}

pub(crate) fn start_with(
    vars: &[(&str, &str)],
    load: impl FnOnce() -> Result<Toy, BootError> + Send + 'static,
) -> Arc<App> {
    let load = Mutex::new(Some(load));
    let load = move |_: &Config, _: &PhaseRecorder| {
        let load = load.lock().expect("no panic").take().expect("loaded once");
        load().map(Loaded::scorer)
    };
    let phases = Arc::new(PhaseRecorder::start());
    start(FUNCTION, config(vars), phases, [Offer::new(&RERANK, load)]).expect("a thread starts")
}

/// The router of a function that is ready.
pub(crate) async fn ready(vars: &[(&str, &str)]) -> Router {
    let app = start_with(vars, || Ok(Toy::new()));
    app.booted().await;
    router(app)
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are ascii"))
    }
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("a router does not fail");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("the body is complete").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("answers are utf-8");
    Answer { status: parts.status, headers: parts.headers, text }
}

pub(crate) fn post_request(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(body.into())
        .expect("a request")
}

pub(crate) async fn post(router: &Router, path: &str, body: &Value) -> Answer {
    send(router, post_request(path, body.to_string())).await
}

pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).expect("a request")).await
}

/// Runs a future until it first waits: the request then stands where the test wants it.
pub(crate) async fn park<F: Future>(mut future: Pin<&mut F>) {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => Poll::Ready(()),
        Poll::Ready(_) => panic!("the request was to wait and did not"),
    })
    .await;
}
