//! `defrost`: prepares snapshots, moves them, looks into them, embeds and scores files with them, and measures.
//!
//! Exit codes: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage.

#![allow(clippy::doc_markdown, reason = "these comments are the text of --help")]
#![allow(clippy::print_stderr, reason = "errors and notes of a command-line tool go to stderr")]

mod backend;
mod bench;
mod bulk;
mod embed;
mod function;
mod health;
mod http;
mod inspect;
mod overwrite;
mod pack;
mod place;
mod print;
mod progress;
mod rerank;
mod source;
mod store;
mod synth;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Make a random model of true dimensions, for speed and memory without real weights.
    Synth(synth::Args),
    /// Show how a running function is and how it woke up.
    Health(health::Args),
    /// Measure: boot of a function, retrieval quality.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
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
        Command::Synth(args) => synth::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) if err.is::<print::Closed>() => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("defrost: {err:#}");
            ExitCode::FAILURE
        }
    }
}
