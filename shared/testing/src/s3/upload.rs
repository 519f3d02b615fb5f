//! Uploads in parts: created, filled, then completed into an object or aborted.

use std::collections::BTreeMap;

use super::answer::{Answer, Code};
use super::connection::Shared;
use super::request::Request;
use super::store::{Object, Store, Upload};
use super::{lock, object, xml};

/// S3's highest part number.
const MAX_PARTS: u32 = 10_000;

/// `CreateMultipartUpload`
pub(super) fn create(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let mut store = lock(&shared.store);
    store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    let id = store.begin_upload(Upload {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        headers: object::kept_headers(request),
        parts: BTreeMap::new(),
    });
    Ok(Answer::xml(&format!(
        "<InitiateMultipartUploadResult xmlns=\"{}\">{}{}{}</InitiateMultipartUploadResult>",
        xml::NAMESPACE,
        xml::element("Bucket", &request.bucket),
        xml::element("Key", &request.key),
        xml::element("UploadId", &id),
    )))
}

/// `UploadPart`: a part with a number that there is replaces the earlier one.
pub(super) fn part(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    object::check_length(request)?;
    let number = request
        .parameter("partNumber")
        .and_then(|number| number.parse().ok())
        .filter(|number| (1..=MAX_PARTS).contains(number))
        .ok_or(Code::INVALID_ARGUMENT)?;
    let part = Object::new(request.body.clone());
    let etag = part.etag.clone();
    let mut store = lock(&shared.store);
    let id = find(&store, request)?;
    if let Some(upload) = store.uploads.get_mut(&id) {
        upload.parts.insert(number, part);
    }
    Ok(Answer::text(200, "").with("ETag", etag))
}

/// `CompleteMultipartUpload`: the parts that are listed, in ascending order, become the object.
pub(super) fn complete(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let listed = listed_parts(&request.body)?;
    if !listed.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(Code::INVALID_PART_ORDER);
    }
    let mut store = lock(&shared.store);
    let id = find(&store, request)?;
    object::check_write(&store, request)?;
    let upload = &store.uploads[&id];
    let mut parts = BTreeMap::new();
    for (at, (number, etag)) in listed.iter().enumerate() {
        let part = upload.parts.get(number).ok_or(Code::INVALID_PART)?;
        if part.etag.trim_matches('"') != etag.trim_matches('"') {
            return Err(Code::INVALID_PART);
        }
        if at + 1 < listed.len() && part.size() < shared.options.min_part_bytes {
            return Err(Code::PART_TOO_SMALL);
        }
        parts.insert(*number, part.clone());
    }
    let complete = Upload {
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        headers: upload.headers.clone(),
        parts,
    };
    let etag = store.put(&request.bucket, &request.key, complete.assemble());
    store.uploads.remove(&id);
    Ok(Answer::xml(&format!(
        "<CompleteMultipartUploadResult xmlns=\"{}\">{}{}{}{}</CompleteMultipartUploadResult>",
        xml::NAMESPACE,
        xml::element("Location", &request.target),
        xml::element("Bucket", &request.bucket),
        xml::element("Key", &request.key),
        xml::element("ETag", &etag),
    )))
}

/// `AbortMultipartUpload`
pub(super) fn abort(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let mut store = lock(&shared.store);
    let id = find(&store, request)?;
    store.uploads.remove(&id);
    Ok(Answer::text(204, ""))
}

/// The id of the upload that a request is about, which exists and is for its key.
fn find(store: &Store, request: &Request) -> Result<String, Code> {
    store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    let id = request.parameter("uploadId").unwrap_or_default();
    store
        .uploads
        .get(id)
        .filter(|upload| upload.bucket == request.bucket && upload.key == request.key)
        .map(|_| id.to_owned())
        .ok_or(Code::NO_SUCH_UPLOAD)
}

fn listed_parts(body: &[u8]) -> Result<Vec<(u32, String)>, Code> {
    let document = std::str::from_utf8(body).map_err(|_| Code::MALFORMED_XML)?;
    let parts = xml::contents(document, "Part");
    let listed: Option<Vec<_>> = parts
        .iter()
        .map(|part| {
            let number = xml::contents(part, "PartNumber").first()?.trim().parse().ok()?;
            Some((number, xml::unescape(xml::contents(part, "ETag").first()?.trim())))
        })
        .collect();
    listed.filter(|listed| !listed.is_empty()).ok_or(Code::MALFORMED_XML)
}
