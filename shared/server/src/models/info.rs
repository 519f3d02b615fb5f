//! What is known about the loaded model, whatever it is for.

use defrost_tasks::{EmbedderInfo, ModelInfo};

/// Facts about the loaded model.
#[derive(Debug, Clone)]
pub enum Info {
    /// It scores documents.
    Reranker(ModelInfo),
    /// It embeds texts.
    Embedder(EmbedderInfo),
}

/// Facts that both kinds have, by the same names.
macro_rules! common {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $info:ident => $value:expr;)*) => {
        impl Info {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> $type {
                    match self {
                        Self::Reranker($info) => $value,
                        Self::Embedder($info) => $value,
                    }
                }
            )*
        }
    };
}

common! {
    /// The name given at pack time.
    name: &str = info => &info.name;
    /// The model's architecture.
    family: &str = info => &info.family;
    /// `int8`, `bf16` or `f32`.
    precision: &str = info => &info.precision;
    /// Width of the hidden states.
    hidden: usize = info => info.hidden;
    /// Transformer layers.
    layers: usize = info => info.layers;
    /// Most tokens of one sequence.
    max_length: usize = info => info.max_length;
    /// Token ids from this one on have no meaning.
    vocab: usize = info => info.vocab;
    /// Whether an instruction changes anything.
    takes_instruction: bool = info => info.takes_instruction;
    /// What runs it.
    backend: &'static str = info => info.backend;
    /// Kernel set chosen for this CPU.
    kernel: &'static str = info => info.kernel;
    /// Worker threads.
    threads: usize = info => info.threads;
    /// The snapshot's root hash in hex.
    snapshot: &str = info => &info.snapshot;
    /// Bytes of the snapshot, which are what a loaded model takes.
    bytes: u64 = info => info.bytes;
}
