//! `defrost rerank`: scores documents, in this process or through a function, and prints the ranking; or scores all cases of
//! a file into another file ([`files`]).

mod files;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use defrost_inference::{Normalization, Reranker, RerankerOptions, Score, ScoreRequest};
use defrost_loader::Location;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::backend::BackendArgs;
use crate::bulk::FileArgs;
use crate::function::{Function, KeyArgs};
use crate::place::RestoreArgs;
use crate::print::say;

/// Arguments of `defrost rerank`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a path, s3://bucket/key, or hf://org/name.
    #[arg(long, env = "MODEL", required_unless_present = "url")]
    model: Option<Location>,
    /// Ask a running function (http://HOST:PORT or https://HOST) instead of loading a snapshot.
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// The query; with --docs-file, taken from the file if that holds one.
    #[arg(long, conflicts_with = "cases_file")]
    query: Option<String>,
    /// Documents: a JSON list of strings, a JSON object {"query", "documents"}, or text with one document a line; - reads stdin.
    #[arg(long, required_unless_present_any = ["cases_file", "input"], conflicts_with = "cases_file")]
    docs_file: Option<PathBuf>,
    /// Several cases: a JSON list of {"query", "documents"}.
    #[arg(long)]
    cases_file: Option<PathBuf>,
    /// Any number of cases, one a row, scored into --out: JSON lines or Parquet with query and documents; - reads JSON lines
    /// from stdin.
    #[arg(long = "in", value_name = "IN", requires = "out", conflicts_with_all = ["url", "query", "docs_file", "cases_file"])]
    input: Option<PathBuf>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    cases: files::CaseArgs,
    /// Print only the best N documents; 0 prints all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Task description for models that take one.
    #[arg(long)]
    instruction: Option<String>,
    /// sigmoid (into [0, 1]), raw, or mxbai (the shifted sigmoid of mxbai-rerank-v2).
    #[arg(long, default_value = "sigmoid", value_parser = ["sigmoid", "raw", "mxbai"])]
    normalization: String,
    /// Maximum length of a pair in tokens; default: the model's own.
    #[arg(long, env = "MAX_LENGTH")]
    max_length: Option<usize>,
    /// Worker threads; default: physical cores within the cgroup's quota.
    #[arg(long, env = "NUM_THREADS")]
    num_threads: Option<usize>,
    #[command(flatten)]
    restore: RestoreArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Print JSON; of --in the report.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn normalization(&self) -> Normalization {
        match self.normalization.as_str() {
            "raw" => Normalization::Raw,
            "mxbai" => Normalization::Mxbai,
            _ => Normalization::Sigmoid,
        }
    }

    fn load(&self, model: &Location) -> Result<(Reranker, usize)> {
        let snapshot = self.restore.restore(model, self.num_threads)?;
        let options = RerankerOptions {
            max_length: self.max_length,
            num_threads: self.num_threads,
            ..self.backend.options(&self.restore)
        };
        Ok((Reranker::load(&snapshot, &options)?, options.max_batch_tokens))
    }
}

#[derive(Debug, Deserialize)]
struct Case {
    query: Option<String>,
    documents: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    score_type: String,
    results: Vec<AnswerResult>,
}

#[derive(Debug, Deserialize)]
struct AnswerResult {
    index: usize,
    relevance_score: f64,
}

#[derive(Debug, Serialize)]
struct Ranked<'a> {
    query: &'a str,
    score_type: String,
    results: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    index: usize,
    score: f64,
    truncated: bool,
    document: &'a str,
}

/// Scores and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(input), Some(model)) = (&args.input, &args.model) {
        args.files.check(input, model)?;
        let (reranker, batch_tokens) = args.load(model)?;
        return files::run(args, input, &reranker, batch_tokens);
    }
    if args.url.is_some() && args.max_length.is_some() {
        bail!(
            "--max-length (or MAX_LENGTH) beside --url: the running function cuts at a length of its own; start it with MAX_LENGTH, and \
             leave it out here"
        );
    }
    let requests = requests(args)?;
    let mut ranked = match (&args.url, &args.model) {
        (Some(url), _) => ask(args, url, &requests)?,
        (None, Some(model)) => score(args, model, &requests)?,
        (None, None) => bail!("give --model or --url"),
    };
    if args.top_k > 0 {
        for case in &mut ranked {
            case.results.truncate(args.top_k);
        }
    }
    if args.json {
        let text = if args.cases_file.is_some() {
            serde_json::to_string_pretty(&ranked)?
        } else {
            serde_json::to_string_pretty(&ranked[0])?
        };
        say!("{text}")?;
        return Ok(());
    }
    for case in &ranked {
        say!("{}  ({})", case.query, case.score_type)?;
        for entry in &case.results {
            let note = if entry.truncated { "  [truncated]" } else { "" };
            say!("  {:>9.6}  {:>3}  {}{note}", entry.score, entry.index, one_line(entry.document))?;
        }
    }
    Ok(())
}

/// Scores with a snapshot in this process.
fn score<'a>(
    args: &Args,
    model: &Location,
    requests: &'a [ScoreRequest],
) -> Result<Vec<Ranked<'a>>> {
    let (reranker, _) = args.load(model)?;
    let scores = reranker.score(requests, &|| false)?;
    let normalization = args.normalization();
    let info = reranker.info();
    let rank = |(request, scores): (&'a ScoreRequest, &Vec<Score>)| {
        let mut results: Vec<Entry<'_>> = request
            .documents
            .iter()
            .zip(scores)
            .enumerate()
            .map(|(index, (document, score))| Entry {
                index,
                score: normalization.apply(info.kind, score.raw, info.estimated_max),
                truncated: score.truncated,
                document,
            })
            .collect();
        results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        let score_type = normalization.score_type(info.kind).to_owned();
        Ranked { query: &request.query, score_type, results }
    };
    Ok(requests.iter().zip(&scores).map(rank).collect())
}

/// Has a running function score; its order is kept.
fn ask<'a>(args: &Args, url: &str, requests: &'a [ScoreRequest]) -> Result<Vec<Ranked<'a>>> {
    let function = Function::new(url, &args.key)?;
    requests
        .iter()
        .map(|request| {
            let body = json!({
                "query": request.query,
                "documents": request.documents,
                "instruction": request.instruction,
                "normalization": args.normalization,
                // All of them, whatever the function's default: --top-k cuts here.
                "top_n": 0,
            });
            let answered = function.post("/v1/rerank", body.to_string())?;
            if answered.status != 200 {
                bail!("{function} answered {}", answered.said());
            }
            let answer: Answer = serde_json::from_str(&answered.body)
                .with_context(|| format!("{function} did not answer in the shape of /v1/rerank"))?;
            let mut indices: Vec<usize> = answer.results.iter().map(|one| one.index).collect();
            indices.sort_unstable();
            if !indices.iter().copied().eq(0..request.documents.len()) {
                bail!(
                    "{function} did not score each of {} documents once: it answered {} results",
                    request.documents.len(),
                    indices.len()
                );
            }
            let entry = |AnswerResult { index, relevance_score }| Entry {
                index,
                score: relevance_score,
                truncated: false,
                document: &request.documents[index],
            };
            let results = answer.results.into_iter().map(entry).collect();
            Ok(Ranked { query: &request.query, score_type: answer.score_type, results })
        })
        .collect()
}

/// A document cut to what fits beside its score.
fn one_line(text: &str) -> String {
    const WIDTH: usize = 100;
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= WIDTH {
        return flat;
    }
    flat.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn requests(args: &Args) -> Result<Vec<ScoreRequest>> {
    let cases: Vec<Case> = if let Some(path) = &args.cases_file {
        let text = read(path)?;
        serde_json::from_str(&text).with_context(|| {
            format!("{}: expected a JSON list of {{\"query\", \"documents\"}}", path.display())
        })?
    } else if let Some(path) = &args.docs_file {
        vec![documents(&read(path)?, path)?]
    } else {
        bail!("give --docs-file or --cases-file");
    };
    cases
        .into_iter()
        .enumerate()
        .map(|(index, case)| {
            let query = args.query.clone().or(case.query).unwrap_or_default();
            if query.trim().is_empty() {
                bail!("case {index} has no query: give --query or a \"query\" in the file");
            }
            if case.documents.is_empty() {
                bail!("case {index} has no documents");
            }
            Ok(ScoreRequest {
                query,
                documents: case.documents,
                instruction: args.instruction.clone(),
                ..ScoreRequest::default()
            })
        })
        .collect()
}

fn documents(text: &str, path: &Path) -> Result<Case> {
    let start = text.trim_start();
    if start.starts_with('{') {
        return serde_json::from_str(text).with_context(|| {
            format!("{}: expected a JSON object {{\"query\", \"documents\"}}", path.display())
        });
    }
    if start.starts_with('[') {
        let documents = serde_json::from_str(text)
            .with_context(|| format!("{}: expected a JSON list of strings", path.display()))?;
        return Ok(Case { query: None, documents });
    }
    let documents = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
    Ok(Case { query: None, documents: documents.collect() })
}

fn read(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
