//! `defrost push`, `pull`, `ls`, `rm` and `gc`: snapshots between here, sources and the cache.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Result, bail};
use defrost_loader::{Cache, Cached, Collected, Listed, Location, StoreOptions};
use serde_json::json;

use crate::overwrite;
use crate::place::RestoreArgs;
use crate::print::{note, say};
use crate::progress;

/// Arguments of `defrost push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// The snapshot; it is verified first.
    snapshot: PathBuf,
    /// s3://bucket/prefix or a directory (stored as ROOT.snap, which needs no request when a cache has it), or a name that ends in .snap.
    place: Location,
    /// Replace another snapshot that has the name, without asking what is there; create the directory if it is missing.
    #[arg(long)]
    force: bool,
}

/// Arguments of `defrost pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// s3://bucket/key.snap, a prefix with one snapshot, or hf://org/name (packed in int8 for this machine).
    place: Location,
    /// File to write; default: the cache, where every later start finds it.
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Replace the file of --out if it is there, and create folders on its way if they are not.
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    restore: RestoreArgs,
}

/// Arguments of `defrost ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// s3://bucket/prefix or a directory; default: the cache, of which only its own files are shown.
    place: Option<Location>,
    /// The cache's directory.
    #[arg(long, env = "CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `defrost rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// The snapshot: s3://bucket/key.snap or a file, whose stamp goes with it; nothing else is removed.
    place: Location,
    /// Where stamps of local snapshots are, beside those that lie beside them.
    #[arg(long, env = "CACHE_DIR")]
    cache_dir: Option<PathBuf>,
}

/// Arguments of `defrost gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct CollectArgs {
    /// Bytes that may stay: unfinished downloads go first, then the least recently used; none that is in use, and no file by
    /// a name that the cache does not give.
    #[arg(long, env = "CACHE_MAX_BYTES", default_value_t = 0)]
    max_bytes: u64,
    /// The cache's directory.
    #[arg(long, env = "CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stores a snapshot.
pub(crate) fn push(args: &PushArgs) -> Result<()> {
    let start = Instant::now();
    if let Location::Path(path) = &args.place {
        if args.place.is_snapshot() {
            // The loader asks what is there: the same snapshot needs no --force.
            overwrite::check(path, &[&args.snapshot], args.force || path.is_file())?;
        } else {
            overwrite::folder(path, args.force)?;
        }
    }
    let bar = progress::bytes("push");
    let store = StoreOptions::default();
    let replace = args.force;
    let pushed =
        defrost_loader::push(&args.snapshot, &args.place, replace, &store, &|done, total| {
            progress::advance(&bar, done, total);
        })?;
    bar.finish_and_clear();
    say!("{}", pushed.url)?;
    say!("  root  {}", pushed.root)?;
    say!("  size  {}", progress::human(pushed.len))?;
    if pushed.already {
        say!("  was there already")?;
    } else {
        say!("  time  {:.2} s", start.elapsed().as_secs_f64())?;
    }
    Ok(())
}

/// Fetches a snapshot.
pub(crate) fn pull(args: &PullArgs) -> Result<()> {
    let start = Instant::now();
    if let Some(out) = &args.out {
        let reads: Vec<&Path> = match &args.place {
            Location::Path(path) => vec![path],
            _ => Vec::new(),
        };
        overwrite::check(out, &reads, args.force)?;
    }
    let bar = progress::bytes("pull");
    let mut show = |done, total| progress::advance(&bar, done, total);
    let options = args.restore.options(None).for_loader();
    let (path, root, origin) = match (&args.place, &args.out) {
        (Location::Hub { .. }, out) => {
            let mut path = args.restore.pack(&args.place)?;
            if let Some(out) = out {
                let packed: Location = path.as_path().into();
                defrost_loader::pull(&packed, out, &options, &mut show)?;
                path.clone_from(out);
            }
            let (root, _) = defrost_loader::inspect(&path)?;
            (path, root, format!("packed from {}", args.place))
        }
        (place, Some(out)) => {
            let root = defrost_loader::pull(place, out, &options, &mut show)?;
            (out.clone(), root, format!("fetched from {place}"))
        }
        (place, None) => {
            let snapshot = defrost_loader::fetch(place, &options, &mut show)?;
            // While it was fetched it had another name.
            let cached = args.restore.cache().join(format!("{}.snap", snapshot.root()));
            let path = if cached.is_file() { cached } else { snapshot.path().to_owned() };
            (path, snapshot.root(), snapshot.origin().to_owned())
        }
    };
    bar.finish_and_clear();
    let size = std::fs::metadata(&path)?.len();
    say!("{}", path.display())?;
    say!("  root  {root}")?;
    say!("  size  {}", progress::human(size))?;
    say!("  time  {:.2} s", start.elapsed().as_secs_f64())?;
    say!("  {origin}")?;
    Ok(())
}

/// Shows what is at a place, or in the cache.
pub(crate) fn list(args: &ListArgs) -> Result<()> {
    let Some(place) = &args.place else {
        let cache = cache(args.cache_dir.as_ref())?;
        let cached = cache.list()?;
        if cached.is_empty() {
            tell_empty(&cache);
        }
        return show_cached(&cached, args.json);
    };
    if let Location::Path(path) = place
        && let Err(error) = std::fs::symlink_metadata(path)
    {
        bail!("{}: {}", path.display(), missing(&error));
    }
    let listed = defrost_loader::list(place, &StoreOptions::default())?;
    if listed.is_empty() {
        note!("there are no snapshots at {place}");
    }
    show_listed(&listed, args.json)
}

/// Removes a snapshot from a source.
pub(crate) fn remove(args: &RemoveArgs) -> Result<()> {
    let stamps = args.cache_dir.as_deref();
    let was_seen = defrost_loader::remove(&args.place, stamps, &StoreOptions::default())?;
    let note = if was_seen { "" } else { " (whether it was there could not be asked)" };
    say!("{} removed{note}", args.place)?;
    Ok(())
}

/// Makes room in the cache. What cannot be removed is told at the end, and does not keep it from the rest.
pub(crate) fn collect(args: &CollectArgs) -> Result<()> {
    let cache = cache(args.cache_dir.as_ref())?;
    let Collected { removed, freed, bytes, failed, .. } = cache.collect(args.max_bytes)?;
    if removed.is_empty() && bytes == 0 && failed.is_empty() {
        tell_empty(&cache);
    }
    if args.json {
        let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
        let value = json!({"removed": removed, "freed_bytes": freed, "left_bytes": bytes, "failed": failed});
        say!("{}", serde_json::to_string_pretty(&value)?)?;
    } else {
        for path in &removed {
            say!("{}", path.display())?;
        }
        say!("{} freed, {} left", progress::human(freed), progress::human(bytes))?;
    }
    for error in &failed {
        note!("{error}");
    }
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of the cache's files could not be removed, as told above"),
    }
}

/// The cache. One that the user names is there; the usual one may not be yet.
fn cache(dir: Option<&PathBuf>) -> Result<Cache> {
    if let Some(dir) = dir {
        match std::fs::metadata(dir) {
            Err(error) => {
                bail!("{}: {} (--cache-dir, CACHE_DIR)", dir.display(), missing(&error));
            }
            Ok(found) if !found.is_dir() => {
                bail!("{}: expected a folder, found a file (--cache-dir, CACHE_DIR)", dir.display())
            }
            Ok(_) => {}
        }
    }
    Ok(Cache::new(dir.cloned().unwrap_or_else(defrost_loader::default_cache), None))
}

/// Why a folder cannot be looked into.
fn missing(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
        _ => format!("cannot be looked into: {error}"),
    }
}

fn tell_empty(cache: &Cache) {
    note!("the cache is empty: {} holds nothing of its own", cache.dir().display());
}

fn show_listed(listed: &[Listed], as_json: bool) -> Result<()> {
    if as_json {
        let value: Vec<_> = listed
            .iter()
            .map(|one| json!({"url": one.url, "bytes": one.len, "modified": one.modified}))
            .collect();
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    for one in listed {
        say!("{:>10}  {}", progress::human(one.len), one.url)?;
    }
    Ok(())
}

fn show_cached(cached: &[Cached], as_json: bool) -> Result<()> {
    let age = |one: &Cached| SystemTime::now().duration_since(one.last_used).unwrap_or_default();
    if as_json {
        let value: Vec<_> = cached
            .iter()
            .map(|one| {
                json!({"path": one.path, "bytes": one.bytes, "unused_s": age(one).as_secs(),
                       "in_use": one.in_use, "complete": one.complete})
            })
            .collect();
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    for one in cached {
        let note = match (one.complete, one.in_use) {
            (true, true) => "in use",
            (true, false) => "",
            (false, true) => "being fetched",
            (false, false) => "unfinished",
        };
        let hours = age(one).as_secs_f64() / 3600.0;
        say!(
            "{:>10}  {hours:>7.1} h  {:<13}  {}",
            progress::human(one.bytes),
            note,
            one.path.display()
        )?;
    }
    Ok(())
}
