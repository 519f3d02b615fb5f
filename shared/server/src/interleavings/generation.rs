//! Streams of completions: the real routes, admission, worker, turns and scheduler around a toy of a decoder.
//!
//! What must hold in every order: a stream that its client stays for says what it would say alone, then ends, once; one
//! whose step failed says so once, after the beginning of that; a client that has gone is in one more step at most; no
//! sequence stays open and no place stays taken; nothing runs between a snapshot and its restore; a model that streams is
//! held until the last byte; and nobody waits for ever.
//!
//! Faults that were planted, one at a time, each of which these tests found: requests that were given up are not dropped
//! before a round; a job does not see that its request has gone; the end of a completion is told twice; the end of the
//! second of two completions is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{FromRequestParts as _, RawPathParams, Request, State};
use axum::{Extension, http};
use bytes::Bytes;
use defrost_api::ChatRoute;
use defrost_model::spec::ChatSpec;
use defrost_model::{
    Answers, Decoder, Error as ModelError, Logits, LogitsOf, OpenedSequence, Piece, Planned, Room,
    SequenceId, Wanted,
};
use defrost_tasks::{Error, GenerationLimits, Pieces, Prepared};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use shuttle::future::{block_on, spawn};
use shuttle::rand::{Rng as _, thread_rng};

use super::toy;
use super::{in_many_orders, name};
use crate::app::App;
use crate::config::{Action, Config};
use crate::edge::request_id::RequestId;
use crate::life::phases::PhaseRecorder;
use crate::models::info::Info;
use crate::models::loaded::Loaded;
use crate::models::pipeline::Pipeline;
use crate::routes::chat::handle;
use crate::service::Offer;
use crate::services::chat::CHAT;
use crate::services::chat::completer::Completer;

const VOCAB: u32 = 10;
/// The token that ends a turn; never the likeliest.
const END: u32 = 9;
const CONTEXT: usize = 12;
/// Room for two completions, and not for three.
const ROOM: usize = 26;

/// What all models of a process share, and what clients tell.
#[derive(Debug, Default)]
struct Watch {
    is_quiet: bool,
    /// One in so many steps fails; 0: none.
    odds: u32,
    loaded: usize,
    /// Clients that have gone, by the first token of their prompts, and in how many steps they were since.
    gone: BTreeMap<u32, usize>,
    /// Clients in a step that failed.
    failed: BTreeSet<u32>,
}

type Shared = Arc<Mutex<Watch>>;

fn pieces() -> Pieces {
    let vocab: Map<String, Value> =
        (0..VOCAB - 1).zip('a'..).map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    let file = json!({
        "added_tokens": [{"id": END, "content": "<end>", "special": true}],
        "decoder": {"type": "ByteLevel"},
        "model": {"vocab": vocab},
    });
    let image = Pieces::compile(file.to_string().as_bytes()).expect("a vocabulary");
    Pieces::open(Bytes::from(image)).expect("an image")
}

/// What comes after these tokens.
fn next(ids: &[u32]) -> u32 {
    ids.iter().fold(7u32, |sum, id| sum.wrapping_mul(31).wrapping_add(*id)) % END
}

/// What is said after a prompt, alone.
fn alone(prompt: &[u32], tokens: usize) -> String {
    let mut ids = prompt.to_vec();
    for _ in 0..tokens {
        ids.push(next(&ids));
    }
    let letter = |&id: &u32| char::from(b'a' + u8::try_from(id).expect("a letter"));
    ids[prompt.len()..].iter().map(letter).collect()
}

#[derive(Debug)]
struct ToyDecoder {
    shared: Shared,
    open: Mutex<(u64, BTreeMap<SequenceId, Vec<u32>>)>,
}

impl ToyDecoder {
    fn held(&self) -> usize {
        self.open.lock().expect("no panic").1.values().map(Vec::len).sum()
    }

    fn insert(&self, ids: Vec<u32>) -> SequenceId {
        let mut open = self.open.lock().expect("no panic");
        open.0 += 1;
        let id = SequenceId(open.0);
        open.1.insert(id, ids);
        id
    }
}

impl Decoder for ToyDecoder {
    fn vocab(&self) -> usize {
        VOCAB as usize
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn room(&self) -> Room {
        Room { total: ROOM, held: self.held(), kept: 0 }
    }

    fn open(&self, _: &[u32]) -> Result<OpenedSequence, ModelError> {
        Ok(OpenedSequence { id: self.insert(Vec::new()), cached: 0 })
    }

    fn fork(&self, sequence: SequenceId) -> Result<SequenceId, ModelError> {
        let ids = self.open.lock().expect("no panic").1[&sequence].clone();
        Ok(self.insert(ids))
    }

    fn make_room(&self, wanted: &[(SequenceId, usize)]) -> Result<bool, ModelError> {
        let more: usize = wanted.iter().map(|(_, tokens)| tokens).sum();
        Ok(self.held() + more <= ROOM)
    }

    fn step(&self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, ModelError> {
        shuttle::thread::yield_now();
        let mut open = self.open.lock().expect("no panic");
        let mut said = Vec::new();
        let mut clients = BTreeSet::new();
        for piece in pieces {
            let ids = open.1.get_mut(&piece.sequence).expect("an open sequence");
            let before = ids.len();
            ids.extend_from_slice(piece.ids);
            assert!(ids.len() <= CONTEXT);
            clients.insert(ids[0]);
            let row = |ids: &[u32]| -> Vec<f32> {
                (0..VOCAB).map(|id| if id == next(ids) { 9.0 } else { 0.0 }).collect()
            };
            let rows = match piece.logits {
                LogitsOf::None => Vec::new(),
                LogitsOf::Last => vec![row(ids)],
                LogitsOf::All => (before + 1..=ids.len()).map(|len| row(&ids[..len])).collect(),
            };
            said.push(Logits(rows));
        }
        let mut watch = self.shared.lock().expect("no panic");
        assert!(!watch.is_quiet, "a step while it was quiet");
        for client in &clients {
            if let Some(steps) = watch.gone.get_mut(client) {
                *steps += 1;
                assert!(*steps <= 1, "a client that has gone is computed for");
            }
        }
        if watch.odds > 0 && thread_rng().gen_range(0..watch.odds) == 0 {
            watch.failed.extend(clients);
            return Err(ModelError::OutOfMemory("drawn to fail".to_owned()));
        }
        Ok(said)
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<(), ModelError> {
        let mut open = self.open.lock().expect("no panic");
        open.1.get_mut(&sequence).expect("an open sequence").truncate(len);
        Ok(())
    }

    fn close(&self, sequence: SequenceId) {
        let closed = self.open.lock().expect("no panic").1.remove(&sequence);
        assert!(closed.is_some(), "closed twice");
    }
}

struct ToyCompleter {
    name: String,
    decoder: ToyDecoder,
    pieces: Pieces,
    spec: ChatSpec,
}

impl Drop for ToyCompleter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert!(self.decoder.open.lock().expect("no panic").1.is_empty(), "a page is lost");
        self.decoder.shared.lock().expect("no panic").loaded -= 1;
    }
}

impl Completer for ToyCompleter {
    fn decoder(&self) -> Result<&dyn Decoder, Error> {
        Ok(&self.decoder)
    }

    fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    fn limits(&self) -> GenerationLimits {
        GenerationLimits { vocab: VOCAB as usize, context: CONTEXT }
    }

    fn spec(&self) -> &ChatSpec {
        &self.spec
    }

    fn ids(&self, _: &str, _: bool) -> Result<Vec<u32>, Error> {
        Err(Error::Model("prompts are tokens here".to_owned()))
    }
}

impl Pipeline for ToyCompleter {
    fn info(&self) -> Info {
        (&toy::info(&self.name)).into()
    }

    fn run(&self, _: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        unreachable!("it runs no passes")
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        unreachable!("it runs no passes")
    }

    fn warm_up(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A process of three models with room for one, that chats.
fn start(folder: &tempfile::TempDir, shared: &Shared) -> Arc<App> {
    let place = |name: &str| format!("{name}={}", folder.path().join(name).display());
    let models = ["a", "b", "c"].map(place).join(",");
    let vars = [("MODELS", &*models), ("MODELS_MEMORY", toy::FILE_BYTES), ("KEEP_ALIVE", "0")];
    let lookup = |name: &str| {
        let known = vars.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| (*value).to_owned())
    };
    let names = vars.iter().map(|(name, _)| (*name).to_owned());
    let config = match Config::from_lookup(&toy::FUNCTION, &["chat"], ["toy"], lookup, names) {
        Ok(Action::Serve(config)) => *config,
        other => panic!("not a configuration to serve: {other:?}"),
    };
    let shared = Arc::clone(shared);
    let load = move |config: &Config, _: &PhaseRecorder| {
        let mut watch = shared.lock().expect("no panic");
        assert!(!watch.is_quiet, "loaded while it was quiet");
        watch.loaded += 1;
        assert_eq!(watch.loaded, 1, "two models where there is room for one");
        Ok(Loaded::completer(ToyCompleter {
            name: config.served_model_name.first().map_or_else(String::new, Clone::clone),
            decoder: ToyDecoder { shared: Arc::clone(&shared), open: Mutex::default() },
            pieces: pieces(),
            spec: ChatSpec { ends: [END].into(), ..ChatSpec::default() },
        }))
    };
    crate::life::start::start(
        toy::FUNCTION,
        config,
        Arc::new(PhaseRecorder::start()),
        [Offer::new(&CHAT, load)],
    )
    .expect("threads start")
}

/// A request and what is known of it.
struct Client {
    /// The first token of its prompt, and of no other's.
    id: u32,
    app: Arc<App>,
    shared: Shared,
}

/// Says when it has gone, whatever it was doing.
impl Drop for Client {
    fn drop(&mut self) {
        self.shared.lock().expect("no panic").gone.insert(self.id, 0);
    }
}

impl Client {
    /// Asks for completions as a stream or whole, reads all of it or goes away on the way.
    async fn ask(self) {
        let (len, tokens) = (thread_rng().gen_range(1..5), thread_rng().gen_range(1..8));
        let (n, stream) = (thread_rng().gen_range(1..3), thread_rng().gen_range(0..4) > 0);
        let patience = if thread_rng().gen_range(0..2) == 0 {
            usize::MAX
        } else {
            thread_rng().gen_range(0..6)
        };
        let prompt: Vec<u32> =
            std::iter::once(self.id).chain((1..len).map(|at| at * 3 % 7)).collect();
        let name = name();
        let body = json!({
            "model": name, "prompt": prompt, "max_tokens": tokens, "n": n, "stream": stream,
            "temperature": 0, "ignore_eos": true,
        });
        let request = Request::builder()
            .method("POST")
            .uri("/v1/completions")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request");
        let answer = async {
            let (mut parts, body) = request.into_parts();
            let params = RawPathParams::from_request_parts(&mut parts, &()).await;
            let request = Request::from_parts(parts, body);
            let id = Extension(RequestId::of(None));
            handle(State(Arc::clone(&self.app)), id, ChatRoute::Completions, params, request).await
        };
        let Some(answer) = within(patience, answer).await else { return };
        let failed = || self.shared.lock().expect("no panic").failed.contains(&self.id);
        let expected = alone(&prompt, tokens);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                assert!(failed() && !stream, "{error:?}");
                return;
            }
        };
        let mut body = answer.into_body();
        let (mut text, mut frames) = (Vec::new(), 0);
        let is_whole = loop {
            if frames >= patience {
                break false;
            }
            let slot = self.app.fleet.find(None, Some(name)).here().expect("a known name");
            let is_over = |end: &[u8]| text.windows(end.len()).any(|part| part == end);
            let is_over = is_over(b"[DONE]") || is_over(b"\"error\"");
            assert!(!stream || is_over || slot.is_held(), "its model is held until its last byte");
            match body.frame().await {
                Some(frame) => text.extend(frame.expect("frames come").into_data().expect("data")),
                None => break true,
            }
            frames += 1;
        };
        if !is_whole {
            return;
        }
        let text = String::from_utf8(text).expect("whole letters");
        if stream {
            check_stream(&text, &expected, n, failed());
        } else {
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            let choices = answer["choices"].as_array().expect("choices");
            assert_eq!(choices.len(), n);
            assert!(choices.iter().all(|choice| choice["text"] == *expected), "{text}");
        }
    }
}

/// One end of everything, and what is said before it.
fn check_stream(text: &str, expected: &str, n: usize, failed: bool) {
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (mut said, mut ends, mut errors) = (vec![String::new(); n], vec![0; n], 0);
    let dones = data.iter().filter(|data| **data == "[DONE]").count();
    for event in data.iter().filter(|data| **data != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("JSON");
        errors += usize::from(event.get("error").is_some());
        for choice in event["choices"].as_array().into_iter().flatten() {
            let at = usize::try_from(choice["index"].as_u64().expect("a number")).expect("small");
            assert_eq!(ends[at], 0, "nothing follows an end: {text}");
            said[at] += choice["text"].as_str().expect("a text");
            ends[at] += usize::from(!choice["finish_reason"].is_null());
        }
    }
    if failed {
        assert_eq!(errors, 1, "a failure is told once: {text}");
        assert!(said.iter().all(|said| expected.starts_with(said.as_str())), "{text}");
        return;
    }
    assert_eq!((errors, dones, data.last()), (0, 1, Some(&"[DONE]")), "{text}");
    assert!(
        said.iter().all(|said| said == expected) && ends.iter().all(|&ends| ends == 1),
        "{text}"
    );
}

/// Polls so often at most.
async fn within<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    if polls == usize::MAX {
        return Some(future.await);
    }
    for _ in 0..=polls {
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
        if let std::task::Poll::Ready(done) = poll.await {
            return Some(done);
        }
        shuttle::future::yield_now().await;
    }
    None
}

/// Clients, a snapshot among them if it is asked for, and what must be left of them: nothing.
fn clients_come_and_go(odds: u32, with_snapshot: bool) {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    for name in ["a", "b", "c"] {
        std::fs::write(folder.path().join(name), [0; 100]).expect("a file");
    }
    // Timers can be set, and never fire.
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let clock = clock.expect("a runtime");
    let _clock = clock.enter();
    in_many_orders(move || {
        let shared = Shared::default();
        shared.lock().expect("no panic").odds = odds;
        let app = start(&folder, &shared);
        block_on(async {
            let clients: Vec<_> = (0..4)
                .map(|id| {
                    let client = Client { id, app: Arc::clone(&app), shared: Arc::clone(&shared) };
                    spawn(client.ask())
                })
                .collect();
            if with_snapshot {
                app.before_snapshot().await.expect("streams end");
                shared.lock().expect("no panic").is_quiet = true;
                for _ in 0..thread_rng().gen_range(0..8) {
                    shuttle::future::yield_now().await;
                }
                shared.lock().expect("no panic").is_quiet = false;
                app.after_restore().await.expect("a toy wakes up");
            }
            for client in clients {
                client.await.expect("no client fails");
            }
            assert!(!app.fleet.slots.iter().any(|slot| slot.is_held()));
            app.fleet.end().await;
            assert_eq!(app.places.available_permits(), app.config.max_queue);
            let watch = shared.lock().expect("no panic");
            assert!(watch.gone.len() == 4 && watch.loaded <= 1);
        });
    });
}

#[test]
fn streams_of_completions_end_once_and_say_what_they_say_alone() {
    clients_come_and_go(0, false);
}

#[test]
fn no_completion_goes_on_between_a_snapshot_and_its_restore() {
    clients_come_and_go(0, true);
}

#[test]
fn a_step_that_fails_is_told_once_to_those_in_it() {
    clients_come_and_go(8, false);
}
