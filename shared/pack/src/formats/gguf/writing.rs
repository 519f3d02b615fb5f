//! Writes small GGUF files, for tests and for the seeds of the fuzz target.

use bytes::Bytes;

use super::value::{GgufArray, GgufType, GgufValue, number};
use super::{GgufKind, MAGIC};

/// What goes into a file; nothing is checked, so that files can be wrong on purpose.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<(String, GgufValue)>,
    pub(crate) tensors: Vec<(String, GgufKind, Vec<usize>)>,
}

impl Content {
    /// A model in miniature with a value of every type.
    pub(crate) fn sample() -> Self {
        let text = |text: &str| GgufValue::String(text.to_owned());
        let words = GgufArray::of(GgufType::String, &[text("[CLS]"), text("ü"), text("")]);
        let rows = [GgufArray::of(GgufType::U8, &[GgufValue::U8(7)]), words.clone()];
        let values = [
            ("general.architecture", text("bert")),
            ("general.alignment", GgufValue::U32(64)),
            ("tokenizer.ggml.tokens", GgufValue::Array(words)),
            ("a.u8", GgufValue::U8(200)),
            ("a.i8", GgufValue::I8(-3)),
            ("a.u16", GgufValue::U16(60_000)),
            ("a.i16", GgufValue::I16(-300)),
            ("a.i32", GgufValue::I32(-70_000)),
            ("a.f32", GgufValue::F32(0.5)),
            ("a.bool", GgufValue::Bool(true)),
            ("a.u64", GgufValue::U64(1 << 40)),
            ("a.i64", GgufValue::I64(-1)),
            ("a.f64", GgufValue::F64(1e-12)),
            (
                "a.nested",
                GgufValue::Array(GgufArray::of(GgufType::Array, &rows.map(GgufValue::Array))),
            ),
        ];
        Self {
            version: 3,
            metadata: values.map(|(key, value)| (key.to_owned(), value)).into(),
            tensors: vec![
                ("token_embd.weight".to_owned(), GgufKind::Q8_0, vec![2, 32]),
                ("output_norm.weight".to_owned(), GgufKind::F32, vec![3]),
                ("a.scalar".to_owned(), GgufKind::F16, vec![]),
                ("a.nothing".to_owned(), GgufKind::Bf16, vec![0, 4]),
                ("a.new".to_owned(), GgufKind::Other(20), vec![256]),
            ],
        }
    }

    /// The file; the bytes of tensor `n` are all `n + 1`, those of unknown kinds none.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        let mut alignment = 32;
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            out.extend_from_slice(&number(value.kind()).to_le_bytes());
            put(&mut out, value);
            if let ("general.alignment", GgufValue::U32(found)) = (key.as_str(), value) {
                alignment = u64::from(*found);
            }
        }
        let mut offset = 0u64;
        for (name, kind, shape) in &self.tensors {
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
        for (at, (_, kind, shape)) in self.tensors.iter().enumerate() {
            let end = out.len() as u64 + len(*kind, shape);
            out.resize(usize::try_from(end).unwrap_or(0), u8::try_from(at + 1).unwrap_or(0));
            out.resize(usize::try_from(padded(end, alignment)).unwrap_or(0), 0);
        }
        out
    }
}

fn len(kind: GgufKind, shape: &[usize]) -> u64 {
    let elements: usize = shape.iter().product();
    kind.block().map_or(0, |(of, bytes)| elements as u64 / of * bytes)
}

fn padded(len: u64, alignment: u64) -> u64 {
    len.next_multiple_of(alignment.max(1))
}

impl GgufArray {
    /// An array of these values, which are all of that type.
    pub(crate) fn of(element: GgufType, values: &[GgufValue]) -> Self {
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
