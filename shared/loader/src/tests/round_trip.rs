//! What is written comes back, whatever it is, and comes out the same every time.

use std::fs;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::support::{MODES, Sample, options};
use crate::{Dtype, Snapshot, VerifyMode, inspect, verify};

#[test]
fn a_model_comes_back_in_every_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    let root = sample.write(&path);
    for mode in MODES {
        let snapshot = Snapshot::open(&path, &options(mode)).unwrap();
        sample.assert_equal(&snapshot);
        snapshot.wait_verified().unwrap();
        let report = snapshot.verification();
        assert!(report.complete);
        assert_eq!((report.requested, report.mode), (mode, mode), "the writer's stamp matches");
        let hashed = if mode == VerifyMode::Stamped { 0 } else { snapshot.manifest().data_len };
        assert_eq!(report.bytes, hashed);
        assert_eq!((snapshot.root(), snapshot.path()), (root, &*path));
        assert_eq!(snapshot.file_len(), fs::metadata(&path).unwrap().len());
        assert_eq!(
            (snapshot.isa(), snapshot.meta("family"), snapshot.meta("x")),
            ("portable", Some("bert"), None)
        );
        assert!(snapshot.has("embeddings") && !snapshot.has("embedding"));
    }
    let mut last = (0, 0);
    assert_eq!(verify(&path, &mut |done, total| last = (done, total)).unwrap(), root);
    assert!(last.0 == last.1 && last.0 > 0);
    assert_eq!(inspect(&path).unwrap().0, root);
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        2,
        "the snapshot and its stamp, no temporary files"
    );
}

#[test]
fn tensors_outlive_their_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    sample.write(&path);
    let snapshot = Snapshot::open(&path, &options(VerifyMode::OnTheFly)).unwrap();
    let tensor = snapshot.clone().tensor("embeddings").unwrap();
    drop(snapshot);
    fs::remove_file(&path).unwrap();
    assert_eq!(tensor.bytes, sample.data.last().unwrap().1);
}

#[test]
fn real_chunks_and_several_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let mut sample = Sample::empty();
    sample.segment("only");
    sample.tensor("large", Dtype::F32, "row-major", &[5, 1024, 256]);
    let mut writer = crate::SnapshotWriter::create(&path, sample.plan.clone()).unwrap();
    writer.write("large", &sample.data[0].1).unwrap();
    let root = writer.finish().unwrap();
    let snapshot = Snapshot::open(&path, &options(VerifyMode::Eager)).unwrap();
    assert_eq!(snapshot.manifest().chunks.len(), 3);
    sample.assert_equal(&snapshot);
    assert_eq!(verify(&path, &mut |_, _| ()).unwrap(), root);
}

/// The bytes of version 2 never change: a new root here means that snapshots in the field lose their names.
#[test]
fn the_format_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let root = Sample::model().write(&dir.path().join("a.snap"));
    assert_eq!(
        root.to_string(),
        "d915867e5b55fb81ab26948108f12231fa52da77619295b754e2b4d957dca103"
    );
}

const DTYPES: [Dtype; 7] =
    [Dtype::U8, Dtype::I8, Dtype::I32, Dtype::U32, Dtype::Bf16, Dtype::F16, Dtype::F32];

prop_compose! {
    fn any_sample()(
        segments in vec(vec((0..DTYPES.len(), vec(0usize..12, 0..5), any::<bool>()), 0..5), 0..5),
        meta in btree_map("[a-z]{1,4}", ".{0,20}", 0..5),
        large in proptest::option::of(60_000usize..70_000),
    ) -> Sample {
        let mut sample = Sample::empty();
        sample.plan.meta = meta;
        for (s, tensors) in segments.iter().enumerate() {
            sample.segment(&format!("segment {s}"));
            for (t, (dtype, shape, plain)) in tensors.iter().enumerate() {
                let layout = if *plain { "row-major" } else { "packed" };
                sample.tensor(&format!("{s}.{t}"), DTYPES[*dtype], layout, shape);
            }
            if let Some(len) = large {
                sample.tensor(&format!("{s}.large"), Dtype::U8, "file", &[len]);
            }
        }
        sample
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_plan_comes_back_and_is_reproducible(sample in any_sample()) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.snap"), dir.path().join("b.snap"));
        prop_assert_eq!(sample.write(&a), sample.write(&b));
        prop_assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        for mode in MODES {
            sample.assert_equal(&Snapshot::open(&a, &options(mode)).unwrap());
        }
        verify(&a, &mut |_, _| ()).unwrap();
    }
}
