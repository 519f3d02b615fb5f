//! Single bits: one in every chunk, and ten thousand in everything that is not data.

use std::fs;

use super::support::{Random, Sample, options};
use crate::{Dtype, OpenOptions, Reading, Snapshot, VerifyMode, inspect, verify};

#[test]
fn a_bit_in_every_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let mut sample = Sample::model();
    sample.segment("more");
    sample.tensor("more", Dtype::U8, "packed", &[300 * 4096]);
    sample.write(&path);
    let (_, manifest) = inspect(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut random = Random(11);
    for chunk in 0..manifest.chunks.len() {
        let range = manifest.chunk_range(chunk);
        let at = usize::try_from(range.start).unwrap() + random.below(4096);
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        fs::write(&path, &bad).unwrap();
        for reading in [Reading::Map, Reading::Copy] {
            for verify in [VerifyMode::Stamped, VerifyMode::OnTheFly, VerifyMode::Eager] {
                let options = OpenOptions { reading, ..options(verify) };
                let opened = Snapshot::open(&path, &options);
                let error = opened.and_then(|snapshot| snapshot.wait_verified()).unwrap_err();
                assert!(error.to_string().contains(&format!("chunk {chunk} ")), "{at}: {error}");
            }
        }
        assert!(verify(&path, &mut |_, _| {}).is_err());
    }
}

#[test]
fn ten_thousand_bits_of_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    Sample::model().write(&path);
    let (_, manifest) = inspect(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let data = usize::try_from(manifest.data_offset).unwrap();
    let metadata = data + 4096;
    let mut random = Random(12);
    for _ in 0..10_000 {
        // Superblock, manifest and padding; or the copy of the superblock at the end.
        let place = random.below(metadata);
        let at = if place < data { place } else { good.len() - 4096 + (place - data) };
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        fs::write(&path, &bad).unwrap();
        assert!(inspect(&path).is_err(), "byte {at}");
        assert!(Snapshot::open(&path, &options(VerifyMode::Stamped)).is_err(), "byte {at}");
    }
}
