//! `defrost bench boot`: from `exec` to the first score, as a client sees it.
//!
//! Each run starts the function as a new process on a free port and sends one rerank request as soon
//! as the port takes connections; the function holds it until the model is ready. The clock starts
//! before the process does and stops at the last byte of the answer. Then the function's own phases
//! are read from /health and its peak memory from the kernel, and it is asked to stop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::median;
use defrost_loader::{Location, StoreOptions};

use crate::print::say;
use crate::{health, http, pack, progress};

/// Arguments of `defrost bench boot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot to boot: a path or s3://bucket/key.
    #[arg(long, required_unless_present = "checkpoint")]
    model: Option<Location>,
    /// Pack this checkpoint first, and time that too.
    #[arg(long, conflicts_with = "model")]
    checkpoint: Option<String>,
    /// Precision of --checkpoint.
    #[arg(long, value_enum, default_value_t = pack::PrecisionArg::Int8)]
    precision: pack::PrecisionArg,
    /// The function's binary; default: rerank-cpu-int8 beside this tool.
    #[arg(long)]
    function: Option<PathBuf>,
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
    /// Documents of the first request, each of some 60 tokens.
    #[arg(long, default_value_t = 1)]
    documents: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How long a function may take to bind its port and answer.
const PATIENCE: Duration = Duration::from_mins(5);

struct Run {
    first_score_ms: f64,
    memory: Memory,
    phases: Vec<(String, f64)>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder (TMPDIR)")?;
    measure(args, scratch.path())
}

fn measure(args: &Args, scratch: &Path) -> Result<()> {
    let (model, pack_seconds) = match (&args.model, &args.checkpoint) {
        (Some(model), _) => (model.clone(), None),
        (None, Some(checkpoint)) => {
            let start = Instant::now();
            let packed = pack::pack(&pack::Args {
                source: checkpoint.clone(),
                out: Some(scratch.join("bench.snap")),
                force: false,
                precision: Some(args.precision),
                isa: None,
                name: None,
                template: None,
                max_length: None,
                matryoshka: None,
                decisions: pack::Decisions::default(),
                outliers: pack::OutliersArg::default(),
                no_stored_prefix: false,
            })?;
            (packed.out.as_path().into(), Some(start.elapsed().as_secs_f64()))
        }
        (None, None) => bail!("give --model or --checkpoint"),
    };
    let function = match &args.function {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("rerank-cpu-int8"),
    };
    let bar = indicatif::ProgressBar::new(args.runs as u64);
    let mut runs = Vec::new();
    for _ in 0..args.runs.max(1) {
        runs.push(boot(&function, &model, args, scratch)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let size = match &model {
        Location::Path(path) => std::fs::metadata(path)?.len(),
        elsewhere => defrost_loader::list(elsewhere, &StoreOptions::default())?
            .iter()
            .map(|one| one.len)
            .sum(),
    };
    report(args, &runs, size, pack_seconds)
}

fn boot(function: &Path, model: &Location, args: &Args, scratch: &Path) -> Result<Run> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free));
    let log = scratch.join("function.log");
    let mut command = Command::new(function);
    command
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .env("MODEL", model.to_string())
        .env("HOST", "127.0.0.1")
        .env("PORT", free.to_string())
        .env("VERIFY", &args.verify)
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::options().append(true).open(&log)?)
        .stdin(Stdio::null());
    if let Some(threads) = args.num_threads {
        command.env("NUM_THREADS", threads.to_string());
    }
    if args.empty_cache {
        let cache = scratch.join("cache");
        // It is not there before the first run.
        let _ = std::fs::remove_dir_all(&cache);
        command.env("CACHE_DIR", cache);
    }
    let body =
        json!({"query": "who wrote it?", "documents": documents(args.documents)}).to_string();
    let start = Instant::now();
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", function.display()))?;
    let answer = first_answer(&mut child, address, &body, start);
    let first_score_ms = start.elapsed().as_secs_f64() * 1e3;
    let result = answer.and_then(|()| {
        let health: Value = serde_json::from_str(&http::request(address, "GET", "/health", "")?.1)?;
        let phases = health::phases(&health);
        Ok(Run { first_score_ms, memory: Memory::of(child.id())?, phases })
    });
    let _ = child.kill();
    let _ = child.wait();
    result.with_context(|| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        format!("the function's log:\n{}", log.trim_end())
    })
}

/// One short document, or so many of a paragraph each.
fn documents(count: usize) -> Vec<String> {
    let short = "Harper Lee wrote it in 1960.";
    match count {
        0 | 1 => vec![short.to_owned()],
        _ => (0..count).map(|number| format!("{number}: {}", [short; 7].join(" "))).collect(),
    }
}

/// Sends the request as soon as the function listens. Polls without pause: a connection refused on
/// loopback costs microseconds, a sleep would be part of the figure.
fn first_answer(child: &mut Child, address: SocketAddr, body: &str, start: Instant) -> Result<()> {
    loop {
        if let Ok((status, answer)) = http::request(address, "POST", "/v1/rerank", body) {
            if status != 200 {
                bail!("first answer has status {status}: {answer}");
            }
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the function ended before its first answer: {status}");
        }
        if start.elapsed() > PATIENCE {
            bail!("no answer within {} s", PATIENCE.as_secs());
        }
        std::thread::yield_now();
    }
}

/// A process's resident memory in bytes, right after its first answer.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// The most there was at any time.
    peak: u64,
    /// Pages of files: the snapshot's, mapped, and the binary's. Shared with others that map them.
    mapped: u64,
    /// Pages of its own.
    private: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .context("memory is read from /proc, which only Linux has")?;
        let field = |name: &str| -> Result<u64> {
            let kib: u64 = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .with_context(|| format!("no {name} in /proc/PID/status"))?;
            Ok(kib * 1024)
        };
        Ok(Self {
            peak: field("VmHWM")?,
            mapped: field("RssFile")?,
            private: field("RssAnon")? + field("RssShmem")?,
        })
    }
}

fn report(args: &Args, runs: &[Run], size: u64, pack_seconds: Option<f64>) -> Result<()> {
    let times: Vec<f64> = runs.iter().map(|run| run.first_score_ms).collect();
    let fastest = times.iter().copied().fold(f64::INFINITY, f64::min);
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let most =
        |part: fn(&Memory) -> u64| runs.iter().map(|run| part(&run.memory)).max().unwrap_or(0);
    let memory = Memory {
        peak: most(|memory| memory.peak),
        mapped: most(|memory| memory.mapped),
        private: most(|memory| memory.private),
    };
    let phases: Vec<(String, f64)> = runs[0]
        .phases
        .iter()
        .map(|(name, _)| {
            let values: Vec<f64> = runs
                .iter()
                .filter_map(|run| run.phases.iter().find(|phase| phase.0 == *name))
                .map(|phase| phase.1)
                .collect();
            (name.clone(), median(&values))
        })
        .collect();
    if args.json {
        let value = json!({
            "runs": runs.len(),
            "verify": args.verify,
            "first_score_ms": {"median": median(&times), "min": fastest, "max": slowest},
            "peak_rss_bytes": memory.peak,
            "mapped_bytes": memory.mapped,
            "private_bytes": memory.private,
            "snapshot_bytes": size,
            "pack_s": pack_seconds,
            "phases_median_ms": phases.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        });
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    say!(
        "exec -> first score over HTTP  {:.1} ms median of {} ({fastest:.1} to {slowest:.1}), verify {}",
        median(&times),
        runs.len(),
        args.verify
    )?;
    for (name, value) in &phases {
        say!("  {name:<20} {value:>9.2} ms")?;
    }
    say!(
        "peak RSS             {}; at the first score {} of files and {} of its own",
        progress::human(memory.peak),
        progress::human(memory.mapped),
        progress::human(memory.private)
    )?;
    say!("snapshot             {}", progress::human(size))?;
    match pack_seconds {
        Some(seconds) => say!("pack                 {seconds:.2} s")?,
        None => say!("pack                 not measured (give --checkpoint)")?,
    }
    Ok(())
}
