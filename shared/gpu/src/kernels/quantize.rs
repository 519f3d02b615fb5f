//! Rows to int8 with one scale each, as the CPU engine rounds them.

use bytemuck::{Pod, Zeroable};

use super::{Float, Half};
use crate::{Address, Launch, Params};

/// Threads of a block, which quantises one row: a row of 384 f32 values gives nearly every thread its 16 bytes, and one
/// of 4096 gives each eight loads that do not wait for each other.
const THREADS: u32 = 128;

/// `q = round(x * 127 / max|x|)` (to the nearest, ties to even) with `scale = max|x| / 127`, for each row by itself.
///
/// A row that holds NaN or an infinity gets the scale NaN, so that everything computed from it is NaN. A row whose
/// largest magnitude is below 1e-36 is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantize {
    /// How many rows there are; 0 is allowed nowhere.
    pub rows: u32,
    /// Values of a row: any number. Loads and stores are vectors where it is a multiple of 8.
    pub width: u32,
    /// The values, row after row.
    pub x: Address,
    /// Their type.
    pub x_type: Float,
    /// Where the int8 values go, row after row.
    pub q: Address,
    /// Where the scales go, an f32 a row.
    pub scales: Address,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct QuantizeParams {
    x: Address,
    q: Address,
    scales: Address,
    width: u32,
    /// Whether rows begin on vectors and have a whole number of them.
    vectors: u32,
}

impl Quantize {
    /// What a device starts for it.
    pub fn launch(&self) -> Launch {
        let aligned = (self.x.0 | (self.q.0 << 1)).is_multiple_of(16);
        let params = QuantizeParams {
            x: self.x,
            q: self.q,
            scales: self.scales,
            width: self.width,
            vectors: u32::from(aligned && self.width.is_multiple_of(8)),
        };
        Launch {
            kernel: match self.x_type {
                Float::Half(Half::Bf16) => "quantize_bf16",
                Float::Half(Half::F16) => "quantize_f16",
                Float::F32 => "quantize_f32",
            },
            grid: [self.rows, 1, 1],
            block: THREADS,
            shared: THREADS / 32 * 4,
            params: Params::of(&params),
        }
    }
}
