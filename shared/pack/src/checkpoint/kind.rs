//! What a checkpoint is: an embedder, a reranker or a language model, of which prompt and which pooling, and which file says
//! so.
//!
//! The user's word counts most, then modules.json, then the architecture in config.json. That leaves folders that say half
//! of it: a bare `Qwen3Model` or `BertModel` is an embedder whose pooling no file tells, a `BertForMaskedLM` may be
//! anything, a `Qwen3ForCausalLM` with a chat template that no reranker has is most likely for chat, and files of
//! sentence-transformers without its modules.json are not read there. These are asked for; a guess would give vectors that
//! look like any others.

use defrost_model::{Family, Head, Template};

use super::chat_template::{self, ChatTemplate};
use super::contradictions::check_model_type;
use super::modules::{Modules, pooling_by_name, pooling_name, pooling_names};
use super::sentence_transformers::{prompts_of_embedder, unread_without_modules};
use super::told::Told;
use super::{RawConfig, SpecOptions, named_template};
use crate::Error;
use crate::formats::Checkpoint;

/// What a model is for, as a user says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// The model scores pairs.
    Reranker,
    /// The model gives vectors.
    Embedder,
    /// The model continues texts and answers messages.
    Chat,
}

impl ModelKind {
    /// `reranker`, `embedder` or `chat`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reranker => "reranker",
            Self::Embedder => "embedder",
            Self::Chat => "chat",
        }
    }

    fn of(template: &Template) -> Self {
        match template {
            Template::Embedding { .. } => Self::Embedder,
            Template::Chat => Self::Chat,
            _ => Self::Reranker,
        }
    }
}

/// What a model is for, as [`pack`](crate::pack()) would decide with these options.
///
/// # Errors
/// What `pack` would refuse about its files.
pub fn kind_of(checkpoint: &Checkpoint, options: &SpecOptions) -> Result<ModelKind, Error> {
    let checkpoint = &*super::prepare(checkpoint)?;
    Ok(ModelKind::of(&super::read(checkpoint, options)?.spec.template))
}

/// The kind that was decided on.
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
    let asked = Asked { checkpoint, raw, family, modules, bidirectional, name: &options.name };
    let (name, from) = asked.template(options)?;
    let template = named_template(checkpoint, &name)?;
    let kind = ModelKind::of(&template);
    if let Some(wanted) = options.kind.filter(|&wanted| wanted != kind) {
        return Err(Error::Model(format!(
            "--kind {} and --template {name} contradict each other: expected one of them",
            wanted.name()
        )));
    }
    if kind != ModelKind::Chat && checkpoint.quantization().is_some() {
        return Err(Error::Model(format!(
            "a GGUF file is packed for chat only, and this is to be a model of the kind {}: expected --kind chat. Pack the \
             model's safetensors instead",
            kind.name()
        )));
    }
    let fits = match template {
        Template::Pair => !family.blueprint.causal,
        Template::MxbaiRerankV2 | Template::Qwen3Reranker | Template::Chat => {
            family.blueprint.causal
        }
        Template::Embedding { .. } => true,
    };
    if !fits {
        return Err(Error::Model(format!("template {name} does not fit a {} model", family.name)));
    }
    if options.template.is_none() && options.kind.is_none() && options.pooling.is_none() {
        check_model_type(checkpoint, kind)?;
    }
    let mut told = vec![Told::new("kind", kind.name(), from.clone())];
    told.extend(asked.unread(kind, options)?);
    let head = match &template {
        Template::Embedding { .. } => {
            let (head, from) = asked.pooling(options)?;
            told.push(Told::new("pooling", pooling_name(head), from));
            head
        }
        _ if options.pooling.is_some() => {
            let what = if kind == ModelKind::Chat { "for chat" } else { "as a reranker" };
            return Err(Error::Model(format!(
                "--pooling belongs to embedders, and this is packed {what}: say --kind embedder, or leave it out"
            )));
        }
        Template::Chat => Head::LanguageModel,
        Template::Pair => {
            asked.check_pair(options)?;
            Head::Classifier
        }
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
    /// The name of the model, as a rule its publisher's.
    name: &'a str,
}

impl Asked<'_> {
    /// The template's name and where it comes from.
    fn template(&self, options: &SpecOptions) -> Result<(String, String), Error> {
        let said = |name: &str, from: &str| Ok((name.to_owned(), from.to_owned()));
        match (&options.template, options.kind) {
            (Some(name), _) => return said(name, "--template"),
            (None, Some(ModelKind::Embedder)) => return said("embedding", "--kind"),
            (None, Some(ModelKind::Chat)) => return said("chat", "--kind"),
            (None, Some(ModelKind::Reranker)) => {
                return said(self.usual_prompt()?, "--kind");
            }
            (None, None) if options.pooling.is_some() => return said("embedding", "--pooling"),
            (None, None) => {}
        }
        if self.checkpoint.is_gguf() {
            return said("chat", "a GGUF file");
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

    /// The prompt of the family's rerankers.
    fn usual_prompt(&self) -> Result<&'static str, Error> {
        let template = self.family.files.template;
        if template == Template::Chat.name() {
            return Err(Error::Model(format!(
                "no prompt of a reranker is known of {} models: expected --template with one of mxbai-rerank-v2 and \
                 qwen3-reranker, or --kind chat or embedder",
                self.family.name
            )));
        }
        Ok(template)
    }

    /// The prompt of a reranker that reads logits: that which its chat template is, or the family's where it has none.
    fn by_chat_template(&self) -> Result<(String, String), Error> {
        match chat_template::read(self.checkpoint)? {
            ChatTemplate::Known(name) => Ok((name.to_owned(), "the chat template".to_owned())),
            ChatTemplate::Absent => {
                let (family, prompt) = (self.family.name, self.usual_prompt()?);
                let from = format!(
                    "modules.json: LogitScore, of a {family} model without a chat template, whose prompt is taken to be that \
                     of {prompt}; --template names another"
                );
                Ok((prompt.to_owned(), from))
            }
            ChatTemplate::Other => Err(Error::Model(
                "modules.json: LogitScore: the chat template is none of the known prompts to the letter, so how query and \
                 document are put together cannot be told: say --template mxbai-rerank-v2 or --template qwen3-reranker if \
                 the model was trained with one of these after all"
                    .to_owned(),
            )),
        }
    }

    /// The prompt of a causal model without modules, which may as well be for chat, or an embedder.
    fn causal(&self, from: String) -> Result<(String, String), Error> {
        let prompt = self.family.files.template;
        let chats = prompt == Template::Chat.name();
        let scores = if chats {
            String::new()
        } else {
            format!(
                "--kind reranker (or --template {prompt}) for scores by the prompt of {prompt}, "
            )
        };
        let ask = |found: &str| {
            Err(Error::Model(format!(
                "what the model is for cannot be told: {from}, and {found}. Say --kind embedder --pooling {} for vectors, \
                 {scores}or --kind chat for a language model",
                pooling_names().replace(", ", "|")
            )))
        };
        if let Some(name) = prompts_of_embedder(self.checkpoint)? {
            return ask(&format!(
                "config_sentence_transformers.json has a prompt called {name:?}, as embedders have"
            ));
        }
        match chat_template::read(self.checkpoint)? {
            ChatTemplate::Known(name) => Ok((name.to_owned(), "the chat template".to_owned())),
            ChatTemplate::Absent | ChatTemplate::Other
                if chats && self.name.to_ascii_lowercase().contains("rerank") =>
            {
                ask(&format!("it is called {}", self.name))
            }
            ChatTemplate::Other if chats => Ok((prompt.to_owned(), from)),
            ChatTemplate::Absent => Ok((prompt.to_owned(), from)),
            // Published rerankers of this family keep the template of the model for chat that they were made from.
            ChatTemplate::Other if self.family.files.keeps_chat_template => {
                let from = format!(
                    "{from}, whose prompt is taken to be that of {prompt} although the chat template is another; --template \
                     names another"
                );
                Ok((prompt.to_owned(), from))
            }
            // So do some downloads of Qwen3-Reranker, whose name is all that tells them from the model for chat.
            ChatTemplate::Other if self.name.to_ascii_lowercase().contains("rerank") => {
                let from = format!("{from}, called {}, whose chat template is another", self.name);
                Ok((prompt.to_owned(), from))
            }
            ChatTemplate::Other => ask("the chat template is not that of a known reranker"),
        }
    }

    /// Refuses a chat template of a cross-encoder: sentence-transformers puts query and document into it.
    fn check_pair(&self, options: &SpecOptions) -> Result<(), Error> {
        let said = options.template.is_some();
        if said || chat_template::read(self.checkpoint)? == ChatTemplate::Absent {
            return Ok(());
        }
        Err(Error::Model(format!(
            "the folder of this {} cross-encoder has a chat template (chat_template.jinja, or in tokenizer_config.json), which \
             sentence-transformers puts query and document into and this version does not: expected none. If the model was \
             trained with plain pairs, say --template pair",
            self.family.name
        )))
    }

    /// Files of sentence-transformers that it does not read, as there is no modules.json: asked for, or told where the user
    /// has decided.
    fn unread(&self, kind: ModelKind, options: &SpecOptions) -> Result<Vec<Told>, Error> {
        if kind == ModelKind::Chat || self.modules.is_some_and(|modules| modules.listed) {
            return Ok(Vec::new());
        }
        let mut files = unread_without_modules(self.checkpoint)?;
        let (decided, remedy) = match kind {
            ModelKind::Embedder => {
                let pooling = self.modules.and_then(|modules| modules.pooling.clone());
                let said = options.pooling.is_some();
                let own = pooling.as_ref().map_or("", |(head, _)| pooling_name(*head));
                if let Some((_, file)) = pooling.filter(|_| !said) {
                    files.push(file);
                }
                let names = pooling_names().replace(", ", "|");
                let own = if own.is_empty() {
                    String::new()
                } else {
                    format!(" (1_Pooling/config.json has {own})")
                };
                (said, format!("say --pooling {names}{own} to have the files read all the same"))
            }
            ModelKind::Reranker | ModelKind::Chat => {
                // Prompts that a reranker would get are refused elsewhere.
                files.retain(|file| !file.starts_with("config_sentence_transformers.json"));
                if options.max_length.is_some() {
                    files.retain(|file| !file.ends_with("max_seq_length"));
                }
                (false, "say --max-length where that is what the file is about".to_owned())
            }
        };
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let files = files.join(" and ");
        if decided {
            let value = "read, though there is no modules.json and sentence-transformers does not \
                         read them without it";
            return Ok(vec![Told::new("files", value, files)]);
        }
        Err(Error::Model(format!(
            "there is no modules.json, and without it sentence-transformers does not read {files}: whether the model was \
             trained with that cannot be told. Get modules.json; or {remedy}; or take that out of a copy of the folder"
        )))
    }

    fn by_architecture(&self) -> Result<(String, String), Error> {
        let architecture = self.raw.architectures.iter().flatten().next();
        let name = architecture.map_or("", String::as_str);
        let from = format!("config.json: {name}");
        let said = |template: &str| Ok((template.to_owned(), from.clone()));
        let decoder = self.family.blueprint.causal;
        if name.ends_with("ForSequenceClassification") && !decoder {
            return said("pair");
        }
        if name.ends_with("ForCausalLM") && decoder && !self.bidirectional {
            return self.causal(from);
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
            self.family.files.template
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
        let usual = if self.family.blueprint.causal && !self.bidirectional {
            "lasttoken is what Qwen3-Embedding has"
        } else {
            "mean is what sentence-transformers takes for such a folder, cls what BGE's models have"
        };
        Err(Error::Model(format!(
            "how the vectors of tokens become one cannot be told: config.json is of an embedder, but there is no modules.json \
             and no 1_Pooling/config.json. Get these files, or say --pooling {} ({usual}); to score pairs instead, say \
             --kind reranker (or --template {})",
            pooling_names().replace(", ", "|"),
            self.family.files.template
        )))
    }
}
