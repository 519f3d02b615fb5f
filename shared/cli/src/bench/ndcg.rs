//! `defrost bench ndcg`: retrieval quality on a data set in BEIR layout.
//!
//! Every document (title, a space, text) and every judged query is embedded; documents are ranked by
//! cosine. nDCG@10 uses the gains themselves and log2 discounts, as `pytrec_eval` and BEIR do; the mean
//! is over the queries of qrels/test.tsv.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use defrost_loader::Location;
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Input, ModelOptions, Overflow,
    PromptChoice, RestoreOptions, restore,
};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;

use crate::backend::LINKED;
use crate::print::say;

/// Arguments of `defrost bench ndcg`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot of an embedding model.
    #[arg(long)]
    model: Location,
    /// Directory with corpus.jsonl, queries.jsonl and qrels/test.tsv.
    #[arg(long)]
    beir: PathBuf,
    /// Worker threads.
    #[arg(long, env = "NUM_THREADS", value_parser = crate::backend::threads)]
    num_threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    title: String,
    pub(super) text: String,
}

impl Record {
    /// The document as BEIR gives it to models: title, a space, text.
    pub(super) fn whole(&self) -> String {
        format!("{} {}", self.title, self.text).trim().to_owned()
    }
}

/// Judgements: query to document to gain.
pub(super) type Judgements = HashMap<String, HashMap<String, f64>>;

/// Documents per call: enough to fill micro-batches, few enough for a lively progress bar.
const DOCUMENTS_PER_CALL: usize = 64;
/// The 10 of nDCG@10.
pub(super) const DEPTH: usize = 10;

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let judgements = judgements(&args.beir.join("qrels/test.tsv"))?;
    let corpus = records(&args.beir.join("corpus.jsonl"))?;
    let mut queries = records(&args.beir.join("queries.jsonl"))?;
    queries.retain(|query| judgements.contains_key(&query.id));
    if queries.is_empty() || corpus.is_empty() {
        bail!("{}: no judged queries or no documents", args.beir.display());
    }
    let snapshot = restore(LINKED, &args.model, &RestoreOptions::default())?;
    let model = ModelOptions { num_threads: args.num_threads, ..ModelOptions::default() };
    let options = EmbedderOptions { model, ..EmbedderOptions::default() };
    let embedder = Embedder::load(LINKED, &snapshot, &options)?;
    let start = Instant::now();
    let texts: Vec<String> = corpus.iter().map(Record::whole).collect();
    let documents = embed(&embedder, &texts, PromptChoice::Document)?;
    let questions: Vec<String> = queries.iter().map(|query| query.text.clone()).collect();
    let questions = embed(&embedder, &questions, PromptChoice::Query)?;
    let mut total = 0.0;
    for (query, embedding) in queries.iter().zip(&questions) {
        total += ndcg(&judgements[&query.id], &rank(embedding, &documents, &corpus));
    }
    let score = total / queries.len() as f64;
    let seconds = start.elapsed().as_secs_f64();
    let info = embedder.info();
    if args.json {
        let value = json!({
            "ndcg_at_10": score, "queries": queries.len(), "documents": corpus.len(),
            "seconds": seconds, "precision": info.precision, "kernel": info.kernel,
            "threads": info.threads, "model": info.name,
        });
        say!("{}", serde_json::to_string_pretty(&value)?)?;
    } else {
        say!(
            "nDCG@10 {score:.4}  {} queries, {} documents, {} {} on {} x {}, {seconds:.1} s",
            queries.len(),
            corpus.len(),
            info.name,
            info.precision,
            info.threads,
            info.kernel
        )?;
    }
    Ok(())
}

fn embed(embedder: &Embedder, texts: &[String], prompt: PromptChoice) -> Result<Vec<Vec<f32>>> {
    let bar = ProgressBar::new(texts.len() as u64);
    let mut all = Vec::with_capacity(texts.len());
    let truncation = EmbedTruncation { overflow: Overflow::CutEnd, limit: None };
    let mut request = EmbedTask {
        prompt,
        truncation,
        // Ranked by cosine, whatever the model's files say.
        normalize: Some(true),
        ..EmbedTask::default()
    };
    for texts in texts.chunks(DOCUMENTS_PER_CALL) {
        request.inputs = texts.iter().map(|text| Input::from(text.as_str())).collect();
        let embedded = embedder.embed(std::slice::from_ref(&request), &|| false)?;
        all.extend(embedded.into_iter().flatten().map(|embedding| embedding.dense));
        bar.inc(texts.len() as u64);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Ids of the best documents; ties go to the earlier one.
fn rank<'a>(query: &[f32], documents: &[Vec<f32>], corpus: &'a [Record]) -> Vec<&'a str> {
    let mut scored: Vec<(f32, usize)> = documents
        .iter()
        .enumerate()
        .map(|(at, document)| (query.iter().zip(document).map(|(a, b)| a * b).sum(), at))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.iter().take(DEPTH).map(|&(_, at)| corpus[at].id.as_str()).collect()
}

pub(super) fn ndcg(gains: &HashMap<String, f64>, ranking: &[&str]) -> f64 {
    let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        gains.enumerate().map(|(rank, gain)| gain / (rank as f64 + 2.0).log2()).sum()
    };
    let found = discounted(&mut ranking.iter().map(|&id| gains.get(id).copied().unwrap_or(0.0)));
    let mut ideal: Vec<f64> = gains.values().copied().collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let best = discounted(&mut ideal.into_iter().take(DEPTH));
    if best > 0.0 { found / best } else { 0.0 }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn records(path: &Path) -> Result<Vec<Record>> {
    read(path)?
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), at + 1))
        })
        .collect()
}

pub(super) fn judgements(path: &Path) -> Result<Judgements> {
    let mut judgements = Judgements::new();
    for (at, line) in read(path)?.lines().enumerate().skip(1) {
        let mut columns = line.split('\t');
        let (Some(query), Some(document), Some(gain)) =
            (columns.next(), columns.next(), columns.next())
        else {
            bail!("{}:{}: expected three columns", path.display(), at + 1);
        };
        let gain: f64 = gain
            .trim()
            .parse()
            .with_context(|| format!("{}:{}: gain {gain:?}", path.display(), at + 1))?;
        if gain > 0.0 {
            judgements.entry(query.to_owned()).or_default().insert(document.to_owned(), gain);
        }
    }
    Ok(judgements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_follows_its_definition() {
        let gains = HashMap::from([("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        let ideal = 2.0 + 1.0 / 3f64.log2();
        assert!((ndcg(&gains, &["b", "a"]) - 1.0).abs() < 1e-12);
        assert!((ndcg(&gains, &["a", "b"]) - (1.0 + 2.0 / 3f64.log2()) / ideal).abs() < 1e-12);
        assert!((ndcg(&gains, &["x", "y", "b"]) - (2.0 / 2.0) / ideal).abs() < 1e-12);
        assert!(ndcg(&gains, &["x"]).abs() < 1e-12);
    }
}
