//! Packing is reproducible, portable snapshots give the same scores, and no damaged snapshot ever
//! scores.

use super::common::{self, LINKED};

use std::path::Path;

use defrost_loader::VerifyMode;
use defrost_model::{Precision, isa};
use defrost_tasks::{
    Embedder, EmbedderOptions, Error, Reranker, RerankerOptions, RestoreOptions, ScoreTask, restore,
};
use defrost_testing::golden;
use proptest::test_runner::{Config, RngAlgorithm, TestRng};

fn requests() -> Vec<ScoreTask> {
    vec![ScoreTask {
        query: "who wrote it?".into(),
        documents: vec!["Harper Lee".into(), "中文 😀".into()],
        ..ScoreTask::default()
    }]
}

fn scores(path: &Path, options: &RestoreOptions) -> Result<Vec<u32>, Error> {
    let snapshot = restore(LINKED, &path.into(), options)?;
    let one = RerankerOptions { num_threads: Some(1), ..RerankerOptions::default() };
    let reranker = Reranker::load(LINKED, &snapshot, &one)?;
    let scores = reranker.score(&requests(), &|| false)?;
    Ok(scores[0].iter().map(|score| score.raw.to_bits()).collect())
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.snap"), dir.path().join("b.snap"));
    for precision in Precision::ALL {
        for isa in [isa::NATIVE, isa::PORTABLE] {
            common::pack_to(&golden::checkpoint("qwen3-reranker"), precision, isa, &a);
            common::pack_to(&golden::checkpoint("qwen3-reranker"), precision, isa, &b);
            assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        }
    }
}

#[test]
fn portable_snapshots_are_packed_once_and_score_the_same() {
    for model in ["bert-classifier", "qwen2-mxbai"] {
        for precision in Precision::ALL {
            let dir = tempfile::tempdir().unwrap();
            let cache = dir.path().join("cache");
            let options =
                RestoreOptions { cache_dir: Some(cache.clone()), ..RestoreOptions::default() };
            let (native, portable) = (dir.path().join("n.snap"), dir.path().join("p.snap"));
            let checkpoint = golden::checkpoint(model);
            common::pack_to(&checkpoint, precision, isa::NATIVE, &native);
            common::pack_to(&checkpoint, precision, isa::PORTABLE, &portable);
            let expected = scores(&native, &options).unwrap();
            assert_eq!(scores(&portable, &options).unwrap(), expected);
            let copies = || {
                let mut copies: Vec<_> = std::fs::read_dir(&cache)
                    .unwrap()
                    .map(|entry| entry.unwrap())
                    .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "snap"))
                    .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
                    .collect();
                copies.sort();
                copies
            };
            let first = copies();
            assert_eq!(first.len(), 1);
            assert_eq!(scores(&portable, &options).unwrap(), expected);
            assert_eq!(copies(), first, "the copy must be reused");
            std::fs::write(cache.join(&first[0].0), b"damaged").unwrap();
            assert_eq!(scores(&portable, &options).unwrap(), expected, "and made again if damaged");
            let other = golden::checkpoint("xlm-roberta-classifier");
            common::pack_to(&other, precision, isa::NATIVE, &cache.join(&first[0].0));
            assert_eq!(scores(&portable, &options).unwrap(), expected, "and if it is foreign");
        }
    }
}

/// A tokenizer.json of the same meaning that is not compiled gives a snapshot without the compiled form, and the same
/// scores.
#[test]
fn tokenizers_that_are_not_compiled_score_the_same() {
    for (model, added) in [
        ("bert-classifier", r#"{"type":"Lowercase"}"#),
        ("qwen2-mxbai", r#"{"type":"NFC"}"#),
        ("xlm-roberta-classifier", r#"{"type":"NFKD"},{"type":"NFKC"}"#),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = golden::checkpoint(model);
        for entry in std::fs::read_dir(&checkpoint).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let json = std::fs::read_to_string(checkpoint.join("tokenizer.json")).unwrap();
        let start = json.find(r#""normalizer""#).unwrap();
        let end = start + json[start..].find(r#""pre_tokenizer""#).unwrap();
        let normalizer = &json[start..end].trim_end().trim_end_matches(',')[13..];
        let sequence =
            format!(r#""normalizer":{{"type":"Sequence","normalizers":[{normalizer},{added}]}},"#);
        let edited = [&json[..start], &sequence, &json[end..]].concat();
        std::fs::write(dir.path().join("tokenizer.json"), edited).unwrap();
        let (plain, other) = (dir.path().join("a.snap"), dir.path().join("b.snap"));
        common::pack_to(&checkpoint, Precision::F32, isa::NATIVE, &plain);
        common::pack_to(dir.path(), Precision::F32, isa::NATIVE, &other);
        let options = RestoreOptions::default();
        let has = |path: &Path| {
            let location = defrost_loader::Location::from(path);
            restore(LINKED, &location, &options).unwrap().has("tokenizer.compiled")
        };
        assert_eq!((has(&plain), has(&other)), (true, false), "{model}");
        assert_eq!(scores(&plain, &options).unwrap(), scores(&other, &options).unwrap());
    }
}

#[test]
fn a_directory_stands_for_its_only_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| match restore(LINKED, &path.into(), &RestoreOptions::default()) {
        Ok(snapshot) => snapshot.path().display().to_string(),
        Err(err) => err.to_string(),
    };
    assert!(message(dir.path()).contains("one .snap file, found 0"));
    let only = dir.path().join("only.snap");
    common::pack_to(&golden::checkpoint("bert-embedding"), Precision::F32, isa::NATIVE, &only);
    assert_eq!(message(dir.path()), only.display().to_string());
    std::fs::copy(&only, dir.path().join("second.snap")).unwrap();
    assert!(message(dir.path()).contains("one .snap file, found 2"));
}

/// 10,000 random corruptions of a real model's snapshot: none of them gives a score.
#[test]
fn ten_thousand_corruptions_are_refused_before_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.snap");
    common::pack_to(&golden::checkpoint("bert-classifier"), Precision::Int8, isa::NATIVE, &good);
    let stamped = RestoreOptions::default();
    scores(&good, &stamped).unwrap();
    let original = std::fs::read(&good).unwrap();
    let bad = dir.path().join("bad.snap");
    let modes = [VerifyMode::Stamped, VerifyMode::OnTheFly, VerifyMode::Eager];
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut number = |below: usize| -> usize {
        use proptest::prelude::Rng;
        usize::try_from(rng.next_u64() % below as u64).unwrap()
    };
    let mut done = 0;
    while done < 10_000 {
        let mut bytes = original.clone();
        let len = bytes.len();
        match number(4) {
            0 => bytes[number(len)] ^= 1 << number(8),
            1 => {
                let start = number(len);
                let end = len.min(start + 1 + number(8192));
                bytes[start..end].fill(0);
            }
            2 => bytes.truncate(number(len)),
            _ => {
                let size = 1 + number(4096);
                let (a, b) = (number(len - size), number(len - size));
                if a.abs_diff(b) < size {
                    continue;
                }
                let (low, high) = (a.min(b), a.max(b));
                let (front, back) = bytes.split_at_mut(high);
                front[low..low + size].swap_with_slice(&mut back[..size]);
            }
        }
        if bytes == original {
            continue;
        }
        std::fs::write(&bad, &bytes).unwrap();
        let verify = modes[done % modes.len()];
        let options = RestoreOptions { verify, threads: Some(1), ..RestoreOptions::default() };
        let result = scores(&bad, &options);
        assert!(result.is_err(), "corruption {done} scored {result:?} with {verify}");
        done += 1;
    }
    assert_eq!(Config::default().cases, 256, "proptest is only the random source here");
}

/// A7: a model over a mapped file must not become another one when the file does.
#[test]
fn a_snapshot_edited_under_a_loaded_model_never_answers() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    let dir = tempfile::tempdir().unwrap();
    let edited = |path: &Path| {
        // All data, as another snapshot of this size would have it: the tokenizer's and the weights'.
        let mut bytes = std::fs::read(path).unwrap();
        let (_, manifest) = defrost_loader::inspect(path).unwrap();
        let data = usize::try_from(manifest.data_offset).unwrap();
        let end = bytes.len() - 4096;
        for byte in &mut bytes[data..end] {
            *byte ^= 1;
        }
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let times =
            |path: &Path| path.metadata().map(|stat| (stat.ctime(), stat.ctime_nsec())).unwrap();
        let before = times(path);
        // The times of a file advance in ticks.
        while times(path) == before {
            file.write_all_at(&bytes, 0).unwrap();
        }
    };
    let path = dir.path().join("reranker.snap");
    common::pack_to(&golden::checkpoint("bert-classifier"), Precision::F32, isa::NATIVE, &path);
    let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
    reranker.score(&requests(), &|| false).unwrap();
    edited(&path);
    for _ in 0..2 {
        let error = reranker.score(&requests(), &|| false).unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert!(error.to_string().contains("edited in place"), "{error}");
    }

    let path = dir.path().join("embedder.snap");
    common::pack_to(&golden::checkpoint("xlmr-m3"), Precision::F32, isa::NATIVE, &path);
    let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    let embedder = Embedder::load(LINKED, &snapshot, &EmbedderOptions::default()).unwrap();
    let tokens = embedder.tokenize("who wrote it?", true).unwrap();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    embedder.detokenize(&ids, false).unwrap();
    edited(&path);
    // The vocabulary was read before; what it was read from is not what the model is any more.
    assert!(embedder.tokenize("who wrote it?", true).unwrap_err().is_permanent());
    assert!(embedder.detokenize(&ids, false).unwrap_err().is_permanent());
}
