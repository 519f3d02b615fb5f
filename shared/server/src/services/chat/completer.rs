//! Models that continue texts and conversations.

use std::time::Duration;

use defrost_model::spec::ChatSpec;
use defrost_model::{Answers, Decoder, Planned, Wanted};
use defrost_tasks::{
    Error, GenerationLimits, GenerationTask, Generator, GeneratorInfo, Pieces, Prepared, TextToken,
};

use crate::models::info::Info;
use crate::models::pipeline::Pipeline;

/// A loaded model that generates. Tests put a deterministic one behind it.
pub trait Completer: Pipeline {
    /// What continues sequences of tokens.
    ///
    /// # Errors
    /// Never, of a model that has been loaded.
    fn decoder(&self) -> Result<&dyn Decoder, Error>;

    /// The bytes that each token stands for.
    fn pieces(&self) -> &Pieces;

    /// What the model takes.
    fn limits(&self) -> GenerationLimits;

    /// What its files say about conversations.
    fn spec(&self) -> &ChatSpec;

    /// The tokens of a text, with those that the model puts around a text that is to be continued if `add_special`.
    ///
    /// # Errors
    /// If there are more of them than the context has ([`Error::ContextExceeded`]), or what is wrong with the
    /// tokenizer.
    fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error>;
}

impl From<&GeneratorInfo> for Info {
    fn from(info: &GeneratorInfo) -> Self {
        // Taken apart whole: a field that is new there must be looked at here.
        let GeneratorInfo {
            name,
            family,
            hidden,
            layers,
            context,
            trained_context: _,
            kv_tokens: _,
            kv_bytes,
            vocab,
            precision,
            quantization,
            backend,
            kernel,
            threads,
            snapshot,
            bytes,
        } = info;
        Self {
            name: name.clone(),
            family: family.clone(),
            precision: quantization.as_ref().unwrap_or(precision).clone(),
            hidden: *hidden,
            layers: *layers,
            max_length: *context,
            vocab: *vocab,
            takes_instruction: false,
            backend: *backend,
            kernel,
            threads: *threads,
            snapshot: snapshot.clone(),
            bytes: *bytes,
            room_bytes: *kv_bytes,
        }
    }
}

impl Completer for Generator {
    fn decoder(&self) -> Result<&dyn Decoder, Error> {
        Generator::decoder(self)
    }

    fn pieces(&self) -> &Pieces {
        Generator::pieces(self)
    }

    fn limits(&self) -> GenerationLimits {
        Generator::limits(self)
    }

    fn spec(&self) -> &ChatSpec {
        Generator::chat(self)
    }

    fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        Generator::encode(self, text, add_special)
    }
}

impl Pipeline for Generator {
    fn info(&self) -> Info {
        Generator::info(self).into()
    }

    fn run(&self, _: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        Err(no_passes())
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        Err(no_passes())
    }

    /// A prompt of a few tokens, and two that continue it: both kinds of steps.
    fn warm_up(&self) -> Result<(), Error> {
        let prompt = Generator::encode(self, "a text to warm up with", self.chat().add_bos)?;
        let most = self.limits().context.saturating_sub(prompt.len()).min(2);
        let task = GenerationTask {
            max_tokens: Some(most),
            ignore_eos: true,
            ..GenerationTask::new(prompt)
        };
        self.generate(&task, &|| false).map(drop)
    }

    fn phases(&self) -> Vec<(&'static str, Duration)> {
        Generator::phases(self)
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        Generator::tokenize(self, text, add_special)
    }

    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        Generator::count_tokens(self, text, most)
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Generator::detokenize(self, ids, skip_special)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}

fn no_passes() -> Error {
    Error::Model("a model that generates runs no passes".into())
}
