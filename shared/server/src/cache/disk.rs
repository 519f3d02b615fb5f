//! Answers as files, for processes that come later.
//!
//! One file an answer, named by its key: a line of headers as JSON, then the body. Files are written beside and renamed,
//! so that a reader sees whole ones, and found by name alone, so that several processes can share the folder. Their age
//! is the file's. Whatever goes wrong costs the answer's place in the cache and nothing else.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::{Entry, Key};

/// A folder of answers.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    ttl: Duration,
    most: usize,
    written: AtomicUsize,
}

impl Disk {
    pub(super) fn new(dir: PathBuf, ttl: Duration, most: usize) -> Self {
        Self { dir, ttl, most, written: AtomicUsize::new(0) }
    }

    pub(super) async fn get(&self, key: Key) -> Option<Entry> {
        let (path, ttl) = (self.path(key), self.ttl);
        tokio::task::spawn_blocking(move || read(&path, ttl)).await.ok()?
    }

    /// Writes in the background.
    pub(super) fn put(&self, key: Key, entry: &Entry) {
        let (path, bytes) = (self.path(key), encode(entry));
        // Looking through the folder costs little when it is done once for a tenth of what it may hold.
        let prune = self.written.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.most / 10 + 1);
        let (dir, ttl, most) = (self.dir.clone(), self.ttl, self.most);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &bytes) {
                tracing::debug!("an answer is not kept in {}: {error}", dir.display());
            }
            if prune {
                remove_oldest(&dir, ttl, most);
            }
        });
    }

    fn path(&self, key: Key) -> PathBuf {
        self.dir.join(format!("{}.answer", key.0.to_hex()))
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let headers: Vec<(&str, &str)> = entry
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let mut bytes = serde_json::to_vec(&headers).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(&entry.body);
    bytes
}

fn decode(bytes: Vec<u8>) -> Option<Entry> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let headers: Vec<(String, String)> = serde_json::from_slice(&bytes[..end]).ok()?;
    let headers = headers
        .into_iter()
        .map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        })
        .collect::<Option<_>>()?;
    Some(Entry { headers, body: Bytes::from(bytes).slice(end + 1..) })
}

fn read(path: &Path, ttl: Duration) -> Option<Entry> {
    if age(path)? >= ttl {
        return None;
    }
    decode(std::fs::read(path).ok()?)
}

fn age(path: &Path) -> Option<Duration> {
    let modified = path.metadata().and_then(|meta| meta.modified()).ok()?;
    // A file from the future is new.
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(dir)?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(&unfinished, path)
}

/// Removes answers that are too old, and the oldest of those that are too many.
fn remove_oldest(dir: &Path, ttl: Duration, most: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut files: Vec<(Duration, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((age(&path)?, path))
        })
        .collect();
    files.sort();
    for (at, (age, path)) in files.iter().enumerate() {
        if at >= most || *age >= ttl {
            // Another process may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &'static str) -> Entry {
        let header = (HeaderName::from_static("x-warnings"), HeaderValue::from_static("cut"));
        Entry { headers: vec![header], body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn what_is_written_is_read_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/one.answer");
        write(&path, &encode(&entry("{\n}"))).unwrap();
        assert_eq!(read(&path, Duration::from_mins(1)), Some(entry("{\n}")));
        assert_eq!(read(&path, Duration::ZERO), None);
        for broken in ["", "no headers", "[[1]]\n{}", "[[\"bad name\",\"x\"]]\n{}"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(read(&path, Duration::from_mins(1)), None, "{broken}");
        }
    }

    #[test]
    fn the_folder_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for number in 0..10 {
            let path = dir.path().join(format!("{number}.answer"));
            write(&path, b"[]\n{}").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(100 * number)).unwrap();
        }
        let names = || {
            let entries = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        remove_oldest(dir.path(), Duration::from_secs(650), 100);
        assert_eq!(names().len(), 7, "those younger than 650 s");
        remove_oldest(dir.path(), Duration::from_secs(650), 2);
        assert_eq!(names(), ["0.answer", "1.answer"]);
    }
}
