//! `defrost chat`: talks with a model in the terminal, or answers one question for a script.
//!
//! ```text
//! terminal or stdin ── Session: what was said, options ── request ──> Talker: a model here, or a server ── pieces ──┐
//!        └──────────── what is shown <── Answer: text, thoughts, usage, end <── events of the stream <──────────────┘
//! ```
//!
//! A model here is served by the very code of the function `chat`, without a socket: templates, grammars, checks and
//! errors are the same, and a running server of any kind that speaks OpenAI's protocol is talked to in the same words.
//!
//! On stdout is what the model says and nothing else; all about it goes to stderr.

mod answer;
mod here;
mod session;
mod talker;
mod terminal;
mod there;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use defrost_loader::ThreadsWanted;

use crate::backend;
use crate::function::KeyArgs;
use crate::place::RestoreArgs;
use session::Session;
use talker::{Show, Talker};

/// Arguments of `defrost chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a snapshot, a GGUF file (packed into the cache the first time), s3://bucket/key, or hf://org/name; default:
    /// the variable MODEL. With --url the name of the server's model; default: its first.
    target: Option<String>,
    /// Talk with a running server (http://HOST:PORT or https://HOST) that has OpenAI's /v1/chat/completions.
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// Ask this and end; stdin is not read. Without it, what is piped into stdin is the question, and a terminal is talked to.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The system prompt: what the model is told before anything else.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Hold answers to the JSON schema in this file.
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// How freely tokens are chosen: 0 always takes the likeliest; default: the model's own.
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// Only the likeliest tokens that together have this probability.
    #[arg(long, value_name = "NUMBER")]
    top_p: Option<f64>,
    /// Only the likeliest N tokens.
    #[arg(long, value_name = "N")]
    top_k: Option<u64>,
    /// Only tokens at least this part as likely as the likeliest.
    #[arg(long, value_name = "NUMBER")]
    min_p: Option<f64>,
    /// What random numbers are made of, for the same answer again.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Most tokens of an answer; default: as many as fit.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// Most tokens of the conversation; default: what the model reads.
    #[arg(long, value_name = "N")]
    context_length: Option<u64>,
    /// Worker threads; default: physical cores within the cgroup's quota.
    #[arg(long, env = "NUM_THREADS", value_parser = backend::threads)]
    num_threads: Option<usize>,
    #[command(flatten)]
    restore: RestoreArgs,
}

/// Where the questions come from.
enum Questions {
    One(String),
    Terminal,
}

/// Talks.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.url.is_some() && args.context_length.is_some() {
        bail!(
            "--context-length beside --url: the running server has a setting of its own; start it with that, and leave this out"
        );
    }
    // What is wrong with them is known before a model is loaded.
    let mut session = Session::new(args)?;
    let questions = questions(args)?;
    let runtime = defrost_loader::runtime(ThreadsWanted {
        name: "chat",
        workers: 1,
        // Prompts are made there, beside the model's own threads.
        blocking: 2,
        others: 1,
    })
    .context("cannot start threads")?;
    let talker = Talker::open(args, &runtime)?;
    session.model = talker.model().map(str::to_owned);
    let result = match questions {
        Questions::One(question) => once(&mut session, &talker, &runtime, question),
        Questions::Terminal => terminal::converse(&mut session, &talker, &runtime),
    };
    // What still runs is nobody's any more.
    runtime.shutdown_background();
    result
}

fn questions(args: &Args) -> Result<Questions> {
    if let Some(prompt) = &args.prompt {
        if prompt.trim().is_empty() {
            bail!("--prompt: expected a question, found nothing but white space");
        }
        return Ok(Questions::One(prompt.clone()));
    }
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(Questions::Terminal);
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).context("cannot read the question from stdin")?;
    let question = String::from_utf8(bytes)
        .context("the question on stdin is not UTF-8; convert it, or give --prompt TEXT")?;
    if question.trim().is_empty() {
        bail!(
            "expected a question on stdin, found nothing; pipe one in, give --prompt TEXT, or start it in a terminal to talk"
        );
    }
    Ok(Questions::One(question.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Asks one question; a line of figures follows the answer on stderr.
fn once(
    session: &mut Session,
    talker: &Talker,
    runtime: &tokio::runtime::Runtime,
    question: String,
) -> Result<()> {
    let show = Show::plain();
    let said = session.ask(talker, runtime, question, show, None);
    let said = said?;
    crate::print::note!("{}", said.figures());
    Ok(())
}
