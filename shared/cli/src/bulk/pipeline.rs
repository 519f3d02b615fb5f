//! From rows to parts, on four threads: one reads ahead, one tokenises, one runs the model (with the model's own threads),
//! one writes. Queues hold so few chunks that a slow stage stops the ones before it.
//!
//! A stage that fails drops its ends of the queues, so that all others come to an end; its error is the run's. So does one
//! whose thread the system does not give.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use anyhow::{Context, Result, anyhow, bail};

use super::input::{Datum, Input, Record, Unread, not};
use super::key::Key;
use super::part::PartWriter;
use super::parts::Parts;
use super::progress::Progress;
use super::report::Refusals;
use super::shard::Shard;
use super::spool::{Id, Spool};
use super::tokenised::{self, Tokenised};
use super::{Asked, Operation};

/// Where a chunk ends: with the row that makes it as large as either.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkSize {
    /// Bytes of text.
    pub(super) bytes: usize,
    /// Rows, of which those whose answers are there bring no text: none is computed, and progress is told.
    pub(super) rows: u64,
}

impl ChunkSize {
    /// 128 KiB are some 30,000 tokens, a dozen micro-batches. Vectors of all of them, at 1,024 numbers each, are 120 MB.
    pub(super) const USUAL: Self = Self { bytes: 128 << 10, rows: 4096 };
}

/// Chunks that wait before each stage: one is enough as long as stages are even, two if not.
const WAITING: usize = 2;
/// Bytes of a part, whatever its tokens: offsets in it are 32 bits, and it is read from end to end before use.
const PART_BYTES: u64 = 64 << 20;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Fields that may hold the id, the first that is there counts.
    pub(super) ids: &'a [&'a str],
    /// Whether one of the id fields must be there.
    pub(super) id_needed: bool,
    pub(super) shard: Shard,
    pub(super) skip_bad: bool,
    pub(super) part_tokens: u32,
    /// Whether answers that are missing are computed.
    pub(super) compute: bool,
    pub(super) chunk: ChunkSize,
}

/// Texts that are computed together, and rows that need nothing.
struct Chunk<I> {
    items: Vec<I>,
    keys: Vec<Key>,
    /// The places where the texts were first met.
    places: Vec<String>,
    rows: u64,
    bytes: usize,
    progress: (u64, Option<u64>),
}

/// What a run has one of.
pub(super) struct Run<'a, W> {
    pub(super) work: &'a W,
    pub(super) plan: Plan<'a>,
    pub(super) parts: &'a Parts,
    pub(super) progress: &'a Progress,
    pub(super) refusals: &'a Mutex<Refusals>,
}

/// What was read and computed.
pub(super) struct Done {
    /// All rows, unless only a shard is computed.
    pub(super) spool: Option<Spool>,
    /// Rows of the input.
    pub(super) rows: u64,
    /// Rows that could not be read.
    pub(super) unread: u64,
    /// Fields that nothing reads, with the number of rows that have them.
    pub(super) fields: Unread,
    pub(super) computed: Computed,
}

/// What the reader has got.
struct Read {
    spool: Option<Spool>,
    rows: u64,
    unread: u64,
    fields: Unread,
}

/// What the writer has got.
#[derive(Debug, Default)]
pub(super) struct Computed {
    pub(super) answers: u64,
    pub(super) tokens: u64,
    pub(super) cut: u64,
}

impl<W: Operation> Run<'_, W> {
    /// Reads all rows and sees to it that all of the shard have an answer in a part.
    pub(super) fn compute(&self, input: Input, spool: Option<Spool>) -> Result<Done> {
        let (to_prepare, read) = sync_channel(WAITING);
        let (to_run, prepared) = sync_channel(WAITING);
        let (to_write, answered) = sync_channel(WAITING);
        thread::scope(|scope| {
            let reader = start(scope, "read", move || self.read(input, spool, &to_prepare))?;
            let preparer = start(scope, "prepare", move || self.prepare(&read, &to_run))?;
            let writer = start(scope, "write", move || self.write(&answered))?;
            let model = tokenised::run(self.work, prepared, to_write);
            let (reader, preparer, writer) = (ended(reader), ended(preparer), ended(writer));
            // A stage that merely finds another one gone is no failure, so there is one error.
            model?;
            preparer?;
            let computed = writer?;
            let Read { spool, rows, unread, fields } = reader?;
            Ok(Done { spool, rows, unread, fields, computed })
        })
    }

    fn read(
        &self,
        mut input: Input,
        mut spool: Option<Spool>,
        to: &SyncSender<Chunk<W::Item>>,
    ) -> Result<Read> {
        let (mut rows, mut unread) = (0, 0);
        let mut chunk = Chunk::default();
        while let Some(row) = input.next()? {
            chunk.rows += 1;
            rows += 1;
            let place = || input.place(row.number);
            let read = row.record.and_then(|mut record| {
                let id = self.id(&mut record, row.number)?;
                Ok((id, self.work.item(record)?))
            });
            match read {
                Err(what) => {
                    self.refuse(&place(), &what)?;
                    unread += 1;
                }
                Ok((id, item)) => {
                    let texts = self.work.texts(&item);
                    let key = self.key(&item, &texts)?;
                    if !self.plan.shard.has(key) {
                        continue;
                    }
                    if let Some(spool) = &mut spool {
                        spool.push(&key, &id, &self.work.note(&item))?;
                    }
                    if self.plan.compute && self.parts.claim(&key)? {
                        chunk.bytes += texts.iter().map(|text| text.len()).sum::<usize>();
                        chunk.keys.push(key);
                        chunk.places.push(place());
                        chunk.items.push(item);
                    }
                }
            }
            if chunk.bytes >= self.plan.chunk.bytes || chunk.rows >= self.plan.chunk.rows {
                chunk.progress = input.progress();
                if to.send(std::mem::take(&mut chunk)).is_err() {
                    return Ok(Read { spool, rows, unread, fields: input.unread() });
                }
            }
        }
        chunk.progress = input.progress();
        // A receiver that does not take it has failed, and says so.
        let _ = to.send(chunk);
        Ok(Read { spool, rows, unread, fields: input.unread() })
    }

    /// What names the answer to a row.
    fn key(&self, item: &W::Item, texts: &[&str]) -> Result<Key> {
        let settings = self.parts.settings();
        let own = self.work.own(item);
        if own.is_empty() {
            return Ok(settings.key(texts.iter().copied()));
        }
        Ok(settings.with(own)?.key(texts.iter().copied()))
    }

    /// What a row is called.
    fn id(&self, record: &mut Record, number: u64) -> Result<Id, String> {
        let found = self.plan.ids.iter().find_map(|&name| Some((name, record.get(name)?)));
        match found {
            Some((_, Datum::Text(text))) => Ok(Id::Text(text.clone())),
            Some((_, Datum::Number(number))) => Ok(Id::Number(number.clone())),
            Some((name, other)) => Err(not(name, "a string or a number", other)),
            None if self.plan.id_needed => {
                Err(format!("there is no {:?}, which --id-field names", self.plan.ids.join(" or ")))
            }
            None => Ok(Id::Number(number.to_string())),
        }
    }

    /// Leaves a row out, if that is wanted.
    fn refuse(&self, place: &str, what: &str) -> Result<()> {
        if !self.plan.skip_bad {
            bail!("{place}: {what}; --skip-bad leaves such rows out");
        }
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).add(place, what);
        Ok(())
    }

    fn prepare(&self, from: &Receiver<Chunk<W::Item>>, to: &SyncSender<Tokenised>) -> Result<()> {
        for Chunk { mut items, mut keys, mut places, rows, progress, .. } in from {
            let asked = loop {
                if items.is_empty() {
                    break None;
                }
                match self.work.prepare(&mut items) {
                    Ok(asked) => break Some(asked),
                    Err(error) => {
                        let Some(at) = self.work.at_fault(&error, &items) else {
                            return Err(error);
                        };
                        self.refuse(&places[at], &error.to_string())?;
                        self.parts.refuse(&keys[at])?;
                        items.remove(at);
                        keys.remove(at);
                        places.remove(at);
                    }
                }
            };
            let answers = Vec::new();
            if to.send(Tokenised { keys, places, rows, progress, asked, answers }).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, from: &Receiver<Tokenised>) -> Result<Computed> {
        let mut computed = Computed::default();
        let mut part: Option<(PartWriter, u64)> = None;
        for Tokenised { keys, places, rows, progress, asked, answers } in from {
            let finished = match asked {
                Some(Asked::Sequences(prepared)) => {
                    prepared.finish(&answers).map_err(|error| self.named(error.into(), &places))?
                }
                Some(Asked::Answered(finished)) => finished,
                None => Vec::new(),
            };
            let mut tokens = 0;
            for (key, answer) in keys.iter().zip(&finished) {
                let (writer, in_part) = match &mut part {
                    Some(part) => part,
                    None => part.insert((self.parts.create()?, 0)),
                };
                writer.push(*key, answer)?;
                *in_part += u64::from(answer.tokens);
                tokens += u64::from(answer.tokens);
                computed.cut += u64::from(answer.cut);
                if (*in_part >= u64::from(self.plan.part_tokens) || writer.bytes() >= PART_BYTES)
                    && let Some((writer, _)) = part.take()
                {
                    self.parts.add(writer)?;
                }
            }
            computed.answers += finished.len() as u64;
            computed.tokens += tokens;
            self.progress.add(rows, finished.len() as u64, tokens, progress);
        }
        // Also where another stage has failed: what is computed is computed.
        if let Some((writer, _)) = part {
            self.parts.add(writer)?;
        }
        Ok(computed)
    }

    /// The error with the place of the row that it is about.
    fn named(&self, error: anyhow::Error, places: &[String]) -> anyhow::Error {
        let place = self.work.at_fault(&error, &[]).and_then(|at| places.get(at)).cloned();
        match place {
            Some(place) => error.context(place),
            None => error,
        }
    }
}

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    stage: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let started = Builder::new().name(format!("defrost-{name}")).spawn_scoped(scope, stage);
    started.with_context(|| {
        format!(
            "cannot start the thread of `{name}`: a file is worked through on 3 threads beside the model's (--num-threads); \
             see `ulimit -u` and the container's limit of processes"
        )
    })
}

fn ended<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

impl<I> Default for Chunk<I> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            keys: Vec::new(),
            places: Vec::new(),
            rows: 0,
            bytes: 0,
            progress: (0, None),
        }
    }
}
