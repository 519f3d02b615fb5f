//! The two small reads before a download: the superblock, which names the snapshot, and the manifest.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Object;
use super::part::{ask, next};
use super::retry::Retries;
use crate::error::{Error, Kind};
use crate::format::PAGE;
use crate::format::codec::data_offset;
use crate::format::cursor::to_usize;
use crate::format::superblock::{self, Superblock};
use crate::image::not_zero;
use crate::root::Root;
use crate::source::{Fault, FaultKind, Request, Source};

/// Reads the superblock; tells the version and length of the object with it.
pub(crate) async fn head(
    source: Arc<dyn Source>,
    key: String,
    stall: Duration,
) -> Result<(Object, Superblock), Error> {
    let url = source.url(&key);
    let mut retries = Retries::new();
    let (object, block) = loop {
        match first(&source, &key, stall).await {
            Ok(found) => break found,
            Err(fault) => rest(&mut retries, fault, &url, 0..PAGE).await?,
        }
    };
    let named = |error: Error| error.in_file(&url);
    let block = block.first_chunk::<{ superblock::LEN }>().ok_or_else(|| {
        named(
            Error::new(Kind::Truncated, "too short for a snapshot")
                .mismatch(format_args!("at least {} bytes", 2 * PAGE), object.len),
        )
    })?;
    let superblock = Superblock::decode(block, object.len).map_err(named)?;
    Ok((object, superblock))
}

/// The first read of an object takes whatever version there is.
async fn first(
    source: &Arc<dyn Source>,
    key: &str,
    stall: Duration,
) -> Result<(Object, Vec<u8>), Fault> {
    let request = Request { key, range: 0..PAGE, version: None, fresh: false };
    let asked = tokio::time::timeout(stall, source.get(request)).await;
    let mut reply = asked.map_err(|_| {
        Fault::new(FaultKind::Stalled, format!("nothing came for {} s", stall.as_secs_f64()))
    })??;
    let Some(range) = reply.range.clone() else {
        return Err(Fault::new(
            FaultKind::Wrong,
            "answered with the whole object (200 for a range)",
        ));
    };
    if range != (0..PAGE.min(reply.total)) {
        let message = format!("answered with bytes {} to {}", range.start, range.end);
        return Err(Fault::new(FaultKind::Wrong, message));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut reply, stall).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > PAGE {
            return Err(Fault::new(FaultKind::Wrong, "the body is longer than the range"));
        }
    }
    if bytes.len() as u64 != range.end {
        let message = format!("the body ended after {} of {} bytes", bytes.len(), range.end);
        return Err(Fault::new(FaultKind::Broken, message));
    }
    let object = Object {
        source: Arc::clone(source),
        key: key.to_owned(),
        version: reply.version,
        len: reply.total,
    };
    Ok((object, bytes))
}

/// Reads the manifest that the superblock speaks of, up to the end of its page; its hash is the snapshot's root.
pub(crate) async fn manifest(
    object: &Object,
    superblock: &Superblock,
    stall: Duration,
) -> Result<Vec<u8>, Error> {
    let url = object.url();
    // What pads it further in a large file is zero, and is not fetched.
    let range = PAGE..data_offset(superblock.manifest_len, 0)?;
    let mut retries = Retries::new();
    loop {
        match whole(object, superblock, range.clone(), stall).await {
            Ok(bytes) => return Ok(bytes),
            Err(fault) => rest(&mut retries, fault, &url, range.clone()).await?,
        }
    }
}

async fn whole(
    object: &Object,
    superblock: &Superblock,
    range: Range<u64>,
    stall: Duration,
) -> Result<Vec<u8>, Fault> {
    let local = |error: Error| Fault::new(FaultKind::Local, error.to_string());
    let len = to_usize(range.end - range.start).map_err(local)?;
    let mut reply = ask(object, range, false, stall).await?;
    let mut bytes = Vec::with_capacity(len);
    while let Some(piece) = next(&mut reply, stall).await? {
        if bytes.len() + piece.len() > len {
            return Err(Fault::new(FaultKind::Wrong, "the body is longer than the range"));
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() != len {
        let message = format!("the body ended after {} of {len} bytes", bytes.len());
        return Err(Fault::new(FaultKind::Broken, message));
    }
    let (text, padding) = bytes.split_at(to_usize(superblock.manifest_len).map_err(local)?);
    if let Some(first) = padding.iter().position(|&byte| byte != 0) {
        let error = not_zero(PAGE + (text.len() + first) as u64, padding[first]);
        return Err(Fault::new(FaultKind::Corrupt, error.to_string()));
    }
    let found = Root::of(text);
    if found != superblock.root {
        let message =
            format!("the manifest's hash differs: expected {}, found {found}", superblock.root);
        return Err(Fault::new(FaultKind::Corrupt, message));
    }
    Ok(bytes)
}

/// Rests before another attempt, or gives up.
async fn rest(
    retries: &mut Retries,
    fault: Fault,
    url: &str,
    range: Range<u64>,
) -> Result<(), Error> {
    match retries.after(0, &fault) {
        Ok(rest) => {
            sleep(rest).await;
            Ok(())
        }
        Err(attempts) => {
            let times = if attempts == 1 { "" } else { "s" };
            Err(fault
                .into_error(&format!("cannot be fetched ({attempts} attempt{times})"), url)
                .bytes(range))
        }
    }
}
