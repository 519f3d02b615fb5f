//! Products on tensor cores: `C = A W^T`, with what follows a product in a transformer done on the way out.
//!
//! A block computes a tile of C; [`Tile`] has the shapes. Large tiles read less from memory for each product, small ones
//! give every multiprocessor something to do, and those of 16 rows are for products whose time is that of reading
//! the weight once. `kernels/gemm.cuh` says how a block works.

use std::fmt;

use bytemuck::{Pod, Zeroable};

use super::{Float, Half};
use crate::{Address, Launch, Params};

/// The type of the result: two bytes a value for what goes into another product, f32 for the residual stream.
pub type OutType = Float;

/// What is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// bf16 with f32 sums.
    Bf16,
    /// f16 with f32 sums.
    F16,
    /// int8 with exact i32 sums, which the scales of row and channel turn into f32.
    Int8,
}

impl Element {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::Int8];

    /// Bytes of one value.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::Int8 => 1,
        }
    }

    /// The values in 16 bytes, which is what is copied at once: k and the stride of A are multiples of it.
    pub fn granule(self) -> u32 {
        16 / self.bytes()
    }
}

impl From<Half> for Element {
    fn from(half: Half) -> Self {
        match half {
            Half::Bf16 => Self::Bf16,
            Half::F16 => Self::F16,
        }
    }
}

/// What becomes of the sums, after scales and bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Stored as they are.
    Store,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// `silu(gate) * up`, where the first half of the weight's rows gives `gate` and the second `up`: C has `n / 2` columns.
    SwiGlu,
    /// Added to what `out` holds, which is f32.
    AddTo,
}

impl Epilogue {
    /// Every epilogue, in the order of their numbers in `gemm.cuh`.
    pub const ALL: [Self; 4] = [Self::Store, Self::Gelu, Self::SwiGlu, Self::AddTo];
}

/// A product: `C[m, n] = epilogue(A[m, k] W[n, k]^T * scales + bias)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemm {
    /// The type of A and W.
    pub element: Element,
    /// Rows of A and C, at least 1.
    pub m: u32,
    /// Rows of W, at least 1; even for [`Epilogue::SwiGlu`].
    pub n: u32,
    /// Length of the rows of A and W, which [`Gemm::supports`].
    pub k: u32,
    /// A; on 16 bytes.
    pub a: Address,
    /// Values from one row of A to the next, a multiple of [`Element::granule`].
    pub a_stride: u32,
    /// f32 `[m]`: what the rows of an int8 A are multiplied with.
    pub a_scales: Option<Address>,
    /// W, its rows without gaps; on 16 bytes.
    pub weight: Address,
    /// f32 `[n]`: what the rows of an int8 W are multiplied with.
    pub weight_scales: Option<Address>,
    /// f32 `[n]`.
    pub bias: Option<Address>,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
    /// C.
    pub out: Address,
    /// Values from one row of C to the next.
    pub out_stride: u32,
    /// The type of C.
    pub out_type: OutType,
    /// The shape of a block's tile; `None`: [`Tile::choose`].
    pub tile: Option<Tile>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct GemmParams {
    a: Address,
    weight: Address,
    a_scales: Address,
    weight_scales: Address,
    bias: Address,
    out: Address,
    m: u32,
    n: u32,
    k: u32,
    a_stride: u32,
    out_stride: u32,
    epilogue: u32,
    out_type: u32,
    flags: u32,
}

/// C's rows begin on 16 bytes.
const VECTORS: u32 = 1;
/// There is a bias.
const BIAS: u32 = 2;

/// The largest k of int8 products: 127 * 127 * k stays below 2^31.
const LARGEST_INT8_K: u32 = 131_072;

impl Gemm {
    /// Whether there is a kernel for rows of that length.
    pub fn supports(element: Element, k: u32) -> bool {
        let exact = element != Element::Int8 || k <= LARGEST_INT8_K;
        k > 0 && k.is_multiple_of(element.granule()) && exact
    }

    /// Columns of C.
    pub fn columns(&self) -> u32 {
        match self.epilogue {
            Epilogue::SwiGlu => self.n / 2,
            Epilogue::Store | Epilogue::Gelu | Epilogue::AddTo => self.n,
        }
    }

    /// What a device of so many multiprocessors starts for it.
    ///
    /// # Panics
    /// If an argument is none of those that its field describes.
    pub fn launch(&self, multiprocessors: u32) -> Launch {
        self.check();
        let tile =
            self.tile.unwrap_or_else(|| Tile::choose(self.m, self.n, self.k, multiprocessors));
        let shape = tile.shape();
        let row_bytes = u64::from(self.out_stride) * self.out_type.bytes() as u64;
        let vectors = (self.out.0 | row_bytes).is_multiple_of(16);
        let params = GemmParams {
            a: self.a,
            weight: self.weight,
            a_scales: self.a_scales.unwrap_or_default(),
            weight_scales: self.weight_scales.unwrap_or_default(),
            bias: self.bias.unwrap_or_default(),
            out: self.out,
            m: self.m,
            n: self.n,
            k: self.k,
            a_stride: self.a_stride,
            out_stride: self.out_stride,
            epilogue: self.epilogue as u32,
            out_type: match self.out_type {
                OutType::Half(Half::Bf16) => 0,
                OutType::Half(Half::F16) => 1,
                OutType::F32 => 2,
            },
            flags: u32::from(vectors) * VECTORS + u32::from(self.bias.is_some()) * BIAS,
        };
        Launch {
            kernel: tile.kernel(self.element),
            grid: [tile.blocks(self.m, self.n), 1, 1],
            block: shape.warps() * 32,
            shared: shape.shared_bytes(),
            params: Params::of(&params),
        }
    }

    fn check(&self) {
        let Self { element, m, n, k, .. } = *self;
        assert!(m > 0 && n > 0, "a product of {m} x {n}: expected at least one row and one column");
        assert!(
            Self::supports(element, k),
            "a product over k = {k}: expected a multiple of {}, and for int8 at most {LARGEST_INT8_K}",
            element.granule()
        );
        assert!(
            self.a_stride.is_multiple_of(element.granule()) && (self.a_stride >= k || m == 1),
            "rows of A at {}: expected a multiple of {} that is at least k = {k}",
            self.a_stride,
            element.granule()
        );
        assert!(
            (self.a.0 | self.weight.0).is_multiple_of(16),
            "A and W begin at {:#x} and {:#x}: expected multiples of 16",
            self.a.0,
            self.weight.0
        );
        let scales = (element == Element::Int8, element == Element::Int8);
        assert!(
            (self.a_scales.is_some(), self.weight_scales.is_some()) == scales,
            "scales belong to int8 products, and both of them"
        );
        assert!(
            self.epilogue != Epilogue::SwiGlu || n.is_multiple_of(2),
            "a gate and its values have {n} rows together: expected an even number"
        );
        assert!(
            self.epilogue != Epilogue::AddTo || self.out_type == OutType::F32,
            "sums are added to f32 alone"
        );
    }
}

/// The shapes of a block's tile, rows of A by rows of W.
///
/// Each adds in the order of k, so that a value of C has the same bits with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the shapes")]
pub enum Tile {
    T128x256,
    T128x128,
    T128x64,
    T64x128,
    T64x64,
    T32x64,
    T16x64,
    T16x32,
}

/// How a block computes its tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of C.
    pub rows: u32,
    /// Rows of W; columns of C, but for [`Epilogue::SwiGlu`], which makes one of two.
    pub columns: u32,
    /// Warps along rows and columns.
    pub split: [u32; 2],
    /// Bytes that are copied at once of each row.
    pub depth: u32,
    /// Copies that are on their way or being multiplied.
    pub stages: u32,
    /// The share of the tensor cores' rate that a multiprocessor full of such blocks is expected to reach, in percent:
    /// their time over that of the shared memory which products and copies move, at `sm_80`'s 128 bytes a cycle, where that is
    /// longer. Measured on no card; [`Tile::choose`] compares them.
    pub rate: u32,
}

impl Shape {
    /// Warps of a block.
    pub fn warps(&self) -> u32 {
        self.split.iter().product()
    }

    /// Shared memory of a block: the stages, or the sums that leave through the same bytes.
    pub fn shared_bytes(&self) -> u32 {
        let stages = self.stages * (self.rows + self.columns) * self.depth;
        // 16 rows of each warp's sums, their distance padded by 8 against bank conflicts.
        let sums = self.warps() * 16 * (self.columns / self.split[1] + 8) * 4;
        stages.max(sums)
    }
}

impl Tile {
    /// Every tile, the largest first.
    pub const ALL: [Self; 8] = [
        Self::T128x256,
        Self::T128x128,
        Self::T128x64,
        Self::T64x128,
        Self::T64x64,
        Self::T32x64,
        Self::T16x64,
        Self::T16x32,
    ];

    /// How a block computes it. `gemm.cuh` has the same table.
    pub fn shape(self) -> Shape {
        let (rows, columns, split, depth, stages, rate) = match self {
            Self::T128x256 => (128, 256, [2, 4], 64, 4, 100),
            Self::T128x128 => (128, 128, [2, 2], 64, 3, 96),
            Self::T128x64 => (128, 64, [2, 2], 64, 4, 84),
            Self::T64x128 => (64, 128, [2, 2], 64, 4, 84),
            Self::T64x64 => (64, 64, [2, 2], 128, 3, 66),
            Self::T32x64 => (32, 64, [2, 2], 128, 4, 48),
            Self::T16x64 => (16, 64, [1, 4], 128, 6, 32),
            Self::T16x32 => (16, 32, [1, 2], 64, 8, 22),
        };
        Shape { rows, columns, split, depth, stages, rate }
    }

    /// Blocks of a product of `m` by `n`.
    pub fn blocks(self, m: u32, n: u32) -> u32 {
        let shape = self.shape();
        m.div_ceil(shape.rows) * n.div_ceil(shape.columns)
    }

    /// The tile with which the busiest multiprocessor should be done first.
    pub fn choose(m: u32, n: u32, k: u32, multiprocessors: u32) -> Self {
        /// What a block spends before its first product and after its last, as if k were so much longer: the copies of
        /// the first stages, and C. A neighbour on the same multiprocessor fills half of that time.
        const ENDS: u64 = 256;
        /// Shared memory of a block that has room for a neighbour on every card: `sm_86` and `sm_89` have 100 KB.
        const BESIDE: u32 = 49 << 10;
        let time = |tile: &Self| {
            let shape = tile.shape();
            let ends = if shape.shared_bytes() > BESIDE { ENDS } else { ENDS / 2 };
            let blocks = u64::from(tile.blocks(m, n).div_ceil(multiprocessors.max(1)));
            let products = u64::from(shape.rows * shape.columns) * (u64::from(k) + ends);
            blocks * products * 1000 / u64::from(shape.rate)
        };
        Self::ALL.into_iter().min_by_key(time).unwrap_or(Self::T64x64)
    }

    fn kernel(self, element: Element) -> &'static str {
        macro_rules! names {
            ($($tile:ident $shape:literal),*) => {
                match (self, element) {
                    $((Self::$tile, Element::Bf16) => concat!("gemm_bf16_", $shape),
                    (Self::$tile, Element::F16) => concat!("gemm_f16_", $shape),
                    (Self::$tile, Element::Int8) => concat!("gemm_int8_", $shape),)*
                }
            };
        }
        names!(
            T128x256 "128x256", T128x128 "128x128", T128x64 "128x64", T64x128 "64x128",
            T64x64 "64x64", T32x64 "32x64", T16x64 "16x64", T16x32 "16x32"
        )
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { rows, columns, .. } = self.shape();
        write!(f, "{rows}x{columns}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product that every check lets pass.
    fn product(element: Element) -> Gemm {
        let scales = (element == Element::Int8).then_some(Address(1 << 20));
        Gemm {
            element,
            m: 100,
            n: 384,
            k: 1536,
            a: Address(1 << 12),
            a_stride: 1536,
            a_scales: scales,
            weight: Address(1 << 16),
            weight_scales: scales,
            bias: None,
            epilogue: Epilogue::Store,
            out: Address(1 << 24),
            out_stride: 384,
            out_type: OutType::F32,
            tile: None,
        }
    }

    #[test]
    fn tiles_are_those_of_the_source() {
        let source = include_str!("../../kernels/gemm.cuh");
        for tile in Tile::ALL {
            let Shape { rows, columns, split: [m, n], depth, stages, .. } = tile.shape();
            let line = format!(
                "using Gemm{tile} = GemmTile<{rows}, {columns}, {m}, {n}, {depth}, {stages}>;"
            );
            assert!(source.contains(&line), "{line}");
        }
        assert_eq!(source.matches("= GemmTile<").count(), Tile::ALL.len());
    }

    #[test]
    fn blocks_fit_into_the_smallest_multiprocessor() {
        for tile in Tile::ALL {
            let shape = tile.shape();
            assert!(shape.shared_bytes() <= 99 << 10, "{tile}: {} bytes", shape.shared_bytes());
            assert!(shape.warps() * 32 <= 256, "{tile}: {} warps", shape.warps());
        }
    }

    #[test]
    fn many_rows_get_large_tiles_and_few_rows_small_ones() {
        // 100 texts of 512 tokens on an L4, and the query alone.
        assert_eq!(Tile::choose(51_200, 1024, 1024, 58), Tile::T128x128);
        assert_eq!(Tile::choose(51_200, 4096, 4096, 132), Tile::T128x256);
        for (n, k) in [(384, 384), (1024, 1024), (1024, 4096), (3072, 1024)] {
            let chosen = Tile::choose(12, n, k, 58);
            assert!(matches!(chosen, Tile::T16x64 | Tile::T16x32), "12 x {n} x {k}: {chosen}");
        }
        // No part of a tile is idle, and no multiprocessor has two blocks while others have none.
        for (m, n) in [(40, 1024), (64, 1024), (200, 768), (512, 384)] {
            let chosen = Tile::choose(m, n, 1024, 132);
            assert!(chosen.blocks(m, n) <= 132 && chosen.shape().rows <= 64, "{m} x {n}: {chosen}");
        }
    }

    #[test]
    fn grids_cover_the_result() {
        assert_eq!(Tile::T64x64.blocks(129, 65), 3 * 2);
        assert_eq!(Tile::T16x32.blocks(1, 1), 1);
        let launch = product(Element::Bf16).launch(58);
        let tile = Tile::choose(100, 384, 1536, 58);
        assert_eq!(launch.kernel, format!("gemm_bf16_{tile}"));
        assert_eq!(launch.grid, [tile.blocks(100, 384), 1, 1]);
    }

    #[test]
    fn rows_are_whole_granules() {
        assert!(Gemm::supports(Element::Bf16, 8) && !Gemm::supports(Element::F16, 12));
        assert!(Gemm::supports(Element::Int8, 16) && !Gemm::supports(Element::Int8, 8));
        assert!(!Gemm::supports(Element::Bf16, 0) && !Gemm::supports(Element::Int8, 131_088));
    }

    fn refused(change: impl FnOnce(&mut Gemm)) -> String {
        let mut gemm = product(Element::Bf16);
        change(&mut gemm);
        let panic = std::panic::catch_unwind(|| gemm.launch(58)).expect_err("a launch");
        match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
        }
    }

    #[test]
    fn what_no_kernel_computes_is_refused_by_name() {
        product(Element::Int8).launch(58);
        assert!(refused(|gemm| gemm.k = 1532).contains("k = 1532: expected a multiple of 8"));
        assert!(refused(|gemm| gemm.a_stride = 1528).contains("rows of A at 1528"));
        assert!(refused(|gemm| gemm.a = Address(8)).contains("begin at 0x8"));
        assert!(refused(|gemm| gemm.a_scales = Some(Address(16))).contains("belong to int8"));
        assert!(refused(|gemm| gemm.element = Element::Int8).contains("belong to int8"));
        assert!(refused(|gemm| gemm.m = 0).contains("0 x 384"));
        let added = |gemm: &mut Gemm| {
            gemm.epilogue = Epilogue::AddTo;
            gemm.out_type = Half::Bf16.into();
        };
        assert!(refused(added).contains("f32 alone"));
        let gated = |gemm: &mut Gemm| {
            gemm.epilogue = Epilogue::SwiGlu;
            gemm.n = 383;
        };
        assert!(refused(gated).contains("383 rows"));
    }
}
