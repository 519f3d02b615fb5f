//! How well int8 ranks like f32, with and without what packing does about outliers: Kendall's tau,
//! and the noise of scores relative to their spread over documents.
//!
//! ```text
//! cargo run --release -p defrost-tasks --example outlier_agreement -- \
//!     planted:1 data/scifact-mini 5 150 400
//! ```
//!
//! The arguments: a checkpoint directory, or `planted:SEED[:hidden=256,layers=4,...]` for a made-up
//! Qwen2 with outliers, `ranking:...` for one without; a directory with `corpus.jsonl` and `queries.jsonl` in BEIR layout; how many of its queries and
//! documents; characters per document; and optionally a tokenizer.json for a made-up model.

#![allow(clippy::print_stdout, reason = "the output is what it is for")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use defrost_model::{Precision, isa};
use defrost_pack::{
    Checkpoint, Outliers, PackOptions, Shape, SpecOptions, pack, quality_summary, synthesize,
};
use defrost_tasks::{Reranker, RerankerOptions, RestoreOptions, ScoreTask, restore};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What runs the models here.
const LINKED: &[&dyn defrost_model::Runtime] = &[&defrost_engine::RUNTIME];

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, queries, documents, characters, tokenizer @ ..] = arguments.as_slice() else {
        return Err("expected MODEL DATA QUERIES DOCUMENTS CHARACTERS [TOKENIZER]".into());
    };
    let scratch = tempfile::tempdir()?;
    let model = checkpoint(model, tokenizer.first(), scratch.path())?;
    let requests =
        requests(Path::new(data), queries.parse()?, documents.parse()?, characters.parse()?)?;
    let measure = |precision, outliers| -> Fallible<Vec<Vec<f64>>> {
        let path = scratch.path().join("model.snap");
        let start = Instant::now();
        let options = PackOptions {
            spec: SpecOptions { name: "m".into(), ..SpecOptions::default() },
            precision,
            isa: isa::NATIVE.to_owned(),
            outliers,
            store_prefix: true,
        };
        pack(&Checkpoint::open(&model)?, &options, &path, &mut |_, _| {})?;
        println!("packed in {:.1} s", start.elapsed().as_secs_f64());
        let start = Instant::now();
        let found = scores(&path, &requests);
        println!("scored in {:.1} s", start.elapsed().as_secs_f64());
        found
    };
    let expected = measure(Precision::F32, Outliers::Off)?;
    let spread = mean(&expected.iter().map(|scores| deviation(scores)).collect::<Vec<_>>());
    println!("f32: {} queries, spread of scores {spread:.4}", requests.len());
    for (name, precision, outliers) in [
        ("bf16", Precision::Bf16, Outliers::Off),
        ("int8, outliers off", Precision::Int8, Outliers::Off),
        ("int8, outliers auto", Precision::Int8, Outliers::Auto),
    ] {
        let found = measure(precision, outliers)?;
        let pairs = || expected.iter().zip(&found);
        let taus: Vec<f64> = pairs().map(|(a, b)| kendall(a, b)).collect();
        let noise: Vec<f64> = pairs()
            .map(|(a, b)| deviation(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>()))
            .collect();
        println!(
            "{name}: tau {:.4}, least {:.4}; noise {:.2} % of the spread",
            mean(&taus),
            taus.iter().copied().fold(f64::INFINITY, f64::min),
            100.0 * mean(&noise) / spread
        );
    }
    Ok(())
}

/// The checkpoint's directory, made if need be.
fn checkpoint(model: &str, tokenizer: Option<&String>, scratch: &Path) -> Fallible<PathBuf> {
    let (outliers, planted) = match model.split_once(':') {
        Some(("planted", planted)) => (true, planted),
        Some(("ranking", planted)) => (false, planted),
        _ => return Ok(model.into()),
    };
    let (seed, dimensions) = planted.split_once(':').unwrap_or((planted, ""));
    let mut shape = Shape::preset("mxbai-rerank-base-v2").ok_or("no such preset")?;
    for dimension in dimensions.split(',').filter(|dimension| !dimension.is_empty()) {
        let (name, size) = dimension.split_once('=').ok_or("expected NAME=SIZE")?;
        shape.set(name, size.parse()?)?;
    }
    (shape.outliers, shape.ranking) = (outliers, true);
    let tokenizer = tokenizer.map(std::fs::read).transpose()?;
    let out = scratch.join("planted");
    synthesize(&shape, tokenizer.as_deref(), seed.parse()?, &out)?;
    Ok(out)
}

/// Each query with the same documents.
fn requests(
    data: &Path,
    queries: usize,
    documents: usize,
    characters: usize,
) -> Fallible<Vec<ScoreTask>> {
    let texts = |name: &str, count: usize| -> Fallible<Vec<String>> {
        let text = std::fs::read_to_string(data.join(name))?;
        text.lines()
            .take(count)
            .map(|line| {
                let record: serde_json::Value = serde_json::from_str(line)?;
                let part = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
                let whole = format!("{} {}", part("title"), part("text"));
                Ok(whole.trim().chars().take(characters).collect())
            })
            .collect()
    };
    let documents = texts("corpus.jsonl", documents)?;
    Ok(texts("queries.jsonl", queries)?
        .into_iter()
        .map(|query| ScoreTask { query, documents: documents.clone(), ..Default::default() })
        .collect())
}

fn scores(snapshot: &Path, requests: &[ScoreTask]) -> Fallible<Vec<Vec<f64>>> {
    let snapshot = restore(LINKED, &snapshot.into(), &RestoreOptions::default())?;
    if let Some(line) = snapshot.meta("quality.products").and_then(quality_summary) {
        println!("{line}");
        if std::env::var_os("EACH").is_some() {
            println!("{}", snapshot.meta("quality.products").unwrap_or_default());
        }
    }
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default())?;
    let scores = reranker.score(requests, &|| false)?;
    Ok(scores
        .iter()
        .map(|scores| scores.iter().map(|score| f64::from(score.raw)).collect())
        .collect())
}

/// Kendall's tau-a: pairs in the same order less pairs in opposite order, of all pairs.
fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let mut balance = 0.0;
    for i in 0..a.len() {
        for j in 0..i {
            let product = (a[i] - a[j]) * (b[i] - b[j]);
            balance += if product == 0.0 { 0.0 } else { product.signum() };
        }
    }
    balance / (a.len() * (a.len() - 1)) as f64 * 2.0
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}
