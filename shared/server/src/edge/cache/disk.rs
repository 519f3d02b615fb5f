//! Answers as files, for processes that come later.
//!
//! One file an answer, `<key>.answer`: a line of our own, a line of headers as JSON, the body.
//!
//! ```text
//! defrost answer 1 <key> <bytes that follow the line> <their BLAKE3>
//! ```
//!
//! No writer is trusted to have written a file as we would. Writers are many (threads, processes,
//! containers that all call themselves process 1), so each writes under a name that no other writer
//! has, and renames; a failed write takes that name away again. Disks fill up and lose power, files
//! are copied and edited, so a reader makes the first line anew from the question's key and what it
//! has read: any other byte in the file, or a file under another question's name, and there is no
//! answer.
//!
//! The folder is bounded by removing files, and it may hold files of others. Ours are those that
//! have both our name and our first line; a file that a killed process left unfinished has the name
//! of an unfinished one and the beginning of that line. Their age is the file's. Whatever goes
//! wrong costs the answer's place in the cache and nothing else.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::entry::{Entry, Key, MAX_ANSWER_BYTES};

/// What a file of ours begins with; the number is that of this format.
const MAGIC: &str = "defrost answer 1 ";

/// Of the first line: the key and the hash in 64 digits, the length in 16.
const FIRST_LINE: usize = MAGIC.len() + 64 + 1 + 16 + 1 + 64 + 1;

/// More than the longest answer with its headers has, which hyper bounds; a longer file is not
/// read.
const LONGEST: u64 = (MAX_ANSWER_BYTES + (1 << 20)) as u64;

/// A folder of answers.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    ttl: Duration,
    most: usize,
    written: AtomicUsize,
    /// Whether a write has failed.
    failed: Arc<AtomicBool>,
}

impl Disk {
    pub(super) fn new(dir: PathBuf, ttl: Duration, most: usize) -> Self {
        Self { dir, ttl, most, written: AtomicUsize::new(0), failed: Arc::default() }
    }

    pub(super) async fn get(&self, key: Key) -> Option<Entry> {
        let (path, ttl) = (self.path(key), self.ttl);
        tokio::task::spawn_blocking(move || read(&path, key, ttl)).await.ok()?
    }

    /// Writes in the background.
    pub(super) fn put(&self, key: Key, entry: &Entry) {
        let (path, bytes) = (self.path(key), encode(key, entry));
        // Looking through the folder costs little when it is done once for a tenth of what it may
        // hold.
        let prune = self.written.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.most / 10 + 1);
        let (dir, ttl, most) = (self.dir.clone(), self.ttl, self.most);
        let failed = Arc::clone(&self.failed);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &bytes) {
                // A full disk fails every answer: the first is told.
                if failed.swap(true, Ordering::Relaxed) {
                    tracing::debug!("an answer is not kept in {}: {error}", dir.display());
                } else {
                    tracing::warn!(
                        "CACHE_PERSIST_TO_DISK: an answer is not kept in {}: {error}; further ones are told at LOG_LEVEL=debug",
                        dir.display()
                    );
                }
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

/// The line that stands before `rest` in the file of this key.
fn first_line(key: Key, rest: &[u8]) -> String {
    let line =
        format!("{MAGIC}{} {:016x} {}\n", key.0.to_hex(), rest.len(), blake3::hash(rest).to_hex());
    debug_assert_eq!(line.len(), FIRST_LINE);
    line
}

fn encode(key: Key, entry: &Entry) -> Vec<u8> {
    let headers: Vec<(&str, &str)> = entry
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let mut rest = serde_json::to_vec(&headers).unwrap_or_default();
    rest.push(b'\n');
    rest.extend_from_slice(&entry.body);
    [first_line(key, &rest).as_bytes(), &rest].concat()
}

fn decode(key: Key, bytes: Vec<u8>) -> Option<Entry> {
    let bytes = Bytes::from(bytes);
    let (line, rest) = bytes.split_at_checked(FIRST_LINE)?;
    if line != first_line(key, rest).as_bytes() {
        return None;
    }
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let headers: Vec<(String, String)> = serde_json::from_slice(&rest[..end]).ok()?;
    let headers = headers
        .into_iter()
        .map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        })
        .collect::<Option<_>>()?;
    Some(Entry { headers, body: bytes.slice(FIRST_LINE + end + 1..) })
}

fn read(path: &Path, key: Key, ttl: Duration) -> Option<Entry> {
    // Opening a pipe would wait for a process that writes into it.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    if age(file.metadata().ok()?.modified().ok()?) >= ttl {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    decode(key, bytes)
}

fn age(modified: SystemTime) -> Duration {
    // A file from the future is new.
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new(".")))?;
    crate::life::files::write_whole(path, bytes)
}

/// Removes answers that are too old, and the oldest of those that are too many.
fn remove_oldest(dir: &Path, ttl: Duration, most: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut files: Vec<(Duration, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            has_our_name(entry.file_name().to_str()?).then_some(())?;
            let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((age(data.modified().ok()?), entry.path()))
        })
        .collect();
    files.sort();
    for (at, (age, path)) in files.iter().enumerate() {
        if (at >= most || *age >= ttl) && begins_as_ours(path) {
            // Another process may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// `<key>.answer`, or what [`crate::life::files`] calls it until it is whole.
fn has_our_name(name: &str) -> bool {
    let Some((key, rest)) = name.split_at_checked(64) else { return false };
    let is_key = key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_key && (rest == ".answer" || crate::life::files::is_unfinished(rest, ".answer"))
}

/// Whether the file begins with our magic; of an unfinished one, whether it does as far as it goes.
fn begins_as_ours(path: &Path) -> bool {
    let mut found = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut found));
    let is_whole = path.extension().is_some_and(|extension| extension == "answer");
    read.is_ok()
        && if is_whole { found == MAGIC.as_bytes() } else { MAGIC.as_bytes().starts_with(&found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn key(number: u64) -> Key {
        Key::of([&number.to_le_bytes(), b"", b"", b""])
    }

    fn entry(body: impl Into<Bytes>) -> Entry {
        let header = (HeaderName::from_static("x-warnings"), HeaderValue::from_static("cut"));
        Entry { headers: vec![header], body: body.into() }
    }

    fn folder(dir: &Path) -> Disk {
        Disk::new(dir.to_owned(), MINUTE, 100)
    }

    fn put(disk: &Disk, key: Key, entry: &Entry) -> std::io::Result<()> {
        write(&disk.path(key), &encode(key, entry))
    }

    fn look(disk: &Disk, key: Key) -> Option<Entry> {
        read(&disk.path(key), key, disk.ttl)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn grow_old(path: &Path, seconds: u64) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_is_written_is_read_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = folder(&dir.path().join("below"));
        put(&disk, key(1), &entry("{\n}")).unwrap();
        assert_eq!(look(&disk, key(1)), Some(entry("{\n}")));
        assert_eq!(look(&disk, key(2)), None);
        disk.ttl = Duration::ZERO;
        assert_eq!(look(&disk, key(1)), None);
    }

    #[test]
    fn a_file_cut_anywhere_is_not_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        put(&disk, key(1), &entry("{\"results\": [1, 2]}")).unwrap();
        let whole = std::fs::read(disk.path(key(1))).unwrap();
        for end in 0..whole.len() {
            std::fs::write(disk.path(key(1)), &whole[..end]).unwrap();
            assert_eq!(look(&disk, key(1)), None, "cut at {end}");
        }
        let twice = [&whole[..], b"x"].concat();
        std::fs::write(disk.path(key(1)), twice).unwrap();
        assert_eq!(look(&disk, key(1)), None, "one byte more");
    }

    #[test]
    fn an_answer_under_another_questions_name_is_not_its_answer() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        put(&disk, key(1), &entry("one")).unwrap();
        std::fs::copy(disk.path(key(1)), disk.path(key(2))).unwrap();
        assert_eq!(look(&disk, key(2)), None);
        assert_eq!(look(&disk, key(1)), Some(entry("one")));
    }

    proptest! {
        /// What other writers, disks and people make of a file: bytes set, cut out, doubled, or of
        /// two files joined.
        #[test]
        fn no_damage_is_served(
            bodies in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..200)),
            at in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            kind in 0usize..4,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let disk = folder(dir.path());
            let [one, two] = bodies.map(entry);
            put(&disk, key(1), &one).unwrap();
            put(&disk, key(2), &two).unwrap();
            let (first, second) =
                (std::fs::read(disk.path(key(1))).unwrap(), std::fs::read(disk.path(key(2))).unwrap());
            let (at, to) = (at.index(first.len()), to.index(second.len()));
            let damaged = match kind {
                0 => [&first[..at], &[byte], &first[at + 1..]].concat(),
                1 => [&first[..at], &first[at + 1..]].concat(),
                2 => [&first[..at], &first[at..=at], &first[at..]].concat(),
                _ => [&first[..at], &second[to..]].concat(),
            };
            std::fs::write(disk.path(key(1)), &damaged).unwrap();
            let found = look(&disk, key(1));
            prop_assert!(found.is_none() || damaged == first, "{found:?}");
            put(&disk, key(1), &one).unwrap();
            prop_assert_eq!(look(&disk, key(1)), Some(one));
        }
    }

    /// As threads of one process do, and processes that all have the id 1, each in its container.
    #[test]
    fn writers_of_one_answer_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        let entries: Vec<Entry> = (0..8).map(|n| entry(vec![b'a' + n; 1 << (10 + n)])).collect();
        let begun = std::sync::Barrier::new(entries.len());
        std::thread::scope(|scope| {
            for own in &entries {
                let (disk, entries, begun) = (&disk, &entries, &begun);
                scope.spawn(move || {
                    begun.wait();
                    for _ in 0..50 {
                        put(disk, key(1), own).unwrap();
                        let found = look(disk, key(1)).expect("an answer");
                        assert!(entries.contains(&found), "torn: {} bytes", found.body.len());
                    }
                });
            }
        });
        assert_eq!(names(dir.path()).len(), 1, "{:?}", names(dir.path()));
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        let taken = disk.path(key(1));
        std::fs::create_dir_all(taken.join("something")).unwrap();
        put(&disk, key(1), &entry("one")).unwrap_err();
        assert_eq!(names(dir.path()).len(), 1, "{:?}", names(dir.path()));
    }

    /// The child may write files of a few blocks only, as on a disk that is full.
    #[test]
    fn a_full_disk_leaves_nothing() {
        const NAME: &str = "cache::disk::tests::a_full_disk_leaves_nothing";
        if let Some(dir) = std::env::var_os("FULL_DISK") {
            put(&folder(Path::new(&dir)), key(1), &entry(vec![b'x'; 1 << 20])).unwrap_err();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("FULL_DISK", dir.path())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn the_folder_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        for number in 0..10 {
            put(&disk, key(number), &entry("x")).unwrap();
            grow_old(&disk.path(key(number)), 100 * number);
        }
        remove_oldest(dir.path(), Duration::from_secs(650), 100);
        assert_eq!(names(dir.path()).len(), 7, "those younger than 650 s");
        remove_oldest(dir.path(), Duration::from_secs(650), 2);
        assert!(look(&disk, key(0)).is_some() && disk.path(key(1)).exists());
        assert_eq!(names(dir.path()).len(), 2);
    }

    /// People keep files where they find room, and other programs have their own ideas of names.
    #[test]
    fn nobody_elses_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        put(&disk, key(1), &entry("x")).unwrap();
        let own = std::fs::read(disk.path(key(1))).unwrap();
        let hex = "0".repeat(64);
        let foreign = [
            ("mydata.csv".to_owned(), &b"a,b\n"[..]),
            ("notes.answer".to_owned(), b"x"),
            ("notes.tmp".to_owned(), b"x"),
            // Our header alone is not enough, nor is our name.
            ("copy of an answer".to_owned(), &own),
            (format!("{hex}.answer"), b"a,b\n"),
            (format!("{hex}.answer.Ab3dE6.tmp"), b"a,b\n"),
        ];
        for (name, bytes) in &foreign {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            grow_old(&path, 1000);
        }
        grow_old(&disk.path(key(1)), 1000);
        remove_oldest(dir.path(), MINUTE, 1);
        let mut left: Vec<String> = foreign.into_iter().map(|(name, _)| name).collect();
        left.sort();
        assert_eq!(names(dir.path()), left);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let whole = encode(key(1), &entry("x"));
        let name = format!("{}.answer.Ab3dE6.tmp", key(1).0.to_hex());
        for end in [0, 5, MAGIC.len(), whole.len()] {
            let path = dir.path().join(&name);
            std::fs::write(&path, &whole[..end]).unwrap();
            remove_oldest(dir.path(), MINUTE, 10);
            assert!(path.exists(), "somebody is writing it");
            grow_old(&path, 1000);
            remove_oldest(dir.path(), MINUTE, 10);
            assert!(!path.exists(), "{end} bytes");
        }
    }

    /// A pipe or a folder under the name of an answer neither blocks nor is removed.
    #[test]
    fn what_is_no_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let disk = folder(dir.path());
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            disk.path(key(1)),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        std::fs::create_dir(disk.path(key(2))).unwrap();
        assert_eq!((look(&disk, key(1)), look(&disk, key(2))), (None, None));
        remove_oldest(dir.path(), Duration::ZERO, 0);
        assert_eq!(names(dir.path()).len(), 2);
    }
}
