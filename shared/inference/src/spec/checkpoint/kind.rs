//! What a checkpoint is: an embedder or a reranker, of which prompt and which pooling, and which file says so.
//!
//! The user's word counts most, then modules.json, then the architecture in config.json. That leaves folders that say half
//! of it: a bare `Qwen3Model` or `BertModel` is an embedder whose pooling no file tells, and a `BertForMaskedLM` may be
//! anything. These are asked for; a guess would give vectors that look like any others.

use defrost_engine::{Family, Head};
use defrost_loader::Checkpoint;
use serde_json::Value;

use super::modules::{Modules, pooling_by_name, pooling_name, pooling_names};
use super::told::Told;
use super::{RawConfig, SpecOptions, named_template, optional_beside_weights};
use crate::Error;
use crate::spec::Template;

/// What a model is for, as a user says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Scores pairs.
    Reranker,
    /// Gives vectors.
    Embedder,
}

impl ModelKind {
    /// `reranker` or `embedder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reranker => "reranker",
            Self::Embedder => "embedder",
        }
    }

    fn of(template: &Template) -> Self {
        match template {
            Template::Embedding { .. } => Self::Embedder,
            _ => Self::Reranker,
        }
    }
}

/// Words that only the prompt of that template has.
const PROMPTS: [(&str, &str); 2] = [
    ("qwen3-reranker", "Judge whether the Document meets the requirements"),
    ("mxbai-rerank-v2", "You are a search relevance expert"),
];

/// What was decided.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) template: Template,
    pub(crate) head: Head,
    pub(crate) told: Vec<Told>,
}

/// Decides. `modules` are those of the checkpoint; `bidirectional` says whether a decoder lacks its mask.
pub(crate) fn decide(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    family: Family,
    modules: Option<&Modules>,
    bidirectional: bool,
    options: &SpecOptions,
) -> Result<Kind, Error> {
    let asked = Asked { checkpoint, raw, family, modules, bidirectional };
    let (name, from) = asked.template(options)?;
    let template = named_template(checkpoint, &name)?;
    let kind = ModelKind::of(&template);
    if let Some(wanted) = options.kind.filter(|&wanted| wanted != kind) {
        return Err(Error::Model(format!(
            "--kind {} and --template {name} contradict each other: expected one of them",
            wanted.name()
        )));
    }
    let fits = match template {
        Template::Pair => !family.is_decoder(),
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => family.is_decoder(),
        Template::Embedding { .. } => true,
    };
    if !fits {
        return Err(Error::Model(format!(
            "template {name} does not fit a {} model",
            family.name()
        )));
    }
    let mut told = vec![Told::new("kind", kind.name(), from.clone())];
    let head = match &template {
        Template::Embedding { .. } => {
            let (head, from) = asked.pooling(options)?;
            told.push(Told::new("pooling", pooling_name(head), from));
            head
        }
        _ if options.pooling.is_some() => {
            return Err(Error::Model(
                "--pooling belongs to embedders, and this is packed as a reranker: say --kind embedder, or leave it out"
                    .to_owned(),
            ));
        }
        Template::Pair => Head::Classifier,
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => {
            told.push(Told::new("prompt", name, from));
            Head::YesNo
        }
    };
    Ok(Kind { template, head, told })
}

struct Asked<'a> {
    checkpoint: &'a Checkpoint,
    raw: &'a RawConfig,
    family: Family,
    modules: Option<&'a Modules>,
    bidirectional: bool,
}

impl Asked<'_> {
    /// The template's name and where it comes from.
    fn template(&self, options: &SpecOptions) -> Result<(String, String), Error> {
        let said = |name: &str, from: &str| Ok((name.to_owned(), from.to_owned()));
        match (&options.template, options.kind) {
            (Some(name), _) => return said(name, "--template"),
            (None, Some(ModelKind::Embedder)) => return said("embedding", "--kind"),
            (None, Some(ModelKind::Reranker)) => return said(self.usual_prompt(), "--kind"),
            (None, None) if options.pooling.is_some() => return said("embedding", "--pooling"),
            (None, None) => {}
        }
        if let Some(modules) = self.modules {
            match (&modules.pooling, modules.logit_score) {
                (Some(_), _) if modules.listed => {
                    return said("embedding", "modules.json: Pooling");
                }
                (Some((_, file)), _) => return said("embedding", file),
                (None, Some(_)) => return self.by_chat_template(),
                // A cross-encoder, if config.json says so too.
                (None, None) => {}
            }
        }
        self.by_architecture()
    }

    fn usual_prompt(&self) -> &'static str {
        match self.family {
            Family::Bert | Family::XlmRoberta => "pair",
            Family::Qwen2 => "mxbai-rerank-v2",
            Family::Qwen3 => "qwen3-reranker",
        }
    }

    /// Of a reranker that reads logits: the prompt whose words its chat template has, or the family's where it has none.
    fn by_chat_template(&self) -> Result<(String, String), Error> {
        let in_file = self.checkpoint.file_beside_weights("chat_template.jinja")?;
        let in_file = in_file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let config: Option<Value> =
            optional_beside_weights(self.checkpoint, "tokenizer_config.json")?;
        let in_config = config
            .map(|config| config["chat_template"].clone())
            .filter(|template| !template.is_null())
            .map(|template| template.to_string());
        let Some(template) = in_file.or(in_config) else {
            let (family, prompt) = (self.family.name(), self.usual_prompt());
            let from = format!(
                "modules.json: LogitScore, of a {family} model without a chat template, whose prompt is taken to be that of \
                 {prompt}; --template names another"
            );
            return Ok((prompt.to_owned(), from));
        };
        let known = PROMPTS.iter().find(|(_, words)| template.contains(words));
        known.map_or_else(
            || {
                Err(Error::Model(
                    "modules.json: LogitScore: the chat template is none of the known prompts, so how query and document \
                     are put together cannot be told: say --template mxbai-rerank-v2 or --template qwen3-reranker if it \
                     is one of these after all"
                        .to_owned(),
                ))
            },
            |(name, _)| Ok(((*name).to_owned(), "the chat template".to_owned())),
        )
    }

    fn by_architecture(&self) -> Result<(String, String), Error> {
        let architecture = self.raw.architectures.iter().flatten().next();
        let name = architecture.map_or("", String::as_str);
        let from = format!("config.json: {name}");
        let said = |template: &str| Ok((template.to_owned(), from.clone()));
        let decoder = self.family.is_decoder();
        if name.ends_with("ForSequenceClassification") && !decoder {
            return said("pair");
        }
        if name.ends_with("ForCausalLM") && decoder && !self.bidirectional {
            return said(self.usual_prompt());
        }
        if name.ends_with("Model") || (name.ends_with("ForCausalLM") && decoder) {
            return said("embedding");
        }
        let found = match name {
            "" => "names no architecture".to_owned(),
            name => format!("names {name}"),
        };
        let more = match name {
            _ if name.ends_with("ForSequenceClassification") => {
                "; a decoder with a classifier head is not supported, give the model it was made from"
            }
            _ if name.ends_with("ForMaskedLM") => {
                "; if it is a SPLADE model, that is not supported"
            }
            _ => "",
        };
        Err(Error::Model(format!(
            "config.json {found}, and there is no modules.json that says what the model is for{more}. Say --kind embedder \
             --pooling {} for vectors (--template embedding does the same), or --kind reranker (or --template {}) for \
             scores",
            pooling_names().replace(", ", "|"),
            self.usual_prompt()
        )))
    }

    /// The pooling and where it comes from.
    fn pooling(&self, options: &SpecOptions) -> Result<(Head, String), Error> {
        if let Some(name) = &options.pooling {
            let head = pooling_by_name(name).ok_or_else(|| {
                Error::Model(format!(
                    "--pooling {name:?} is not known, expected one of {}",
                    pooling_names()
                ))
            })?;
            return Ok((head, "--pooling".to_owned()));
        }
        if let Some((head, file)) = self.modules.and_then(|modules| modules.pooling.clone()) {
            return Ok((head, file));
        }
        let usual = if self.family.is_decoder() && !self.bidirectional {
            "lasttoken is what Qwen3-Embedding has"
        } else {
            "mean is what sentence-transformers takes for such a folder, cls what BGE's models have"
        };
        Err(Error::Model(format!(
            "how the vectors of tokens become one cannot be told: config.json is of an embedder, but there is no modules.json \
             and no 1_Pooling/config.json. Get these files, or say --pooling {} ({usual}); to score pairs instead, say \
             --kind reranker (or --template {})",
            pooling_names().replace(", ", "|"),
            self.usual_prompt()
        )))
    }
}
