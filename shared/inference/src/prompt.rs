//! From a query and a document to the token ids that the model was trained on.
//!
//! Sources: `mxbai_rerank_v2.py` of mixedbread-ai/mxbai-rerank; the model card of
//! `Qwen/Qwen3-Reranker`; `base.py` of FlagEmbedding for pairs; sentence-transformers for embeddings.
//! All cut the document's end first and keep the prompt around it whole.
//!
//! The segments of mxbai-rerank-v2 are tokenised one by one and their ids joined, as its package
//! does; the whole string gives other ids wherever a text ends in punctuation before a line break.

mod pieces;

use crate::batches::common_prefix;
use crate::spec::Template;
use crate::tokenizer::{TextTokenizer, Tokens};
use crate::{Error, Truncation};

const MXBAI_PREFIX: &str = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n";
const MXBAI_TASK: &str = "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:";
const MXBAI_SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n";

const QWEN3_PREFIX: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
const QWEN3_SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
const QWEN3_INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// A template with its fixed parts tokenised.
#[derive(Debug)]
pub(crate) struct Prompt {
    tokenizer: TextTokenizer,
    form: Form,
    max_length: usize,
}

#[derive(Debug)]
enum Form {
    Pair,
    Mxbai { prefix: Vec<u32>, separator: Vec<u32>, task: Vec<u32>, suffix: Vec<u32> },
    Qwen3 { prefix: Vec<u32>, suffix: Vec<u32> },
    Embedding { query_prompt: String, document_prompt: String },
}

/// A query, ready to be joined with documents.
#[derive(Debug)]
pub(crate) struct Query {
    part: QueryPart,
    truncated: bool,
}

#[derive(Debug)]
enum QueryPart {
    Ids(Vec<u32>),
    /// Text up to the document.
    Text(String),
    /// For embeddings the query is a sequence of its own.
    Sequence(Tokens),
}

/// One sequence for the model.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) tokens: Tokens,
    /// Whether anything was cut from the document (or from an embedded query itself).
    pub(crate) truncated: bool,
    /// Whether anything was cut from the query.
    pub(crate) query_truncated: bool,
}

impl Prompt {
    pub(crate) fn new(
        tokenizer: TextTokenizer,
        template: &Template,
        max_length: usize,
        max_positions: usize,
    ) -> Result<Self, Error> {
        let form = match template {
            Template::Pair => Form::Pair,
            Template::MxbaiRerankV2 => Form::Mxbai {
                prefix: tokenizer.ids(MXBAI_PREFIX, usize::MAX)?,
                separator: tokenizer.ids("\n", usize::MAX)?,
                task: tokenizer.ids(MXBAI_TASK, usize::MAX)?,
                suffix: tokenizer.ids(MXBAI_SUFFIX, usize::MAX)?,
            },
            Template::Qwen3Reranker => Form::Qwen3 {
                prefix: tokenizer.ids(QWEN3_PREFIX, usize::MAX)?,
                suffix: tokenizer.ids(QWEN3_SUFFIX, usize::MAX)?,
            },
            Template::Embedding { query_prompt, document_prompt } => Form::Embedding {
                query_prompt: query_prompt.clone(),
                document_prompt: document_prompt.clone(),
            },
        };
        let prompt = Self { tokenizer, form, max_length };
        let fixed = prompt.fixed_tokens();
        let room = if matches!(prompt.form, Form::Mxbai { .. }) {
            max_positions.saturating_sub(fixed).min(max_length)
        } else {
            max_length.min(max_positions).saturating_sub(fixed)
        };
        if room < 4 {
            return Err(Error::Model(format!(
                "a maximum length of {max_length} tokens leaves {room} for query and document \
                 beside the {fixed} fixed ones; expected at least {}",
                fixed + 4
            )));
        }
        let max_length = match prompt.form {
            // `mxbai_rerank` counts the template apart and shortens only where positions end.
            Form::Mxbai { .. } => room,
            _ => max_length.min(max_positions),
        };
        Ok(Self { max_length, ..prompt })
    }

    /// Tokens that the template itself takes.
    fn fixed_tokens(&self) -> usize {
        match &self.form {
            Form::Pair => self.tokenizer.added(true),
            Form::Embedding { .. } => self.tokenizer.added(false),
            Form::Mxbai { prefix, separator, task, suffix } => {
                prefix.len() + separator.len() + task.len() + suffix.len()
            }
            Form::Qwen3 { prefix, suffix } => prefix.len() + suffix.len(),
        }
    }

    /// What all sequences begin with, or those of queries where documents are embedded alone; an instruction of a request
    /// may replace the end of it. Found by trying texts that begin with a letter, a digit, punctuation, a line break, a
    /// letter of another script and nothing: what comes after a fixed text may change its last token.
    pub(crate) fn beginning(&self) -> Result<Vec<u32>, Error> {
        let truncation = Truncation::default();
        let sequences = ["a", "1", "?", "\n", "\u{4e2d}", ""].map(|text| {
            let query = self.query(text, None, &truncation)?;
            match Self::query_sequence(&query) {
                Some(sequence) => Ok(sequence),
                None => self.document(&query, text, &truncation),
            }
        });
        let mut common: Option<Vec<u32>> = None;
        for sequence in sequences {
            let ids = sequence?.tokens.ids;
            let common = common.get_or_insert_with(|| ids.clone());
            common.truncate(common_prefix(common, &ids));
        }
        Ok(common.unwrap_or_default())
    }

    /// Most tokens of one sequence.
    pub(crate) fn max_length(&self) -> usize {
        self.max_length
    }

    /// Whether an instruction changes the prompt.
    pub(crate) fn takes_instruction(&self) -> bool {
        match &self.form {
            Form::Mxbai { .. } | Form::Qwen3 { .. } => true,
            Form::Embedding { query_prompt, .. } => query_prompt.starts_with("Instruct: "),
            Form::Pair => false,
        }
    }

    /// Prepares the query of one request.
    pub(crate) fn query(
        &self,
        query: &str,
        instruction: Option<&str>,
        truncation: &Truncation,
    ) -> Result<Query, Error> {
        let (query, cut) = self.limit(query, truncation.max_tokens_per_query)?;
        let (part, truncated) = match &self.form {
            Form::Pair => {
                let room = self.max_length.saturating_sub(self.fixed_tokens() + 1);
                let limit = room.min(self.max_length * 3 / 4);
                let (ids, truncated) = self.ids(query, limit)?;
                (QueryPart::Ids(ids), truncated)
            }
            Form::Mxbai { .. } => {
                let instruction = instruction.map(|text| format!("instruction: {text}\n"));
                let text = format!("{}query: {query}", instruction.unwrap_or_default());
                let limit = self.max_length * 3 / 4;
                let (ids, truncated) = self.ids(&text, limit)?;
                (QueryPart::Ids(ids), truncated)
            }
            Form::Qwen3 { .. } => {
                let instruction = instruction.unwrap_or(QWEN3_INSTRUCTION);
                let text = format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: ");
                (QueryPart::Text(text), false)
            }
            Form::Embedding { query_prompt, .. } => {
                // "Instruct: {task}\nQuery:" is the only known prompt that holds a task.
                let prompt = match instruction {
                    Some(task) if self.takes_instruction() => {
                        format!("Instruct: {task}\nQuery:")
                    }
                    _ => query_prompt.clone(),
                };
                let (tokens, truncated) = self.alone(&format!("{prompt}{query}"))?;
                (QueryPart::Sequence(tokens), truncated)
            }
        };
        self.refuse_if(truncated && truncation.forbidden, "query")?;
        Ok(Query { part, truncated: truncated || cut })
    }

    /// The sequence of the query itself, for models that embed it apart.
    pub(crate) fn query_sequence(query: &Query) -> Option<Sequence> {
        match &query.part {
            QueryPart::Sequence(tokens) => {
                let (tokens, truncated) = (tokens.clone(), query.truncated);
                Some(Sequence { tokens, truncated, query_truncated: truncated })
            }
            _ => None,
        }
    }

    /// The sequence of one document, together with the query where the model reads both.
    pub(crate) fn document(
        &self,
        query: &Query,
        document: &str,
        truncation: &Truncation,
    ) -> Result<Sequence, Error> {
        let (document, cut) = self.limit(document, truncation.max_tokens_per_doc)?;
        let (tokens, truncated) = match (&self.form, &query.part) {
            (Form::Mxbai { prefix, separator, task, suffix }, QueryPart::Ids(query)) => {
                let limit = self.max_length.saturating_sub(query.len() + separator.len());
                let (ids, truncated) = self.ids(&format!("document: {document}"), limit)?;
                let ids = [prefix, query, separator, &ids, separator, task, suffix]
                    .into_iter()
                    .flatten()
                    .copied()
                    .collect();
                (Tokens { ids, types: Vec::new() }, truncated)
            }
            (Form::Qwen3 { prefix, suffix }, QueryPart::Text(text)) => {
                let limit = self.max_length - self.fixed_tokens();
                let (body, truncated) = self.ids(&format!("{text}{document}"), limit)?;
                let ids = [prefix, &body, suffix].into_iter().flatten().copied().collect();
                (Tokens { ids, types: Vec::new() }, truncated)
            }
            (Form::Pair, QueryPart::Ids(query)) => {
                let limit =
                    self.max_length.saturating_sub(query.len() + self.tokenizer.added(true));
                let (ids, truncated) = self.ids(document, limit)?;
                (self.tokenizer.pair(query, &ids)?, truncated)
            }
            (Form::Embedding { document_prompt, .. }, _) => {
                self.alone(&format!("{document_prompt}{document}"))?
            }
            _ => return Err(Error::Model("the query was prepared for another template".into())),
        };
        self.refuse_if(truncated && truncation.forbidden, "documents")?;
        Ok(Sequence { tokens, truncated: truncated || cut, query_truncated: query.truncated })
    }

    fn alone(&self, text: &str) -> Result<(Tokens, bool), Error> {
        let limit = self.max_length.saturating_sub(self.tokenizer.added(false));
        let (ids, truncated) = self.ids(text, limit)?;
        Ok((self.tokenizer.single(&ids)?, truncated))
    }

    /// The first `limit` ids of a text, and whether it has more.
    fn ids(&self, text: &str, limit: usize) -> Result<(Vec<u32>, bool), Error> {
        let mut ids = self.tokenizer.ids(text, limit)?;
        let truncated = ids.len() > limit;
        ids.truncate(limit);
        Ok((ids, truncated))
    }

    fn limit<'a>(&self, text: &'a str, limit: Option<usize>) -> Result<(&'a str, bool), Error> {
        limit.map_or(Ok((text, false)), |limit| self.tokenizer.cut(text, limit))
    }

    fn refuse_if(&self, refused: bool, param: &'static str) -> Result<(), Error> {
        if refused { Err(Error::TooLong { limit: self.max_length, param }) } else { Ok(()) }
    }
}
