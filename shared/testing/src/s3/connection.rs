//! The threads: one accepts, one serves each connection.
//!
//! Every open socket is in a table, so that a stopping server can shut it down and thereby end
//! whatever its thread waits for. A socket leaves the table before its thread lets go of it: the
//! last handle to go decides between FIN and RST, and that must be the thread's.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::answer::{Answer, Code, Ending, Wire};
use super::meter::Meter;
use super::range::{self, Asked};
use super::request::Request;
use super::rule::{Rules, Seen};
use super::shape::{Stop, TokenBucket};
use super::store::{Object, Store};
use super::{Options, lock, route};

/// How long the acceptor pauses when it cannot accept, for want of descriptors or threads.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What all threads of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: Options,
    pub store: Mutex<Store>,
    pub rules: Mutex<Rules>,
    pub meter: Meter,
    pub limit: Option<TokenBucket>,
    pub stop: Stop,
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    stream: Arc<TcpStream>,
    thread: JoinHandle<()>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        // A sleep is late by some tens of microseconds. With two drips in hand that is made up for.
        let burst = options.burst_bytes.max(2 * u64::from(options.drip_bytes));
        Self {
            limit: options.rate_bytes_per_s.map(|rate| TokenBucket::new(rate, burst)),
            options,
            store: Mutex::default(),
            rules: Mutex::default(),
            meter: Meter::default(),
            stop: Stop::default(),
            open: Mutex::default(),
        }
    }

    pub(super) fn reset(&self) {
        self.meter.reset();
        if let Some(limit) = &self.limit {
            limit.refill();
        }
    }

    /// Tells every thread to end and wakes the acceptor, which waits on this address.
    pub(super) fn stop(&self, address: SocketAddr) {
        self.stop.stop();
        self.meter.stop();
        // If nothing can connect the acceptor is not waiting.
        let _ = TcpStream::connect(address);
    }

    /// Ends the connections. The acceptor has ended before: none is added.
    pub(super) fn join_connections(&self) {
        let open = std::mem::take(&mut *lock(&self.open));
        for connection in open.values() {
            // A socket that its client has reset is down already.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        for connection in open.into_values() {
            // A call at a marked byte may drop the server from within a connection's thread.
            if connection.thread.thread().id() != std::thread::current().id() {
                let _ = connection.thread.join();
            }
        }
    }

    /// Waits until the client closes the connection or the server stops.
    pub(super) fn stall(&self, mut stream: &TcpStream) {
        let mut ignored = [0; 4096];
        while !self.stop.stopped() && stream.read(&mut ignored).is_ok_and(|read| read > 0) {}
    }
}

/// Accepts until the server stops.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for id in 0.. {
        let accepted = listener.accept();
        if shared.stop.stopped() {
            return;
        }
        let begun = accepted.and_then(|(stream, _)| begin(id, stream, shared));
        if begun.is_err() {
            shared.stop.sleep_until(Instant::now() + ACCEPT_PAUSE);
        }
    }
}

fn begin(id: u64, stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    shared.meter.count(|stats| stats.connections += 1);
    let stream = Arc::new(stream);
    // The thread cannot leave the table before it is in it.
    let mut open = lock(&shared.open);
    let thread = {
        let (stream, shared) = (Arc::clone(&stream), Arc::clone(shared));
        std::thread::Builder::new().name(format!("s3-{id}")).spawn(move || {
            // An error here is the client's doing, and it knows.
            let ending = serve(&shared, &stream).unwrap_or(Ending::Close);
            if ending == Ending::Reset {
                // Without it the client sees a close instead, and its test says so.
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
            lock(&shared.open).remove(&id);
        })?
    };
    open.insert(id, Open { stream, thread });
    Ok(())
}

/// Answers the requests of one connection and says how to end it.
fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<Ending> {
    let mut from = BufReader::with_capacity(64 << 10, stream);
    let limit = shared
        .options
        .connection_rate_bytes_per_s
        .map(|rate| TokenBucket::new(rate, 2 * u64::from(shared.options.drip_bytes)));
    let wire = Wire { shared, stream, limit };
    loop {
        let mut to = stream;
        let request = match Request::read(&mut from, &mut to) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(Ending::Close),
            Err(err) if err.kind() == io::ErrorKind::InvalidData => {
                let answer = Answer::error(Code::BAD_REQUEST, &err.to_string());
                return wire.send(&answer, false, false, None);
            }
            Err(err) => return Err(err),
        };
        let ending = exchange(shared, &wire, &request)?;
        if ending != Ending::KeepAlive {
            return Ok(ending);
        }
    }
}

fn exchange(shared: &Shared, wire: &Wire<'_>, request: &Request) -> io::Result<Ending> {
    if let Some(answer) = route::control(shared, request) {
        return wire.send(&answer, false, request.keep_alive, None);
    }
    shared.meter.count(|stats| {
        stats.requests += 1;
        stats.body_bytes_received += request.body.len() as u64;
    });
    let is_get = request.method == "GET" && !request.key.is_empty();
    let active = is_get.then(|| shared.meter.begin_get());
    if !shared.options.first_byte_delay.is_zero() {
        shared.stop.sleep_until(Instant::now() + shared.options.first_byte_delay);
    }
    let picked = {
        let seen = see(shared, request);
        lock(&shared.rules).pick(&seen)
    };
    let answer = match picked {
        None => route::answer(shared, request),
        Some((id, fault)) => {
            let (answer, done) = fault.answer(shared, request);
            if done {
                lock(&shared.rules).done(id);
            }
            answer
        }
    };
    let head_only = request.method == "HEAD";
    shared.meter.count(|stats| answer.count(stats, head_only));
    wire.send(&answer, head_only, request.keep_alive, active)
}

fn see<'a>(shared: &Shared, request: &'a Request) -> Seen<'a> {
    let size = (request.method == "GET")
        .then(|| lock(&shared.store).object(&request.bucket, &request.key).map(Object::size))
        .flatten();
    let asked = size.map(|size| (size, range::resolve(request.header("range"), size)));
    let ranged = matches!(asked, Some((_, Asked::Part(_) | Asked::Unsatisfiable)));
    let range = match asked {
        Some((size, Asked::Whole)) => Some(0..size),
        Some((_, Asked::Part(range))) => Some(range),
        Some((_, Asked::Unsatisfiable)) | None => None,
    };
    let Request { method, target, key, .. } = request;
    Seen { method, target, key, range, ranged }
}
