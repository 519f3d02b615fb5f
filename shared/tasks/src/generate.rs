//! Texts that go on from a prompt: what is asked for, what is said of it, and how many requests share one model.
//!
//! ```text
//! GenerationTask --Generator::check--> a job (GenerationJob) --Scheduler::push--> Scheduler::step(&dyn Decoder), again and again
//!                                        ^                                             |
//!                                        `-- started, produced, finished <-------------'--> the job again, with its Usage
//! ```
//!
//! The caller has the thread, the model and the jobs, as with [`crate::Executor`]: between two steps it pushes what has come
//! in ([`Scheduler::push`]) and drops what has been given up ([`Scheduler::drop_cancelled`]); while the scheduler is not empty,
//! [`Scheduler::step`] runs one pass of the model and gives back the jobs that have ended, each with its [`Usage`] or what went
//! wrong with it.
//!
//! ```text
//! scheduler   which tokens of which completions a step computes; memory, guesses, forced tokens
//! sampler     which token comes, from logits            logprobs   what the model said of it
//! pieces      the bytes of tokens                       text       which of them can be shown, and where the text ends
//! ```

mod generator;
mod job;
mod logprobs;
mod pieces;
mod sampler;
mod scheduler;
mod task;
mod text;

pub use generator::{Completion, Generator, GeneratorInfo, GeneratorOptions};
pub use job::{Finish, GenerationJob, Logprob, Logprobs, Produced, ProducedToken, Usage};
pub use pieces::Pieces;
pub use scheduler::{Generated, Scheduler, SchedulerLoad, SchedulerOptions};
pub use task::{
    GenerationLimits, GenerationTask, LONGEST_STOP, MOST_CHOICES, MOST_LOGPROBS, MOST_STOPS,
    Sampling,
};
