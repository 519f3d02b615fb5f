//! Speed of compiled tokenizers beside the `tokenizers` crate, on one thread.
//!
//! `cargo run --release --example speed -- TEXT TOKENIZER.json...` where each line of TEXT is encoded on its own.

#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use defrost_tokenizer::{Compiled, compile};
use tokenizers::Tokenizer;

/// Times that all is encoded; the fastest counts.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: speed TEXT TOKENIZER.json...")?;
    let text = std::fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let megabytes = lines.iter().map(|line| line.len()).sum::<usize>() as f64 / 1e6;
    for path in args {
        let json = std::fs::read(&path)?;
        let start = Instant::now();
        let image = Bytes::from(compile(&json)?);
        let compiling = start.elapsed();
        let start = Instant::now();
        let compiled = Compiled::open(image.clone())?;
        let opening = start.elapsed();
        let first = compiled.ids("Where do plants get their food?").len();
        let ready = start.elapsed();
        let start = Instant::now();
        let reference = Tokenizer::from_bytes(&json)?;
        let reading = start.elapsed();
        println!(
            "{path}: {} bytes, image {}; compiled in {compiling:?}, opened in {opening:?}, {first} tokens after \
             {ready:?}; the crate reads it in {reading:?}",
            json.len(),
            image.len()
        );
        let rate = |run: &dyn Fn() -> usize| {
            let times = (0..ROUNDS).map(|_| {
                let start = Instant::now();
                (run(), start.elapsed())
            });
            let (tokens, best) = times.min_by_key(|&(_, time)| time).unwrap_or_default();
            (megabytes / best.as_secs_f64(), tokens)
        };
        let (ours, tokens) = rate(&|| lines.iter().map(|line| compiled.ids(line).len()).sum());
        let (offsets, _) = rate(&|| lines.iter().map(|line| compiled.encode(line).ids.len()).sum());
        let (theirs, expected) = rate(&|| {
            let count = |line| reference.encode_fast(line, false).map_or(0, |found| found.len());
            lines.iter().map(|&line| count(line)).sum()
        });
        assert_eq!(tokens, expected);
        println!(
            "  {ours:.1} MB/s, with offsets {offsets:.1}; the crate {theirs:.1}: {:.1} times as fast",
            ours / theirs
        );
    }
    Ok(())
}
