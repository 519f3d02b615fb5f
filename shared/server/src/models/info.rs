//! What is known about a loaded model, whatever it is for.

/// Facts that every model has. What one kind of model has beside them, its service knows.
#[derive(Debug, Clone)]
pub struct Info {
    /// The name given at pack time.
    pub name: String,
    /// The model's architecture.
    pub family: String,
    /// `int8`, `bf16` or `f32`.
    pub precision: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Most tokens of one sequence.
    pub max_length: usize,
    /// Token ids from this one on have no meaning.
    pub vocab: usize,
    /// Whether an instruction changes anything.
    pub takes_instruction: bool,
    /// What runs it.
    pub backend: &'static str,
    /// Kernel set chosen for this CPU.
    pub kernel: &'static str,
    /// Worker threads.
    pub threads: usize,
    /// The snapshot's root hash in hex.
    pub snapshot: String,
    /// Bytes of the snapshot, which a loaded model takes.
    pub bytes: u64,
    /// Bytes that it takes beside: room for the keys and values of conversations.
    pub room_bytes: u64,
}
