//! From a query and a document to the token ids that the model was trained on.
//!
//! Sources: `mxbai_rerank_v2.py` of mixedbread-ai/mxbai-rerank; the model card of
//! `Qwen/Qwen3-Reranker`; `base.py` of FlagEmbedding for pairs; sentence-transformers for embeddings.
//! All cut the document's end first and keep the prompt around it whole. Where a request wants texts cut at their start,
//! what comes before a text within its segment (`document: `) stays, as found by comparing with that tokenised alone.
//!
//! A request may ask for fewer tokens than the model reads (vLLM's `truncate_prompt_tokens`): then all limits are those
//! of a model that reads so few.
//!
//! The segments of mxbai-rerank-v2 are tokenised one by one and their ids joined, as its package
//! does; the whole string gives other ids wherever a text ends in punctuation before a line break.

mod pieces;

use std::borrow::Cow;

use defrost_model::planning::common_prefix;
use defrost_model::{Template, Tokens};

use crate::tokenizer::TextTokenizer;
use crate::{Error, Truncation};

const MXBAI_PREFIX: &str = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n";
const MXBAI_TASK: &str = "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:";
const MXBAI_SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n";

const QWEN3_PREFIX: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
const QWEN3_SUFFIX: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// What the authors of Qwen3-Reranker ask for where a request asks for nothing.
pub const QWEN3_INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// What the prompt has before the query, between it and the document, and after that, with the usual instruction.
pub fn qwen3_pieces() -> [String; 3] {
    let before = format!("{QWEN3_PREFIX}<Instruct>: {QWEN3_INSTRUCTION}\n<Query>: ");
    [before, "\n<Document>: ".to_owned(), QWEN3_SUFFIX.to_owned()]
}

/// The pieces as of [`qwen3_pieces`], of mxbai-rerank-v2 without an instruction.
pub fn mxbai_pieces() -> [String; 3] {
    let after = format!("\n{MXBAI_TASK}{MXBAI_SUFFIX}");
    [format!("{MXBAI_PREFIX}query: "), "\ndocument: ".to_owned(), after]
}

/// Tokens that query and document must have together for a model to be of any use.
const LEAST_ROOM: usize = 4;

/// A template with its fixed parts tokenised.
#[derive(Debug)]
pub struct Prompt {
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
pub struct Query {
    part: QueryPart,
    truncated: bool,
}

#[derive(Debug)]
enum QueryPart {
    Ids(Vec<u32>),
    /// The text up to the document.
    Text(String),
    /// The query as a sequence of its own, for embeddings.
    Sequence(Tokens),
}

/// One sequence for the model.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// The tokens of the sequence.
    pub tokens: Tokens,
    /// Whether any token was cut from the document (or from an embedded query itself).
    pub truncated: bool,
    /// Whether any token was cut from the query.
    pub query_truncated: bool,
}

impl Prompt {
    /// A template over a tokenizer; refuses a length that leaves no room for texts.
    pub fn new(
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
            Template::Chat => {
                return Err(Error::Model(
                    "the template chat makes prompts of messages: expected one for queries and documents".to_owned(),
                ));
            }
        };
        let prompt = Self { tokenizer, form, max_length };
        let fixed = prompt.fixed_tokens();
        let room = if matches!(prompt.form, Form::Mxbai { .. }) {
            max_positions.saturating_sub(fixed).min(max_length)
        } else {
            max_length.min(max_positions).saturating_sub(fixed)
        };
        if room < LEAST_ROOM {
            return Err(Error::Model(format!(
                "a maximum length of {max_length} tokens leaves {room} for query and document \
                 beside the {fixed} fixed ones; expected at least {}",
                fixed + LEAST_ROOM
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

    /// The ids that all sequences begin with, or those of queries where documents are embedded alone; an instruction of
    /// a request may replace the end of them. Found by trying texts that begin with a letter, a digit, punctuation, a
    /// line break, a letter of another script and nothing: what comes after a fixed text may change its last token.
    pub fn beginning(&self) -> Result<Vec<u32>, Error> {
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

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The most tokens of one sequence, for mxbai-rerank-v2 without those of the template.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The most tokens of one sequence, those of the template included, which [`Prompt::max_length`] may leave out.
    pub fn max_sequence(&self) -> usize {
        match self.form {
            Form::Mxbai { .. } => self.fixed_tokens() + self.max_length,
            _ => self.max_length,
        }
    }

    /// Whether an instruction changes the prompt.
    pub fn takes_instruction(&self) -> bool {
        match &self.form {
            Form::Mxbai { .. } | Form::Qwen3 { .. } => true,
            Form::Embedding { query_prompt, .. } => query_prompt.starts_with("Instruct: "),
            Form::Pair => false,
        }
    }

    /// Prepares the query of one request.
    pub fn query(
        &self,
        query: &str,
        instruction: Option<&str>,
        truncation: &Truncation,
    ) -> Result<Query, Error> {
        let max_length = self.length_for(truncation)?;
        let (query, cut) = self.limit(query, truncation.max_tokens_per_query, truncation)?;
        let (part, truncated) = match &self.form {
            Form::Pair => {
                let room = max_length.saturating_sub(self.fixed_tokens() + 1);
                let limit = room.min(max_length * 3 / 4);
                let (ids, truncated) = self.ids("", query, limit, truncation)?;
                (QueryPart::Ids(ids), truncated)
            }
            Form::Mxbai { .. } => {
                let instruction = instruction.map(|text| format!("instruction: {text}\n"));
                let head = format!("{}query: ", instruction.unwrap_or_default());
                let limit = max_length * 3 / 4;
                let (ids, truncated) = self.ids(&head, query, limit, truncation)?;
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
                let (tokens, truncated) = self.alone(&prompt, query, truncation)?;
                (QueryPart::Sequence(tokens), truncated)
            }
        };
        self.refuse_if(truncated && truncation.forbidden, "query")?;
        Ok(Query { part, truncated: truncated || cut })
    }

    /// The sequence of the query itself, for models that embed it apart.
    pub fn query_sequence(query: &Query) -> Option<Sequence> {
        match &query.part {
            QueryPart::Sequence(tokens) => {
                let (tokens, truncated) = (tokens.clone(), query.truncated);
                Some(Sequence { tokens, truncated, query_truncated: truncated })
            }
            _ => None,
        }
    }

    /// Bytes that are tokenised again with every document of a query.
    pub fn repeated_bytes(&self, query: &Query) -> usize {
        match (&self.form, &query.part) {
            (_, QueryPart::Text(text)) => text.len(),
            (Form::Embedding { document_prompt, .. }, _) => document_prompt.len(),
            _ => 0,
        }
    }

    /// The sequence of one document, together with the query where the model reads both.
    pub fn document(
        &self,
        query: &Query,
        document: &str,
        truncation: &Truncation,
    ) -> Result<Sequence, Error> {
        let max_length = self.length_for(truncation)?;
        let (document, cut) = self.limit(document, truncation.max_tokens_per_doc, truncation)?;
        let (tokens, truncated) = match (&self.form, &query.part) {
            (Form::Mxbai { prefix, separator, task, suffix }, QueryPart::Ids(query)) => {
                let limit = max_length.saturating_sub(query.len() + separator.len());
                let (ids, truncated) = self.ids("document: ", document, limit, truncation)?;
                let ids = [prefix, query, separator, &ids, separator, task, suffix]
                    .into_iter()
                    .flatten()
                    .copied()
                    .collect();
                (Tokens { ids, types: Vec::new() }, truncated)
            }
            (Form::Qwen3 { prefix, suffix }, QueryPart::Text(text)) => {
                let limit = max_length.saturating_sub(self.fixed_tokens());
                let (body, truncated) = self.ids(text, document, limit, truncation)?;
                let ids = [prefix, &body, suffix].into_iter().flatten().copied().collect();
                (Tokens { ids, types: Vec::new() }, truncated)
            }
            (Form::Pair, QueryPart::Ids(query)) => {
                let limit = max_length.saturating_sub(query.len() + self.tokenizer.added(true));
                let (ids, truncated) = self.ids("", document, limit, truncation)?;
                (self.tokenizer.pair(query, &ids)?, truncated)
            }
            (Form::Embedding { document_prompt, .. }, _) => {
                self.alone(document_prompt, document, truncation)?
            }
            _ => return Err(Error::Model("the query was prepared for another template".into())),
        };
        self.refuse_if(truncated && truncation.forbidden, "documents")?;
        Ok(Sequence { tokens, truncated: truncated || cut, query_truncated: query.truncated })
    }

    /// Most tokens of a sequence of this request, counted as [`Prompt::max_length`] is; one that leaves no room for texts is
    /// taken as the least that does.
    fn length_for(&self, truncation: &Truncation) -> Result<usize, Error> {
        let Some(asked) = truncation.max_tokens else { return Ok(self.max_length) };
        let fixed = self.fixed_tokens();
        let (apart, least) = match self.form {
            Form::Mxbai { .. } => (fixed, LEAST_ROOM),
            _ => (0, fixed + 1),
        };
        let most = self.max_sequence();
        if asked > most {
            let message = format!(
                "truncate_prompt_tokens: found {asked}, the model reads {most} tokens. Please request a smaller truncation size."
            );
            return Err(Error::InvalidInput { param: "truncate_prompt_tokens", message });
        }
        Ok(asked.saturating_sub(apart).max(least))
    }

    fn alone(
        &self,
        head: &str,
        text: &str,
        truncation: &Truncation,
    ) -> Result<(Tokens, bool), Error> {
        let limit = self.length_for(truncation)?.saturating_sub(self.tokenizer.added(false));
        let (ids, truncated) = self.ids(head, text, limit, truncation)?;
        Ok((self.tokenizer.single(&ids)?, truncated))
    }

    /// At most `limit` ids of `head` with a text behind it, and whether that has more. What is cut off is cut off the text
    /// first: its end, or where the request wants that, its start.
    fn ids(
        &self,
        head: &str,
        text: &str,
        limit: usize,
        truncation: &Truncation,
    ) -> Result<(Vec<u32>, bool), Error> {
        let whole = if head.is_empty() { Cow::from(text) } else { format!("{head}{text}").into() };
        let mut ids = self.tokenizer.ids(&whole, limit)?;
        if ids.len() <= limit {
            return Ok((ids, false));
        }
        if truncation.from_start {
            let common = common_prefix(&self.tokenizer.ids(head, limit)?, &ids).min(limit);
            ids.truncate(common);
            let last = self.tokenizer.last_ids(&whole, limit - common)?;
            ids.extend_from_slice(&last[last.len() - (limit - common)..]);
        } else {
            ids.truncate(limit);
        }
        Ok((ids, true))
    }

    fn limit<'a>(
        &self,
        text: &'a str,
        limit: Option<usize>,
        truncation: &Truncation,
    ) -> Result<(&'a str, bool), Error> {
        // What is not shorter than a sequence changes nothing that a sequence does not, and may be any number.
        match limit.filter(|&limit| limit < self.max_length) {
            None => Ok((text, false)),
            Some(limit) if truncation.from_start => self.tokenizer.cut_start(text, limit),
            Some(limit) => self.tokenizer.cut(text, limit),
        }
    }

    fn refuse_if(&self, refused: bool, param: &'static str) -> Result<(), Error> {
        if refused { Err(Error::TooLong { limit: self.max_length, param }) } else { Ok(()) }
    }
}
