//! The memory that a pass computes in: one allocation, grown when a batch needs more, in which each buffer has its place.
//!
//! ```text
//! numbers | x | normed | int8 rows, scales | qkv | attended | inner | x of read rows | attended of read rows | answers
//! ```
//!
//! A batch that there is no memory for leaves the workspace empty, so that a smaller one, or a later one, finds all that is
//! free.

use std::sync::Arc;

use defrost_model::{ModelConfig, Wanted};

use crate::Address;
use crate::device::{ALIGNMENT, Device, Error, Memory};
use crate::pass::Pass;

/// Where each buffer of a pass lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    /// The pass's numbers.
    pub(crate) numbers: Address,
    /// f32 hidden states.
    pub(crate) x: Address,
    /// 16-bit inputs of products.
    pub(crate) normed: Address,
    /// int8 inputs of products.
    pub(crate) quantized: Address,
    /// The scales of their rows.
    pub(crate) scales: Address,
    /// 16-bit queries, keys and values.
    pub(crate) qkv: Address,
    /// 16-bit outputs of attention.
    pub(crate) attended: Address,
    /// 16-bit inner rows of the feed-forward layer.
    pub(crate) inner: Address,
    /// f32 hidden states of the rows that the head reads.
    pub(crate) read: Address,
    /// What attention made of them, 16-bit.
    pub(crate) read_attended: Address,
    /// Two f32 buffers that the layers of a head take turns with.
    pub(crate) heads: [Address; 2],
    /// f32 answers for every token.
    pub(crate) sparse: Address,
    pub(crate) colbert: Address,
}

/// The allocation.
#[derive(Debug)]
pub(crate) struct Workspace {
    device: Arc<dyn Device>,
    /// The most bytes that it may have.
    most: u64,
    memory: Option<Memory>,
}

impl Workspace {
    /// One without any memory yet, which may have so many bytes.
    pub(crate) fn new(device: &Arc<dyn Device>, most: u64) -> Self {
        Self { device: Arc::clone(device), most, memory: None }
    }

    /// The buffers of a pass.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is not enough memory for it.
    pub(crate) fn buffers(
        &mut self,
        config: &ModelConfig,
        pass: &Pass,
        wanted: Wanted,
    ) -> Result<Buffers, Error> {
        let bytes = buffers(config, pass, wanted, Address(0)).1;
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            // Before the larger one is there, so that both need not be.
            self.memory = None;
            if bytes as u64 > self.most {
                let (free, total) = (self.most, self.device.limits().memory);
                return Err(Error::OutOfMemory { wanted: bytes as u64, free, total });
            }
            self.memory = Some(Memory::new(&self.device, bytes)?);
        }
        let start = self.memory.as_ref().map_or(Address(0), Memory::address);
        Ok(buffers(config, pass, wanted, start).0)
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self) {
        self.memory = None;
    }
}

/// The buffers from an address on, and how many bytes they have.
fn buffers(config: &ModelConfig, pass: &Pass, wanted: Wanted, start: Address) -> (Buffers, usize) {
    let mut end = 0_usize;
    let mut slot = |bytes: usize| {
        let at = start.plus(end);
        end += bytes.next_multiple_of(ALIGNMENT);
        at
    };
    let (rows, answers) = (pass.rows as usize, pass.answers as usize);
    let (hidden, inner) = (config.hidden, config.intermediate);
    let attended = config.heads * config.head_dim;
    let qkv = (config.heads + 2 * config.kv_heads) * config.head_dim;
    let widest = config.dense.iter().map(|layer| layer.outputs).fold(hidden, usize::max).max(2);
    let of_tokens = |wanted: bool, width: usize| if wanted { 4 * rows * width } else { 0 };
    let buffers = Buffers {
        numbers: slot(4 * pass.words.len()),
        x: slot(4 * rows * hidden),
        normed: slot(2 * rows * hidden),
        quantized: slot(rows * hidden.max(inner).max(attended)),
        scales: slot(4 * rows),
        qkv: slot(2 * rows * qkv),
        attended: slot(2 * rows * attended),
        inner: slot(2 * rows * inner),
        read: slot(4 * answers * hidden),
        read_attended: slot(2 * answers * attended),
        heads: [slot(4 * answers * widest), slot(4 * answers * widest)],
        sparse: slot(of_tokens(wanted.sparse, 1)),
        colbert: slot(of_tokens(wanted.colbert, config.token_heads.colbert)),
    };
    (buffers, end)
}
