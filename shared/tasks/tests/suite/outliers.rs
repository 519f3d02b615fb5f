//! Outlier channels: what packing does about them keeps int8 ranking as f32 ranks, natively and
//! through a portable snapshot.

use super::common::{self, LINKED};

use std::path::Path;

use defrost_model::{Precision, isa};
use defrost_pack::{Outliers, Shape, quality_summary, synthesize};
use defrost_tasks::{Reranker, RerankerOptions, RestoreOptions, ScoreTask, restore};
use defrost_testing::golden;

/// A small Qwen2 with every planted outlier and something to rank by.
fn planted(seed: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut shape = Shape::preset("mxbai-rerank-base-v2").unwrap();
    for (dimension, size) in [
        ("hidden", 256),
        ("layers", 4),
        ("heads", 4),
        ("kv_heads", 2),
        ("head_dim", 64),
        ("intermediate", 768),
        ("vocab", 1024),
    ] {
        shape.set(dimension, size).unwrap();
    }
    shape.outliers = true;
    let tokenizer = golden::checkpoint("qwen2-mxbai").join("tokenizer.json");
    let tokenizer = std::fs::read(tokenizer).unwrap();
    synthesize(&shape, Some(&tokenizer), seed, dir.path()).unwrap();
    dir
}

/// One query and made-up documents of words.
fn request() -> ScoreTask {
    let mut state = 1u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    // Documents lean towards different characters, or their averages would all be alike.
    let documents = (0..60)
        .map(|_| {
            let letters: Vec<char> = ('a'..='z').chain('0'..='9').chain(['.', ',', ' ']).collect();
            let own: Vec<char> = (0..6).map(|_| letters[next(39) as usize]).collect();
            (0..150)
                .map(
                    |_| {
                        if next(3) == 0 {
                            own[next(6) as usize]
                        } else {
                            letters[next(39) as usize]
                        }
                    },
                )
                .collect()
        })
        .collect();
    ScoreTask { query: "which one is it?".into(), documents, ..ScoreTask::default() }
}

fn scores(snapshot: &Path, cache: &Path) -> Vec<f32> {
    let options = RestoreOptions { cache_dir: Some(cache.to_owned()), ..RestoreOptions::default() };
    let snapshot = restore(LINKED, &snapshot.into(), &options).unwrap();
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
    let scores = reranker.score(&[request()], &|| false).unwrap();
    scores[0].iter().map(|score| score.raw).collect()
}

/// Kendall's tau-a.
fn tau(a: &[f32], b: &[f32]) -> f64 {
    let mut balance = 0.0;
    for i in 0..a.len() {
        for j in 0..i {
            balance += f64::from(((a[i] - a[j]) * (b[i] - b[j])).signum());
        }
    }
    balance / (a.len() * (a.len() - 1) / 2) as f64
}

#[test]
fn int8_ranks_as_f32_despite_outliers() {
    let checkpoint = planted(1);
    let dir = tempfile::tempdir().unwrap();
    let pack = |name: &str, precision, isa, outliers| {
        let path = dir.path().join(name);
        common::pack_with(checkpoint.path(), precision, isa, outliers, &path);
        path
    };
    let f32 = pack("f32", Precision::F32, isa::NATIVE, Outliers::Auto);
    let auto = pack("auto", Precision::Int8, isa::NATIVE, Outliers::Auto);
    let off = pack("off", Precision::Int8, isa::NATIVE, Outliers::Off);
    let portable = pack("portable", Precision::Int8, isa::PORTABLE, Outliers::Auto);
    let expected = scores(&f32, dir.path());
    let treated = scores(&auto, dir.path());
    let (treated_tau, plain_tau) =
        (tau(&expected, &treated), tau(&expected, &scores(&off, dir.path())));
    let summary = |path: &Path| {
        let (_, manifest) = defrost_loader::inspect(path).unwrap();
        let value = manifest.meta.iter().find(|(key, _)| &***key == "quality.products");
        value.map(|(_, value)| quality_summary(value).unwrap())
    };
    println!("tau {treated_tau:.4} treated, {plain_tau:.4} plain; {:?}", summary(&auto));
    assert!(summary(&auto).is_some_and(|line| line.contains("rescaled")));
    assert_eq!(summary(&off), None);
    assert!(treated_tau >= 0.98, "{treated_tau}");
    assert!(plain_tau < treated_tau - 0.01, "{plain_tau}");
    let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&scores(&portable, dir.path())), bits(&treated));
}
