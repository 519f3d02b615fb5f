//! Reading, writing and deleting one object, with the conditions that S3 knows.

use super::answer::{Answer, Body, Code, Part};
use super::connection::Shared;
use super::range::{self, Asked};
use super::request::Request;
use super::store::{Object, Store};
use super::{date, lock};

/// `GetObject` and `HeadObject`, which differ in what is sent of the answer.
pub(super) fn read(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let object = {
        let store = lock(&shared.store);
        find(&store, request)?.clone()
    };
    let matches = |header| request.header(header).map(|etags| lists(etags, &object.etag));
    if matches("if-match") == Some(false) && !object.unconditional {
        return Err(Code::PRECONDITION_FAILED);
    }
    if matches("if-none-match") == Some(true) {
        return Ok(Answer::text(304, "").with("ETag", object.etag));
    }
    let size = object.size();
    let (status, range) = match range::resolve(request.header("range"), size) {
        Asked::Whole => (200, 0..size),
        Asked::Part(range) => (206, range),
        Asked::Unsatisfiable => {
            let error = Answer::error(Code::INVALID_RANGE, &request.target);
            return Ok(error.with("Content-Range", format!("bytes */{size}")));
        }
    };
    let mut answer = Answer::text(status, "")
        .with("ETag", object.etag)
        .with("Last-Modified", date::http(object.modified))
        .with("Accept-Ranges", "bytes");
    if status == 206 {
        answer.set_header("Content-Range", range::content_range(&range, size));
    }
    if !object.headers.iter().any(|(name, _)| name == "content-type") {
        answer.set_header("Content-Type", "binary/octet-stream");
    }
    answer.headers.extend(object.headers);
    let name = format!("{}/{}", request.bucket, request.key);
    answer.body = Body::Object(Part { name, bytes: object.bytes, range, flipped: None });
    Ok(answer)
}

/// `PutObject`
pub(super) fn write(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    check_length(request)?;
    // Hashing a large body would hold up every other connection.
    let object = Object { headers: kept_headers(request), ..Object::new(request.body.clone()) };
    let mut store = lock(&shared.store);
    check_write(&store, request)?;
    Ok(Answer::text(200, "").with("ETag", store.put(&request.bucket, &request.key, object)))
}

/// `DeleteObject`, which does not mind a key that does not exist.
pub(super) fn delete(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let mut store = lock(&shared.store);
    store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    store.remove(&request.bucket, &request.key);
    Ok(Answer::text(204, ""))
}

/// Whether a body that came in signed chunks is as long as it was said to be.
pub(super) fn check_length(request: &Request) -> Result<(), Code> {
    let expected = request.header("x-amz-decoded-content-length").map(str::parse);
    if expected.is_some_and(|expected| expected != Ok(request.body.len())) {
        return Err(Code::INCOMPLETE_BODY);
    }
    Ok(())
}

/// Whether the conditions of a write hold.
pub(super) fn check_write(store: &Store, request: &Request) -> Result<(), Code> {
    let objects = store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    let existing = objects.get(&request.key);
    if let (Some(etags), Some(object)) = (request.header("if-none-match"), existing)
        && lists(etags, &object.etag)
    {
        return Err(Code::PRECONDITION_FAILED);
    }
    match (request.header("if-match"), existing) {
        (Some(_), None) => Err(Code::NO_SUCH_KEY),
        (Some(etags), Some(object)) if !lists(etags, &object.etag) => {
            Err(Code::PRECONDITION_FAILED)
        }
        _ => Ok(()),
    }
}

/// The headers of an upload that come back with the object.
pub(super) fn kept_headers(request: &Request) -> Vec<(String, String)> {
    request
        .headers()
        .filter(|(name, _)| *name == "content-type" || name.starts_with("x-amz-meta-"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn find<'a>(store: &'a Store, request: &Request) -> Result<&'a Object, Code> {
    let objects = store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    objects.get(&request.key).ok_or(Code::NO_SUCH_KEY)
}

/// Whether a list of `ETag`s, whose quotes S3 does not insist on, contains this one.
fn lists(etags: &str, etag: &str) -> bool {
    let bare = |etag: &str| etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    etags.split(',').any(|one| one.trim() == "*" || bare(one) == bare(etag))
}
