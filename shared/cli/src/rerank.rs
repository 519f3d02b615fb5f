//! `defrost rerank`: scores documents, in this process or through a function, and prints the ranking; or scores all cases of
//! a file into another file ([`files`]).

mod files;
mod options;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use defrost_loader::Location;
use defrost_tasks::{ModelInfo, Reranker, RerankerOptions, Score, ScoreScale, ScoreTask};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::backend::{self, BackendArgs, LINKED};
use crate::bulk::{FileArgs, Unread};
use crate::function::{Function, KeyArgs};
use crate::place::RestoreArgs;
use crate::print::{note, say};
use options::Options;

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
    /// The query, if the file of --docs-file does not hold one.
    #[arg(long, conflicts_with = "cases_file")]
    query: Option<String>,
    /// Documents: a JSON list of strings, a JSON object {"query", "documents"}, or text with one document a line; - reads
    /// stdin. An object may say what a request says: top_n, instruction, normalization, truncation and so on.
    #[arg(long, required_unless_present_any = ["cases_file", "input"], conflicts_with = "cases_file")]
    docs_file: Option<PathBuf>,
    /// Several cases: a JSON list of such objects.
    #[arg(long)]
    cases_file: Option<PathBuf>,
    /// Any number of cases, one a row, scored into --out: JSON lines or Parquet with query and documents; - reads JSON lines
    /// from stdin. Rows may say what a request says: top_n, instruction, normalization, truncation and so on.
    #[arg(long = "in", value_name = "IN", requires = "out", conflicts_with_all = ["url", "query", "docs_file", "cases_file"])]
    input: Option<PathBuf>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    cases: files::CaseArgs,
    /// Print only the best N documents of cases that do not say how many; 0, the default, prints all.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Task description for models that take one, and cases that have none.
    #[arg(long)]
    instruction: Option<String>,
    /// sigmoid (into [0, 1]), raw, or mxbai (the shifted sigmoid of mxbai-rerank-v2); default: what the case says, or sigmoid.
    #[arg(long, value_parser = ["sigmoid", "raw", "mxbai"])]
    normalization: Option<String>,
    /// Maximum length of a pair in tokens; default: the model's own.
    #[arg(long, env = "MAX_LENGTH")]
    max_length: Option<usize>,
    /// Worker threads; default: physical cores within the cgroup's quota.
    #[arg(long, env = "NUM_THREADS", value_parser = backend::threads)]
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
    fn normalization(&self) -> Option<ScoreScale> {
        self.normalization.as_deref().map(|name| match name {
            "raw" => ScoreScale::Raw,
            "mxbai" => ScoreScale::Mxbai,
            _ => ScoreScale::Sigmoid,
        })
    }

    fn load(&self, model: &Location) -> Result<(Reranker, usize)> {
        let snapshot = self.restore.restore(model, self.num_threads)?;
        let options = RerankerOptions {
            max_length: self.max_length,
            num_threads: self.num_threads,
            ..self.backend.options(&self.restore)
        };
        let reranker = Reranker::load(LINKED, &snapshot, &options)?;
        let info = reranker.info();
        if self.instruction.is_some() && !info.takes_instruction {
            bail!("--instruction: {} takes no instruction, leave it out", info.name);
        }
        Ok((reranker, options.max_batch_tokens))
    }
}

/// What a case is called, which nothing has to read.
const LABELS: [&str; 3] = ["_id", "id", "name"];

/// A case as it is in a file.
#[derive(Debug, Deserialize)]
struct Written {
    query: Option<String>,
    documents: Vec<String>,
    #[serde(flatten)]
    said: Map<String, Value>,
}

/// A case as it is scored.
struct Case {
    query: String,
    documents: Vec<String>,
    /// The options as the file says them.
    said: Map<String, Value>,
    options: Options,
}

#[derive(Debug, Deserialize)]
struct Answer {
    score_type: String,
    results: Vec<AnswerResult>,
    #[serde(default)]
    warnings: Vec<String>,
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
    /// Nothing where a function scored, which tells how many were cut, and not which.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    document: &'a str,
}

/// Scores and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(input), Some(model)) = (&args.input, &args.model) {
        args.files.check(input, Some(model))?;
        let (reranker, batch_tokens) = args.load(model)?;
        return files::run(args, input, &reranker, batch_tokens);
    }
    if args.url.is_some() && args.max_length.is_some() {
        bail!(
            "--max-length (or MAX_LENGTH) beside --url: the running function cuts at a length of its own; start it with MAX_LENGTH, and \
             leave it out here"
        );
    }
    let cases = cases(args)?;
    let mut ranked = match (&args.url, &args.model) {
        (Some(url), _) => ask(args, url, &cases)?,
        (None, Some(model)) => score(args, model, &cases)?,
        (None, None) => bail!("give --model or --url"),
    };
    for (ranked, case) in ranked.iter_mut().zip(&cases) {
        if case.options.top_n > 0 {
            ranked.results.truncate(case.options.top_n);
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
            let note = if entry.truncated == Some(true) { "  [truncated]" } else { "" };
            say!("  {:>9.6}  {:>3}  {}{note}", entry.score, entry.index, one_line(entry.document))?;
        }
    }
    Ok(())
}

/// Scores with a snapshot in this process.
fn score<'a>(args: &Args, model: &Location, cases: &'a [Case]) -> Result<Vec<Ranked<'a>>> {
    let (reranker, _) = args.load(model)?;
    let info = reranker.info();
    let mut requests = Vec::with_capacity(cases.len());
    let mut ignored = 0;
    for (at, case) in cases.iter().enumerate() {
        case.options.check(info).map_err(|what| anyhow!("case {at}: {what}"))?;
        let mut request = case.request();
        if !info.takes_instruction && request.instruction.take().is_some() {
            ignored += 1;
        }
        requests.push(request);
    }
    tell_ignored(info, ignored);
    let scores = reranker.score(&requests, &|| false)?;
    let rank = |(case, scores): (&'a Case, &Vec<Score>)| {
        let normalization = case.options.normalization;
        let mut results: Vec<Entry<'_>> = case
            .documents
            .iter()
            .zip(scores)
            .enumerate()
            .map(|(index, (document, score))| Entry {
                index,
                score: normalization.apply(info.kind, score.raw, info.estimated_max),
                truncated: Some(score.truncated),
                document,
            })
            .collect();
        results.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        let score_type = normalization.score_type(info.kind).to_owned();
        Ranked { query: &case.query, score_type, results }
    };
    Ok(cases.iter().zip(&scores).map(rank).collect())
}

/// Tells the user as a function does, which answers all the same: a file may be meant for several models.
fn tell_ignored(info: &ModelInfo, cases: u64) {
    if cases > 0 {
        note!("the instruction of {cases} cases is ignored: {} takes none", info.name);
    }
}

impl Case {
    fn request(&self) -> ScoreTask {
        ScoreTask {
            query: self.query.clone(),
            documents: self.documents.clone(),
            instruction: self.options.instruction.clone(),
            truncation: self.options.truncation.clone(),
        }
    }

    /// The body of a request that says the same.
    fn body(&self, args: &Args) -> Value {
        let mut body = self.said.clone();
        for known in ["instruct", "top_k", "topK", "topN"] {
            body.remove(known);
        }
        let has_scale = ["normalization", "normalize", "raw_scores", "use_activation"]
            .iter()
            .any(|name| body.get(*name).is_some_and(|value| !value.is_null()));
        if !has_scale || args.normalization.is_some() {
            let name = args.normalization.as_deref().unwrap_or("sigmoid");
            body.insert("normalization".to_owned(), json!(name));
        }
        body.insert("query".to_owned(), json!(self.query));
        body.insert("documents".to_owned(), json!(self.documents));
        body.insert("instruction".to_owned(), json!(self.options.instruction));
        // All of them, whatever the function's default: the best are chosen here.
        body.insert("top_n".to_owned(), json!(0));
        Value::Object(body)
    }
}

/// Has a running function score; its order is kept.
fn ask<'a>(args: &Args, url: &str, cases: &'a [Case]) -> Result<Vec<Ranked<'a>>> {
    let function = Function::new(url, &args.key)?;
    let mut warned: BTreeSet<String> = BTreeSet::new();
    cases
        .iter()
        .map(|case| {
            let answered = function.post("/v1/rerank", case.body(args).to_string())?;
            if answered.status != 200 {
                bail!("{function} answered {}", answered.said());
            }
            let answer: Answer = serde_json::from_str(&answered.body)
                .with_context(|| format!("{function} did not answer in the shape of /v1/rerank"))?;
            let mut indices: Vec<usize> = answer.results.iter().map(|one| one.index).collect();
            indices.sort_unstable();
            if !indices.iter().copied().eq(0..case.documents.len()) {
                bail!(
                    "{function} did not score each of {} documents once: it answered {} results",
                    case.documents.len(),
                    indices.len()
                );
            }
            let entry = |AnswerResult { index, relevance_score }| Entry {
                index,
                score: relevance_score,
                truncated: None,
                document: &case.documents[index],
            };
            let results = answer.results.into_iter().map(entry).collect();
            for warning in answer.warnings {
                if !warned.contains(&warning) {
                    note!("{function}: {}", crate::function::line(&warning));
                    warned.insert(warning);
                }
            }
            Ok(Ranked { query: &case.query, score_type: answer.score_type, results })
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

fn cases(args: &Args) -> Result<Vec<Case>> {
    let written: Vec<Written> = if let Some(path) = &args.cases_file {
        let text = read(path)?;
        serde_json::from_str(&text).with_context(|| {
            format!("{}: expected a JSON list of {{\"query\", \"documents\"}}", path.display())
        })?
    } else if let Some(path) = &args.docs_file {
        vec![documents(&read(path)?, path)?]
    } else {
        bail!("give --docs-file or --cases-file");
    };
    let mut unread = Unread::default();
    let mut cases = Vec::new();
    for (index, Written { query, documents, mut said }) in written.into_iter().enumerate() {
        let query = match (query, &args.query) {
            (Some(own), Some(given)) if own != *given => {
                bail!("--query is {given:?} and the file has the query {own:?}: give one of them")
            }
            (own, given) => own.or_else(|| given.clone()).unwrap_or_default(),
        };
        if query.trim().is_empty() {
            bail!("case {index} has no query: give --query or a \"query\" in the file");
        }
        if documents.is_empty() {
            bail!("case {index} has no documents");
        }
        let options = Options::read(&said, args).map_err(|what| anyhow!("case {index}: {what}"))?;
        said.retain(|name, value| {
            let is_read = options::FIELDS.contains(&name.as_str());
            if !is_read && !LABELS.contains(&name.as_str()) && !value.is_null() {
                unread.add(name.clone(), 1);
            }
            is_read
        });
        cases.push(Case { query, documents, said, options });
    }
    if let (Some(text), Some(file)) =
        (unread.text(), args.cases_file.as_ref().or(args.docs_file.as_ref()))
    {
        note!("{}: {text}", file.display());
    }
    Ok(cases)
}

fn documents(text: &str, path: &Path) -> Result<Written> {
    let start = text.trim_start();
    if start.starts_with('{') {
        return serde_json::from_str(text).with_context(|| {
            format!("{}: expected a JSON object {{\"query\", \"documents\"}}", path.display())
        });
    }
    if start.starts_with('[') {
        let documents = serde_json::from_str(text)
            .with_context(|| format!("{}: expected a JSON list of strings", path.display()))?;
        return Ok(Written { query: None, documents, said: Map::new() });
    }
    let documents = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
    Ok(Written { query: None, documents: documents.collect(), said: Map::new() })
}

fn read(path: &Path) -> Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
