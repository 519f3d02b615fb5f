//! Scaled dot-product attention over packed sequences, in one pass over the keys (`kernels/attention.cu`).
//!
//! The rows of a batch lie one sequence after the other, without padding; a row of `qkv` is `[q heads | k heads | v heads]`.
//! What a sequence's queries see is one list of keys, from up to three places:
//!
//! ```text
//! key     0 .. stored       stored+prefix_len ..
//!         | stored rows     | prefix              | own rows
//! lies in   stored[0..]       qkv[prefix_start..]   qkv[start..]
//! ```
//!
//! A block computes a tile of [`TILE_QUERIES`] queries of one head of one sequence, so a pass is a list of tiles, and no
//! thread works for padding. Keys are read in tiles that begin at multiples of a fixed number of places *in that list*: a
//! query's answer is the same to the bit wherever its keys lie, whatever else is in the batch, and whether its sequence
//! is cut into a prefix and the rest.

use bytemuck::{Pod, Zeroable};

use super::Half;
use crate::{Address, Launch, Params};

/// Queries of a tile: 16 for each of the 4 warps of a block, which is the height of a tensor core's product.
pub const TILE_QUERIES: u32 = 64;

/// A window that no sequence is longer than, and that can be added to a place without an overflow.
const UNLIMITED: u32 = 1 << 30;

/// Threads of a block.
const THREADS: u32 = 128;

/// One sequence of a pass, as the kernels read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SequenceRow {
    /// The first of its own rows.
    pub start: u32,
    /// How many rows are its own.
    pub len: u32,
    /// The first row of the prefix that it continues.
    pub prefix_start: u32,
    /// How many rows the prefix has; 0 if it continues none.
    pub prefix_len: u32,
    /// How many of the stored rows come before all of these.
    pub stored: u32,
    /// Fills the row up to 32 bytes.
    pub unused: [u32; 3],
}

/// The head widths that there are kernels for; another runs in the next wider one, whose further columns are zeros.
const WIDTHS: [Width; 5] = [
    Width { head_dim: 32, tile_keys: 64, kernels: ["attention_bf16_32", "attention_f16_32"] },
    Width { head_dim: 64, tile_keys: 64, kernels: ["attention_bf16_64", "attention_f16_64"] },
    Width { head_dim: 96, tile_keys: 64, kernels: ["attention_bf16_96", "attention_f16_96"] },
    Width { head_dim: 128, tile_keys: 32, kernels: ["attention_bf16_128", "attention_f16_128"] },
    Width { head_dim: 256, tile_keys: 32, kernels: ["attention_bf16_256", "attention_f16_256"] },
];

/// A kernel's shape.
#[derive(Debug)]
struct Width {
    head_dim: u32,
    /// Keys of a tile: as many as leave room for three blocks in the 100 KB of a multiprocessor of compute capability 8.6,
    /// up to a width of 128 (two at 96). One block of 256 takes 96 KB, of the 99 that it may.
    tile_keys: u32,
    /// For bf16 and for f16.
    kernels: [&'static str; 2],
}

impl Width {
    /// Two stages of a tile of keys and one of values; the widest keeps its queries there too, as registers are full.
    fn shared(&self) -> u32 {
        let queries = if self.head_dim > 128 { TILE_QUERIES } else { 0 };
        2 * self.head_dim * (queries + 4 * self.tile_keys)
    }
}

/// Attention of one layer.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Rows of `(heads + 2 * kv_heads) * head_dim` values, aligned to 16 bytes.
    pub qkv: Address,
    /// The type of all values.
    pub half: Half,
    /// Heads of queries, a multiple of `kv_heads`.
    pub heads: u32,
    /// Heads of keys and values, each shared by `heads / kv_heads` heads of queries.
    pub kv_heads: u32,
    /// Width of a head, see [`Attention::supports`].
    pub head_dim: u32,
    /// Rows of `heads * head_dim` values, one for each of `qkv` that a tile covers; 16 bytes aligned.
    pub out: Address,
    /// [`SequenceRow`]s.
    pub sequences: Address,
    /// Pairs of a sequence's number and the first of up to [`TILE_QUERIES`] of its own rows, see [`Attention::tiles`]. Where
    /// only some queries are wanted, as in a last layer of which the first or last row alone is read, so are only their tiles.
    pub tiles: Address,
    /// How many tiles there are.
    pub tile_count: u32,
    /// Whether a query sees only its own place and those before it.
    pub causal: bool,
    /// A query sees keys whose distance is smaller than this: behind it, and ahead of it too unless `causal`. 0: no limit.
    /// (A `local_attention` of 128, as in `ModernBERT`, is 64 places to each side, so 65 here; the `sliding_window` of causal
    /// models is the window itself.)
    pub window: u32,
    /// What products of queries and keys are multiplied with; usually `head_dim^-0.5`.
    pub scale: f32,
    /// Rows of `2 * kv_heads * head_dim` values, `[k heads | v heads]`, 16 bytes aligned: what sequences with `stored` begin
    /// with.
    pub stored: Option<Address>,
}

/// As `AttentionParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    qkv: Address,
    stored: Address,
    out: Address,
    sequences: Address,
    tiles: Address,
    head_dim: u32,
    /// Heads of queries for each of keys.
    group: u32,
    /// Values of a row of `qkv`.
    row: u32,
    /// The place of the keys in such a row; also the values of a row of `out`.
    keys_at: u32,
    /// From a key to its value.
    values_at: u32,
    causal: u32,
    window: u32,
    /// Times log2(e): the kernel takes powers of two.
    scale: f32,
}

impl Attention {
    /// Whether there is a kernel for heads of that width: a multiple of 8 (16 bytes, what a thread copies) up to 256.
    pub fn supports(head_dim: u32) -> bool {
        (8..=256).contains(&head_dim) && head_dim.is_multiple_of(8)
    }

    /// All tiles of sequences with so many rows of their own each, in order.
    pub fn tiles(lens: impl IntoIterator<Item = u32>) -> Vec<[u32; 2]> {
        (0..)
            .zip(lens)
            .flat_map(|(sequence, len)| {
                (0..len).step_by(TILE_QUERIES as usize).map(move |first| [sequence, first])
            })
            .collect()
    }

    /// How the kernel starts.
    ///
    /// # Panics
    /// If the width is not supported, heads do not divide into groups, or there is no tile.
    pub fn launch(&self) -> Launch {
        assert!(Self::supports(self.head_dim), "no attention for heads of {}", self.head_dim);
        assert!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} heads of queries share {} of keys",
            self.heads,
            self.kv_heads
        );
        assert!(self.tile_count > 0, "attention of no query");
        let width = WIDTHS
            .iter()
            .find(|width| width.head_dim >= self.head_dim)
            .expect("a width that is supported has a kernel");
        Launch {
            kernel: width.kernels[self.half as usize],
            grid: [self.tile_count, self.heads, 1],
            block: THREADS,
            shared: width.shared(),
            params: Params::of(&Raw {
                qkv: self.qkv,
                stored: self.stored.unwrap_or_default(),
                out: self.out,
                sequences: self.sequences,
                tiles: self.tiles,
                head_dim: self.head_dim,
                group: self.heads / self.kv_heads,
                row: (self.heads + 2 * self.kv_heads) * self.head_dim,
                keys_at: self.heads * self.head_dim,
                values_at: self.kv_heads * self.head_dim,
                causal: self.causal.into(),
                window: if self.window == 0 { UNLIMITED } else { self.window.min(UNLIMITED) },
                scale: self.scale * std::f32::consts::LOG2_E,
            }),
        }
    }
}
