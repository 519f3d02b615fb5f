//! Times a packed language model in this process: its first token, a prompt, tokens at several depths, memory.
//!
//! ```sh
//! cargo build --release -p defrost-tasks --example generate_speed
//! target/release/examples/generate_speed SNAPSHOT [ask=100] [prompt=512] [depths=128,4096] [tokens=32] [threads=N]
//! target/release/examples/generate_speed SNAPSHOT streams=16 [long=2000] [beside=N] [threads=N]
//! target/release/examples/generate_speed SNAPSHOT soak=10000 [streams=16] [threads=N]
//! ```
//!
//! Prints two lines of JSON: `first_token` as soon as there is one after a prompt of `ask` tokens, so that whoever started the
//! process can time it from there; and `done` with the rest. `scripts/bench/bench_decode` reads them, and the same lines of
//! llama.cpp. Tokens a second at a depth are those of `tokens` greedy steps, one sequence, after a prompt of so many tokens.
//! With `streams` or `soak` it prints one line instead, see [`streams`].
//!
//! `read_gb_per_s` is what all threads read together of memory that no cache holds: the bound of a step is the weights at
//! that rate.

#![allow(clippy::print_stdout, reason = "an example prints")]

mod streams;

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use defrost_loader::Snapshot;
use defrost_model::{Decoder, LogitsOf, Piece, SequenceId};
use defrost_tasks::{
    Generator, GeneratorOptions, ModelOptions, RestoreOptions, SchedulerOptions, restore,
};
use serde_json::{Value, json};

const LINKED: &[&dyn defrost_model::Runtime] = &[&defrost_engine::RUNTIME];
/// Tokens of a prompt that go through one step, but for the prompt that is timed: as much as a scheduler would give it.
const AT_ONCE: usize = 512;
/// Keys and values of a soak: of some 50 tokens for each of 16 requests that run at once, and four times as many that are kept.
const SOAK_TOKENS: usize = 4096;
/// Many times a last-level cache.
const READ_BYTES: usize = 512 << 20;
/// Passes over them, of which the fastest counts.
const READ_ROUNDS: usize = 5;

struct Arguments {
    snapshot: PathBuf,
    ask: usize,
    prompt: usize,
    depths: Vec<usize>,
    tokens: usize,
    threads: Option<usize>,
    streams: usize,
    long: usize,
    beside: Option<usize>,
    soak: usize,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut found = Self {
            snapshot: PathBuf::new(),
            ask: 100,
            prompt: 512,
            depths: vec![128, 4096],
            tokens: 32,
            threads: None,
            streams: 0,
            long: 2000,
            beside: None,
            soak: 0,
        };
        for word in std::env::args().skip(1) {
            match word.split_once('=') {
                Some(("ask", value)) => found.ask = value.parse()?,
                Some(("prompt", value)) => found.prompt = value.parse()?,
                Some(("tokens", value)) => found.tokens = value.parse()?,
                Some(("threads", value)) => found.threads = Some(value.parse()?),
                Some(("streams", value)) => found.streams = value.parse()?,
                Some(("long", value)) => found.long = value.parse()?,
                Some(("beside", value)) => found.beside = Some(value.parse()?),
                Some(("soak", value)) => found.soak = value.parse()?,
                Some(("depths", value)) => {
                    found.depths = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                _ => found.snapshot = word.into(),
            }
        }
        if found.ask == 0 || found.prompt == 0 || found.tokens == 0 {
            return Err("ask, prompt and tokens: expected at least 1".into());
        }
        Ok(found)
    }

    /// The most tokens of a sequence.
    fn context(&self) -> usize {
        let deepest = self.depths.iter().copied().max().unwrap_or(0) + self.tokens;
        deepest.max(self.prompt).max(self.ask) + 1
    }
}

/// Tokens that look random; another `salt` has others from the first one on, so that nothing is reused.
fn ids(len: usize, salt: usize, vocab: usize) -> Vec<u32> {
    let id = |at: usize| u32::try_from((at * 7919 + salt * 104_729 + 17) % vocab).unwrap_or(0);
    (0..len).map(id).collect()
}

fn greatest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (at, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = at;
        }
    }
    u32::try_from(best).unwrap_or(0)
}

/// The likeliest token after these, which are computed in one step or several.
fn step(
    decoder: &dyn Decoder,
    sequence: SequenceId,
    ids: &[u32],
    at_once: usize,
) -> Result<u32, Box<dyn Error>> {
    let mut chunks = ids.chunks(at_once).peekable();
    while let Some(ids) = chunks.next() {
        if !decoder.make_room(&[(sequence, ids.len())])? {
            return Err("there is no room for keys and values".into());
        }
        let logits = if chunks.peek().is_some() { LogitsOf::None } else { LogitsOf::Last };
        let answer = decoder.step(&[Piece { sequence, ids, logits, allowed: None }])?;
        if let Some(row) = answer.first().and_then(|logits| logits.0.last()) {
            return Ok(greatest(row));
        }
    }
    Err("no tokens".into())
}

/// Opens a sequence of which nothing is known.
fn open(decoder: &dyn Decoder, ids: &[u32]) -> Result<SequenceId, Box<dyn Error>> {
    let opened = decoder.open(ids)?;
    if opened.cached != 0 {
        return Err(format!("{} tokens are known, expected none", opened.cached).into());
    }
    Ok(opened.id)
}

/// Fields of /proc/self/status in MiB.
fn memory() -> Value {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| {
            line.trim_matches([':', '\t', ' ']).split(' ').next()?.parse::<u64>().ok()
        })
        .map(|kib| kib >> 10)
    };
    json!({"own_mib": field("RssAnon"), "mapped_mib": field("RssFile")})
}

/// GB/s of reading on so many threads.
fn read_rate(threads: usize) -> f64 {
    let memory = vec![1u64; READ_BYTES / size_of::<u64>()];
    let mut best = f64::INFINITY;
    for _ in 0..READ_ROUNDS {
        let begun = Instant::now();
        let sum: u64 = std::thread::scope(|scope| {
            let parts = memory.chunks(memory.len().div_ceil(threads));
            let sums: Vec<_> = parts
                .map(|part| scope.spawn(|| part.iter().fold(0u64, |sum, &x| sum.wrapping_add(x))))
                .collect();
            sums.into_iter().filter_map(|sum| sum.join().ok()).sum()
        });
        best = best.min(begun.elapsed().as_secs_f64());
        assert_eq!(sum, memory.len() as u64, "every word was read");
    }
    READ_BYTES as f64 / best / 1e9
}

fn say(line: &Value) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Many requests at once instead of one.
fn run_streams(arguments: &Arguments, snapshot: &Snapshot) -> Result<(), Box<dyn Error>> {
    let (count, long) = (arguments.streams.max(1), arguments.long);
    let kv_tokens = if arguments.soak > 0 {
        // Soon filled, so that memory has its size.
        SOAK_TOKENS
    } else {
        streams::room(count, long)
    };
    let model = ModelOptions {
        num_threads: arguments.threads,
        kv_tokens: Some(kv_tokens),
        ..ModelOptions::default()
    };
    // A guess that comes true would be counted as speed.
    let usual = SchedulerOptions { guesses: 0, ..SchedulerOptions::default() };
    let beside = arguments.beside.unwrap_or(usual.beside);
    let options = GeneratorOptions { model, scheduler: SchedulerOptions { beside, ..usual } };
    let generator = Generator::load(LINKED, snapshot, &options)?;
    let told = if arguments.soak > 0 {
        streams::soak(&generator, arguments.soak, count.max(16))?
    } else {
        streams::speed(&generator, count, long)?
    };
    say(&told)
}

fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let arguments = Arguments::read()?;
    let snapshot =
        restore(LINKED, &arguments.snapshot.as_path().into(), &RestoreOptions::default())?;
    if arguments.streams + arguments.soak > 0 {
        return run_streams(&arguments, &snapshot);
    }
    let context = arguments.context();
    let model = ModelOptions {
        num_threads: arguments.threads,
        context: Some(context),
        // One sequence at a time, and pages of those before it.
        kv_tokens: Some(context + 1024),
        ..ModelOptions::default()
    };
    let options = GeneratorOptions { model, ..GeneratorOptions::default() };
    let generator = Generator::load(LINKED, &snapshot, &options)?;
    let loaded = begun.elapsed().as_secs_f64();
    let (decoder, info) = (generator.decoder()?, generator.info());

    let asked = ids(arguments.ask, 1, info.vocab);
    let sequence = open(decoder, &asked)?;
    let first = step(decoder, sequence, &asked, asked.len())?;
    say(
        &json!({"event": "first_token", "loaded_s": loaded, "since_main_s": begun.elapsed().as_secs_f64()}),
    )?;
    decoder.close(sequence);

    let prompt = ids(arguments.prompt, 2, info.vocab);
    let sequence = open(decoder, &prompt)?;
    let begun = Instant::now();
    step(decoder, sequence, &prompt, prompt.len())?;
    let prefill = arguments.prompt as f64 / begun.elapsed().as_secs_f64();
    decoder.close(sequence);

    let mut rates = serde_json::Map::new();
    for (at, &depth) in arguments.depths.iter().enumerate() {
        let before = ids(depth.max(1), 3 + at, info.vocab);
        let sequence = open(decoder, &before)?;
        let mut token = step(decoder, sequence, &before, AT_ONCE)?;
        let begun = Instant::now();
        for _ in 0..arguments.tokens {
            token = step(decoder, sequence, &[token], 1)?;
        }
        let rate = arguments.tokens as f64 / begun.elapsed().as_secs_f64();
        rates.insert(depth.to_string(), json!(rate));
        decoder.close(sequence);
    }
    let memory = memory();
    say(&json!({
        "event": "done", "first": first, "prefill_per_s": prefill, "decode_per_s": rates, "memory": memory,
        "read_gb_per_s": read_rate(info.threads), "system": format!("{} on {} threads", info.kernel, info.threads),
        "precision": info.quantization.as_deref().unwrap_or(&info.precision), "bytes": info.bytes,
    }))
}
