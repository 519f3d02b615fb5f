//! `defrost embed --url`: the texts of a file embedded by a running function, over `/v1/embeddings`.
//!
//! A chunk of texts is asked for in requests of some texts each, one after the other, on the thread that otherwise tokenises
//! them: reading and writing go on meanwhile. Vectors come in base64, which is exact. What the function is and how it treats
//! texts is asked first (`/info`): the root of its snapshot is in the keys of answers, so that those of another model are
//! never taken for its own.
//!
//! A function tells how many tokens a request has and how many of its texts were cut, not which. So the output has no columns
//! for that, and the report tells sums; among the texts of a request tokens are shared out evenly.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use defrost_tasks::{Embedding, Input};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Args, InputType, Truncate, VectorKind, answer};
use crate::bulk::{Answer, Settings};
use crate::function::{Answer as Answered, Function, line};

/// The texts of a request. More bring no more speed: the function computes in micro-batches of some texts.
const TEXTS: usize = 64;
/// The texts of a request where each token has a vector: 512 tokens of 1,024 numbers each are 5 MB as JSON.
const TEXTS_OF_TOKENS: usize = 8;

/// A function that embeds.
pub(super) struct Remote {
    function: Function,
    info: Info,
    /// The request without its texts.
    body: Vec<(&'static str, Value)>,
    texts: usize,
}

/// What `/info` tells, as far as it matters.
#[derive(Debug, Deserialize)]
struct Info {
    snapshot: String,
    max_input_length: usize,
    dimensions: usize,
    normalizes: bool,
    takes_instruction: bool,
    max_client_batch_size: usize,
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    data: Vec<Entry>,
    usage: Usage,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: u32,
}

#[derive(Debug, Deserialize)]
struct Entry {
    index: usize,
    embedding: Option<String>,
    #[serde(default)]
    sparse_embedding: Map<String, Value>,
    #[serde(default)]
    colbert_embedding: Vec<Vec<f32>>,
}

/// A text that the function refuses, which is a row's fault and not the run's.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) index: usize,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl Remote {
    /// Asks what the function is, and whether it can do what is wanted.
    pub(super) fn new(args: &Args, url: &str) -> Result<Self> {
        let function = Function::new(url, &args.key)?;
        let answered = function.get("/info")?;
        if answered.status != 200 {
            bail!("{function}/info answered {}", answered.said());
        }
        let info: Info = serde_json::from_str(&answered.body).with_context(|| {
            format!("{function}/info does not tell of an embedding model of defrost: is `embed` at this address?")
        })?;
        if args.instruction.is_some() && !info.takes_instruction {
            bail!("--instruction: the model at {function} takes no instruction, leave it out");
        }
        let body = body(args, &info);
        let most = if args.has(VectorKind::Colbert) { TEXTS_OF_TOKENS } else { TEXTS };
        let texts = most.min(info.max_client_batch_size).max(1);
        let remote = Self { function, info, body, texts };
        // What is wrong with the request is wrong before the first row is read.
        remote.ask(&["?"])?;
        Ok(remote)
    }

    /// What vectors depend on beside the text.
    pub(super) fn settings(&self, version: &str) -> Result<Settings> {
        let own = [
            ("work", format!("embed {version} at a function")),
            ("model", self.info.snapshot.clone()),
            ("max_length", self.info.max_input_length.to_string()),
        ];
        let asked = self.body.iter().map(|(name, value)| match value {
            Value::String(text) => (*name, text.clone()),
            other => (*name, other.to_string()),
        });
        Settings::new(own.into_iter().chain(asked))
    }

    /// The vectors of these texts.
    pub(super) fn embed(&self, inputs: &[Input]) -> Result<Vec<Answer>> {
        let texts: Vec<&str> = inputs
            .iter()
            .map(|input| match input {
                Input::Text(text) => text.as_str(),
                Input::Tokens(_) => "",
            })
            .collect();
        let mut all = Vec::with_capacity(texts.len());
        for (at, texts) in texts.chunks(self.texts).enumerate() {
            let answers = self.ask(texts).map_err(|error| match error.downcast::<Refused>() {
                Ok(Refused { index, message }) => {
                    Refused { index: at * self.texts + index, message }.into()
                }
                Err(error) => error,
            });
            all.extend(answers?);
        }
        Ok(all)
    }

    fn ask(&self, texts: &[&str]) -> Result<Vec<Answer>> {
        let said = self.body.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut body: Map<String, Value> = said.collect();
        body.insert("input".to_owned(), json!(texts));
        let answered = self.function.post("/v1/embeddings", Value::Object(body).to_string())?;
        if answered.status != 200 {
            return Err(refused(&answered)
                .unwrap_or_else(|| anyhow!("{} answered {}", self.function, answered.said())));
        }
        let shape = || format!("{} did not answer in the shape of /v1/embeddings", self.function);
        let Embeddings { mut data, usage, warnings } =
            serde_json::from_str(&answered.body).with_context(shape)?;
        data.sort_by_key(|entry| entry.index);
        if !data.iter().map(|entry| entry.index).eq(0..texts.len()) {
            bail!(
                "{} did not embed each of {} texts once: it answered {} vectors",
                self.function,
                texts.len(),
                data.len()
            );
        }
        // Texts that were cut are counted; anything else is a wish that was not granted.
        let other = warnings.iter().find(|warning| !warning.ends_with("were truncated to fit"));
        if let Some(other) = other {
            bail!("{} would not do all that is asked: {}", self.function, line(other));
        }
        let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let (each, left) = (usage.prompt_tokens / count, usage.prompt_tokens % count);
        (0..)
            .zip(data)
            .map(|(at, entry)| {
                let embedding = entry.embedding().with_context(shape)?;
                let mut answer = answer::encode(&embedding);
                answer.tokens = each + u32::from(at < left);
                answer.cut = u32::from(at < answered.truncated);
                Ok(answer)
            })
            .collect()
    }
}

impl Entry {
    fn embedding(self) -> Result<Embedding> {
        let dense = self.embedding.map(|text| STANDARD.decode(text)).transpose()?;
        let dense = dense.unwrap_or_default();
        let four = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        let mut sparse = Vec::with_capacity(self.sparse_embedding.len());
        for (id, weight) in self.sparse_embedding {
            let weight = weight.as_f64().context("a weight that is no number")?;
            #[allow(clippy::cast_possible_truncation, reason = "it was written as f32")]
            sparse.push((id.parse()?, weight as f32));
        }
        sparse.sort_by_key(|(id, _)| *id);
        let width = self.colbert_embedding.first().map_or(0, Vec::len);
        if self.colbert_embedding.iter().any(|row| row.len() != width) {
            bail!("rows of several lengths");
        }
        Ok(Embedding {
            dense: dense.chunks_exact(4).map(four).collect(),
            sparse,
            colbert: self.colbert_embedding.concat(),
            colbert_width: width,
            ..Embedding::default()
        })
    }
}

/// The text at fault, where the answer names one: `input[3]`.
fn refused(answered: &Answered) -> Option<anyhow::Error> {
    let body: Value = serde_json::from_str(&answered.body).ok()?;
    let error = body.get("error").unwrap_or(&body);
    let param = error.get("param")?.as_str()?;
    let index = param.strip_prefix("input[")?.strip_suffix(']')?.parse().ok()?;
    let message = line(error.get("message")?.as_str()?);
    // Its place in the request is none that the user knows.
    let message = message.trim_start_matches(param).trim_start_matches(": ").to_owned();
    Some(Refused { index, message }.into())
}

/// What a request says beside its texts.
fn body(args: &Args, info: &Info) -> Vec<(&'static str, Value)> {
    let kinds = [
        (VectorKind::Dense, "dense"),
        (VectorKind::Sparse, "sparse"),
        (VectorKind::Colbert, "colbert"),
    ];
    let kinds: Vec<&str> =
        kinds.into_iter().filter(|(kind, _)| args.has(*kind)).map(|(_, name)| name).collect();
    let truncate = match args.truncate {
        Truncate::End => "END",
        Truncate::Start => "START",
        Truncate::Refuse => "NONE",
    };
    let usual = info.normalizes || args.dimensions.is_some_and(|width| width != info.dimensions);
    let mut body = Vec::new();
    let mut say = |name, value| body.push((name, value));
    say("encoding_format", json!("base64"));
    say("embedding_type", json!(kinds));
    say("truncate", json!(truncate));
    say("normalize", json!(args.normalize.unwrap_or(usual)));
    if let Some(width) = args.dimensions {
        say("dimensions", json!(width));
    }
    match (&args.input_type, &args.prompt_name, &args.prompt, &args.instruction) {
        (Some(InputType::Query), ..) => say("input_type", json!("query")),
        (Some(InputType::Document), ..) => say("input_type", json!("document")),
        (Some(InputType::None), ..) => say("prompt", json!("")),
        (_, Some(name), ..) => say("prompt_name", json!(name)),
        (_, _, Some(text), _) => say("prompt", json!(text)),
        (.., Some(task)) => say("instruction", json!(task)),
        _ => {}
    }
    body
}
