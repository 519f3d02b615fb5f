//! Writes what comes before the data of a GGUF file. Nothing is checked: callers may be wrong on purpose.

use bytes::Bytes;

use super::value::{GgufArray, GgufType, GgufValue, number};
use super::{DEFAULT_ALIGNMENT, GgufKind, MAGIC};

/// Version, metadata and table of tensors, whose data follow in this order, each padded to the alignment.
pub(crate) fn head(
    version: u32,
    metadata: &[(String, GgufValue)],
    tensors: &[(String, GgufKind, Vec<usize>)],
) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        out.extend_from_slice(&number(value.kind()).to_le_bytes());
        put(&mut out, value);
    }
    let alignment = alignment(metadata);
    let mut offset = 0u64;
    for (name, kind, shape) in tensors {
        put_text(&mut out, name);
        out.extend_from_slice(&u32::try_from(shape.len()).unwrap_or(0).to_le_bytes());
        for &dim in shape.iter().rev() {
            out.extend_from_slice(&(dim as u64).to_le_bytes());
        }
        out.extend_from_slice(&kind.number().to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        offset = padded(offset + len(*kind, shape), alignment);
    }
    out.resize(usize::try_from(padded(out.len() as u64, alignment)).unwrap_or(0), 0);
    out
}

/// What the data are aligned to.
pub(crate) fn alignment(metadata: &[(String, GgufValue)]) -> u64 {
    let found = metadata.iter().rev().find(|(key, _)| key == "general.alignment");
    match found {
        Some((_, GgufValue::U32(alignment))) => u64::from(*alignment),
        _ => u64::from(DEFAULT_ALIGNMENT),
    }
}

/// Bytes of a tensor.
pub(crate) fn len(kind: GgufKind, shape: &[usize]) -> u64 {
    let elements: usize = shape.iter().product();
    kind.block().map_or(0, |(of, bytes)| elements as u64 / of * bytes)
}

/// The next multiple of an alignment.
pub(crate) fn padded(len: u64, alignment: u64) -> u64 {
    len.next_multiple_of(alignment.max(1))
}

impl GgufArray {
    /// An array of these values, which are all of that type.
    pub fn of(element: GgufType, values: &[GgufValue]) -> Self {
        let mut bytes = Vec::new();
        for value in values {
            put(&mut bytes, value);
        }
        Self { element, len: values.len() as u64, bytes: Bytes::from(bytes) }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::Bool(v) => out.push(u8::from(*v)),
        GgufValue::String(text) => put_text(out, text),
        GgufValue::Array(array) => {
            out.extend_from_slice(&number(array.element).to_le_bytes());
            out.extend_from_slice(&array.len.to_le_bytes());
            out.extend_from_slice(&array.bytes);
        }
        GgufValue::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        GgufValue::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
    }
}
