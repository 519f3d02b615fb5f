//! Element types of snapshot tensors.

use std::fmt;

/// The element type of a tensor; multi-byte elements are little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// Unsigned bytes; also the bytes of a raw file such as `tokenizer.json` (layout `file`).
    U8,
    /// Signed bytes, the type of quantised weights.
    I8,
    /// Signed 32-bit integers.
    I32,
    /// Unsigned 32-bit integers.
    U32,
    /// Brain floating point, 16 bits.
    Bf16,
    /// IEEE half precision, 16 bits.
    F16,
    /// IEEE single precision, 32 bits.
    F32,
}

/// Every type with its number in the file and its name; numbers are never reused.
const TABLE: [(Dtype, u8, &str); 7] = [
    (Dtype::U8, 1, "u8"),
    (Dtype::I8, 2, "i8"),
    (Dtype::I32, 3, "i32"),
    (Dtype::U32, 4, "u32"),
    (Dtype::Bf16, 5, "bf16"),
    (Dtype::F16, 6, "f16"),
    (Dtype::F32, 7, "f32"),
];

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
        }
    }

    /// The name used in messages and tools, for instance `bf16`.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("?", |row| row.2)
    }

    pub(crate) fn code(self) -> u8 {
        TABLE.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_reversible() {
        for (dtype, code, name) in TABLE {
            assert_eq!(Dtype::from_code(code), Some(dtype));
            assert_eq!(dtype.code(), code);
            assert_eq!(dtype.to_string(), name);
        }
        assert_eq!(Dtype::from_code(0), None);
        assert_eq!(Dtype::from_code(8), None);
    }
}
