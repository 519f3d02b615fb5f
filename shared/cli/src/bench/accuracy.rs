//! `defrost bench accuracy`: how far peers' scores are from a model's, and whether that changes rankings.
//!
//! The first model is the reference, mostly one in f32. The texts are those of a data set in BEIR's layout: for every judged
//! query its judged documents and the first others up to --candidates. For each peer: the largest and the mean difference
//! of raw scores, their standard deviation for scale, Kendall's tau of the rankings (tau-a, ties count as neither, mean over
//! queries), and nDCG@10 of each model's own ranking.

use std::path::PathBuf;

use anyhow::{Result, bail};
use defrost_loader::Location;
use defrost_tasks::ScoreTask;
use indicatif::ProgressBar;
use serde_json::json;

use super::contestant::LoadArgs;
use super::ndcg::{self, DEPTH, Record};
use crate::print::say;

/// Arguments of `defrost bench accuracy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot that others are compared with.
    #[arg(long)]
    model: Location,
    /// A snapshot or ONNX file to compare with it; may be repeated.
    #[arg(long, required = true)]
    peer: Vec<Location>,
    /// Directory with corpus.jsonl, queries.jsonl and qrels/test.tsv.
    #[arg(long, default_value = "data/scifact-mini")]
    beir: PathBuf,
    /// Documents that are ranked for each query.
    #[arg(long, default_value_t = 20)]
    candidates: usize,
    /// Only so many queries.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    queries: usize,
    #[command(flatten)]
    load: LoadArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A query and the ids of its candidates.
struct Case<'a> {
    query: &'a str,
    ids: Vec<&'a str>,
    request: ScoreTask,
}

/// Compares and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let judgements = ndcg::judgements(&args.beir.join("qrels/test.tsv"))?;
    let corpus = ndcg::records(&args.beir.join("corpus.jsonl"))?;
    let queries = ndcg::records(&args.beir.join("queries.jsonl"))?;
    let cases = cases(args, &judgements, &corpus, &queries);
    if cases.is_empty() {
        bail!("{}: no judged queries with two documents or more", args.beir.display());
    }
    let contestants = args.load.load(&args.model, &args.peer)?;
    let bar = ProgressBar::new((cases.len() * contestants.len()) as u64);
    let mut scores: Vec<Vec<Vec<f32>>> = Vec::new();
    for contestant in &contestants {
        let mut all = Vec::new();
        for case in &cases {
            let scored =
                contestant.reranker.score(std::slice::from_ref(&case.request), &|| false)?;
            all.push(scored.iter().flatten().map(|score| score.raw).collect());
            bar.inc(1);
        }
        scores.push(all);
    }
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for (contestant, found) in contestants.iter().zip(&scores) {
        let apart = Apart::of(&scores[0], found);
        let quality = cases
            .iter()
            .zip(found)
            .map(|(case, scores)| ndcg::ndcg(&judgements[case.query], &best(&case.ids, scores)));
        let quality = quality.sum::<f64>() / cases.len() as f64;
        rows.push(json!({
            "model": contestant.label, "queries": cases.len(), "pairs": apart.pairs,
            "largest": apart.largest, "mean": apart.mean, "std": apart.std, "tau": apart.tau,
            "ndcg_at_10": quality,
        }));
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    say!(
        "{:<44} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "model",
        "largest",
        "mean",
        "std",
        "tau",
        "nDCG@10"
    )?;
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        say!(
            "{:<44} {:>9.5} {:>9.5} {:>9.4} {:>8.4} {:>8.4}",
            row["model"].as_str().unwrap_or_default(),
            number("largest"),
            number("mean"),
            number("std"),
            number("tau"),
            number("ndcg_at_10")
        )?;
    }
    Ok(())
}

fn cases<'a>(
    args: &Args,
    judgements: &ndcg::Judgements,
    corpus: &'a [Record],
    queries: &'a [Record],
) -> Vec<Case<'a>> {
    let judged = queries.iter().filter_map(|query| Some((query, judgements.get(&query.id)?)));
    judged
        .take(args.queries)
        .map(|(query, gains)| {
            let (relevant, other): (Vec<&Record>, Vec<&Record>) =
                corpus.iter().partition(|record| gains.contains_key(&record.id));
            let chosen: Vec<&Record> =
                relevant.into_iter().chain(other).take(args.candidates).collect();
            Case {
                query: &query.id,
                ids: chosen.iter().map(|record| record.id.as_str()).collect(),
                request: ScoreTask {
                    query: query.text.clone(),
                    documents: chosen.iter().map(|record| record.whole()).collect(),
                    ..ScoreTask::default()
                },
            }
        })
        .filter(|case| case.ids.len() > 1)
        .collect()
}

/// Ids of the best documents; ties go to the earlier one.
fn best<'a>(ids: &[&'a str], scores: &[f32]) -> Vec<&'a str> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.into_iter().take(DEPTH).map(|at| ids[at]).collect()
}

/// How far one model's scores are from the reference's.
struct Apart {
    pairs: usize,
    largest: f64,
    mean: f64,
    /// Standard deviation of the reference's scores.
    std: f64,
    tau: f64,
}

impl Apart {
    fn of(reference: &[Vec<f32>], found: &[Vec<f32>]) -> Self {
        let pairs: Vec<(f64, f64)> = reference
            .iter()
            .flatten()
            .zip(found.iter().flatten())
            .map(|(&a, &b)| (f64::from(a), f64::from(b)))
            .collect();
        let count = pairs.len().max(1) as f64;
        let gaps = || pairs.iter().map(|(a, b)| (a - b).abs());
        let middle = pairs.iter().map(|(a, _)| a).sum::<f64>() / count;
        let square = pairs.iter().map(|(a, _)| (a - middle).powi(2)).sum::<f64>() / count;
        let taus = reference.iter().zip(found).map(|(a, b)| tau(a, b));
        Self {
            pairs: pairs.len(),
            largest: gaps().fold(0.0, f64::max),
            mean: gaps().sum::<f64>() / count,
            std: square.sqrt(),
            tau: taus.sum::<f64>() / reference.len().max(1) as f64,
        }
    }
}

/// Kendall's tau-a of two scorings of the same documents.
fn tau(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = 0.0;
    for later in 1..a.len() {
        for earlier in 0..later {
            let order = |scores: &[f32]| f64::from(scores[later] - scores[earlier]);
            let product = order(a) * order(b);
            if product != 0.0 {
                sum += product.signum();
            }
        }
    }
    let all = a.len() * a.len().saturating_sub(1) / 2;
    if all == 0 { 1.0 } else { sum / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_counts_pairs_in_order() {
        assert!((tau(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]) - 1.0).abs() < 1e-12);
        assert!((tau(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        assert!((tau(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn differences_are_of_the_raw_scores() {
        let apart = Apart::of(&[vec![1.0, 3.0]], &[vec![1.5, 3.0]]);
        assert_eq!(apart.pairs, 2);
        for (found, expected) in
            [(apart.largest, 0.5), (apart.mean, 0.25), (apart.std, 1.0), (apart.tau, 1.0)]
        {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }
}
