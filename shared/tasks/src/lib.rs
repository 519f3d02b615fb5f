//! From texts to scores, vectors and further text: restore snapshots, tokenise, prompt, plan, run, score, embed or generate.
//!
//! ```text
//! Location --restore--> Snapshot --Reranker::load--> Reranker::score
//!                              +---Embedder::load--> Embedder::embed
//!                              `--Generator::load--> Generator::scheduler
//! ```
//!
//! What runs the model is one of the runtimes that the caller links ([`defrost_model::Runtime`]).

mod bounds;
mod embedder;
mod error;
mod executor;
mod generate;
mod loaded;
mod prepared;
mod prompt;
mod reranker;
mod restore;
mod running;
mod schedule;
mod score;
mod text_tokens;
mod tokenizer;

pub use bounds::{Bounds, Preparing};
pub use embedder::{
    EmbedPreparing, EmbedTask, EmbedTruncation, Embedder, EmbedderInfo, EmbedderOptions, Embedding,
    Input, Outputs, Overflow, PromptChoice,
};
pub use error::Error;
pub use executor::{Ended, Executor, Failed, Next, Rounds};
pub use generate::{
    Completion, Finish, Generated, GenerationJob, GenerationLimits, GenerationTask, Generator,
    GeneratorInfo, GeneratorOptions, LONGEST_STOP, Logprob, Logprobs, MOST_CHOICES, MOST_LOGPROBS,
    MOST_STOPS, Pieces, Produced, ProducedToken, Sampling, Scheduler, SchedulerLoad,
    SchedulerOptions, Usage,
};
pub use loaded::{LoadTimings, ModelOptions};
pub use prepared::{Prepared, Said};
pub use prompt::{Prompt, QWEN3_INSTRUCTION, Query, Sequence, mxbai_pieces, qwen3_pieces};
pub use reranker::{
    ModelInfo, Reranker, RerankerOptions, Score, ScorePreparing, ScoreTask, Truncation,
};
pub use restore::{RestoreOptions, restore};
pub use schedule::Order;
pub use score::ScoreScale;
pub use text_tokens::TextToken;
pub use tokenizer::TextTokenizer;
