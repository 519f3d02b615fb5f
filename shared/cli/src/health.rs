//! `defrost health`: how a running function is, and how it woke up.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::function::{Function, KeyArgs};
use crate::print::say;

/// Arguments of `defrost health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function, as http://HOST:PORT or https://HOST.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    #[command(flatten)]
    key: KeyArgs,
}

/// Prints status and boot phases.
pub(crate) fn run(args: &Args) -> Result<()> {
    let function = Function::new(&args.url, &args.key)?;
    let answer = function.get("/health")?;
    let health: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    // While it boots, a function answers 503 and the same body; anything else is no function.
    let Some(word) = health["status"].as_str() else {
        bail!("{function}/health answered {}", answer.said());
    };
    let status = answer.status;
    say!("{word} ({status})  {}", health["model_name"].as_str().unwrap_or("?"))?;
    for (phase, ms) in phases(&health) {
        say!("  {phase:<20} {ms:>9.2} ms")?;
    }
    Ok(())
}

/// Phases in the order they happen; JSON objects have none.
const ORDER: [&str; 9] = [
    "exec",
    "config",
    "restore",
    "tokenizer",
    "engine",
    "warmup",
    "other",
    "restored",
    "first_score",
];

/// The boot phases in an answer of /health, in milliseconds, and the two spans they add up to.
pub(crate) fn phases(health: &Value) -> Vec<(String, f64)> {
    let boot = &health["boot"];
    let mut phases: Vec<(String, f64)> = boot["phases"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, seconds)| Some((name.clone(), seconds.as_f64()? * 1e3)))
        .collect();
    phases.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name));
    for (key, name) in
        [("ready_seconds", "exec -> ready"), ("first_score_seconds", "exec -> first score")]
    {
        if let Some(seconds) = boot[key].as_f64() {
            phases.push((name.to_owned(), seconds * 1e3));
        }
    }
    phases
}
