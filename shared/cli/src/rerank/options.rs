//! What a case says beside its texts: the options of a request to `/v1/rerank`, read by the very code that reads those.
//!
//! A case and the command line may both say something. What the command line says holds for the cases that say nothing; two
//! that contradict each other are refused, since either might be meant.

use std::fmt::Display;

use defrost_api::{Limits, RerankBody, RerankRequest, Route};
use defrost_tasks::{ModelInfo, ScoreScale, Truncation};
use serde_json::{Map, Value, json};

use super::Args;

/// The options that are read, under all their names.
pub(super) const FIELDS: [&str; 24] = [
    "instruct",
    "instruction",
    "maxChunksPerDoc",
    "maxTokensPerDoc",
    "maxTokensPerQuery",
    "max_chunks_per_doc",
    "max_tokens_per_doc",
    "max_tokens_per_query",
    "normalization",
    "normalize",
    "raw_scores",
    "topK",
    "topN",
    "top_k",
    "top_n",
    "truncate",
    "truncatePromptTokens",
    "truncate_prompt_tokens",
    "truncation",
    "truncationDirection",
    "truncationSide",
    "truncation_direction",
    "truncation_side",
    "use_activation",
];

/// Options that would change scores and are not read here.
pub(super) const REFUSED: [&str; 2] = ["rankFields", "rank_fields"];

/// How a case is to be scored.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// The most results; 0: all.
    pub(super) top_n: usize,
    pub(super) normalization: ScoreScale,
    pub(super) instruction: Option<String>,
    pub(super) truncation: Truncation,
}

impl Options {
    /// Of a case that says this, beside what the command line says.
    pub(super) fn read(said: &Map<String, Value>, args: &Args) -> Result<Self, String> {
        if let Some(name) = REFUSED.iter().find(|&&name| said.get(name).is_some_and(is_there)) {
            return Err(format!(
                "{name:?} is not read in files: give each document as one text, or as an object with text and title"
            ));
        }
        let request = request(said)?;
        let top_n = agreed(("top_n", request.top_n), ("--top-k", args.top_k))?;
        let instruction = args.instruction.clone();
        let instruction =
            agreed(("instruction", request.instruction), ("--instruction", instruction))?;
        let truncation = Truncation {
            max_tokens_per_query: request.truncation.max_tokens_per_query,
            max_tokens_per_doc: request.truncation.max_tokens_per_doc,
            forbidden: request.truncation.forbidden,
            max_chunks_per_doc: request.truncation.max_chunks_per_doc,
            max_tokens: request.truncation.max_tokens,
            from_start: request.truncation.from_start,
        };
        Ok(Self {
            top_n: top_n.unwrap_or(0),
            normalization: normalization(request.normalization, args.normalization())?,
            instruction,
            truncation,
        })
    }

    /// Fails if scores cannot be mapped as it says by this model.
    pub(super) fn check(&self, info: &ModelInfo) -> Result<(), String> {
        if self.normalization == ScoreScale::Mxbai && !ScoreScale::takes_mxbai(info.template) {
            return Err(format!(
                "normalization: mxbai is made for mxbai-rerank-v2 models only, {} is none; use sigmoid or raw",
                info.name
            ));
        }
        Ok(())
    }
}

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

/// The request that says this.
fn request(said: &Map<String, Value>) -> Result<RerankRequest, String> {
    let mut body = said.clone();
    body.insert("query".to_owned(), json!("?"));
    body.insert("documents".to_owned(), json!(["?"]));
    let body = Value::Object(body).to_string();
    let request = RerankBody::parse(body.as_bytes())
        .and_then(|body| body.into_request(Route::Rerank, &Limits::default()));
    request.map_err(|invalid| invalid.to_string())
}

/// What one of them says, or both.
fn agreed<T: PartialEq + Display>(
    (field, own): (&str, Option<T>),
    (flag, general): (&str, Option<T>),
) -> Result<Option<T>, String> {
    match (own, general) {
        (Some(own), Some(general)) if own != general => Err(format!(
            "{field:?} is {own} and {flag} is {general}: give one of them, or both alike"
        )),
        (own, general) => Ok(own.or(general)),
    }
}

/// How scores are mapped. A case may ask for numbers between 0 and 1 without saying how.
fn normalization(
    own: Option<defrost_api::Normalization>,
    general: Option<ScoreScale>,
) -> Result<ScoreScale, String> {
    use defrost_api::Normalization as Asked;
    let own = match own {
        None => return Ok(general.unwrap_or_default()),
        Some(Asked::Normalized) if general != Some(ScoreScale::Raw) => {
            return Ok(general.unwrap_or_default());
        }
        Some(Asked::Sigmoid | Asked::Normalized) => ScoreScale::Sigmoid,
        Some(Asked::Raw) => ScoreScale::Raw,
        Some(Asked::Mxbai) => ScoreScale::Mxbai,
    };
    match general {
        Some(general) if general != own => {
            let name = |one: ScoreScale| format!("{one:?}").to_lowercase();
            Err(format!(
                "the case asks for {} scores and --normalization is {}: give one of them, or both alike",
                name(own),
                name(general)
            ))
        }
        _ => Ok(own),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(said: &Value, more: &[&str]) -> Result<Options, String> {
        let base = ["rerank", "--model", "m", "--docs-file", "d"];
        let line = Line::parse_from(base.iter().chain(more));
        Options::read(said.as_object().unwrap(), &line.args)
    }

    #[test]
    fn every_name_is_one_that_a_request_may_have_and_none_is_missing() {
        // No option is an object: one that is read cannot be read, and any other is told.
        let is_read = |name: &str| request(json!({ name: {} }).as_object().unwrap()).is_err();
        for name in FIELDS.iter().chain(&REFUSED) {
            assert!(is_read(name), "{name}");
        }
        assert!(!is_read("topn"));
        // Texts, and what is about the answer's shape.
        let others = ["query", "documents", "model", "return_documents"];
        let form = &defrost_api::RERANK_FORMS[0];
        for name in form.fields() {
            let known = FIELDS.iter().chain(&REFUSED).chain(&others);
            assert!(known.clone().any(|known| *known == name), "{name} of {}", form.name);
        }
    }

    #[test]
    fn what_a_case_says_is_what_a_request_says() {
        for (said, says) in [
            (json!({"top_n": 3}), "3"),
            (json!({"top_k": 3}), "3"),
            (json!({"topN": 3, "top_k": 3}), "3"),
            (json!({"top_n": null}), "0"),
        ] {
            assert_eq!(read(&said, &[]).unwrap().top_n.to_string(), says, "{said}");
        }
        let said = json!({"instruct": "find", "truncation": false, "max_tokens_per_doc": 9, "raw_scores": true});
        let options = read(&said, &[]).unwrap();
        assert_eq!(options.instruction.as_deref(), Some("find"));
        assert!(options.truncation.forbidden);
        assert_eq!(options.truncation.max_tokens_per_doc, Some(9));
        assert_eq!(options.normalization, ScoreScale::Raw);
        for (said, says) in [
            (json!({"top_n": -1}), "top_n"),
            (json!({"top_n": 1, "top_k": 2}), "top_n is 1 and top_k is 2"),
            (json!({"normalization": "softmax"}), "normalization: expected"),
            (json!({"instruction": 5}), "instruction"),
            (json!({"rank_fields": ["a"]}), "\"rank_fields\" is not read in files"),
        ] {
            let error = read(&said, &[]).unwrap_err();
            assert!(error.contains(says), "{said}: {error}");
        }
    }

    #[test]
    fn a_case_and_the_command_line_agree_or_are_refused() {
        for (said, more, top_n) in [
            (json!({}), &["--top-k", "4"][..], 4),
            (json!({"top_n": 4}), &["--top-k", "4"], 4),
            (json!({"top_n": 4}), &[], 4),
        ] {
            assert_eq!(read(&said, more).unwrap().top_n, top_n, "{said} {more:?}");
        }
        for (said, more, says) in [
            (json!({"top_n": 3}), ["--top-k", "4"], "\"top_n\" is 3 and --top-k is 4"),
            (json!({"top_n": 3}), ["--top-k", "0"], "\"top_n\" is 3 and --top-k is 0"),
            (json!({"instruction": "a"}), ["--instruction", "b"], "\"instruction\" is a and"),
            (json!({"raw_scores": true}), ["--normalization", "sigmoid"], "asks for raw scores"),
            (json!({"normalize": true}), ["--normalization", "raw"], "asks for sigmoid scores"),
        ] {
            let error = read(&said, &more).unwrap_err();
            assert!(error.contains(says), "{said}: {error}");
        }
        let scaled = json!({"raw_scores": false});
        let options = read(&scaled, &["--normalization", "mxbai"]).unwrap();
        assert_eq!(options.normalization, ScoreScale::Mxbai);
        assert_eq!(read(&scaled, &[]).unwrap().normalization, ScoreScale::Sigmoid);
    }
}
