//! The whole machinery around a model that is none: an answer is the bytes of its text.
//!
//! Whatever rows there are, in whatever chunks they are computed, however a run was interrupted and however many machines shared in it, the output is what a
//! loop over the rows in memory would have written.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use anyhow::Result;
use clap::Parser;
use defrost_model::{Answers, Grouping, Measure, Planned, Tokens, Wanted};
use defrost_tasks::{Error, Prepared, Said};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tokenised::Tokenised;
use super::*;

/// Answers with the bytes of a text, refuses texts that are longer than this, and breaks after so many.
const LONGEST: usize = 12;

struct Echo {
    left: AtomicUsize,
    ran: AtomicUsize,
    passes: AtomicUsize,
}

impl Echo {
    fn breaking_after(texts: usize) -> Self {
        Self {
            left: AtomicUsize::new(texts),
            ran: AtomicUsize::new(0),
            passes: AtomicUsize::new(0),
        }
    }
}

impl Operation for Echo {
    type Item = String;

    fn fields(&self) -> (Vec<&str>, usize) {
        (vec!["text"], 1)
    }

    fn item(&self, mut record: Record) -> Result<String, String> {
        text(&mut record, "text")
    }

    fn texts<'a>(&self, item: &'a String) -> Vec<&'a str> {
        vec![item]
    }

    fn prepare(&self, items: &mut Vec<String>) -> Result<Asked> {
        let long = items.iter().position(|text| text.len() > LONGEST);
        if let Some(index) = long {
            let found = items[index].len();
            return Err(Error::InputTooLong { limit: LONGEST, found, request: 0, index }.into());
        }
        let sequence = |text: &String| Tokens {
            ids: text.bytes().map(u32::from).collect(),
            types: Vec::new(),
        };
        let sequences = items.iter().map(sequence).collect();
        let finish = |said: &[Said<'_>]| {
            let answer = |said: &Said<'_>| {
                let pooled: &[f32] = said.as_ref().map_or(&[], |(_, answers)| &answers.pooled);
                let bytes = pooled.iter().flat_map(|number| number.to_le_bytes()).collect();
                Answer { tokens: u32::try_from(pooled.len()).unwrap(), cut: 0, bytes }
            };
            Ok(said.iter().map(answer).collect())
        };
        let wanted = Wanted::default();
        let prepared = Prepared::new(sequences, Grouping::AsTheyCome, wanted, finish);
        Ok(Asked::Sequences(prepared))
    }

    fn at_fault(&self, error: &anyhow::Error, _: &[String]) -> Option<usize> {
        match error.downcast_ref()? {
            Error::InputTooLong { index, .. } => Some(*index),
            _ => None,
        }
    }

    fn batch_tokens(&self) -> usize {
        16
    }

    fn measure(&self) -> Measure {
        Measure::Tokens
    }

    fn run(&self, sequences: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        let all = sequences.len();
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(all));
        if left.is_err() {
            return Err(Error::Model("broken".into()));
        }
        self.ran.fetch_add(all, Ordering::Relaxed);
        self.passes.fetch_add(1, Ordering::Relaxed);
        let pooled = |tokens: &Tokens| tokens.ids.iter().map(|&id| id as f32).collect();
        let answer =
            |one: &Planned<'_>| Answers { pooled: pooled(one.tokens), ..Answers::default() };
        Ok(sequences.iter().map(answer).collect())
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column { name: "bytes", kind: Kind::List(Element::F32) }]
    }

    fn cells(&self, answer: &Answer, _: &[u8]) -> Result<Vec<Cell>> {
        let four = |four: &[u8]| f32::from_le_bytes(four.try_into().unwrap());
        Ok(vec![Cell::List(Numbers::F32(answer.bytes.chunks_exact(4).map(four).collect()))])
    }
}

#[derive(Debug, clap::Parser)]
struct Args {
    #[arg(long = "in")]
    input: PathBuf,
    #[command(flatten)]
    files: FileArgs,
}

fn settings() -> Settings {
    Settings::new([("model", "echo".to_owned())]).unwrap()
}

fn work_through(dir: &Path, work: &Echo, out: &str, more: &[&str]) -> Result<String> {
    in_chunks(dir, work, out, more, ChunkSize::USUAL)
}

fn in_chunks(
    dir: &Path,
    work: &Echo,
    out: &str,
    more: &[&str],
    chunk: ChunkSize,
) -> Result<String> {
    let (input, out) = (dir.join("in.jsonl"), dir.join(out));
    let base =
        ["test", "--in", input.to_str().unwrap(), "--out", out.to_str().unwrap(), "--skip-bad"];
    let args = Args::parse_from(base.iter().chain(more));
    run_in_chunks(work, settings(), &args.input, &args.files, true, chunk)
}

/// A row of the input: a text, or a line that is none.
#[derive(Debug, Clone)]
enum Line {
    Text(String),
    Bad,
    Blank,
}

/// From a row a chunk to all rows in one.
fn chunks() -> impl Strategy<Value = ChunkSize> {
    (1usize..80, 1u64..30).prop_map(|(bytes, rows)| ChunkSize { bytes, rows })
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = prop_oneof![
        12 => "[a-c]{0,3}".prop_map(Line::Text),
        2 => "[a-z]{5,16}".prop_map(Line::Text),
        1 => Just(Line::Bad),
        1 => Just(Line::Blank),
    ];
    prop::collection::vec(line, 0..60)
}

fn input(lines: &[Line]) -> String {
    let mut all = String::new();
    for (at, line) in lines.iter().enumerate() {
        let id = if at % 3 == 0 { json!(at) } else { json!(format!("row {at}")) };
        let row = match line {
            Line::Text(text) if at % 7 == 6 => json!({ "text": text }),
            Line::Text(text) => json!({ "id": id, "text": text, "more": [1, {"text": "no"}] }),
            Line::Bad => json!({ "id": id, "text": at }),
            Line::Blank => Value::Null,
        };
        let row = if row.is_null() { String::new() } else { row.to_string() };
        writeln!(all, "{row}").unwrap();
    }
    all
}

/// What a loop over the rows would write.
fn expected(lines: &[Line]) -> String {
    let mut all = String::new();
    for (at, line) in lines.iter().enumerate() {
        let Line::Text(text) = line else { continue };
        if text.len() > LONGEST {
            continue;
        }
        let id = match at {
            at if at % 7 == 6 => (at + 1).to_string(),
            at if at % 3 == 0 => at.to_string(),
            at => format!("\"row {at}\""),
        };
        let key = settings().key([text.as_str()]);
        let bytes: Vec<f32> = text.bytes().map(f32::from).collect();
        let bytes = serde_json::to_string(&bytes).unwrap();
        writeln!(all, "{{\"id\":{id},\"key\":\"{key}\",\"bytes\":{bytes}}}").unwrap();
    }
    all
}

fn distinct(lines: &[Line]) -> usize {
    let texts = lines.iter().filter_map(|line| match line {
        // What is empty has no sequence to run.
        Line::Text(text) if (1..=LONGEST).contains(&text.len()) => Some(text),
        _ => None,
    });
    texts.collect::<std::collections::HashSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_output_is_that_of_a_loop_however_often_it_breaks(
        lines in lines(),
        breaks in prop::collection::vec(0usize..40, 0..4),
        part_tokens in prop::sample::select(vec!["1", "7", "1000"]),
        chunk in chunks(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in.jsonl"), input(&lines)).unwrap();
        let more = ["--part-tokens", part_tokens];
        let mut ran = 0;
        for texts in breaks {
            let work = Echo::breaking_after(texts);
            // It may get through all the same.
            let _ = in_chunks(dir.path(), &work, "out.jsonl", &more, chunk);
            ran += work.ran.load(Ordering::Relaxed);
        }
        let work = Echo::breaking_after(usize::MAX);
        in_chunks(dir.path(), &work, "out.jsonl", &more, chunk).unwrap();
        ran += work.ran.load(Ordering::Relaxed);
        let found = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
        prop_assert_eq!(found, expected(&lines));
        // The answers to the chunks that the model had when it broke are lost, so that more may have run.
        prop_assert!(ran >= distinct(&lines));
        let again = Echo::breaking_after(0);
        work_through(dir.path(), &again, "out.jsonl", &more).unwrap();
        prop_assert_eq!(again.ran.load(Ordering::Relaxed), 0);
        let found = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
        prop_assert_eq!(found, expected(&lines));
    }

    #[test]
    fn shards_compute_each_text_once_and_make_the_same_output(
        lines in lines(),
        count in 1u32..5,
        chunk in chunks(),
        gone in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in.jsonl"), input(&lines)).unwrap();
        let mut ran = Vec::new();
        let mut folders = Vec::new();
        for index in (0..count).rev() {
            let work = Echo::breaking_after(usize::MAX);
            let out = format!("shard-{index}.jsonl");
            let shard = format!("{index}/{count}");
            in_chunks(dir.path(), &work, &out, &["--shard", &shard], chunk).unwrap();
            assert!(!dir.path().join(&out).exists());
            ran.push(work.ran.load(Ordering::Relaxed));
            folders.push(dir.path().join(format!("{out}.parts")).display().to_string());
        }
        prop_assert_eq!(ran.iter().sum::<usize>(), distinct(&lines));

        let none = Echo::breaking_after(0);
        let join: Vec<&str> = std::iter::once("--join").chain(folders.iter().map(String::as_str)).collect();
        let long = lines.iter().any(|line| matches!(line, Line::Text(text) if text.len() > LONGEST));
        let joined = work_through(dir.path(), &none, "all.jsonl", &join);
        // What was refused is refused again by a run that computes, not by one that only joins.
        prop_assert_eq!(joined.is_err(), long);
        if !long {
            let found = std::fs::read_to_string(dir.path().join("all.jsonl")).unwrap();
            prop_assert_eq!(found, expected(&lines));
        }

        let gone = gone.index(folders.len());
        let mut less = join;
        less.remove(gone + 1);
        let work = Echo::breaking_after(0);
        let joined = work_through(dir.path(), &work, "less.jsonl", &less);
        prop_assert_eq!(joined.is_err(), ran[gone] > 0 || long || has_empty(&lines, gone, count));
        prop_assert_eq!(dir.path().join("less.jsonl").exists(), joined.is_ok());
    }
}

/// Chunks of 20 tokens where a micro-batch has 16: what is left of one runs with the next. One without texts keeps its place.
#[test]
fn the_last_micro_batch_of_a_chunk_is_filled_from_the_next() {
    let chunk = |work: &Echo, number: u64| {
        let mut texts: Vec<String> = (0..5).map(|at| format!("{number:03}{at}")).collect();
        let asked = (number != 2).then(|| work.prepare(&mut texts).unwrap());
        let (keys, places, answers) = (Vec::new(), Vec::new(), Vec::new());
        Tokenised { keys, places, rows: number, progress: (0, None), asked, answers }
    };
    for (numbers, passes) in
        [(vec![0], 2), (vec![0, 1], 3), (vec![0, 1, 3, 4], 5), (vec![0, 2, 3], 4)]
    {
        let work = Echo::breaking_after(usize::MAX);
        let (to_run, prepared) = sync_channel(numbers.len());
        let (to_write, answered) = sync_channel(numbers.len());
        for &number in &numbers {
            to_run.send(chunk(&work, number)).unwrap();
        }
        drop(to_run);
        tokenised::run(&work, prepared, to_write).unwrap();
        assert_eq!(work.passes.into_inner(), passes, "{numbers:?}");
        for (number, chunk) in numbers.iter().zip(answered) {
            assert_eq!(chunk.rows, *number);
            let first = chunk.answers.first().map(|answers| answers.pooled.clone());
            let text = format!("{number:03}0");
            assert_eq!(first, chunk.asked.map(|_| text.bytes().map(f32::from).collect()));
        }
    }
}

/// Whether the shard that is gone had the empty text, which runs nothing and has an answer all the same.
fn has_empty(lines: &[Line], gone: usize, count: u32) -> bool {
    let shard: Shard = format!("{}/{count}", count as usize - 1 - gone).parse().unwrap();
    let empty = |line: &Line| matches!(line, Line::Text(text) if text.is_empty());
    lines.iter().any(empty) && shard.has(settings().key([""]))
}
