//! `defrost rerank --in`: the cases of a file, a query and its documents a row. How files are worked through: [`crate::bulk`].
//!
//! An answer holds the model's own number for every document, in the order of the case (little-endian: f32, and 1 if the
//! document was cut, else 0). Order, normalisation and number of results belong to the output and cost no computing: what a
//! row says of them waits in the list of rows. What a row says of its instruction and of cutting texts is in its key.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{Error, Reranker, Score, ScoreScale, ScoreTask, Truncation};
use serde_json::Map;

use super::options::{self, Options};
use super::{Args, tell_ignored};
use crate::bulk::{
    self, Answer, Asked, Cell, Column, Datum, Element, Kind, Numbers, Operation, Record, Settings,
    kind,
};
use crate::print::say;

/// Changes with everything that makes other scores of the same model, settings and texts.
const VERSION: &str = "1";

/// Fields of a case.
#[derive(Debug, clap::Args)]
pub(super) struct CaseArgs {
    /// The field with a row's query.
    #[arg(long, value_name = "FIELD", default_value = "query")]
    query_field: String,
    /// The field with a row's documents: a list of strings, or of objects with a text and maybe a title.
    #[arg(long, value_name = "FIELD", default_value = "documents")]
    documents_field: String,
}

/// Scores the cases of a file.
pub(super) fn run(
    args: &Args,
    input: &Path,
    reranker: &Reranker,
    batch_tokens: usize,
) -> Result<()> {
    let info = reranker.info();
    let settings = Settings::new([
        ("work", format!("rerank {VERSION}")),
        ("model", info.snapshot.clone()),
        ("backend", info.backend.to_owned()),
        ("max_length", info.max_length.to_string()),
        ("instruction", args.instruction.clone().unwrap_or_default()),
    ])?;
    // What is wrong with the command line is wrong before the first row is read.
    let usual = Options::read(&Map::new(), args).map_err(anyhow::Error::msg)?;
    usual.check(info).map_err(anyhow::Error::msg)?;
    let cases = Cases { args, reranker, batch_tokens, ignored: AtomicU64::new(0) };
    let report = bulk::run(&cases, settings, input, &args.files, args.json);
    tell_ignored(info, cases.ignored.into_inner());
    say!("{}", report?)
}

struct Cases<'a> {
    args: &'a Args,
    reranker: &'a Reranker,
    batch_tokens: usize,
    /// Cases whose instruction the model does not take.
    ignored: AtomicU64,
}

/// A case that is to be scored.
pub(super) struct Item {
    request: ScoreTask,
    /// The settings that the case itself names.
    own: Vec<(&'static str, String)>,
    note: Note,
}

/// How the scores of a case are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    /// 0: all.
    top_n: u32,
    normalization: ScoreScale,
}

const NORMALIZATIONS: [ScoreScale; 3] = [ScoreScale::Sigmoid, ScoreScale::Raw, ScoreScale::Mxbai];

impl Note {
    fn encode(self) -> Vec<u8> {
        let at = NORMALIZATIONS.iter().position(|one| *one == self.normalization).unwrap_or(0);
        let [a, b, c, d] = self.top_n.to_le_bytes();
        vec![a, b, c, d, u8::try_from(at).unwrap_or(0)]
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let &[a, b, c, d, at] = bytes else { bail!("a temporary file changed (TMPDIR)") };
        let normalization = NORMALIZATIONS.get(usize::from(at)).copied();
        let normalization = normalization.context("a temporary file changed (TMPDIR)")?;
        Ok(Self { top_n: u32::from_le_bytes([a, b, c, d]), normalization })
    }
}

impl Cases<'_> {
    /// The options among the fields that are left of a row.
    fn options(&self, record: Record) -> Result<Options, String> {
        let mut said = Map::new();
        for (name, datum) in record {
            let is_read = options::FIELDS.iter().chain(&options::REFUSED).any(|one| *one == name);
            if is_read {
                let what = bulk::not(&name, "a value of JSON", &datum);
                said.insert(name, bulk::json(datum).ok_or(what)?);
            }
        }
        let mut options = Options::read(&said, self.args)?;
        options.check(self.reranker.info())?;
        if !self.reranker.info().takes_instruction && options.instruction.take().is_some() {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
        Ok(options)
    }

    /// Best first; of equals the earlier one.
    fn ranked(&self, raw: &[f32], note: Note) -> Vec<(u32, f64)> {
        let (info, normalization) = (self.reranker.info(), note.normalization);
        let score = |raw: f32| normalization.apply(info.kind, raw, info.estimated_max);
        let mut ranked: Vec<(u32, f64)> = (0..).zip(raw.iter().map(|&raw| score(raw))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if note.top_n > 0 {
            ranked.truncate(note.top_n as usize);
        }
        ranked
    }
}

impl Operation for Cases<'_> {
    type Item = Item;

    fn fields(&self) -> (Vec<&str>, usize) {
        let own: [&str; 2] = [&self.args.cases.query_field, &self.args.cases.documents_field];
        let options = options::FIELDS.into_iter().chain(options::REFUSED);
        (own.into_iter().chain(options).collect(), 2)
    }

    fn item(&self, mut record: Record) -> Result<Item, String> {
        let CaseArgs { query_field, documents_field } = &self.args.cases;
        let query = bulk::text(&mut record, query_field)?;
        if query.trim().is_empty() {
            return Err(format!("{query_field:?} is empty"));
        }
        let documents = match record.remove(documents_field) {
            Some(Datum::List(documents)) if !documents.is_empty() => documents,
            Some(Datum::List(_)) => return Err(format!("{documents_field:?} is empty")),
            Some(other) => return Err(bulk::not(documents_field, "a list of texts", &other)),
            None => {
                return Err(format!("there is no {documents_field:?}, expected a list of texts"));
            }
        };
        let texts = documents.into_iter().enumerate().map(|(at, document)| {
            text(document).map_err(|what| format!("{documents_field:?} number {at}: {what}"))
        });
        let documents = texts.collect::<Result<_, String>>()?;
        let Options { top_n, normalization, instruction, truncation } = self.options(record)?;
        let mut own = cuts(&truncation);
        if instruction != self.args.instruction {
            own.push(("instruction", instruction.clone().unwrap_or_default()));
        }
        let note = Note { top_n: u32::try_from(top_n).unwrap_or(u32::MAX), normalization };
        let request = ScoreTask { query, documents, instruction, truncation };
        Ok(Item { request, own, note })
    }

    fn texts<'a>(&self, Item { request, .. }: &'a Item) -> Vec<&'a str> {
        std::iter::once(&request.query).chain(&request.documents).map(String::as_str).collect()
    }

    fn own(&self, item: &Item) -> Vec<(&'static str, String)> {
        item.own.clone()
    }

    fn note(&self, item: &Item) -> Vec<u8> {
        item.note.encode()
    }

    fn prepare(&self, items: &mut Vec<Item>) -> Result<Asked> {
        let requests: Vec<ScoreTask> =
            items.iter_mut().map(|item| std::mem::take(&mut item.request)).collect();
        let prepared = self.reranker.prepare(&requests);
        for (item, request) in items.iter_mut().zip(requests) {
            item.request = request;
        }
        Ok(Asked::Sequences(prepared?.map(|all| all.iter().map(|case| encode(case)).collect())))
    }

    fn at_fault(&self, error: &anyhow::Error, items: &[Item]) -> Option<usize> {
        match error.downcast_ref()? {
            Error::NonFinite { request, .. } => Some(*request),
            Error::TooLong { .. } => items.iter().position(|Item { request, .. }| {
                request.truncation.forbidden
                    && self.reranker.prepare(std::slice::from_ref(request)).is_err()
            }),
            _ => None,
        }
    }

    fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    fn measure(&self) -> Measure {
        self.reranker.measure()
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        self.reranker.run(sequences, wanted)
    }

    fn columns(&self) -> Vec<Column> {
        [
            ("score_type", Kind::Text),
            ("indices", Kind::List(Element::U32)),
            ("scores", Kind::List(Element::F64)),
            ("truncated", Kind::List(Element::U32)),
            ("tokens", Kind::Number),
        ]
        .map(|(name, kind)| Column { name, kind })
        .into()
    }

    fn cells(&self, answer: &Answer, note: &[u8]) -> Result<Vec<Cell>> {
        let (raw, cut) = decode(&answer.bytes)?;
        let note = Note::decode(note)?;
        let (indices, scores) = self.ranked(&raw, note).into_iter().unzip();
        Ok(vec![
            Cell::Text(note.normalization.score_type(self.reranker.info().kind)),
            Cell::List(Numbers::U32(indices)),
            Cell::List(Numbers::F64(scores)),
            Cell::List(Numbers::U32(cut)),
            Cell::Number(answer.tokens),
        ])
    }
}

/// How a row wants its texts cut, where it says so, as settings.
fn cuts(truncation: &Truncation) -> Vec<(&'static str, String)> {
    let numbers = [
        ("max_tokens_per_query", truncation.max_tokens_per_query),
        ("max_tokens_per_doc", truncation.max_tokens_per_doc),
        ("max_chunks_per_doc", truncation.max_chunks_per_doc),
        ("max_tokens", truncation.max_tokens),
    ];
    let flags = [("cut_start", truncation.from_start), ("cut_refused", truncation.forbidden)];
    let numbers =
        numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())));
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
    numbers.chain(flags.map(|(name, _)| (name, "true".to_owned()))).collect()
}

fn text(document: Datum) -> Result<String, String> {
    match document {
        Datum::Text(text) => Ok(text),
        Datum::Object(mut record) => {
            let text = bulk::text(&mut record, "text")?;
            match record.get("title") {
                None | Some(Datum::Null) => Ok(text),
                Some(Datum::Text(title)) => Ok(format!("{title} {text}").trim().to_owned()),
                Some(other) => Err(bulk::not("title", "a string", other)),
            }
        }
        other => {
            Err(format!("expected a string or an object with a \"text\", found {}", kind(&other)))
        }
    }
}

/// Scores as they are stored.
fn encode(scores: &[Score]) -> Answer {
    let mut bytes = Vec::with_capacity(5 * scores.len());
    for score in scores {
        bytes.extend(score.raw.to_le_bytes());
        bytes.push(u8::from(score.truncated));
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let tokens = scores.iter().map(|score| score.tokens).sum();
    let cut = scores.iter().filter(|score| score.truncated).count();
    Answer { tokens: count(tokens), cut: count(cut), bytes }
}

/// The scores, and which documents were cut.
fn decode(bytes: &[u8]) -> Result<(Vec<f32>, Vec<u32>)> {
    let documents = bytes.chunks_exact(5);
    ensure!(documents.remainder().is_empty(), "an answer ends too early");
    let raw =
        documents.clone().map(|five| f32::from_le_bytes([five[0], five[1], five[2], five[3]]));
    let cut =
        documents.enumerate().filter(|(_, five)| five[4] != 0).map(|(at, _)| u32::try_from(at));
    Ok((raw.collect(), cut.collect::<Result<_, _>>().context("too many documents")?))
}
