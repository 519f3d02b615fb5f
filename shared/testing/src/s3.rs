//! An S3 server that can be told to fail, and how.
//!
//! It exists twice over: as the other side of the tests of whatever reads from object stores, and
//! as the server that benchmarks read from. Both want the raw socket. A fault is a connection that
//! is reset after the 4711th byte or a header that lies about its body, which no HTTP library lets
//! one send; and a benchmark wants bodies written in large pieces straight from memory. So this is
//! blocking code over `std::net`: one thread accepts, one thread serves each connection.
//!
//! A request goes through five steps, one module each:
//!
//! 1. `request` reads the head and the body, and undoes `chunked` and `aws-chunked`.
//! 2. `rule` decides whether a [`Rule`] fires: the first one whose [`Which`] fits the request and
//!    whose [`When`] says that it is time.
//! 3. `route` finds the operation; `object`, `upload` and `listing` answer it out of the `store`.
//! 4. `fault` spoils that answer, or takes its place.
//! 5. `answer` writes it, in pieces that `shape` delays and `meter` counts.
//!
//! What is counted is visible before the client can see its effect: a test may compare [`Stats`]
//! as soon as its client returns, without waiting for the server's threads.
//!
//! Signatures, checksums of uploads, versions, ACLs and everything else that is not listed in
//! `route` are not implemented; operations that are not known are refused with 501 rather than
//! answered wrongly.
//!
//! ```
//! use defrost_testing::s3::{Fault, Options, Rule, S3Server, When, Which};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = S3Server::start(Options::default())?;
//! server.put("models", "tiny.snap", vec![7; 1 << 20]);
//! // The second attempt of every range is answered with a reset after 100 bytes.
//! server.add_rule(Rule { on: Which::RangedGets, when: When::Attempt(2), fault: Fault::Reset(100) });
//! println!("{}/models/tiny.snap", server.url());
//! assert_eq!(server.stats().gets, 0);
//! # Ok(())
//! # }
//! ```

mod answer;
mod chunked;
mod connection;
mod date;
mod disk;
mod fault;
mod listing;
mod meter;
mod object;
mod range;
mod request;
mod route;
mod rule;
mod shape;
mod spec;
mod store;
mod upload;
mod xml;

#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use meter::Stats;
pub use rule::{Rule, RuleId, When, Which};
pub use spec::SpecError;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

/// How the server behaves when no rule says otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The rate at which all bodies together are sent; unlimited if `None`.
    pub rate_bytes_per_s: Option<u64>,
    /// The bytes that may be sent above the rate after a pause, at least two drips.
    pub burst_bytes: u64,
    /// The rate at which one connection is served, as S3 limits it; unlimited if `None`.
    pub connection_rate_bytes_per_s: Option<u64>,
    /// The time for which every answer is held back.
    pub first_byte_delay: Duration,
    /// The piece in which connections take turns when there is a rate.
    pub drip_bytes: u32,
    /// Requests without an `Authorization` header get 403.
    pub require_auth: bool,
    /// The least size of all parts of a multipart upload but the last.
    pub min_part_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            rate_bytes_per_s: None,
            burst_bytes: 0,
            connection_rate_bytes_per_s: None,
            first_byte_delay: Duration::ZERO,
            drip_bytes: 64 << 10,
            require_auth: false,
            min_part_bytes: 5 << 20,
        }
    }
}

/// A running server. Dropping it closes its connections and ends its threads.
pub struct S3Server {
    shared: Arc<connection::Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl fmt::Debug for S3Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl S3Server {
    /// Binds 127.0.0.1 and serves.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(connection::Shared::new(options));
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("s3-accept".into())
                .spawn(move || connection::accept(&listener, &shared))?
        };
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a bucket; nothing happens if it exists.
    pub fn create_bucket(&self, bucket: &str) {
        lock(&self.shared.store).create_bucket(bucket);
    }

    /// Stores an object, in a new bucket if need be, and returns its `ETag`.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        let mut store = lock(&self.shared.store);
        store.create_bucket(bucket);
        store.put(bucket, key, store::Object::new(bytes.into()))
    }

    /// The bytes of an object.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Bytes> {
        lock(&self.shared.store).object(bucket, key).map(|object| object.bytes.clone())
    }

    /// The `ETag` of an object, with its quotes.
    pub fn etag(&self, bucket: &str, key: &str) -> Option<String> {
        lock(&self.shared.store).object(bucket, key).map(|object| object.etag.clone())
    }

    /// Deletes an object.
    pub fn remove(&self, bucket: &str, key: &str) {
        lock(&self.shared.store).remove(bucket, key);
    }

    /// The keys of a bucket in order; none if there is no such bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        lock(&self.shared.store)
            .bucket(bucket)
            .map(|objects| objects.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        lock(&self.shared.store).uploads.len()
    }

    /// Serves the files below `dir/bucket/key`, mapped rather than read.
    ///
    /// The files must stay as they are for as long as the server runs.
    pub fn serve_dir(&self, dir: &Path) -> io::Result<()> {
        disk::load(dir, |bucket, key, bytes| {
            if let Some(key) = key {
                self.put(bucket, key, bytes);
            } else {
                self.create_bucket(bucket);
            }
        })
    }

    /// Adds a rule behind those that there are.
    pub fn add_rule(&self, rule: Rule) -> RuleId {
        lock(&self.shared.rules).add(rule)
    }

    /// How often the rule's fault was done to an answer; 0 for rules that were cleared.
    pub fn fired(&self, rule: RuleId) -> u64 {
        lock(&self.shared.rules).fired(rule)
    }

    /// Forgets all rules: the server behaves again.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// What was counted since the start or the last reset.
    pub fn stats(&self) -> Stats {
        self.shared.meter.stats()
    }

    /// Counts from zero again and refills the token bucket. Meant for a server at rest.
    pub fn reset_stats(&self) {
        self.shared.reset();
    }

    /// Calls `call` once, at the moment when exactly `sent` bytes of objects were handed to the
    /// kernel since the last reset, with every connection held still until it returns.
    ///
    /// Writes are cut at that byte. Called at once if it has passed already. Since the last bytes
    /// before it may have been granted to several connections, a client that leaves one of them
    /// unread holds up the call.
    pub fn at_body_bytes(&self, sent: u64, call: impl FnOnce() + Send + 'static) {
        self.shared.meter.at(sent, Box::new(call));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.shared.stop(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of the acceptor has been printed; there is nothing to add to it here.
            let _ = acceptor.join();
        }
        self.shared.join_connections();
    }
}

/// A lock whose holder panicked still guards consistent counters and maps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A length or offset as an index: objects lie in memory, so it fits.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
