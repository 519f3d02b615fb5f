//! Bytes from anywhere: refused or understood, never a panic, never memory out of proportion.

use proptest::collection::vec;
use proptest::prelude::*;

use super::support::Sample;
use crate::format::manifest::Manifest;
use crate::format::superblock::{self, Superblock};
use crate::fuzzing::check_manifest;

fn manifest() -> (Vec<u8>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.snap");
    Sample::model().write(&path);
    let manifest = crate::inspect(&path).unwrap().1;
    (manifest.encode().unwrap(), manifest.file_len())
}

#[test]
fn every_byte_of_a_manifest_set_to_extremes() {
    let (bytes, file_len) = manifest();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            check_manifest(&bytes, file_len);
        }
        check_manifest(&bytes[..at], file_len);
    }
}

#[test]
fn huge_counts_allocate_nothing() {
    let (bytes, file_len) = manifest();
    // Field 1 is the layout ABI, which may be any number.
    for field in [0, 2, 3, 4, 5, 6, 7, 8] {
        let mut bytes = bytes.clone();
        bytes[8 + field * 4..12 + field * 4].fill(0xff);
        assert!(Manifest::decode(&bytes, file_len).is_err(), "field {field}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..600), file_len in any::<u64>()) {
        check_manifest(&bytes, file_len);
        check_manifest(&[b"DFRSTMAN", &bytes[..]].concat(), file_len);
        let mut block = [0; superblock::LEN];
        block[..bytes.len()].copy_from_slice(&bytes);
        let _ = Superblock::decode(&block, file_len);
    }

    #[test]
    fn mutated_manifests(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        numbers in vec((any::<prop::sample::Index>(), any::<u64>()), 0..2),
        length in prop_oneof![Just(None), any::<u64>().prop_map(Some)],
    ) {
        thread_local!(static MANIFEST: (Vec<u8>, u64) = manifest());
        let (mut bytes, file_len) = MANIFEST.with(Clone::clone);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for (at, value) in numbers {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        check_manifest(&bytes, length.unwrap_or(file_len));
    }
}
