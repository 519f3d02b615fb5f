//! The three verify modes: what each skips, waits for and leaves behind.

use std::fs;
use std::time::{Duration, SystemTime};

use super::support::{MODES, Sample, options};
use crate::{Kind, OpenOptions, Snapshot, VerifyMode};

fn set_age(path: &std::path::Path, age: Duration) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn without_a_stamp_the_file_is_hashed_and_then_stamped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let root = Sample::model().write(&path);
    let stamp = dir.path().join(format!("{root}.ok"));
    fs::remove_file(&stamp).unwrap();
    // A stamp is left as soon as the file's last change (its rename) is 20 ms old; opening takes part of that.
    let mut opens = 0;
    while !stamp.exists() {
        let report = Snapshot::open(&path, &options(VerifyMode::Stamped)).unwrap().verification();
        assert_eq!((report.requested, report.mode), (VerifyMode::Stamped, VerifyMode::Eager));
        opens += 1;
        assert!(opens < 100_000, "no stamp is ever written");
    }
    let report = Snapshot::open(&path, &options(VerifyMode::Stamped)).unwrap().verification();
    assert_eq!((report.mode, report.bytes, report.complete), (VerifyMode::Stamped, 0, true));
}

#[test]
fn changed_times_void_the_stamp() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    Sample::model().write(&path);
    let mode = || Snapshot::open(&path, &options(VerifyMode::Stamped)).unwrap().verification().mode;
    assert_eq!(mode(), VerifyMode::Stamped);
    set_age(&path, Duration::from_hours(1));
    assert_eq!(mode(), VerifyMode::Eager);
}

#[test]
fn a_copy_and_a_replacement_are_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let copy = dir.path().join("copy.snap");
    Sample::model().write(&path);
    fs::copy(&path, &copy).unwrap();
    let mode =
        |path| Snapshot::open(path, &options(VerifyMode::Stamped)).unwrap().verification().mode;
    assert_eq!(mode(&copy), VerifyMode::Eager);
    fs::rename(&copy, &path).unwrap();
    assert_eq!(mode(&path), VerifyMode::Eager);
}

#[test]
fn a_stamp_elsewhere_is_looked_for_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    Sample::model().write(&path);
    let elsewhere = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        stamp_dir: Some(elsewhere.path().to_path_buf()),
        ..options(VerifyMode::Stamped)
    };
    assert_eq!(Snapshot::open(&path, &options).unwrap().verification().mode, VerifyMode::Eager);
}

#[test]
fn a_stamp_that_cannot_be_written_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    sample.write(&path);
    let options =
        OpenOptions { stamp_dir: Some(dir.path().join("missing")), ..options(VerifyMode::Stamped) };
    sample.assert_equal(&Snapshot::open(&path, &options).unwrap());
}

#[test]
fn a_bad_chunk_closes_the_gate_for_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    sample.write(&path);
    let good = Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap();
    let bad_tensor = &good.manifest().tensors[4];
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(bad_tensor.offset).unwrap() + 5000] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let snapshot = Snapshot::open(&path, &options(VerifyMode::OnTheFly)).unwrap();
    let error = snapshot.tensor(&bad_tensor.name).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(error.path(), Some(&*path));
    assert!(error.to_string().contains("layer.1.attention"), "{error}");
    assert!(snapshot.wait_verified().is_err());
    for (name, _) in &sample.data {
        assert!(snapshot.tensor(name).is_err(), "{name}");
    }
    assert!(!snapshot.verification().complete);
    assert!(Snapshot::open(&path, &options(VerifyMode::Eager)).is_err());
}

#[test]
fn many_readers_at_once_all_get_good_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    sample.write(&path);
    for _ in 0..50 {
        let snapshot = Snapshot::open(&path, &options(VerifyMode::OnTheFly)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| sample.assert_equal(&snapshot));
            }
        });
        snapshot.wait_verified().unwrap();
        assert_eq!(
            snapshot.verification().bytes,
            snapshot.manifest().data_len,
            "each chunk is hashed once"
        );
    }
}

#[test]
fn zero_threads_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    sample.write(&path);
    for mode in MODES {
        let options = OpenOptions { threads: 0, ..options(mode) };
        sample.assert_equal(&Snapshot::open(&path, &options).unwrap());
    }
}
