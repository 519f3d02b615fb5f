//! Head norms and rotary positions of queries and keys, in place (`kernels/rotary.cu`).

use bytemuck::{Pod, Zeroable};

use super::Half;
use crate::{Address, Launch, Params};

/// RMS norms of each head.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms {
    /// f32, `head_dim` weights of queries.
    pub query: Address,
    /// The same of keys.
    pub key: Address,
    /// What is added to the mean square.
    pub eps: f32,
}

/// Where rows stand, and by what they turn.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The place of each row of `qkv`, u32.
    pub positions: Address,
    /// f32, a row for each place: `head_dim / 2` cosines, then as many sines.
    pub angles: Address,
}

/// Normalises and turns the heads of queries and keys of `qkv`; values are left as they are. The halves of a head turn
/// together, as in GPT-NeoX: `(a, b) -> (a cos - b sin, b cos + a sin)` for `a` of the lower and `b` of the upper half.
#[derive(Debug, Clone, Copy)]
pub struct Rotary {
    /// Rows of `qkv`.
    pub rows: u32,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, and of values.
    pub kv_heads: u32,
    /// Width of a head, a multiple of 4 up to 256.
    pub head_dim: u32,
    /// Rows of `(heads + 2 * kv_heads) * head_dim` values, 4 bytes aligned.
    pub qkv: Address,
    /// The type of `qkv`.
    pub half: Half,
    /// `None`: only norms.
    pub rotation: Option<Rotation>,
    /// Norms, which come before the rotation; in between, values stay f32.
    pub norms: Option<HeadNorms>,
}

/// As `RotaryParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    qkv: Address,
    positions: Address,
    angles: Address,
    query_norm: Address,
    key_norm: Address,
    rows: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    eps: f32,
    unused: u32,
}

/// Warps of a block, each with a head of a row.
const WARPS: u32 = 4;

impl Rotary {
    /// How the kernel starts.
    ///
    /// # Panics
    /// If there is no row, the width is not one that there is a kernel for, or there is nothing to do.
    pub fn launch(&self) -> Launch {
        assert!(self.rows > 0, "a rotation of no rows");
        assert!(
            (4..=256).contains(&self.head_dim) && self.head_dim.is_multiple_of(4),
            "no rotation of heads of {}",
            self.head_dim
        );
        assert!(self.rotation.is_some() || self.norms.is_some(), "neither norms nor a rotation");
        Launch {
            kernel: match self.half {
                Half::Bf16 => "rotary_bf16",
                Half::F16 => "rotary_f16",
            },
            grid: [self.rows, (self.heads + self.kv_heads).div_ceil(WARPS), 1],
            block: WARPS * 32,
            shared: 0,
            params: Params::of(&Raw {
                qkv: self.qkv,
                positions: self.rotation.map_or(Address(0), |rotation| rotation.positions),
                angles: self.rotation.map_or(Address(0), |rotation| rotation.angles),
                query_norm: self.norms.map_or(Address(0), |norms| norms.query),
                key_norm: self.norms.map_or(Address(0), |norms| norms.key),
                rows: self.rows,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                eps: self.norms.map_or(0.0, |norms| norms.eps),
                unused: 0,
            }),
        }
    }
}
