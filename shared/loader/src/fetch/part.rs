//! One ranged request and what becomes of its bytes.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{Object, Target};
use crate::root::Root;
use crate::source::{Fault, FaultKind, Reply, Request};
use crate::verify::gate::holder;

/// Tells the conductor that something came.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) since: Instant,
    /// The milliseconds from `since` to the last arrival of bytes.
    pub(super) moved: Arc<AtomicU64>,
    /// The bytes of all requests together.
    pub(super) arrived: Arc<AtomicU64>,
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks for these chunks and brings them in one by one; those that are good when it fails stay.
pub(super) async fn fetch(
    object: Arc<Object>,
    target: Arc<Target>,
    chunks: Range<usize>,
    fresh: bool,
    stall: Duration,
    progress: Progress,
) -> Result<(), Fault> {
    let range = target.bytes(&chunks);
    let mut reply = ask(&object, range.clone(), fresh, stall).await?;
    let mut buffer = target.buffers.take()?;
    let mut left = Bytes::new();
    let mut read = 0;
    for chunk in chunks {
        let place = target.manifest.chunk_range(chunk);
        let len = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
        let mut filled = 0;
        while filled < len {
            if left.is_empty() {
                left = next(&mut reply, stall).await?.ok_or_else(|| {
                    let message =
                        format!("the body ended after {read} of {} bytes", range.end - range.start);
                    Fault::new(FaultKind::Broken, message)
                })?;
                read += left.len() as u64;
                progress.moved.store(milliseconds(progress.since.elapsed()), Ordering::Relaxed);
                progress.arrived.fetch_add(left.len() as u64, Ordering::Relaxed);
            }
            let piece = left.split_to(left.len().min(len - filled));
            buffer.bytes()[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        if !target.board.is_good(chunk) {
            accept(&target, chunk, &buffer.bytes()[..len])?;
        }
    }
    drop(buffer);
    // The end is read too, so that the connection can be used again.
    match next(&mut reply, stall).await {
        Ok(Some(more)) if !more.is_empty() || !left.is_empty() => {
            Err(Fault::new(FaultKind::Wrong, "the body is longer than the range"))
        }
        // Every chunk is in place; how the connection ends does not matter.
        _ => Ok(()),
    }
}

/// Sends the request and checks that the answer is one to it.
pub(super) async fn ask(
    object: &Object,
    range: Range<u64>,
    fresh: bool,
    stall: Duration,
) -> Result<Reply, Fault> {
    let version = Some(object.version.as_str());
    let request = Request { key: &object.key, range: range.clone(), version, fresh };
    let reply = timeout(stall, object.source.get(request)).await.map_err(|_| stalled(stall))??;
    let Some(sent) = reply.range.clone() else {
        return Err(Fault::new(
            FaultKind::Wrong,
            "answered with the whole object (200 for a range)",
        ));
    };
    if sent != range {
        let message = format!("answered with bytes {} to {}", sent.start, sent.end);
        return Err(Fault::new(FaultKind::Wrong, message));
    }
    if reply.version != object.version || reply.total != object.len {
        let message = format!(
            "version {} of {} bytes is there, the download began with {} of {}",
            shown(&reply.version),
            reply.total,
            shown(&object.version),
            object.len
        );
        return Err(Fault::new(FaultKind::Changed, message));
    }
    Ok(reply)
}

pub(super) async fn next(reply: &mut Reply, stall: Duration) -> Result<Option<Bytes>, Fault> {
    timeout(stall, reply.body.next()).await.map_err(|_| stalled(stall))?
}

fn stalled(stall: Duration) -> Fault {
    Fault::new(FaultKind::Stalled, format!("nothing came for {} s", stall.as_secs_f64()))
}

/// An `ETag` without the quotes it comes in.
fn shown(version: &str) -> String {
    crate::error::shown(version.trim_matches('"'))
}

/// Verifies a chunk, writes it and declares it good.
fn accept(target: &Target, chunk: usize, bytes: &[u8]) -> Result<(), Fault> {
    let place = target.manifest.chunk_range(chunk);
    let (found, expected) = (*blake3::hash(bytes).as_bytes(), target.manifest.chunks[chunk].blake3);
    if found != expected {
        return Err(Fault::new(
            FaultKind::Corrupt,
            format!(
                "chunk {chunk} ({}) at byte {} does not match its hash: expected blake3 {}, found {}",
                holder(&target.manifest, &place),
                place.start,
                Root::from_bytes(expected),
                Root::from_bytes(found)
            ),
        ));
    }
    target.file.write_all_at(bytes, place.start).map_err(|error| {
        Fault::new(FaultKind::Local, format!("cannot write the snapshot's file: {error}"))
    })?;
    target.board.good(chunk);
    target.gate.count(place.end - place.start);
    Ok(())
}
