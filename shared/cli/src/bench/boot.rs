//! `defrost bench boot`: from `exec` to the first score, embedding or token, as a client sees it.
//!
//! Each run starts the function as a new process on a free port and sends one request as soon as the port takes connections; the
//! function holds it until the model is ready. The clock starts before the process does and stops at the last byte of the answer,
//! or, of a conversation, which is streamed, at its first token. Then the function's own phases are read from /health and its
//! memory from the kernel, and it is stopped.
//!
//! A conversation's prompt has as many tokens as asked for, those of the template included; a bias makes the model answer with
//! letters, since what a random model says is mostly nothing that could be read.

mod function;
mod memory;
mod report;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use defrost_loader::{Location, StoreOptions};
use serde_json::{Value, json};

use self::function::{First, Function};
use self::memory::{Mapping, Memory};
use self::report::Measured;
use super::median;
use crate::print::say;
use crate::{health, pack};

/// Arguments of `defrost bench boot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot to boot: a path or s3://bucket/key.
    #[arg(long, required_unless_present = "checkpoint")]
    model: Option<Location>,
    /// Pack this checkpoint first, and time that too.
    #[arg(long, conflicts_with = "model")]
    checkpoint: Option<String>,
    /// Precision of --checkpoint; default: int8, of a GGUF file its own.
    #[arg(long, value_enum)]
    precision: Option<pack::PrecisionArg>,
    /// The function's binary; default: the one for this snapshot (rerank-cpu-int8, embed or chat) beside this tool.
    #[arg(long)]
    function: Option<PathBuf>,
    /// What is asked of the function; default: by its name, or else what a local snapshot is for, of others a score.
    #[arg(long, value_enum)]
    work: Option<WorkArg>,
    /// Starts to measure.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// VERIFY of the function: stamped, on-the-fly or eager.
    #[arg(long, default_value = "stamped")]
    verify: String,
    /// `NUM_THREADS` of the function.
    #[arg(long, value_parser = crate::backend::threads)]
    num_threads: Option<usize>,
    /// Start every run with an empty cache, so that a snapshot in an object store is fetched each time.
    #[arg(long)]
    empty_cache: bool,
    /// Documents, or texts to embed, of the first request, each of some 60 tokens.
    #[arg(long, default_value_t = 1)]
    documents: usize,
    /// Tokens of a conversation's prompt, with those of the model's template.
    #[arg(long, default_value_t = 100)]
    prompt_tokens: usize,
    /// Start two functions on the same snapshot at the end, and show what of it they share (a local snapshot, on Linux).
    #[arg(long)]
    together: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is asked of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WorkArg {
    /// A score, of rerank-cpu-int8.
    Rerank,
    /// An embedding, of embed.
    Embed,
    /// A streamed completion, of chat.
    Chat,
}

impl WorkArg {
    /// What a binary of one of the functions' names does.
    fn of_function(binary: &Path) -> Option<Self> {
        let name = binary.file_name()?.to_string_lossy();
        let known = [("rerank", Self::Rerank), ("embed", Self::Embed), ("chat", Self::Chat)];
        known.into_iter().find(|(own, _)| name.starts_with(own)).map(|(_, work)| work)
    }
}

/// The first request.
#[derive(Debug)]
enum Work {
    Rerank { documents: usize },
    Embed { texts: usize },
    Chat { content: String, letter: u64 },
}

impl Work {
    fn path(&self) -> &'static str {
        match self {
            Self::Rerank { .. } => "/v1/rerank",
            Self::Embed { .. } => "/v1/embeddings",
            Self::Chat { .. } => "/v1/chat/completions",
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Rerank { documents: count } => {
                json!({"query": "who wrote it?", "documents": documents(*count)})
            }
            Self::Embed { texts } => json!({ "input": documents(*texts) }),
            Self::Chat { content, letter } => json!({
                "messages": [{"role": "user", "content": content}],
                "stream": true, "stream_options": {"include_usage": true},
                "max_tokens": 2, "temperature": 0, "logit_bias": {letter.to_string(): 100},
            }),
        }
    }

    /// The name of what comes first.
    fn product(&self) -> &'static str {
        match self {
            Self::Rerank { .. } => "score",
            Self::Embed { .. } => "embedding",
            Self::Chat { .. } => "token",
        }
    }

    /// Its time in JSON.
    fn figure(&self) -> &'static str {
        match self {
            Self::Rerank { .. } => "first_score_ms",
            Self::Embed { .. } => "first_embedding_ms",
            Self::Chat { .. } => "first_token_ms",
        }
    }
}

/// What is started, and how.
#[derive(Debug)]
struct Setup<'a> {
    function: PathBuf,
    model: Location,
    args: &'a Args,
    scratch: &'a Path,
}

#[derive(Debug)]
struct Run {
    first: First,
    memory: Memory,
    phases: Vec<(String, f64)>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder (TMPDIR)")?;
    measure(args, scratch.path())
}

fn measure(args: &Args, scratch: &Path) -> Result<()> {
    let (model, pack_seconds) = model(args, scratch)?;
    let by_name = || args.function.as_deref().and_then(WorkArg::of_function);
    let work = args.work.or_else(by_name).map_or_else(|| work_of(&model), Ok)?;
    let function = match (&args.function, work) {
        (Some(path), _) => path.clone(),
        (None, WorkArg::Rerank) => beside("rerank-cpu-int8")?,
        (None, WorkArg::Embed) => beside("embed")?,
        (None, WorkArg::Chat) => beside("chat")?,
    };
    let setup = Setup { function, model, args, scratch };
    let work = match work {
        WorkArg::Rerank => Work::Rerank { documents: args.documents },
        WorkArg::Embed => Work::Embed { texts: args.documents },
        WorkArg::Chat => {
            logged(&setup, |log| function::conversation(&setup, args.prompt_tokens, log))?
        }
    };
    let bar = indicatif::ProgressBar::new(args.runs as u64);
    let mut runs = Vec::new();
    for _ in 0..args.runs.max(1) {
        runs.push(logged(&setup, |log| boot(&setup, &work, log))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let together = if args.together {
        logged(&setup, |log| together(&setup, &work, log))?
    } else {
        Vec::new()
    };
    let size = match &setup.model {
        Location::Path(path) => std::fs::metadata(path)?.len(),
        elsewhere => defrost_loader::list(elsewhere, &StoreOptions::default())?
            .iter()
            .map(|one| one.len)
            .sum(),
    };
    let measured = Measured { runs, size, pack_seconds, together };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&measured.json(args, &work))?)?;
        return Ok(());
    }
    measured.print(args, &work)
}

/// The snapshot, and how long it took to pack.
fn model(args: &Args, scratch: &Path) -> Result<(Location, Option<f64>)> {
    let checkpoint = match (&args.model, &args.checkpoint) {
        (Some(model), _) => return Ok((model.clone(), None)),
        (None, Some(checkpoint)) => checkpoint,
        (None, None) => bail!("give --model or --checkpoint"),
    };
    let start = Instant::now();
    let packed = pack::pack(&pack::Args {
        source: checkpoint.clone(),
        out: Some(scratch.join("bench.snap")),
        force: false,
        precision: args.precision,
        isa: None,
        name: None,
        template: None,
        max_length: None,
        matryoshka: None,
        decisions: pack::Decisions::default(),
        outliers: pack::OutliersArg::default(),
        no_stored_prefix: false,
    })?;
    Ok((packed.out.as_path().into(), Some(start.elapsed().as_secs_f64())))
}

/// What a snapshot is for, as it says itself if it is a file here.
fn work_of(model: &Location) -> Result<WorkArg> {
    let Location::Path(path) = model else { return Ok(WorkArg::Rerank) };
    let (_, manifest) = defrost_loader::inspect(path)?;
    let is = |wanted: &str| {
        let mut all = manifest.meta.iter();
        all.any(|(key, value)| &**key == "reranker.template" && &**value == wanted)
    };
    Ok(match (is("chat"), is("embedding")) {
        (true, _) => WorkArg::Chat,
        (_, true) => WorkArg::Embed,
        _ => WorkArg::Rerank,
    })
}

/// A binary that lies beside this tool.
fn beside(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// Runs with a new log of the function, which an error shows.
fn logged<T>(setup: &Setup<'_>, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let log = setup.scratch.join("function.log");
    work(&log).with_context(|| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        format!("the function's log:\n{}", log.trim_end())
    })
}

fn boot(setup: &Setup<'_>, work: &Work, log: &Path) -> Result<Run> {
    let mut function = Function::start(setup, log)?;
    let first = function.first(work)?;
    let memory = Memory::of(function.pid())?;
    let health = function.ask("GET", "/health", &Value::Null)?;
    Ok(Run { first, memory, phases: health::phases(&health) })
}

/// Two processes that have both answered.
fn together(setup: &Setup<'_>, work: &Work, log: &Path) -> Result<Vec<(Memory, Mapping)>> {
    let Location::Path(file) = &setup.model else {
        bail!("--together looks at the mapping of a local snapshot, found {}", setup.model);
    };
    let file = std::fs::canonicalize(file).with_context(|| format!("no {}", file.display()))?;
    let mut both = [Function::start(setup, log)?, Function::start(setup, log)?];
    for function in &mut both {
        function.first(work)?;
    }
    let of = |function: &Function| {
        Ok((Memory::of(function.pid())?, Mapping::of(function.pid(), &file)?))
    };
    both.iter().map(of).collect()
}

/// One short document, or so many of a paragraph each.
fn documents(count: usize) -> Vec<String> {
    let short = "Harper Lee wrote it in 1960.";
    match count {
        0 | 1 => vec![short.to_owned()],
        _ => (0..count).map(|number| format!("{number}: {}", [short; 7].join(" "))).collect(),
    }
}
