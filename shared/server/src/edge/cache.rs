//! Answers that have been given before, by the content of the request (`ENABLE_CACHE`, off by
//! default).
//!
//! The key is a BLAKE3 hash over the binary's version and settings, the snapshot, the path and the
//! body's bytes, so an answer can never be another question's, another model's or that of other
//! settings. Kept are whole answers with status 200, least recently used ones go first, and none is
//! older than `CACHE_TTL_SECONDS`. An answer from here says `x-cache: hit` and is otherwise what it
//! was: its `id` and `created` are those of the first time. With `CACHE_PERSIST_TO_DISK` answers
//! are also files in `CACHE_DIR/responses`, where a later process finds them; that folder is
//! bounded by the same number.

mod disk;
mod entry;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use lru::LruCache;
use tokio::time::Instant;

use self::disk::Disk;
use self::entry::{Entry, Key, MAX_ANSWER_BYTES};
use crate::config::{Config, KeptAnswers};
use crate::error::ApiError;
use crate::function::Function;

/// Most bytes of answers in memory, whatever `CACHE_MAX_SIZE` says.
const MAX_BYTES: usize = 256 << 20;

pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

const JSON: &str = "application/json";

/// Headers of an answer that are kept beside its body.
const KEPT: [&str; 3] = ["x-truncated-documents", "x-truncated-inputs", "x-warnings"];

impl Entry {
    fn response(self) -> Response {
        let mut response = self.body.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.extend(self.headers);
        headers.insert(X_CACHE, HeaderValue::from_static("hit"));
        response
    }
}

/// The answers that are kept.
#[derive(Debug)]
pub(crate) struct Cache {
    answers: Mutex<Answers>,
    /// The version and settings, which make answers what they are and stay the same while the
    /// process runs.
    behaviour: String,
    ttl: Duration,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Answers {
    by_key: LruCache<Key, (Instant, Entry)>,
    bytes: usize,
}

impl Cache {
    /// The cache that the settings ask for; `None` if it is off.
    pub(crate) fn of(function: &Function, config: &Config) -> Option<Self> {
        let KeptAnswers { max_size, ttl, persist_to_disk } = config.answers.clone()?;
        let dir = config.cache_dir.clone().unwrap_or_else(defrost_loader::default_cache);
        let disk = persist_to_disk.then(|| Disk::new(dir.join("responses"), ttl, max_size.get()));
        // Not `new`, which sets aside memory for all of them.
        let mut by_key = LruCache::unbounded();
        by_key.resize(max_size);
        let Function { name, version, .. } = function;
        let behaviour = format!("{name} {version} {}", config.behaviour());
        let answers = Mutex::new(Answers { by_key, bytes: 0 });
        Some(Self { answers, behaviour, ttl, disk })
    }

    /// What was answered to this question, or else what `answer` gives, to be kept.
    pub(crate) async fn answer(
        &self,
        model: &str,
        path: &str,
        body: &[u8],
        answer: impl Future<Output = Result<Response, ApiError>>,
    ) -> Result<Response, ApiError> {
        let key = Key::of([self.behaviour.as_bytes(), model.as_bytes(), path.as_bytes(), body]);
        if let Some(entry) = self.get(key).await {
            return Ok(entry.response());
        }
        let response = answer.await?;
        // Bytes have headers of their own, and clients do not ask for the same ones again.
        if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != JSON) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| ApiError::internal(&format!("collecting an answer: {error}")))?
            .to_bytes();
        if body.len() <= MAX_ANSWER_BYTES {
            // A copy: the bytes of an answer are held from the budget of answers on their way.
            let kept_body = Bytes::copy_from_slice(&body);
            let entry = Entry { headers: kept(&parts.headers), body: kept_body };
            if let Some(disk) = &self.disk {
                disk.put(key, &entry);
            }
            self.put(key, entry);
        }
        let mut response = Response::from_parts(parts, body.into());
        response.headers_mut().insert(X_CACHE, HeaderValue::from_static("miss"));
        Ok(response)
    }

    async fn get(&self, key: Key) -> Option<Entry> {
        if let Some(entry) = self.in_memory(key) {
            return Some(entry);
        }
        let entry = self.disk.as_ref()?.get(key).await?;
        self.put(key, entry.clone());
        Some(entry)
    }

    fn in_memory(&self, key: Key) -> Option<Entry> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (stored, entry) = answers.by_key.get(&key)?;
        if stored.elapsed() < self.ttl {
            return Some(entry.clone());
        }
        answers.remove(key);
        None
    }

    fn put(&self, key: Key, entry: Entry) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.remove(key);
        answers.bytes += entry.body.len();
        if let Some((_, (_, pushed))) = answers.by_key.push(key, (Instant::now(), entry)) {
            answers.bytes -= pushed.body.len();
        }
        while answers.bytes > MAX_BYTES {
            let Some((_, (_, oldest))) = answers.by_key.pop_lru() else { break };
            answers.bytes -= oldest.body.len();
        }
    }
}

impl Answers {
    fn remove(&mut self, key: Key) {
        if let Some((_, entry)) = self.by_key.pop(&key) {
            self.bytes -= entry.body.len();
        }
    }
}

fn kept(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    KEPT.iter()
        .filter_map(|&name| Some((HeaderName::from_static(name), headers.get(name)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;

    fn cache(most: usize, ttl: Duration) -> Cache {
        let mut by_key = LruCache::unbounded();
        by_key.resize(NonZeroUsize::new(most).unwrap());
        let answers = Mutex::new(Answers { by_key, bytes: 0 });
        Cache { answers, behaviour: String::new(), ttl, disk: None }
    }

    fn entry(len: usize) -> Entry {
        Entry { headers: Vec::new(), body: vec![b'x'; len].into() }
    }

    fn key(number: usize) -> Key {
        Key::of([&number.to_le_bytes(), b"", b"", b""])
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(Key::of([b"a", b"bc", b"", b""]), Key::of([b"ab", b"c", b"", b""]));
        assert_ne!(Key::of([b"", b"a", b"", b""]), Key::of([b"", b"", b"a", b""]));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_grow_old() {
        let cache = cache(10, Duration::from_mins(1));
        cache.put(key(1), entry(5));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(cache.in_memory(key(1)), Some(entry(5)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.in_memory(key(1)), None);
        assert_eq!(cache.answers.lock().unwrap().bytes, 0);
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_the_answers_kept(steps in prop::collection::vec((0usize..8, 0usize..100, any::<bool>()), 0..60)) {
            let cache = cache(4, Duration::from_mins(1));
            for (number, len, put) in steps {
                if put {
                    cache.put(key(number), entry(len));
                    prop_assert_eq!(cache.in_memory(key(number)), Some(entry(len)));
                } else {
                    cache.answers.lock().unwrap().remove(key(number));
                }
                let answers = cache.answers.lock().unwrap();
                let sum: usize = answers.by_key.iter().map(|(_, (_, entry))| entry.body.len()).sum();
                prop_assert_eq!(answers.bytes, sum);
                prop_assert!(answers.by_key.len() <= 4);
            }
        }
    }
}
