//! One vector of a sequence's rows (`kernels/pool.cu`).

use bytemuck::{Pod, Zeroable};

use crate::{Address, Launch, Params};

/// Which vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The mean.
    Mean,
    /// The largest value of each column; NaN where one is.
    Max,
    /// The sum over the square root of the number of rows.
    Sqrt,
    /// The mean weighted by 1, 2, 3 and so on.
    Weighted,
}

/// A vector of each sequence's own rows.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Which vector.
    pub kind: Pooling,
    /// f32 rows.
    pub hidden: Address,
    /// Values of a row.
    pub width: u32,
    /// [`super::attention::SequenceRow`]s, each with one row at least; prefixes do not count.
    pub sequences: Address,
    /// How many sequences there are.
    pub count: u32,
    /// f32, `[count, width]`.
    pub out: Address,
}

/// As `PoolParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    hidden: Address,
    sequences: Address,
    out: Address,
    width: u32,
    kind: u32,
}

/// Columns of a block, one a lane.
const COLUMNS: u32 = 32;
/// Warps of a block, each with every eighth row: enough loads at a time to hide their way.
const WARPS: u32 = 8;

impl Pool {
    /// How the kernel starts.
    ///
    /// # Panics
    /// If there is no sequence or column.
    pub fn launch(&self) -> Launch {
        assert!(self.count > 0 && self.width > 0, "{} vectors of {}", self.count, self.width);
        Launch {
            kernel: "pool",
            grid: [self.count, self.width.div_ceil(COLUMNS), 1],
            block: COLUMNS * WARPS,
            shared: COLUMNS * WARPS * 4,
            params: Params::of(&Raw {
                hidden: self.hidden,
                sequences: self.sequences,
                out: self.out,
                width: self.width,
                kind: self.kind as u32,
            }),
        }
    }
}
