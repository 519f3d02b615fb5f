use proptest::prelude::*;

use super::super::{Checkpoint, to_f32};
use super::*;

/// What torch 2.15 saved for `{"weight": [[1.5, -2, 0.25, 8]], "bias": [3]}` in f16, with `torch.save`.
const SAVED: &[u8] = include_bytes!("state_dict.pt");

fn fault(file: &[u8]) -> String {
    read(&Bytes::copy_from_slice(file)).unwrap_err().to_string()
}

/// The file with the only occurrence of `from` replaced by `to`, of the same length.
fn edited(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = SAVED.to_vec();
    let found: Vec<usize> = (0..file.len()).filter(|&at| file[at..].starts_with(from)).collect();
    assert!(!found.is_empty());
    for at in found {
        file[at..at + to.len()].copy_from_slice(to);
    }
    file
}

#[test]
fn what_torch_saved() {
    let tensors = read(&Bytes::from_static(SAVED)).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bias", "weight"]);
    assert_eq!(tensors["weight"].shape, [1, 4]);
    assert_eq!(tensors["weight"].dtype, CheckpointDtype::F16);
    assert_eq!(to_f32(&tensors["weight"]).unwrap(), [1.5, -2.0, 0.25, 8.0]);
    assert_eq!(to_f32(&tensors["bias"]).unwrap(), [3.0]);
}

#[test]
fn a_file_beside_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("side.pt"), SAVED).unwrap();
    std::fs::write(dir.path().join("bad.pt"), &SAVED[1..]).unwrap();
    let checkpoint = Checkpoint::without_weights(dir.path());
    let with = checkpoint.with_file("side.pt", "side.").unwrap().unwrap();
    assert_eq!(with.names().collect::<Vec<_>>(), ["side.bias", "side.weight"]);
    assert!(checkpoint.with_file("none.pt", "side.").unwrap().is_none());
    let twice = with.with_file("side.pt", "side.").unwrap_err().to_string();
    assert!(twice.contains("side.pt") && twice.contains("is in two files"), "{twice}");
    assert!(checkpoint.with_file("bad.pt", "").unwrap_err().to_string().contains("bad.pt"));
    assert!(checkpoint.with_file("../side.pt", "").is_err());
}

#[test]
fn nothing_is_called_that_is_not_known() {
    let system = edited(b"collections\nOrderedDict", b"subprocess\ncheck_output");
    assert!(fault(&system).contains("it calls \"subprocess.check_output\""), "{}", fault(&system));
    let eval = edited(b"_rebuild_tensor_v2", b"_rebuild_parameter");
    assert!(
        fault(&eval).contains("it calls \"torch._utils._rebuild_parameter\""),
        "{}",
        fault(&eval)
    );
    let kind = edited(b"HalfStorage", b"EvilStorage");
    assert!(fault(&kind).contains("elements of \"torch.EvilStorage\""));
}

#[test]
fn files_of_another_kind_are_refused() {
    for (file, part) in [
        (b"".to_vec(), "not a zip archive"),
        (b"\x80\x02}q\x00.".to_vec(), "not a zip archive"),
        (edited(b"little", b"strong"), "the byte order is foreign"),
        (edited(b"data.pkl", b"data.pkx"), "no data.pkl"),
        (edited(b"/data/0", b"/data/7"), "there is no storage \"0\""),
        (edited(b"PK\x01\x02", b"PK\x01\x03"), "leads nowhere"),
        // A shape of four rows, and a stride of two.
        (edited(b"K\x01K\x04\x86", b"K\x04K\x04\x86"), "reach beyond its storage"),
        (edited(b"K\x04K\x01\x86", b"K\x04K\x02\x86"), "not row-major"),
        (edited(b"\x80\x02}", b"\x80\x04}"), "protocol 4, expected 2"),
    ] {
        let message = fault(&file);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn deep_and_long_programs_are_refused() {
    let deep = [&b"\x80\x02)"[..], &b"\x85".repeat(100_000), b"."].concat();
    assert!(pickle::read(&deep).unwrap_err().to_string().contains("nest deeper"));
    let long = b"N".repeat((1 << 20) + 1);
    assert!(pickle::read(&long).unwrap_err().to_string().contains("too long"));
    // Every tuple holds the one before twice: shared, not copied.
    let double = [&b"\x80\x02)"[..], &b"q\x00h\x00\x86".repeat(7), b"."].concat();
    assert!(pickle::read(&double).unwrap_err().to_string().contains("no dictionary"));
}

proptest! {
    /// Whatever is refused or read, nothing panics, and what is read lies inside of the file.
    #[test]
    fn damaged_files_are_refused_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut file = SAVED.to_vec();
        for (at, byte) in edits {
            let len = file.len();
            file[at.index(len)] = byte;
        }
        if cuts {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(tensors) = read(&Bytes::from(file)) {
            for tensor in tensors.values() {
                let count: usize = tensor.shape.iter().product();
                prop_assert_eq!(to_f32(tensor).unwrap().len(), count);
            }
        }
    }

    #[test]
    fn any_program_ends(
        program in prop::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                prop::sample::select(b"q\x00|h\x00|(|)|t|\x85|\x86|}|s|u|R|Q|b|N|K\x01|X\x01\x00\x00\x00a|ccollections\nOrderedDict\n|\x80\x02".split(|&b| b == b'|').map(<[u8]>::to_vec).collect::<Vec<_>>()),
            ],
            0..200,
        ),
    ) {
        let _ = pickle::read(&[program.concat(), b".".to_vec()].concat());
    }
}
