//! Metadata values of GGUF files: numbers, texts, arrays.
//!
//! Everything is checked when the file is read, so that looking at it later cannot fail. Arrays stay bytes: they are
//! walked through once to find their end, and decoded element by element where a caller asks.

use bytes::Bytes;
use defrost_loader::{Error, Kind};

use super::super::reader::Reader;

/// Arrays may hold arrays this deep. llama.cpp writes none, the format allows them; a limit keeps hostile files off the
/// stack.
const DEEPEST: usize = 4;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the types")]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the types")]
pub enum GgufType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

/// Every type with its name; the position is its number in the file.
const TYPES: [(GgufType, &str); 13] = [
    (GgufType::U8, "u8"),
    (GgufType::I8, "i8"),
    (GgufType::U16, "u16"),
    (GgufType::I16, "i16"),
    (GgufType::U32, "u32"),
    (GgufType::I32, "i32"),
    (GgufType::F32, "f32"),
    (GgufType::Bool, "bool"),
    (GgufType::String, "string"),
    (GgufType::Array, "array"),
    (GgufType::U64, "u64"),
    (GgufType::I64, "i64"),
    (GgufType::F64, "f64"),
];

impl GgufType {
    /// The name used in messages and tools, for instance `u32`.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|row| row.0 == self).map_or("?", |row| row.1)
    }

    /// Bytes of a value, `None` if they differ from value to value.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, Error> {
        let at = reader.offset();
        let number = reader.u32(WHAT)?;
        let found = TYPES.get(number as usize).map(|row| row.0);
        found.ok_or_else(|| {
            Error::new(Kind::Corrupt, "unknown type of a metadata value")
                .at(at)
                .mismatch(format_args!("0 to {}", TYPES.len() - 1), number)
        })
    }
}

/// The number of a type in a file.
pub(super) fn number(kind: GgufType) -> u32 {
    TYPES.iter().zip(0..).find(|(row, _)| row.0 == kind).map_or(0, |(_, number)| number)
}

impl GgufValue {
    /// The type of the value.
    pub fn kind(&self) -> GgufType {
        match self {
            Self::U8(_) => GgufType::U8,
            Self::I8(_) => GgufType::I8,
            Self::U16(_) => GgufType::U16,
            Self::I16(_) => GgufType::I16,
            Self::U32(_) => GgufType::U32,
            Self::I32(_) => GgufType::I32,
            Self::F32(_) => GgufType::F32,
            Self::Bool(_) => GgufType::Bool,
            Self::String(_) => GgufType::String,
            Self::Array(_) => GgufType::Array,
            Self::U64(_) => GgufType::U64,
            Self::I64(_) => GgufType::I64,
            Self::F64(_) => GgufType::F64,
        }
    }
}

/// Values of one type, a view of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufArray {
    pub(super) element: GgufType,
    pub(super) len: u64,
    pub(super) bytes: Bytes,
}

impl GgufArray {
    /// The type of the elements.
    pub fn element(&self) -> GgufType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the array has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, decoded one by one.
    pub fn values(&self) -> GgufValues {
        GgufValues {
            element: self.element,
            left: self.len,
            reader: Reader::new(self.bytes.clone()),
        }
    }
}

/// The elements of a [`GgufArray`].
#[derive(Debug)]
pub struct GgufValues {
    element: GgufType,
    left: u64,
    reader: Reader,
}

impl Iterator for GgufValues {
    type Item = GgufValue;

    fn next(&mut self) -> Option<GgufValue> {
        self.left = self.left.checked_sub(1)?;
        // The array was walked through when the file was read, so this cannot fail.
        read_as(self.element, &mut self.reader, DEEPEST).ok()
    }
}

const WHAT: &str = "the metadata";

/// Reads a type and a value of it.
pub(super) fn read(reader: &mut Reader) -> Result<GgufValue, Error> {
    let kind = GgufType::read(reader)?;
    read_as(kind, reader, DEEPEST)
}

fn read_as(kind: GgufType, reader: &mut Reader, depth: usize) -> Result<GgufValue, Error> {
    Ok(match kind {
        GgufType::U8 => GgufValue::U8(u8::from_le_bytes(reader.array(WHAT)?)),
        GgufType::I8 => GgufValue::I8(i8::from_le_bytes(reader.array(WHAT)?)),
        GgufType::U16 => GgufValue::U16(u16::from_le_bytes(reader.array(WHAT)?)),
        GgufType::I16 => GgufValue::I16(i16::from_le_bytes(reader.array(WHAT)?)),
        GgufType::U32 => GgufValue::U32(reader.u32(WHAT)?),
        GgufType::I32 => GgufValue::I32(i32::from_le_bytes(reader.array(WHAT)?)),
        GgufType::F32 => GgufValue::F32(f32::from_le_bytes(reader.array(WHAT)?)),
        GgufType::Bool => GgufValue::Bool(bool(reader)?),
        GgufType::String => {
            let len = reader.u64(WHAT)?;
            GgufValue::String(reader.text(len, "a metadata value")?)
        }
        GgufType::Array => GgufValue::Array(array(reader, depth)?),
        GgufType::U64 => GgufValue::U64(reader.u64(WHAT)?),
        GgufType::I64 => GgufValue::I64(i64::from_le_bytes(reader.array(WHAT)?)),
        GgufType::F64 => GgufValue::F64(f64::from_le_bytes(reader.array(WHAT)?)),
    })
}

fn bool(reader: &mut Reader) -> Result<bool, Error> {
    let at = reader.offset();
    match reader.array(WHAT)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Error::new(Kind::Corrupt, "a metadata value is neither true nor false")
            .at(at)
            .mismatch("0 or 1", other)),
    }
}

/// Finds the end of an array and checks what is in it.
fn array(reader: &mut Reader, depth: usize) -> Result<GgufArray, Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::new(Kind::Unsupported, "arrays of arrays are too deep")
            .at(reader.offset())
            .mismatch(format_args!("at most {DEEPEST} levels"), "more"));
    };
    let element = GgufType::read(reader)?;
    let at = reader.offset();
    let len = reader.u64(WHAT)?;
    // A string or array has 8 bytes of length at least.
    let most = reader.remaining() / element.size().unwrap_or(8);
    if len > most {
        return Err(Error::new(Kind::Truncated, "an array is longer than the file")
            .at(at)
            .mismatch(format_args!("at most {most} of {}", element.name()), len));
    }
    let bytes = match element.size() {
        Some(size) if element != GgufType::Bool => reader.take(size * len, WHAT)?,
        _ => {
            let mut end = reader.clone();
            for _ in 0..len {
                skip(element, &mut end, depth)?;
            }
            reader.take(end.offset() - reader.offset(), WHAT)?
        }
    };
    Ok(GgufArray { element, len, bytes })
}

/// Checks an element without keeping it.
fn skip(element: GgufType, reader: &mut Reader, depth: usize) -> Result<(), Error> {
    match element {
        GgufType::String => {
            let len = reader.u64(WHAT)?;
            reader.check_text(len, "a text in the metadata")
        }
        GgufType::Array => array(reader, depth).map(drop),
        _ => read_as(element, reader, depth).map(drop),
    }
}
