//! Layer and RMS norms of rows, in f32, to whatever the next step reads (`kernels/norm.cu`).
//!
//! A narrow row is a warp's, four rows a block; a wide one is a block's. Either keeps the row in registers, so it is read
//! once, and the variance is taken about the mean in a second pass over them. Which of both depends on the width alone, and a
//! row's answer on that row alone.

use bytemuck::{Pod, Zeroable};

use super::Half;
use crate::{Address, Launch, Params};

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer,
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms,
}

/// A norm of rows; any of the four places for its result, at least one.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Rows of the result.
    pub rows: u32,
    /// Values of a row; up to [`Norm::WIDEST`].
    pub width: u32,
    /// What is added to variance or mean square.
    pub eps: f32,
    /// f32 rows. Addresses of rows of f32 and 16-bit values are aligned to 16 bytes (int8: 4).
    pub x: Address,
    /// Which row of `x` each is made of, u32; `None`: its own. With `keep`, no row twice.
    pub row_of: Option<Address>,
    /// f32.
    pub weight: Address,
    /// f32; a layer norm without one adds nothing.
    pub bias: Option<Address>,
    /// Writes the result back to the row of `x` that it was made of.
    pub keep: bool,
    /// Where the result goes in 16 bits.
    pub out: Option<(Address, Half)>,
    /// Where the result goes in f32.
    pub out_f32: Option<Address>,
    /// Where the result goes as int8, and the f32 scales of its rows, as those of [`super::Quantize`].
    pub quantized: Option<(Address, Address)>,
}

/// As `NormParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    x: Address,
    row_of: Address,
    weight: Address,
    bias: Address,
    out: Address,
    out_f32: Address,
    q: Address,
    scales: Address,
    rows: u32,
    width: u32,
    eps: f32,
    flags: u32,
}

/// Bits of `Raw::flags`.
const RMS: u32 = 1;
const KEEP: u32 = 2;
const F16: u32 = 4;

/// A lane of a warp that has a row to itself keeps up to 8 vectors of 4 values.
const WARP_WIDTH: u32 = 32 * 8 * 4;

impl Norm {
    /// The widest row: 1024 threads of 4 vectors of 4 values.
    pub const WIDEST: u32 = 1024 * 4 * 4;

    /// How the kernel starts.
    ///
    /// # Panics
    /// If there is no row, rows are empty or too wide, or nothing is asked for.
    pub fn launch(&self) -> Launch {
        assert!(self.rows > 0, "a norm of no rows");
        assert!((1..=Self::WIDEST).contains(&self.width), "no norm of rows of {}", self.width);
        let asked =
            self.keep || self.out.is_some() || self.out_f32.is_some() || self.quantized.is_some();
        assert!(asked, "a norm whose result goes nowhere");
        let (kernel, blocks, block) = if self.width <= WARP_WIDTH {
            ("norm_warp", self.rows.div_ceil(4), 128)
        } else {
            // Two vectors a thread are enough loads at a time to hide their way, and leave few threads idle.
            ("norm_block", self.rows, self.width.div_ceil(4 * 2).next_multiple_of(32).min(1024))
        };
        let f16 = matches!(self.out, Some((_, Half::F16)));
        let (q, scales) = self.quantized.unwrap_or_default();
        Launch {
            kernel,
            grid: [blocks, 1, 1],
            block,
            // A sum of each of up to 32 warps.
            shared: 32 * 4,
            params: Params::of(&Raw {
                x: self.x,
                row_of: self.row_of.unwrap_or_default(),
                weight: self.weight,
                bias: self.bias.unwrap_or_default(),
                out: self.out.map_or(Address(0), |(at, _)| at),
                out_f32: self.out_f32.unwrap_or_default(),
                q,
                scales,
                rows: self.rows,
                width: self.width,
                eps: self.eps,
                flags: u32::from(self.kind == NormKind::Rms) * RMS
                    + u32::from(self.keep) * KEEP
                    + u32::from(f16) * F16,
            }),
        }
    }
}
