//! Packs a checkpoint into a temporary snapshot and loads it.

use std::path::Path;

use defrost_model::{Precision, Runtime, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{
    EmbedTask, Embedder, EmbedderOptions, Embedding, Input, Reranker, RerankerOptions,
    RestoreOptions, restore,
};

/// What runs the models of these tests.
pub(crate) const LINKED: &[&dyn Runtime] = &[&defrost_engine::RUNTIME];

/// Packs `checkpoint` as `out`.
pub(crate) fn pack_to(checkpoint: &Path, precision: Precision, isa: &str, out: &Path) {
    pack_with(checkpoint, precision, isa, Outliers::Auto, out);
}

/// Packs `checkpoint` as `out`, with outliers treated or not.
pub(crate) fn pack_with(
    checkpoint: &Path,
    precision: Precision,
    isa: &str,
    outliers: Outliers,
    out: &Path,
) {
    let options = PackOptions { outliers, ..options(precision, isa) };
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    pack(&checkpoint, &options, out, &mut |_, _| {}).unwrap();
}

/// What packing does unless it is asked for something else.
pub(crate) fn options(precision: Precision, isa: &str) -> PackOptions {
    PackOptions {
        spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
        precision,
        isa: isa.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    }
}

/// A reranker over a snapshot in a temporary directory, which may be removed once it is mapped.
pub(crate) fn reranker(
    checkpoint: &Path,
    precision: Precision,
    options: &RerankerOptions,
) -> Reranker {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    pack_to(checkpoint, precision, isa::NATIVE, &path);
    let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    Reranker::load(LINKED, &snapshot, options).unwrap()
}

/// An embedder, as [`reranker`].
pub(crate) fn embedder(
    checkpoint: &Path,
    precision: Precision,
    options: &EmbedderOptions,
) -> Embedder {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    pack_to(checkpoint, precision, isa::NATIVE, &path);
    let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    Embedder::load(LINKED, &snapshot, options).unwrap()
}

/// What comes of one input alone; the request's own inputs do not matter.
pub(crate) fn embed_one(embedder: &Embedder, input: Input, request: &EmbedTask) -> Embedding {
    let request = EmbedTask { inputs: vec![input], ..request.clone() };
    embedder.embed(&[request], &|| false).unwrap().remove(0).remove(0)
}
