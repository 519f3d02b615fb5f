//! `defrost rerank --in`: the cases of a file, a query and its documents a row. How files are worked through: [`crate::bulk`].
//!
//! An answer holds the model's own number for every document, in the order of the case (little-endian: f32, and 1 if the
//! document was cut, else 0). Order, normalisation and `--top-k` belong to the output and cost no computing.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use defrost_inference::{
    Answers, Error, Normalization, Prepared, Reranker, Score, ScoreRequest, Tokens, Wanted,
};

use super::Args;
use crate::bulk::{
    self, Answer, Cell, Column, Datum, Element, Kind, Numbers, Record, Settings, Work, kind,
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
        ("backend", info.backend.name().to_owned()),
        ("max_length", info.max_length.to_string()),
        ("instruction", args.instruction.clone().unwrap_or_default()),
    ])?;
    let cases = Cases { args, reranker, batch_tokens };
    say!("{}", bulk::run(&cases, settings, input, &args.files, args.json)?)
}

struct Cases<'a> {
    args: &'a Args,
    reranker: &'a Reranker,
    batch_tokens: usize,
}

impl Cases<'_> {
    /// Best first; of equals the earlier one.
    fn ranked(&self, raw: &[f32]) -> (Normalization, Vec<(u32, f64)>) {
        let (info, normalization) = (self.reranker.info(), self.args.normalization());
        let score = |raw: f32| normalization.apply(info.kind, raw, info.estimated_max);
        let mut ranked: Vec<(u32, f64)> = (0..).zip(raw.iter().map(|&raw| score(raw))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.args.top_k > 0 {
            ranked.truncate(self.args.top_k);
        }
        (normalization, ranked)
    }
}

impl Work for Cases<'_> {
    type Item = ScoreRequest;

    fn fields(&self) -> (Vec<&str>, usize) {
        (vec![&self.args.cases.query_field, &self.args.cases.documents_field], 2)
    }

    fn item(&self, mut record: Record) -> Result<ScoreRequest, String> {
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
        Ok(ScoreRequest {
            query,
            documents: texts.collect::<Result<_, String>>()?,
            instruction: self.args.instruction.clone(),
            ..ScoreRequest::default()
        })
    }

    fn texts<'a>(&self, item: &'a ScoreRequest) -> Vec<&'a str> {
        std::iter::once(&item.query).chain(&item.documents).map(String::as_str).collect()
    }

    fn prepare(&self, items: &mut Vec<ScoreRequest>) -> Result<Prepared<Vec<Answer>>, Error> {
        Ok(self.reranker.prepare(items)?.map(|all| all.iter().map(|case| encode(case)).collect()))
    }

    fn at_fault(error: &Error) -> Option<usize> {
        match error {
            Error::NonFinite { request, .. } => Some(*request),
            _ => None,
        }
    }

    fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    fn run(&self, sequences: &[&Tokens], wanted: Wanted) -> Result<Vec<Answers>, Error> {
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

    fn cells(&self, answer: &Answer) -> Result<Vec<Cell>> {
        let (raw, cut) = decode(&answer.bytes)?;
        let (normalization, ranked) = self.ranked(&raw);
        let (indices, scores) = ranked.into_iter().unzip();
        Ok(vec![
            Cell::Text(normalization.score_type(self.reranker.info().kind)),
            Cell::List(Numbers::U32(indices)),
            Cell::List(Numbers::F64(scores)),
            Cell::List(Numbers::U32(cut)),
            Cell::Number(answer.tokens),
        ])
    }
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
