//! Uploads: one request for a small file, parts for a large one.
//!
//! Each part is read from the file when its turn comes; at most [`AT_ONCE`] are on their way. The SDK adds a checksum
//! that the store compares with what arrived. An upload that fails is aborted, because parts of unfinished uploads are
//! billed.

use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::task::JoinSet;

use super::fault;
use crate::source::{Fault, FaultKind};

/// Bytes of a part: the lower end of what AWS recommends (8 to 16 MiB), the size in which `fetch` reads.
const PART: u64 = 8 * 1024 * 1024;

/// Parts on their way at once: eight connections of 90 MB/s each fill a link of 5 Gbit/s.
const AT_ONCE: usize = 8;

/// S3 takes at most so many parts.
const MOST_PARTS: u64 = 10_000;

/// Stores a file as an object.
pub(super) async fn file(
    client: &Client,
    bucket: &str,
    key: &str,
    file: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), Fault> {
    let local = |error: std::io::Error| Fault::new(FaultKind::Local, error.to_string());
    let len = std::fs::metadata(file).map_err(local)?.len();
    if len <= PART {
        let body = stream(file, 0, len).await?;
        let stored = client.put_object().bucket(bucket).key(key).body(body).send().await;
        stored.map_err(|error| fault(&error))?;
        progress(len);
        return Ok(());
    }
    let begun = client.create_multipart_upload().bucket(bucket).key(key).send().await;
    let begun = begun.map_err(|error| fault(&error))?;
    let Some(upload) = begun.upload_id() else {
        return Err(Fault::new(FaultKind::Wrong, "the upload was begun without an id"));
    };
    let stored = async {
        let parts = parts(client, bucket, key, upload, file, len, progress).await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = client.complete_multipart_upload().bucket(bucket).key(key);
        let stored = request.upload_id(upload).multipart_upload(parts).send().await;
        stored.map(drop).map_err(|error| fault(&error))
    };
    let stored = stored.await;
    if stored.is_err() {
        // The first failure is the one to tell.
        let _ =
            client.abort_multipart_upload().bucket(bucket).key(key).upload_id(upload).send().await;
    }
    stored
}

async fn parts(
    client: &Client,
    bucket: &str,
    key: &str,
    upload: &str,
    file: &Path,
    len: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<CompletedPart>, Fault> {
    let part_len = PART.max(len.div_ceil(MOST_PARTS).next_multiple_of(PART));
    let mut waiting = (0..len).step_by(usize::try_from(part_len).unwrap_or(usize::MAX)).zip(1..);
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((offset, number)) = waiting.next()
        {
            let size = part_len.min(len - offset);
            let request = client.upload_part().bucket(bucket).key(key).upload_id(upload);
            let request = request.part_number(number);
            let file = file.to_path_buf();
            running.spawn(async move {
                let body = stream(&file, offset, size).await?;
                let part = request.body(body).send().await.map_err(|error| fault(&error))?;
                let part = CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(part.e_tag().map(str::to_owned))
                    .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
                    .set_checksum_crc64_nvme(part.checksum_crc64_nvme().map(str::to_owned))
                    .build();
                Ok((size, part))
            });
        }
        let Some(part) = running.join_next().await else { break };
        let part = part.map_err(|error| Fault::new(FaultKind::Local, error.to_string()))?;
        let (size, part) = part?;
        progress(size);
        done.push(part);
    }
    done.sort_by_key(|part: &CompletedPart| part.part_number());
    Ok(done)
}

async fn stream(file: &Path, offset: u64, len: u64) -> Result<ByteStream, Fault> {
    let body = ByteStream::read_from().path(file).offset(offset).length(Length::Exact(len));
    let body = body.build().await;
    body.map_err(|error| {
        Fault::new(FaultKind::Local, format!("cannot read {}: {error}", file.display()))
    })
}
