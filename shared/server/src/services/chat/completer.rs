//! Models that continue texts and conversations.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use defrost_chat::{SpecialTexts, Template};
use defrost_model::spec::ChatSpec;
use defrost_model::{Answers, Decoder, Planned, Wanted};
use defrost_tasks::{
    Error, GenerationLimits, GenerationTask, Generator, GeneratorInfo, Pieces, Prepared,
    Scheduler, SchedulerOptions, TextToken,
};

use super::turns::Generation;
use crate::boot_error::BootError;
use crate::config::Config;
use crate::error::ApiError;
use crate::life::phases::PhaseRecorder;
use crate::models::info::Info;
use crate::models::loaded::Loaded;
use crate::models::model::Model;
use crate::models::pipeline::Pipeline;
use crate::models::restore;

/// A loaded model that generates. Tests put a deterministic one behind it.
pub trait Completer: Pipeline {
    /// What continues sequences of tokens.
    fn decoder(&self) -> &dyn Decoder;

    /// The bytes that each token stands for.
    fn pieces(&self) -> &Pieces;

    /// What the model takes.
    fn limits(&self) -> GenerationLimits;

    /// What its files say about conversations.
    fn spec(&self) -> &ChatSpec;

    /// The tokens of a text, with those that the model puts around a text that is to be continued if `add_special`: all of
    /// them, or more than `limit`.
    ///
    /// # Errors
    /// What is wrong with the tokenizer.
    fn ids(&self, text: &str, add_special: bool, limit: usize) -> Result<Vec<u32>, Error>;
}

impl Loaded {
    /// A model that continues texts and conversations.
    pub fn completer(model: impl Completer + 'static) -> Self {
        let model = Arc::new(model);
        let pipeline: Arc<dyn Pipeline> = Arc::<_>::clone(&model);
        let chat = Arc::new(ChatModel::new(model));
        let own = Arc::clone(&chat);
        let turns = move |config: &Config| -> Box<dyn Turns> {
            Box::new(Generation::new(Arc::clone(&chat), &config.chat))
        };
        Self::with_turns(pipeline, own, turns)
    }
}
