//! Where snapshots are kept: a directory (a volume) or a bucket.
//!
//! A source answers four questions: what is there, give me these bytes, keep this file, remove that one. Everything
//! that makes a download fast and safe (parallel ranges, retries, hedging, verification, resuming) lies above it, in
//! `fetch`, and so works for every source; a source itself tries each request once.
//!
//! A read is pinned to a version: the first answer tells the object's, every later request sends it along, and an
//! object that was replaced meanwhile is a [`FaultKind::Changed`], never bytes of two versions.

pub(crate) mod dir;
#[cfg(feature = "s3")]
pub(crate) mod s3;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;

use crate::error::{Error, Kind};
use crate::location::Location;

/// A future that a trait object can return.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place that holds snapshots under keys. Calls run inside a tokio runtime with timers and I/O.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// What people call an object of this source, such as `s3://bucket/key`.
    fn url(&self, key: &str) -> String;

    /// All snapshots (keys that end in `.snap`) below a prefix, sorted by key.
    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<Listed>, Fault>>;

    /// Asks for a range of an object. The answer's range is what the source says it sends, which callers compare.
    fn get<'a>(&'a self, request: Request<'a>) -> Boxed<'a, Result<Reply, Fault>>;

    /// Stores a file under a key, replacing what is there. `progress` is told how many more bytes are stored.
    fn put<'a>(
        &'a self,
        key: &'a str,
        file: &'a Path,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Boxed<'a, Result<(), Fault>>;

    /// Removes an object. One that does not exist may be a [`FaultKind::Missing`] or no failure, as the source has it.
    fn remove<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), Fault>>;
}

/// One ranged read.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) key: &'a str,
    /// The bytes that are asked for, at least one.
    pub(crate) range: Range<u64>,
    /// The version of the object that is asked for; `None`: any.
    pub(crate) version: Option<&'a str>,
    /// Use another connection than ordinary requests: theirs went wrong or is slow.
    #[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "a directory has no connections"))]
    pub(crate) fresh: bool,
}

/// The head of an answer, and its body to come.
pub(crate) struct Reply {
    /// The version the bytes are of (an `ETag`).
    pub(crate) version: String,
    /// The length of the whole object in bytes.
    pub(crate) total: u64,
    /// The bytes that are sent, as the source says; `None` if it did not say.
    pub(crate) range: Option<Range<u64>>,
    pub(crate) body: Box<dyn Body>,
}

/// Bytes that arrive piece by piece.
pub(crate) trait Body: Send {
    /// The next piece, `None` at the end.
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Fault>>;
}

/// An object that a source lists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The key of the object, or its file name in a directory.
    pub key: String,
    /// The location of the object, to be given to `pull` or as `MODEL`.
    pub url: String,
    /// The length of the object in bytes.
    pub len: u64,
    /// Seconds since 1970 at which it was stored, where the source says.
    pub modified: Option<i64>,
}

/// Why one request failed. Retry decisions read the kind.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
}

/// What kind of failure a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "a directory knows fewer of them"))]
pub(crate) enum FaultKind {
    /// There is no such object, bucket or directory.
    Missing,
    /// Credentials are missing, wrong or do not allow it.
    Denied,
    /// The object is another version than the one asked for.
    Changed,
    /// The store asks for fewer requests.
    Throttled,
    /// The other side failed (5xx), or could not be reached.
    Unavailable,
    /// The connection broke, or the body ended early.
    Broken,
    /// The store sent nothing for too long.
    Stalled,
    /// The answer is not one to the question: another range, the whole object, no HTTP.
    Wrong,
    /// The bytes are not those that their hash promises.
    Corrupt,
    /// The local file system failed.
    Local,
    /// The request cannot be made: a bucket in another region, a name that is not allowed.
    Refused,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether another attempt may go better.
    pub(crate) fn is_passing(&self) -> bool {
        use FaultKind::{Broken, Corrupt, Stalled, Throttled, Unavailable, Wrong};
        matches!(self.kind, Throttled | Unavailable | Broken | Stalled | Wrong | Corrupt)
    }

    /// Turns the fault into the error of a whole operation on an object.
    pub(crate) fn into_error(self, what: &str, url: &str) -> Error {
        let kind = match self.kind {
            FaultKind::Missing => Kind::NotFound,
            FaultKind::Denied => Kind::Denied,
            FaultKind::Changed => Kind::Changed,
            FaultKind::Throttled => Kind::Throttled,
            FaultKind::Unavailable | FaultKind::Broken | FaultKind::Stalled | FaultKind::Wrong => {
                Kind::Unavailable
            }
            FaultKind::Corrupt => Kind::Corrupt,
            FaultKind::Local => Kind::Io,
            FaultKind::Refused => Kind::Invalid,
        };
        let error = Error::new(kind, format!("{what}: {}", self.message)).in_file(Path::new(url));
        match self.kind {
            FaultKind::Missing => error.remedy("`defrost ls` lists what is there"),
            FaultKind::Denied => error.remedy(
                "check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, the role) and that they allow it; \
                 AWS_SKIP_SIGNATURE=true reads public buckets",
            ),
            FaultKind::Changed => error.remedy("start again: the object was replaced meanwhile"),
            FaultKind::Corrupt => error.remedy("the stored object is damaged: push the snapshot again"),
            _ => error,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How object stores are reached. What is `None` comes from the environment and the profile files, as for every tool
/// of AWS: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, the platform's role.
#[derive(Clone, Default)]
pub struct StoreOptions {
    /// Address of the service, such as `http://127.0.0.1:9000`; buckets are then named in the path.
    pub endpoint_url: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// Access key id and secret.
    pub credentials: Option<(String, String)>,
    /// Send no signature: for public buckets (`AWS_SKIP_SIGNATURE=true`).
    pub skip_signature: Option<bool>,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("endpoint_url", &self.endpoint_url)
            .field("region", &self.region)
            .field("credentials", &self.credentials.as_ref().map(|_| "(hidden)"))
            .field("skip_signature", &self.skip_signature)
            .finish()
    }
}

/// A source and what a location means in it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) source: std::sync::Arc<dyn Source>,
    /// A key or a prefix.
    pub(crate) key: String,
}

/// The source of a location.
#[cfg_attr(
    not(feature = "s3"),
    allow(clippy::unused_async, reason = "only S3 has something to wait for")
)]
pub(crate) async fn open(location: &Location, store: &StoreOptions) -> Result<Opened, Error> {
    match location {
        Location::Path(path) => {
            let (dir, key) = dir::split(path);
            Ok(Opened { source: std::sync::Arc::new(dir::Dir::new(dir)), key })
        }
        #[cfg(feature = "s3")]
        Location::S3 { bucket, key } => {
            let source = std::sync::Arc::new(s3::S3::new(bucket.clone(), store).await);
            Ok(Opened { source, key: key.clone() })
        }
        #[cfg(not(feature = "s3"))]
        Location::S3 { .. } => {
            let _ = store;
            Err(Error::new(Kind::Unsupported, "built without object stores")
                .in_file(Path::new(&location.to_string()))
                .remedy("build with the feature `s3`, or give the path of a file"))
        }
        Location::Hub { .. } => {
            Err(Error::new(Kind::Unsupported, "the hub has checkpoints, not snapshots")
                .in_file(Path::new(&location.to_string()))
                .remedy("pack it first: `defrost pack hf://org/name`, or `defrost pull`"))
        }
    }
}
