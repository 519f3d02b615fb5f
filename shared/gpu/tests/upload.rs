//! What lies in the arena is what the snapshot holds, in the types that are computed in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use defrost_gpu::arena::{Arena, ArenaPlan};
use defrost_gpu::device::Device;
use defrost_gpu::device::emulated::{Emulated, Settings};
use defrost_gpu::upload::{Error, Upload};
use defrost_loader::{Dtype, OpenOptions, Snapshot, VerifyMode};
use defrost_model::{ModelConfig, ModelSpec, Precision, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_testing::golden;
use half::{bf16, f16};

/// A few rows of the small models at once, so that tensors are cut.
const CHUNK: usize = 1024;

fn packed(dir: &Path, checkpoint: &Path, precision: Precision, isa: &str) -> PathBuf {
    let path = dir.join(format!("{}.snap", precision.name()));
    let options = PackOptions {
        spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
        precision,
        isa: isa.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    pack(&Checkpoint::open(checkpoint).unwrap(), &options, &path, &mut |_, _| {}).unwrap();
    path
}

fn open(path: &Path) -> (Snapshot, ModelConfig) {
    let mut options = OpenOptions::new(isa::ACCEPTED, isa::LAYOUT_ABI);
    options.verify = VerifyMode::OnTheFly;
    let snapshot = Snapshot::open(path, &options).unwrap();
    let config = ModelSpec::from_snapshot(&snapshot).unwrap().config;
    (snapshot, config)
}

fn device() -> Arc<dyn Device> {
    Arc::new(Emulated::new(Settings::default()))
}

/// The values of a type as f32; of int8 their bytes.
fn floats(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        Dtype::Bf16 => {
            bytes.as_chunks().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32()).collect()
        }
        Dtype::F16 => {
            bytes.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect()
        }
        _ => bytes.iter().map(|byte| f32::from(*byte)).collect(),
    }
}

fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        Dtype::F16 => f16::from_f32(value).to_f32(),
        _ => value,
    }
}

#[test]
fn every_tensor_arrives_rounded_once() {
    let dir = tempfile::tempdir().unwrap();
    // Encoders and decoders, with learned positions, with a stored prefix, with heads of every kind.
    for model in ["bert-classifier", "xlmr-m3", "qwen3-reranker"] {
        for precision in [Precision::Int8, Precision::Bf16, Precision::F16, Precision::F32] {
            let path = packed(dir.path(), &golden::checkpoint(model), precision, isa::PORTABLE);
            for half in [Dtype::Bf16, Dtype::F16] {
                let (snapshot, config) = open(&path);
                let device = device();
                let plan = ArenaPlan::new(&snapshot, &config, half).unwrap();
                let names: Vec<String> =
                    plan.groups().iter().map(|group| group.name.clone()).collect();
                assert_eq!((&*names[0], &*names[1]), ("embedding", "layer.0"), "{names:?}");
                let arena = Arc::new(Arena::new(&device, &plan).unwrap());
                assert_eq!(arena.bytes(), plan.bytes());
                let upload = Upload::start_in_chunks(&device, &snapshot, plan, &arena, CHUNK);
                // A stream that waits for each group in turn reads all of it.
                let stream = device.stream().unwrap();
                for group in 0..names.len() {
                    upload.wait(group, &*stream).unwrap();
                }
                let mut found = 0;
                for entry in &snapshot.manifest().tensors {
                    let Some((at, dtype)) = arena.find(&entry.name) else {
                        // The tokenizer; and what only the processors' way to multiply int8 needs.
                        assert!(
                            entry.name.starts_with("tokenizer") || entry.name.ends_with(".offset"),
                            "{}",
                            entry.name
                        );
                        continue;
                    };
                    let stored = snapshot.tensor(&entry.name).unwrap();
                    assert!(at.0.is_multiple_of(256));
                    let what = format!(
                        "{model} {} {} {half} {}",
                        precision.name(),
                        stored.dtype,
                        entry.name
                    );
                    let is_half = |dtype| matches!(dtype, Dtype::Bf16 | Dtype::F16);
                    assert!(
                        dtype == stored.dtype
                            || dtype == half
                                && (is_half(stored.dtype) || stored.dtype == Dtype::F32),
                        "{what}"
                    );
                    let count = stored.bytes.len() / stored.dtype.size();
                    let mut bytes = vec![0; count * dtype.size()];
                    stream.download(at, &mut bytes).unwrap();
                    let expected: Vec<f32> = floats(&stored.bytes, stored.dtype)
                        .into_iter()
                        .map(|value| rounded(value, dtype))
                        .collect();
                    assert_eq!(floats(&bytes, dtype), expected, "{what}");
                    found += 1;
                }
                assert!(found > 20, "{found}");
                upload.finish().unwrap();
                assert!(upload.took().is_some());
                // Nothing is waited for any more.
                upload.wait(usize::MAX, &*stream).unwrap();
            }
        }
    }
}

/// The first layers can be computed with while later ones are damaged, and no damaged one ever is.
#[test]
fn a_damaged_snapshot_is_told_before_its_layer_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        packed(dir.path(), &golden::checkpoint("bert-classifier"), Precision::Bf16, isa::PORTABLE);
    let mut bytes = std::fs::read(&path).unwrap();
    let (_, manifest) = defrost_loader::inspect(&path).unwrap();
    let entry =
        manifest.tensors.iter().find(|entry| &*entry.name == "layer.1.down.weight").unwrap();
    let at = usize::try_from(entry.offset).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (snapshot, config) = open(&path);
    let device = device();
    let plan = ArenaPlan::new(&snapshot, &config, Dtype::Bf16).unwrap();
    let layer = plan.groups().iter().position(|group| group.name == "layer.1").unwrap();
    let arena = Arc::new(Arena::new(&device, &plan).unwrap());
    let upload = Upload::start_in_chunks(&device, &snapshot, plan, &arena, CHUNK);
    let stream = device.stream().unwrap();
    let error = upload.wait(layer, &*stream).unwrap_err();
    assert!(matches!(error, Error::Snapshot(_)), "{error}");
    assert!(matches!(upload.finish(), Err(Error::Snapshot(_))));
    assert!(matches!(defrost_model::Error::from(error), defrost_model::Error::Weights(_)));
}

#[test]
fn values_that_f16_cannot_hold_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = defrost_testing::cases::copied("golden/bert-embedding");
    let file = checkpoint.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    for value in bytes[8 + header..].chunks_exact_mut(4) {
        value.copy_from_slice(&70000_f32.to_le_bytes());
    }
    std::fs::write(&file, bytes).unwrap();
    let path = packed(dir.path(), checkpoint.path(), Precision::Bf16, isa::PORTABLE);
    for (half, fits) in [(Dtype::Bf16, true), (Dtype::F16, false)] {
        let (snapshot, config) = open(&path);
        let device = device();
        let plan = ArenaPlan::new(&snapshot, &config, half).unwrap();
        let arena = Arc::new(Arena::new(&device, &plan).unwrap());
        let done = Upload::start(&device, &snapshot, plan, &arena).finish();
        let said = done.as_ref().err().map(ToString::to_string);
        assert_eq!(done.is_ok(), fits, "{said:?}");
        for part in ["layer.0.", "which f16 cannot hold", "DTYPE=bf16"] {
            assert!(said.as_ref().is_none_or(|said| said.contains(part)), "{said:?}");
        }
    }
}

#[test]
fn snapshots_that_lie_as_processors_read_them_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        packed(dir.path(), &golden::checkpoint("bert-classifier"), Precision::Bf16, isa::NATIVE);
    let (snapshot, config) = open(&path);
    let error = ArenaPlan::new(&snapshot, &config, Dtype::Bf16).unwrap_err().to_string();
    assert!(error.contains(".weight\": expected row-major, found panel64"), "{error}");
}

#[test]
fn a_device_that_fails_on_the_way_is_told_to_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        packed(dir.path(), &golden::checkpoint("bert-classifier"), Precision::Bf16, isa::PORTABLE);
    let (snapshot, config) = open(&path);
    let emulated = Emulated::new(Settings::default());
    let device: Arc<dyn Device> = Arc::new(emulated.clone());
    let plan = ArenaPlan::new(&snapshot, &config, Dtype::Bf16).unwrap();
    emulated.set_memory(plan.bytes() as u64 - 1);
    assert!(matches!(
        Arena::new(&device, &plan),
        Err(defrost_gpu::device::Error::OutOfMemory { .. })
    ));
    emulated.set_memory(plan.bytes() as u64);
    let arena = Arc::new(Arena::new(&device, &plan).unwrap());
    emulated.lose("pulled out");
    let upload = Upload::start(&device, &snapshot, plan, &arena);
    let error = upload.finish().unwrap_err();
    assert!(matches!(defrost_model::Error::from(error), defrost_model::Error::Lost(_)));
}
