//! One test for each part of a file that can be wrong, with the message it gives.

use std::fs;
use std::path::PathBuf;

use super::support::{MODES, Sample, options};
use crate::format::PAGE;
use crate::format::manifest::Manifest;
use crate::format::superblock::Superblock;
use crate::{Kind, Root, Snapshot, inspect, verify};

struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    manifest: Manifest,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.snap");
        Sample::model().write(&path);
        Self {
            bytes: fs::read(&path).unwrap(),
            manifest: inspect(&path).unwrap().1,
            path,
            _dir: dir,
        }
    }

    /// Every way to read this file must refuse it, with this kind and these words.
    #[track_caller]
    fn refused(&self, bytes: &[u8], kind: Kind, parts: &[&str]) {
        fs::write(&self.path, bytes).unwrap();
        for mode in MODES {
            let opened = Snapshot::open(&self.path, &options(mode));
            let error = opened.and_then(|snapshot| snapshot.wait_verified()).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{mode}: {text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{mode}: {text}");
            assert_eq!(error.path(), Some(&*self.path), "{mode}: {text}");
        }
        assert_eq!(verify(&self.path, &mut |_, _| ()).unwrap_err().kind(), kind);
    }

    fn changed(&self, at: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        bytes
    }

    /// The file with another manifest, resealed so that only the manifest's own rules can refuse it. The new
    /// manifest must be as long as the old one.
    fn with_manifest(&self, change: impl Fn(&mut Manifest)) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        self.with_manifest_bytes(&manifest.encode().unwrap())
    }

    fn with_manifest_bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let page = usize::try_from(PAGE).unwrap();
        bytes[page..usize::try_from(self.manifest.data_offset).unwrap()].fill(0);
        bytes[page..page + text.len()].copy_from_slice(text);
        let block = Superblock {
            file_len: bytes.len() as u64,
            manifest_len: text.len() as u64,
            root: Root::of(text),
        }
        .encode();
        let tail = bytes.len() - page;
        bytes[..page].copy_from_slice(&block);
        bytes[tail..].copy_from_slice(&block);
        bytes
    }
}

#[test]
fn the_file_is_shorter_or_longer() {
    let bench = Bench::new();
    let whole = bench.bytes.len();
    bench.refused(&[], Kind::Truncated, &["expected at least 8192 bytes, found 0"]);
    bench.refused(&bench.bytes[..8191], Kind::Truncated, &["found 8191"]);
    bench.refused(
        &bench.bytes[..whole - 1],
        Kind::Truncated,
        &[&format!("expected {whole} bytes")],
    );
    bench.refused(
        &bench.bytes[..whole - 4096],
        Kind::Truncated,
        &[&format!("expected {whole} bytes")],
    );
    let longer = [&bench.bytes[..], b"x"].concat();
    bench.refused(&longer, Kind::Corrupt, &[&format!("found {}", whole + 1)]);
}

#[test]
fn a_superblock_is_changed() {
    let bench = Bench::new();
    let whole = bench.bytes.len() as u64;
    bench.refused(&bench.changed(0), Kind::Corrupt, &["not a defrost snapshot", "at byte 0"]);
    bench.refused(&bench.changed(8), Kind::Unsupported, &["format version", "expected 2, found 3"]);
    bench.refused(&bench.changed(20), Kind::Corrupt, &["checksum", "at byte 4092"]);
    bench.refused(
        &bench.changed(whole - 1),
        Kind::Corrupt,
        &["copy at the end", &format!("at byte {}", whole - 1)],
    );
}

#[test]
fn the_manifest_or_padding_is_changed() {
    let bench = Bench::new();
    let text = bench.manifest.encode().unwrap();
    bench.refused(&bench.changed(PAGE), Kind::Corrupt, &["manifest's hash", "at byte 4096"]);
    let after = PAGE + text.len() as u64;
    bench.refused(
        &bench.changed(after),
        Kind::Corrupt,
        &["padding is not zero", &format!("at byte {after}")],
    );
}

#[test]
fn data_or_the_padding_in_it_is_changed() {
    let bench = Bench::new();
    let tensor = &bench.manifest.tensors[4];
    bench.refused(&bench.changed(tensor.offset), Kind::Corrupt, &["layer.1.attention", "xxh3"]);
    let end = bench.manifest.data_offset + bench.manifest.data_len;
    bench.refused(&bench.changed(end - 1), Kind::Corrupt, &["chunk"]);
}

#[test]
fn verify_finds_padding_that_was_hashed_as_written() {
    let bench = Bench::new();
    let end = bench.manifest.data_offset + bench.manifest.data_len;
    let bytes = bench.changed(end - 1);
    let last = bench.manifest.chunks.len() - 1;
    let range = bench.manifest.chunk_range(last);
    let chunk = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
    let hash = crate::ChunkHash::of(chunk);
    let mut sealed = bench.with_manifest(|m| m.chunks[last] = hash);
    let at = usize::try_from(end - 1).unwrap();
    sealed[at] = bytes[at];
    fs::write(&bench.path, &sealed).unwrap();
    let error = verify(&bench.path, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("padding is not zero"), "{error}");
    assert_eq!(error.offset(), Some(end - 1));
}

#[test]
fn verify_checks_the_identity_hash_too() {
    let bench = Bench::new();
    fs::write(&bench.path, bench.with_manifest(|m| m.chunks[0].blake3[0] ^= 1)).unwrap();
    let error = verify(&bench.path, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("chunk 0 does not match"), "{error}");
}

#[test]
fn a_manifest_breaks_a_rule() {
    type Change = fn(&mut Manifest);
    let cases: [(Change, &str); 18] = [
        (|m| m.tensors[1].name = m.tensors[0].name.clone(), "two tensors"),
        (|m| m.segments[1].name = m.segments[0].name.clone(), "two segments"),
        (|m| m.tensors[1].offset += 1, "not aligned"),
        (|m| m.tensors[4].offset += 64, "not aligned"),
        (|m| m.segments[1].offset += 64, "not aligned"),
        (|m| m.tensors[2].offset = m.tensors[1].offset, "overlaps"),
        (|m| m.segments[2].offset = m.segments[1].offset, "overlaps"),
        (|m| m.tensors[0].offset = 0, "overlaps"),
        (|m| m.tensors[1].offset += 1 << 20, "beyond its segment"),
        (|m| m.tensors[4].len = u64::MAX, "too long"),
        (|m| m.segments[3].len = u64::MAX, "too long"),
        (|m| m.segments[3].len += 1 << 20, "do not fill the data region"),
        (|m| m.segments[3].len = 0, "do not fill the data region"),
        (|m| m.tensors[1].segment = 7, "wrong segment"),
        (|m| m.tensors[5].segment = 0, "wrong segment"),
        (|m| m.tensors[1].shape[0] += 1, "wrong length"),
        (|m| m.chunk_size = 4095, "chunk size"),
        (|m| m.chunk_size = 8192, "number of chunks"),
    ];
    let bench = Bench::new();
    for (change, part) in cases {
        // Duplicate names make the manifest shorter; the data then starts where it did, or the rules say otherwise.
        let bytes = bench.with_manifest(change);
        bench.refused(&bytes, Kind::Corrupt, &[part]);
    }
}

#[test]
fn a_manifest_is_not_in_its_one_form() {
    let bench = Bench::new();
    let text = bench.manifest.encode().unwrap();
    let changed = |at: usize, value: u8| {
        let mut text = text.clone();
        text[at] = value;
        bench.with_manifest_bytes(&text)
    };
    bench.refused(&changed(0, b'X'), Kind::Corrupt, &["not a manifest"]);
    bench.refused(&changed(20, 3), Kind::Corrupt, &["tables do not fill it"]);
    bench.refused(&changed(16, 200), Kind::Corrupt, &["string number is out of range"]);
    bench.refused(&changed(16, 1), Kind::Corrupt, &["canonical"]);
    bench.refused(&changed(44, 9), Kind::Corrupt, &["lengths do not add up"]);
    let first_string = 44 + 4 * usize::from(text[36]);
    bench.refused(&changed(first_string, 0xff), Kind::Corrupt, &["not UTF-8"]);
    let first_tensor =
        text.len() - 40 * bench.manifest.chunks.len() - 96 * bench.manifest.tensors.len();
    bench.refused(&changed(first_tensor + 12, 99), Kind::Unsupported, &["unknown type", "99"]);
    bench.refused(&changed(first_tensor + 13, 9), Kind::Corrupt, &["too many dimensions"]);
    bench.refused(&changed(first_tensor + 14, 1), Kind::Corrupt, &["canonical"]);
    bench.refused(&changed(first_tensor + 32 + 8, 1), Kind::Corrupt, &["canonical"]);
    let longer = [&text[..], b"\0"].concat();
    bench.refused(&bench.with_manifest_bytes(&longer), Kind::Corrupt, &["tables do not fill it"]);
}

#[test]
fn a_part_of_another_snapshot_is_spliced_in() {
    let bench = Bench::new();
    let mut other = Sample::model();
    other.data[5].1[0] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.snap");
    other.write(&path);
    let other = fs::read(&path).unwrap();
    let data = usize::try_from(bench.manifest.data_offset).unwrap();
    let tail = bench.bytes.len() - 4096;
    let splice = |head: &[u8], middle: &[u8], end: &[u8]| {
        [&head[..data], &middle[data..tail], &end[tail..]].concat()
    };
    bench.refused(&splice(&bench.bytes, &other, &bench.bytes), Kind::Corrupt, &["embeddings"]);
    bench.refused(&splice(&other, &bench.bytes, &bench.bytes), Kind::Corrupt, &["copy at the end"]);
    bench.refused(&splice(&bench.bytes, &bench.bytes, &other), Kind::Corrupt, &["copy at the end"]);
}
