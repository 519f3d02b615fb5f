//! What a request asks of a model: a prompt, made and tokenised beside the model's thread, and how it is to be
//! continued.

use std::sync::Arc;
use std::time::Duration;

use defrost_api::{
    CompletionApi, CompletionPrompt, Conversation, EmbedInput, Generation, Piece, ReasoningOutput,
};
use defrost_chat::{Prompt, ReplyForm};
use defrost_model::Constraint;
use defrost_tasks::{Bounds, Error};

use super::chat_model::ChatModel;
use super::job::{Prepared, ReplyJob, ReplyPart, Unread};
use super::translate::{self, Purpose};
use crate::config::ChatSettings;
use crate::models::events::Sink;
use crate::models::job::{Preparation, Question, Work};

/// What the prompt is made of.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// A reply in a conversation.
    Conversation {
        conversation: Conversation,
        reasoning: ReasoningOutput,
        /// The time, which templates may write.
        now: Duration,
    },
    /// More of a text.
    Text { prompt: CompletionPrompt, api: CompletionApi, echo: bool },
}

/// See the module page.
pub(crate) struct ReplyQuestion {
    pub(crate) model: Arc<ChatModel>,
    pub(crate) asked: Asked,
    pub(crate) generation: Arc<Generation>,
    pub(crate) settings: ChatSettings,
    pub(crate) unread: Arc<Unread>,
}

impl Question for ReplyQuestion {
    type Part = ReplyPart;

    fn bytes(&self) -> usize {
        match &self.asked {
            Asked::Conversation { conversation, .. } => translate::bytes(conversation),
            Asked::Text { prompt: EmbedInput::Text(text), .. } => text.len(),
            Asked::Text { prompt: EmbedInput::Tokens(_), .. } => 0,
            Asked::Text { prompt: EmbedInput::Mixed(pieces), .. } => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.len(),
                    Piece::Token(_) => 0,
                })
                .sum(),
        }
    }

    fn begin(self, bounds: Bounds, sink: Sink<ReplyPart>) -> Result<Box<dyn Preparation>, Error> {
        Ok(Box::new(Preparing { question: Some((self, sink)), bounds }))
    }
}

/// A prompt is made in one step: templates and tokenizers do not stop half-way.
struct Preparing {
    question: Option<(ReplyQuestion, Sink<ReplyPart>)>,
    bounds: Bounds,
}

impl Preparation for Preparing {
    fn step(&mut self, _: usize) -> Result<Option<Work>, Error> {
        let Some((question, sink)) = self.question.take() else { return Ok(None) };
        question.prepare(&self.bounds, sink).map(Some)
    }
}

/// A prompt in tokens, and what holds for its reply.
struct Read {
    ids: Vec<u32>,
    text: String,
    form: ReplyForm,
    purpose: Purpose,
    constraints: Vec<Box<dyn Constraint>>,
}

impl ReplyQuestion {
    fn prepare(self, bounds: &Bounds, sink: Sink<ReplyPart>) -> Result<Work, Error> {
        let drawn = draw()?;
        let Read { ids, text, form, purpose, constraints } = self.read(bounds)?;
        let Self { model, generation, settings, unread, .. } = self;
        let sampling = translate::sampling(&generation, &settings, model.spec(), drawn);
        let seed = sampling.seed;
        let limits = model.limits();
        let task = translate::task(ids, purpose, &generation, sampling, &settings, limits.context);
        let most = limits.check(&task)?;
        unread.allow(&task, most);
        let tokens = task.prompt.len();
        let job = ReplyJob::new(task, constraints, sink, unread);
        job.tell(ReplyPart::Prepared(Prepared { tokens, text, form, seed }));
        Ok(Work::Generation(Box::new(job)))
    }

    fn read(&self, bounds: &Bounds) -> Result<Read, Error> {
        let generation = &*self.generation;
        let model = &self.model;
        match &self.asked {
            Asked::Conversation { conversation, reasoning, now } => {
                let format = &generation.format;
                let Prompt { text, mut form, grammar } =
                    model.prompt(conversation, format, *now)?;
                within(text.len(), bounds, "messages")?;
                // The model's own marks go unread into the answer.
                if *reasoning == ReasoningOutput::Inline {
                    form.thinking = None;
                }
                let ids = self.ids(&text, false)?;
                let constraints = model.constraints(grammar.as_ref(), format, generation.n)?;
                let skip_special = !model.has_special(&form);
                let purpose = Purpose { api: None, echo: false, skip_special };
                Ok(Read { ids, text: String::new(), form, purpose, constraints })
            }
            Asked::Text { prompt, api, echo } => {
                let (ids, text) = self.text_ids(prompt, bounds)?;
                let constraints = model.constraints_of_text(&generation.format, generation.n)?;
                let purpose = Purpose { api: Some(*api), echo: *echo, skip_special: true };
                Ok(Read { ids, text, form: ReplyForm::default(), purpose, constraints })
            }
        }
    }

    /// The tokens of a text that is to be continued, and the text where there is one.
    fn text_ids(
        &self,
        prompt: &CompletionPrompt,
        bounds: &Bounds,
    ) -> Result<(Vec<u32>, String), Error> {
        let (add_bos, limit) = (self.model.spec().add_bos, self.model.limits().context);
        match prompt {
            EmbedInput::Text(text) => {
                within(text.len(), bounds, "prompt")?;
                Ok((self.ids(text, add_bos)?, text.clone()))
            }
            EmbedInput::Tokens(ids) => Ok((ids.clone(), String::new())),
            EmbedInput::Mixed(pieces) => {
                let mut ids = Vec::new();
                for (at, piece) in pieces.iter().enumerate() {
                    match piece {
                        Piece::Token(id) => ids.push(*id),
                        Piece::Text(text) => {
                            within(text.len(), bounds, "prompt")?;
                            ids.extend(self.ids(text, at == 0 && add_bos)?);
                        }
                    }
                    // What is longer will not fit, however much follows.
                    if ids.len() > limit {
                        break;
                    }
                }
                Ok((ids, String::new()))
            }
        }
    }

    /// The tokens of a text. One that is too long is told with what was to follow it.
    fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        self.model.ids(text, add_special).map_err(|error| match error {
            Error::ContextExceeded { limit, prompt, completion: None } => {
                Error::ContextExceeded { limit, prompt, completion: self.generation.max_tokens }
            }
            other => other,
        })
    }
}

fn within(found: usize, bounds: &Bounds, param: &'static str) -> Result<(), Error> {
    let most = bounds.text_bytes;
    if found <= most {
        return Ok(());
    }
    let message = format!(
        "{param}: the prompt has {found} bytes, at most {most} are allowed (4 MAX_BODY_BYTES); send fewer or shorter texts"
    );
    Err(Error::TooMuch { param, message })
}

/// What random numbers are made of where a request does not say; fresh from the operating system, so that copies of one
/// process's memory do not draw alike.
fn draw() -> Result<u64, Error> {
    getrandom::u64()
        .map_err(|error| Error::Model(format!("the system has no random numbers: {error}")))
}
