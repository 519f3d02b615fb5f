//! What a pass can say about every token, beside the one answer a sequence.
//!
//! Hidden states go out as they are. The two heads are those of BGE-M3 (arXiv 2402.03216; `BGEM3Model` of
//! `FlagEmbedding`): `sparse` is how much a token matters as a search term, `colbert` is the vector that late interaction
//! compares. Both are small f32 layers over the last hidden states, so their cost is that of a fraction of a layer, plus
//! the rows of the last layer that no pooling reads.
//!
//! Rows are those of the batch, one sequence after the other. What is dropped (special tokens, the first vector of
//! `ColBERT`), kept once or normalised is the caller's business: it depends on ids, not on numbers.

use super::Buffers;
use crate::gate::ReadinessGate;
use crate::gemm::{Activation, Context};
use crate::weights::{Linear, Weights};
use crate::{Answers, Batch, Error, Kernel, ModelConfig, Wanted};

/// The weights of the heads that a model has.
#[derive(Debug)]
pub(super) struct TokenHeadWeights {
    sparse: Option<Linear>,
    colbert: Option<Linear>,
}

impl TokenHeadWeights {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let load = |name: &str, width: usize| {
            (width > 0)
                .then(|| Linear::load(weights, name, width, config.hidden, kernel))
                .transpose()
        };
        Ok(Self {
            sparse: load("head.sparse", usize::from(config.token_heads.sparse))?,
            colbert: load("head.colbert", config.token_heads.colbert)?,
        })
    }

    /// Refuses what this model, or this batch, cannot answer.
    pub(super) fn check(&self, batch: &Batch, wanted: Wanted) -> Result<(), Error> {
        for (name, wanted, head) in
            [("sparse", wanted.sparse, &self.sparse), ("ColBERT", wanted.colbert, &self.colbert)]
        {
            if wanted && head.is_none() {
                return Err(Error::Config(format!("the model has no {name} head")));
            }
        }
        let mut sequences = batch.sequences().iter();
        let shared = sequences.any(|sequence| !sequence.answered || sequence.start() > 0);
        if shared && wanted != Wanted::default() {
            return Err(Error::Batch(
                "answers for every token are wanted of sequences that share a prefix".into(),
            ));
        }
        Ok(())
    }

    /// The answers for the `rows` hidden states in `buffers.x`, without pooled ones.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn ReadinessGate,
        hidden: usize,
        rows: usize,
        wanted: Wanted,
        buffers: &mut Buffers,
    ) -> Result<Answers, Error> {
        let x = &buffers.x[..rows * hidden];
        let quantized = &mut buffers.quantized;
        let mut run = |head: &Option<Linear>, wanted: bool| {
            let Some(head) = head.as_ref().filter(|_| wanted) else {
                return Ok(Vec::new());
            };
            head.wait(gate)?;
            let mut out = vec![0.0; rows * head.outputs()];
            head.run(cx, x, Activation::Identity, false, quantized, &mut out);
            Ok::<_, Error>(out)
        };
        let mut sparse = run(&self.sparse, wanted.sparse)?;
        let colbert = run(&self.colbert, wanted.colbert)?;
        // Not `max`, which would turn NaN into a weight.
        sparse.iter_mut().filter(|weight| **weight < 0.0).for_each(|weight| *weight = 0.0);
        let hidden = if wanted.hidden { x.to_vec() } else { Vec::new() };
        Ok(Answers { pooled: Vec::new(), hidden, sparse, colbert })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use defrost_model::Prefix;

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let none = TokenHeadWeights { sparse: None, colbert: None };
        let hidden = Wanted { hidden: true, ..Wanted::default() };
        let mut batch = Batch::default();
        batch.push(&[1, 2], &[]);
        none.check(&batch, hidden).unwrap();
        for (wanted, part) in [
            (Wanted { sparse: true, ..hidden }, "no sparse head"),
            (Wanted { colbert: true, ..hidden }, "no ColBERT head"),
        ] {
            let error = none.check(&batch, wanted).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let prefix = batch.push_prefix(&Prefix::default(), &[1, 2, 3]);
        batch.push_after(&prefix, &[4]);
        none.check(&batch, Wanted::default()).unwrap();
        let error = none.check(&batch, hidden).unwrap_err().to_string();
        assert!(error.contains("share a prefix"), "{error}");
    }
}
