//! The stored prefix of a snapshot: keys and values of what prompts begin with, computed while the layers are written.
//!
//! A causal model's system text and instruction are the same in every prompt, a quarter of the tokens of a short one; so is what
//! a chat template says before anyone else does.
//! Their keys and values lie in the snapshot behind each layer's weights, and a start maps them like these. Which ids they
//! are is in the metadata; a sequence uses as many as it begins with, so a request's own instruction costs only what it
//! replaces. Nothing else depends on the prefix: without one every answer is the same to the bit.

use bytes::Bytes;
use defrost_engine::{Encoding, Kernel, LayerPass, Probe, Threads};
use defrost_model::parts::{Group, Part, Storage};
use defrost_model::{ModelConfig, ModelSpec, Precision, isa};

use crate::Error;
use crate::formats::Checkpoint;
use crate::pack::{Encoded, Tensors, encode};
use crate::quality::Treatment;

/// A prefix on its way through the layers.
#[derive(Debug)]
pub(crate) struct StoredPrefix<'a> {
    pass: LayerPass,
    config: ModelConfig,
    /// The encoding that the pass reads, whatever the snapshot is packed for.
    native: Encoding<'a>,
}

impl<'a> StoredPrefix<'a> {
    /// Makes `beginning` the model's stored prefix and embeds it; `None` if it is empty.
    pub(crate) fn start(
        checkpoint: &Checkpoint,
        spec: &mut ModelSpec,
        mut beginning: Vec<u32>,
        groups: &[Group],
        treatment: &Treatment,
        encoding: Encoding<'a>,
    ) -> Result<Option<Self>, Error> {
        beginning.truncate(spec.config.max_positions - 1);
        let mut parts = groups.iter().flat_map(|group| &group.parts);
        let Some(table) = parts.find(|part| part.name == "embedding.words.weight") else {
            return Ok(None);
        };
        if beginning.is_empty() {
            return Ok(None);
        }
        let rows: Vec<usize> = beginning.iter().map(|&id| id as usize).collect();
        let shape = vec![rows.len(), spec.config.hidden];
        let words = Group {
            name: "prefix".into(),
            sparse: false,
            parts: vec![Part { rows, shape, ..table.clone() }],
        };
        spec.config.stored_prefix = beginning.len();
        spec.stored_prefix = beginning;
        // The engine has no f16; its f32 is nearer still to what the model was trained as.
        let precision = match encoding.precision {
            Precision::F16 => Precision::F32,
            own => own,
        };
        let native = Encoding { isa: isa::NATIVE, precision, ..encoding };
        let words = Tensors(encode(checkpoint, &words, treatment, native)?);
        let threads = Threads::new(None);
        let tokens = spec.stored_prefix.len();
        let pass = LayerPass::of_words(&spec.config, &words, tokens, Kernel::detect(), threads)?;
        Ok(Some(Self { pass, config: spec.config.clone(), native }))
    }

    /// Appends the group's keys and values to its `tensors`, if it is a layer: groups come in execution order. `encode`
    /// gives the same tensors in another encoding.
    pub(crate) fn layer(
        &mut self,
        group: &Group,
        tensors: &mut Vec<Encoded>,
        encode: &dyn Fn(Encoding<'a>) -> Result<Vec<Encoded>, Error>,
        encoding: Encoding<'a>,
    ) -> Result<(), Error> {
        let Some(part) = group.parts.iter().find(|part| part.storage == Storage::Prefix) else {
            return Ok(());
        };
        let native = encoding.isa == self.native.isa;
        let weights = Tensors(if native { tensors.clone() } else { encode(self.native)? });
        let mut kept = Kept { rows: Vec::new(), config: self.config.clone() };
        self.pass.layer(&weights, &mut kept)?;
        let rows = kept.rows;
        let bytes = encoding.fill(part, rows).into_iter().map(Bytes::from);
        tensors.extend(encoding.plan(part).into_iter().zip(bytes));
        Ok(())
    }
}

/// Keeps the rows `[k heads | v heads]` of a layer.
struct Kept {
    rows: Vec<f32>,
    config: ModelConfig,
}

impl Probe for Kept {
    fn projected(&mut self, qkv: &[f32]) {
        let wanted = LayerPass::keys_and_values(&self.config);
        let rows = qkv.chunks_exact(wanted.end);
        self.rows = rows.flat_map(|row| &row[wanted.clone()]).copied().collect();
    }
}
