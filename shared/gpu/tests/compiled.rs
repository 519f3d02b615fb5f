//! Compiled passes: tiles that were measured, and graphs; with the same bits as passes without either.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::{Arc, OnceLock};

use defrost_gpu::device::Device;
use defrost_gpu::device::emulated::{self, Emulated};
use defrost_gpu::runner::{GpuModel, Settings, Tune};
use defrost_model::planning::{planned, shares};
use defrost_model::spec::Description;
use defrost_model::{Planned, Precision, Runner, Tokens, Wanted, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{RestoreOptions, restore};
use defrost_testing::golden;
use proptest::prelude::*;

/// The same model as a compiled start has it, and as an eager one.
struct Both {
    compiled: GpuModel,
    eager: GpuModel,
}

fn load(model: &str, precision: Precision) -> Both {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    let options = PackOptions {
        spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
        precision,
        isa: isa::PORTABLE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    pack(&Checkpoint::open(&golden::checkpoint(model)).unwrap(), &options, &path, &mut |_, _| {})
        .unwrap();
    let linked = &[&defrost_gpu::RUNTIME as &dyn defrost_model::Runtime];
    let snapshot = restore(linked, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    let Description::Parts(spec) = Description::of(&snapshot).unwrap() else { panic!("parts") };
    let device: Arc<dyn Device> = Arc::new(Emulated::new(emulated::Settings::default()));
    let with = |tune| {
        // Sixteen rows are enough to prove the measurement.
        let settings = Settings { tune, most_rows: 16, ..Settings::default() };
        let (config, prefix) = (spec.config.clone(), spec.stored_prefix.clone());
        GpuModel::load(&device, &snapshot, config, prefix, &settings).unwrap()
    };
    Both { compiled: with(Tune::Before), eager: with(Tune::Never) }
}

/// One that shares prefixes, one that pools, and one of a classifier in int8.
fn models() -> &'static [Both] {
    static MODELS: OnceLock<Vec<Both>> = OnceLock::new();
    MODELS.get_or_init(|| {
        vec![
            load("qwen2-mxbai", Precision::Bf16),
            load("xlmr-embedding", Precision::F16),
            load("bert-classifier", Precision::Int8),
        ]
    })
}

fn run(model: &GpuModel, sequences: &[Tokens]) -> Vec<Vec<u32>> {
    let shares = shares(sequences, model.grouping(Wanted::default()));
    let planned: Vec<Planned<'_>> = planned(sequences, &shares).collect();
    let answers = model.run(&planned, Wanted::default()).unwrap();
    answers
        .iter()
        .map(|answer| answer.pooled.iter().map(|value| value.to_bits()).collect())
        .collect()
}

fn tokens(ids: &[u32]) -> Tokens {
    Tokens { ids: ids.to_vec(), types: Vec::new() }
}

#[test]
fn a_start_that_compiles_has_tiles_and_graphs_and_an_eager_one_has_neither() {
    for both in models() {
        assert_eq!((both.compiled.tuned(), both.eager.tuned(), both.eager.graphs()), (4, 0, 0));
        assert!(both.compiled.graphs() > 0);
    }
}

#[test]
fn passes_of_one_shape_are_one_graph() {
    let model = &load("bert-classifier", Precision::F16).compiled;
    let before = model.graphs();
    let of_lens = |lens: &[usize]| {
        let all: Vec<Tokens> = lens.iter().map(|len| tokens(&vec![7; *len])).collect();
        run(model, &all);
        model.graphs() - before
    };
    // One sequence of up to 64 tokens was made at the start.
    assert_eq!(of_lens(&[9]), 0);
    assert_eq!(of_lens(&[9, 8]), 1);
    assert_eq!(of_lens(&[20, 31]), 1);
    assert_eq!(of_lens(&[3, 4, 5]), 2);
    assert_eq!(of_lens(&[3, 4, 5, 6]), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever fills a pass up changes no bit, nor does a graph that was captured for another batch.
    #[test]
    fn compiled_passes_have_the_bits_of_eager_ones(
        which in 0usize..3,
        same in 0usize..20,
        ends in prop::collection::vec(prop::collection::vec(5u32..200, 1..24), 1..6),
    ) {
        let both = &models()[which];
        let start: Vec<u32> = (0..same as u32).map(|at| 10 + at).collect();
        let all: Vec<Tokens> = ends.iter().map(|end| tokens(&[&start[..], end].concat())).collect();
        prop_assert_eq!(run(&both.compiled, &all), run(&both.eager, &all));
    }
}
