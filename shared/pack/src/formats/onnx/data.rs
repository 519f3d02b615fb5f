//! Element types of ONNX tensors, and where their elements lie.

use std::fmt;

use bytes::Bytes;

/// The element type of a tensor, `TensorProto.DataType`.
///
/// ```
/// use defrost_pack::OnnxType;
///
/// assert_eq!(OnnxType::from_number(10).to_string(), "float16");
/// assert_eq!(OnnxType::from_number(10).bits(), Some(16));
/// assert_eq!(OnnxType::from_number(99).to_string(), "type 99");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnnxType(i32);

/// Every known type: its number in the file, its name, bits of an element (0 for texts, which differ).
const TABLE: [(i32, &str, u64); 24] = [
    (1, "float32", 32),
    (2, "uint8", 8),
    (3, "int8", 8),
    (4, "uint16", 16),
    (5, "int16", 16),
    (6, "int32", 32),
    (7, "int64", 64),
    (8, "string", 0),
    (9, "bool", 8),
    (10, "float16", 16),
    (11, "float64", 64),
    (12, "uint32", 32),
    (13, "uint64", 64),
    (14, "complex64", 64),
    (15, "complex128", 128),
    (16, "bfloat16", 16),
    (17, "float8e4m3fn", 8),
    (18, "float8e4m3fnuz", 8),
    (19, "float8e5m2", 8),
    (20, "float8e5m2fnuz", 8),
    (21, "uint4", 4),
    (22, "int4", 4),
    (23, "float4e2m1", 4),
    (24, "float8e8m0", 8),
];

impl OnnxType {
    pub(super) const STRING: Self = Self(8);
    pub(super) const COMPLEX64: Self = Self(14);
    pub(super) const COMPLEX128: Self = Self(15);

    /// The type of this number in a file.
    pub fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number of the type in a file.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Bits of an element; `None` for texts and unknown types.
    pub fn bits(self) -> Option<u64> {
        TABLE.iter().find(|row| row.0 == self.0 && row.2 > 0).map(|row| row.2)
    }
}

/// The name of the type as in numpy, such as `float32`, or `type 99`.
impl fmt::Display for OnnxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|row| row.0 == self.0) {
            Some(row) => f.pad(row.1),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

/// Where the elements of a tensor lie.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnnxData {
    /// The data are in the file, little endian, row-major; the bytes are a view of it.
    Raw(Bytes),
    /// The data are in the file, as protobuf numbers or texts in a named field; only their number is read.
    Typed {
        /// The name of the field, for instance `float_data`.
        field: &'static str,
        /// The number of numbers or texts that the field holds.
        values: u64,
    },
    /// The data are in another file of the same directory.
    External {
        /// The name of the file, without any directory.
        location: String,
        /// The offset of the tensor in the file, in bytes.
        offset: u64,
        /// Bytes of the tensor; `None`: up to the end of that file.
        len: Option<u64>,
    },
    /// Nowhere: the tensor has no elements.
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique() {
        for (row, number) in TABLE.iter().zip(1..) {
            assert_eq!(row.0, number);
            assert_eq!(OnnxType::from_number(row.0).to_string(), row.1);
        }
        assert_eq!(OnnxType::from_number(8).bits(), None);
        assert_eq!(OnnxType::from_number(-1).to_string(), "type -1");
    }
}
