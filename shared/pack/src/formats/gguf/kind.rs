//! How GGUF tensors store their elements.

use std::fmt;

use defrost_model::BlockKind;

/// The storage of a tensor: plain floats, or blocks of elements that share scales.
///
/// ```
/// use defrost_pack::GgufKind;
///
/// let kind = GgufKind::from_number(8);
/// assert_eq!((kind, kind.block()), (GgufKind::Q8_0, Some((32, 34))));
/// assert_eq!(GgufKind::from_number(20).to_string(), "kind 20");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GgufKind {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Brain floating point, 16 bits.
    Bf16,
    /// 4 bits, one scale per block.
    Q4_0,
    /// 4 bits, scale and minimum per block.
    Q4_1,
    /// 5 bits, one scale per block.
    Q5_0,
    /// 5 bits, scale and minimum per block.
    Q5_1,
    /// 8 bits, one scale per block.
    Q8_0,
    /// 2 bits in super-blocks.
    Q2K,
    /// 3 bits in super-blocks.
    Q3K,
    /// 4 bits in super-blocks.
    Q4K,
    /// 5 bits in super-blocks.
    Q5K,
    /// 6 bits in super-blocks.
    Q6K,
    /// Any other, by its number in the file; its size is not known here.
    Other(u32),
}

/// Every known kind: its number in the file, its name, elements of a block, bytes of a block.
///
/// The bytes add up from llama.cpp's block structures; for instance `Q8_0` is one f16 scale and 32 bytes, and `Q4_K`
/// two f16, 12 bytes of 6-bit scales and minima and 128 bytes of 4-bit elements.
const TABLE: [(GgufKind, u32, &str, u64, u64); 13] = [
    (GgufKind::F32, 0, "F32", 1, 4),
    (GgufKind::F16, 1, "F16", 1, 2),
    (GgufKind::Q4_0, 2, "Q4_0", 32, 2 + 16),
    (GgufKind::Q4_1, 3, "Q4_1", 32, 4 + 16),
    (GgufKind::Q5_0, 6, "Q5_0", 32, 2 + 4 + 16),
    (GgufKind::Q5_1, 7, "Q5_1", 32, 4 + 4 + 16),
    (GgufKind::Q8_0, 8, "Q8_0", 32, 2 + 32),
    (GgufKind::Q2K, 10, "Q2_K", 256, 16 + 64 + 4),
    (GgufKind::Q3K, 11, "Q3_K", 256, 32 + 64 + 12 + 2),
    (GgufKind::Q4K, 12, "Q4_K", 256, 4 + 12 + 128),
    (GgufKind::Q5K, 13, "Q5_K", 256, 4 + 12 + 32 + 128),
    (GgufKind::Q6K, 14, "Q6_K", 256, 128 + 64 + 16 + 2),
    (GgufKind::Bf16, 30, "BF16", 1, 2),
];

impl GgufKind {
    /// The kind of this number in a file.
    pub fn from_number(number: u32) -> Self {
        TABLE.iter().find(|row| row.1 == number).map_or(Self::Other(number), |row| row.0)
    }

    /// The number of the type in a file.
    pub fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            known => TABLE.iter().find(|row| row.0 == known).map_or(0, |row| row.1),
        }
    }

    /// The blocks that matrices of this kind are made of, if there are kernels for them.
    pub fn blocks(self) -> Option<BlockKind> {
        Some(match self {
            Self::Q8_0 => BlockKind::Q8_0,
            Self::Q4_0 => BlockKind::Q4_0,
            Self::Q5_0 => BlockKind::Q5_0,
            Self::Q4_1 => BlockKind::Q4_1,
            Self::Q5_1 => BlockKind::Q5_1,
            Self::Q4K => BlockKind::Q4_K,
            Self::Q5K => BlockKind::Q5_K,
            Self::Q6K => BlockKind::Q6_K,
            _ => return None,
        })
    }

    /// The kind of such blocks.
    pub fn of_blocks(blocks: BlockKind) -> Self {
        let mut all = TABLE.iter().map(|row| row.0);
        all.find(|kind| kind.blocks() == Some(blocks)).unwrap_or(Self::Q8_0)
    }

    /// Elements and bytes of one block, `None` if not known.
    pub fn block(self) -> Option<(u64, u64)> {
        TABLE.iter().find(|row| row.0 == self).map(|row| (row.3, row.4))
    }
}

/// The name that llama.cpp gives it, such as `Q4_K`, or `kind 20`.
impl fmt::Display for GgufKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|row| row.0 == *self) {
            Some(row) => f.pad(row.2),
            None => f.pad(&format!("kind {}", self.number())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_reversible() {
        for (kind, number, name, ..) in TABLE {
            assert_eq!((GgufKind::from_number(number), kind.number()), (kind, number));
            assert_eq!(kind.to_string(), name);
        }
        for number in [4, 5, 9, 15, 29, 31, u32::MAX] {
            assert_eq!(GgufKind::from_number(number), GgufKind::Other(number));
            assert_eq!(GgufKind::Other(number).number(), number);
        }
    }

    #[test]
    fn blocks_are_as_long_as_their_kernels_take_them() {
        for blocks in BlockKind::ALL {
            let kind = GgufKind::of_blocks(blocks);
            let (weights, bytes) = blocks.gguf_block();
            assert_eq!(kind.blocks(), Some(blocks));
            assert_eq!(kind.block(), Some((weights as u64, bytes as u64)));
            assert_eq!(kind.to_string().to_lowercase(), blocks.name());
        }
    }

    /// Bits per element as llama.cpp prints them.
    #[test]
    fn sizes_are_the_published_ones() {
        let bits = |kind: GgufKind| kind.block().map(|(of, bytes)| bytes as f64 * 8.0 / of as f64);
        for (kind, expected) in [
            (GgufKind::Q4_0, 4.5),
            (GgufKind::Q4_1, 5.0),
            (GgufKind::Q5_0, 5.5),
            (GgufKind::Q5_1, 6.0),
            (GgufKind::Q8_0, 8.5),
            (GgufKind::Q2K, 2.625),
            (GgufKind::Q3K, 3.4375),
            (GgufKind::Q4K, 4.5),
            (GgufKind::Q5K, 5.5),
            (GgufKind::Q6K, 6.5625),
        ] {
            assert_eq!(bits(kind), Some(expected), "{kind}");
        }
    }
}
