//! Ten thousand seeded corruptions of one snapshot; each is refused in every mode.
//!
//! The stamp of the original lies beside the file all the while. Half of the corruptions are made in place, the way a
//! bad disk tool or a resumed download would, half by replacing the file.

use std::fs;
use std::path::Path;

use super::support::{MODES, Random, Sample, options};
use crate::{Snapshot, VerifyMode};

const CORRUPTIONS: usize = 10_000;

/// Changes the bytes at random until they differ from the original; says what it did.
fn corrupt(original: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    loop {
        let mut bytes = original.to_vec();
        let len = bytes.len();
        let at = random.below(len);
        let largest = 2 << random.below(13);
        let span = 1 + random.below(largest);
        let end = (at + span).min(len);
        let what = match random.below(6) {
            0 | 1 => {
                let bit = random.below(8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            2 => {
                bytes[at..end].fill(0);
                format!("{at}..{end} zeroed")
            }
            3 => {
                let keep = if random.below(50) == 0 { 0 } else { at };
                bytes.truncate(keep);
                format!("truncated to {keep}")
            }
            4 => {
                bytes.extend((0..span).map(|_| random.next().to_le_bytes()[0]));
                format!("{span} bytes appended")
            }
            _ => {
                let other = random.below(len);
                let span = (end - at).min(at.abs_diff(other)).min(len - other);
                for i in 0..span {
                    bytes.swap(at + i, other + i);
                }
                format!("{at} and {other} swapped over {span} bytes")
            }
        };
        if bytes != original {
            return (bytes, what);
        }
    }
}

/// Whether any part of a snapshot that was opened in this mode can be had.
fn accepted(path: &Path, mode: VerifyMode, names: &[String], original: &Snapshot) -> bool {
    let Ok(snapshot) = Snapshot::open(path, &options(mode)) else {
        return false;
    };
    for name in names {
        // Before the bad chunk is reached, good tensors may be handed out, but never a wrong byte.
        if let Ok(tensor) = snapshot.tensor(name) {
            assert_eq!(tensor, original.tensor(name).unwrap());
        }
    }
    snapshot.wait_verified().is_ok()
}

#[test]
fn every_corruption_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.snap");
    let sample = Sample::model();
    let root = sample.write(&path);
    assert!(dir.path().join(format!("{root}.ok")).exists());
    let bytes = fs::read(&path).unwrap();
    let kept = dir.path().join("kept.snap");
    fs::write(&kept, &bytes).unwrap();
    let original = Snapshot::open(&kept, &options(VerifyMode::Eager)).unwrap();
    let names: Vec<_> = sample.data.iter().map(|(name, _)| name.clone()).collect();

    let mut random = Random(20_261_121);
    for number in 0..CORRUPTIONS {
        let (bad, what) = corrupt(&bytes, &mut random);
        if number % 2 == 0 {
            fs::write(&path, &bad).unwrap();
        } else {
            let fresh = dir.path().join("fresh");
            fs::write(&fresh, &bad).unwrap();
            fs::rename(&fresh, &path).unwrap();
        }
        for mode in MODES {
            assert!(
                !accepted(&path, mode, &names, &original),
                "corruption {number} passed {mode}: {what}"
            );
        }
    }
    fs::write(&path, &bytes).unwrap();
    sample.assert_equal(&Snapshot::open(&path, &options(VerifyMode::Stamped)).unwrap());
}
