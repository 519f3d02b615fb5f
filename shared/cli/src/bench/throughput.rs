//! `defrost bench throughput`: documents and tokens a second, of a model and of peers beside it.
//!
//! All contestants get the same token ids: documents of each length in --lengths, or the sequences of --ids. Each is
//! run with every token budget in --batch-tokens, once unmeasured, then --runs times; contestants and budgets take turns
//! within each run, so that a disturbance of the machine meets all of them. The table has medians, for each contestant the
//! budget that served it best, and the ratio to the first one; JSON has every budget.
//!
//! For int8 models of the engine, the share of the limit is how many of the multiply-adds that the processor could do
//! (measured after the runs, on as many threads) went into the model's linear layers.
//!
//! A peer under ONNX Runtime that is quantised dynamically is served one sequence at a time, since its scores would depend
//! on the batch otherwise. Here it may batch as well as it can, because a comparison should not profit from that.

mod plot;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use defrost_loader::Location;
use defrost_model::Tokens;
use defrost_tasks::{Reranker, ScoreTask};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::contestant::{Contestant, LoadArgs};
use super::median;
use crate::overwrite;
use crate::print::say;

/// Arguments of `defrost bench throughput`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot to measure.
    #[arg(long)]
    model: Location,
    /// A snapshot or ONNX file to measure beside it; may be repeated.
    #[arg(long)]
    peer: Vec<Location>,
    /// Documents of each length.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    documents: u32,
    /// Lengths in tokens.
    #[arg(long, value_delimiter = ',', default_value = "32,128,512")]
    lengths: Vec<usize>,
    /// Sequences to run instead: a JSON list of lists of token ids.
    #[arg(long, conflicts_with_all = ["documents", "lengths"])]
    ids: Option<PathBuf>,
    /// Token budgets of a forward pass to try; 1: one sequence at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,2048")]
    batch_tokens: Vec<usize>,
    /// Measured runs of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    load: LoadArgs,
    /// Draw tokens a second over length into this SVG file.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Replace the file of --plot if it is there, and create folders on its way if they are not.
    #[arg(long, requires = "plot")]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Sequences that are run together, and their length in tokens.
struct Workload {
    length: usize,
    sequences: Vec<Tokens>,
}

/// What one contestant did on one work with one budget.
struct Measured {
    contestant: usize,
    work: usize,
    budget: usize,
    seconds: Vec<f64>,
}

impl Workload {
    fn tokens(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.ids.len()).sum()
    }
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.lengths.is_empty() || args.lengths.contains(&0) || args.batch_tokens.is_empty() {
        bail!("--lengths and --batch-tokens need numbers from 1");
    }
    if let Some(path) = &args.plot {
        let reads: Vec<&Path> = args.ids.as_deref().into_iter().collect();
        overwrite::check(path, &reads, args.force)?;
        overwrite::make_room(path)?;
    }
    let mut contestants = args.load.load(&args.model, &args.peer)?;
    let works = works(args, &contestants[0].reranker)?;
    let mut measured = measure(args, &mut contestants, &works)?;
    let limits: Vec<Option<f64>> =
        contestants.iter().map(|contestant| contestant.reranker.limit_tokens_per_s()).collect();
    let rows: Vec<Value> =
        measured.iter().map(|one| row(one, &contestants, &works, &limits)).collect();
    measured = best(measured);
    if let Some(path) = &args.plot {
        draw(path, &contestants, &works, &measured)?;
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    say!(
        "{:>6}  {:<44} {:>7} {:>10} {:>12} {:>7} {:>9}",
        "tokens",
        "model",
        "budget",
        "docs/s",
        "tokens/s",
        "ratio",
        "of limit"
    )?;
    for one in &measured {
        let work = &works[one.work];
        let seconds = median(&one.seconds);
        let first = measured.iter().find(|first| first.work == one.work);
        let ratio = first.map_or(1.0, |first| median(&first.seconds) / seconds);
        say!(
            "{:>6}  {:<44} {:>7} {:>10.2} {:>12.0} {:>7.2} {:>9}",
            work.length,
            contestants[one.contestant].label,
            one.budget,
            work.sequences.len() as f64 / seconds,
            work.tokens() as f64 / seconds,
            ratio,
            limits[one.contestant].map_or_else(String::new, |limit| {
                format!("{:.0} %", 100.0 * work.tokens() as f64 / seconds / limit)
            })
        )?;
    }
    Ok(())
}

fn works(args: &Args, reranker: &Reranker) -> Result<Vec<Workload>> {
    if let Some(path) = &args.ids {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let ids: Vec<Vec<u32>> = serde_json::from_slice(&text).with_context(|| {
            format!("{}: expected a list of lists of token ids", path.display())
        })?;
        let sequences: Vec<Tokens> =
            ids.into_iter().map(|ids| Tokens { ids, types: Vec::new() }).collect();
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        if tokens == 0 {
            bail!("{}: holds no token ids", path.display());
        }
        return Ok(vec![Workload { length: tokens / sequences.len(), sequences }]);
    }
    let longest = args.lengths.iter().copied().max().unwrap_or(1);
    if longest > reranker.info().max_length {
        bail!(
            "--lengths has {longest} tokens, {} takes at most {}",
            reranker.info().name,
            reranker.info().max_length
        );
    }
    let documents = (0..args.documents as usize).map(text).collect();
    let request = ScoreTask { query: text(97), documents, ..ScoreTask::default() };
    let encoded = reranker.encode(&request)?;
    let encoded = &encoded[encoded.len() - args.documents as usize..];
    // Without what they begin with: the engine runs equal sequences, and equal beginnings, once, which is not what is
    // compared here.
    let common = encoded.iter().skip(1).fold(encoded[0].ids.len() - 1, |common, tokens| {
        let same = |(a, b): &(&u32, &u32)| a == b;
        encoded[0].ids.iter().zip(&tokens.ids).take(common).take_while(same).count()
    });
    let cut = |length: usize| {
        let sequences = encoded
            .iter()
            .map(|tokens| Tokens {
                ids: tokens.ids[common..].iter().copied().cycle().take(length).collect(),
                types: Vec::new(),
            })
            .collect();
        Workload { length, sequences }
    };
    Ok(args.lengths.iter().map(|&length| cut(length)).collect())
}

/// A text of its own for every number. What it says makes no difference to how long it takes.
fn text(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "the", "river", "of", "measured", "snow", "and", "light", "runs", "under", "seven",
        "wooden", "bridges", "slowly",
    ];
    // SplitMix64's step: equal texts would be run once, and so counted for nothing.
    let word = |at: usize| {
        let mut z = ((number * 120 + at) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        WORDS[(z >> 33) as usize % WORDS.len()]
    };
    (0..120).map(word).collect::<Vec<_>>().join(" ")
}

/// Passes shorter than this are repeated for as long and the last is timed: the threads of the contestant before go on
/// spinning for some milliseconds, which a short pass would be charged with.
const SETTLED: Duration = Duration::from_millis(50);

fn measure(
    args: &Args,
    contestants: &mut [Contestant],
    works: &[Workload],
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    let steps = works.len() * contestants.len() * args.batch_tokens.len();
    let bar = ProgressBar::new(steps as u64 * u64::from(args.runs + 1));
    for (at, work) in works.iter().enumerate() {
        let begin = measured.len();
        for contestant in 0..contestants.len() {
            for &budget in &args.batch_tokens {
                measured.push(Measured { contestant, work: at, budget, seconds: Vec::new() });
            }
        }
        for run in 0..=args.runs {
            for one in &mut measured[begin..] {
                let reranker = &mut contestants[one.contestant].reranker;
                reranker.set_batching(one.budget, true);
                let pass = |reranker: &Reranker| -> Result<Duration> {
                    let start = Instant::now();
                    reranker.run_tokens(&work.sequences)?;
                    Ok(start.elapsed())
                };
                let begin = Instant::now();
                let mut took = pass(reranker)?;
                while run > 0 && took < SETTLED && begin.elapsed() < SETTLED {
                    took = pass(reranker)?;
                }
                if run > 0 {
                    one.seconds.push(took.as_secs_f64());
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// The budget with the best median of each contestant on each work.
fn best(measured: Vec<Measured>) -> Vec<Measured> {
    let mut best: Vec<Measured> = Vec::new();
    for one in measured {
        match best.last_mut() {
            Some(last) if (last.work, last.contestant) == (one.work, one.contestant) => {
                if median(&one.seconds) < median(&last.seconds) {
                    *last = one;
                }
            }
            _ => best.push(one),
        }
    }
    best
}

fn row(
    one: &Measured,
    contestants: &[Contestant],
    works: &[Workload],
    limits: &[Option<f64>],
) -> Value {
    let work = &works[one.work];
    let info = contestants[one.contestant].reranker.info();
    let seconds = median(&one.seconds);
    json!({
        "model": contestants[one.contestant].label,
        "backend": info.backend,
        "kernel": info.kernel,
        "precision": info.precision,
        "threads": info.threads,
        "length": work.length,
        "documents": work.sequences.len(),
        "batch_tokens": one.budget,
        "median_s": seconds,
        "documents_per_s": work.sequences.len() as f64 / seconds,
        "tokens_per_s": work.tokens() as f64 / seconds,
        "limit_tokens_per_s": limits[one.contestant],
        "seconds": one.seconds,
    })
}

fn draw(
    path: &std::path::Path,
    contestants: &[Contestant],
    works: &[Workload],
    best: &[Measured],
) -> Result<()> {
    let lines: Vec<plot::Line> = contestants
        .iter()
        .enumerate()
        .map(|(at, contestant)| {
            let points = best.iter().filter(|one| one.contestant == at).map(|one| {
                let work = &works[one.work];
                (work.length as f64, work.tokens() as f64 / median(&one.seconds))
            });
            plot::Line { label: contestant.label.clone(), points: points.collect() }
        })
        .collect();
    plot::draw(path, &lines).with_context(|| format!("cannot draw {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_budget_of_each_contestant_is_kept() {
        let one = |contestant, work, budget, seconds: &[f64]| Measured {
            contestant,
            work,
            budget,
            seconds: seconds.to_vec(),
        };
        let kept = best(vec![
            one(0, 0, 1, &[3.0]),
            one(0, 0, 2, &[2.0, 9.0, 1.0]),
            one(1, 0, 1, &[1.0]),
            one(1, 0, 2, &[5.0]),
            one(0, 1, 1, &[7.0]),
        ]);
        let found: Vec<_> = kept.iter().map(|one| (one.contestant, one.work, one.budget)).collect();
        assert_eq!(found, [(0, 0, 2), (1, 0, 1), (0, 1, 1)]);
    }

    #[test]
    fn texts_differ() {
        let texts: std::collections::HashSet<String> = (0..2000).map(text).collect();
        assert_eq!(texts.len(), 2000);
    }
}
