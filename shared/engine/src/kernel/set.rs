//! What a kernel set is: one description, which its own file fills in.
//!
//! Rows of a tile, the layout of weights it reads and the functions that multiply, finish and quantise all belong to
//! the set. The rest of the engine asks [`super::Kernel`] and knows none of them by name. A set leaves out what plain
//! Rust does as well on its processors: those loops are compiled for [`KernelSet::vectors`].
//!
//! Functions of a set are unsafe to call for one reason, that the processor must have their instructions. Everything
//! they assume about memory is held by the types of their arguments ([`super::operands`]).

use super::operands::{
    Bf16Operands, BlockOperands, FloatOperands, Int8Operands, Int16Operands, OutRows, RowOf,
    Scaled, Step,
};
use crate::layout::PanelLayout;

/// Values that an elementwise function takes in a step: a 512-bit register of f32.
pub(crate) const LANES: usize = 16;

/// The most rows that a tile of any set may have: two AMX tiles below each other. Small arrays of one value a row have
/// this length.
pub(crate) const MOST_ROWS: usize = 32;

/// A kernel set. [`KernelSet::runs_here`] says yes only where the processor, and the system, offer the instructions
/// of every function and of [`KernelSet::vectors`]: a [`super::Kernel`] is proof of that.
pub(crate) struct KernelSet {
    /// The name by which users and metrics call the set.
    pub(crate) name: &'static str,
    /// Whether this processor and system run the set.
    pub(crate) runs_here: fn() -> bool,
    /// The instructions that plain loops are compiled for.
    pub(crate) vectors: Vectors,
    /// The layout of the panels of weights that the set's tiles read.
    pub(crate) layout: &'static PanelLayout,
    /// Exact sums of unsigned codes by int8 weights, less an offset a channel.
    pub(crate) int8: Tile<Int8Tile>,
    /// Exact sums of pairs of 16-bit integers.
    pub(crate) int16: Tile<Int16Tile>,
    /// Sums of fused multiply-adds over f32 panels, inputs in ascending order.
    pub(crate) float: Tile<FloatTile>,
    /// Sums as of [`KernelSet::float`], over bf16 panels of whole width.
    pub(crate) bf16: Tile<Bf16Tile>,
    /// Sums over panels of blocks; `portable` says which.
    pub(crate) blocks: Tile<BlockTile>,
    /// An int8 tile of as many rows that finishes its sums before they leave the registers.
    pub(crate) finished_int8: Option<FinishedInt8>,
    /// Quantisation of a row.
    pub(crate) quantize: Option<Quantize>,
    /// The inner loops of the softmax in integers.
    pub(crate) softmax: Option<Softmax>,
    /// The work of a thread before its first tile of a step and after its last.
    pub(crate) thread: Option<ThreadState>,
    /// The limit of the set's multiplier.
    pub(crate) peak: Option<Peak>,
}

/// The vectors that plain Rust is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    /// The vectors of every processor of the architecture.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A tile function, and the most rows that it takes.
pub(crate) struct Tile<F> {
    pub(crate) rows: usize,
    pub(crate) run: F,
}

/// Fills as many rows of sums as the operands have, which are those of a whole panel of 64 channels.
pub(crate) type Int8Tile = unsafe fn(&Int8Operands<'_>, &RowOf<i32>, &mut [RowOf<i32>]);
/// Fills as many rows of sums as the operands have, as far as these are wide, or adds to them
/// ([`super::operands::Operands::onto_sums`]).
pub(crate) type Int16Tile = unsafe fn(&Int16Operands<'_>, &mut [RowOf<i32>]);
/// Fills sums as [`Int16Tile`] does, in f32.
pub(crate) type FloatTile = unsafe fn(&FloatOperands<'_>, &mut [RowOf<f32>]);
/// Fills sums as [`Int8Tile`] does, over bf16 weights.
pub(crate) type Bf16Tile = unsafe fn(&Bf16Operands<'_>, &mut [RowOf<f32>]);
/// Fills as many rows of sums as the operands have, which are those of a whole panel.
pub(crate) type BlockTile = unsafe fn(&BlockOperands<'_>, &mut [RowOf<f32>]);
/// Takes an int8 tile to finished values, in the steps and the order of `gemm::epilogue`.
pub(crate) type FinishedInt8 = unsafe fn(&Scaled<'_>, Step<'_>, &mut OutRows<'_>);

/// See `quantize`, whose plain loops say what these compute.
pub(crate) struct Quantize {
    /// The bits of the largest magnitude.
    pub(crate) largest_magnitude: unsafe fn(&[f32]) -> u32,
    /// Codes of a row times a factor; what is longer than the row becomes the code of zero.
    pub(crate) encode: unsafe fn(&[f32], f32, &mut [u8]),
}

/// Whole registers of f32.
pub(crate) type Registers = [[f32; LANES]];
/// Each lane's sum of exponentials, sum of weights and largest weight.
pub(crate) type LaneSums = [[f32; LANES]; 3];

/// See `attention::softmax`, whose plain loops say what these compute.
pub(crate) struct Softmax {
    /// The largest score in each lane.
    pub(crate) largest: unsafe fn(&Registers) -> [f32; LANES],
    /// Replaces scores by weights, given value scales, the largest score and a factor.
    pub(crate) exponentials: unsafe fn(&mut Registers, &Registers, f32, f32) -> LaneSums,
    /// Rounds values times a factor to codes.
    pub(crate) round: unsafe fn(&Registers, f32, &mut [[i16; LANES]]),
}

/// State of the processor that a set's tiles need on each thread, such as the configuration of tile registers.
#[derive(Clone, Copy)]
pub(crate) struct ThreadState {
    pub(crate) enter: unsafe fn(),
    pub(crate) leave: unsafe fn(),
}

/// A loop that does nothing but multiply.
pub(crate) struct Peak {
    /// Runs a given number of rounds.
    pub(crate) run: unsafe fn(usize) -> i32,
    /// The number of multiply-adds in a round.
    pub(crate) multiplies: usize,
}
