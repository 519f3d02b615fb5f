//! Snapshots in f16, which GPUs compute in: packed row by row, refused by name where no GPU is.

use std::path::Path;

use defrost_loader::Dtype;
use defrost_model::{Precision, isa, stored};
use defrost_pack::{Checkpoint, pack};
use defrost_tasks::{RestoreOptions, restore};
use defrost_testing::golden;
use half::f16;

use super::cases::copied;
use super::common::{LINKED, options, pack_to};

/// As its checkpoint has them: f16 in the first model, bf16 in the second, whose values f16 must round.
const MODELS: [&str; 2] = ["bert-classifier", "qwen3-reranker"];

#[test]
fn matrices_are_the_values_of_f32_rounded_once_and_all_else_is_f32() {
    let dir = tempfile::tempdir().unwrap();
    let (half, full) = (dir.path().join("f16.snap"), dir.path().join("f32.snap"));
    for model in MODELS {
        let open = |precision, out: &Path| {
            pack_to(&golden::checkpoint(model), precision, isa::PORTABLE, out);
            let mut options = defrost_loader::OpenOptions::new(isa::ACCEPTED, isa::LAYOUT_ABI);
            options.verify = defrost_loader::VerifyMode::Eager;
            defrost_loader::Snapshot::open(out, &options).unwrap()
        };
        let (half, full) = (open(Precision::F16, &half), open(Precision::F32, &full));
        assert_eq!(half.meta(stored::PRECISION), Some("f16"));
        let mut halves = 0;
        for entry in &full.manifest().tensors {
            let (found, expected) = (half.tensor(&entry.name), full.tensor(&entry.name));
            let (found, expected) = (found.unwrap(), expected.unwrap());
            if found.dtype != Dtype::F16 {
                assert_eq!((found.dtype, &found.shape), (expected.dtype, &expected.shape));
                // Keys and values of the prefix come of matrices that are not rounded either.
                assert_eq!(found.bytes, expected.bytes, "{model} {}", entry.name);
                continue;
            }
            halves += 1;
            let exact: &[f32] = bytemuck::cast_slice(&expected.bytes);
            let rounded: Vec<u8> =
                exact.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
            assert_eq!(found.bytes, rounded, "{model} {}", entry.name);
        }
        assert!(halves > 4, "{model}: {halves}");
    }
}

#[test]
fn f16_lies_row_by_row_only() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&golden::checkpoint("bert-classifier")).unwrap();
    let options = options(Precision::F16, isa::NATIVE);
    let error = pack(&checkpoint, &options, &dir.path().join("a.snap"), &mut |_, _| {});
    let error = error.unwrap_err().to_string();
    for part in ["f16 is for GPUs", "expected --isa portable", "--precision bf16"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_cpu_engine_refuses_f16_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f16.snap");
    pack_to(&golden::checkpoint("bert-classifier"), Precision::F16, isa::PORTABLE, &path);
    let cache_dir = Some(dir.path().join("cache"));
    let options = RestoreOptions { cache_dir, ..RestoreOptions::default() };
    let error = restore(LINKED, &path.as_path().into(), &options).unwrap_err().to_string();
    for part in ["f16.snap is in f16", "expected int8, bf16 or f32", "--precision int8", "on a GPU"]
    {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_weight_that_f16_makes_infinite_is_refused_by_name() {
    let dir = copied("golden/bert-embedding");
    let file = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let tensor = "encoder.layer.1.output.dense.weight";
    let start = usize::try_from(tensors[tensor]["data_offsets"][0].as_u64().unwrap()).unwrap();
    let place = 8 + header + start + 4 * 3;
    for (value, fits) in [(65519.0_f32, true), (-65520.0, false), (1e30, false)] {
        let mut spoilt = bytes.clone();
        spoilt[place..place + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&file, spoilt).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let options = options(Precision::F16, isa::PORTABLE);
        let packed = pack(&checkpoint, &options, &dir.path().join("a.snap"), &mut |_, _| {});
        let error = packed.err().map(|error| error.to_string());
        assert_eq!(error.is_none(), fits, "{value}: {error:?}");
        for part in [tensor, "at [0, 3], which f16 makes infinite", "pack with --precision bf16"] {
            assert!(error.as_ref().is_none_or(|error| error.contains(part)), "{error:?}");
        }
    }
}
