//! `defrost`: prepares snapshots, moves them, looks into them, embeds and scores files with them, talks, and measures.
//!
//! Exit codes: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage.

#![allow(clippy::doc_markdown, reason = "these comments are the text of --help")]

mod backend;
mod bench;
mod bulk;
mod chat;
mod elsewhere;
mod embed;
mod function;
mod health;
mod http;
mod inspect;
mod overwrite;
mod pack;
mod packing;
mod place;
mod print;
mod progress;
mod rerank;
mod serve;
mod source;
mod store;
mod synth;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use print::{note, written};

/// Snapshots of models that are awake before the client notices.
#[derive(Debug, Parser)]
#[command(name = "defrost", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn a checkpoint (directory or hf://org/name@revision) into a snapshot.
    Pack(pack::Args),
    /// Store a snapshot in a bucket or directory.
    Push(store::PushArgs),
    /// Fetch a snapshot into the cache or a file.
    Pull(store::PullArgs),
    /// List snapshots: in a bucket, a directory or the cache.
    Ls(store::ListArgs),
    /// Remove a snapshot from a bucket or directory.
    Rm(store::RemoveArgs),
    /// Make room in the cache.
    Gc(store::CollectArgs),
    /// Show what a snapshot or a file of weights holds: metadata, segments, tensors, sizes.
    Inspect(inspect::Args),
    /// Read all of a snapshot and compare every hash.
    Verify(inspect::VerifyArgs),
    /// Write the vectors of all texts of a file: JSON lines or Parquet, resumable, on any number of machines.
    Embed(embed::Args),
    /// Score documents against a query: here and now, through a running function, or all cases of a file.
    Rerank(rerank::Args),
    /// Talk with a language model: a snapshot or a GGUF file here, or a running server; in the terminal or from a script.
    Chat(chat::Args),
    /// Serve models of every kind behind one port: rerankers, embedders and language models.
    Serve(serve::Args),
    /// Make a random model of true dimensions, for speed and memory without real weights.
    Synth(synth::Args),
    /// Show how a running function is and how it woke up.
    Health(health::Args),
    /// Measure: boot of a function, retrieval quality.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match parse() {
        Ok(cli) => run(cli),
        Err(error) if error.use_stderr() => {
            // Where stderr cannot be written there is no way left to tell the user.
            let _ = error.print();
            ExitCode::from(2)
        }
        // Help and version are answers as others are.
        Err(error) => ended(written(error.print())),
    }
}

/// What the command line says, if all of it has a meaning.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    if let Some((name, matches)) = matches.subcommand()
        && let Some(of) = command.find_subcommand_mut(name)
        && let Some(what) = elsewhere::meaningless(of, matches)
    {
        return Err(of.error(ErrorKind::ArgumentConflict, what));
    }
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn run(cli: Cli) -> ExitCode {
    ended(match cli.command {
        // It has exit codes of its own.
        Command::Serve(args) => return serve::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Push(args) => store::push(&args),
        Command::Pull(args) => store::pull(&args),
        Command::Ls(args) => store::list(&args),
        Command::Rm(args) => store::remove(&args),
        Command::Gc(args) => store::collect(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => inspect::verify(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Synth(args) => synth::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Bench(args) => bench::run(&args),
    })
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) if err.is::<print::Closed>() => ExitCode::SUCCESS,
        Err(err) => {
            note!("{err:#}");
            ExitCode::FAILURE
        }
    }
}
