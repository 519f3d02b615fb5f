//! Remembers that a file was hashed, so that the next start need not.
//!
//! A stamp is a small text file `<root>.ok` that repeats what `stat` says about the snapshot: device, inode, size, and
//! the times of the last change of its content and of the file itself, in nanoseconds. It matches only if it equals,
//! byte for byte, the stamp that would be written now. Replacing, copying, moving, shortening or editing a file changes
//! at least one of these, and then the file is hashed again.
//!
//! One hole needs care, known from version control systems: file times advance in ticks of up to 10 ms (the kernel's
//! timer; 4 ms is usual). An edit in the same tick as the previous one leaves the times as they were, so a stamp taken
//! in between would vouch for bytes that were never hashed. Therefore no stamp is written for a file that changed less
//! than [`SETTLED`] before it was hashed; it is hashed once more at the next start. A time in the future (a foreign
//! clock) counts as recent.
//!
//! Another hole stays open: stores through a writable shared mapping move times only when a page becomes dirty, so one
//! that was made before the file was stamped may change it unseen. `SECURITY.md` says what that means.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::root::Root;
use crate::temporary::Temporary;

/// Twice the longest tick of a Linux kernel (`CONFIG_HZ=100`).
pub(crate) const SETTLED: Duration = Duration::from_millis(20);

/// A stamp has fewer than 400 bytes; more is not read.
const LONGEST: u64 = 1024;

/// The file that holds the stamp of a snapshot at `snapshot`: in `dir`, or beside it.
pub(crate) fn place(snapshot: &Path, dir: Option<&Path>, root: &Root) -> PathBuf {
    let dir = dir.or_else(|| snapshot.parent()).unwrap_or_else(|| Path::new(""));
    dir.join(format!("{root}.ok"))
}

/// Whether the stamp says that the file with this `stat` was hashed.
pub(crate) fn matches(stamp: &Path, root: &Root, stat: &Metadata) -> bool {
    let mut text = Vec::new();
    let read = fs::File::open(stamp).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    read.is_ok() && text == render(root, stat).as_bytes()
}

/// Whether the file has been left alone for long enough before `began` to be stamped.
pub(crate) fn settled(stat: &Metadata, began: SystemTime) -> bool {
    let Ok(now) = began.duration_since(UNIX_EPOCH) else {
        return false;
    };
    let now = i128::try_from(now.as_nanos()).unwrap_or(0);
    let latest = nanoseconds(stat.mtime(), stat.mtime_nsec())
        .max(nanoseconds(stat.ctime(), stat.ctime_nsec()));
    now - latest >= i128::try_from(SETTLED.as_nanos()).unwrap_or(0)
}

/// Waits until a later edit is sure to move the file's times: at most 20 ms, while the file still has a name that only
/// its writer knows. Writing or fetching a real model takes longer than that anyway, and then this does not wait.
pub(crate) fn settle(file: &fs::File) -> io::Result<()> {
    let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
    std::thread::sleep(SETTLED.saturating_sub(age));
    Ok(())
}

/// Writes the stamp under a temporary name and renames it, so that a reader sees all of it or nothing.
pub(crate) fn write(stamp: &Path, root: &Root, stat: &Metadata) -> io::Result<()> {
    let (mut file, temporary) = Temporary::create(stamp, OpenOptions::new().write(true))?;
    file.write_all(render(root, stat).as_bytes())?;
    drop(file);
    temporary.rename()
}

/// Removes the stamp of a file that is gone: the one that is about this device and inode, beside it or in `dir`.
///
/// Its root is not needed for that, which could not be read from a damaged file, nor from one that was replaced.
pub(crate) fn forget(snapshot: &Path, dir: Option<&Path>, stat: &Metadata) {
    let beside = snapshot.parent().filter(|dir| !dir.as_os_str().is_empty());
    for dir in [Some(beside.unwrap_or_else(|| Path::new("."))), dir].into_iter().flatten() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if subject(&path) == Some((stat.dev(), stat.ino())) {
                // One that stays vouches for nothing: no other file matches it.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Device and inode of the file that a stamp is about, if it is a stamp.
pub(crate) fn subject(stamp: &Path) -> Option<(u64, u64)> {
    if stamp.extension() != Some("ok".as_ref()) {
        return None;
    }
    let mut text = String::new();
    fs::File::open(stamp).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let rest = text.strip_prefix("defrost stamp ")?;
    let number = |name: &str| rest.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    Some((number("dev ")?, number("inode ")?))
}

fn render(root: &Root, stat: &Metadata) -> String {
    let text = format!(
        "defrost stamp 1\nroot {root}\ndev {}\ninode {}\nsize {}\nmtime_ns {}\nctime_ns {}\n",
        stat.dev(),
        stat.ino(),
        stat.len(),
        nanoseconds(stat.mtime(), stat.mtime_nsec()),
        nanoseconds(stat.ctime(), stat.ctime_nsec()),
    );
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text}crc32c {crc:08x}\n")
}

fn nanoseconds(seconds: i64, nanos: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_matches_only_the_file_and_root_it_was_written_for() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "same").unwrap();
        fs::write(&b, "same").unwrap();
        let (root, stat) = (Root::of(b"x"), fs::metadata(&a).unwrap());
        let stamp = place(&a, None, &root);
        assert!(!matches(&stamp, &root, &stat));
        write(&stamp, &root, &stat).unwrap();
        assert!(matches(&stamp, &root, &stat));
        assert!(!matches(&stamp, &Root::of(b"y"), &stat));
        assert!(!matches(&stamp, &root, &fs::metadata(&b).unwrap()));
        let whole = fs::read(&stamp).unwrap();
        assert_eq!(subject(&stamp), Some((stat.dev(), stat.ino())));
        assert_eq!(subject(&a), None);
        for cut in 0..whole.len() {
            fs::write(&stamp, &whole[..cut]).unwrap();
            assert!(!matches(&stamp, &root, &stat), "cut at {cut}");
        }
    }

    #[test]
    fn a_file_that_just_changed_is_not_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "x").unwrap();
        let stat = fs::metadata(&path).unwrap();
        let changed = stat.modified().unwrap();
        assert!(!settled(&stat, changed));
        assert!(!settled(&stat, changed - Duration::from_mins(1)), "a time in the future");
        assert!(settled(&stat, changed + Duration::from_mins(1)));
    }
}
