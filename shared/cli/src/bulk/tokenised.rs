//! Chunks on the model: jobs of an [`Executor`], in order and two at a time.
//!
//! The last micro-batch of a chunk is filled from the next one, where that is there; nothing waits for it. An answer depends
//! on its own texts alone, so that neither the chunks nor what runs together can be told from the output.

use std::sync::mpsc::{Receiver, SyncSender};

use anyhow::Result;
use defrost_model::{Answers, Planned, Share, Tokens, Wanted};
use defrost_tasks::{Ended, Error, Executor, Next, Order, Rounds};

use super::key::Key;
use super::{Asked, Operation};

/// Chunks that the model has at a time: the second one fills the last micro-batch of the first. No more, because all their
/// tokens are held, and the answers to what has run of them.
const TOGETHER: usize = 2;
/// A chunk without its texts, to be run and written.
pub(super) struct Tokenised {
    pub(super) keys: Vec<Key>,
    pub(super) places: Vec<String>,
    pub(super) rows: u64,
    pub(super) progress: (u64, Option<u64>),
    /// `None` if no text is left.
    pub(super) asked: Option<Asked>,
    /// The model's answers, once it has run.
    pub(super) answers: Vec<Answers>,
}

impl Rounds for Tokenised {
    fn sequences(&self) -> &[Tokens] {
        match &self.asked {
            Some(Asked::Sequences(prepared)) => prepared.sequences(),
            Some(Asked::Answered(_)) | None => &[],
        }
    }

    fn shares(&self) -> &[Share] {
        match &self.asked {
            Some(Asked::Sequences(prepared)) => prepared.shares(),
            Some(Asked::Answered(_)) | None => &[],
        }
    }

    fn wanted(&self) -> Wanted {
        match &self.asked {
            Some(Asked::Sequences(prepared)) => prepared.wanted(),
            Some(Asked::Answered(_)) | None => Wanted::default(),
        }
    }

    fn advance(&mut self, answers: Vec<Answers>) -> Result<Next, Error> {
        self.answers = answers;
        Ok(Next::End)
    }
}

/// Runs the model, on the thread that loaded it, which is one of the model's own.
pub(super) fn run(
    work: &impl Operation,
    from: Receiver<Tokenised>,
    to: SyncSender<Tokenised>,
) -> Result<()> {
    let mut executor = Executor::new(Order::Arrival, work.batch_tokens());
    loop {
        if executor.is_empty() {
            let Ok(chunk) = from.recv() else { break };
            executor.push(chunk);
        }
        while executor.jobs().count() < TOGETHER
            && let Ok(chunk) = from.try_recv()
        {
            executor.push(chunk);
        }
        let pass = |sequences: &[Planned<'_>], wanted| work.run(sequences, wanted);
        let ended = executor.step(work.measure(), pass).map_err(|failed| failed.error)?;
        for Ended { job, result } in ended {
            result?;
            if to.send(job).is_err() {
                return Ok(());
            }
        }
    }
    drop((from, to));
    Ok(())
}
