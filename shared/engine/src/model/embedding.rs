//! From token ids to the hidden states that enter the first layer.

use super::Buffers;
use super::norms::NormWeights;
use super::words::Words;
use crate::gate::ReadinessGate;
use crate::gemm::Context;
use crate::weights::{Embedding, Linear, Weights};
use crate::{Batch, Error, Kernel, ModelConfig};

/// Multiplies rows as the family does before the first layer.
pub(super) fn scale(config: &ModelConfig, x: &mut [f32]) {
    if config.family.blueprint.embedding_scale {
        let scale = (config.hidden as f32).sqrt();
        for value in x {
            *value *= scale;
        }
    }
}

/// The tables that rows are gathered from, and the norm of their sums.
#[derive(Debug)]
pub(super) struct Tables {
    words: Words,
    types: Option<Embedding>,
    positions: Option<Embedding>,
    norm: Option<NormWeights>,
}

impl Tables {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let (blueprint, hidden) = (&config.family.blueprint, config.hidden);
        let table = |there: bool, name: &str, rows: usize| {
            there.then(|| Embedding::load(weights, name, rows, hidden)).transpose()
        };
        let learned = blueprint.positions.are_learned();
        Ok(Self {
            words: Words::load(config, weights, kernel)?,
            types: table(blueprint.token_types, "embedding.types", config.type_vocab)?,
            positions: table(learned, "embedding.positions", config.position_rows())?,
            norm: blueprint
                .embedding_norm
                .then(|| NormWeights::load(weights, "embedding.norm", hidden, blueprint.norm))
                .transpose()?,
        })
    }

    /// Leaves a row for each token of the batch in `buffers.x`, as soon as the rows of the tables are there.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn ReadinessGate,
        config: &ModelConfig,
        batch: &Batch,
        buffers: &mut Buffers,
    ) -> Result<(), Error> {
        self.wait(gate, config, batch)?;
        let x = buffers.x.slot(batch.tokens() * config.hidden);
        self.gather(config, batch, x);
        scale(config, x);
        if let Some(norm) = &self.norm {
            norm.run_in_place(cx, x, config.norm_eps, &mut buffers.normed);
        }
        Ok(())
    }

    /// The matrix of words, if it is the head's too.
    pub(super) fn tied(&self) -> Option<&Linear> {
        match &self.words {
            Words::Tied(matrix) => Some(matrix),
            Words::Table(_) => None,
        }
    }

    /// Waits for the rows that [`Tables::gather`] reads.
    fn wait(
        &self,
        gate: &dyn ReadinessGate,
        config: &ModelConfig,
        batch: &Batch,
    ) -> Result<(), Error> {
        self.words.wait(gate, batch.ids())?;
        if let Some(types) = &self.types {
            types.wait(gate, batch.types().iter().map(|&id| id as usize))?;
        }
        if let Some(positions) = &self.positions {
            let reserved = config.family.blueprint.positions.reserved(config.pad_id);
            positions.wait(gate, 0..(reserved + batch.longest()).min(positions.rows()))?;
        }
        self.norm.as_ref().map_or(Ok(()), |norm| norm.wait(gate))
    }

    fn gather(&self, config: &ModelConfig, batch: &Batch, x: &mut [f32]) {
        let hidden = config.hidden;
        x.fill(0.0);
        for sequence in batch.sequences() {
            let ids = &batch.ids()[sequence.tokens.clone()];
            let places = config.family.blueprint.positions.rows(config.pad_id, ids);
            for ((token, &id), place) in sequence.tokens.clone().zip(ids).zip(places) {
                let row = &mut x[token * hidden..][..hidden];
                self.words.add_row(id, row);
                if let Some(types) = &self.types {
                    types.add_row(batch.types()[token] as usize, row);
                }
                if let Some(positions) = &self.positions {
                    let place = sequence.start() + place;
                    positions.add_row(place.min(positions.rows() - 1), row);
                }
            }
        }
    }
}
