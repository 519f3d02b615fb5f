//! A file edited under its mapping: never another file's bytes under the first one's root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::support::{MODES, Sample, options};
use crate::verify::watch::Watch;
use crate::{Kind, OpenOptions, Reading, Snapshot, VerifyMode};

fn hour_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(1)
}

/// Gives the file an old time of modification.
fn grow_old(path: &Path) {
    File::options().write(true).open(path).unwrap().set_modified(hour_ago()).unwrap();
}

/// Two snapshots of one size and one time whose bytes differ.
fn two(dir: &Path) -> (PathBuf, PathBuf) {
    let (served, other) = (dir.join("served.snap"), dir.join("other.snap"));
    let mut sample = Sample::model();
    sample.write(&served);
    for (_, bytes) in &mut sample.data {
        for byte in bytes.iter_mut() {
            *byte ^= 1;
        }
    }
    sample.write(&other);
    for path in [&served, &other] {
        grow_old(path);
    }
    assert_eq!(fs::metadata(&served).unwrap().len(), fs::metadata(&other).unwrap().len());
    (served, other)
}

/// What `edit` does to the file, until the time of its last change is another one: these times advance in ticks.
fn until_it_shows(path: &Path, edit: impl Fn() -> io::Result<()>) {
    let before = fs::metadata(path).unwrap();
    let changed = |stat: &fs::Metadata| (stat.ctime(), stat.ctime_nsec());
    edit().unwrap();
    while changed(&fs::metadata(path).unwrap()) == changed(&before) {
        edit().unwrap();
    }
}

#[test]
fn another_snapshot_copied_over_the_served_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for verify in MODES {
        for keeps_time in [false, true] {
            let (served, other) = two(dir.path());
            let snapshot = Snapshot::open(&served, &options(verify)).unwrap();
            snapshot.wait_verified().unwrap();
            snapshot.intact().unwrap();
            until_it_shows(&served, || fs::copy(&other, &served).map(drop));
            if keeps_time {
                grow_old(&served);
            }
            let error = snapshot.intact().unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains("edited in place while it was in use"), "{error}");
            assert!(error.to_string().contains("xxh3"), "{error}");
            assert_eq!(snapshot.tensor("embeddings").unwrap_err().kind(), Kind::Corrupt);
            assert!(snapshot.detach().is_err());
        }
    }
}

#[test]
fn a_byte_or_a_length_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    for grows in [false, true] {
        let (served, _) = two(dir.path());
        let snapshot = Snapshot::open(&served, &options(VerifyMode::Stamped)).unwrap();
        let tensor = snapshot.tensor("embeddings").unwrap();
        let file = File::options().write(true).open(&served).unwrap();
        let (len, wrong) = (snapshot.file_len(), [!tensor.bytes[0]]);
        let at = tensor.bytes.as_ptr() as u64
            - snapshot.peek("tokenizer.json").unwrap().bytes.as_ptr() as u64
            + snapshot.manifest().data_offset;
        until_it_shows(&served, || {
            if grows { file.set_len(len + 1) } else { file.write_all_at(&wrong, at) }
        });
        let error = snapshot.intact().unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
}

#[test]
fn what_leaves_the_bytes_as_they_are_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (served, other) = two(dir.path());
    let snapshot = Snapshot::open(&served, &options(VerifyMode::Stamped)).unwrap();
    grow_old(&served);
    snapshot.intact().unwrap();
    fs::hard_link(&served, dir.path().join("linked")).unwrap();
    snapshot.intact().unwrap();
    // Replaced as it should be: the mapping is that of the old file.
    fs::rename(&other, &served).unwrap();
    snapshot.intact().unwrap();
    fs::remove_file(dir.path().join("linked")).unwrap();
    snapshot.intact().unwrap();
    Sample::model().assert_equal(&snapshot);
}

#[test]
fn a_copy_in_memory_is_checked_once_and_then_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let copy = OpenOptions { reading: Reading::Copy, ..options(VerifyMode::Stamped) };
    let (served, other) = two(dir.path());
    let snapshot = Snapshot::open(&served, &copy).unwrap();
    snapshot.wait_verified().unwrap();
    snapshot.intact().unwrap();
    fs::copy(&other, &served).unwrap();
    snapshot.intact().unwrap();
    Sample::model().assert_equal(&snapshot);
}

/// A stamp vouches for the file that was opened, not for one that was put there while it was read.
#[test]
fn a_copy_of_a_stamped_file_that_changed_meanwhile_is_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "first").unwrap();
    grow_old(&path);
    let (file, stat) = (File::open(&path).unwrap(), fs::metadata(&path).unwrap());
    let mut watch = Watch::of(file, &stat, later(), false);
    until_it_shows(&path, || fs::write(&path, "other"));
    let place = (path.as_path(), 5);
    watch.look(place, false, || panic!("not all is here")).unwrap();
    let wrong = || Err(crate::Error::new(Kind::Corrupt, "another chunk"));
    assert_eq!(watch.look(place, true, wrong).unwrap_err().kind(), Kind::Corrupt);
    watch.look(place, true, || Ok(())).unwrap();
    watch.look(place, true, || panic!("it is a copy now")).unwrap();
}

/// Long after the file was last touched.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_mins(1)
}

#[test]
fn a_file_that_is_left_alone_is_not_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "first").unwrap();
    grow_old(&path);
    let place = (path.as_path(), 5);
    let open = || (File::open(&path).unwrap(), fs::metadata(&path).unwrap());
    let (file, stat) = open();
    let mut watch = Watch::of(file, &stat, later(), true);
    watch.look(place, true, || panic!("nothing changed")).unwrap();
    // Of one that had only just changed, another edit could hide behind the same times.
    let (file, stat) = open();
    let mut watch = Watch::of(file, &stat, stat.modified().unwrap(), true);
    let mut hashed = 0;
    watch
        .look(place, true, || {
            hashed += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(hashed, 1);
    // A download is believed as it is once no process writes it any more.
    let mut watch = Watch::growing(File::open(&path).unwrap());
    watch.look(place, false, || panic!("it grows")).unwrap();
    fs::write(&path, "whole").unwrap();
    watch.look(place, true, || panic!("nothing changed")).unwrap();
    until_it_shows(&path, || fs::write(&path, "other"));
    watch
        .look(place, true, || {
            hashed += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(hashed, 2);
}
