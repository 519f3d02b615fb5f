//! What the writer and the reader refuse although no byte is wrong.

use std::fs;
use std::path::Path;

use super::support::{Sample, options};
use crate::{Dtype, Error, Kind, OpenOptions, Plan, Snapshot, SnapshotWriter, VerifyMode, verify};

#[track_caller]
fn says(error: &Error, kind: Kind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    assert!(!text.contains('\n'));
}

/// The error that `create` gives for the model's plan after a change.
#[track_caller]
fn plan_refused(change: impl Fn(&mut Plan), parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = Sample::model().plan;
    change(&mut plan);
    let error = SnapshotWriter::create(&dir.path().join("a.snap"), plan).unwrap_err();
    says(&error, Kind::Invalid, parts);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn plans_that_contradict_themselves() {
    plan_refused(|p| p.segments[1].name = "files".into(), &["two segments", "files"]);
    plan_refused(
        |p| p.segments[1].tensors[0].name = "tokenizer.json".into(),
        &["two tensors", "tokenizer.json"],
    );
    plan_refused(|p| p.segments[1].tensors[0].name = String::new(), &["tensor name"]);
    plan_refused(|p| p.segments[1].tensors[0].name = "a\nb".into(), &["control"]);
    plan_refused(|p| p.segments[1].name = "x".repeat(513), &["segment name", "512"]);
    plan_refused(|p| p.segments[1].tensors[0].len = 6999, &["expected 7000 bytes, found 6999"]);
    plan_refused(|p| p.segments[1].tensors[0].shape = vec![usize::MAX, 3], &["fewer than 2^64"]);
    plan_refused(|p| p.segments[1].tensors[0].shape = vec![1; 9], &["dimensions", "at most 8"]);
    plan_refused(|p| p.segments[2].tensors[0].len = usize::MAX - 70, &["too large"]);
    plan_refused(|p| p.segments[2].tensors[0].len = 1 << 50, &["too large"]);
    plan_refused(|p| p.segments[1].tensors[0].layout = String::new(), &["layout"]);
    plan_refused(|p| p.isa = String::new(), &["isa"]);
    plan_refused(
        |p| drop(p.meta.insert("k".into(), "v".repeat(65_537))),
        &["metadata value", "65537"],
    );
    plan_refused(|p| drop(p.meta.insert(String::new(), String::new())), &["metadata key"]);
}

#[test]
fn tensors_out_of_turn() {
    let dir = tempfile::tempdir().unwrap();
    let sample = Sample::model();
    let path = dir.path().join("a.snap");
    let mut writer = SnapshotWriter::create(&path, sample.plan.clone()).unwrap();
    says(
        &writer.write("embeddings", &[]).unwrap_err(),
        Kind::Invalid,
        &["order", "tokenizer.json", "embeddings"],
    );
    says(
        &writer.write("tokenizer.json", &[0; 776]).unwrap_err(),
        Kind::Invalid,
        &["expected 777 bytes, found 776"],
    );
    for (name, bytes) in &sample.data[..3] {
        writer.write(name, bytes).unwrap();
    }
    says(&writer.finish().unwrap_err(), Kind::Invalid, &["not complete", "layer.0.nothing"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a failed writer leaves nothing behind");

    let mut empty = SnapshotWriter::create(&path, Sample::empty().plan).unwrap();
    says(&empty.write("w", &[]).unwrap_err(), Kind::Invalid, &["too many"]);
    drop(empty);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nor does a dropped one");
}

#[test]
fn an_old_snapshot_stays_until_the_new_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.snap");
    let sample = Sample::model();
    let old = sample.write(&path);
    let mapped = Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap();
    let mut writer = SnapshotWriter::create(&path, Sample::model().plan).unwrap();
    writer.write("tokenizer.json", &[0; 777]).unwrap();
    drop(writer);
    assert_eq!(verify(&path, &mut |_, _| ()).unwrap(), old);
    Sample::empty().write(&path);
    sample.assert_equal(&mapped);
}

#[test]
fn other_kernels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.snap");
    Sample::model().write(&path);
    let open = |options: OpenOptions| Snapshot::open(&path, &options).unwrap_err();
    says(
        &open(OpenOptions::new(["avx2", "avx512-vnni"], 1)),
        Kind::WrongIsa,
        &["a.snap", "one of [avx2, avx512-vnni]", "portable", "defrost pack --isa"],
    );
    says(
        &open(OpenOptions::new(["portable"], 2)),
        Kind::Unsupported,
        &["expected 2, found 1", "defrost pack"],
    );
}

#[test]
fn things_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.snap");
    says(
        &Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap_err(),
        Kind::NotFound,
        &["a.snap"],
    );
    says(&verify(dir.path(), &mut |_, _| ()).unwrap_err(), Kind::Invalid, &["regular file"]);
    says(
        &SnapshotWriter::create(
            &dir.path().join("no/a.snap"),
            Plan { isa: "x".into(), ..Plan::default() },
        )
        .unwrap_err(),
        Kind::NotFound,
        &["no/a.snap"],
    );
    says(
        &SnapshotWriter::create(Path::new("/"), Plan { isa: "x".into(), ..Plan::default() })
            .unwrap_err(),
        Kind::Io,
        &["not the path of a file"],
    );
    Sample::model().write(&path);
    let snapshot = Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap();
    says(
        &snapshot.tensor("layer.9").unwrap_err(),
        Kind::NotFound,
        &["layer.9", "6 tensors", "defrost inspect"],
    );
}

#[test]
fn layouts_other_than_row_major_may_have_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.snap");
    let mut sample = Sample::empty();
    sample.segment("s");
    sample.tensor("packed", Dtype::I8, "vnni-4x16", &[64]);
    sample.plan.segments[0].tensors[0].shape = vec![61];
    sample.write(&path);
    sample.assert_equal(&Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap());
}

/// The error names what was given in place of a snapshot, and what to do then.
#[test]
fn what_is_no_snapshot_is_told_with_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors", "model.gguf", "model.onnx"] {
        std::fs::write(model.join(file), "x".repeat(10_000)).unwrap();
    }
    let options = crate::RestoreOptions::new(super::support::options(crate::VerifyMode::Eager));
    let pack = format!("`defrost pack {}` makes a snapshot", model.display());
    let onnx = format!("`defrost pack {}/model.onnx` makes a snapshot", model.display());
    for (place, says) in [
        ("no-such-org/no-such-name".to_owned(), "`defrost pack hf://no-such-org/no-such-name`"),
        (model.display().to_string(), &pack),
        (format!("{}/model.safetensors", model.display()), &pack),
        (format!("{}/model.onnx", model.display()), &onnx),
        (format!("{}/model.gguf", model.display()), "`defrost inspect`"),
    ] {
        let location: crate::Location = place.parse().unwrap();
        let error = crate::restore(&location, &options).unwrap_err().to_string();
        assert!(error.starts_with(&place) && error.contains(says), "{error}");
    }
    for place in ["no-such-file.snap", "no-such-folder/x.snap", "/no/such/folder", "a/b/c"] {
        let location: crate::Location = place.parse().unwrap();
        let error = crate::restore(&location, &options).unwrap_err().to_string();
        assert!(!error.contains("pack"), "{error}");
    }
}
