//! Mapped, copied, shortened, detached: the bytes are the same or there is an error.

use std::fs::File;

use super::support::{MODES, Sample, options};
use crate::{Kind, OpenOptions, Reading, Snapshot, VerifyMode};

#[test]
fn a_copy_holds_the_same_and_keeps_it_when_the_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    for verify in MODES {
        sample.write(&path);
        let options = OpenOptions { reading: Reading::Copy, ..options(verify) };
        let snapshot = Snapshot::open(&path, &options).unwrap();
        assert!(snapshot.origin().starts_with("copied into memory"), "{}", snapshot.origin());
        snapshot.wait_verified().unwrap();
        assert_eq!(snapshot.verification().mode, verify);
        File::create(&path).unwrap();
        sample.assert_equal(&snapshot);
        snapshot.detach().unwrap();
        sample.assert_equal(&snapshot);
    }
}

#[test]
fn a_file_shortened_under_its_mapping_is_an_error_for_every_tensor() {
    let dir = tempfile::tempdir().unwrap();
    for verify in MODES {
        let path = dir.path().join(format!("{verify}.snap"));
        let sample = Sample::model();
        sample.write(&path);
        let snapshot = Snapshot::open(&path, &options(verify)).unwrap();
        snapshot.wait_verified().unwrap();
        let tensor = snapshot.tensor("embeddings").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        // The read itself goes on, and is not to be believed.
        assert_eq!(tensor.bytes.iter().filter(|&&byte| byte != 0).count(), 0);
        let error = snapshot.intact().unwrap_err();
        assert_eq!(error.kind(), Kind::Truncated);
        assert!(error.to_string().contains("while it was mapped"), "{error}");
        for (name, _) in &sample.data {
            assert_eq!(snapshot.tensor(name).unwrap_err().kind(), Kind::Truncated, "{name}");
        }
        assert!(snapshot.detach().is_err());
    }
}

#[test]
fn a_file_shortened_while_it_is_hashed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    Sample::model().write(&path);
    let lazy = OpenOptions { threads: 1, ..options(VerifyMode::OnTheFly) };
    for len in [0, 4096, 8192, 40_000] {
        Sample::model().write(&path);
        let snapshot = Snapshot::open(&path, &lazy).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        // Either the hashing was through, and the bytes are missed when they are read; or it fails.
        let seen = snapshot.wait_verified().and_then(|()| {
            let tensor = snapshot.tensor("embeddings")?;
            assert!(tensor.bytes.iter().all(|&byte| byte == 0));
            snapshot.intact()
        });
        assert!(seen.is_err(), "shortened to {len}");
    }
}

#[test]
fn a_detached_snapshot_needs_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    for verify in MODES {
        sample.write(&path);
        let snapshot = Snapshot::open(&path, &options(verify)).unwrap();
        let before = snapshot.tensor("embeddings").unwrap();
        snapshot.detach().unwrap();
        File::create(&path).unwrap();
        sample.assert_equal(&snapshot);
        let after = snapshot.tensor("embeddings").unwrap();
        assert_eq!(after.bytes.as_ptr(), before.bytes.as_ptr(), "at the same address");
        snapshot.detach().unwrap();
    }
}
