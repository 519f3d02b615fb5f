//! The words of a model: rows that are gathered, and of a language model a product with all or some of them.

use defrost_model::TokenMask;

use crate::buffer::Buffer;
use crate::gate::ReadinessGate;
use crate::gemm::Context;
use crate::quantize::QuantizedRows;
use crate::weights::{Embedding, Linear, Weights};
use crate::{Error, Kernel, ModelConfig};

/// The table of words.
#[derive(Debug)]
pub(super) enum Words {
    /// Rows that are only gathered.
    Table(Embedding),
    /// The matrix of the head.
    Tied(Linear),
}

impl Words {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let (name, vocab, hidden) = ("embedding.words", config.vocab, config.hidden);
        Ok(if config.tied {
            Self::Tied(Linear::load(weights, name, vocab, hidden, kernel)?)
        } else {
            Self::Table(Embedding::load(weights, name, vocab, hidden)?)
        })
    }

    /// Returns when the rows of these ids may be read.
    pub(super) fn wait(&self, gate: &dyn ReadinessGate, ids: &[u32]) -> Result<(), Error> {
        let rows = ids.iter().map(|&id| id as usize);
        match self {
            Self::Table(table) => table.wait(gate, rows),
            Self::Tied(matrix) => matrix.wait_rows(gate, rows),
        }
    }

    pub(super) fn add_row(&self, id: u32, out: &mut [f32]) {
        match self {
            Self::Table(table) => table.add_row(id as usize, out),
            Self::Tied(matrix) => matrix.add_row(id as usize, out),
        }
    }
}

/// Rows whose logits are computed at a time: as many as step together where there is much to do, and with a vocabulary of
/// 152,000 no more than 20 MB. Probabilities of a whole prompt take more rows.
const ROWS: usize = 32;

/// The logits of each row of `x`, of `head`'s inputs; where some tokens only are allowed, those of others are negative
/// infinity. `memory` is for several rows.
pub(super) fn logits(
    cx: Context<'_>,
    head: &Linear,
    x: &[f32],
    allowed: &[Option<&TokenMask>],
    quantized: &mut QuantizedRows,
    memory: &mut Buffer<f32>,
) -> Vec<Vec<f32>> {
    let vocab = head.outputs();
    if allowed.len() == 1 {
        let mut out = vec![0.0; vocab];
        head.run_allowed(cx, x, allowed, quantized, &mut out);
        return vec![out];
    }
    let (mut logits, inputs) = (Vec::with_capacity(allowed.len()), head.inputs());
    for (x, allowed) in x.chunks(ROWS * inputs).zip(allowed.chunks(ROWS)) {
        let out = memory.slot(allowed.len() * vocab);
        head.run_allowed(cx, x, allowed, quantized, out);
        logits.extend(out.chunks_exact(vocab).map(Vec::from));
    }
    logits
}
