//! Layers of heads, in f32 and of any width.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Launch, Params};

/// Warps of a block, each of which computes one column.
const WARPS: u32 = 4;
/// Rows that a warp computes its column of: it reads a row of the weight once for all of them.
const ROWS: u32 = 4;
/// Rows and columns of a tile, which a block computes where there are many of both.
const TILE: u32 = 64;
/// Threads of such a block, of 4 x 4 values each.
const TILE_THREADS: u32 = 256;
/// What such a block holds: 16 of k of both operands, their rows 4 values longer than a tile.
const TILE_SHARED: u32 = 2 * 16 * (TILE + 4) * 4;

/// `out = activation(x W^T + bias)` in f32 throughout.
///
/// For heads. With few rows or few columns each value is a dot product by one warp; else tiles of both are multiplied, by the
/// card's ordinary units: a layer of the model itself is better a [`super::Gemm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// Rows of `x`, at least 1.
    pub rows: u32,
    /// Rows of the weight, which are columns of the result; at least 1.
    pub n: u32,
    /// Length of the rows of `x` and of the weight; at least 1.
    pub k: u32,
    /// f32 `[rows, k]`.
    pub x: Address,
    /// f32 `[n, k]`.
    pub weight: Address,
    /// f32 `[n]`.
    pub bias: Option<Address>,
    /// What each value goes through.
    pub activation: Activation,
    /// Whether blocks compute square tiles, for layers of dozens of columns over all tokens, or warps a dot product each, for
    /// few rows. The order of sums differs, so this is a matter of the layer and not of how many rows a batch happens to have.
    pub tiled: bool,
    /// f32 `[rows, n]`; not `x`.
    pub out: Address,
}

/// What the values of a [`Dense`] go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Values stay as they are.
    Identity,
    /// Hyperbolic tangent.
    Tanh,
    /// Values below 0 become 0.
    Relu,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl Activation {
    /// Every activation, in the order of their numbers in `dense.cu`.
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Tanh, Self::Relu, Self::Gelu, Self::Silu, Self::Sigmoid];
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct DenseParams {
    x: Address,
    weight: Address,
    bias: Address,
    out: Address,
    rows: u32,
    n: u32,
    k: u32,
    activation: u32,
    /// Whether rows begin on vectors and have a whole number of them.
    vectors: u32,
    has_bias: u32,
}

impl Dense {
    /// What a device starts for it.
    pub fn launch(&self) -> Launch {
        let aligned = (self.x.0 | self.weight.0).is_multiple_of(16);
        let params = DenseParams {
            x: self.x,
            weight: self.weight,
            bias: self.bias.unwrap_or_default(),
            out: self.out,
            rows: self.rows,
            n: self.n,
            k: self.k,
            activation: self.activation as u32,
            vectors: u32::from(aligned && self.k.is_multiple_of(4)),
            has_bias: u32::from(self.bias.is_some()),
        };
        let (kernel, grid, block, shared) = if self.tiled {
            let tiles = self.n.div_ceil(TILE) * self.rows.div_ceil(TILE);
            ("dense_tile", tiles, TILE_THREADS, TILE_SHARED)
        } else {
            ("dense", self.n.div_ceil(WARPS) * self.rows.div_ceil(ROWS), WARPS * 32, 0)
        };
        Launch { kernel, grid: [grid, 1, 1], block, shared, params: Params::of(&params) }
    }
}
