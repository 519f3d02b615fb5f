//! A language model restored from a snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use defrost_loader::Snapshot;
use defrost_model::spec::ChatSpec;
use defrost_model::stored::{TOKEN_PIECES, TOKENIZER};
use defrost_model::{Decoder, Runtime};

use super::pieces::Pieces;
use super::scheduler::{Common, Generated, Scheduler, SchedulerOptions};
use super::{Finish, GenerationJob, GenerationLimits, GenerationTask, Produced, Usage};
use crate::Error;
use crate::embedder::Special;
use crate::loaded::{LoadTimings, ModelOptions, Opened, Started};
use crate::running::Running;
use crate::text_tokens::{TextToken, Words};
use crate::tokenizer::{TextTokenizer, Vocabulary};

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone, Default)]
pub struct GeneratorOptions {
    /// The settings that every model has.
    pub model: ModelOptions,
    /// How requests share the model.
    pub scheduler: SchedulerOptions,
}

/// What is known about the model once it is restored.
#[derive(Debug, Clone)]
pub struct GeneratorInfo {
    /// The name given at pack time, such as `Qwen/Qwen3-0.6B`.
    pub name: String,
    /// The architecture: `llama`, `qwen2`, `qwen3`, `gemma3_text`.
    pub family: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The most tokens of prompt and completion together.
    pub context: usize,
    /// The most that the model was made for.
    pub trained_context: usize,
    /// Tokens whose keys and values there is memory for.
    pub kv_tokens: usize,
    /// Bytes of that memory.
    pub kv_bytes: u64,
    /// Token ids from this one on have no meaning.
    pub vocab: usize,
    /// The precision of the weights: `int8`, `bf16`, `f32`, or `blocks`.
    pub precision: String,
    /// What the blocks of a GGUF file are called together, such as `Q4_K_M`.
    pub quantization: Option<String>,
    /// The name of the runtime that runs the model.
    pub backend: &'static str,
    /// Kernel set chosen for this processor, such as `avx512-vnni`.
    pub kernel: &'static str,
    /// The number of worker threads.
    pub threads: usize,
    /// The snapshot's root hash in hex.
    pub snapshot: String,
    /// The length of the snapshot in bytes.
    pub bytes: u64,
}

/// A model that is ready to generate.
#[derive(Debug)]
pub struct Generator {
    info: GeneratorInfo,
    chat: ChatSpec,
    common: Common,
    scheduler: SchedulerOptions,
    snapshot: Snapshot,
    timings: LoadTimings,
    tokenizer: TextTokenizer,
    special: Special,
    vocabulary: Vocabulary,
    model: Running,
}

/// A completion that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// All parts of it joined, the prompt first if that is echoed.
    pub produced: Produced,
    /// Why it ended.
    pub finish: Finish,
}

impl Generator {
    /// Builds the model over the snapshot's mapped weights, in one of the `linked` runtimes.
    ///
    /// Fails with [`Error::Model`] if the model is no language model or its runtime does not continue sequences, and with
    /// [`Error::Tokenizer`] if text cannot be streamed from its tokens.
    pub fn load(
        linked: &[&'static dyn Runtime],
        snapshot: &Snapshot,
        options: &GeneratorOptions,
    ) -> Result<Self, Error> {
        // What bounds the sequences of other models bounds these too.
        let context = options.model.context.or(options.model.max_length);
        let model_options = ModelOptions { context, ..options.model.clone() };
        let Opened { common, tokenizer, backend, rest } =
            Opened::open(linked, snapshot, &model_options)?;
        let chat = common.language_model(snapshot.path())?.clone();
        let pieces = pieces(snapshot)?;
        let special = Special::of(&tokenizer)?;
        let Started { model, timings } = rest.start(&model_options)?;
        let decoder = decoder(&model, backend)?;
        let (vocab, kv_tokens) = (decoder.vocab(), decoder.room().total);
        let kv_bytes = decoder.room_bytes();
        let context = decoder.context().min(kv_tokens);
        let info = GeneratorInfo {
            name: common.name,
            family: common.family,
            hidden: common.hidden,
            layers: common.layers,
            context,
            trained_context: common.max_positions,
            kv_tokens,
            kv_bytes,
            vocab,
            precision: common.precision,
            quantization: chat.quantization.clone(),
            backend,
            kernel: model.runner().kernel(),
            threads: model.runner().threads(),
            snapshot: snapshot.root().to_string(),
            bytes: snapshot.file_len(),
        };
        let ends = chat.ends.iter().copied().collect();
        Ok(Self {
            info,
            common: Common { pieces, ends, limits: GenerationLimits { vocab, context } },
            chat,
            scheduler: options.scheduler,
            snapshot: snapshot.clone(),
            timings,
            tokenizer,
            special,
            vocabulary: Vocabulary::new(snapshot.clone()),
            model,
        })
    }

    /// Facts about the model.
    pub fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    /// How the model converses: templates, the tokens that end a turn, how its authors sample.
    pub fn chat(&self) -> &ChatSpec {
        &self.chat
    }

    /// The bytes of its tokens.
    pub fn pieces(&self) -> &Pieces {
        &self.common.pieces
    }

    /// Where the time of loading went.
    pub fn timings(&self) -> LoadTimings {
        self.timings
    }

    /// What loading was made of beside [`LoadTimings`], some of which may still be going on: names, and how long they took.
    pub fn phases(&self) -> Vec<(&'static str, Duration)> {
        self.model.runner().phases()
    }

    /// What the operator should know about how the model is run; mostly nothing.
    pub fn notes(&self) -> &[String] {
        self.model.runner().notes()
    }

    /// Prepares as [`crate::Reranker::prepare_for_snapshot`] does: afterwards a copy of this process's memory is all it
    /// takes to generate.
    pub fn prepare_for_snapshot(&self) -> Result<(), Error> {
        self.model.runner().before_snapshot()?;
        Ok(self.snapshot.detach()?)
    }

    /// What requests may ask for.
    pub fn limits(&self) -> GenerationLimits {
        self.common.limits
    }

    /// The most tokens of each completion of a task, if the model can do it; see [`GenerationLimits::check`].
    pub fn check(&self, task: &GenerationTask) -> Result<usize, Error> {
        self.common.limits.check(task)
    }

    /// The model, for [`Scheduler::step`].
    ///
    /// # Errors
    /// Never, of a model that has been loaded.
    pub fn decoder(&self) -> Result<&dyn Decoder, Error> {
        decoder(&self.model, self.info.backend)
    }

    /// A scheduler for requests to this model.
    pub fn scheduler<J: GenerationJob>(&self) -> Scheduler<J> {
        Scheduler::new(self.common.clone(), self.scheduler)
    }

    /// The completions of one task, with nothing else running. `cancelled` is asked before each step.
    ///
    /// # Errors
    /// As [`Generator::check`]; if the model fails; [`Error::Cancelled`].
    pub fn generate(
        &self,
        task: &GenerationTask,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Vec<Completion>, Usage), Error> {
        let decoder = self.decoder()?;
        let mut scheduler = self.scheduler();
        scheduler.push(Alone { task, cancelled, completions: BTreeMap::new() });
        while scheduler.drop_cancelled(decoder) == 0 {
            let ended = scheduler.step(decoder).map_err(|failed| failed.error)?;
            if let Some(Generated { job, result }) = ended.into_iter().next() {
                return result.map(|usage| (job.completions.into_values().collect(), usage));
            }
        }
        Err(Error::Cancelled)
    }

    /// The tokens of a text: of a prompt that a template has made, or, with the special tokens that the tokenizer puts around a
    /// text, of one that is to go on. Names of special tokens in it are those tokens.
    ///
    /// # Errors
    /// If it has more tokens than the context ([`Error::ContextExceeded`], with a number that is at most theirs), or the file that
    /// the tokenizer is read from has been edited.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        let limit = self.info.context;
        let ids = self.tokenizer.ids(text, limit);
        self.snapshot.intact()?;
        let mut ids = ids?;
        if add_special {
            ids = self.tokenizer.single(&ids)?.ids;
        }
        if ids.len() > limit {
            return Err(Error::ContextExceeded { limit, prompt: ids.len(), completion: None });
        }
        Ok(ids)
    }

    /// The tokens of a text, with what each of them is called and stands for.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        self.words().tokenize(text, add_special)
    }

    /// How many tokens a text has without special ones; some number above `most` if it has more.
    pub fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        self.words().count(text, most)
    }

    /// The text that tokens stand for.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.words().detokenize(ids, skip_special)
    }

    fn words(&self) -> Words<'_> {
        Words {
            tokenizer: &self.tokenizer,
            special: &self.special,
            vocabulary: &self.vocabulary,
            vocab: self.info.vocab,
            snapshot: &self.snapshot,
        }
    }
}

fn decoder<'a>(model: &'a Running, backend: &str) -> Result<&'a dyn Decoder, Error> {
    model.runner().decoder().ok_or_else(|| {
        Error::Model(format!(
            "{backend} does not continue sequences, expected a runtime that does, such as engine; leave BACKEND unset"
        ))
    })
}

/// The bytes of a snapshot's tokens: as they were packed, unless the snapshot has none that this version reads.
fn pieces(snapshot: &Snapshot) -> Result<Pieces, Error> {
    if snapshot.has(TOKEN_PIECES)
        && let Ok(pieces) = Pieces::open(snapshot.tensor(TOKEN_PIECES)?.bytes)
    {
        return Ok(pieces);
    }
    Pieces::open(Pieces::compile(&snapshot.tensor(TOKENIZER)?.bytes)?.into())
}

/// A task that has the model to itself.
struct Alone<'a> {
    task: &'a GenerationTask,
    cancelled: &'a dyn Fn() -> bool,
    completions: BTreeMap<usize, Completion>,
}

impl Alone<'_> {
    fn completion(&mut self, choice: usize) -> &mut Completion {
        let unfinished = || Completion { produced: Produced::default(), finish: Finish::Length };
        self.completions.entry(choice).or_insert_with(unfinished)
    }
}

impl GenerationJob for Alone<'_> {
    fn task(&self) -> &GenerationTask {
        self.task
    }

    fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }

    fn produced(&mut self, choice: usize, produced: Produced) {
        let whole = &mut self.completion(choice).produced;
        whole.text += &produced.text;
        whole.tokens.extend(produced.tokens);
        whole.is_echo |= produced.is_echo;
    }

    fn finished(&mut self, choice: usize, finish: &Finish) {
        self.completion(choice).finish = finish.clone();
    }
}
