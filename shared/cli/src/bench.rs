//! `defrost bench`: figures with the command that repeats them.

mod accuracy;
mod boot;
mod contestant;
mod fetch;
mod ndcg;
mod throughput;

use anyhow::Result;
use clap::Subcommand;

/// Arguments of `defrost bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start a function and time exec to first score over HTTP; peak memory, snapshot size, pack time.
    Boot(boot::Args),
    /// Fetch a snapshot from an object store: time to its manifest, to all bytes verified, to a complete cache.
    Fetch(fetch::Args),
    /// Documents and tokens a second of a model and its peers, over lengths and sizes of batches.
    Throughput(throughput::Args),
    /// How far the scores of peers are from a model's, and what that does to rankings.
    Accuracy(accuracy::Args),
    /// nDCG@10 of an embedding model on a data set in BEIR layout.
    Ndcg(ndcg::Args),
}

/// Measures.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Boot(args) => boot::run(args),
        What::Fetch(args) => fetch::run(args),
        What::Throughput(args) => throughput::run(args),
        What::Accuracy(args) => accuracy::run(args),
        What::Ndcg(args) => ndcg::run(args),
    }
}

/// The middle value; the mean of the two middle ones for an even count.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
