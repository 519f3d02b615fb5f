//! Kinds of blocks: weights in runs of 32 that share scales, as GGUF files have them.
//!
//! `q` is a weight's code, all else belongs to its block; values are products and sums of f32 in exactly this order, which is
//! that of `gguf`'s own dequantisation:
//!
//! | kind | codes | value | scales |
//! |---|---|---|---|
//! | `q8_0` | -128 to 127 | `d * q` | `d` f16 for 32 |
//! | `q4_0` | 0 to 15 | `d * (q - 8)` | `d` f16 for 32 |
//! | `q5_0` | 0 to 31 | `d * (q - 16)` | `d` f16 for 32 |
//! | `q4_1`, `q5_1` | 0 to 15, 31 | `d * q + m` | `d`, `m` f16 for 32 |
//! | `q4_k`, `q5_k` | 0 to 15, 31 | `(d * s) * q - (e * m)` | `d`, `e` f16 for 256; `s`, `m` 6 bits for 32 |
//! | `q6_k` | 0 to 63 | `(d * s) * (q - 32)` | `d` f16 for 256; `s` int8 for 16 |

/// See the module page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table says what they are")]
#[allow(non_camel_case_types, reason = "the names by which everybody knows them")]
pub enum BlockKind {
    Q8_0,
    Q4_0,
    Q5_0,
    Q4_1,
    Q5_1,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl BlockKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Q8_0,
        Self::Q4_0,
        Self::Q5_0,
        Self::Q4_1,
        Self::Q5_1,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Such as `q4_k`; part of the layout tags of snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q5_0 => "q5_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_1 => "q5_1",
            Self::Q4_K => "q4_k",
            Self::Q5_K => "q5_k",
            Self::Q6_K => "q6_k",
        }
    }

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Weights of a block of a GGUF file, and its bytes there.
    pub fn gguf_block(self) -> (usize, usize) {
        match self {
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q5_0 => (32, 22),
            Self::Q4_1 => (32, 20),
            Self::Q5_1 => (32, 24),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reversible() {
        for kind in BlockKind::ALL {
            assert_eq!(BlockKind::by_name(kind.name()), Some(kind));
            let (weights, bytes) = kind.gguf_block();
            assert!(weights.is_multiple_of(32) && bytes * 8 > weights * 4);
        }
    }
}
