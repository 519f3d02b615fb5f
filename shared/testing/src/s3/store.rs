//! Buckets, objects and unfinished uploads, all in memory.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use bytes::Bytes;
use twox_hash::XxHash3_64;

/// One version of an object; a new one replaces it whole.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub bytes: Bytes,
    /// The `ETag` with its quotes. Like S3's it is the hash of the bytes, though not their MD5.
    pub etag: String,
    pub modified: SystemTime,
    /// `Content-Type` and `x-amz-meta-*` as they were uploaded.
    pub headers: Vec<(String, String)>,
    /// `If-Match` is not looked at: what a server does that knows no versions.
    pub unconditional: bool,
}

impl Object {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            etag: format!("\"{}\"", hash(&bytes)),
            bytes,
            modified: SystemTime::now(),
            headers: Vec::new(),
            unconditional: false,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// 32 hex digits, the length of an MD5.
fn hash(bytes: &[u8]) -> String {
    let second = XxHash3_64::oneshot_with_seed(1, &bytes.len().to_le_bytes());
    format!("{:016x}{second:016x}", XxHash3_64::oneshot(bytes))
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Debug)]
pub(super) struct Upload {
    pub bucket: String,
    pub key: String,
    pub headers: Vec<(String, String)>,
    /// The parts by number.
    pub parts: BTreeMap<u32, Object>,
}

impl Upload {
    /// The object that the parts make, with an `ETag` that counts them as S3's does.
    pub(super) fn assemble(&self) -> Object {
        let mut bytes = Vec::new();
        let mut etags = String::new();
        for part in self.parts.values() {
            bytes.extend_from_slice(&part.bytes);
            etags.push_str(&part.etag);
        }
        let mut object = Object::new(bytes.into());
        object.etag = format!("\"{}-{}\"", hash(etags.as_bytes()), self.parts.len());
        object.headers.clone_from(&self.headers);
        object
    }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    /// The uploads by id.
    pub uploads: HashMap<String, Upload>,
    uploads_begun: u64,
}

impl Store {
    pub(super) fn create_bucket(&mut self, bucket: &str) {
        self.buckets.entry(bucket.to_owned()).or_default();
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &str> {
        self.buckets.keys().map(String::as_str)
    }

    pub(super) fn bucket(&self, bucket: &str) -> Option<&BTreeMap<String, Object>> {
        self.buckets.get(bucket)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<&Object> {
        self.buckets.get(bucket)?.get(key)
    }

    /// Stores an object and returns its `ETag`. The bucket has been looked up before.
    pub(super) fn put(&mut self, bucket: &str, key: &str, object: Object) -> String {
        let etag = object.etag.clone();
        self.buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
        etag
    }

    pub(super) fn remove(&mut self, bucket: &str, key: &str) {
        if let Some(objects) = self.buckets.get_mut(bucket) {
            objects.remove(key);
        }
    }

    /// Removes an empty bucket; says whether it was empty.
    pub(super) fn remove_bucket(&mut self, bucket: &str) -> bool {
        let empty = self.buckets.get(bucket).is_some_and(BTreeMap::is_empty);
        if empty {
            self.buckets.remove(bucket);
        }
        empty
    }

    pub(super) fn begin_upload(&mut self, upload: Upload) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// Replaces an object by one of the same length in which every byte is another.
    pub(super) fn change(&mut self, bucket: &str, key: &str, unconditional: bool) -> bool {
        let Some(old) = self.buckets.get_mut(bucket).and_then(|objects| objects.get_mut(key))
        else {
            return false;
        };
        let bytes: Vec<u8> = old.bytes.iter().map(|byte| byte.wrapping_add(1)).collect();
        *old = Object { headers: old.headers.clone(), unconditional, ..Object::new(bytes.into()) };
        true
    }
}
