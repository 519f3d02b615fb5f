//! The seam between serving and the model.
//!
//! What a request asks is tokenised ([`Backend::begin`]), its sequences run in micro-batches together with those of
//! other requests ([`Backend::run`]), and what [`Prepared::finish`] makes of their answers is the result.

use std::sync::Arc;

use defrost_model::{Answers, Tokens, Wanted};
use defrost_tasks::{
    Bounds, EmbedPreparing, EmbedRequest, Embedder, Embedding, Error, Input, Prepared, Preparing,
    PromptChoice, Reranker, Score, ScorePreparing, ScoreRequest, TextToken,
};

use crate::models::info::Info;

/// Bytes of a template or of a model's own prompt around each text, about.
const WORDS_OF_A_TEMPLATE: usize = 64;

/// What a request asks of the model.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// Scores of documents against queries.
    Score(Arc<Vec<ScoreRequest>>),
    /// Vectors of texts.
    Embed(Arc<EmbedRequest>),
}

impl Inputs {
    /// Bytes of text that tokenising them reads, about and at most: what goes before each text counts with each.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Score(requests) => requests
                .iter()
                .map(|one| {
                    let before = WORDS_OF_A_TEMPLATE
                        + one.query.len()
                        + one.instruction.as_ref().map_or(0, String::len);
                    let documents = one.documents.iter().map(String::len).sum::<usize>();
                    before.saturating_mul(one.documents.len() + 1).saturating_add(documents)
                })
                .fold(0, usize::saturating_add),
            Self::Embed(request) => {
                let asked = match &request.prompt {
                    PromptChoice::Prefix(text) | PromptChoice::Instruction(text) => text.len(),
                    _ => 0,
                };
                let before = WORDS_OF_A_TEMPLATE + asked;
                let length = |input: &Input| match input {
                    Input::Text(text) => text.len(),
                    // They are looked at once.
                    Input::Tokens(tokens) => tokens.len(),
                };
                let inputs = request.inputs.iter().map(length).sum::<usize>();
                before.saturating_mul(request.inputs.len()).saturating_add(inputs)
            }
        }
    }
}

/// What the model makes of it.
#[derive(Debug, Clone)]
pub enum Outputs {
    /// Of every document of every request, in input order.
    Scores(Vec<Vec<Score>>),
    /// Of every input, in order.
    Embeddings(Vec<Embedding>),
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Documents, or inputs.
    pub(crate) items: usize,
    /// Tokens run for them.
    pub(crate) tokens: usize,
    /// Those that were cut.
    pub(crate) truncated: usize,
}

impl Outputs {
    pub(crate) fn amount(&self) -> Amount {
        let add = |sum: Amount, (tokens, truncated): (usize, bool)| Amount {
            items: sum.items + 1,
            tokens: sum.tokens + tokens,
            truncated: sum.truncated + usize::from(truncated),
        };
        match self {
            Self::Scores(scores) => {
                let scores = scores.iter().flatten();
                scores.map(|one| (one.tokens, one.truncated)).fold(Amount::default(), add)
            }
            Self::Embeddings(embeddings) => {
                let embeddings = embeddings.iter();
                embeddings.map(|one| (one.token_count, one.truncated)).fold(Amount::default(), add)
            }
        }
    }
}

/// A loaded model. Tests put a deterministic one behind it.
pub trait Backend: Send + Sync {
    /// Facts about the model.
    fn info(&self) -> Info;

    /// Tokenises what a request asks.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn prepare(&self, inputs: &Inputs) -> Result<Prepared<Outputs>, Error>;

    /// As [`Backend::prepare`], in steps and within bounds.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn begin(
        self: Arc<Self>,
        inputs: &Inputs,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<Outputs>>, Error> {
        let _ = bounds;
        Ok(Box::new(AtOnce(Some(self.prepare(inputs)?))))
    }

    /// The answers to one micro-batch of sequences, each of which depends on its own tokens alone.
    ///
    /// # Errors
    /// What is wrong with the model.
    fn run(&self, sequences: &[&Tokens], wanted: Wanted) -> Result<Vec<Answers>, Error>;

    /// What it is given to run once, where the first request is to find everything warm.
    fn sample(&self) -> Inputs;

    /// The tokens of a text.
    ///
    /// # Errors
    /// What is wrong with the tokenizer.
    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        let _ = (text, add_special);
        Err(unsupported("tokenises"))
    }

    /// How many tokens a text has without special ones; some number above `most` if it has more.
    ///
    /// # Errors
    /// What is wrong with the tokenizer.
    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        // One that can count without writing texts and places down does.
        Ok(self.tokenize(text, false)?.len().min(most.saturating_add(1)))
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// Which id is unknown.
    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        let _ = (ids, skip_special);
        Err(unsupported("detokenises"))
    }

    /// Gives up what a copy of the process's memory could not bring back: files, mappings of
    /// files, sockets. Called while nothing runs; running must still work afterwards.
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Renews what must not be shared with other copies of the same memory. Called before anything
    /// runs in the copy, also where [`before_snapshot`](Self::before_snapshot) gave up nothing.
    fn after_restore(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A request that was tokenised in one step.
struct AtOnce(Option<Prepared<Outputs>>);

impl Preparing<Outputs> for AtOnce {
    fn step(&mut self, _: usize) -> Result<Option<Prepared<Outputs>>, Error> {
        Ok(self.0.take())
    }
}

/// Scores on their way.
struct Scores(ScorePreparing);

impl Preparing<Outputs> for Scores {
    fn step(&mut self, bytes: usize) -> Result<Option<Prepared<Outputs>>, Error> {
        Ok(self.0.step(bytes)?.map(|prepared| prepared.map(Outputs::Scores)))
    }
}

/// Vectors on their way.
struct Embeddings(EmbedPreparing);

impl Preparing<Outputs> for Embeddings {
    fn step(&mut self, bytes: usize) -> Result<Option<Prepared<Outputs>>, Error> {
        Ok(self.0.step(bytes)?.map(|prepared| prepared.map(Outputs::Embeddings)))
    }
}

/// What a function's routes never ask of its model.
fn unsupported(what: &str) -> Error {
    Error::Model(format!("no model of this function {what}"))
}

impl Backend for Reranker {
    fn info(&self) -> Info {
        Info::Reranker(Reranker::info(self).clone())
    }

    fn prepare(&self, inputs: &Inputs) -> Result<Prepared<Outputs>, Error> {
        match inputs {
            Inputs::Score(requests) => Ok(Reranker::prepare(self, requests)?.map(Outputs::Scores)),
            Inputs::Embed(_) => Err(unsupported("embeds")),
        }
    }

    fn begin(
        self: Arc<Self>,
        inputs: &Inputs,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<Outputs>>, Error> {
        match inputs {
            Inputs::Score(requests) => {
                Ok(Box::new(Scores(self.preparing(Arc::clone(requests), bounds))))
            }
            Inputs::Embed(_) => Err(unsupported("embeds")),
        }
    }

    fn run(&self, sequences: &[&Tokens], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        Reranker::run(self, sequences, wanted)
    }

    fn sample(&self) -> Inputs {
        let request = ScoreRequest {
            query: "which document is warm".into(),
            documents: vec!["a document to warm up with".into()],
            ..ScoreRequest::default()
        };
        Inputs::Score(Arc::new(vec![request]))
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        Reranker::tokenize(self, text, add_special)
    }

    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        Reranker::count_tokens(self, text, most)
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Reranker::detokenize(self, ids, skip_special)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}

impl Backend for Embedder {
    fn info(&self) -> Info {
        Info::Embedder(Embedder::info(self).clone())
    }

    fn prepare(&self, inputs: &Inputs) -> Result<Prepared<Outputs>, Error> {
        match inputs {
            Inputs::Embed(request) => {
                Ok(Embedder::prepare(self, request)?.map(Outputs::Embeddings))
            }
            Inputs::Score(_) => Err(unsupported("scores")),
        }
    }

    fn begin(
        self: Arc<Self>,
        inputs: &Inputs,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<Outputs>>, Error> {
        match inputs {
            Inputs::Embed(request) => {
                Ok(Box::new(Embeddings(self.preparing(Arc::clone(request), bounds))))
            }
            Inputs::Score(_) => Err(unsupported("scores")),
        }
    }

    fn run(&self, sequences: &[&Tokens], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        Embedder::run(self, sequences, wanted)
    }

    fn sample(&self) -> Inputs {
        let inputs = vec!["a text to warm up with".into()];
        Inputs::Embed(Arc::new(EmbedRequest { inputs, ..EmbedRequest::default() }))
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        Embedder::tokenize(self, text, add_special)
    }

    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        Embedder::count_tokens(self, text, most)
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Embedder::detokenize(self, ids, skip_special)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}
