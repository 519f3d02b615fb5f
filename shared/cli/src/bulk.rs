//! Files in, files out: how `defrost embed` and `defrost rerank --in` work through more rows than memory holds.
//!
//! ```text
//! row --key--> has an answer? --no--> chunk --tokenise--> sequences --model--> answers --> part --rename--> index
//!  `--> spool (id, key)                                                                                       |
//!         output: for each row of the spool, in order, the answer to its key  <-------------------------------'
//! ```
//!
//! An answer depends on model, settings and text alone, to the last bit; their hash is its key. The output depends on the
//! rows and their answers alone. So it is the same, byte for byte, however often the run was killed on the way, in
//! whatever order and on how many machines ([`shard`]) the answers were computed; equal texts are computed once, and a
//! later run with more rows computes what is new.
//!
//! Answers are kept in parts ([`part`]), files that appear complete or not at all, in a folder beside the output
//! ([`parts`]). The output is written under another name and renamed. What is lost with a killed process is the part
//! it was at: [`PART_TOKENS`] tokens of work.
//!
//! Reading, tokenising, the model and writing each have a thread, with short queues between them ([`pipeline`]). In memory are
//! some chunks, of which the model has two at a time, and one row group of the output; the index of keys and the list of rows are files ([`index`], [`spool`]).

mod index;
mod input;
mod key;
mod output;
mod part;
mod parts;
mod pipeline;
mod progress;
mod report;
mod shard;
mod spool;
#[cfg(test)]
mod tests;
mod tokenised;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use defrost_loader::Location;
use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{Error, Prepared};

use crate::overwrite;
use crate::print::note;

pub(crate) use input::{Datum, Record, Unread, json, kind, not, text};
pub(crate) use key::Settings;
pub(crate) use output::{Cell, Column, Element, Kind, Numbers};

use input::Input;
use output::{Form, Table};
use parts::{Lookup, Parts};
use pipeline::ChunkSize;
use progress::Progress;
use report::{Counts, Refusals};
use shard::Shard;
use spool::Spool;

/// Tokens of a part: seconds of work for a small model, two minutes for one of half a billion parameters.
const PART_TOKENS: u32 = 1 << 18;

/// Files and how they are worked through.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// Write here; the name ends in .parquet or .jsonl. Finished work is kept in OUT.parts: a run that was killed goes on there.
    #[arg(long, value_name = "OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Replace OUT if it is there, and create folders on its way if they are not. What an earlier run wrote is replaced
    /// without it, as long as OUT.parts is there.
    #[arg(long)]
    force: bool,
    /// The field with a row's name, a string or a number; default: _id, id, or else the row's number.
    #[arg(long, value_name = "FIELD")]
    id_field: Option<String>,
    /// Leave out rows that cannot be read, list and count them; without this the first one ends the run.
    #[arg(long)]
    skip_bad: bool,
    /// Compute only the texts of shard I of N (I from 0), into OUT.parts. Once all shards are done, a run without --shard
    /// writes OUT.
    #[arg(long, value_name = "I/N", conflicts_with = "join")]
    shard: Option<Shard>,
    /// Only write OUT, from the answers in OUT.parts and in these folders; fail if any is missing.
    #[arg(long, value_name = "PARTS", num_args = 0..)]
    join: Option<Vec<PathBuf>>,
    /// Tokens of work in one part, which is what a killed run loses at most.
    #[arg(long, value_name = "TOKENS", default_value_t = PART_TOKENS, value_parser = clap::value_parser!(u32).range(1..))]
    part_tokens: u32,
    /// Remove OUT.parts once OUT is written; without it a later run computes only what is new.
    #[arg(long, conflicts_with = "shard")]
    remove_parts: bool,
}

impl FileArgs {
    /// Whether the output may be written, with what `input` and `model` hold; asked before the model is loaded.
    pub(crate) fn check(&self, input: &Path, model: Option<&Location>) -> Result<()> {
        let Some(out) = &self.out else { bail!("give --out beside --in") };
        Form::of(out)?;
        let mut reads = vec![input];
        if let Some(Location::Path(path)) = model {
            reads.push(path);
        }
        let dir = Parts::dir_of(out);
        if std::fs::symlink_metadata(&dir).is_ok() && !dir.is_dir() {
            bail!("{} is no folder, in which finished work would be kept", dir.display());
        }
        for read in &reads {
            if overwrite::lies_in(read, &dir) {
                bail!(
                    "{} lies in {}, where this run keeps and removes files: put it elsewhere, or give another --out",
                    read.display(),
                    dir.display()
                );
            }
        }
        overwrite::check(out, &reads, self.force || Parts::are_in(&dir))?;
        overwrite::make_room(out)
    }
}

/// An answer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The number of tokens that were run for the answer.
    pub(crate) tokens: u32,
    /// The number of the answer's texts that were cut to fit.
    pub(crate) cut: u32,
    /// The answer itself, in a form that the work knows.
    pub(crate) bytes: Vec<u8>,
}

/// What the rows of a chunk ask, without their texts.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Sequences for the model to run.
    Sequences(Prepared<Vec<Answer>>),
    /// Nothing: a function elsewhere has answered.
    Answered(Vec<Answer>),
}

/// What is done with rows.
pub(crate) trait Operation: Sync {
    /// The question of one row.
    type Item: Send;

    /// The fields that it reads, of which the first so many must be there.
    fn fields(&self) -> (Vec<&str>, usize);

    /// What a row asks, or what is wrong with it.
    fn item(&self, record: Record) -> Result<Self::Item, String>;

    /// All the texts of an item, in an order that says which is which.
    fn texts<'a>(&self, item: &'a Self::Item) -> Vec<&'a str>;

    /// Tokenises items, or whatever else there is to do before the model runs. They are as they were, afterwards.
    fn prepare(&self, items: &mut Vec<Self::Item>) -> Result<Asked>;

    /// Settings that an item has of its own, on which its answer depends.
    fn own(&self, _: &Self::Item) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What an item says about how its answer is written, in at most 255 bytes.
    fn note(&self, _: &Self::Item) -> Vec<u8> {
        Vec::new()
    }

    /// Which item is at fault, if one is; of those that were to be prepared, where they are still there.
    fn at_fault(&self, error: &anyhow::Error, items: &[Self::Item]) -> Option<usize>;

    /// The most tokens of a micro-batch.
    fn batch_tokens(&self) -> usize;

    /// How full a micro-batch is.
    fn measure(&self) -> Measure;

    /// Runs a micro-batch, on the thread that loaded the model.
    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error>;

    /// The columns of the output, beside id and key.
    fn columns(&self) -> Vec<Column>;

    /// An answer in these columns, for an item that left this note.
    fn cells(&self, answer: &Answer, note: &[u8]) -> Result<Vec<Cell>>;
}

/// Works through a file; returns what there is to say about it.
pub(crate) fn run<W: Operation>(
    work: &W,
    settings: Settings,
    input: &Path,
    args: &FileArgs,
    json: bool,
) -> Result<String> {
    run_in_chunks(work, settings, input, args, json, ChunkSize::USUAL)
}

fn run_in_chunks<W: Operation>(
    work: &W,
    settings: Settings,
    input: &Path,
    args: &FileArgs,
    json: bool,
    chunk: ChunkSize,
) -> Result<String> {
    let Some(out) = &args.out else { bail!("give --out beside --in") };
    let form = Form::of(out)?;
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let (mut fields, needed) = work.fields();
    let needed = fields[..needed].to_vec();
    let ids: Vec<&str> = args.id_field.as_deref().map_or_else(|| vec!["_id", "id"], |id| vec![id]);
    fields.extend(&ids);
    let input = Input::open(input, &fields, &needed)?;
    let name = input.name().to_owned();
    let more = args.join.as_deref().unwrap_or_default();
    let (parts, found) = Parts::open(Parts::dir_of(out), more, shard, settings)?;
    for note in &found.notes {
        note!("{note}");
    }
    let progress = Progress::new();
    let refusals = Mutex::new(Refusals::default());
    let run = pipeline::Run {
        work,
        plan: pipeline::Plan {
            ids: &ids,
            id_needed: args.id_field.is_some(),
            shard,
            skip_bad: args.skip_bad,
            part_tokens: args.part_tokens,
            compute: args.join.is_none(),
            chunk,
        },
        parts: &parts,
        progress: &progress,
        refusals: &refusals,
    };
    let spool = args.shard.is_none().then(Spool::new).transpose()?;
    let done = run.compute(input, spool);
    progress.finish();
    refusals.into_inner().unwrap_or_else(PoisonError::into_inner).tell();
    let done = done?;
    if let Some(text) = done.fields.text() {
        note!("{name}: {text}");
    }
    if done.rows == 0 {
        note!("{name} has no rows");
    }
    let mut counts = Counts {
        refused: done.unread,
        reused: found.answers,
        computed: done.computed.answers,
        computed_tokens: done.computed.tokens,
        cut: if args.shard.is_some() { done.computed.cut } else { 0 },
        seconds: progress.seconds(),
        ..Counts::default()
    };
    if let Some(spool) = done.spool {
        write(work, spool, &parts, out, form, args, &mut counts)?;
    }
    let shard = args.shard.map(|shard| shard.to_string());
    let text = counts.report(out, shard.as_deref(), args.remove_parts, json)?;
    if args.remove_parts {
        parts.remove()?;
    }
    Ok(text)
}

/// Writes the output.
fn write<W: Operation>(
    work: &W,
    spool: Spool,
    parts: &Parts,
    out: &Path,
    form: Form,
    args: &FileArgs,
    counts: &mut Counts,
) -> Result<()> {
    let mut rows = spool.read()?;
    let mut answers = parts.answers();
    let (file, temporary) = part::create_new(&parts.temporary())?;
    let named = || format!("cannot write {}", temporary.display());
    let mut table = Table::new(file, form, work.columns())?;
    let mut missing = 0;
    while let Some((key, id, note)) =
        rows.next().context("cannot read a temporary file (TMPDIR)")?
    {
        match answers.get(&key)? {
            Lookup::Answer(answer) => {
                counts.row(&answer);
                if missing == 0 {
                    table.push(&id, &key, work.cells(&answer, &note)?).with_context(named)?;
                }
            }
            Lookup::Refused => counts.refused += 1,
            Lookup::Missing => missing += 1,
        }
    }
    if missing > 0 {
        // Only --join comes here: every other run has computed what was missing.
        let more = args.join.as_ref().map_or(0, Vec::len);
        bail!(
            "{missing} of {} rows have no answer in {} and {more} other folders: run the shards that are missing, or run \
             without --join to compute them here",
            counts.rows + missing,
            Parts::dir_of(out).display()
        );
    }
    table.finish().with_context(named)?;
    let named = format!("cannot rename {} to {}", temporary.display(), out.display());
    temporary.persist(out).context(named)
}
