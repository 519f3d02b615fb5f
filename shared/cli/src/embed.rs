//! `defrost embed`: the vectors of all texts of a file. How files are worked through: [`crate::bulk`].

mod answer;
mod remote;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use clap::ValueEnum;
use defrost_api::Dtype;
use defrost_loader::Location;
use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Error, Input, Outputs, Overflow,
    PromptChoice,
};

use crate::backend::{self, BackendArgs, LINKED};
use crate::bulk::{
    self, Answer, Asked, Cell, Column, Datum, FileArgs, Operation, Record, Settings,
};
use crate::function::KeyArgs;
use crate::place::RestoreArgs;
use crate::print::{note, say};
use remote::{Refused, Remote};

/// Changes with everything that makes other vectors of the same model, settings and text.
const VERSION: &str = "1";

/// Arguments of `defrost embed`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot of an embedding model: a path, s3://bucket/key, or hf://org/name.
    #[arg(long, env = "MODEL", required_unless_present = "url")]
    model: Option<Location>,
    /// Ask a running function (http://HOST:PORT or https://HOST) instead of loading a snapshot. It tells neither the tokens of
    /// a text nor whether that was cut, so that the output has no columns for them.
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// Rows to embed: JSON lines, such as BEIR's corpus.jsonl, or Parquet; - reads JSON lines from stdin.
    #[arg(long = "in", value_name = "IN", requires = "out")]
    input: PathBuf,
    #[command(flatten)]
    files: FileArgs,
    /// The field with a row's text.
    #[arg(long, value_name = "FIELD", default_value = "text")]
    text_field: String,
    /// The field with a title, which goes before the text with a space between, as BEIR does; rows may lack it.
    #[arg(long, value_name = "FIELD", default_value = "title")]
    title_field: String,
    /// Vectors to write.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "dense")]
    kind: Vec<VectorKind>,
    /// Number type of dense vectors; int8 and uint8 hold [-1, 1], and what lies outside is clamped and counted. Stored
    /// answers are floats, so that another type costs no computing.
    #[arg(long, default_value = "float")]
    output_dtype: NumberType,
    /// Shorten dense vectors to this many numbers.
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Shorten vectors also of models that are not trained for it.
    #[arg(long, env = "ALLOW_NON_MRL")]
    allow_non_mrl: bool,
    /// Scale dense vectors to length 1 (true) or not (false); default: as the model's files say.
    #[arg(long, value_name = "BOOL")]
    normalize: Option<bool>,
    /// The model's prompt for texts of this type goes before each; default: the model's own default, or that of documents.
    #[arg(long, value_name = "TYPE", group = "before")]
    input_type: Option<InputType>,
    /// The model's prompt of this name goes before each text.
    #[arg(long, value_name = "NAME", group = "before")]
    prompt_name: Option<String>,
    /// This text goes before each text.
    #[arg(long, value_name = "TEXT", group = "before")]
    prompt: Option<String>,
    /// A task in one sentence, for models whose query prompt holds one.
    #[arg(long, value_name = "TASK", group = "before")]
    instruction: Option<String>,
    /// Most tokens of a text, prompt and special tokens included; default: the model's own.
    #[arg(long, env = "MAX_LENGTH")]
    max_length: Option<usize>,
    /// What happens to longer texts: cut their end or start, and count them; or refuse them as rows that cannot be read.
    #[arg(long, default_value = "end")]
    truncate: Truncate,
    /// Token budget of one forward pass; bounds memory, never changes vectors.
    #[arg(long, env = "MAX_BATCH_TOKENS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: u32,
    /// Worker threads; default: physical cores within the cgroup's quota.
    #[arg(long, env = "NUM_THREADS", value_parser = backend::threads)]
    num_threads: Option<usize>,
    /// Precision that the snapshot must have: int8, bf16, f16 or f32; default: whichever it has.
    #[arg(long, env = "DTYPE", value_parser = ["int8", "bf16", "f16", "f32"])]
    dtype: Option<String>,
    #[command(flatten)]
    restore: RestoreArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VectorKind {
    /// The pooled vector.
    Dense,
    /// Weights of tokens, from models with a sparse head.
    Sparse,
    /// A vector of each token, from models with a ColBERT head.
    Colbert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NumberType {
    Float,
    /// round(x * 127).
    Int8,
    /// round((x + 1) * 127.5).
    Uint8,
    /// The bits of ubinary minus 128.
    Binary,
    /// A bit for each number, 1 where it is above 0.
    Ubinary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputType {
    Query,
    Document,
    /// No prompt at all.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Truncate {
    End,
    Start,
    Refuse,
}

impl NumberType {
    fn dtype(self) -> Dtype {
        match self {
            Self::Float => Dtype::Float,
            Self::Int8 => Dtype::Int8,
            Self::Uint8 => Dtype::Uint8,
            Self::Binary => Dtype::Binary,
            Self::Ubinary => Dtype::Ubinary,
        }
    }
}

/// Embeds a file.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(url) = &args.url {
        if args.max_length.is_some() {
            bail!(
                "--max-length (or MAX_LENGTH) beside --url: the running function cuts at a length of its own; start it with \
                 MAX_LENGTH, and leave it out here"
            );
        }
        args.files.check(&args.input, None)?;
        let remote = Remote::new(args, url)?;
        let settings = remote.settings(VERSION)?;
        return finish(args, Model::Remote(Box::new(remote)), settings);
    }
    let Some(model) = &args.model else { bail!("give --model or --url") };
    args.files.check(&args.input, Some(model))?;
    let snapshot = args.restore.restore(model, args.num_threads)?;
    let mut model = args.backend.options(&args.restore);
    model.max_length = args.max_length;
    model.num_threads = args.num_threads;
    model.max_batch_tokens = args.batch_tokens as usize;
    let options = EmbedderOptions { model, any_dimensions: args.allow_non_mrl };
    let embedder = Embedder::load(LINKED, &snapshot, &options)?;
    let info = embedder.info();
    if let Some(dtype) = args.dtype.as_ref().filter(|dtype| **dtype != info.precision) {
        bail!(
            "--dtype {dtype}: the snapshot's precision is {}; pack the model in {dtype}",
            info.precision
        );
    }
    let request = args.request();
    // What is wrong with the request is wrong before the first row is read.
    embedder.prepare(&EmbedTask { inputs: vec!["".into()], ..request.clone() })?;
    let settings = args.settings(&embedder)?;
    finish(args, Model::Here { embedder: Box::new(embedder), request }, settings)
}

fn finish(args: &Args, model: Model, settings: Settings) -> Result<()> {
    let work = Embed { args, model, clamped: AtomicU64::new(0) };
    let report = bulk::run(&work, settings, &args.input, &args.files, args.json)?;
    let clamped = work.clamped.into_inner();
    if clamped > 0 {
        note!(
            "{clamped} vectors have numbers outside of [-1, 1], which are clamped in int8 and uint8: --normalize true scales \
             vectors to length 1, --output-dtype float writes them as they are"
        );
    }
    say!("{report}")
}

impl Args {
    fn has(&self, kind: VectorKind) -> bool {
        self.kind.contains(&kind)
    }

    fn outputs(&self) -> Outputs {
        Outputs {
            dense: self.has(VectorKind::Dense),
            sparse: self.has(VectorKind::Sparse),
            colbert: self.has(VectorKind::Colbert),
            tokens: false,
        }
    }

    fn request(&self) -> EmbedTask {
        let prompt = match (&self.input_type, &self.prompt_name, &self.prompt, &self.instruction) {
            (Some(InputType::Query), ..) => PromptChoice::Query,
            (Some(InputType::Document), ..) => PromptChoice::Document,
            (Some(InputType::None), ..) => PromptChoice::None,
            (_, Some(name), ..) => PromptChoice::Named(name.clone()),
            (_, _, Some(text), _) => PromptChoice::Prefix(text.clone()),
            (.., Some(task)) => PromptChoice::Instruction(task.clone()),
            _ => PromptChoice::Default,
        };
        EmbedTask {
            inputs: Vec::new(),
            prompt,
            outputs: self.outputs(),
            dimensions: self.dimensions,
            normalize: self.normalize,
            truncation: EmbedTruncation {
                overflow: match self.truncate {
                    Truncate::End => Overflow::CutEnd,
                    Truncate::Start => Overflow::CutStart,
                    Truncate::Refuse => Overflow::Refuse,
                },
                limit: None,
            },
            late_chunking: false,
        }
    }

    /// What vectors depend on. Titles and texts are in the key of a row, and number types are those of the output.
    fn settings(&self, embedder: &Embedder) -> Result<Settings> {
        let info = embedder.info();
        let prompt = match self.request().prompt {
            PromptChoice::Default => "default".to_owned(),
            PromptChoice::None => "none".to_owned(),
            PromptChoice::Query => "query".to_owned(),
            PromptChoice::Document => "document".to_owned(),
            PromptChoice::Named(name) => format!("named {name}"),
            PromptChoice::Instruction(task) => format!("instruction {task}"),
            PromptChoice::Prefix(text) => format!("prefix {text}"),
        };
        let kinds = [VectorKind::Dense, VectorKind::Sparse, VectorKind::Colbert];
        let kinds = kinds.into_iter().filter(|&kind| self.has(kind));
        let kinds: Vec<String> = kinds.map(|kind| format!("{kind:?}").to_lowercase()).collect();
        let usual = info.normalizes || self.dimensions.is_some();
        let normalize = self.normalize.unwrap_or(usual);
        Settings::new([
            ("work", format!("embed {VERSION}")),
            ("model", info.snapshot.clone()),
            ("backend", info.backend.to_owned()),
            ("kind", kinds.join(",")),
            ("dimensions", self.dimensions.unwrap_or(info.hidden).to_string()),
            ("normalize", normalize.to_string()),
            ("max_length", info.max_length.to_string()),
            ("truncate", format!("{:?}", self.truncate).to_lowercase()),
            ("prompt", prompt),
        ])
    }
}

/// What embeds.
enum Model {
    Here {
        embedder: Box<Embedder>,
        /// The request without inputs.
        request: EmbedTask,
    },
    Remote(Box<Remote>),
}

struct Embed<'a> {
    args: &'a Args,
    model: Model,
    /// Vectors that the type of numbers does not hold.
    clamped: AtomicU64,
}

impl Operation for Embed<'_> {
    type Item = Input;

    fn fields(&self) -> (Vec<&str>, usize) {
        (vec![&self.args.text_field, &self.args.title_field], 1)
    }

    fn item(&self, mut record: Record) -> Result<Input, String> {
        let text = bulk::text(&mut record, &self.args.text_field)?;
        match record.get(&self.args.title_field) {
            None | Some(Datum::Null) => Ok(Input::Text(text)),
            Some(Datum::Text(title)) => {
                Ok(Input::Text(format!("{title} {text}").trim().to_owned()))
            }
            Some(other) => Err(bulk::not(&self.args.title_field, "a string", other)),
        }
    }

    fn texts<'a>(&self, item: &'a Input) -> Vec<&'a str> {
        match item {
            Input::Text(text) => vec![text],
            Input::Tokens(_) => Vec::new(),
        }
    }

    fn prepare(&self, items: &mut Vec<Input>) -> Result<Asked> {
        match &self.model {
            Model::Remote(remote) => Ok(Asked::Answered(remote.embed(items)?)),
            Model::Here { embedder, request } => {
                let mut request = EmbedTask { inputs: std::mem::take(items), ..request.clone() };
                let prepared = embedder.prepare(&request);
                *items = std::mem::take(&mut request.inputs);
                Ok(Asked::Sequences(prepared?.map(|all| all.iter().map(answer::encode).collect())))
            }
        }
    }

    fn at_fault(&self, error: &anyhow::Error, _: &[Input]) -> Option<usize> {
        if let Some(Refused { index, .. }) = error.downcast_ref() {
            return Some(*index);
        }
        match error.downcast_ref()? {
            Error::InputTooLong { index, .. } | Error::NonFinite { index, .. } => Some(*index),
            _ => None,
        }
    }

    fn batch_tokens(&self) -> usize {
        self.args.batch_tokens as usize
    }

    fn measure(&self) -> Measure {
        match &self.model {
            Model::Here { embedder, .. } => embedder.measure(),
            Model::Remote(_) => Measure::Tokens,
        }
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        match &self.model {
            Model::Here { embedder, .. } => embedder.run(sequences, wanted),
            // It was asked where texts are tokenised, and left no sequences.
            Model::Remote(_) => Ok(Vec::new()),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = answer::columns(self.args.outputs(), self.args.output_dtype.dtype());
        columns.truncate(columns.len() - self.untold());
        columns
    }

    fn cells(&self, answer: &Answer, _: &[u8]) -> Result<Vec<Cell>> {
        let dtype = self.args.output_dtype.dtype();
        let (mut cells, is_clamped) = answer::cells(answer, self.args.outputs(), dtype)?;
        self.clamped.fetch_add(u64::from(is_clamped), Ordering::Relaxed);
        cells.truncate(cells.len() - self.untold());
        Ok(cells)
    }
}

impl Embed<'_> {
    /// The last columns, tokens and truncated, which a function does not tell.
    fn untold(&self) -> usize {
        if matches!(self.model, Model::Remote(_)) { 2 } else { 0 }
    }
}
