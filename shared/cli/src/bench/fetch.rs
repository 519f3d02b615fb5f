//! `defrost bench fetch`: how fast a snapshot comes from an object store, with nothing computed meanwhile.

use std::time::Instant;

use anyhow::Result;
use defrost_loader::Location;
use serde_json::json;

use crate::place::RestoreArgs;
use crate::print::say;

/// Arguments of `defrost bench fetch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// s3://bucket/key; the cache should not have it.
    place: Location,
    #[command(flatten)]
    restore: RestoreArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let ms = || start.elapsed().as_secs_f64() * 1e3;
    let snapshot = args.restore.restore(&args.place, None)?;
    let manifest = ms();
    snapshot.wait_verified()?;
    let verified = ms();
    snapshot.wait_complete()?;
    let complete = ms();
    let bytes = snapshot.file_len();
    if args.json {
        let value = json!({"bytes": bytes, "manifest_ms": manifest, "verified_ms": verified,
                           "complete_ms": complete, "origin": snapshot.origin()});
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    say!("manifest      {manifest:>9.1} ms")?;
    say!("all verified  {verified:>9.1} ms  {:.2} GB/s", bytes as f64 / verified / 1e6)?;
    say!("in the cache  {complete:>9.1} ms")?;
    say!("{}", snapshot.origin())?;
    Ok(())
}
