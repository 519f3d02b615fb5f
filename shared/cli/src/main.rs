//! `defrost`: prepares snapshots, looks into them, scores with them once, and measures.
//!
//! Exit codes: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage.

#![allow(clippy::doc_markdown, reason = "these comments are the text of --help")]
#![allow(clippy::print_stderr, reason = "errors and notes of a command-line tool go to stderr")]

mod bench;
mod health;
mod http;
mod inspect;
mod pack;
mod print;
mod progress;
mod rerank;
mod source;
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
    /// Show what a snapshot or a file of weights holds: metadata, segments, tensors, sizes.
    Inspect(inspect::Args),
    /// Read all of a snapshot and compare every hash.
    Verify(inspect::VerifyArgs),
    /// Score documents against a query: here and now, or through a running function.
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
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => inspect::verify(&args),
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
