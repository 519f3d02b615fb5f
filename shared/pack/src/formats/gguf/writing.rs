//! Writes small GGUF files, for tests and for the seeds of the fuzz target.

use super::GgufKind;
use super::head::{alignment, head, len, padded};
use super::value::{GgufArray, GgufType, GgufValue};

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
        let mut out = head(self.version, &self.metadata, &self.tensors);
        let alignment = alignment(&self.metadata);
        for (at, (_, kind, shape)) in self.tensors.iter().enumerate() {
            let end = out.len() as u64 + len(*kind, shape);
            out.resize(usize::try_from(end).unwrap_or(0), u8::try_from(at + 1).unwrap_or(0));
            out.resize(usize::try_from(padded(end, alignment)).unwrap_or(0), 0);
        }
        out
    }
}
