//! Folding against the real engine: in f32 it must change nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use defrost_engine::{Encoding, Kernel, Model, Threads, Weights};
use defrost_loader::{Dtype, Tensor};
use defrost_model::parts::plan;
use defrost_model::{Batch, Error as EngineError, Precision, isa};
use defrost_testing::golden;
use proptest::prelude::*;

use super::{Treatment, decide};
use crate::checkpoint::{SpecOptions, read};
use crate::formats::Checkpoint;
use crate::pack::values;
use crate::{Shape, synthesize};

/// A snapshot's tensors without a snapshot.
struct Memory(BTreeMap<String, Tensor>);

impl Weights for Memory {
    fn get(&self, name: &str) -> Result<Option<Tensor>, EngineError> {
        Ok(self.0.get(name).cloned())
    }
}

/// The model in f32, with and without its treatment.
fn models(checkpoint: &Path) -> (Treatment, [Model; 2]) {
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    let options = SpecOptions { name: "m".into(), ..SpecOptions::default() };
    let source = read(&checkpoint, &options).unwrap();
    let groups = plan(&source.spec.config, &source.naming);
    let treatment = decide(&checkpoint, &source, &groups, &mut |_| {}).unwrap();
    let none = BTreeSet::new();
    let encoding = Encoding { precision: Precision::F32, isa: isa::NATIVE, bf16: &none };
    let model = |treatment: &Treatment| {
        let mut tensors = BTreeMap::new();
        for part in groups.iter().flat_map(|group| &group.parts) {
            let mut values = values(&checkpoint, part).unwrap();
            treatment.apply(part, &mut values);
            for (tensor, bytes) in encoding.plan(part).into_iter().zip(encoding.fill(part, values))
            {
                assert_eq!(tensor.dtype, Dtype::F32);
                let (layout, shape) = (tensor.layout, tensor.shape);
                // Vectors of bytes need not lie at multiples of four; those of floats do.
                let floats: Vec<f32> = bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&value| f32::from_le_bytes(value))
                    .collect();
                let bytes = bytes::Bytes::from_owner(Aligned(floats));
                tensors
                    .insert(tensor.name, Tensor::in_memory("", Dtype::F32, &layout, shape, bytes));
            }
        }
        let threads = Arc::new(Threads::new(Some(1)));
        Model::load(source.spec.config.clone(), &Memory(tensors), Kernel::detect(), threads)
            .unwrap()
    };
    let both = [model(&Treatment::default()), model(&treatment)];
    (treatment, both)
}

struct Aligned(Vec<f32>);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Runs both models on made-up tokens; every bit must agree.
fn agree([plain, treated]: &[Model; 2], seed: u32) {
    let vocab = u32::try_from(plain.config().vocab).unwrap();
    let mut state = seed;
    let mut batch = Batch::default();
    for len in [1, 17, 40] {
        let ids: Vec<u32> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) % vocab
            })
            .collect();
        batch.push(&ids, &[]);
    }
    let bits = |model: &Model| -> Vec<u32> {
        model.forward(&batch).unwrap().into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(plain), bits(treated));
}

/// A small decoder with every kind of planted outlier.
fn planted(preset: &str, seed: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut shape = Shape::preset(preset).unwrap();
    for (dimension, size) in [
        ("hidden", 96),
        ("layers", 2),
        ("heads", 4),
        ("kv_heads", 2),
        ("head_dim", 24),
        ("intermediate", 200),
        ("vocab", 512),
    ] {
        shape.set(dimension, size).unwrap();
    }
    shape.outliers = true;
    synthesize(&shape, None, seed, dir.path()).unwrap();
    dir
}

#[test]
fn folding_changes_no_bit_of_any_family_in_f32() {
    for model in golden::PAIR_MODELS.into_iter().chain(golden::EMBEDDING_MODELS) {
        let (treatment, models) = models(&golden::checkpoint(model));
        assert!(!treatment.report.0.is_empty());
        agree(&models, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn folding_changes_no_bit_of_planted_models_in_f32(seed: u64, qwen3: bool) {
        let preset = if qwen3 { "qwen3-reranker-0.6b" } else { "mxbai-rerank-base-v2" };
        let dir = planted(preset, seed);
        let (treatment, models) = models(dir.path());
        let entries = &treatment.report.0;
        for product in ["qkv", "out", "gate_up", "down"] {
            prop_assert!(
                entries.iter().any(|entry| entry.product.ends_with(product) && entry.exponent.is_some()),
                "{product}: {}", treatment.report
            );
        }
        agree(&models, 3);
    }
}

#[test]
fn decisions_are_the_same_every_time() {
    let dir = planted("mxbai-rerank-base-v2", 11);
    let [first, second] = [models(dir.path()).0, models(dir.path()).0];
    assert_eq!(first.report, second.report);
    assert!(first.report.0.iter().any(|entry| entry.before > 500), "{}", first.report);
}
