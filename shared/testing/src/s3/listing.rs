//! Lists of objects and buckets.
//!
//! A continuation token is the last key or common prefix of the page before, in hex so that no
//! client takes it for one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;

use super::answer::{Answer, Code};
use super::connection::Shared;
use super::request::Request;
use super::store::{Object, Store};
use super::{date, lock, xml};

/// S3's largest page.
const MAX_KEYS: u64 = 1000;

/// One page.
#[derive(Debug, Default)]
struct Page {
    entries: String,
    prefixes: String,
    len: u64,
    last: Option<String>,
    truncated: bool,
}

/// `ListObjectsV2`
pub(super) fn objects(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    let parameter = |name| request.parameter(name).unwrap_or_default();
    if parameter("list-type") != "2" {
        return Err(Code::NOT_IMPLEMENTED);
    }
    let max_keys = match request.parameter("max-keys") {
        Some(max) => max.parse().map_err(|_| Code::INVALID_ARGUMENT)?,
        None => MAX_KEYS,
    }
    .min(MAX_KEYS);
    let after = match request.parameter("continuation-token") {
        Some(token) => untoken(token).ok_or(Code::INVALID_ARGUMENT)?,
        None => parameter("start-after").to_owned(),
    };
    let (prefix, delimiter) = (parameter("prefix"), parameter("delimiter"));
    let store = lock(&shared.store);
    let objects = store.bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    let page = page(objects, prefix, delimiter, &after, max_keys);

    let mut document = format!("<ListBucketResult xmlns=\"{}\">", xml::NAMESPACE);
    document += &xml::element("Name", &request.bucket);
    for (name, value) in [
        ("Prefix", "prefix"),
        ("Delimiter", "delimiter"),
        ("StartAfter", "start-after"),
        ("ContinuationToken", "continuation-token"),
    ] {
        if let Some(value) = request.parameter(value) {
            document += &xml::element(name, value);
        }
    }
    document += &xml::element("KeyCount", &page.len.to_string());
    document += &xml::element("MaxKeys", &max_keys.to_string());
    document += &xml::element("IsTruncated", &page.truncated.to_string());
    if let (true, Some(last)) = (page.truncated, &page.last) {
        document += &xml::element("NextContinuationToken", &token(last));
    }
    document += &page.entries;
    document += &page.prefixes;
    document += "</ListBucketResult>";
    Ok(Answer::xml(&document))
}

fn page(
    objects: &BTreeMap<String, Object>,
    prefix: &str,
    delimiter: &str,
    after: &str,
    max_keys: u64,
) -> Page {
    let mut page = Page::default();
    // Keys with the prefix are neighbours, but `after` may lie in front of them.
    let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let keys = objects
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix));
    // Where the page before ended with a common prefix, its other keys are not told again.
    let told =
        |common: &str| !delimiter.is_empty() && after.ends_with(delimiter) && common == after;
    for (key, object) in keys {
        let rest = &key[prefix.len()..];
        let common = match rest.find(delimiter) {
            Some(at) if !delimiter.is_empty() => Some(&key[..prefix.len() + at + delimiter.len()]),
            _ => None,
        };
        let entry = common.unwrap_or(key);
        if page.last.as_deref() == Some(entry) || common.is_some_and(told) {
            continue;
        }
        if page.len == max_keys {
            page.truncated = max_keys > 0;
            break;
        }
        match common {
            Some(common) => {
                page.prefixes += "<CommonPrefixes>";
                page.prefixes += &xml::element("Prefix", common);
                page.prefixes += "</CommonPrefixes>";
            }
            None => page.entries += &contents(key, object),
        }
        page.len += 1;
        page.last = Some(entry.to_owned());
    }
    page
}

fn contents(key: &str, object: &Object) -> String {
    format!(
        "<Contents>{}{}{}{}{}</Contents>",
        xml::element("Key", key),
        xml::element("LastModified", &date::iso(object.modified)),
        xml::element("ETag", &object.etag),
        xml::element("Size", &object.size().to_string()),
        xml::element("StorageClass", "STANDARD"),
    )
}

fn token(key: &str) -> String {
    key.bytes().fold(String::new(), |mut token, byte| {
        // Writing into a string cannot fail.
        let _ = write!(token, "{byte:02x}");
        token
    })
}

fn untoken(token: &str) -> Option<String> {
    if !token.is_ascii() || !token.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&token[at..at + 2], 16).ok())
        .collect();
    String::from_utf8(bytes?).ok()
}

/// `ListBuckets`
pub(super) fn buckets(store: &Store) -> Answer {
    let mut buckets = String::new();
    for bucket in store.buckets() {
        buckets += "<Bucket>";
        buckets += &xml::element("Name", bucket);
        buckets += "<CreationDate>1970-01-01T00:00:00.000Z</CreationDate></Bucket>";
    }
    Answer::xml(&format!(
        "<ListAllMyBucketsResult xmlns=\"{}\"><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>",
        xml::NAMESPACE
    ))
}

/// `GetBucketLocation`: nothing, which is what the first region is called.
pub(super) fn location(shared: &Shared, request: &Request) -> Result<Answer, Code> {
    lock(&shared.store).bucket(&request.bucket).ok_or(Code::NO_SUCH_BUCKET)?;
    Ok(Answer::xml(&format!("<LocationConstraint xmlns=\"{}\"/>", xml::NAMESPACE)))
}
