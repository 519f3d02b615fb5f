//! The seam between serving and a model.
//!
//! A [`Pipeline`] is what the server needs of every loaded model, whatever it is for. What one kind
//! of function asks beside it is a trait of that service, and a loaded model carries both
//! ([`crate::models::loaded`]): the model's thread and the tokenising routes see the pipeline, and
//! only the service finds its own trait again.

use std::time::Duration;

use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{Error, Prepared, TextToken};

use crate::models::info::Info;

/// A loaded model. Tests put a deterministic one behind it.
pub trait Pipeline: Send + Sync {
    /// Facts about the model.
    fn info(&self) -> Info;

    /// The answers to one micro-batch of sequences, each of which depends on its own tokens alone.
    ///
    /// # Errors
    /// What is wrong with the model.
    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error>;

    /// How full a micro-batch is.
    fn measure(&self) -> Measure {
        Measure::Tokens
    }

    /// What is run once, where the first request is to find everything warm.
    ///
    /// # Errors
    /// What is wrong with the model.
    fn sample(&self) -> Result<Prepared<()>, Error>;

    /// Runs one small request, so that the first client's finds pages mapped, buffers grown and threads started.
    ///
    /// # Errors
    /// What is wrong with the model, which then cannot serve.
    fn warm_up(&self) -> Result<(), Error> {
        let prepared = self.sample()?;
        let all = 0..prepared.sequences().len();
        let answers = self.run(&prepared.planned(all), prepared.wanted())?;
        prepared.finish(&answers)
    }

    /// What loading it was made of that went on beside other phases, or still does: names, and how long what is over took.
    fn phases(&self) -> Vec<(&'static str, Duration)> {
        Vec::new()
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// What is wrong with the tokenizer.
    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        let _ = (text, add_special);
        Err(unsupported("tokenises"))
    }

    /// How many tokens a text has without special ones; some number above `most` if it has more.
    ///
    /// # Errors
    /// What is wrong with the tokenizer.
    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        // A model that can count without writing texts and places down has its own way.
        Ok(self.tokenize(text, false)?.len().min(most.saturating_add(1)))
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// Which id is unknown.
    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        let _ = (ids, skip_special);
        Err(unsupported("detokenises"))
    }

    /// Gives up what a copy of the process's memory could not bring back: files, mappings of files,
    /// sockets. Called while nothing runs; running must still work afterwards.
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Renews what must not be shared with other copies of the same memory. Called before anything
    /// runs in the copy, also where [`before_snapshot`](Self::before_snapshot) gave up nothing.
    fn after_restore(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// What a function's routes never ask of its model.
fn unsupported(what: &str) -> Error {
    Error::Model(format!("no model of this function {what}"))
}
