//! From a request to the operation that answers it.
//!
//! | method | bucket | object |
//! | --- | --- | --- |
//! | GET | `ListObjectsV2`, `GetBucketLocation` | `GetObject` |
//! | HEAD | `HeadBucket` | `HeadObject` |
//! | PUT | `CreateBucket` | `PutObject`, `UploadPart` |
//! | POST | | `CreateMultipartUpload`, `CompleteMultipartUpload` |
//! | DELETE | `DeleteBucket` | `DeleteObject`, `AbortMultipartUpload` |
//!
//! and GET of `/`, which lists the buckets. A parameter that an operation does not know makes it
//! another operation, one that is not implemented.
//!
//! `GET /_stats` and `POST /_reset` are for benchmarks in other languages. No bucket has such a name.

use super::answer::{Answer, Code};
use super::connection::Shared;
use super::request::Request;
use super::{listing, lock, object, upload, xml};

const LIST: [&str; 8] = [
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "list-type",
    "max-keys",
    "prefix",
    "start-after",
];

/// Answers what is no S3 request.
pub(super) fn control(shared: &Shared, request: &Request) -> Option<Answer> {
    match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/_stats") => {
            let stats = serde_json::to_string(&shared.meter.stats()).unwrap_or_default();
            Some(Answer::text(200, stats).with("Content-Type", "application/json"))
        }
        ("POST", "/_reset") => {
            shared.reset();
            Some(Answer::text(204, ""))
        }
        _ => None,
    }
}

/// Answers an S3 request as it should be answered.
pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    dispatch(shared, request).unwrap_or_else(|code| Answer::error(code, &request.target))
}

fn dispatch(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let signed =
        request.header("authorization").is_some() || request.parameter("X-Amz-Signature").is_some();
    if shared.options.require_auth && !signed {
        return Err(Code::ACCESS_DENIED);
    }
    if request.bucket.is_empty() {
        return match request.method.as_str() {
            "GET" => Ok(listing::buckets(&lock(&shared.store))),
            _ => Err(Code::METHOD_NOT_ALLOWED),
        };
    }
    let is_known = |names: &[&str]| {
        // `x-id` names the operation once more, `X-Amz-*` are a signature.
        let known =
            |name: &str| names.contains(&name) || name.to_ascii_lowercase().starts_with("x-");
        request.query.iter().all(|(name, _)| known(name))
    };
    let has = |name| request.parameter(name).is_some();
    if request.key.is_empty() {
        return match request.method.as_str() {
            "GET" if has("list-type") && is_known(&LIST) => listing::objects(shared, request),
            "GET" if has("location") => listing::location(shared, request),
            "HEAD" | "PUT" | "DELETE" if is_known(&[]) => bucket(shared, request),
            "GET" | "HEAD" | "PUT" | "POST" | "DELETE" => Err(Code::NOT_IMPLEMENTED),
            _ => Err(Code::METHOD_NOT_ALLOWED),
        };
    }
    match request.method.as_str() {
        "PUT" if request.header("x-amz-copy-source").is_some() => Err(Code::NOT_IMPLEMENTED),
        "GET" | "HEAD" if is_known(&[]) => object::read(shared, request),
        "PUT" if is_known(&[]) => object::write(shared, request),
        "DELETE" if is_known(&[]) => object::delete(shared, request),
        "PUT" if has("uploadId") && is_known(&["uploadId", "partNumber"]) => {
            upload::part(shared, request)
        }
        "POST" if has("uploads") && is_known(&["uploads"]) => upload::create(shared, request),
        "POST" if has("uploadId") && is_known(&["uploadId"]) => upload::complete(shared, request),
        "DELETE" if has("uploadId") && is_known(&["uploadId"]) => upload::abort(shared, request),
        "GET" | "HEAD" | "PUT" | "POST" | "DELETE" => Err(Code::NOT_IMPLEMENTED),
        _ => Err(Code::METHOD_NOT_ALLOWED),
    }
}

fn bucket(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let mut store = lock(&shared.store);
    let bucket = &request.bucket;
    match request.method.as_str() {
        "PUT" => {
            store.create_bucket(bucket);
            Ok(Answer::text(200, "").with("Location", format!("/{}", xml::escape(bucket))))
        }
        _ if store.bucket(bucket).is_none() => Err(Code::NO_SUCH_BUCKET),
        "HEAD" => Ok(Answer::text(200, "")),
        _ if store.remove_bucket(bucket) => Ok(Answer::text(204, "")),
        _ => Err(Code::BUCKET_NOT_EMPTY),
    }
}
